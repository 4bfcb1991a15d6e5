//! Admission: each request waits until an upstream has room for it, in an order that is fair.
//!
//! [`scheduler`] decides; [`Admission`] delivers what it decides to the requests that wait. A request that is dropped while it
//! waits gives up its place, and a [`Permit`] that is dropped gives its room to the next.

mod queue;
pub mod scheduler;
pub mod tickets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_core::{Clock, MonotonicClock, PriorityClass};

use self::queue::{Arrival, Queue};
pub use self::queue::{Busy, Claim};
use self::scheduler::Number;
pub use self::scheduler::{Capacity, Entrant, UpstreamSet};
use self::tickets::Spot;
pub use self::tickets::{Holder, TicketCounts, TicketId};
use crate::config::QueueConfig;

/// The queue in front of all upstreams.
#[derive(Debug)]
pub struct Admission {
    // Held for some microseconds at most, and never while something is awaited.
    state: Mutex<State>,
    max_wait: Duration,
    clock: MonotonicClock,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    waiting: HashMap<Number, Grant>,
}

/// How a request that waits gets its permit.
#[derive(Debug)]
struct Grant {
    sender: oneshot::Sender<Permit>,
    tokens: u64,
}

impl Admission {
    /// A queue in front of upstreams with these capacities.
    pub fn new(capacities: impl IntoIterator<Item = Capacity>, bounds: QueueConfig) -> Self {
        let max_wait = bounds.max_wait;
        let queue = Queue::new(capacities, bounds);
        Self {
            state: Mutex::new(State { queue, waiting: HashMap::new() }),
            max_wait,
            clock: MonotonicClock::new(),
        }
    }

    /// Waits for the turn of `entrant` and returns its place at one of its upstreams.
    ///
    /// Fails at once if the queue is full or if the expected wait is above `maxWaitMs`, unless `claim` has a ticket that is due. Fails
    /// later if the real wait reaches `maxWaitMs`.
    pub async fn enter(
        self: &Arc<Self>,
        entrant: Entrant,
        claim: Claim<'_>,
    ) -> Result<Permit, Busy> {
        let mut place = match self.arrive(entrant, claim)? {
            Arrived::Admitted(permit) => return Ok(permit),
            Arrived::Waits(place) => place,
        };
        match tokio::time::timeout(self.max_wait, &mut place.granted).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => match place.waited_too_long(claim.holder) {
                Some(busy) => Err(busy),
                None => (&mut place.granted).await.map_err(|_| Busy::UNKNOWN),
            },
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.state().queue.scheduler.waiting()
    }

    /// How many requests of each class wait, by its index.
    pub fn waiting_by_class(&self) -> [usize; PriorityClass::ALL.len()] {
        self.state().queue.scheduler.waiting_by_class()
    }

    /// The requests and tokens in flight at an upstream.
    pub fn in_flight(&self, upstream: usize) -> (u32, u64) {
        self.state().queue.scheduler.in_flight(upstream)
    }

    /// What has happened to tickets.
    pub fn ticket_counts(&self) -> TicketCounts {
        self.state().queue.ticket_counts(self.clock.now())
    }

    /// Takes back a ticket that its client cannot see.
    pub fn withdraw(&self, ticket: TicketId) {
        self.state().queue.withdraw(ticket);
    }

    fn arrive(self: &Arc<Self>, entrant: Entrant, claim: Claim<'_>) -> Result<Arrived, Busy> {
        let (spot, tokens) = (queue::spot(&entrant), entrant.tokens);
        let mut state = self.state();
        let number = match state.queue.arrive(entrant, claim, self.clock.now()) {
            Arrival::Admitted(upstream) => {
                return Ok(Arrived::Admitted(self.permit(upstream, tokens)));
            }
            Arrival::Waits(number) => number,
            Arrival::Denied(busy) => return Err(busy),
        };
        let (sender, granted) = oneshot::channel();
        state.waiting.insert(number, Grant { sender, tokens });
        Ok(Arrived::Waits(Place { admission: Arc::clone(self), number, spot, granted }))
    }

    fn permit(self: &Arc<Self>, upstream: usize, tokens: u64) -> Permit {
        Permit { admission: Arc::clone(self), upstream, tokens }
    }

    /// Changes the queue, and admits whoever can be admitted then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut granted = Vec::new();
        let changed;
        {
            let mut state = self.state();
            changed = change(&mut state);
            while let Some((number, upstream)) = state.queue.scheduler.admit_next() {
                granted.extend(state.waiting.remove(&number).map(|grant| (grant, upstream)));
            }
        }
        // Outside of the lock: a permit that nobody takes is dropped here, and takes the lock.
        for (Grant { sender, tokens }, upstream) in granted {
            _ = sender.send(self.permit(upstream, tokens));
        }
        changed
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
    number: Number,
    spot: Spot,
    granted: oneshot::Receiver<Permit>,
}

impl Place {
    /// Leaves the queue, with a ticket; `None` if the permit was granted meanwhile.
    fn waited_too_long(&self, holder: Holder<'_>) -> Option<Busy> {
        let (number, now) = (self.number, self.admission.clock.now());
        self.admission.change(|state| {
            state.waiting.remove(&number)?;
            Some(state.queue.waited_too_long(number, self.spot.clone(), holder, now))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = self.number;
        self.admission.change(|state| {
            if state.waiting.remove(&number).is_some() {
                state.queue.scheduler.leave(number);
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
        self.admission.change(|state| state.queue.scheduler.release(upstream, tokens, now));
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

    const CLAIM: Claim<'_> = Claim { holder: Holder { api_key: "k", target: "m" }, ticket: None };

    impl Admission {
        async fn admit(self: &Arc<Self>, tenant: &str) -> Result<Permit, Busy> {
            self.enter(entrant(tenant), CLAIM).await
        }

        fn queue_up(self: &Arc<Self>, tenant: &str) -> Place {
            match self.arrive(entrant(tenant), CLAIM) {
                Ok(Arrived::Waits(place)) => place,
                _ => panic!("it waits"),
            }
        }
    }

    fn entrant(tenant: &str) -> Entrant {
        let upstreams = UpstreamSet::of([0]);
        Entrant { class: PriorityClass::Standard, tenant: tenant.into(), upstreams, tokens: 1 }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_permit_goes_to_whoever_waits() {
        let admission = admission(10, LONG);
        let first = admission.admit("a").await.unwrap();
        let waits = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.admit("b").await.unwrap().upstream() }
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
        let first = admission.admit("a").await.unwrap();
        let place = admission.queue_up("b");
        drop(place);
        assert_eq!(admission.waiting(), 0);
        // One that was admitted and has left gives the permit back.
        let place = admission.queue_up("b");
        drop(first);
        assert_eq!(admission.in_flight(0), (1, 1));
        drop(place);
        assert_eq!(admission.in_flight(0), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let admission = admission(1, Duration::from_secs(2));
        let _first = admission.admit("a").await.unwrap();
        let place = admission.queue_up("b");
        let busy = admission.admit("c").await.unwrap_err();
        assert_eq!(busy.retry_after, Duration::from_secs(1));
        drop(place);
        let late = admission.admit("b").await.unwrap_err();
        assert!(late.ticket.is_some_and(|ticket| Some(ticket) != busy.ticket), "after two seconds");
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn without_a_wait_nobody_is_queued() {
        let admission = admission(10, Duration::ZERO);
        let _first = admission.admit("a").await.unwrap();
        assert!(admission.admit("b").await.is_err());
    }
}
