//! The bounds of connections, requests and comparisons of policies.

use std::time::Duration;

use tollgate_catalog::document::MAX_DOCUMENT_BYTES;

use super::layers::Layers;
use super::values;

/// The memory of an unfinished body besides its bytes: the connection's read buffer.
pub(crate) const UNFINISHED_BYTES: usize = 8 << 10;

/// The bounds of comparisons of policies by `POST /admin/what-if`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WhatIfBounds {
    /// How many run at a time.
    pub at_once: usize,
    /// The most checks of a trace that are compared.
    pub max_checks: u64,
    /// The most time for a comparison.
    pub deadline: Duration,
    /// The most subjects of a kind that are counted one by one.
    pub max_subjects: usize,
    /// The most subjects of a kind that are listed as losing, as gaining, and as both.
    pub top: usize,
}

impl Default for WhatIfBounds {
    fn default() -> Self {
        Self {
            at_once: 1,
            max_checks: 1_000_000,
            deadline: Duration::from_secs(30),
            max_subjects: 100_000,
            top: 20,
        }
    }
}

/// The bounds of connections and requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// The most bytes of the body of one check.
    pub max_body_bytes: usize,
    /// The most bytes of the body of a batch.
    pub max_batch_body_bytes: usize,
    /// The most memory for the data of unfinished requests, over all connections.
    pub max_body_memory_bytes: usize,
    /// The most bytes of the headers of a request.
    pub max_header_bytes: usize,
    /// The most time for the headers of a request to arrive.
    pub header_timeout: Duration,
    /// The most time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// The most time between two requests of a connection.
    pub idle_timeout: Duration,
    /// The most connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// The most requests at a time on one HTTP/2 connection.
    pub max_http2_streams: u32,
    /// How long an idle connection is kept while the server drains, because a request may be on its way; at most an
    /// eighth of the drain timeout.
    pub drain_grace: Duration,
    /// How often an HTTP/2 client is pinged; it has the same time to answer.
    pub http2_ping_every: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 10,
            max_batch_body_bytes: 4 << 20,
            max_body_memory_bytes: 64 << 20,
            max_header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_connections: 10_000,
            max_http2_streams: 256,
            drain_grace: Duration::from_secs(1),
            http2_ping_every: Duration::from_secs(20),
        }
    }
}

impl HttpLimits {
    /// The longest accepted body must fit into the memory for unfinished requests.
    pub(super) fn refuse_bodies_without_memory(&self, layers: &mut Layers) {
        let longest = self.max_body_bytes.max(self.max_batch_body_bytes).max(MAX_DOCUMENT_BYTES);
        let needed = longest + UNFINISHED_BYTES;
        if self.max_body_memory_bytes < needed {
            let problem =
                format!("is too small for the longest accepted body, which needs {needed} bytes");
            let accepted =
                "a larger value, or smaller values of max_body_bytes and max_batch_body_bytes";
            layers.refuse_key("max_body_memory_bytes", &problem, accepted);
        }
    }

    pub(super) fn take(layers: &mut Layers) -> Self {
        let default = Self::default();
        let mut timeout = |key, default| {
            layers.take(key, default, |text| {
                let accepted = "an integer from 10 to 3600000, in milliseconds";
                values::milliseconds(text, 10..=3_600_000, accepted)
            })
        };
        let header_timeout = timeout("header_timeout_ms", default.header_timeout);
        let body_timeout = timeout("body_timeout_ms", default.body_timeout);
        let idle_timeout = timeout("idle_timeout_ms", default.idle_timeout);
        let http2_ping_every = timeout("http2_ping_every_ms", default.http2_ping_every);
        let mut count = |key, default: usize, range, accepted| {
            let default = default as u64;
            let value = layers.take(key, default, |text| values::integer(text, range, accepted));
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let bodies = "an integer from 1024 to 67108864, in bytes";
        let headers = "an integer from 8192 to 1048576, in bytes";
        let streams = "an integer from 1 to 65536";
        let default_streams = default.max_http2_streams as usize;
        let max_streams = count("max_http2_streams", default_streams, 1..=65_536, streams);
        Self {
            max_body_bytes: count(
                "max_body_bytes",
                default.max_body_bytes,
                1_024..=64 << 20,
                bodies,
            ),
            max_batch_body_bytes: count(
                "max_batch_body_bytes",
                default.max_batch_body_bytes,
                1_024..=64 << 20,
                bodies,
            ),
            max_body_memory_bytes: count(
                "max_body_memory_bytes",
                default.max_body_memory_bytes,
                20 << 20..=1 << 40,
                "an integer from 20971520 to 1099511627776, in bytes",
            ),
            max_header_bytes: count(
                "max_header_bytes",
                default.max_header_bytes,
                8_192..=1 << 20,
                headers,
            ),
            header_timeout,
            body_timeout,
            idle_timeout,
            max_connections: count(
                "max_connections",
                default.max_connections,
                1..=1_000_000,
                "an integer from 1 to 1000000",
            ),
            max_http2_streams: u32::try_from(max_streams).unwrap_or(default.max_http2_streams),
            drain_grace: default.drain_grace,
            http2_ping_every,
        }
    }
}
