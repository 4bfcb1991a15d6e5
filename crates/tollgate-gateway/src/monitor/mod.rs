//! What people who operate a gateway see of it: counts, the queue, and the state of its upstreams.
//!
//! Nothing here names a user, a key, a tenant or an address: everything is counted by what the configuration names. Whoever reads
//! it formats it; this crate knows no format of metrics.

mod counters;
mod histogram;
mod outcome;

use std::sync::Arc;

use tollgate_core::PriorityClass;

pub(crate) use self::counters::{Counters, Purpose, RowIndex};
pub use self::histogram::Distribution;
pub use self::outcome::RequestOutcome;
use crate::admission::Admission;
pub use crate::admission::TicketCounts;
use crate::config::{Dialect, GatewayConfig};
use crate::dialect::Usage;
use crate::upstream::{UpstreamFailure, Upstreams};

/// The label of the models beyond those that have counters of their own.
const OTHER_MODELS: &str = "(other)";
/// The label of requests that name no model of the configuration.
const NO_MODEL: &str = "(none)";

/// A kind of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// All tokens of prompts.
    Input,
    /// All tokens of answers.
    Output,
    /// Tokens of prompts that were read from a cache.
    CachedInput,
    /// Tokens of prompts that were written to a cache.
    CacheCreationInput,
    /// Tokens of answers that are reasoning.
    Reasoning,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Input, Self::Output, Self::CachedInput, Self::CacheCreationInput, Self::Reasoning];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CachedInput => "cached_input",
            Self::CacheCreationInput => "cache_creation_input",
            Self::Reasoning => "reasoning",
        }
    }

    fn of(self, usage: &Usage) -> Option<u64> {
        match self {
            Self::Input => usage.input,
            Self::Output => usage.output,
            Self::CachedInput => usage.cached_input,
            Self::CacheCreationInput => usage.cache_writing,
            Self::Reasoning => usage.reasoning,
        }
    }
}

/// What became of a request at an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamResult {
    /// Its answer began.
    Answered,
    /// It could not be reached, or closed the connection.
    Unreachable,
    /// TLS with it failed, most often because its certificate is not trusted.
    Tls,
    /// Its answer did not begin in time.
    Timeout,
    /// It says that it is overloaded or broken, or does not accept its key.
    Refused,
    /// Its provider limits requests.
    Limited,
}

impl UpstreamResult {
    /// Every result.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Unreachable, Self::Tls, Self::Timeout, Self::Refused, Self::Limited];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Limited => "limited",
        }
    }

    pub(crate) const fn of(failure: UpstreamFailure) -> Self {
        match failure {
            UpstreamFailure::Unreachable => Self::Unreachable,
            UpstreamFailure::Tls => Self::Tls,
            UpstreamFailure::Timeout => Self::Timeout,
            UpstreamFailure::Status(_) => Self::Refused,
            UpstreamFailure::Limited { .. } => Self::Limited,
        }
    }
}

/// Whether an upstream gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// It does.
    Available,
    /// It fails. It gets none until the next probe.
    Open,
    /// It has failed. The next request, or the one that is under way, finds out whether it works again.
    HalfOpen,
    /// Its provider limits requests. It gets none until then.
    Limited,
}

impl UpstreamState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Available, Self::Open, Self::HalfOpen, Self::Limited];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Limited => "limited",
        }
    }

    /// Whether it is known to give answers.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Available)
    }
}

/// Shows a running gateway. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayMonitor {
    inner: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    upstreams: Arc<Upstreams>,
    models: Vec<WatchedModel>,
}

#[derive(Debug)]
struct WatchedModel {
    id: String,
    upstreams: Vec<usize>,
}

/// What was counted for one model, operation and dialect.
#[derive(Clone, Debug)]
pub struct ModelTraffic<'a> {
    /// The model, `(other)` or `(none)`.
    pub model: &'a str,
    /// Whether the requests were for a model of the configuration.
    pub is_of_a_model: bool,
    /// The dialect of the clients.
    pub dialect: Dialect,
    /// What the conventions of `OpenTelemetry` call the operation.
    pub operation: &'static str,
    /// The requests that have ended, by outcome, in the order of [`RequestOutcome::ALL`].
    pub outcomes: [u64; RequestOutcome::ALL.len()],
    /// The tokens that were used, by kind, in the order of [`TokenKind::ALL`].
    pub tokens: [u64; TokenKind::ALL.len()],
    /// The tokens of answers so far, running answers included: as they were counted while they passed.
    pub output_so_far: u64,
    /// From the arrival of a request to its end.
    pub duration: Distribution,
    /// From the arrival of a request to the first chunk of its stream.
    pub first_chunk: Distribution,
    /// Between two chunks of a stream.
    pub per_chunk: Distribution,
    /// The tokens of prompts, as far as upstreams reported them.
    pub input: Distribution,
    /// The tokens of answers, as far as upstreams reported them.
    pub output: Distribution,
}

/// The state of an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamView<'a> {
    /// Its name.
    pub id: &'a str,
    /// What it speaks.
    pub dialect: Dialect,
    /// Whether it gets requests.
    pub state: UpstreamState,
    /// The requests in flight.
    pub requests_in_flight: u32,
    /// What they have reserved, in tokens.
    pub tokens_in_flight: u64,
    /// The most requests in flight.
    pub max_concurrency: u32,
    /// The most tokens in flight.
    pub max_tokens_in_flight: u64,
    /// The requests that were sent, by result, in the order of [`UpstreamResult::ALL`].
    pub results: [u64; UpstreamResult::ALL.len()],
    /// The requests that were tried elsewhere after this one had failed.
    pub retries: u64,
}

/// The queue of one class.
#[derive(Clone, Copy, Debug)]
pub struct QueueView {
    /// The class.
    pub class: PriorityClass,
    /// The requests that wait.
    pub length: usize,
    /// How long those have waited that got room or were turned away.
    pub waits: Distribution,
}

impl GatewayMonitor {
    pub(crate) fn new(
        config: &GatewayConfig,
        admission: Arc<Admission>,
        upstreams: Arc<Upstreams>,
    ) -> Self {
        let counters = Counters::new(config.models.len(), config.upstreams.len());
        let models = config
            .models
            .iter()
            .map(|model| WatchedModel { id: model.id.clone(), upstreams: model.upstreams.clone() });
        let models = models.collect();
        let counters = Arc::new(counters);
        Self { inner: Arc::new(Watched { counters, admission, upstreams, models }) }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// What was counted, by model and purpose. Rows that no request can have are left out.
    pub fn traffic(&self) -> impl Iterator<Item = ModelTraffic<'_>> {
        let counters = &self.inner.counters;
        let labelled = counters.labelled();
        let has_others = self.inner.models.len() > labelled;
        let places = (0..labelled + 2).filter(move |place| *place != labelled || has_others);
        places.flat_map(move |place| {
            let model = match place.checked_sub(labelled) {
                None => self.inner.models[place].id.as_str(),
                Some(0) => OTHER_MODELS,
                Some(_) => NO_MODEL,
            };
            counters.rows_of(place).map(move |(purpose, row)| ModelTraffic {
                model,
                is_of_a_model: place <= labelled,
                dialect: purpose.dialect(),
                operation: purpose.operation(),
                outcomes: row.outcomes(),
                tokens: row.tokens(),
                output_so_far: row.streamed(),
                duration: row.duration.read(),
                first_chunk: row.first_chunk.read(),
                per_chunk: row.per_chunk.read(),
                input: row.input.read(),
                output: row.output.read(),
            })
        })
    }

    /// The upstreams, in the order of the configuration.
    pub fn upstreams(&self) -> impl Iterator<Item = UpstreamView<'_>> {
        let Watched { counters, admission, upstreams, .. } = &*self.inner;
        (0..upstreams.len()).map(move |index| {
            let config = upstreams.config(index);
            let (requests_in_flight, tokens_in_flight) = admission.in_flight(index);
            let row = counters.upstream(index);
            UpstreamView {
                id: &config.id,
                dialect: config.dialect,
                state: upstreams.state(index),
                requests_in_flight,
                tokens_in_flight,
                max_concurrency: config.max_concurrency,
                max_tokens_in_flight: config.max_tokens_in_flight,
                results: row.map_or_else(Default::default, counters::UpstreamRow::results),
                retries: row.map_or(0, counters::UpstreamRow::retries),
            }
        })
    }

    /// The queue by class, the highest first.
    pub fn queues(&self) -> impl Iterator<Item = QueueView> {
        let lengths = self.inner.admission.waiting_by_class();
        PriorityClass::ALL.into_iter().rev().map(move |class| QueueView {
            class,
            length: lengths[class.index()],
            waits: self.inner.counters.queue_wait(class).read(),
        })
    }

    /// What has happened to admission tickets.
    pub fn tickets(&self) -> TicketCounts {
        self.inner.admission.ticket_counts()
    }

    /// The requests that are being answered.
    pub fn in_flight(&self) -> u64 {
        self.inner.counters.in_flight()
    }

    /// The models that have no usable upstream: each of theirs fails or is limited by its provider.
    pub fn models_without_upstream(&self) -> Vec<&str> {
        let Watched { upstreams, models, .. } = &*self.inner;
        let is_usable: Vec<_> =
            (0..upstreams.len()).map(|index| upstreams.state(index).is_usable()).collect();
        let is_stranded =
            |model: &&WatchedModel| !model.upstreams.iter().any(|index| is_usable[*index]);
        models.iter().filter(is_stranded).map(|model| model.id.as_str()).collect()
    }
}
