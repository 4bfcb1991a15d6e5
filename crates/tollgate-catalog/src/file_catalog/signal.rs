//! Tells the watching thread to read the file or to stop. However many changes there are, at most one signal is
//! pending.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Signal {
    /// Guards two flags that are independent of other state; a panic cannot leave them inconsistent.
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    changed: bool,
    stopped: bool,
}

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Stop,
}

impl Signal {
    /// Something may have changed.
    pub(super) fn change(&self) {
        self.lock().changed = true;
        self.woken.notify_all();
    }

    /// The thread must end.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.woken.notify_all();
    }

    /// Waits for a change, for at most `timeout`, and clears it.
    pub(super) fn wait_for_change(&self, timeout: Duration) -> Next {
        let pending = |state: &mut State| !state.changed && !state.stopped;
        let waited = self.woken.wait_timeout_while(self.lock(), timeout, pending);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.changed = false;
        state.next()
    }

    /// Waits for `pause`, regardless of changes; ends earlier only to stop.
    pub(super) fn pause(&self, pause: Duration) -> Next {
        let running = |state: &mut State| !state.stopped;
        let waited = self.woken.wait_timeout_while(self.lock(), pause, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.next()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&self) -> Next {
        if self.stopped { Next::Stop } else { Next::GoOn }
    }
}
