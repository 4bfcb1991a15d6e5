//! `tollgate health`: asks a server over HTTP whether it is alive or ready.
//!
//! Containers run it as their probe. Their image has no shell and no other HTTP client, and a probe from outside the pod does
//! not reach a server that listens on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::runtime;

use crate::config::{self, ConfigError};

/// The answers are far below it.
const MAX_ANSWER_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Ask the server that listens here [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Read the address from this TOML file [default: tollgate.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask whether to send requests to it (GET /readyz) instead of whether it is alive (GET /healthz)
    #[arg(long)]
    ready: bool,
    /// Give up after this time
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: u64,
}

pub(crate) const AFTER_HELP: &str = "It asks the address of `tollgate serve` with the same file and environment \
     (TOLLGATE_HTTP); if that is 0.0.0.0 or [::], it asks the loopback address. It prints the status in the answer: ok, ready, \
     degraded or draining.\n\nExit codes: 0 if the server answers 200, which includes a degraded one; 1 if it answers anything \
     else, or nothing in time; 2 if a setting is invalid.";

/// Why the server is not known to be healthy.
#[derive(Debug)]
pub(crate) enum ProbeError {
    /// The address is not known.
    Config(ConfigError),
    /// The answer is not 200.
    Unhealthy { url: String, code: StatusCode, status: String },
    /// There is no answer.
    Unanswered { url: String, cause: Box<dyn std::error::Error + Send + Sync> },
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Unhealthy { url, code, status } => {
                write!(f, "{url} answered {}: {status}", code.as_u16())
            }
            Self::Unanswered { url, .. } => write!(f, "{url} did not answer"),
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unanswered { cause, .. } => Some(&**cause),
            Self::Config(_) | Self::Unhealthy { .. } => None,
        }
    }
}

/// The status that the server gives.
pub(crate) fn run(args: HealthArgs) -> Result<String, ProbeError> {
    let environment = |name: &str| std::env::var_os(name);
    let listens = config::http_of(args.http, environment, args.config.as_deref())
        .map_err(ProbeError::Config)?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let address = reachable(listens);
    let url = format!("http://{address}{path}");
    let answer = runtime::Builder::new_current_thread().enable_all().build();
    let answer = answer.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let timeout = Duration::from_millis(args.timeout_ms);
            tokio::time::timeout(timeout, ask(address, path))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} ms", args.timeout_ms).into()))
        })
    });
    let (code, body) = match answer {
        Ok(answer) => answer,
        Err(cause) => return Err(ProbeError::Unanswered { url, cause }),
    };
    let status = status_in(&body);
    if code == StatusCode::OK {
        Ok(status)
    } else {
        Err(ProbeError::Unhealthy { url, code, status })
    }
}

/// The address of a server on this machine that listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(
    address: SocketAddr,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime; a failure of the connection is also one of the request.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await?;
    Ok((code, body.to_bytes()))
}

fn status_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
    }
    serde_json::from_slice(body)
        .map_or_else(|_| "the answer has no status".to_owned(), |Answer { status }| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_at_any_address_is_asked_at_loopback() {
        let check = |listens: &str, asked: &str| {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        };
        check("127.0.0.1:8000", "127.0.0.1:8000");
        check("0.0.0.0:8000", "127.0.0.1:8000");
        check("[::]:9", "[::1]:9");
        check("192.0.2.1:80", "192.0.2.1:80");
    }

    #[test]
    fn the_status_is_that_of_the_answer() {
        assert_eq!(status_in(br#"{"status":"degraded","parts":{}}"#), "degraded");
        assert_eq!(status_in(br#"{"status":503,"title":"x"}"#), "the answer has no status");
        assert_eq!(status_in(b"<html>"), "the answer has no status");
    }
}
