//! Sends one batch to the collector: a POST with protobuf.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;

use crate::config::OtlpConfig;

/// The longest answer of a collector that is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How long an idle connection is kept: longer than the time between two batches of a busy server.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Why telemetry cannot start.
#[derive(Debug)]
pub enum OtlpError {
    /// The address of the collector cannot be completed by the path of a signal.
    Endpoint,
    /// The certificates that this system trusts cannot be read.
    Certificates(io::Error),
}

impl fmt::Display for OtlpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint => "the address of the collector cannot be completed by /v1/traces",
            Self::Certificates(_) => {
                "the collector is reached over TLS, and this system has no list of trusted authorities; install its package ca-certificates"
            }
        })
    }
}

impl Error for OtlpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Endpoint => None,
            Self::Certificates(source) => Some(source),
        }
    }
}

/// Why a batch was not accepted.
#[derive(Debug)]
pub(crate) enum SendError {
    Timeout,
    Unreachable(hyper_util::client::legacy::Error),
    Status(StatusCode),
    Answer(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("it did not answer in time"),
            Self::Unreachable(error) => {
                write!(f, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Answer(error) => write!(f, "its answer broke off: {error}"),
        }
    }
}

/// The connection to a collector.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    traces: Uri,
    metrics: Uri,
    fields: HeaderMap,
    timeout: Duration,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Sender {
    pub(crate) fn new(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let mut fields = HeaderMap::new();
        for (name, value) in &config.headers {
            fields.append(name, value.clone());
        }
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self {
            client: client(config)?,
            traces: below(&config.endpoint, "/v1/traces").ok_or(OtlpError::Endpoint)?,
            metrics: below(&config.endpoint, "/v1/metrics").ok_or(OtlpError::Endpoint)?,
            fields,
            timeout: config.timeout,
        })
    }

    /// Sends `message`, in protobuf. Returns the answer, in protobuf.
    pub(crate) async fn send(&self, signal: Signal, message: Vec<u8>) -> Result<Bytes, SendError> {
        let mut request = Request::new(Full::from(message));
        *request.method_mut() = Method::POST;
        request.headers_mut().clone_from(&self.fields);
        *request.uri_mut() = match signal {
            Signal::Traces => self.traces.clone(),
            Signal::Metrics => self.metrics.clone(),
        };
        let sent = tokio::time::timeout(self.timeout, self.exchange(request));
        sent.await.unwrap_or(Err(SendError::Timeout))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, SendError> {
        let answer = self.client.request(request).await.map_err(SendError::Unreachable)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(SendError::Status(status));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(SendError::Answer)
    }
}

/// A client that follows no redirects, so that a secret goes to the collector only.
fn client(
    config: &OtlpConfig,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, OtlpError> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(config.timeout));
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new();
    let builder = if config.endpoint.scheme_str() == Some("https") {
        let provider = ring::default_provider();
        builder.with_provider_and_native_roots(provider).map_err(OtlpError::Certificates)?
    } else {
        builder.with_tls_config(without_authorities()?)
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(1)
        .build(connector))
}

/// TLS that trusts nobody, for a collector that is reached without TLS.
fn without_authorities() -> Result<rustls::ClientConfig, OtlpError> {
    let provider = std::sync::Arc::new(ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| OtlpError::Certificates(io::Error::other(error)))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// The address of `path` below `endpoint`.
fn below(endpoint: &Uri, path: &str) -> Option<Uri> {
    let mut parts = endpoint.clone().into_parts();
    let base = endpoint.path().trim_end_matches('/');
    parts.path_and_query = Some(format!("{base}{path}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_paths_below_the_endpoint() {
        for (endpoint, expected) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/", "https://c/otlp/v1/traces"),
        ] {
            let url = below(&endpoint.parse().unwrap(), "/v1/traces").unwrap();
            assert_eq!(url.to_string(), expected);
        }
    }
}
