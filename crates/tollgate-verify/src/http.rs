//! JSON calls over HTTP.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;
use serde::Deserialize;
use url::Url;

use crate::connection_problem::describe;
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
    /// Where the server would rather be asked.
    location: Option<String>,
    body: Bytes,
}

/// The part of a problem document (RFC 9457) that is shown.
#[derive(Deserialize)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
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
    pub(crate) fn new(needs_tls: bool) -> Result<Self, VerifyError> {
        let authorities = if needs_tls { trusted()? } else { RootCertStore::empty() };
        Self::trusting(authorities).map_err(VerifyError::System)
    }

    fn trusting(authorities: RootCertStore) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TIMEOUT));
        http.enforce_http(false);
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let tls = tls.with_root_certificates(authorities);
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
        let failed = |error: &(dyn Error + 'static)| describe(error, url.scheme());
        let answer = async {
            let answer = self.client.request(request).await.map_err(|error| failed(&error))?;
            let status = answer.status();
            let location = answer.headers().get(LOCATION);
            let location =
                location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| failed(&*error))?.to_bytes();
            Ok(HttpAnswer { status, location, body })
        };
        let in_time = tokio::time::timeout(TIMEOUT, answer).await;
        in_time.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
    }
}

impl HttpAnswer {
    /// The body as JSON of this shape, or why it is not.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Whether this is an error as a Tollgate server describes it.
    pub(crate) fn is_tollgates(&self) -> bool {
        let problem = self.json::<Problem>();
        problem.is_ok_and(|problem| problem.kind.starts_with("urn:tollgate:problem:"))
    }

    /// What an answer that is not a success says, in words.
    pub(crate) fn refusal(&self) -> String {
        let Ok(problem) = self.json::<Problem>() else { return self.shown() };
        let fields =
            problem.errors.iter().map(|Field { field, problem }| format!("{field} {problem}"));
        let fields: Vec<_> = fields.collect();
        if fields.is_empty() {
            return problem.detail;
        }
        format!("{}: {}", problem.detail, fields.join("; "))
    }

    /// The status and the beginning of the body, or where a redirect leads.
    pub(crate) fn shown(&self) -> String {
        let status = self.status;
        if let Some(location) = self.location.as_deref().filter(|_| status.is_redirection()) {
            return format!(
                "status {status}, a redirect to {}, which is not followed",
                shown(location)
            );
        }
        match String::from_utf8_lossy(&self.body).trim() {
            "" => format!("status {status} without a body"),
            body => format!("status {status} with {}", shown(body)),
        }
    }
}

/// The beginning of a text of a server, quoted and without control characters.
fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The authorities that this system trusts.
fn trusted() -> Result<RootCertStore, VerifyError> {
    let mut trusted = RootCertStore::empty();
    // A file that was named by mistake must not go unnoticed because a directory is readable.
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let named = named.map(|file| rustls_native_certs::load_certs_from_paths(Some(&file), None));
    let unusable =
        named.filter(|named| trusted.add_parsable_certificates(named.certs.clone()).0 == 0);
    let errors = if let Some(named) = unusable {
        named.errors
    } else {
        let CertificateResult { certs, errors, .. } = rustls_native_certs::load_native_certs();
        trusted.add_parsable_certificates(certs);
        if !trusted.is_empty() {
            return Ok(trusted);
        }
        errors
    };
    let problems: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let problem = match &problems[..] {
        [] => "no trusted authority was found".to_owned(),
        problems => problems.join("; "),
    };
    Err(VerifyError::Authorities { problem })
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

#[cfg(test)]
mod tests;
