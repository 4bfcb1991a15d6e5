//! Limits an action to once per period, among all threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Timestamp;

/// Lets one caller through per period.
#[derive(Debug, Default)]
pub struct Throttle {
    next_ns: AtomicU64,
}

// Relaxed throughout: the exchange only elects one thread, and no other memory is read because of it.
impl Throttle {
    /// A throttle that lets the first caller through.
    pub const fn new() -> Self {
        Self { next_ns: AtomicU64::new(0) }
    }

    /// Whether the caller may go ahead at `now`. If so, the next one may after `period`. O(1), without a lock.
    pub fn admits(&self, now: Timestamp, period: Duration) -> bool {
        let due_ns = self.next_ns.load(Ordering::Relaxed);
        let next_ns = now.after(period).as_ns();
        now.as_ns() >= due_ns
            && self
                .next_ns
                .compare_exchange(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Lets no caller through before `at`.
    pub fn hold_until(&self, at: Timestamp) {
        self.next_ns.store(at.as_ns(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_per_period_goes_ahead() {
        let (throttle, second) = (Throttle::new(), Duration::from_secs(1));
        let at = Timestamp::from_ms;
        assert!(throttle.admits(at(0), second));
        assert!(!throttle.admits(at(0), second) && !throttle.admits(at(999), second));
        assert!(throttle.admits(at(1_000), second));
        throttle.hold_until(at(5_000));
        assert!(!throttle.admits(at(4_999), second) && throttle.admits(at(5_000), second));
    }
}
