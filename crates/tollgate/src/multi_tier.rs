//! Two limits at once: one per user and model, and one per model, depending on the model's tier.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tollgate_core::counting::Verdict;
use tollgate_core::{Attribute, Charge, Clock, Decision, Limit, MonotonicClock, Subject};
use tollgate_store::MemoryStore;
use tollgate_store::memory::{MemoryStoreOptions, MemoryStoreStats};

use crate::metrics::{Counters, counting_calls};
use crate::quota::{Draft, UserModelLimit, subject_of};
use crate::rate_limiter::amount;
use crate::resets::Resets;
use crate::{BuildError, Metrics, Quota};

/// A limit for each user on a model, and one for all users of the model together. Both depend on the model's tier.
///
/// ```
/// use tollgate::{MultiTierRateLimiter, Quota, TierReason};
///
/// // Models that are in no tier: 100 an hour for each user, 10,000 for all.
/// let limiter = MultiTierRateLimiter::builder(Quota::per_hour(100), Quota::per_hour(10_000))
///     .tier("premium", Quota::per_hour(1), Quota::per_hour(2))
///     .model("gpt-4", "premium")
///     .build()?;
///
/// assert_eq!(limiter.allow("alice", "gpt-4"), (true, TierReason::WithinLimits));
/// assert_eq!(limiter.allow("alice", "gpt-4"), (false, TierReason::UserModelLimit));
/// assert_eq!(limiter.allow("bob", "gpt-4"), (true, TierReason::WithinLimits));
/// let (allowed, reason) = limiter.allow("carol", "gpt-4");
/// assert_eq!((allowed, reason.to_string().as_str()), (false, "the model's limit is used up"));
/// # Ok::<(), tollgate::BuildError>(())
/// ```
///
/// Both limits admit a request, or neither is charged (R3), exactly and under any concurrency (R1). A model's tier is
/// fixed when the limiter is built. All calls take `&self` and O(1).
#[derive(Debug)]
pub struct MultiTierRateLimiter<C = MonotonicClock> {
    store: MemoryStore<C>,
    default_tier: Tier,
    /// By model.
    tiers: HashMap<String, Arc<Tier>>,
    resets: Resets,
    counters: Counters,
}

#[derive(Debug)]
struct Tier {
    per_user_model: UserModelLimit,
    per_model: Arc<Limit>,
}

/// Why a [`MultiTierRateLimiter`] allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TierReason {
    /// Both limits admit.
    WithinLimits,
    /// The user's own limit on the model denies.
    UserModelLimit,
    /// The limit of the model over all users denies.
    ModelLimit,
}

impl fmt::Display for TierReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WithinLimits => "within the limits",
            Self::UserModelLimit => "the user's limit for this model is used up",
            Self::ModelLimit => "the model's limit is used up",
        })
    }
}

impl MultiTierRateLimiter {
    /// A builder; the two quotas apply to models without a tier.
    pub fn builder(per_user_model: Quota, per_model: Quota) -> MultiTierRateLimiterBuilder {
        MultiTierRateLimiterBuilder {
            default_tier: (per_user_model, per_model),
            tiers: Vec::new(),
            models: HashMap::new(),
            options: MemoryStoreOptions::default(),
        }
    }
}

impl<C: Clock> MultiTierRateLimiter<C> {
    /// Whether one request by `user` for `model` may pass now, and why or why not. If it may, it is charged to both
    /// limits; a denial changes nothing. If both deny, the reason is the limit that takes longer to become free.
    pub fn allow(&self, user: &str, model: &str) -> (bool, TierReason) {
        let [per_user_model, per_model] = self.charge(user, model, 1);
        let reason = if per_user_model.allowed && per_model.allowed {
            TierReason::WithinLimits
        } else if per_model.wait > per_user_model.wait {
            TierReason::ModelLimit
        } else {
            TierReason::UserModelLimit
        };
        (reason == TierReason::WithinLimits, reason)
    }

    /// [`MultiTierRateLimiter::allow`], with the full decision about both limits.
    pub fn check(&self, user: &str, model: &str) -> Decision {
        self.check_cost(user, model, 1)
    }

    /// [`MultiTierRateLimiter::check`] of a request that costs `cost`: charged to both limits or to none.
    ///
    /// A cost of 0 is admitted while there is room for 1, and charges nothing (R1); a cost above a limit never fits
    /// (R6).
    pub fn check_cost(&self, user: &str, model: &str, cost: u32) -> Decision {
        let verdicts = self.charge(user, model, cost);
        let subject = Subject::new(user, model);
        let charges = self.tier(model).charges(None, &subject, cost);
        Decision::assemble(&charges, &verdicts)
    }

    /// What `user` has used of `model` in the window that ends now.
    pub fn request_count(&self, user: &str, model: &str) -> u64 {
        self.peek(user, model)[0].usage
    }

    /// What all users have used of `model` in the window that ends now.
    pub fn model_request_count(&self, model: &str) -> u64 {
        // The model's usage does not depend on the user.
        self.peek("", model)[1].usage
    }

    /// Clears what `user` has used of all models under the limits per user. The usage still counts under the limits of
    /// the models, which all users share.
    ///
    /// Concurrency and cost are those of [`RateLimiter::reset_user`](crate::RateLimiter::reset_user).
    pub fn reset_user(&self, user: &str) {
        self.resets.reset(user, self.store.clock());
    }

    counting_calls!();

    fn tier(&self, model: &str) -> &Tier {
        self.tiers.get(model).map_or(&self.default_tier, |tier| tier)
    }

    fn charge(&self, user: &str, model: &str, cost: u32) -> [Verdict; 2] {
        let tier = self.tier(model);
        let decide = |generation: Option<&str>| {
            let subject = subject_of(user, model, generation);
            let verdicts = self.store.charge(&tier.charges(generation, &subject, cost));
            [verdicts[0], verdicts[1]]
        };
        let verdicts = if self.resets.is_empty() {
            decide(None)
        } else {
            self.resets.with_generation(user, self.store.clock(), decide)
        };
        self.counters.count(verdicts.iter().all(|verdict| verdict.allowed));
        verdicts
    }

    fn peek(&self, user: &str, model: &str) -> [Verdict; 2] {
        self.resets.with_generation(user, self.store.clock(), |generation| {
            let subject = subject_of(user, model, generation);
            let verdicts = self.store.peek(&self.tier(model).charges(generation, &subject, 0));
            [verdicts[0], verdicts[1]]
        })
    }
}

impl Tier {
    fn compile(name: &str, per_user_model: Quota, per_model: Quota) -> Result<Self, BuildError> {
        // The last part distinguishes the two, whatever names tiers have.
        let per_user_model = Draft::new(format!("{name}.user_model"), per_user_model);
        let per_model = Draft::new(format!("{name}.model"), per_model);
        Ok(Self {
            per_user_model: UserModelLimit::compile(&per_user_model)?,
            per_model: per_model.compile(&[Attribute::Model])?,
        })
    }

    fn charges<'a>(
        &'a self,
        generation: Option<&str>,
        subject: &'a Subject<'a>,
        cost: u32,
    ) -> [Charge<'a>; 2] {
        let cost = amount(cost);
        let per_model = Charge { limit: &self.per_model, subject, cost };
        [self.per_user_model.charge_in(generation, subject, cost), per_model]
    }
}

/// Builds a [`MultiTierRateLimiter`]; see [`MultiTierRateLimiter::builder`].
#[derive(Clone, Debug)]
pub struct MultiTierRateLimiterBuilder {
    default_tier: (Quota, Quota),
    tiers: Vec<(String, Quota, Quota)>,
    /// The tier of each model.
    models: HashMap<String, String>,
    options: MemoryStoreOptions,
}

impl MultiTierRateLimiterBuilder {
    /// Adds a tier with its quotas: for each user on a model, and for a model over all users. Each model of the tier is
    /// counted separately.
    #[must_use]
    pub fn tier(
        mut self,
        name: impl Into<String>,
        per_user_model: Quota,
        per_model: Quota,
    ) -> Self {
        self.tiers.push((name.into(), per_user_model, per_model));
        self
    }

    /// Assigns `model` to `tier`, which may be added later; the last call for a model wins.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>, tier: impl Into<String>) -> Self {
        self.models.insert(model.into(), tier.into());
        self
    }

    /// The most keys (a user with a model, or a model) at a time; 10 million by default, at least one. At the cap, a
    /// new key evicts an idle key, or else one of those with the smallest share of their limit in use, whose usage is
    /// forgotten.
    #[must_use]
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.options = self.options.max_keys(max_keys);
        self
    }

    /// Builds the limiter with the machine's monotonic clock.
    pub fn build(self) -> Result<MultiTierRateLimiter, BuildError> {
        self.build_with_clock(MonotonicClock::new())
    }

    /// Builds the limiter with another clock: a [`ManualClock`](crate::ManualClock) in tests.
    pub fn build_with_clock<C: Clock>(
        self,
        clock: C,
    ) -> Result<MultiTierRateLimiter<C>, BuildError> {
        let (per_user_model, per_model) = self.default_tier;
        let default_tier = Tier::compile(DEFAULT_TIER, per_user_model, per_model)?;
        let mut by_name = HashMap::new();
        for (name, per_user_model, per_model) in self.tiers {
            let tier = Arc::new(Tier::compile(&name, per_user_model, per_model)?);
            if name == DEFAULT_TIER || by_name.contains_key(&name) {
                return Err(BuildError::DuplicateTier(name));
            }
            by_name.insert(name, tier);
        }
        let lives = by_name.values().map(|tier| tier.per_user_model.longest_life());
        let longest = lives.fold(default_tier.per_user_model.longest_life(), Ord::max);
        let tiers = self.models.into_iter().map(|(model, tier)| match by_name.get(&tier) {
            Some(found) => Ok((model, Arc::clone(found))),
            None => Err(BuildError::UnknownTier { model, tier }),
        });
        Ok(MultiTierRateLimiter {
            store: MemoryStore::with_clock(clock, &self.options),
            default_tier,
            tiers: tiers.collect::<Result<_, _>>()?,
            resets: Resets::new(longest),
            counters: Counters::new(),
        })
    }
}

/// The tier of all models without another tier.
const DEFAULT_TIER: &str = "default";
