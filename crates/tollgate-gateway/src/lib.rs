//! The gateway: a reverse proxy in front of model servers that speaks the dialects of OpenAI and Anthropic.
//!
//! For each request it reserves one lease, waits for a free upstream, forwards, meters the answer while it passes, and settles
//! the lease when the answer ends, however it ends (`docs/decisions/0016`).
//!
//! | module | what it does | I/O |
//! |---|---|---|
//! | [`config`] | reads and validates `gateway.yaml` | reads the file |
//! | [`dialect`] | parses, rewrites and meters requests and answers; writes errors | none |
//! | [`admission`] | decides which waiting request goes to which upstream next | none; its wrapper waits |
//! | [`upstream`] | connections to model servers, and a circuit breaker for each | the network |
//! | [`monitor`] | what operators see: counts, the queue, the state of the upstreams | none |
//! | [`proxy`] | joins these to one answer per request | none of its own |
//! | [`tracer`] | where requests and what they ask of upstreams begin and end, for distributed traces | none |
//!
//! This crate knows HTTP, but neither the server that accepts its connections nor the store behind its leases. Prompts and
//! answers are never logged or kept.

pub mod admission;
pub mod config;
pub mod dialect;
#[cfg(feature = "mock-model")]
pub mod mock_model;
pub mod monitor;
pub mod proxy;
pub mod tracer;
pub mod upstream;

pub use monitor::GatewayMonitor;
pub use proxy::{Gateway, GatewayBody, GatewayError, LeaseObserver, NoObserver};
