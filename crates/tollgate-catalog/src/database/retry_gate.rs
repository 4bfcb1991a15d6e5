//! Keeps callers from waiting for a database that does not answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tollgate_core::{Throttle, Timestamp};

/// Open while the database answers. When closed, it lets one attempt through periodically.
#[derive(Debug)]
pub(super) struct RetryGate {
    is_closed: AtomicBool,
    tries: Throttle,
    retry_every: Duration,
}

impl RetryGate {
    pub(super) fn new(retry_every: Duration) -> Self {
        Self { is_closed: AtomicBool::new(false), tries: Throttle::new(), retry_every }
    }

    // Relaxed throughout: the flag is independent, and one attempt more or less does no harm.

    pub(super) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether to ask the database now.
    pub(super) fn may_try(&self, now: Timestamp) -> bool {
        self.is_open() || self.tries.admits(now, self.retry_every)
    }

    pub(super) fn succeeded(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, now: Timestamp) {
        self.tries.hold_until(now.after(self.retry_every));
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_one_try_pass_every_so_often_and_opens_with_success() {
        let gate = RetryGate::new(Duration::from_secs(1));
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
