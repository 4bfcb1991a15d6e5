//! What is counted. All counters are made at the start, so counting takes no lock and no memory.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::PriorityClass;

use super::histogram::Histogram;
use super::{RequestOutcome, TokenKind, UpstreamResult};
use crate::dialect::{Dialect, Endpoint, Usage};

/// The most models with counters of their own; the others are counted together.
pub(super) const MAX_LABELLED_MODELS: usize = 50;

/// What a request asks for. Requests are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For a model.
    Endpoint(Endpoint),
    /// Something else, by a client of this dialect.
    Other(Dialect),
}

impl Purpose {
    /// Every purpose.
    pub(super) const ALL: [Self; Endpoint::ALL.len() + 2] = [
        Self::Endpoint(Endpoint::Chat),
        Self::Endpoint(Endpoint::Completions),
        Self::Endpoint(Endpoint::Responses),
        Self::Endpoint(Endpoint::Embeddings),
        Self::Endpoint(Endpoint::Messages),
        Self::Endpoint(Endpoint::CountTokens),
        Self::Other(Dialect::OpenAi),
        Self::Other(Dialect::Anthropic),
    ];

    /// The dialect of the client.
    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Endpoint(endpoint) => endpoint.dialect(),
            Self::Other(dialect) => dialect,
        }
    }

    /// What the conventions of `OpenTelemetry` call the operation.
    pub(super) const fn operation(self) -> &'static str {
        match self {
            Self::Endpoint(Endpoint::Chat | Endpoint::Responses | Endpoint::Messages) => "chat",
            Self::Endpoint(Endpoint::Completions) => "text_completion",
            Self::Endpoint(Endpoint::Embeddings) => "embeddings",
            Self::Endpoint(Endpoint::CountTokens) => "count_tokens",
            Self::Other(_) => "other",
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|known| *known == self).unwrap_or(0)
    }
}

/// The counters of one model and one purpose.
#[derive(Debug)]
pub(super) struct Row {
    outcomes: [AtomicU64; RequestOutcome::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) first_chunk: Histogram,
    pub(super) per_chunk: Histogram,
    pub(super) input: Histogram,
    pub(super) output: Histogram,
    tokens: [AtomicU64; TokenKind::ALL.len()],
    streamed: AtomicU64,
}

// Relaxed throughout: each is a count by itself.
impl Row {
    fn new() -> Self {
        Self {
            outcomes: Default::default(),
            duration: Histogram::of_durations(),
            first_chunk: Histogram::of_durations(),
            per_chunk: Histogram::of_durations(),
            input: Histogram::of_tokens(),
            output: Histogram::of_tokens(),
            tokens: Default::default(),
            streamed: AtomicU64::new(0),
        }
    }

    pub(super) fn outcomes(&self) -> [u64; RequestOutcome::ALL.len()] {
        self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn tokens(&self) -> [u64; TokenKind::ALL.len()] {
        self.tokens.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn streamed(&self) -> u64 {
        self.streamed.load(Ordering::Relaxed)
    }
}

/// The counters of one upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamRow {
    results: [AtomicU64; UpstreamResult::ALL.len()],
    retries: AtomicU64,
}

impl UpstreamRow {
    pub(super) fn results(&self) -> [u64; UpstreamResult::ALL.len()] {
        self.results.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

/// A row of [`Counters`]: a model and a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowIndex(usize);

/// The counters of a gateway.
#[derive(Debug)]
pub(crate) struct Counters {
    /// For each model that is labelled, and then for the others and for none, one row for each purpose.
    rows: Box<[Row]>,
    labelled: usize,
    upstreams: Box<[UpstreamRow]>,
    queue_waits: [Histogram; PriorityClass::ALL.len()],
    in_flight: AtomicU64,
}

impl Counters {
    pub(super) fn new(models: usize, upstreams: usize) -> Self {
        let labelled = models.min(MAX_LABELLED_MODELS);
        Self {
            rows: (0..(labelled + 2) * Purpose::ALL.len()).map(|_| Row::new()).collect(),
            labelled,
            upstreams: (0..upstreams).map(|_| UpstreamRow::default()).collect(),
            queue_waits: std::array::from_fn(|_| Histogram::of_durations()),
            in_flight: AtomicU64::new(0),
        }
    }

    /// How many models are labelled; the place after them is of the others, and the next one of none.
    pub(super) fn labelled(&self) -> usize {
        self.labelled
    }

    /// The row of the model at the place `model` of the configuration, or of no model.
    pub(crate) fn row_index(&self, model: Option<usize>, purpose: Purpose) -> RowIndex {
        let place = model.map_or(self.labelled + 1, |model| model.min(self.labelled));
        RowIndex(place * Purpose::ALL.len() + purpose.index())
    }

    /// The rows of the place `place`, by purpose.
    pub(super) fn rows_of(&self, place: usize) -> impl Iterator<Item = (Purpose, &Row)> {
        let rows = self.rows.chunks(Purpose::ALL.len()).nth(place).unwrap_or_default();
        Purpose::ALL.into_iter().zip(rows)
    }

    pub(super) fn upstream(&self, index: usize) -> Option<&UpstreamRow> {
        self.upstreams.get(index)
    }

    pub(super) fn queue_wait(&self, class: PriorityClass) -> &Histogram {
        &self.queue_waits[class.index()]
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request has arrived.
    pub(crate) fn began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has ended after `ns`.
    pub(crate) fn ended(&self, row: RowIndex, outcome: RequestOutcome, ns: u64) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let row = &self.rows[row.0];
        row.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        row.duration.observe(ns);
    }

    /// The first chunk of a stream has passed `ns` after the request arrived.
    pub(crate) fn first_chunk(&self, row: RowIndex, ns: u64) {
        self.rows[row.0].first_chunk.observe(ns);
    }

    /// A chunk of a stream has passed, `ns` after the one before.
    #[inline]
    pub(crate) fn chunk(&self, row: RowIndex, ns: u64) {
        self.rows[row.0].per_chunk.observe(ns);
    }

    /// So many tokens of answers have passed since the last time.
    #[inline]
    pub(crate) fn streamed(&self, row: RowIndex, tokens: u64) {
        self.rows[row.0].streamed.fetch_add(tokens, Ordering::Relaxed);
    }

    /// An answer has used `usage` by the count of its upstream, and `output` tokens in any case. What the upstream did not report
    /// is not in the histograms.
    pub(crate) fn used(&self, row: RowIndex, usage: &Usage, output: u64) {
        let row = &self.rows[row.0];
        for (kind, count) in TokenKind::ALL.into_iter().zip(&row.tokens) {
            let tokens = if kind == TokenKind::Output { Some(output) } else { kind.of(usage) };
            count.fetch_add(tokens.unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(input) = usage.input {
            row.input.observe(input);
        }
        if let Some(output) = usage.output {
            row.output.observe(output);
        }
    }

    /// A request of `class` has waited `ns` for room at an upstream.
    pub(crate) fn queued(&self, class: PriorityClass, ns: u64) {
        self.queue_waits[class.index()].observe(ns);
    }

    /// A request was sent to an upstream.
    pub(crate) fn sent(&self, upstream: usize, result: UpstreamResult) {
        if let Some(row) = self.upstreams.get(upstream) {
            row.results[result as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is tried elsewhere, because this upstream has failed.
    pub(crate) fn retried(&self, failed: usize) {
        if let Some(row) = self.upstreams.get(failed) {
            row.retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}
