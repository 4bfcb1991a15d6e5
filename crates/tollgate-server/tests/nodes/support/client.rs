//! An HTTP client with one kept-alive connection.

use std::fmt;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The answer to a check, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) degraded: bool,
    pub(crate) count: u64,
    pub(crate) reason: Option<String>,
}

/// A client with one connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub(crate) async fn connect(host: &str) -> Self {
        let stream = TcpStream::connect(host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, host: host.to_owned() }
    }

    /// Checks `user` and `model`. Every check must be answered with 200.
    pub(crate) async fn check(&mut self, user: impl fmt::Display, model: &str) -> Decision {
        self.decide("check", &format!(r#"{{"userId":"{user}","modelId":"{model}"}}"#)).await
    }

    /// Sends `body` to `call`: `check` or `peek`.
    pub(crate) async fn decide(&mut self, call: &str, body: &str) -> Decision {
        let (status, text) = self.send("POST", &format!("/rate-limit/{call}"), body).await;
        assert_eq!(status, 200, "{text}");
        let said: Value = serde_json::from_str(&text).unwrap();
        Decision {
            allowed: said["allowed"].as_bool().unwrap(),
            degraded: said["degraded"].as_bool().unwrap(),
            count: said["count"].as_u64().unwrap(),
            reason: said["reason"].as_str().map(str::to_owned),
        }
    }

    /// The status and the body that `path` answers to `body`.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        self.send("POST", path, body).await
    }

    /// The status and the body that `path` answers.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        self.send("GET", path, "").await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("host", &self.host);
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
