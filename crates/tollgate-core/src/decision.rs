//! The answer to a check: every limit that took part, and the headline (R5, R6).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::counting::{Verdict, Wait};
use crate::{Charge, Limit, Mode, Window};

/// Why a check was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The limit has no room for the cost now.
    LimitExceeded,
    /// The cost is above the limit itself: it never fits.
    CostExceedsLimit,
    /// The limit is 0.
    Banned,
    /// The store did not answer, and the limit denies without it (R11).
    StoreUnavailable,
    /// The API key was revoked. No limit took part.
    ApiKeyRevoked,
    /// The API key has expired. No limit took part.
    ApiKeyExpired,
    /// The API key is not known, and unknown ones are denied. No limit took part.
    ApiKeyUnknown,
}

impl Reason {
    /// The reasons that come from a limit.
    pub const OF_LIMITS: [Self; 4] =
        [Self::LimitExceeded, Self::CostExceedsLimit, Self::Banned, Self::StoreUnavailable];
    /// The reasons that come from an API key; no limit took part.
    pub const OF_API_KEYS: [Self; 3] =
        [Self::ApiKeyRevoked, Self::ApiKeyExpired, Self::ApiKeyUnknown];

    /// The name, as in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LimitExceeded => "limit_exceeded",
            Self::CostExceedsLimit => "cost_exceeds_limit",
            Self::Banned => "banned",
            Self::StoreUnavailable => "store_unavailable",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::ApiKeyExpired => "api_key_expired",
            Self::ApiKeyUnknown => "api_key_unknown",
        }
    }
}

/// The wait in a denial without the store, in milliseconds. Nobody knows when the store will be available again, so
/// this is a compromise: callers notice an available store soon, and do not retry often.
pub const UNKNOWN_RETRY_AFTER_MS: u64 = 1_000;

/// The verdict of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: Arc<Limit>,
    /// Whether this limit, by itself, admits the check.
    pub allowed: bool,
    /// Its usage after the decision.
    pub count: u64,
    /// What is left of it after the decision; 0 where a lowered limit is below the usage.
    pub remaining: u64,
    /// The least wait, in whole milliseconds rounded up, after which it would admit the same check if nobody
    /// else came: 0 if it does now, `None` if it never will (R6). If it has recorded the cost of a denied check (R19), the
    /// wait is that of the same check sent again. [`UNKNOWN_RETRY_AFTER_MS`] where only the
    /// store could tell, and did not answer.
    pub retry_after_ms: Option<u64>,
    /// When its usage would be 0 again, in milliseconds rounded up.
    pub reset_after_ms: u64,
    /// Why it denies; `None` if it admits.
    reason: Option<Reason>,
    /// How long the current period of a calendar lasts.
    period_s: Option<NonZeroU32>,
}

impl LimitStatus {
    fn new(limit: &Arc<Limit>, verdict: &Verdict) -> Self {
        Self {
            limit: Arc::clone(limit),
            allowed: verdict.allowed,
            count: verdict.usage,
            remaining: limit.amount().get().saturating_sub(verdict.usage),
            retry_after_ms: match verdict.wait {
                Wait::None => Some(0),
                Wait::Ns(ns) => Some(whole_ms(ns)),
                Wait::Unknown => Some(UNKNOWN_RETRY_AFTER_MS),
                Wait::Never => None,
            },
            reset_after_ms: whole_ms(verdict.reset_after_ns),
            reason: reason(limit, verdict),
            period_s: verdict.period_s,
        }
    }

    /// The window that the limit holds for; of a calendar, as long as the current period, or as a period usually is if the
    /// decision was made without the store. `None` for concurrency.
    pub fn window(&self) -> Option<Window> {
        let period = self.period_s.map(|seconds| Duration::from_secs(seconds.get().into()));
        period.and_then(Window::new).or_else(|| self.limit.counting().window())
    }

    /// By how much the usage is above the limit, because more was used than reserved (R14), a denied cost was recorded (R19) or
    /// the limit was lowered.
    pub fn debt(&self) -> u64 {
        self.count.saturating_sub(self.limit.amount().get())
    }

    /// Why this limit denies; `None` if it admits.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Of a calendar, how long the current period lasts, in seconds; `None` if nobody asked its clock.
    pub fn period_s(&self) -> Option<NonZeroU32> {
        self.period_s
    }
}

fn reason(limit: &Limit, verdict: &Verdict) -> Option<Reason> {
    match verdict.wait {
        _ if verdict.allowed => None,
        Wait::None | Wait::Ns(_) => Some(Reason::LimitExceeded),
        Wait::Unknown => Some(Reason::StoreUnavailable),
        Wait::Never if limit.amount().get() == 0 => Some(Reason::Banned),
        Wait::Never => Some(Reason::CostExceedsLimit),
    }
}

fn whole_ms(ns: u64) -> u64 {
    ns.div_ceil(1_000_000)
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    allowed: bool,
    degraded: bool,
    headline: Option<usize>,
    limits: SmallVec<[LimitStatus; 2]>,
    /// Why no limit was evaluated, if none was.
    refused: Option<Reason>,
}

impl Decision {
    /// The decision on `charges`, from the `verdicts` of the store in the same order.
    #[inline]
    pub fn assemble(charges: &[Charge<'_>], verdicts: &[Verdict]) -> Self {
        debug_assert_eq!(charges.len(), verdicts.len(), "a verdict for each charge");
        let limits = charges.iter().zip(verdicts);
        let enforced = || {
            let limits = charges.iter().map(|charge| &**charge.limit).zip(verdicts);
            limits.enumerate().filter(|(_, (limit, _))| limit.mode() == Mode::Enforce)
        };
        let denied = enforced().filter(|(_, (_, verdict))| !verdict.allowed).reduce(frees_later);
        let headline = denied.or_else(|| enforced().reduce(smaller_share));
        Self {
            allowed: denied.is_none(),
            degraded: false,
            headline: headline.map(|(index, _)| index),
            limits: limits
                .map(|(charge, verdict)| LimitStatus::new(charge.limit, verdict))
                .collect(),
            refused: None,
        }
    }

    /// A denial for `reason` before any limit is evaluated. Waiting does not help.
    pub fn refused(reason: Reason) -> Self {
        Self { allowed: false, refused: Some(reason), ..Self::assemble(&[], &[]) }
    }

    /// The same decision, marked as made without the store if `degraded` (R11).
    #[inline]
    #[must_use]
    pub fn with_degraded(mut self, degraded: bool) -> Self {
        self.degraded = degraded;
        self
    }

    /// Whether the decision, or a part of it, was taken without the store, by the failure mode (R11).
    #[inline]
    pub fn degraded(&self) -> bool {
        self.degraded
    }

    /// Whether the check may pass.
    #[inline]
    pub fn allowed(&self) -> bool {
        self.allowed
    }

    /// The binding limit (R5): on a denial the one that frees last, otherwise the one with the smallest share
    /// left. `None` if no enforced limit took part: a shadow limit never binds.
    pub fn headline(&self) -> Option<&LimitStatus> {
        self.headline.map(|index| &self.limits[index])
    }

    /// Every limit that took part, shadow ones too, in the order of the policies.
    pub fn limits(&self) -> &[LimitStatus] {
        &self.limits
    }

    /// Why the check was denied; `None` if it was not.
    pub fn reason(&self) -> Option<Reason> {
        if self.allowed {
            return None;
        }
        self.refused.or_else(|| self.headline().and_then(LimitStatus::reason))
    }

    /// The least wait, in milliseconds, after which the same check would be admitted if nobody else came: 0
    /// if it is admitted, `None` if it never will be (R6).
    ///
    /// It is longer than that of the headline if another limit has recorded the denied cost (R19) and so has no room for the
    /// same cost until later.
    pub fn retry_after_ms(&self) -> Option<u64> {
        if self.allowed {
            return Some(0);
        }
        let enforced = self.limits.iter().filter(|status| status.limit.mode() == Mode::Enforce);
        let recorded = enforced.filter(|status| status.allowed).map(|status| status.retry_after_ms);
        recorded.fold(self.headline()?.retry_after_ms, |longest, wait| Some(longest?.max(wait?)))
    }
}

type Candidate<'a> = (usize, (&'a Limit, &'a Verdict));

/// The one with the longest wait; among equals, the one with the smallest policy id.
fn frees_later<'a>(a: Candidate<'a>, b: Candidate<'a>) -> Candidate<'a> {
    let rank = |c: &Candidate<'a>| c.1.1.wait;
    match rank(&a).cmp(&rank(&b)).then_with(|| b.1.0.policy_id().cmp(a.1.0.policy_id())) {
        std::cmp::Ordering::Less => b,
        _ => a,
    }
}

/// The one with the smallest share of its limit left; among equals, the one with the smallest policy id.
fn smaller_share<'a>(a: Candidate<'a>, b: Candidate<'a>) -> Candidate<'a> {
    let scaled = |of: &Candidate<'a>, by: &Candidate<'a>| {
        let left = of.1.0.amount().get().saturating_sub(of.1.1.usage);
        u128::from(left) * u128::from(by.1.0.amount().get())
    };
    match scaled(&a, &b).cmp(&scaled(&b, &a)).then_with(|| a.1.0.policy_id().cmp(b.1.0.policy_id()))
    {
        std::cmp::Ordering::Greater => b,
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amount, Policy};

    #[test]
    fn only_a_limit_that_denies_has_a_reason() {
        let reason = |amount, allowed, wait| {
            let limit = Amount::new(amount);
            let limit = Limit::of(&Policy { limit, ..Policy::default_policy() }).unwrap();
            let verdict = Verdict::new(allowed, 0, wait, 0);
            LimitStatus::new(&Arc::new(limit), &verdict).reason()
        };
        assert_eq!(reason(1, true, Wait::None), None);
        assert_eq!(reason(1, false, Wait::Ns(1)), Some(Reason::LimitExceeded));
        assert_eq!(reason(1, false, Wait::Unknown), Some(Reason::StoreUnavailable));
        assert_eq!(reason(1, false, Wait::Never), Some(Reason::CostExceedsLimit));
        assert_eq!(reason(0, false, Wait::Never), Some(Reason::Banned));
    }

    #[test]
    fn a_refusal_denies_without_a_limit_or_a_wait() {
        let refused = Decision::refused(Reason::ApiKeyRevoked);
        assert_eq!((refused.allowed(), refused.reason()), (false, Some(Reason::ApiKeyRevoked)));
        assert_eq!((refused.retry_after_ms(), refused.limits().len()), (None, 0));
        assert!(!refused.degraded() && refused.with_degraded(true).degraded());
    }
}
