//! JSON calls over HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use url::Url;

use crate::error::VerifyError;

/// The most time for a call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Sends calls to servers over kept connections. Follows no redirects.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// An answer of a server.
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    body: Bytes,
}

/// The part of a problem document (RFC 9457) that is shown.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    errors: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    field: String,
    problem: String,
}

impl HttpClient {
    /// A client that trusts the authorities of this system, if it `needs_tls`.
    pub(crate) fn new(needs_tls: bool) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TIMEOUT));
        http.enforce_http(false);
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let tls = if needs_tls {
            tls.with_native_roots()?
        } else {
            tls.with_root_certificates(RootCertStore::empty())
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client })
    }

    /// Sends a call; the error says what went wrong.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: Url,
        token: Option<&str>,
        body: String,
    ) -> Result<HttpAnswer, String> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        let answer = async {
            let answer = self.client.request(request).await.map_err(|error| causes(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| causes(&*error))?.to_bytes();
            Ok(HttpAnswer { status, body })
        };
        let in_time = tokio::time::timeout(TIMEOUT, answer).await;
        in_time.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
    }
}

impl HttpAnswer {
    /// The body as JSON of this shape.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What an answer that is not a success says, in words.
    pub(crate) fn refusal(&self) -> String {
        let Some(problem) = self.json::<Problem>() else {
            return format!("status {}", self.status);
        };
        let fields =
            problem.errors.iter().map(|Field { field, problem }| format!("{field} {problem}"));
        let fields: Vec<_> = fields.collect();
        if fields.is_empty() {
            return problem.detail;
        }
        format!("{}: {}", problem.detail, fields.join("; "))
    }
}

/// An error and its causes. Those of the client repeat each other, so the last one is enough.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

/// The address of a server: a URL of `http` or `https`, to whose path the paths of calls are added.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    url: Url,
    /// The address for people: without a user or password.
    pub(crate) name: String,
}

impl Base {
    pub(crate) fn parse(text: &str) -> Result<Self, VerifyError> {
        let refused = |problem: &str| VerifyError::Address { problem: problem.to_owned() };
        let url = Url::parse(text).map_err(|error| refused(&format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("the URL is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("the URL has a user or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("the URL has a query or a fragment"));
        }
        let name = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, name })
    }

    pub(crate) fn needs_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL of a call.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }
}
