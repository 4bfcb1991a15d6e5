//! Requests that no well-behaved client sends: they are refused with a reason, and cost little.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;
use tonic::Code;

use super::client::{address, descriptor, envoy, hits, request};
use super::start;

const POLICIES: &str = "policies: [{id: user, scope: USER, limit: 1000000, windowSeconds: 60}]";

#[tokio::test]
async fn a_wrong_request_is_an_error_that_names_the_place() {
    let fixture = start(POLICIES).await;
    let mut client = envoy(&fixture).await;
    let long = "x".repeat(5_000_000);
    for (descriptors, code, problem) in [
        (vec![], Code::InvalidArgument, "descriptors has 0 elements; accepted: 1 to 64"),
        (
            vec![hits((1 << 32) + 1, &[("user", "a")])],
            Code::InvalidArgument,
            "descriptors[0].hits_addend is 4294967297; accepted: 0 to 4294967296",
        ),
        (
            vec![descriptor(&[("user", &long)])],
            Code::OutOfRange,
            "accepted: at most 4194304 bytes (--max-body-bytes",
        ),
    ] {
        let status = client.should_rate_limit(request(descriptors)).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
        assert!(status.message().contains(problem), "{problem}: {}", status.message());
    }
    assert!(client.should_rate_limit(request(vec![descriptor(&[("user", "a")])])).await.is_ok());
}

/// Envoy lets a request pass after an error, so what a client can put into its headers must not be one.
#[tokio::test]
async fn a_header_that_is_not_accepted_is_over_the_limit() {
    let fixture = start(POLICIES).await;
    let long = "x".repeat(60_000);
    let asked = request(vec![descriptor(&[("user", &long)]); 60]);
    let answer = envoy(&fixture).await.should_rate_limit(asked).await.unwrap().into_inner();
    assert_eq!(answer.overall_code(), Verdict::OverLimit);
    let mut sender = connect(address(&fixture)).await;
    for message in [
        &b"\0\0\0\0\x0e\x12\x0c\x0a\x0a\x0a\x04user\x12\x02\xff\xfe"[..],
        b"\0\0\0\0\x0e\x12\x0c\x0a\x0a\x0a\x04unit\x12\x02\xff\xfe",
    ] {
        sender.ready().await.unwrap();
        let answer = sender.send_request(call(PATH, message)).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        // After the five bytes before a message: `overall_code` is OVER_LIMIT.
        assert_eq!(body.get(5..7), Some(&[8, 2][..]), "{body:?}");
    }
}

#[tokio::test]
async fn a_client_without_http2_is_told_so() {
    let fixture = start(POLICIES).await;
    let mut stream = TcpStream::connect(address(&fixture)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert!(answer.contains("This port speaks gRPC"), "{answer}");
}

async fn connect<B>(address: SocketAddr) -> http2::SendRequest<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(path: &str, message: &'static [u8]) -> Request<Full<Bytes>> {
    let uri = format!("http://tollgate_cluster{path}");
    let request =
        Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    request.body(Full::new(Bytes::from_static(message))).unwrap()
}

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

#[tokio::test]
async fn an_unknown_service_and_a_broken_message_have_a_status() {
    let fixture = start(POLICIES).await;
    let mut sender = connect(address(&fixture)).await;
    for (path, message, code, text) in [
        ("/other.Service/Call", &b"\0\0\0\0\0"[..], "12", "no service is called so"),
        ("/tollgate.v1.RateLimiter/Other", b"\0\0\0\0\0", "12", "no such call; accepted: "),
        (PATH, b"\0\0\0\0\x02\xff\xff", "13", ""),
        (PATH, b"\0\0\0", "13", ""),
    ] {
        sender.ready().await.unwrap();
        let answer = sender.send_request(call(path, message)).await.unwrap();
        let in_head = answer.headers().get("grpc-status").cloned();
        let message_in_head = answer.headers().get("grpc-message").cloned();
        let body = answer.into_body().collect().await.unwrap();
        let in_trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        let status = in_head.or(in_trailers).unwrap();
        assert_eq!(status, code, "{path} {message:?}");
        let said = message_in_head.map_or_else(String::new, |text| decoded(text.to_str().unwrap()));
        assert!(said.contains(text), "{path}: {said}");
    }
}

/// The text of `grpc-message`, without its escapes.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// The beginning of a message whose rest never comes.
struct Unfinished(Option<Bytes>);

impl Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Pending,
        }
    }
}

/// Clients that open streams and reset them at once: connections end, nothing is left over, and others are answered.
#[tokio::test]
async fn a_hundred_thousand_resets_leave_nothing_behind() {
    let fixture = start(POLICIES).await;
    let mut before = 0;
    let mut resets = 0;
    while resets < 100_000 {
        let mut sender = connect(address(&fixture)).await;
        for _ in 0..1_000 {
            if sender.ready().await.is_err() {
                break;
            }
            let uri = format!("http://tollgate_cluster{PATH}");
            let request = Request::post(uri).header("content-type", "application/grpc");
            let request = request.body(Unfinished(Some(Bytes::from_static(b"\0\0\0\0\x40"))));
            let request = request.unwrap();
            let answer = sender.send_request(request);
            let mut answer = Box::pin(answer);
            // Sent when it is polled once.
            let once = std::future::poll_fn(|context| {
                let _ = answer.as_mut().poll(context);
                Poll::Ready(())
            });
            once.await;
            tokio::task::yield_now().await;
            drop(answer);
            resets += 1;
        }
        if before == 0 && resets >= 10_000 {
            before = resident_bytes();
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    let mut client = envoy(&fixture).await;
    assert!(client.should_rate_limit(request(vec![descriptor(&[("user", "a")])])).await.is_ok());
}
