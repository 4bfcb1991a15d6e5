//! Metrics of the gateway, read from its monitor when they are asked for.
//!
//! Labels name models and upstreams of its configuration only. The names that begin with `gen_ai` are those of `OpenTelemetry`'s
//! conventions for clients of generative AI, which a gateway is.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tollgate_gateway::GatewayMonitor;
use tollgate_gateway::monitor::{
    Distribution, ModelTraffic, RequestOutcome, TicketCounts, TokenKind, UpstreamResult,
    UpstreamState, UpstreamView,
};

/// The metrics of the gateway; none before there is one.
#[derive(Debug, Default)]
pub(crate) struct GatewayMetrics(OnceLock<GatewayMonitor>);

impl GatewayMetrics {
    /// Shows this gateway from now on.
    pub(crate) fn show(&self, monitor: GatewayMonitor) {
        // A server has one gateway at most.
        _ = self.0.set(monitor);
    }

    /// The gateway, if there is one.
    pub(crate) fn monitor(&self) -> Option<&GatewayMonitor> {
        self.0.get()
    }
}

impl Collector for GatewayMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(monitor) = self.monitor() else { return Ok(()) };
        let mut to = Encoder(encoder);
        let traffic: Vec<_> = monitor.traffic().collect();
        requests(&mut to, &traffic)?;
        tokens(&mut to, &traffic)?;
        of_operations(&mut to, &traffic)?;
        queue(&mut to, monitor)?;
        let upstreams: Vec<_> = monitor.upstreams().collect();
        state_of_upstreams(&mut to, &upstreams)?;
        requests_to_upstreams(&mut to, &upstreams)
    }
}

struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn metric<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn seconds<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
    }
}

fn add(
    to: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(to.encode_family(labels)?)
}

/// Adds a histogram whose values are `unit` times too large.
#[expect(clippy::cast_precision_loss, reason = "for people and graphs")]
fn add_distribution(
    to: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    distribution: &Distribution,
    unit: f64,
) -> fmt::Result {
    let end = |end: Option<u64>| end.map_or(f64::INFINITY, |end| end as f64 / unit);
    let buckets: Vec<_> =
        distribution.buckets().map(|(upper, count)| (end(upper), count)).collect();
    let (sum, count) = (distribution.sum as f64 / unit, distribution.count());
    to.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

type Measured = fn(&ModelTraffic<'_>) -> Distribution;
type Load = fn(&UpstreamView<'_>) -> u64;

const NANOSECONDS: f64 = 1e9;
const TOKENS: f64 = 1.0;

fn requests(to: &mut Encoder<'_>, traffic: &[ModelTraffic<'_>]) -> fmt::Result {
    let help = "Requests to the gateway that have ended, by model, dialect and outcome";
    let mut metric = to.metric("tollgate_gateway_requests", help, MetricType::Counter)?;
    for same in traffic.chunk_by(is_same_model_and_dialect) {
        for (index, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
            let count: u64 = same.iter().map(|one| one.outcomes[index]).sum();
            if count > 0 {
                let labels = labels(&same[0], "outcome", outcome.name());
                add(&mut metric, &labels, &ConstCounter::new(count))?;
            }
        }
    }
    Ok(())
}

fn tokens(to: &mut Encoder<'_>, traffic: &[ModelTraffic<'_>]) -> fmt::Result {
    let help = "Tokens of the answers that have ended, by model, dialect and kind; input and output are totals, the others parts of \
                them";
    let mut metric = to.metric("tollgate_gateway_tokens", help, MetricType::Counter)?;
    for same in traffic.chunk_by(is_same_model_and_dialect) {
        for (index, kind) in TokenKind::ALL.into_iter().enumerate() {
            let count: u64 = same.iter().map(|one| one.tokens[index]).sum();
            if count > 0 {
                let labels = labels(&same[0], "kind", kind.name());
                add(&mut metric, &labels, &ConstCounter::new(count))?;
            }
        }
    }
    Ok(())
}

fn is_same_model_and_dialect(one: &ModelTraffic<'_>, other: &ModelTraffic<'_>) -> bool {
    one.model == other.model && one.dialect == other.dialect
}

fn labels<'a>(
    of: &ModelTraffic<'a>,
    name: &'static str,
    value: &'static str,
) -> [(&'static str, &'a str); 3] {
    [("dialect", of.dialect.name()), ("model", of.model), (name, value)]
}

/// What the convention measures of each operation. Operations that were never asked for are left out.
fn of_operations(to: &mut Encoder<'_>, traffic: &[ModelTraffic<'_>]) -> fmt::Result {
    let help = "Tokens of requests and answers, as far as upstreams reported them";
    let mut metric = to.metric("gen_ai_client_token_usage", help, MetricType::Histogram)?;
    for one in traffic {
        for (kind, distribution) in [("input", &one.input), ("output", &one.output)] {
            if distribution.count() > 0 {
                let [operation, provider, model] = operation_labels(one);
                let labels = [operation, provider, model, ("gen_ai_token_type", kind)];
                add_distribution(&mut metric, &labels, distribution, TOKENS)?;
            }
        }
    }
    let times: [(&str, &str, Measured); 3] = [
        ("gen_ai_client_operation_duration", "From the arrival of a request to its end", |one| {
            one.duration
        }),
        (
            "gen_ai_client_operation_time_to_first_chunk",
            "From the arrival of a request to the first chunk of its stream",
            |one| one.first_chunk,
        ),
        (
            "gen_ai_client_operation_time_per_output_chunk",
            "Between two chunks of a stream",
            |one| one.per_chunk,
        ),
    ];
    for (name, help, distribution) in times {
        let mut metric = to.seconds(name, help)?;
        for (one, distribution) in traffic.iter().map(|one| (one, distribution(one))) {
            if distribution.count() > 0 {
                add_distribution(&mut metric, &operation_labels(one), &distribution, NANOSECONDS)?;
            }
        }
    }
    Ok(())
}

fn operation_labels<'a>(of: &ModelTraffic<'a>) -> [(&'static str, &'a str); 3] {
    [
        ("gen_ai_operation_name", of.operation),
        ("gen_ai_provider_name", of.dialect.name()),
        ("gen_ai_request_model", of.model),
    ]
}

fn queue(to: &mut Encoder<'_>, monitor: &GatewayMonitor) -> fmt::Result {
    let help = "Requests to the gateway that are being answered";
    let metric = to.metric("tollgate_gateway_requests_in_flight", help, MetricType::Gauge)?;
    gauge(monitor.in_flight()).encode(metric)?;
    let queues: Vec<_> = monitor.queues().collect();
    let help = "Requests that wait for room at an upstream, by priority class";
    let mut metric = to.metric("tollgate_gateway_queue_length", help, MetricType::Gauge)?;
    for queue in &queues {
        let labels = [("class", queue.class.name())];
        add(&mut metric, &labels, &gauge(queue.length as u64))?;
    }
    let help = "How long requests waited for room at an upstream until they got it or were turned away, by priority class";
    let mut metric = to.seconds("tollgate_gateway_queue_wait", help)?;
    for queue in &queues {
        let labels = [("class", queue.class.name())];
        add_distribution(&mut metric, &labels, &queue.waits, NANOSECONDS)?;
    }
    tickets(to, monitor.tickets())
}

fn tickets(to: &mut Encoder<'_>, counts: TicketCounts) -> fmt::Result {
    let help = "Admission tickets: issued to requests that found no place in the queue, used, shown too early, expired, or ignored because \
                they were not valid";
    let mut metric = to.metric("tollgate_gateway_tickets", help, MetricType::Counter)?;
    let TicketCounts { issued, used, early, expired, ignored } = counts;
    let events = [
        ("issued", issued),
        ("used", used),
        ("early", early),
        ("expired", expired),
        ("ignored", ignored),
    ];
    for (event, count) in events {
        add(&mut metric, &[("event", event)], &ConstCounter::new(count))?;
    }
    Ok(())
}

fn state_of_upstreams(to: &mut Encoder<'_>, upstreams: &[UpstreamView<'_>]) -> fmt::Result {
    let help = "1 for the state of the upstream: open and half_open while it fails, limited while its provider limits requests";
    let mut metric = to.metric("tollgate_gateway_upstream_state", help, MetricType::Gauge)?;
    for upstream in upstreams {
        for state in UpstreamState::ALL {
            let labels = [("state", state.name()), ("upstream", upstream.id)];
            add(&mut metric, &labels, &gauge(u64::from(upstream.state == state)))?;
        }
    }
    let gauges: [(&str, &str, Load); 4] = [
        ("requests_in_flight", "Requests in flight at the upstream", |of| {
            of.requests_in_flight.into()
        }),
        ("max_concurrency", "The most requests in flight at the upstream", |of| {
            of.max_concurrency.into()
        }),
        (
            "tokens_in_flight",
            "Tokens that requests in flight at the upstream have reserved",
            |of| of.tokens_in_flight,
        ),
        ("max_tokens_in_flight", "The most tokens in flight at the upstream", |of| {
            of.max_tokens_in_flight
        }),
    ];
    for (name, help, value) in gauges {
        let name = format!("tollgate_gateway_upstream_{name}");
        let mut metric = to.metric(&name, help, MetricType::Gauge)?;
        for upstream in upstreams {
            add(&mut metric, &[("upstream", upstream.id)], &gauge(value(upstream)))?;
        }
    }
    Ok(())
}

fn requests_to_upstreams(to: &mut Encoder<'_>, upstreams: &[UpstreamView<'_>]) -> fmt::Result {
    let help =
        "Requests that were sent to the upstream, by what became of them until the answer began";
    let mut metric = to.metric("tollgate_gateway_upstream_requests", help, MetricType::Counter)?;
    for upstream in upstreams {
        for (result, count) in UpstreamResult::ALL.into_iter().zip(upstream.results) {
            let labels = [("result", result.name()), ("upstream", upstream.id)];
            add(&mut metric, &labels, &ConstCounter::new(count))?;
        }
    }
    let help = "Requests that were tried at another upstream after this one had failed";
    let mut metric = to.metric("tollgate_gateway_retries", help, MetricType::Counter)?;
    for upstream in upstreams {
        let labels = [("upstream", upstream.id)];
        add(&mut metric, &labels, &ConstCounter::new(upstream.retries))?;
    }
    Ok(())
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
