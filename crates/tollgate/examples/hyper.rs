//! The layer around a plain hyper service: `cargo run --example hyper`, then
//! `curl -i -H 'x-user: alice' http://127.0.0.1:3000/`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tollgate::tower::{Caller, Parts, RateLimitLayer};
use tollgate::{Clock, RateLimiter};
use tower::{Layer as _, service_fn};

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("an answer\n")))
}

fn caller(request: &Parts) -> Option<Caller<'_>> {
    let user = request.headers.get("x-user")?.to_str().ok()?;
    Some(Caller::new(user, "gpt-4"))
}

/// Serves every connection of `listener`, over HTTP/1.1 and HTTP/2.
pub(crate) async fn serve<C: Clock + 'static>(
    listener: TcpListener,
    limiter: Arc<RateLimiter<C>>,
) -> io::Result<()> {
    let service = RateLimitLayer::new(limiter, caller).layer(service_fn(answer));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // An error here is one client's broken connection.
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let limiter = Arc::new(RateLimiter::new(5, Duration::from_mins(1)));
    serve(TcpListener::bind("127.0.0.1:3000").await?, limiter).await
}
