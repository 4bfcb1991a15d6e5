//! What memcached keeps of one key, and the decisions over it. No I/O and no clock: a decision that could not be stored,
//! because another node stored first, is made again from what that node stored.

use std::time::Duration;

use tollgate_core::counting::slots::{self, Slots};
use tollgate_core::counting::{Tallied, Tally, UsageShape, Verdict};
use tollgate_core::{Amount, Limit, Mode, Timestamp};

use crate::key::RequestDigest;
use crate::log::{AdmissionLog, Entry, time_of};

/// The most request ids that a key remembers; a new one replaces the oldest.
pub(crate) const MAX_REQUEST_IDS: usize = 1_000;

/// The usage of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Nothing was admitted, or it was cleared.
    #[default]
    None,
    /// Every admission.
    Log(AdmissionLog),
    /// A few numbers.
    Tally(Tally),
}

/// What memcached keeps of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyState {
    /// The latest time at which it was changed. The time of a decision is never earlier, by whichever node's clock it
    /// was (R7).
    pub(crate) latest: Timestamp,
    /// When it may be forgotten.
    pub(crate) idle_at: Timestamp,
    pub(crate) usage: Usage,
    /// The checks with a request id that were admitted, or denied and recorded, the oldest first.
    pub(crate) once: Vec<OnceRecord>,
}

/// The first answer to a check with a request id (R12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnceRecord {
    pub(crate) request: RequestDigest,
    pub(crate) expires_at: Timestamp,
    pub(crate) verdict: Verdict,
    /// The verdict if the check was denied although this limit admitted it, and recorded its cost.
    pub(crate) recorded: Option<Verdict>,
}

/// What a check charges to one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) limit: &'a Limit,
    pub(crate) cost: Amount,
    /// Whether its cost is recorded even if it is denied (R19).
    pub(crate) is_recorded_if_denied: bool,
    /// Whether another limit has denied it already.
    pub(crate) is_denied: bool,
    /// The check, if it has a request id, and for how long that is remembered.
    pub(crate) request: Option<(RequestDigest, Duration)>,
}

/// The answer of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The verdict before anything was charged.
    pub(crate) before: Verdict,
    /// The verdict if the check is admitted.
    pub(crate) after: Verdict,
    /// The verdict if it is denied, after its cost was recorded (R19); `None` if it is not recorded.
    pub(crate) recorded: Option<Verdict>,
    /// What is to be refunded if it is denied.
    pub(crate) receipt: Option<Receipt>,
    /// Whether the request id was remembered just now.
    pub(crate) is_remembered: bool,
}

impl Answer {
    /// The answer of a key to which nothing was charged.
    pub(crate) fn of(verdict: Verdict) -> Self {
        Self {
            before: verdict,
            after: verdict,
            recorded: None,
            receipt: None,
            is_remembered: false,
        }
    }
}

/// Names what was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// An admission of a log.
    Entry(Entry),
    /// What was added to a tally: the time, the usage right after, and the cost.
    Tally { at: Timestamp, used_then: u64, cost: Amount },
}

impl Receipt {
    /// Whether a refund may be repeated: it finds this admission once, and never another.
    pub(crate) fn may_be_repeated(&self) -> bool {
        matches!(self, Self::Entry(_))
    }
}

/// Nobody holds a slot: this store keeps no leases.
struct NoSlots;

impl Slots for NoSlots {
    fn held(&self) -> u64 {
        0
    }

    fn expire_at(&self, _: u64) -> Timestamp {
        Timestamp::from_ns(0)
    }
}

/// Whether the answer to a check with a request id is remembered: a denial by an enforced limit is decided again, unless it was
/// recorded.
fn is_remembered(asked: &Asked<'_>, answer: &Answer) -> bool {
    answer.before.allowed || asked.limit.mode() != Mode::Enforce || answer.recorded.is_some()
}

impl KeyState {
    /// The time of a decision at `now` by this node's clock.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        now.max(self.latest)
    }

    /// Whether nothing of it matters, so that it need not be kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.usage == Usage::None && self.once.is_empty()
    }

    /// How much memory it takes, in entries of a log.
    pub(crate) fn weight(&self) -> usize {
        let entries = match &self.usage {
            Usage::Log(log) => log.entries.len(),
            _ => 0,
        };
        entries + 4 * self.once.len() + 4
    }

    /// The verdict on `asked` at `now`; changes nothing.
    pub(crate) fn evaluate(&self, limit: &Limit, now: Timestamp, cost: Amount) -> Verdict {
        let now = self.time(now);
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = time_of(window, now);
                match &self.usage {
                    Usage::Log(log) => log.evaluate(limit.amount(), &time, cost),
                    _ => AdmissionLog::default().evaluate(limit.amount(), &time, cost),
                }
            }
            UsageShape::Tally(tallied) => {
                tallied.decide(self.tally(tallied, now).0, limit.amount(), now, cost).0
            }
            UsageShape::Slots => slots::evaluate(&NoSlots, limit.amount(), now),
        }
    }

    /// The tally, and whether it differs from what is kept because the limit has changed.
    fn tally(&self, tallied: Tallied, now: Timestamp) -> (Option<Tally>, bool) {
        let Usage::Tally(kept) = self.usage else { return (None, false) };
        match tallied.changed(kept, now) {
            Some(changed) => (Some(changed), true),
            None => (Some(kept), false),
        }
    }

    /// Whether a denial by this state is only correct once the state is stored: the limit has changed.
    pub(crate) fn must_store_denial(&self, limit: &Limit, now: Timestamp) -> bool {
        let now = self.time(now);
        match limit.counting().usage_shape() {
            UsageShape::Tally(tallied) => self.tally(tallied, now).1,
            UsageShape::Log { window } => match &self.usage {
                Usage::Log(log) => log.idle_at(window) > self.idle_at,
                _ => false,
            },
            UsageShape::Slots => false,
        }
    }

    /// Decides `asked` at `now` and charges it if it is admitted; returns whether anything was changed.
    pub(crate) fn charge(&mut self, asked: &Asked<'_>, now: Timestamp) -> (Answer, bool) {
        let now = self.time(now);
        if let Some((request, _)) = asked.request {
            let live = |one: &&OnceRecord| one.request == request && one.expires_at > now;
            if let Some(first) = self.once.iter().find(live) {
                let recorded = first.recorded.or((!first.verdict.allowed).then_some(first.verdict));
                return (Answer { recorded, ..Answer::of(first.verdict) }, false);
            }
        }
        let mut changed = self.follow(asked.limit, now);
        let mut answer = Answer::of(self.evaluate(asked.limit, now, asked.cost));
        if answer.before.allowed && !asked.is_denied {
            if let Some((after, receipt)) = self.admit(asked.limit, now, asked.cost) {
                (answer.after, answer.receipt) = (after, Some(receipt));
                changed = true;
            }
        } else if asked.is_recorded_if_denied {
            changed |= self.record_denied(asked.limit, now, asked.cost);
        }
        // What was admitted may be more than what is recorded of a denied check.
        let most = asked.limit.most_recorded().get();
        if asked.is_recorded_if_denied && answer.after.usage <= most {
            let again = self.evaluate(asked.limit, now, asked.cost);
            answer.recorded = Some(Verdict { allowed: answer.before.allowed, ..again });
        }
        if let Some((request, life)) = asked.request
            && is_remembered(asked, &answer)
        {
            self.remember(&answer, request, now, life);
            (answer.is_remembered, changed) = (true, true);
        }
        if changed {
            self.keep(asked.limit, now);
        }
        (answer, changed)
    }

    fn remember(
        &mut self,
        answer: &Answer,
        request: RequestDigest,
        now: Timestamp,
        life: Duration,
    ) {
        self.once.retain(|one| one.expires_at > now && one.request != request);
        if self.once.len() >= MAX_REQUEST_IDS {
            self.once.remove(0);
        }
        let allowed = answer.before.allowed;
        let (verdict, recorded) = match answer.recorded {
            Some(recorded) if !allowed => (recorded, None),
            recorded => (answer.after, recorded),
        };
        let expires_at = now.after(life);
        self.once.push(OnceRecord { request, expires_at, verdict, recorded });
        self.idle_at = self.idle_at.max(expires_at);
    }

    /// Adapts the usage to a limit that has changed; returns whether that changes anything.
    fn follow(&mut self, limit: &Limit, now: Timestamp) -> bool {
        let must_store = self.must_store_denial(limit, now);
        if let UsageShape::Tally(tallied) = limit.counting().usage_shape()
            && let (Some(tally), true) = self.tally(tallied, now)
        {
            self.usage = Usage::Tally(tally);
        }
        must_store
    }

    /// Charges `cost`, for which there is room; `None` if it charges nothing.
    fn admit(&mut self, limit: &Limit, now: Timestamp, cost: Amount) -> Option<(Verdict, Receipt)> {
        self.charge_within(limit, limit.amount(), now, cost)
    }

    /// Charges `cost` if there is room for it in `amount`; `None` if not, or if it charges nothing.
    fn charge_within(
        &mut self,
        limit: &Limit,
        amount: Amount,
        now: Timestamp,
        cost: Amount,
    ) -> Option<(Verdict, Receipt)> {
        match limit.counting().usage_shape() {
            UsageShape::Log { window } => {
                let time = time_of(window, now);
                if !matches!(self.usage, Usage::Log(_)) && cost != Amount::ZERO {
                    self.usage = Usage::Log(AdmissionLog::new(now));
                }
                let Usage::Log(log) = &mut self.usage else { return None };
                let verdict = log.evaluate(amount, &time, cost);
                if !verdict.allowed || cost == Amount::ZERO {
                    return None;
                }
                let entry = log.record(&time, cost);
                let after = tollgate_core::counting::log::admitted(verdict, &time, cost);
                Some((after, Receipt::Entry(entry)))
            }
            UsageShape::Tally(tallied) => {
                let kept = self.tally(tallied, now).0;
                let (after, tally) = tallied.decide(kept, amount, now, cost).1?;
                self.usage = Usage::Tally(tally);
                Some((after, Receipt::Tally { at: now, used_then: after.usage, cost }))
            }
            UsageShape::Slots => None,
        }
    }

    /// Records the cost of a denied check (R19), unless there is no room for it below the most that is recorded.
    fn record_denied(&mut self, limit: &Limit, now: Timestamp, cost: Amount) -> bool {
        let before = self.usage.clone();
        let recorded = self.charge_within(limit, limit.most_recorded(), now, cost).is_some();
        if !recorded {
            self.usage = before;
        }
        recorded
    }

    /// Notes that it was changed at `now`, and for how long it is kept.
    fn keep(&mut self, limit: &Limit, now: Timestamp) {
        self.latest = now;
        self.once.retain(|one| one.expires_at > now);
        let idle_at = match (&self.usage, limit.counting().usage_shape()) {
            (Usage::Log(log), UsageShape::Log { window }) => log.idle_at(window),
            (Usage::Tally(tally), _) => Timestamp::from_ns(tally.idle_at_ns),
            _ => now,
        };
        self.idle_at = self.idle_at.max(idle_at);
    }

    /// Takes back what `receipt` names, and forgets the request id; returns whether usage was given back, and whether anything
    /// was changed.
    pub(crate) fn refund(
        &mut self,
        limit: &Limit,
        receipt: Option<&Receipt>,
        request: Option<&RequestDigest>,
        now: Timestamp,
    ) -> (bool, bool) {
        let now = self.time(now);
        let gives_back = receipt.is_some_and(|receipt| self.give_back(limit, receipt, now));
        let remembered = self.once.len();
        self.once.retain(|one| Some(&one.request) != request);
        let changed = gives_back || self.once.len() != remembered;
        if changed {
            self.latest = now;
        }
        (gives_back, changed)
    }

    fn give_back(&mut self, limit: &Limit, receipt: &Receipt, now: Timestamp) -> bool {
        match (receipt, &mut self.usage, limit.counting().usage_shape()) {
            (Receipt::Entry(entry), Usage::Log(log), _) => {
                let found = log.remove(entry);
                if log.entries.is_empty() {
                    self.usage = Usage::None;
                }
                found
            }
            (
                Receipt::Tally { at, used_then, cost },
                Usage::Tally(kept),
                UsageShape::Tally(way),
            ) => {
                let then = (*at, *used_then);
                let Some(changed) = way.change(Some(*kept), now, then, *cost, Amount::ZERO) else {
                    return false;
                };
                *kept = changed;
                true
            }
            _ => false,
        }
    }

    /// Clears the usage; returns whether there was any. What is remembered of request ids stays (R12).
    pub(crate) fn reset(&mut self, now: Timestamp) -> bool {
        self.latest = self.time(now);
        std::mem::take(&mut self.usage) != Usage::None
    }
}
