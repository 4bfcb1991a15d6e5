//! A gRPC client with one HTTP/2 connection.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tollgate_grpc::GrpcBody;
use tollgate_grpc::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_grpc::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tollgate_grpc::proto::tollgate::v1::rate_limiter_client::RateLimiterClient;
use tower_service::Service;

use crate::support::Fixture;

/// One HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Channel(http2::SendRequest<GrpcBody>);

impl Channel {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Service<Request<GrpcBody>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<GrpcBody>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub(crate) fn origin() -> hyper::Uri {
    // Envoy sends the name of its cluster.
    "http://tollgate_cluster".parse().unwrap()
}

pub(crate) fn address(fixture: &Fixture) -> SocketAddr {
    fixture.server.grpc_address().unwrap()
}

pub(crate) async fn envoy(fixture: &Fixture) -> RateLimitServiceClient<Channel> {
    let channel = Channel::connect(address(fixture)).await;
    RateLimitServiceClient::with_origin(channel, origin())
}

pub(crate) async fn tollgate(fixture: &Fixture) -> RateLimiterClient<Channel> {
    RateLimiterClient::with_origin(Channel::connect(address(fixture)).await, origin())
}

pub(crate) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    let entries = entries.iter().map(entry).collect();
    RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
}

/// A descriptor with hits of its own.
pub(crate) fn hits(hits: u64, entries: &[(&str, &str)]) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(hits), ..descriptor(entries) }
}

pub(crate) fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 0 }
}
