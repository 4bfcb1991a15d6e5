//! Admission: each request waits until an upstream has room for it, in an order that is fair.
//!
//! [`scheduler`] decides; [`Admission`] delivers what it decides to the requests that wait. A request that is dropped while it
//! waits gives up its place, and a [`Permit`] that is dropped gives its room to the next. A queue that is closed refuses whoever waits
//! and whoever comes.

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
    is_closed: bool,
}

/// Why a request gets no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It may come back.
    Busy(Busy),
    /// The queue is closed, because the gateway ends.
    Closed,
}

/// How a request that waits gets its permit. If it is dropped, the request has lost its place.
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
            state: Mutex::new(State { queue, waiting: HashMap::new(), is_closed: false }),
            max_wait,
            clock: MonotonicClock::new(),
        }
    }

    /// Waits for the turn of `entrant` and returns its place at one of its upstreams.
    ///
    /// Fails at once if the expected wait is above `maxWaitMs`, unless `claim` has a ticket that is due, and if the queue is full of
    /// requests that come before it. Fails later if the real wait reaches `maxWaitMs`, if a request that comes before it takes its
    /// place, or if the queue is closed.
    pub async fn enter(
        self: &Arc<Self>,
        entrant: Entrant,
        claim: Claim<'_>,
    ) -> Result<Permit, Refused> {
        let mut place = match self.arrive(entrant, claim)? {
            Arrived::Admitted(permit) => return Ok(permit),
            Arrived::Waits(place) => place,
        };
        match tokio::time::timeout(self.max_wait, &mut place.granted).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(place.lost(claim.holder)),
            Err(_) => match place.waited_too_long(claim.holder) {
                Some(busy) => Err(Refused::Busy(busy)),
                None => (&mut place.granted).await.map_err(|_| place.lost(claim.holder)),
            },
        }
    }

    /// Refuses whoever waits and whoever comes from now on. Permits stay valid.
    pub fn close(self: &Arc<Self>) {
        self.change(|state| {
            state.is_closed = true;
            for (number, _) in state.waiting.drain() {
                state.queue.scheduler.leave(number);
            }
        });
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

    fn arrive(self: &Arc<Self>, entrant: Entrant, claim: Claim<'_>) -> Result<Arrived, Refused> {
        let (spot, tokens) = (queue::spot(&entrant), entrant.tokens);
        let now = self.clock.now();
        self.change(|state| {
            if state.is_closed {
                return Err(Refused::Closed);
            }
            match state.queue.arrive(entrant, claim, now) {
                Arrival::Admitted(upstream) => Ok(Arrived::Admitted(self.permit(upstream, tokens))),
                Arrival::Waits { number, displaced } => {
                    let (sender, granted) = oneshot::channel();
                    state.waiting.insert(number, Grant { sender, tokens });
                    if let Some(displaced) = displaced {
                        state.waiting.remove(&displaced);
                    }
                    let admission = Arc::clone(self);
                    Ok(Arrived::Waits(Place { admission, number, spot, granted }))
                }
                Arrival::Denied(busy) => Err(Refused::Busy(busy)),
            }
        })
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
    /// Why it was taken.
    fn lost(&self, holder: Holder<'_>) -> Refused {
        let now = self.admission.clock.now();
        let mut state = self.admission.state();
        if state.is_closed {
            return Refused::Closed;
        }
        let spot = self.spot.clone();
        Refused::Busy(state.queue.was_displaced(self.number, spot, holder, now))
    }

    /// Leaves the queue, with a ticket; `None` if the permit was granted or the place was taken meanwhile.
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
        async fn admit(self: &Arc<Self>, tenant: &str) -> Result<Permit, Refused> {
            self.enter(entrant(tenant), CLAIM).await
        }

        async fn deny(self: &Arc<Self>, tenant: &str) -> Busy {
            match self.admit(tenant).await.unwrap_err() {
                Refused::Busy(busy) => busy,
                Refused::Closed => panic!("it is open"),
            }
        }

        fn queue_up(self: &Arc<Self>, tenant: &str) -> Place {
            match self.arrive(entrant(tenant), CLAIM) {
                Ok(Arrived::Waits(place)) => place,
                _ => panic!("it waits"),
            }
        }

        /// Lets a request of `entrant` wait in a task.
        async fn queue_up_in_task(
            self: &Arc<Self>,
            entrant: Entrant,
        ) -> tokio::task::JoinHandle<Result<usize, Refused>> {
            let (admission, before) = (Arc::clone(self), self.waiting());
            let waits = tokio::spawn(async move {
                admission.enter(entrant, CLAIM).await.map(|permit| permit.upstream())
            });
            while self.waiting() == before {
                tokio::task::yield_now().await;
            }
            waits
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
        let waits = admission.queue_up_in_task(entrant("b")).await;
        drop(first);
        assert_eq!(waits.await.unwrap(), Ok(0));
        assert_eq!((admission.waiting(), admission.in_flight(0)), (0, (0, 0)));
    }

    #[tokio::test]
    async fn whoever_loses_the_place_is_told_with_a_ticket() {
        let admission = admission(1, LONG);
        let first = admission.admit("a").await.unwrap();
        let waits = admission.queue_up_in_task(entrant("b")).await;
        let premium = Entrant { class: PriorityClass::Premium, ..entrant("c") };
        let Ok(Arrived::Waits(mut place)) = admission.arrive(premium, CLAIM) else {
            panic!("it takes the place")
        };
        let Err(Refused::Busy(busy)) = waits.await.unwrap() else { panic!("it lost the place") };
        assert!(busy.ticket.is_some());
        assert_eq!((admission.waiting(), admission.waiting_by_class()), (1, [0, 0, 1, 0]));
        drop(first);
        assert!(place.granted.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_closed_queue_refuses_whoever_waits_and_whoever_comes() {
        let admission = admission(10, LONG);
        let first = admission.admit("a").await.unwrap();
        let waits = admission.queue_up_in_task(entrant("b")).await;
        admission.close();
        assert_eq!(waits.await.unwrap(), Err(Refused::Closed));
        assert_eq!((admission.waiting(), admission.in_flight(0)), (0, (1, 1)));
        drop(first);
        assert_eq!(admission.admit("c").await.unwrap_err(), Refused::Closed);
        assert_eq!((admission.in_flight(0), admission.ticket_counts().issued), ((0, 0), 0));
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
        let busy = admission.deny("c").await;
        assert_eq!(busy.retry_after, Duration::from_secs(1));
        drop(place);
        let late = admission.deny("b").await;
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
