//! What is sent, and where to.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// What is sent, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The collector. Spans go to `/v1/traces` below it, metrics to `/v1/metrics`.
    pub endpoint: Uri,
    /// Header fields of every request to the collector. Their values are secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The longest time for one request to the collector.
    pub timeout: Duration,
    /// Which requests are traced; `None` for none.
    pub traces: Option<Sampling>,
    /// How often metrics are sent; `None` for never.
    pub metrics_every: Option<Duration>,
    /// The attributes of the process.
    pub resource: Vec<(String, String)>,
}

impl OtlpConfig {
    /// The longest time for one request to the collector, unless another is given: the default of the standard.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
    /// How often metrics are sent, unless another time is given: the default of the standard.
    pub const DEFAULT_METRICS_EVERY: Duration = Duration::from_mins(1);
    /// The name of the service, unless another is given.
    pub const DEFAULT_SERVICE_NAME: &str = "tollgate";

    /// Traces and metrics for the collector at `endpoint`, with all defaults.
    pub fn new(endpoint: Uri) -> Self {
        Self {
            endpoint,
            headers: Vec::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            traces: Some(Sampling::default()),
            metrics_every: Some(Self::DEFAULT_METRICS_EVERY),
            resource: vec![("service.name".to_owned(), Self::DEFAULT_SERVICE_NAME.to_owned())],
        }
    }
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The part of the requests whose callers send no trace, in millionths. It depends on the trace id alone, so all services
    /// that sample the same part choose the same traces.
    pub millionths: u32,
    /// Whether a request is traced if and only if its caller's trace is. Otherwise the ratio decides for these too.
    pub follows_parent: bool,
}

impl Sampling {
    /// The part of the requests, unless another is given.
    pub const DEFAULT_MILLIONTHS: u32 = 100_000;

    pub(crate) fn ratio(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { millionths: Self::DEFAULT_MILLIONTHS, follows_parent: true }
    }
}
