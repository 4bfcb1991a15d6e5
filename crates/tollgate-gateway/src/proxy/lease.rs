//! The lease of a request: reserved once, kept alive, and settled exactly once, however the request ends.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tollgate_core::{
    Amount, Attribute, Check, Cost, Decision, LeaseUpdate, Quality, Subject, TokenKind, Totals,
    Ttl, Unit,
};
use tollgate_service::{Settlement, Unsettled};
use tollgate_store::{Store, StoreError};

use super::leases::{Leases, OpenLease, Unfinished};
use super::runs_to_end::RunsToEnd;
use crate::config::OnAbort;
use crate::dialect::Usage;
use crate::tracer::RequestTrace;

/// What a lease is reserved for. It has no `Debug`, which would show the API key.
pub(super) struct Wanted {
    pub(super) api_key: String,
    /// The model; `None` for a path that is only forwarded.
    pub(super) model: Option<String>,
    pub(super) input: u64,
    pub(super) output: u64,
    /// The bytes of the input, from which its tokens are learned; 0 if they say nothing about these.
    pub(super) input_bytes: u64,
    pub(super) on_abort: OnAbort,
}

impl Wanted {
    fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty().with(&Attribute::ApiKey, &self.api_key);
        if let Some(model) = &self.model {
            subject.set(&Attribute::Model, model);
        }
        let cost = Cost::one_request()
            .with(Unit::Tokens, amount(self.input.saturating_add(self.output)))
            .with(Unit::InputTokens, amount(self.input))
            .with(Unit::OutputTokens, amount(self.output));
        Check::of(subject).at_cost(cost)
    }
}

/// What a request used in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing: no upstream has worked on it.
    Nothing,
    /// This is all of it.
    Exact { usage: Usage, output: u64 },
    /// The answer broke off after so much.
    Aborted { usage: Usage, output: u64 },
    /// At least so much: the answer is complete, and its usage was not reported.
    AtLeast { usage: Usage, output: u64 },
}

/// The owner of a lease. Dropping it settles the lease: before the request was sent as if it had not been made, afterwards as one
/// whose answer broke off before it began.
pub(super) struct LeaseGuard<S: Store> {
    held: Option<Held<S>>,
}

struct Held<S: Store> {
    leases: Arc<Leases<S>>,
    /// `None` if the decision was made without the store, so that there is nothing to settle.
    open: Option<Arc<OpenLease>>,
    /// Counts the lease as unsettled.
    unfinished: Unfinished,
    reserved_input: u64,
    on_abort: OnAbort,
    is_sent: bool,
    /// The trace of the request, if it is traced.
    trace: Option<Arc<dyn RequestTrace>>,
}

impl<S: Store> fmt::Debug for LeaseGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGuard").field("is_settled", &self.held.is_none()).finish()
    }
}

/// The decision, and the guard of the lease if it was admitted.
type Reserved<S> = Result<(Decision, Option<LeaseGuard<S>>), StoreError>;

/// Reserves `wanted`. If it is denied, there is no guard. A caller that goes away meanwhile leaves nothing behind.
pub(super) fn reserve<S: Store>(leases: &Arc<Leases<S>>, wanted: Wanted) -> RunsToEnd<Reserved<S>> {
    let (leases, unfinished) = (Arc::clone(leases), leases.begin());
    let runtime = leases.runtime().clone();
    let call = async move {
        let (check, bytes) = (wanted.check(), wanted.input_bytes);
        let reservation = leases.service().reserve_for(&check, Ttl::DEFAULT, bytes).await?;
        leases.observer().reserved(&reservation);
        let decision = reservation.decision;
        if !decision.allowed() {
            return Ok((decision, None));
        }
        let open = reservation.lease.map(|lease| leases.opened(lease.id, wanted.input));
        let held = Held {
            leases,
            open,
            unfinished,
            reserved_input: wanted.input,
            on_abort: wanted.on_abort,
            is_sent: false,
            trace: None,
        };
        Ok((decision, Some(LeaseGuard { held: Some(held) })))
    };
    RunsToEnd::new(&runtime, call)
}

impl<S: Store> LeaseGuard<S> {
    /// The request goes to an upstream now, or did not get there.
    pub(super) fn set_sent(&mut self, is_sent: bool) {
        if let Some(held) = &mut self.held {
            held.is_sent = is_sent;
        }
    }

    /// The settlement is traced as part of `trace`, also if it is made after the answer.
    pub(super) fn set_trace(&mut self, trace: Option<Arc<dyn RequestTrace>>) {
        if let Some(held) = &mut self.held {
            held.trace = trace;
        }
    }

    /// What the lease reserved of the input.
    pub(super) fn reserved_input(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.reserved_input)
    }

    /// The answer has so many tokens so far, which the next extension reports.
    pub(super) fn observe(&self, output: u64) {
        if let Some(open) = self.held.as_ref().and_then(|held| held.open.as_ref()) {
            open.observe(output);
        }
    }

    /// Asks for `output` tokens in all. The answer says whether they may be used. If the store does not answer, they may: the
    /// settlement charges them.
    pub(super) fn extend(&self, output: u64) -> Option<RunsToEnd<bool>> {
        let held = self.held.as_ref()?;
        let open = Arc::clone(held.open.as_ref()?);
        let leases = Arc::clone(&held.leases);
        let runtime = leases.runtime().clone();
        let call = async move { leases.extend(&open, Some(output)).await };
        Some(RunsToEnd::new(&runtime, call))
    }

    /// Settles the lease.
    pub(super) fn settle(mut self, outcome: Outcome) -> Option<RunsToEnd<()>> {
        self.held.take().and_then(|held| held.settle(outcome))
    }
}

impl<S: Store> Drop for LeaseGuard<S> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let nothing = Usage::default();
            let outcome = if held.is_sent {
                Outcome::Aborted { usage: nothing, output: 0 }
            } else {
                Outcome::Nothing
            };
            // Runs as a task.
            drop(held.settle(outcome));
        }
    }
}

impl<S: Store> Held<S> {
    fn settle(self, outcome: Outcome) -> Option<RunsToEnd<()>> {
        let Self { leases, open, unfinished, reserved_input, on_abort, trace, .. } = self;
        let open = open?;
        leases.closed(&open);
        let (usage, quality) = totals(outcome, reserved_input, on_abort);
        let runtime = leases.runtime().clone();
        let call = async move {
            let seq = open.next_seq();
            let settlement = Settlement { lease: open.id().clone(), seq, usage, quality };
            match leases.service().settle(&settlement).await {
                Ok(state) => leases.observer().updated(&settlement.to_update(), state.as_ref()),
                Err(unsettled) => failed(&leases, &unsettled),
            }
            drop(unfinished);
        };
        Some(match trace {
            Some(trace) => RunsToEnd::new(&runtime, within(trace, call)),
            None => RunsToEnd::new(&runtime, call),
        })
    }
}

/// `call`, whose spans are of `trace`.
async fn within(trace: Arc<dyn RequestTrace>, call: impl Future<Output = ()>) {
    let mut call = pin!(call);
    poll_fn(|context| {
        let mut polled = Poll::Pending;
        trace.within(&mut || polled = call.as_mut().poll(context));
        polled
    })
    .await;
}

fn failed<S: Store>(leases: &Leases<S>, unsettled: &Unsettled) {
    tracing::debug!(error = %unsettled.error, "the store did not answer a settlement");
    leases.observer().unsettled(unsettled);
}

/// What is charged for `outcome`.
fn totals(outcome: Outcome, reserved_input: u64, on_abort: OnAbort) -> (Totals, Quality) {
    let (usage, output, quality) = match outcome {
        Outcome::Nothing => {
            let zero = [Unit::Requests, Unit::Tokens, Unit::InputTokens, Unit::OutputTokens];
            let none = |totals: Totals, unit| totals.with(unit, Amount::ZERO);
            return (zero.into_iter().fold(Totals::none(), none), Quality::Exact);
        }
        Outcome::Exact { usage, output } => (usage, output, Quality::Exact),
        Outcome::AtLeast { usage, output } => (usage, output, Quality::LowerBound),
        Outcome::Aborted { usage, output } => match on_abort {
            OnAbort::Observed => (usage, output, Quality::Exact),
            OnAbort::Reserved => (usage, output, Quality::LowerBound),
        },
    };
    let input = usage.input.unwrap_or(reserved_input);
    let mut totals = Totals::none()
        .with(Unit::Requests, Amount::ONE)
        .with(Unit::Tokens, amount(input.saturating_add(output)))
        .with(Unit::InputTokens, amount(input))
        .with(Unit::OutputTokens, amount(output));
    let kinds = [
        (TokenKind::CachedInput, usage.cached_input),
        (TokenKind::CacheCreationInput, usage.cache_writing),
        (TokenKind::Reasoning, usage.reasoning),
    ];
    for (kind, tokens) in kinds {
        if let Some(tokens) = tokens {
            totals.set(kind.unit(), amount(tokens));
        }
    }
    (totals, quality)
}

/// The update that keeps a lease alive, reports what was `observed` and asks for what is `wanted`, in tokens of the answer.
pub(super) fn extension(
    seq: Amount,
    reserved_input: u64,
    observed: u64,
    wanted: Option<u64>,
) -> LeaseUpdate {
    let totals = |output: u64| {
        Totals::none()
            .with(Unit::Tokens, amount(reserved_input.saturating_add(output)))
            .with(Unit::InputTokens, amount(reserved_input))
            .with(Unit::OutputTokens, amount(output))
    };
    let wanted = wanted.map(totals).unwrap_or_default();
    LeaseUpdate::Extend { seq, ttl: None, observed: totals(observed), wanted }
}

/// An amount that is too large counts as the largest.
pub(super) fn amount(count: u64) -> Amount {
    Amount::new(count).unwrap_or(Amount::MAX)
}

/// The sequence numbers of the updates of a lease.
#[derive(Debug)]
pub(super) struct Sequence(AtomicU64);

impl Sequence {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn next(&self) -> Amount {
        // Relaxed: only that no two are equal matters.
        amount(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(outcome: Outcome, on_abort: OnAbort) -> ([Option<u64>; 4], Quality) {
        let (totals, quality) = totals(outcome, 10, on_abort);
        let of = |unit| totals.of(&unit).map(Amount::get);
        let units = [Unit::Requests, Unit::Tokens, Unit::InputTokens, Unit::OutputTokens];
        (units.map(of), quality)
    }

    #[test]
    fn each_outcome_has_its_charge() {
        use OnAbort::{Observed, Reserved};
        let usage = Usage { input: Some(7), ..Usage::default() };
        let unknown = Usage::default();
        let cases = [
            (Outcome::Nothing, Reserved, [0, 0, 0, 0], Quality::Exact),
            (Outcome::Exact { usage, output: 5 }, Reserved, [1, 12, 7, 5], Quality::Exact),
            (
                Outcome::Exact { usage: unknown, output: 5 },
                Reserved,
                [1, 15, 10, 5],
                Quality::Exact,
            ),
            (Outcome::AtLeast { usage, output: 5 }, Observed, [1, 12, 7, 5], Quality::LowerBound),
            (Outcome::Aborted { usage, output: 5 }, Observed, [1, 12, 7, 5], Quality::Exact),
            (Outcome::Aborted { usage, output: 5 }, Reserved, [1, 12, 7, 5], Quality::LowerBound),
        ];
        for (outcome, on_abort, expected, quality) in cases {
            assert_eq!(charged(outcome, on_abort), (expected.map(Some), quality), "{outcome:?}");
        }
    }

    #[test]
    fn kinds_of_tokens_are_counted_if_they_are_reported() {
        let usage = Usage { cached_input: Some(3), reasoning: Some(2), ..Usage::default() };
        let (totals, _) = totals(Outcome::Exact { usage, output: 5 }, 10, OnAbort::Reserved);
        let of = |kind: TokenKind| totals.of(&kind.unit()).map(Amount::get);
        let kinds = [TokenKind::CachedInput, TokenKind::Reasoning, TokenKind::CacheCreationInput];
        assert_eq!(kinds.map(of), [Some(3), Some(2), None]);
    }
}
