//! The configuration of a gateway: `gateway.yaml`, or the same as JSON or TOML.
//!
//! The file names environment variables for the keys of upstreams, never the keys. All its problems are reported at once,
//! each with its position, its path and what is accepted.

mod authorities;
mod load;
mod reader;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::CertificateDer;

pub use self::load::ConfigError;

/// The most upstreams of a gateway: a set of them fits into 64 bits.
pub const MAX_UPSTREAMS: usize = 64;

/// The most models of a gateway.
pub const MAX_MODELS: usize = 1_000;

/// The configuration of a gateway. A valid one has at least one upstream and one model, and every index is in range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The model servers.
    pub upstreams: Vec<UpstreamConfig>,
    /// The models that clients may name.
    pub models: Vec<ModelConfig>,
    /// Other paths that are forwarded.
    pub pass_through: Vec<PassThrough>,
    /// The bounds of the queue.
    pub queue: QueueConfig,
    /// The most bytes of the body of a request.
    pub max_body_bytes: usize,
    /// The most memory for the bodies of requests that are being received or answered, in bytes.
    pub max_body_memory_bytes: usize,
    /// Whether each request is written to the log when it has ended.
    pub access_log: bool,
}

/// A model server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// Its name in the configuration, in logs and in metrics.
    pub id: String,
    /// Its address, with the path that stands for `/v1`, without a slash at the end.
    pub base_url: Uri,
    /// The authorities that its certificate may be of; `None` for those of this system.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its key.
    pub key: Option<UpstreamKey>,
    /// The most requests in flight.
    pub max_concurrency: u32,
    /// The most tokens in flight: what the requests in flight have reserved, input and output together.
    pub max_tokens_in_flight: u64,
    /// The field that caps the answer of a chat if the client gave none.
    pub cap_field: CapField,
    /// Whether it reports usage in each chunk of a stream if it is asked to, as vLLM does.
    pub continuous_usage: bool,
    /// The most time until its answer begins.
    pub head_timeout: Duration,
    /// The most time between two parts of its answer.
    pub idle_timeout: Duration,
}

/// A model that clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The name that clients use, and under which limits count.
    pub id: String,
    /// The upstreams that have it, as indexes into [`GatewayConfig::upstreams`].
    pub upstreams: Vec<usize>,
    /// Its name there.
    pub upstream_model: String,
    /// The most tokens of an answer. A larger cap of a client is lowered to it.
    pub max_output_tokens: u64,
    /// What an answer reserves at first if the client gives no cap; the rest is asked for while it streams. `None` reserves what
    /// was learned of the answers of the model and tenant.
    pub reserve_output_tokens: Option<u64>,
    /// What an answer is charged that breaks off.
    pub on_abort: OnAbort,
    /// What happens to an answer that needs more than its limits allow.
    pub on_limit: OnLimit,
}

/// A path whose requests are forwarded unchanged. Each is charged as one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassThrough {
    /// The path, below `/v1`.
    pub path: String,
    /// The upstreams, as indexes into [`GatewayConfig::upstreams`].
    pub upstreams: Vec<usize>,
}

/// The bounds of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The most requests that wait.
    pub max_length: usize,
    /// The longest wait.
    pub max_wait: Duration,
    /// After how long a stream that waits begins with comments, which keep its connection open.
    pub comment_after: Option<Duration>,
}

/// The words of a kind of client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's, which most model servers speak.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Dialect {
    /// Its name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// The field that caps the answer of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapField {
    /// `max_tokens`, which every model server knows.
    MaxTokens,
    /// `max_completion_tokens`, which newer models of OpenAI require.
    MaxCompletionTokens,
}

/// What an answer is charged that breaks off without reporting its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnAbort {
    /// What was seen of it.
    Observed,
    /// What it had reserved, or what was seen if that is more.
    Reserved,
}

/// What happens to an answer that has used up what it reserved and gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnLimit {
    /// It ends there, as an answer that has reached its cap.
    Cut,
    /// It goes on, and the rest is charged above the limit.
    Finish,
}

/// The key of an upstream. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamKey(String);

impl UpstreamKey {
    /// `text` as a key.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the request to the upstream.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamKey(…)")
    }
}

#[cfg(test)]
mod tests;
