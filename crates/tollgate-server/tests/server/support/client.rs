//! An HTTP client with one connection.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use super::schema::check_against_document;

/// The answer of a server.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl HttpAnswer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn json_headers() -> [(&'static str, &'static str); 1] {
    [("content-type", "application/json")]
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A client with one connection.
pub(crate) struct Client {
    address: SocketAddr,
    sender: Sender,
}

impl Client {
    /// Connects with HTTP/1.1.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { address, sender: Sender::Http1(sender) }
    }

    /// Connects with HTTP/2, without asking whether the server supports it.
    pub(crate) async fn connect_http2(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self { address, sender: Sender::Http2(sender) }
    }

    /// Another client on the same HTTP/2 connection.
    pub(crate) fn stream(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 has no streams") };
        Self { address: self.address, sender: Sender::Http2(sender.clone()) }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> HttpAnswer {
        self.send("POST", path, &json_headers(), body).await
    }

    /// Posts `body` without checking the answer against the document, for large numbers of requests.
    pub(crate) async fn post_unchecked(&mut self, path: &str, body: &str) -> HttpAnswer {
        self.exchange("POST", path, &json_headers(), body).await
    }

    /// Sends a request and checks the answer against the OpenAPI document.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpAnswer {
        let answer = self.exchange(method, path, headers, body).await;
        if method != "HEAD" {
            check_against_document(method, path, &answer);
        }
        answer
    }

    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpAnswer {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://{}{path}", self.address),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response: Response<Incoming> = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Sender::Http2(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();

        HttpAnswer { status: head.status.as_u16(), headers: head.headers, body }
    }
}
