//! The breaker under every schedule that Shuttle finds: calls that fail, succeed, end late or are abandoned, in any
//! order.
//!
//! Between two critical sections of the breaker there is only the store, so the model's store lets other tasks run. A
//! failure prints the schedule; `shuttle::replay` runs it again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use shuttle::future::{block_on, spawn, yield_now};
use tollgate_core::{Charge, Limit, ManualClock, Subject};

use super::scripted::one_charge;
use super::{Breaker, BreakerOptions, BreakerState};
use crate::{Charged, MemoryStore, Store, StoreError, StoreErrorKind};

const SCHEDULES: usize = 500;
/// Each sends two calls.
const CALLERS: usize = 4;
/// Above every back-off.
const LONG: Duration = Duration::from_secs(2);

type Modelled = Breaker<Model, ManualClock>;

/// A store that may be down, and checks which calls reach it.
#[derive(Clone, Debug, Default)]
struct Model(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    breaker: OnceLock<Weak<Modelled>>,
    is_down: AtomicBool,
    /// Probes that are in the store.
    probes: AtomicU32,
    /// Whether the breaker has opened and no probe has succeeded since.
    is_lost: AtomicBool,
}

// SeqCst throughout: Shuttle runs one task at a time, so there is nothing to order.
impl Model {
    fn state(&self) -> BreakerState {
        self.0.breaker.get().and_then(Weak::upgrade).unwrap().state()
    }

    /// A call arrives, takes a while, and ends according to the store's state at that time. No other task runs between
    /// the breaker's permission and here, nor between here and the report of the end.
    async fn call(&self) -> Result<(), StoreError> {
        let probe = match self.state() {
            BreakerState::Open => panic!("a call reached the store through an open breaker"),
            BreakerState::HalfOpen => Some(Probe::begin(&self.0)),
            BreakerState::Closed => {
                let is_lost = self.0.is_lost.load(Ordering::SeqCst);
                assert!(!is_lost, "closed although no probe has succeeded");
                None
            }
        };
        yield_now().await;
        yield_now().await;
        if self.0.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "it is down"));
        }
        if probe.is_some() {
            self.0.is_lost.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// A probe in the store. It is dropped when the probe ends, even if its caller gives up.
struct Probe<'a>(&'a Seen);

impl<'a> Probe<'a> {
    fn begin(seen: &'a Seen) -> Self {
        let others = seen.probes.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "one probe at a time");
        seen.is_lost.store(true, Ordering::SeqCst);
        Self(seen)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.probes.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Model {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.call().await?;
        Store::charge(&MemoryStore::new(), charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        self.call().await?;
        Store::peek(&MemoryStore::new(), charges).await
    }

    async fn reset(&self, _: &Limit, _: &Subject<'_>) -> Result<(), StoreError> {
        self.call().await
    }
}

/// Polls `call` until it ends, or `polls` times; then its caller gives up.
async fn given_up_after<T>(polls: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| match (call.as_mut().poll(context), left) {
        (Poll::Ready(ended), _) => Poll::Ready(Some(ended)),
        (Poll::Pending, 0) => Poll::Ready(None),
        (Poll::Pending, _) => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

fn modelled() -> (Model, ManualClock, Arc<Modelled>) {
    let (model, clock) = (Model::default(), ManualClock::default());
    // It opens at the second failure in a row, so that few calls are enough.
    let options = BreakerOptions { consecutive_failures: 2, ..BreakerOptions::default() };
    let breaker = Arc::new(Breaker::new(model.clone(), clock.clone(), options, Arc::new(())));
    model.0.breaker.set(Arc::downgrade(&breaker)).unwrap();
    (model, clock, breaker)
}

async fn ask(breaker: &Modelled) -> bool {
    // No other task runs until the breaker has decided about the call.
    if breaker.state() == BreakerState::Open {
        breaker.inner().0.is_lost.store(true, Ordering::SeqCst);
    }
    one_charge(async |charges| breaker.charge(charges, None).await).await.is_ok()
}

/// Calls come and go while the store goes down and comes back up.
async fn a_course(gives_up: bool) {
    let (model, clock, breaker) = modelled();
    let mut tasks = Vec::new();
    for caller in 0..CALLERS {
        let breaker = Arc::clone(&breaker);
        tasks.push(spawn(async move {
            for _ in 0..2 {
                let polls = if gives_up && caller % 2 == 0 { 1 } else { u32::MAX };
                given_up_after(polls, ask(&breaker)).await;
                yield_now().await;
            }
        }));
    }
    let (world, passing) = (model.clone(), clock.clone());
    tasks.push(spawn(async move {
        for is_down in [true, true, false] {
            world.0.is_down.store(is_down, Ordering::SeqCst);
            yield_now().await;
            passing.advance(Duration::from_millis(100));
            yield_now().await;
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    // Whatever was abandoned, nothing is stuck: the store works again, and the next call notices it.
    assert_eq!(model.0.probes.load(Ordering::SeqCst), 0);
    clock.advance(LONG);
    assert!(ask(&breaker).await);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// P3, P14: one probe at a time; a late answer does not close the breaker; a store that works again is noticed.
#[test]
fn calls_of_every_order_keep_to_one_probe_and_find_the_store_again() {
    shuttle::check_random(|| block_on(a_course(false)), SCHEDULES);
    shuttle::check_pct(|| block_on(a_course(false)), SCHEDULES, 3);
}

/// If a caller gives up during the probe or before it, the breaker is not blocked for others.
#[test]
fn callers_that_give_up_leave_the_breaker_able_to_close() {
    shuttle::check_random(|| block_on(a_course(true)), SCHEDULES);
    shuttle::check_pct(|| block_on(a_course(true)), SCHEDULES, 3);
}
