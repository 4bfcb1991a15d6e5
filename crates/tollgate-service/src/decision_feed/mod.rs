//! Publishes a sample of the decisions, and of the changes of leases, to subscribers, and counts the keys with the most usage and
//! denials.
//!
//! The cost is bounded whatever the traffic: about [`Sampler::PER_SECOND`] decisions a second and as many changes of leases are
//! sampled, a slow subscriber loses some, and top keys are chosen from a bounded number of keys. It covers only this process;
//! other nodes have their own.

mod leases;
mod sampler;
mod top_keys;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tollgate_core::{Check, Clock, Cost, Decision, PolicyId, Timestamp, WallClock};
use tollgate_store::LeaseId;

use self::sampler::Sampler;
use self::top_keys::TopKeys;

pub use self::leases::{ObservedHold, ObservedLease};
pub use self::top_keys::{By, KeyCounts};
use crate::rate_limit::Verb;

/// How many decisions and changes of leases a subscriber may be behind before it loses the oldest.
const MAX_BEHIND: usize = 1_024;

/// What subscribers get.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A decision.
    Decision(Arc<ObservedDecision>),
    /// A lease that was changed or has expired.
    Lease(Arc<ObservedLease>),
}

/// A decision, as subscribers get it.
#[derive(Clone, Debug)]
pub struct ObservedDecision {
    /// When it was made, in civil time.
    pub at: Timestamp,
    /// How many decisions it represents: 1 unless there are more than are sampled.
    pub weight: u64,
    /// The subject that the policies saw, by the names of its attributes.
    pub subject: Vec<(Box<str>, Box<str>)>,
    /// The cost of the check, for each unit.
    pub cost: Cost,
    /// The decision.
    pub decision: Decision,
    /// Whether it was asked for by a reservation.
    pub is_reservation: bool,
    /// The lease of a reservation that was admitted. Whoever knows its id can settle it.
    pub lease: Option<LeaseId>,
}

impl ObservedDecision {
    /// The value of the attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.subject.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

/// Receives all decisions, publishes a sample of them and counts the top keys.
pub struct DecisionFeed {
    clock: Box<dyn Clock>,
    wall_clock: Box<dyn WallClock>,
    sampler: Sampler,
    lease_sampler: Sampler,
    top_keys: Mutex<TopKeys>,
    subscribers: broadcast::Sender<Observed>,
}

impl fmt::Debug for DecisionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscribers = self.subscribers.receiver_count();
        f.debug_struct("DecisionFeed").field("subscribers", &subscribers).finish_non_exhaustive()
    }
}

impl DecisionFeed {
    /// The most subscribers at a time.
    pub const MAX_SUBSCRIBERS: usize = 16;

    /// A new feed. `clock` only paces the sample; `wall_clock` dates the decisions.
    pub fn new(clock: impl Clock + 'static, wall_clock: impl WallClock + 'static) -> Self {
        let now = clock.now();
        Self {
            clock: Box::new(clock),
            wall_clock: Box::new(wall_clock),
            sampler: Sampler::default(),
            lease_sampler: Sampler::default(),
            top_keys: Mutex::new(TopKeys::new(now)),
            subscribers: broadcast::Sender::new(MAX_BEHIND),
        }
    }

    /// Subscribes to what is sampled from now on; `None` if there are [`DecisionFeed::MAX_SUBSCRIBERS`] subscribers
    /// already.
    pub fn subscribe(&self) -> Option<broadcast::Receiver<Observed>> {
        let receiver = self.subscribers.subscribe();
        // Counted after subscribing: if two subscribe at once for the last place, both may fail, but they never exceed
        // the maximum.
        (self.subscribers.receiver_count() <= Self::MAX_SUBSCRIBERS).then_some(receiver)
    }

    /// Records a decision; `lease` is what it reserved.
    #[inline]
    pub(crate) fn decided(
        &self,
        check: &Check<'_>,
        decision: &Decision,
        verb: Verb,
        lease: Option<&LeaseId>,
    ) {
        let now = self.clock.now();
        if let Some(weight) = self.sampler.take(now) {
            self.observe((now, weight), check, decision, verb, lease);
        }
    }

    #[cold]
    fn observe(
        &self,
        (now, weight): (Timestamp, u64),
        check: &Check<'_>,
        decision: &Decision,
        verb: Verb,
        lease: Option<&LeaseId>,
    ) {
        self.top_keys().record(now, &check.subject, decision, (weight, verb));
        if self.subscribers.receiver_count() > 0 {
            let at = self.wall_clock.wall_time();
            let subject = check.subject.attributes();
            let observed = ObservedDecision {
                at,
                weight,
                subject: subject.map(|(name, value)| (name.into(), value.into())).collect(),
                cost: check.cost.clone(),
                decision: decision.clone(),
                is_reservation: verb == Verb::Reserve,
                lease: lease.cloned(),
            };
            // An error means that the last subscriber has just gone.
            _ = self.subscribers.send(Observed::Decision(Arc::new(observed)));
        }
    }

    /// At most `most` keys of `policy`, ordered `by`, and the time since which they were counted, in civil time.
    pub(crate) fn top(
        &self,
        policy: &PolicyId,
        by: By,
        most: usize,
    ) -> (Timestamp, Vec<KeyCounts>) {
        let now = self.clock.now();
        let (since, counts) = self.top_keys().top(now, policy, by, most);
        // Uses the current time of the clock, so that it agrees with other times that are shown.
        (self.wall_clock.wall_time().before(now.since(since)), counts)
    }

    /// A poisoned lock is fine: the counts are estimates.
    fn top_keys(&self) -> std::sync::MutexGuard<'_, TopKeys> {
        self.top_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
