//! What is known of one request. It is counted, and written to the access log, once: when it is dropped.
//!
//! The record moves into the body of the answer, as the lease does, so that no way to end a request can forget it. It never holds a
//! prompt, an answer, a key, a user, a tenant or an address.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tollgate_core::{Clock, MonotonicClock, PriorityClass, Timestamp};

use super::models::Model;
use crate::config::UpstreamConfig;
use crate::dialect::Metered;
use crate::monitor::{Counters, Purpose, RequestOutcome, RowIndex};
use crate::tracer::{RequestTrace, RequestTracer, UpstreamCall, UpstreamSpan};
use crate::upstream::UpstreamFailure;

/// The parts that all records share.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) counters: Arc<Counters>,
    /// The names of the upstreams.
    pub(super) upstreams: Vec<String>,
    /// Whether each request is logged.
    pub(super) logs: bool,
    /// Only measures durations.
    pub(super) clock: MonotonicClock,
    pub(super) tracer: Option<Arc<dyn RequestTracer>>,
}

/// What is known of a request.
#[derive(Debug)]
pub(super) struct RequestRecord {
    recorder: Arc<Recorder>,
    row: RowIndex,
    purpose: Purpose,
    method: &'static str,
    path: &'static str,
    model: Option<Arc<Model>>,
    upstream: Option<usize>,
    status: u16,
    outcome: RequestOutcome,
    began: Timestamp,
    first_byte: Option<Duration>,
    last_chunk: Timestamp,
    is_stream: bool,
    streamed: u64,
    metered: Option<Metered>,
    reserved: u64,
    queue_wait: Duration,
    /// The time spent in the queue and until the upstream's answer began.
    waited: Duration,
    /// The time that the gateway took until its answer began.
    overhead: Duration,
    trace: Option<Arc<dyn RequestTrace>>,
    /// The request to an upstream, until everything of its answer has passed.
    asked: Option<Box<dyn UpstreamSpan>>,
}

/// In place of a path that is not of the configuration, because a client may write anything into one.
const OTHER_PATH: &str = "(other)";

impl RequestRecord {
    /// A request that has just arrived.
    pub(super) fn new(recorder: Arc<Recorder>, method: &Method, purpose: Purpose) -> Self {
        recorder.counters.began();
        let began = recorder.clock.now();
        let path = match purpose {
            Purpose::Endpoint(endpoint) => endpoint.path(),
            Purpose::Other(_) => OTHER_PATH,
        };
        Self {
            row: recorder.counters.row_index(None, purpose),
            purpose,
            method: known(method),
            path,
            model: None,
            upstream: None,
            status: 0,
            // Whoever drops a request that is not answered has left.
            outcome: RequestOutcome::ClientLeft,
            began,
            first_byte: None,
            last_chunk: began,
            is_stream: false,
            streamed: 0,
            metered: None,
            reserved: 0,
            queue_wait: Duration::ZERO,
            waited: Duration::ZERO,
            overhead: Duration::ZERO,
            trace: recorder.tracer.as_ref().and_then(|tracer| tracer.current()),
            asked: None,
            recorder,
        }
    }

    /// It is about the list of models.
    pub(super) fn is_for_models(&mut self) {
        self.path = "/v1/models";
        self.outcome = RequestOutcome::Completed;
    }

    /// It is only forwarded.
    pub(super) fn is_passed_through(&mut self) {
        self.path = "(pass-through)";
    }

    /// It is for this model, for which so many tokens are to be reserved.
    pub(super) fn is_for_model(&mut self, model: &Arc<Model>, reserved: u64) {
        self.row = self.recorder.counters.row_index(Some(model.index), self.purpose);
        self.model = Some(Arc::clone(model));
        self.reserved = reserved;
    }

    /// It has waited in the queue for room.
    pub(super) fn has_queued(&mut self, class: PriorityClass, wait: Duration) {
        self.queue_wait += wait;
        self.waited += wait;
        self.recorder.counters.queued(class, nanos(wait));
    }

    /// It has waited in the queue for so long when its answer began.
    pub(super) fn begins_in_queue(&mut self, wait: Duration) -> Duration {
        self.status = StatusCode::OK.as_u16();
        self.overhead = self.now().since(self.began).saturating_sub(self.waited + wait);
        self.overhead
    }

    /// It is sent to the upstream of `config`, after `resends` others. Returns the fields that continue its trace there.
    pub(super) fn sends(
        &mut self,
        config: &UpstreamConfig,
        method: &Method,
        resends: usize,
    ) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let Some(trace) = &self.trace else { return fields };
        let call = UpstreamCall {
            upstream: &config.id,
            base_url: &config.base_url,
            method,
            endpoint: match self.purpose {
                Purpose::Endpoint(endpoint) => Some(endpoint),
                Purpose::Other(_) => None,
            },
            dialect: config.dialect,
            model: self.model.as_ref().map(|model| &*model.config.id),
            resends,
        };
        self.asked = Some(trace.sends(&call, &mut fields));
        fields
    }

    /// The upstream begins its answer.
    pub(super) fn upstream_answers(&mut self, status: StatusCode) {
        if let Some(asked) = &mut self.asked {
            asked.answered(status);
        }
    }

    /// The upstream gave no answer.
    pub(super) fn upstream_failed(&mut self, failure: UpstreamFailure) {
        if let Some(mut asked) = self.asked.take() {
            asked.failed(failure);
        }
    }

    /// It was sent to an upstream, which took so long to begin its answer or to fail.
    pub(super) fn was_sent(&mut self, upstream: usize, wait: Duration) {
        self.upstream = Some(upstream);
        self.waited += wait;
    }

    /// The time now, by the clock of the records.
    pub(super) fn now(&self) -> Timestamp {
        self.recorder.clock.now()
    }

    /// The answer begins with this status. Returns the time that the gateway itself has taken until now.
    pub(super) fn answers(&mut self, status: StatusCode) -> Duration {
        // The first status is the one that the client got.
        if self.status != 0 {
            return self.overhead;
        }
        self.status = status.as_u16();
        self.overhead = self.now().since(self.began).saturating_sub(self.waited);
        self.overhead
    }

    /// The answer is a stream.
    pub(super) fn is_stream(&mut self) {
        self.is_stream = true;
    }

    /// It has ended so, unless the client leaves before it has everything.
    pub(super) fn ends(&mut self, outcome: RequestOutcome) {
        self.outcome = outcome;
    }

    /// What the answer has used.
    pub(super) fn used(&mut self, metered: &Metered) {
        self.metered = Some(*metered);
        if let Some(asked) = &mut self.asked {
            asked.used(metered);
        }
    }

    /// A piece of the answer passes, after which `output` tokens have passed in all, as far as that is counted.
    pub(super) fn passes(&mut self, output: Option<u64>) {
        let now = self.now();
        let counters = &self.recorder.counters;
        match self.first_byte {
            None => {
                let first_byte = now.since(self.began);
                self.first_byte = Some(first_byte);
                if self.is_stream {
                    counters.first_chunk(self.row, nanos(first_byte));
                }
            }
            Some(_) if self.is_stream => counters.chunk(self.row, now.ns_since(self.last_chunk)),
            Some(_) => {}
        }
        self.last_chunk = now;
        if let Some(new) = output.and_then(|output| output.checked_sub(self.streamed))
            && new > 0
        {
            counters.streamed(self.row, new);
            self.streamed += new;
        }
    }

    fn log(&self, took: Duration) {
        let usage = self.metered.map(|metered| metered.usage).unwrap_or_default();
        let upstream = self.upstream.and_then(|index| self.recorder.upstreams.get(index));
        tracing::info!(
            target: "tollgate_gateway::access",
            method = self.method,
            path = self.path,
            dialect = self.purpose.dialect().name(),
            model = self.model.as_ref().map(|model| model.config.id.as_str()),
            upstream,
            status = self.status,
            outcome = self.outcome.name(),
            first_byte_ms = self.first_byte.map(ms),
            duration_ms = ms(took),
            input_tokens = usage.input,
            output_tokens = self.metered.map(|metered| metered.output),
            cached_input_tokens = usage.cached_input,
            cache_creation_input_tokens = usage.cache_writing,
            reasoning_tokens = usage.reasoning,
            reserved_tokens = self.reserved,
            queue_wait_ms = ms(self.queue_wait),
            overhead_ms = ms(self.overhead),
            "request"
        );
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let took = self.now().since(self.began);
        let counters = &self.recorder.counters;
        if let Some(metered) = &self.metered {
            counters.used(self.row, &metered.usage, metered.output);
            counters.streamed(self.row, metered.output.saturating_sub(self.streamed));
        }
        counters.ended(self.row, self.outcome, nanos(took));
        if self.recorder.logs {
            match &self.trace {
                Some(trace) => trace.within(&mut || self.log(took)),
                None => self.log(took),
            }
        }
    }
}

/// A client may make up a method.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "(other)",
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// In milliseconds, with microseconds.
#[expect(clippy::cast_precision_loss, reason = "for people and graphs")]
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
