//! Keeps callers from waiting for a database that does not answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tollgate_core::Timestamp;

/// Open while the database answers. When closed, it lets one attempt through periodically.
#[derive(Debug)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    next_try_ns: AtomicU64,
    retry_every: Duration,
}

impl Gate {
    pub(super) fn new(retry_every: Duration) -> Self {
        Self { is_closed: AtomicBool::new(false), next_try_ns: AtomicU64::new(0), retry_every }
    }

    // Relaxed throughout: each flag is independent, and one attempt more or less does no harm.

    pub(super) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether to ask the database now.
    pub(super) fn may_try(&self, now: Timestamp) -> bool {
        if self.is_open() {
            return true;
        }
        let next_try_ns = self.next_try_ns.load(Ordering::Relaxed);
        let after_ns = now.after(self.retry_every).as_ns();
        now.as_ns() >= next_try_ns
            && self
                .next_try_ns
                .compare_exchange(next_try_ns, after_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(super) fn succeeded(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, now: Timestamp) {
        self.next_try_ns.store(now.after(self.retry_every).as_ns(), Ordering::Relaxed);
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_one_try_pass_every_so_often_and_opens_with_success() {
        let gate = Gate::new(Duration::from_secs(1));
        let at = Timestamp::from_ms;
        assert!(gate.may_try(at(0)) && gate.may_try(at(0)) && gate.is_open());
        gate.failed(at(0));
        assert!(!gate.is_open() && !gate.may_try(at(999)));
        assert!(gate.may_try(at(1_000)));
        assert!(!gate.may_try(at(1_000)), "one try a second");
        gate.succeeded();
        assert!(gate.is_open() && gate.may_try(at(1_001)));
    }
}
