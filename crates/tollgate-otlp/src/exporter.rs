//! Carries spans and metrics to the collector.
//!
//! One task sends everything, one request at a time. Spans wait for it in a bounded queue, so a collector that is slow or gone
//! costs spans, which are counted, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tollgate_core::{SystemWallClock, WallClock};

use crate::attributes::text;
use crate::config::{OtlpConfig, Sampling};
use crate::encoded_span::put_bytes;
use crate::openmetrics;
use crate::queue::{Batch, SpanQueue};
use crate::request::{RequestTrace, ServerSpan};
use crate::sampling::Place;
use crate::sender::{OtlpError, SendError, Sender, Signal};

/// How often spans are sent that are fewer than a batch.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// The longest time for what is left when the server ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The version of the semantic conventions that the attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Gives the metrics as `OpenMetrics` text; `None` if they cannot be written.
pub type MetricsSource = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Traces and metrics for one collector.
pub struct Otlp {
    config: OtlpConfig,
    sender: Sender,
    queue: Arc<SpanQueue>,
    resource: Resource,
    started_at: u64,
    /// Whether the collector did not accept the last batch.
    fails: AtomicBool,
}

/// What became of the spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtlpStats {
    /// The collector has accepted them.
    pub exported: u64,
    /// They were dropped: too many waited, or the collector did not accept them.
    pub dropped: u64,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Otlp {
    /// Traces and metrics as `config` says, of a program of this version. Sends nothing until [`Otlp::run`] does.
    pub fn new(config: OtlpConfig, version: &str) -> Result<Arc<Self>, OtlpError> {
        let given = |key: &str| config.resource.iter().any(|(name, _)| name == key);
        let instance = || RandomIdGenerator::default().new_trace_id().to_string();
        let mut attributes: Vec<_> =
            config.resource.iter().map(|(key, value)| text(key, value)).collect();
        if !given("service.version") {
            attributes.push(text("service.version", version));
        }
        if !given("service.instance.id") {
            attributes.push(text("service.instance.id", instance()));
        }
        Ok(Arc::new(Self {
            sender: Sender::new(&config)?,
            queue: Arc::default(),
            resource: Resource { attributes, ..Resource::default() },
            started_at: SystemWallClock.wall_time().as_ns(),
            fails: AtomicBool::new(false),
            config,
        }))
    }

    /// The trace of a request with `headers`, which `describe` describes; `None` if it is not sampled.
    #[inline]
    pub fn begin(
        &self,
        headers: &HeaderMap,
        describe: impl FnOnce() -> ServerSpan,
    ) -> Option<Arc<RequestTrace>> {
        let sampling: Sampling = self.config.traces?;
        let place = Place::sampled(sampling, headers)?;
        Some(RequestTrace::begin(&self.queue, &place, describe()))
    }

    /// What became of the spans so far.
    pub fn stats(&self) -> OtlpStats {
        // Relaxed: only counts.
        OtlpStats {
            exported: self.queue.exported.load(Ordering::Relaxed),
            dropped: self.queue.dropped.load(Ordering::Relaxed),
        }
    }

    /// Sends spans and metrics until `stops` is true, and then what is left, for at most a second.
    pub async fn run(&self, metrics: MetricsSource, stops: watch::Receiver<bool>) {
        let mut ends = stops.clone();
        let too_late = async {
            stopped(&mut ends).await;
            sleep(FLUSH_TIMEOUT).await;
        };
        tokio::select! {
            () = self.send_until(stops, &metrics) => {}
            () = too_late => tracing::warn!(
                "the collector of telemetry did not answer before the server ended; the last spans and metrics are lost"
            ),
        }
    }

    async fn send_until(&self, mut stops: watch::Receiver<bool>, metrics: &MetricsSource) {
        let mut sends = interval(SEND_EVERY);
        sends.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let every = self.config.metrics_every;
        let mut measures = interval(every.unwrap_or(OtlpConfig::DEFAULT_METRICS_EVERY));
        measures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is immediate; there is nothing to tell yet.
        measures.tick().await;
        loop {
            // Relaxed: only this task uses it.
            let fails = self.fails.load(Ordering::Relaxed);
            tokio::select! {
                () = stopped(&mut stops) => break,
                _ = sends.tick() => self.send_spans().await,
                // A collector that fails is asked once a second.
                () = self.queue.has_batch(), if !fails => self.send_spans().await,
                _ = measures.tick(), if every.is_some() => self.send_metrics(metrics).await,
            }
        }
        self.send_spans().await;
        if every.is_some() {
            self.send_metrics(metrics).await;
        }
    }

    /// Sends what waits. After a failure the rest waits for the next time.
    async fn send_spans(&self) {
        while let Some(batch) = self.queue.batch() {
            if !self.send_batch(batch).await {
                return;
            }
        }
    }

    async fn send_batch(&self, batch: Batch) -> bool {
        let count = batch.spans as u64;
        // If this is abandoned, the batch is lost.
        let mut unsent = Unsent { queue: &self.queue, spans: count };
        let answer = self.sender.send(Signal::Traces, self.request(&batch)).await;
        let Some(answer) = self.noted(answer) else { return false };
        let rejected = rejected(&answer).min(count);
        unsent.spans = rejected;
        self.queue.count_exported(count - rejected);
        true
    }

    /// The message `ExportTraceServiceRequest` with the spans of `batch`.
    fn request(&self, batch: &Batch) -> Vec<u8> {
        let schema_url = SCHEMA_URL.to_owned();
        let scope = ScopeSpans { scope: Some(scope()), schema_url, ..ScopeSpans::default() };
        let mut scope = scope.encode_to_vec();
        scope.extend_from_slice(&batch.bytes);
        let mut resource = ResourceSpans {
            resource: Some(self.resource.clone()),
            schema_url: SCHEMA_URL.to_owned(),
            ..ResourceSpans::default()
        }
        .encode_to_vec();
        // The fields `scope_spans` and `resource_spans`.
        put_bytes(2, &scope, &mut resource);
        let mut request = Vec::with_capacity(resource.len() + 8);
        put_bytes(1, &resource, &mut request);
        request
    }

    async fn send_metrics(&self, metrics: &MetricsSource) {
        let Some(text) = metrics() else { return };
        let now = SystemWallClock.wall_time().as_ns();
        let metrics = openmetrics::converted(&text, self.started_at, now);
        let scope_metrics =
            ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource_metrics = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scope_metrics],
            ..ResourceMetrics::default()
        };
        let message = ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] };
        let answer = self.sender.send(Signal::Metrics, message.encode_to_vec()).await;
        self.noted(answer);
    }

    /// The answer, if there is one. Logs when the collector begins to fail, and when it has ended.
    fn noted(&self, answer: Result<Bytes, SendError>) -> Option<Bytes> {
        // Relaxed: only the exporter's task uses it.
        match answer {
            Ok(answer) => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("the collector of telemetry accepts spans and metrics again");
                }
                Some(answer)
            }
            Err(error) => {
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "the collector of telemetry does not accept spans or metrics, so they are dropped until it does; limits are not \
                         affected. Is the address of --otlp-endpoint or OTEL_EXPORTER_OTLP_ENDPOINT that of OTLP over HTTP, by default \
                         port 4318?"
                    );
                }
                None
            }
        }
    }
}

/// Waits until the exporter is to end.
async fn stopped(stops: &mut watch::Receiver<bool>) {
    // An error means that the server does not serve any more.
    _ = stops.wait_for(|stops| *stops).await;
}

/// Counts spans as dropped unless they were sent.
struct Unsent<'a> {
    queue: &'a SpanQueue,
    spans: u64,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.queue.count_dropped(self.spans);
    }
}

/// How many spans the collector has rejected of those that it accepted as a whole.
fn rejected(answer: &Bytes) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer.clone()).ok();
    let partial = answer.and_then(|answer| answer.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or(0)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "tollgate".to_owned(), ..InstrumentationScope::default() }
}
