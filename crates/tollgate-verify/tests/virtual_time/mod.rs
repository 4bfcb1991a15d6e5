//! A time that moves to the next timer when nothing else is left to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use tollgate_core::Timestamp;
use tollgate_verify::Timeline;

pub(crate) struct VirtualTime(Mutex<State>);

struct State {
    now: Timestamp,
    timers: BinaryHeap<Reverse<Timer>>,
    numbers: u64,
}

/// In the order of their times, and of their numbers if these are equal.
struct Timer {
    time: Timestamp,
    number: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// Whoever is woken is polled anyway.
struct Awake;

impl Wake for Awake {
    fn wake(self: Arc<Self>) {}
}

impl VirtualTime {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Mutex::new(State { now, timers: BinaryHeap::new(), numbers: 0 }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Runs `future` to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Awake));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            let Reverse(timer) = self.state().timers.pop().unwrap();
            let mut state = self.state();
            state.now = state.now.max(timer.time);
            drop(state);
            timer.waker.wake();
        }
    }
}

impl Timeline for VirtualTime {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    async fn sleep_until(&self, time: Timestamp) {
        let mut is_registered = false;
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.now >= time {
                return Poll::Ready(());
            }
            // A future may be polled again before its time. No future here changes its waker.
            if std::mem::replace(&mut is_registered, true) {
                return Poll::Pending;
            }
            state.numbers += 1;
            let (number, waker) = (state.numbers, context.waker().clone());
            state.timers.push(Reverse(Timer { time, number, waker }));
            Poll::Pending
        })
        .await;
    }
}
