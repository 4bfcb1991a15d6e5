//! The time of the experiments, so that tests need not wait for it.

use tollgate_core::{Clock, MonotonicClock, Timestamp};

/// A clock that can also be waited for.
pub trait Timeline: Sync {
    /// The time now. It never steps back.
    fn now(&self) -> Timestamp;

    /// Returns when it is `time`, or later.
    fn sleep_until(&self, time: Timestamp) -> impl Future<Output = ()> + Send;
}

/// The time of this machine.
#[derive(Debug)]
pub(crate) struct MachineTime(MonotonicClock);

impl MachineTime {
    pub(crate) fn new() -> Self {
        Self(MonotonicClock::new())
    }
}

impl Timeline for MachineTime {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Tokio's timers end up to a millisecond late, which only makes a check later than it could be.
    async fn sleep_until(&self, time: Timestamp) {
        loop {
            let left = time.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}
