//! Traces and metrics for `OpenTelemetry` collectors, sent over OTLP: protobuf in HTTP requests.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`](OtlpConfig) | what is sent, and where to |
//! | `request` | the trace of one request: whether it is sampled, and what runs within it |
//! | `encoded_span` | a span, as bytes of its message |
//! | `use_case`, `store`, `upstream` | the spans within a request |
//! | `queue`, `exporter`, `sender` | carry spans to the collector, in batches, without making a request wait |
//! | `openmetrics` | the metrics of `/metrics` as metrics of OTLP |
//!
//! A request that is not sampled costs a random number and a comparison. A collector that does not answer costs memory for a
//! bounded number of spans. No span holds a user, an API key, an address of a client, a prompt or an answer.

mod attributes;
mod config;
mod encoded_span;
mod exporter;
mod openmetrics;
mod queue;
mod request;
mod sampling;
mod sender;
mod store;
mod upstream;
mod use_case;

pub use config::{OtlpConfig, Sampling};
pub use exporter::{MetricsSource, Otlp, OtlpStats};
pub use request::{InTrace, RequestTrace, ServerSpan, current_trace_id};
pub use sender::OtlpError;
pub use store::{DatabaseName, TracedStore};
