//! Admission: each request waits until an upstream has room for it, in an order that is fair.
//!
//! [`scheduler`] decides; [`Admission`] delivers what it decides to the requests that wait. A request that is dropped while it
//! waits gives up its place, and a [`Permit`] that is dropped gives its room to the next.

pub mod scheduler;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_core::{Clock, MonotonicClock, PriorityClass};

pub use self::scheduler::{Capacity, Entrant, UpstreamSet};
use self::scheduler::{Scheduler, Ticket};
use crate::config::QueueConfig;

/// The queue in front of all upstreams.
#[derive(Debug)]
pub struct Admission {
    // Held for some microseconds at most, and never while something is awaited.
    state: Mutex<State>,
    bounds: QueueConfig,
    clock: MonotonicClock,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    waiting: HashMap<Ticket, Grant>,
}

/// How a request that waits gets its permit.
#[derive(Debug)]
struct Grant {
    sender: oneshot::Sender<Permit>,
    tokens: u64,
}

/// The queue has no place for a request, or its wait was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// When there may be one.
    pub retry_after: Duration,
}

/// The shortest time after which a request is told to come back.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

impl Admission {
    /// A queue in front of upstreams with these capacities.
    pub fn new(capacities: impl IntoIterator<Item = Capacity>, bounds: QueueConfig) -> Self {
        let scheduler = Scheduler::new(capacities);
        Self {
            state: Mutex::new(State { scheduler, waiting: HashMap::new() }),
            bounds,
            clock: MonotonicClock::new(),
        }
    }

    /// Waits for the turn of `entrant` and returns its place at one of its upstreams.
    ///
    /// Fails at once if the queue is full or if the expected wait is above `maxWaitMs`. Fails later if the real wait reaches
    /// `maxWaitMs`.
    pub async fn enter(self: &Arc<Self>, entrant: Entrant) -> Result<Permit, Busy> {
        let mut place = match self.arrive(entrant)? {
            Arrived::Admitted(permit) => return Ok(permit),
            Arrived::Waits(place) => place,
        };
        match tokio::time::timeout(self.bounds.max_wait, &mut place.granted).await {
            Ok(Ok(permit)) => Ok(permit),
            // The sender is only dropped with the queue.
            Ok(Err(_)) | Err(_) => Err(Busy { retry_after: MIN_RETRY_AFTER }),
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.state().scheduler.waiting()
    }

    /// How many requests of each class wait, by its index.
    pub fn waiting_by_class(&self) -> [usize; PriorityClass::ALL.len()] {
        self.state().scheduler.waiting_by_class()
    }

    /// The requests and tokens in flight at an upstream.
    pub fn in_flight(&self, upstream: usize) -> (u32, u64) {
        self.state().scheduler.in_flight(upstream)
    }

    fn arrive(self: &Arc<Self>, entrant: Entrant) -> Result<Arrived, Busy> {
        let (class, upstreams, tokens) = (entrant.class, entrant.upstreams, entrant.tokens);
        let mut state = self.state();
        let ticket = state.scheduler.arrive(entrant);
        // Nobody else could be admitted before it arrived, and nobody else can now.
        if let Some((_, upstream)) = state.scheduler.admit_next() {
            return Ok(Arrived::Admitted(self.permit(upstream, tokens)));
        }
        let is_full = state.scheduler.waiting() > self.bounds.max_length;
        let expected = state.scheduler.expected_wait_ns(ticket, class, upstreams);
        let expected = expected.map(Duration::from_nanos);
        let is_too_long = expected.is_some_and(|wait| wait > self.bounds.max_wait);
        if is_full || is_too_long || self.bounds.max_wait.is_zero() {
            state.scheduler.leave(ticket);
            let retry_after = expected.unwrap_or(MIN_RETRY_AFTER);
            let retry_after = retry_after.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER);
            return Err(Busy { retry_after });
        }
        let (sender, granted) = oneshot::channel();
        state.waiting.insert(ticket, Grant { sender, tokens });
        Ok(Arrived::Waits(Place { admission: Arc::clone(self), ticket, granted }))
    }

    fn permit(self: &Arc<Self>, upstream: usize, tokens: u64) -> Permit {
        Permit { admission: Arc::clone(self), upstream, tokens }
    }

    /// Changes the queue, and admits whoever can be admitted then.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut granted = Vec::new();
        {
            let mut state = self.state();
            change(&mut state);
            while let Some((ticket, upstream)) = state.scheduler.admit_next() {
                granted.extend(state.waiting.remove(&ticket).map(|grant| (grant, upstream)));
            }
        }
        // Outside of the lock: a permit that nobody takes is dropped here, and takes the lock.
        for (Grant { sender, tokens }, upstream) in granted {
            _ = sender.send(self.permit(upstream, tokens));
        }
    }

    /// A poisoned lock is fine: the scheduler does not panic between two changes that belong together.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Arrived {
    Admitted(Permit),
    Waits(Place),
}

/// A place in the queue; given up when it is dropped.
#[derive(Debug)]
struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
    granted: oneshot::Receiver<Permit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.admission.change(|state| {
            if state.waiting.remove(&ticket).is_some() {
                state.scheduler.leave(ticket);
            }
        });
        // A permit that was granted meanwhile is dropped with the receiver.
    }
}

/// Room at an upstream; given to the next when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    upstream: usize,
    tokens: u64,
}

impl Permit {
    /// The upstream.
    pub fn upstream(&self) -> usize {
        self.upstream
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (upstream, tokens) = (self.upstream, self.tokens);
        let now = self.admission.clock.now();
        self.admission.change(|state| state.scheduler.release(upstream, tokens, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_length: usize, max_wait: Duration) -> Arc<Admission> {
        let capacity = Capacity { max_concurrency: 1, max_tokens: 100 };
        let bounds = QueueConfig { max_length, max_wait, comment_after: None };
        Arc::new(Admission::new([capacity], bounds))
    }

    fn entrant(tenant: &str) -> Entrant {
        let upstreams = UpstreamSet::of([0]);
        Entrant { class: PriorityClass::Standard, tenant: tenant.into(), upstreams, tokens: 1 }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_permit_goes_to_whoever_waits() {
        let admission = admission(10, LONG);
        let first = admission.enter(entrant("a")).await.unwrap();
        let waits = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.enter(entrant("b")).await.unwrap().upstream() }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(waits.await.unwrap(), 0);
        assert_eq!((admission.waiting(), admission.in_flight(0)), (0, (0, 0)));
    }

    #[tokio::test]
    async fn whoever_leaves_gives_up_the_place() {
        let admission = admission(10, LONG);
        let first = admission.enter(entrant("a")).await.unwrap();
        let Ok(Arrived::Waits(place)) = admission.arrive(entrant("b")) else { panic!("it waits") };
        drop(place);
        assert_eq!(admission.waiting(), 0);
        // One that was admitted and has left gives the permit back.
        let Ok(Arrived::Waits(place)) = admission.arrive(entrant("b")) else { panic!("it waits") };
        drop(first);
        assert_eq!(admission.in_flight(0), (1, 1));
        drop(place);
        assert_eq!(admission.in_flight(0), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let admission = admission(1, Duration::from_secs(2));
        let _first = admission.enter(entrant("a")).await.unwrap();
        let Ok(Arrived::Waits(place)) = admission.arrive(entrant("b")) else { panic!("it waits") };
        let busy = admission.enter(entrant("c")).await.unwrap_err();
        assert_eq!(busy.retry_after, MIN_RETRY_AFTER);
        drop(place);
        assert!(admission.enter(entrant("b")).await.is_err(), "after two seconds");
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn without_a_wait_nobody_is_queued() {
        let admission = admission(10, Duration::ZERO);
        let _first = admission.enter(entrant("a")).await.unwrap();
        assert!(admission.enter(entrant("b")).await.is_err());
    }
}
