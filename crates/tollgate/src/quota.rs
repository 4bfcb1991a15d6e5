//! The parameters of a limiter, and the errors about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::subject::{ACCEPTED_IDS, IdProblem};
use tollgate_core::{
    Amount, Attribute, Charge, Counting, Limit, Per, Policy, PolicyId, Subject, Unit, Window,
};

/// A limit and its window.
///
/// It is checked when a limiter is built: the limit is at most 2^53 − 1 (R9), the window 1 ms to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// The most in a window. 0 denies everything.
    pub limit: u64,
    /// The length of the window.
    pub window: Duration,
}

impl Quota {
    /// `limit` in any `window`.
    pub const fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window }
    }

    /// `limit` in any second.
    pub const fn per_second(limit: u64) -> Self {
        Self::new(limit, Duration::from_secs(1))
    }

    /// `limit` in any minute.
    pub const fn per_minute(limit: u64) -> Self {
        Self::new(limit, Duration::from_mins(1))
    }

    /// `limit` in any hour.
    pub const fn per_hour(limit: u64) -> Self {
        Self::new(limit, Duration::from_hours(1))
    }
}

/// Why a limiter cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A limit above 2^53 − 1.
    Limit(u64),
    /// A window shorter than 1 ms or longer than 366 days.
    Window(Duration),
    /// A unit or a way of counting that is concurrency: leases hold slots, and these limiters decide checks.
    Concurrency,
    /// An invalid name of a policy or a tier.
    Name(String, IdProblem),
    /// A tier given twice.
    DuplicateTier(String),
    /// A model in a tier that was not added.
    UnknownTier {
        /// The model.
        model: String,
        /// Its tier.
        tier: String,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "the limit is {limit}; accepted: 0 to {}", Amount::MAX),
            Self::Window(window) => {
                write!(f, "the window is {window:?}; accepted: 1 ms to 366 days")
            }
            Self::Concurrency => f.write_str(
                "concurrency is not counted in a window; accepted: a `PolicyLimiter` with `Policy::of_concurrency`",
            ),
            Self::Name(name, problem) => {
                write!(f, "the name {name:?} {problem}; accepted: {ACCEPTED_IDS}")
            }
            Self::DuplicateTier(tier) => {
                write!(
                    f,
                    "the tier {tier:?} is given twice or is the one of all other models; accepted: each name but `default`, once"
                )
            }
            Self::UnknownTier { model, tier } => {
                write!(f, "the model {model:?} is in the tier {tier:?}, which is not given")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// Everything needed to compile a limit, except what it is counted per.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) limit: u64,
    pub(crate) unit: Unit,
    counting: Result<Counting, BuildError>,
}

impl Draft {
    /// An exact limit over requests.
    pub(crate) fn new(name: String, quota: Quota) -> Self {
        let Quota { limit, window } = quota;
        let counting = match Window::new(window) {
            Some(window) => Ok(Counting::Log { window }),
            None => Err(BuildError::Window(window)),
        };
        Self { name, limit, unit: Unit::Requests, counting }
    }

    /// Counts as `over` says, over the window of the quota.
    pub(crate) fn count(&mut self, over: impl FnOnce(Window) -> Counting) {
        if let Ok(counting) = &mut self.counting {
            *counting = counting.window().map_or(*counting, over);
        }
    }

    /// The limit, counted per `attributes`, which must be few and distinct.
    pub(crate) fn compile(&self, attributes: &[Attribute]) -> Result<Arc<Limit>, BuildError> {
        let counting = self.counting.clone()?;
        if self.unit == Unit::Concurrency || counting == Counting::Concurrency {
            return Err(BuildError::Concurrency);
        }
        let policy = Policy {
            id: PolicyId::new(&self.name)
                .map_err(|problem| BuildError::Name(self.name.clone(), problem))?,
            per: per(attributes),
            unit: self.unit.clone(),
            limit: Some(Amount::new(self.limit).ok_or(BuildError::Limit(self.limit))?),
            counting,
            ..Policy::default_policy()
        };
        Ok(limit_of(&policy))
    }
}

#[expect(clippy::expect_used, reason = "the callers' attributes are constants")]
fn per(attributes: &[Attribute]) -> Per {
    Per::new(attributes.to_vec()).expect("few and distinct attributes")
}

#[expect(clippy::expect_used, reason = "only a policy without a limit makes none")]
fn limit_of(policy: &Policy) -> Arc<Limit> {
    Arc::new(Limit::of(policy).expect("a policy with a limit"))
}

/// A limit per user and model that can be reset for a user.
#[derive(Debug)]
pub(crate) struct UserModelLimit {
    /// The limit in answers, whose keys are used by users that were never reset.
    limit: Arc<Limit>,
    /// The same quota, whose keys contain a generation (see `resets`).
    after_reset: Arc<Limit>,
}

/// Distinguishes the keys with a generation from others, in addition to their extra value.
const AFTER_RESET: &str = "after a reset";

/// The attribute with the generation.
const GENERATION: &str = "generation";

impl UserModelLimit {
    pub(crate) fn compile(draft: &Draft) -> Result<Self, BuildError> {
        let limit = draft.compile(&[Attribute::User, Attribute::Model])?;
        let after_reset = Draft { name: AFTER_RESET.to_owned(), ..draft.clone() };
        let generation = Attribute::Custom(GENERATION.into());
        let after_reset = after_reset.compile(&[Attribute::User, Attribute::Model, generation])?;
        Ok(Self { limit, after_reset })
    }

    pub(crate) fn longest_life(&self) -> Duration {
        self.limit.longest_life()
    }

    /// The charge for answers; also the charge to decide for a user without a generation.
    #[inline]
    pub(crate) fn charge<'a>(&'a self, subject: &'a Subject<'a>, cost: Amount) -> Charge<'a> {
        Charge { limit: &self.limit, subject, cost }
    }

    /// The charge to decide for a subject [of this generation](subject_of).
    #[inline]
    pub(crate) fn charge_in<'a>(
        &'a self,
        generation: Option<&str>,
        subject: &'a Subject<'a>,
        cost: Amount,
    ) -> Charge<'a> {
        let limit = if generation.is_some() { &self.after_reset } else { &self.limit };
        Charge { limit, subject, cost }
    }
}

/// The subject for the keys of a generation.
pub(crate) fn subject_of<'a>(
    user: &'a str,
    model: &'a str,
    generation: Option<&'a str>,
) -> Subject<'a> {
    let mut subject = Subject::new(user, model);
    if let Some(generation) = generation {
        subject.set_named(GENERATION, generation);
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_problem_and_what_is_accepted() {
        let check = |name: &str, quota, expected: &str| {
            let error = UserModelLimit::compile(&Draft::new(name.to_owned(), quota)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "p",
            Quota::per_second(1 << 53),
            "the limit is 9007199254740992; accepted: 0 to 9007199254740991",
        );
        check(
            "p",
            Quota::new(1, Duration::from_micros(999)),
            "the window is 999µs; accepted: 1 ms to 366 days",
        );
        check(
            "",
            Quota::per_hour(1),
            "the name \"\" is empty; accepted: 1 to 256 bytes of UTF-8 without control characters",
        );
    }

    #[test]
    fn the_keys_of_a_generation_are_other_keys() {
        let limit =
            UserModelLimit::compile(&Draft::new(AFTER_RESET.to_owned(), Quota::per_hour(1)));
        let limit = limit.unwrap();
        let key = |generation| {
            let subject = subject_of("alice", "gpt-4", generation);
            let charge = limit.charge_in(generation, &subject, Amount::ONE);
            charge.key_values().map(std::borrow::Cow::into_owned).collect::<Vec<_>>()
        };
        assert_eq!(key(None), ["alice", "gpt-4"]);
        assert_eq!(key(Some("7")), ["alice", "gpt-4", "7"]);
    }
}
