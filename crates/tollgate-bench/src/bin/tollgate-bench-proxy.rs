//! The bare reverse proxy of `tollgate-bench gateway`: forwards every request to the address in its argument, and the answer back,
//! over pooled connections. It parses and limits nothing. Prints its address.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::error::Error;
use std::process::ExitCode;

use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

type Upstream = Client<HttpConnector, Incoming>;

fn main() -> ExitCode {
    let Some(upstream) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        eprintln!("usage: tollgate-bench-proxy HOST:PORT");
        return ExitCode::from(2);
    };
    match serve(&upstream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// With the same runtime as `tollgate serve`.
#[tokio::main]
async fn serve(upstream: &Authority) -> Result<(), Box<dyn Error>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        tokio::spawn(async move {
            let forward =
                service_fn(move |request| forward(client.clone(), upstream.clone(), request));
            let server = Builder::new(TokioExecutor::new());
            // A client that goes away is no error here.
            _ = server.serve_connection(TokioIo::new(stream), forward).await;
        });
    }
}

async fn forward(
    client: Upstream,
    upstream: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, ClientError> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream);
    // A path with a scheme and an authority is a URI.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    client.request(request).await
}
