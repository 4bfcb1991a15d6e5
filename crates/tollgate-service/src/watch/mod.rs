//! Watching decisions as they are made: a sample of them for those who listen, and who uses or is denied most.
//!
//! What this costs is bounded whatever the traffic: about [`Sampler::PER_SECOND`] decisions a second are looked at, a
//! slow listener loses decisions instead of keeping them, and top keys are kept of a bounded number of keys. It is of
//! this process alone: other nodes have their own.

mod sampler;
mod top_keys;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tollgate_core::{Check, Clock, Cost, Decision, PolicyId, Timestamp, WallClock};

use self::sampler::Sampler;
use self::top_keys::TopKeys;
pub use self::top_keys::{By, KeyCounts};

/// The decisions that a listener may be behind before it loses the oldest.
const MAX_BEHIND: usize = 1_024;

/// A decision, as those who listen get it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When it was made, in civil time.
    pub at: Timestamp,
    /// How many decisions it stands for: 1 unless more are made than are looked at.
    pub weight: u64,
    /// The subject as the policies saw it, by the names of its attributes.
    pub subject: Vec<(Box<str>, Box<str>)>,
    /// How much of each unit the check asked for.
    pub cost: Cost,
    /// The decision.
    pub decision: Decision,
}

impl Observed {
    /// The value of the attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.subject.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

/// Where decisions come by.
pub struct Watch {
    clock: Box<dyn Clock>,
    wall_clock: Box<dyn WallClock>,
    sampler: Sampler,
    top_keys: Mutex<TopKeys>,
    listeners: broadcast::Sender<Arc<Observed>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners = self.listeners.receiver_count();
        f.debug_struct("Watch").field("listeners", &listeners).finish_non_exhaustive()
    }
}

impl Watch {
    /// The most who may listen at once.
    pub const MAX_LISTENERS: usize = 16;

    /// A watch that has seen nothing yet. `clock` paces the sample, and decides nothing; `wall_clock` dates what is seen.
    pub fn new(clock: impl Clock + 'static, wall_clock: impl WallClock + 'static) -> Self {
        let now = clock.now();
        Self {
            clock: Box::new(clock),
            wall_clock: Box::new(wall_clock),
            sampler: Sampler::default(),
            top_keys: Mutex::new(TopKeys::new(now)),
            listeners: broadcast::Sender::new(MAX_BEHIND),
        }
    }

    /// The decisions from now on, sampled; `None` if [`Watch::MAX_LISTENERS`] listen already.
    pub fn listen(&self) -> Option<broadcast::Receiver<Arc<Observed>>> {
        let receiver = self.listeners.subscribe();
        // Counted after it is one of them: of two that come at once for the last place none may get it.
        (self.listeners.receiver_count() <= Self::MAX_LISTENERS).then_some(receiver)
    }

    /// Takes note of a decision.
    #[inline]
    pub(crate) fn decided(&self, check: &Check<'_>, decision: &Decision) {
        let now = self.clock.now();
        if let Some(weight) = self.sampler.take(now) {
            self.observe(now, weight, check, decision);
        }
    }

    #[cold]
    fn observe(&self, now: Timestamp, weight: u64, check: &Check<'_>, decision: &Decision) {
        self.top_keys().record(now, &check.subject, decision, weight);
        if self.listeners.receiver_count() > 0 {
            let at = self.wall_clock.wall_time();
            let subject = check.subject.attributes();
            let observed = Observed {
                at,
                weight,
                subject: subject.map(|(name, value)| (name.into(), value.into())).collect(),
                cost: check.cost.clone(),
                decision: decision.clone(),
            };
            // An error says that the last listener has just gone.
            _ = self.listeners.send(Arc::new(observed));
        }
    }

    /// The keys of `policy` with the most by `by`, at most `most`, and since when they were counted, in civil time.
    pub(crate) fn top(
        &self,
        policy: &PolicyId,
        by: By,
        most: usize,
    ) -> (Timestamp, Vec<KeyCounts>) {
        let now = self.clock.now();
        let (since, counts) = self.top_keys().top(now, policy, by, most);
        // By the clock as it is set now, so that it agrees with what else is shown.
        (self.wall_clock.wall_time().before(now.since(since)), counts)
    }

    /// A count that a thread left half-made is an estimate like the others.
    fn top_keys(&self) -> std::sync::MutexGuard<'_, TopKeys> {
        self.top_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
