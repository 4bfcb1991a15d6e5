//! The HTTP client for upstreams: pooled connections, HTTP/1.1, and HTTP/2 where TLS negotiates it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The client. It follows no redirects.
pub(super) type UpstreamClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The most time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept. Many servers close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most idle connections to one upstream.
const MAX_IDLE: usize = 512;
/// How often an HTTP/2 connection is checked.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);

/// Whom a client trusts.
pub(super) enum Trust<'a> {
    /// Nobody: it does not use TLS.
    Nobody,
    /// The authorities of this system.
    System,
    /// These authorities only.
    Only(&'a [CertificateDer<'static>]),
}

/// A client that trusts as `trust` says.
pub(super) fn client(trust: &Trust<'_>) -> io::Result<UpstreamClient> {
    let authorities = match trust {
        Trust::Nobody => RootCertStore::empty(),
        Trust::System => authorities()?,
        Trust::Only(these) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(these.iter().cloned());
            store
        }
    };
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(authorities)?)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .http2_keep_alive_interval(HTTP2_PING_EVERY)
        .http2_adaptive_window(true)
        .build(connector))
}

/// The provider is named, because a program may contain several.
fn tls(authorities: RootCertStore) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(authorities).with_no_client_auth())
}

fn authorities() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // A system may list a certificate that this library does not understand.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        return Err(io::Error::other(
            "this system has no list of trusted authorities for TLS; install its package ca-certificates, or set caFile of the upstreams",
        ));
    }
    Ok(store)
}

/// The failure of TLS that caused `error`, if one did.
pub(super) fn tls_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(failure) = error.downcast_ref() {
        return Some(failure);
    }
    // The source of an `io::Error` is the source of what is in it.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inside = inside.and_then(|inside| tls_failure(inside));
    inside.or_else(|| tls_failure(error.source()?))
}
