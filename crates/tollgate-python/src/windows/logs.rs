//! Moving windows: the exact log of the core, in the store of the other limiters.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate::{
    Amount, Attribute, Clock as _, Counting, Limit, ManualClock, MemoryStoreOptions, Per, Policy,
    Subject, Window,
};
use tollgate_core::Charge;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_store::MemoryStore;

/// The most limits that are kept compiled. A program has few; one that makes them from requests may have any number.
const MAX_COMPILED: usize = 1_024;

#[derive(Debug)]
pub(super) struct Logs {
    store: MemoryStore<ManualClock>,
    compiled: HashMap<(Amount, Window), Arc<Limit>>,
}

impl Logs {
    /// Empty logs of at most `max_keys` keys. `clock` must not step back.
    pub(super) fn new(clock: ManualClock, max_keys: usize) -> Self {
        let options = MemoryStoreOptions::default().max_keys(max_keys);
        Self { store: MemoryStore::with_clock(clock, &options), compiled: HashMap::new() }
    }

    /// Charges `amount` if it fits beside what was admitted within `window`.
    pub(super) fn acquire(
        &mut self,
        key: &str,
        limit: Amount,
        window: Window,
        amount: Amount,
    ) -> bool {
        let limit = self.limit(limit, window);
        let subject = Subject::new(key, "");
        self.store.charge_one(&Charge { limit: &limit, subject: &subject, cost: amount }).allowed
    }

    /// The time of the oldest admission within `window`, in nanoseconds since the Unix epoch, and what all of them cost; the time
    /// now and 0 if there is none.
    pub(super) fn window(&mut self, key: &str, window: Window) -> (u64, u64) {
        let limit = self.limit(Amount::MAX, window);
        let subject = Subject::new(key, "");
        let used = self.peek(&limit, &subject, Amount::ZERO).usage;
        let now_ns = self.store.clock().now().as_ns();
        let Some(full) = Amount::new(used).filter(|full| *full > Amount::ZERO) else {
            return (now_ns, 0);
        };
        // If the limit were what was admitted, one more would fit as soon as the oldest admission leaves.
        let full = Arc::new(limit.with_amount(full));
        let left_ns = match self.peek(&full, &subject, Amount::ONE).wait {
            Wait::Ns(ns) => ns,
            Wait::None | Wait::Unknown | Wait::Never => 0,
        };
        // The log rounds the time of an admission up to its tick, so it can be after now.
        let oldest_ns = now_ns.saturating_add(left_ns).saturating_sub(window.as_ns());
        (oldest_ns.min(now_ns), used)
    }

    pub(super) fn clear(&mut self, key: &str) {
        // Usage belongs to the policy and the key, whatever the limit and the window.
        let limit = Arc::new(compile(Amount::MAX, Policy::default_policy().counting));
        self.store.reset(&limit, &Subject::new(key, ""));
    }

    /// How many keys have something in their window. O(n).
    pub(super) fn len(&self) -> usize {
        self.store.sweep();
        usize::try_from(self.store.stats().keys).unwrap_or(usize::MAX)
    }

    fn peek(&self, limit: &Arc<Limit>, subject: &Subject<'_>, cost: Amount) -> Verdict {
        self.store.peek(&[Charge { limit, subject, cost }])[0]
    }

    fn limit(&mut self, amount: Amount, window: Window) -> Arc<Limit> {
        if self.compiled.len() >= MAX_COMPILED {
            self.compiled.clear();
        }
        let compiled = self.compiled.entry((amount, window));
        Arc::clone(compiled.or_insert_with(|| Arc::new(compile(amount, Counting::Log { window }))))
    }
}

/// The limit of each key.
#[expect(clippy::expect_used, reason = "one attribute is distinct, and the policy has a limit")]
fn compile(amount: Amount, counting: Counting) -> Limit {
    let policy = Policy {
        per: Per::new(vec![Attribute::User]).expect("one attribute"),
        limit: Some(amount),
        counting,
        ..Policy::default_policy()
    };
    Limit::of(&policy).expect("a policy with a limit")
}
