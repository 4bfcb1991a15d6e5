//! What the conformance suite needs from a store under test, by capability.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tollgate_core::Timestamp;
use tollgate_store::Store;

/// A store under test. This is the minimum for every store.
pub trait Harness: Sync + Sized {
    /// The store.
    type Store: Store;

    /// A store without any usage, which shares none with any other.
    fn new() -> Self;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// Runs `future` to its end. A store that needs a runtime overrides this; many threads call it at a time.
    fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

/// The capability of a store whose time the suite can set.
///
/// A store with its own clock (R7) that cannot be moved does not run the groups that need this.
pub trait MovableClock: Harness {
    /// Whether time never steps back for the store as a whole. If false, it never steps back for a single key, but a
    /// key may see an earlier time than another key saw before.
    const ONE_TIMELINE: bool;

    /// How many random courses of leases are tried: fewer where each step is a call over the network.
    const LEASE_COURSES: u32 = 1_000;

    /// The tick in nanoseconds with which the store keeps the times of every log; `None` for that of the window (R7).
    const TICK_NS: Option<u64> = None;

    /// Sets the clock that the store reads, also to an earlier time.
    fn set(&self, now: Timestamp);
}

/// The capability of a store that keeps its keys below a cap and removes idle ones (R9).
pub trait BoundedKeys: MovableClock {
    /// The same as [`Harness::new`], with at most `max_keys` keys at a time.
    fn with_max_keys(max_keys: usize) -> Self;

    /// Removes idle keys.
    fn sweep(&self);

    /// The number of keys.
    fn keys(&self) -> u64;

    /// The number of keys that were evicted before they were idle.
    fn evicted(&self) -> u64;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` in this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
