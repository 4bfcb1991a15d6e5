//! The bare server of `tollgate-bench grpc`: decodes each request and answers with the message whose bytes are in its first argument,
//! in hexadecimal. Prints its address.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::error::Error;
use std::process::ExitCode;

use prost::Message as _;
use tokio::net::TcpListener;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use tollgate_grpc::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

struct Bare(RateLimitResponse);

#[async_trait]
impl RateLimitService for Bare {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        std::hint::black_box(request.into_inner());
        Ok(Response::new(self.0.clone()))
    }
}

fn main() -> ExitCode {
    let Some(hex) = std::env::args().nth(1) else {
        eprintln!("usage: tollgate-bench-bare-grpc MESSAGE-IN-HEX");
        return ExitCode::from(2);
    };
    match serve(&hex) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// With the same runtime as `tollgate serve`.
#[tokio::main]
async fn serve(hex: &str) -> Result<(), Box<dyn Error>> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).unwrap_or_default());
    let bytes: Vec<u8> =
        pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>()?;
    let answer = RateLimitResponse::decode(&bytes[..])?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = RateLimitServiceServer::new(Bare(answer));
    Ok(Server::builder().serve_with_incoming(service, incoming).await?)
}
