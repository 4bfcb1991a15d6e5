//! Takes small parts of split limits ahead of time, and decides from them without asking the store (R22).
//!
//! `state` says what a node holds of one limit and what it takes next, `held` finds the state of a limit.

mod held;
mod state;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Charge, Clock, LeaseUpdate, Limit, MonotonicClock, Subject};

use self::held::HeldParts;
use self::state::{Order, Spent, Unspent};
use super::StoreObserver;
use crate::background::Background;
use crate::{
    Capabilities, ChargeLeft, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest,
    LeaseState, LiveLeases, Reserved, Store, StoreError, Verdicts, admits,
};

/// How often it is tried to give back what is left of a part.
const GIVE_BACK_ATTEMPTS: u32 = 3;
/// The pause after the first attempt; it doubles.
const GIVE_BACK_PAUSE: Duration = Duration::from_millis(50);

/// What became of units of split limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartEvent {
    /// They were taken ahead of time.
    Taken,
    /// Checks were admitted from them.
    Spent,
    /// They were spent for a check that another limit denied, and are held again.
    PutBack,
    /// They were given back unspent.
    GivenBack,
    /// They were neither spent nor given back, because the store did not answer: they leave with the window.
    Left,
}

/// Decides checks of split limits from parts that it takes from the store ahead of time; asks the store for everything else.
///
/// **Never above the limit.** A part is charged when it is taken, and is spent within its life, measured from before the store was
/// asked. The store counts everything under a split limit for a life longer than its window ([`Limit::counted_longer`]), so what
/// any true window holds was charged within one window of the store. Units that are not spent are given back when the part
/// ends. A reset on another node may find units in hand here, which are spent within a life.
///
/// **Under-admission is bounded.** A node holds at most the share of a limit ([`Split::part_of`](tollgate_core::Split::part_of))
/// for a life, and takes no more than was lately admitted. What a node holds that ends without giving back leaves with the window.
///
/// **Always asked:** a check that the parts in hand cannot admit, a check with a request id (R12), a reservation, a peek.
///
/// **A store that gives no parts** ([`Capabilities::parts`]) decides split limits as if they were not split.
#[derive(Debug)]
pub struct PartKeeper<S, C = MonotonicClock> {
    shared: Arc<Shared<S, C>>,
}

#[derive(Debug)]
struct Shared<S, C> {
    store: S,
    clock: C,
    /// Whether the store gives parts.
    is_used: bool,
    held: HeldParts,
    background: Arc<Background>,
    observer: Arc<dyn StoreObserver>,
}

/// The limits of a check as the store counts them.
type Counted = SmallVec<[Arc<Limit>; 4]>;

/// Each limit of `charges` as the store counts it.
fn counted(charges: &[Charge<'_>]) -> Counted {
    let counted = |charge: &Charge<'_>| match charge.limit.counted_longer() {
        Some(longer) => Arc::new(longer),
        None => Arc::clone(charge.limit),
    };
    charges.iter().map(counted).collect()
}

fn with_limits<'a>(charges: &[Charge<'a>], limits: &'a [Arc<Limit>]) -> SmallVec<[Charge<'a>; 4]> {
    charges.iter().zip(limits).map(|(charge, limit)| Charge { limit, ..*charge }).collect()
}

impl<S: Store, C: Clock + 'static> PartKeeper<S, C> {
    /// Keeps parts of the limits in `store`. `clock` is this node's own.
    pub fn new(store: S, clock: C, observer: Arc<dyn StoreObserver>) -> Self {
        let is_used = store.capabilities().parts;
        let (held, background) = (HeldParts::new(), Arc::default());
        Self { shared: Arc::new(Shared { store, clock, is_used, held, background, observer }) }
    }

    /// The inner store.
    pub fn inner(&self) -> &S {
        &self.shared.store
    }

    /// Gives back what is left of the parts that have ended. Call it several times a second.
    pub fn tend(&self) {
        if self.shared.is_used {
            let unspent = self.shared.held.ended(self.shared.clock.now());
            self.shared.give_back(unspent);
        }
    }

    #[inline]
    fn is_split(&self, charges: &[Charge<'_>]) -> bool {
        self.shared.is_used && charges.iter().any(|charge| charge.limit.split().is_some())
    }
}

impl<S: Store, C: Clock + 'static> Shared<S, C> {
    /// Decides a check, some of whose limits are split.
    async fn charge_split(self: &Arc<Self>, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        let spent: SmallVec<[Option<Spent>; 4]> =
            charges.iter().map(|charge| self.spend(charge)).collect();
        if let Some(verdicts) = all_verdicts(&spent) {
            self.observer.admitted_locally();
            return Ok(verdicts.into());
        }
        let asked = charges.iter().zip(&spent).filter(|(_, spent)| spent.is_none());
        let asked: SmallVec<[Charge<'_>; 4]> = asked.map(|(charge, _)| *charge).collect();
        let limits = counted(&asked);
        let answer = self.store.charge(&with_limits(&asked, &limits), None).await;
        let is_admitted = answer.as_ref().is_ok_and(|answer| admits(&asked, &answer.verdicts));
        if !is_admitted {
            self.put_back(charges, &spent);
        }
        let answer = answer?;
        self.learn(&asked, &limits, &answer.verdicts, is_admitted);
        let mut told = answer.verdicts.into_iter();
        let verdicts = spent.iter().map(|spent| match spent {
            Some(spent) if is_admitted => Some(spent.verdict),
            Some(spent) => Some(spent.before()),
            None => told.next(),
        });
        Ok(Charged { verdicts: verdicts.flatten().collect(), degraded: answer.degraded })
    }

    /// Admits `charge` from the parts in hand; `None` if the store must be asked.
    #[inline]
    fn spend(self: &Arc<Self>, charge: &Charge<'_>) -> Option<Spent> {
        charge.limit.split()?;
        let now = self.clock.now();
        let from_hand = |state: &mut state::State| {
            let spent = state.spend(charge.cost, now)?;
            Some((spent, state.order()))
        };
        let (spent, order) = self.held.with(charge.limit, charge.subject, from_hand)??;
        self.observer.parts_changed(PartEvent::Spent, spent.cost);
        if let Some(order) = order {
            self.take(charge.limit, order);
        }
        Some(spent)
    }

    /// Takes back what was spent for a check that is denied.
    fn put_back(&self, charges: &[Charge<'_>], spent: &[Option<Spent>]) {
        for (charge, spent) in charges.iter().zip(spent) {
            if let Some(spent) = spent {
                let put_back = |state: &mut state::State| state.put_back(spent);
                let units = self.held.with(charge.limit, charge.subject, put_back);
                self.observer.parts_changed(PartEvent::PutBack, units.unwrap_or_default());
            }
        }
    }

    /// Learns from the store's answer about limits that are split, and takes parts of those that are worth it.
    fn learn(
        self: &Arc<Self>,
        charges: &[Charge<'_>],
        limits: &[Arc<Limit>],
        verdicts: &[Verdict],
        is_admitted: bool,
    ) {
        let split = charges.iter().zip(limits).zip(verdicts);
        let split = split.filter(|((charge, _), _)| charge.limit.split().is_some());
        for ((charge, counted), verdict) in split {
            let now = self.clock.now();
            let admitted = (is_admitted && verdict.allowed).then_some(charge.cost);
            let order = self.held.with_new(charge, counted, |state| {
                state.learn(verdict, admitted, now);
                state.order()
            });
            if let Some(order) = order.flatten() {
                self.take(charge.limit, order);
            }
        }
    }

    /// Takes a part of `limit`, in a task.
    #[cold]
    fn take(self: &Arc<Self>, limit: &Arc<Limit>, order: Order) {
        let Ok(runtime) = Handle::try_current() else {
            // Without a runtime nothing can be taken, and the store is asked about every check.
            let now = self.clock.now();
            let not_taken = |state: &mut state::State| state.taken(&order, None, (now, now));
            self.held.with(limit, &order.holder.subject(), not_taken);
            return;
        };
        let (shared, limit, running) =
            (Arc::clone(self), Arc::clone(limit), self.background.begin());
        runtime.spawn(async move {
            shared.take_now(&limit, &order).await;
            drop(running);
        });
    }

    async fn take_now(self: &Arc<Self>, limit: &Arc<Limit>, order: &Order) {
        let subject = order.holder.subject();
        let charge = Charge { limit: &order.limit, subject: &subject, cost: order.size };
        // Read before the store is asked: the part begins later than this.
        let sent = self.clock.now();
        let answer = self.store.take(&charge).await;
        match &answer {
            Ok(taken) if taken.part.is_some() => {
                self.observer.parts_changed(PartEvent::Taken, order.size.get());
            }
            Err(error) if error.may_have_charged() => {
                self.observer.charge_left(ChargeLeft::AnswerLost);
            }
            _ => {}
        }
        let times = (sent, self.clock.now());
        let unspent = self
            .held
            .with(limit, &subject, |state| state.taken(order, answer.ok(), times))
            .flatten();
        self.give_back(unspent.into_iter().collect());
    }

    /// Gives back what was not spent, in tasks.
    fn give_back(self: &Arc<Self>, unspent: Vec<Unspent>) {
        for unspent in unspent {
            let running = Handle::try_current().ok().zip(self.background.begin_waiting());
            let Some((runtime, running)) = running else {
                self.left(&unspent);
                continue;
            };
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                shared.give_back_now(&unspent).await;
                drop(running);
            });
        }
    }

    async fn give_back_now(&self, unspent: &Unspent) {
        for attempt in 0..GIVE_BACK_ATTEMPTS {
            if self.store.give_back(&unspent.part, unspent.units).await.is_ok() {
                self.observer.parts_changed(PartEvent::GivenBack, unspent.units.get());
                return;
            }
            tokio::time::sleep(GIVE_BACK_PAUSE * (1 << attempt)).await;
        }
        self.left(unspent);
    }

    fn left(&self, unspent: &Unspent) {
        self.observer.parts_changed(PartEvent::Left, unspent.units.get());
        self.observer.charge_left(ChargeLeft::NotRefunded);
    }

    /// The verdicts on what the parts in hand would admit, with what is in hand.
    fn would_spend(&self, charges: &[Charge<'_>]) -> SmallVec<[Option<(Verdict, u64)>; 4]> {
        let now = self.clock.now();
        let of = |charge: &Charge<'_>| {
            charge.limit.split()?;
            let would_spend = |state: &mut state::State| state.would_spend(charge.cost, now);
            self.held.with(charge.limit, charge.subject, would_spend)?
        };
        charges.iter().map(of).collect()
    }
}

/// The verdicts if every limit was decided here.
fn all_verdicts(spent: &[Option<Spent>]) -> Option<Verdicts> {
    spent.iter().map(|spent| spent.as_ref().map(|spent| spent.verdict)).collect()
}

impl<S: Store, C: Clock + 'static> Store for PartKeeper<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        if !self.is_split(charges) {
            return self.shared.store.charge(charges, request_id).await;
        }
        if request_id.is_some() {
            // It may be the repetition of an admitted check; only the store knows.
            let limits = counted(charges);
            return self.shared.store.charge(&with_limits(charges, &limits), request_id).await;
        }
        self.shared.charge_split(charges).await
    }

    /// Asks the store, because the numbers matter most. What the parts in hand would admit is admitted.
    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        if !self.is_split(charges) {
            return self.shared.store.peek(charges).await;
        }
        let limits = counted(charges);
        let answer = self.shared.store.peek(&with_limits(charges, &limits)).await;
        let here = self.shared.would_spend(charges);
        match answer {
            Ok(mut answer) => {
                for (verdict, here) in answer.verdicts.iter_mut().zip(&here) {
                    if let Some((_, in_hand)) = here {
                        let usage = verdict.usage.saturating_sub(*in_hand);
                        *verdict = Verdict { allowed: true, usage, wait: Wait::None, ..*verdict };
                    }
                }
                Ok(answer)
            }
            Err(error) => {
                let here = here.iter().map(|here| here.map(|(verdict, _)| verdict));
                here.collect::<Option<Verdicts>>().map(Charged::from).ok_or(error)
            }
        }
    }

    /// What is in hand is not spent, on this node.
    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        let shared = &self.shared;
        if !shared.is_used {
            return shared.store.reset(limit, subject).await;
        }
        let before = shared.held.reset(limit, subject);
        let answer = shared.store.reset(limit, subject).await;
        // Also what was taken meanwhile: it may have been cleared. Giving back what was cleared changes nothing.
        let after = shared.held.reset(limit, subject);
        shared.give_back(before.into_iter().chain(after).collect());
        answer
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.store.capabilities().without_parts()
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        if !self.is_split(request.charges) {
            return self.shared.store.reserve(request).await;
        }
        let limits = counted(request.charges);
        let charges = with_limits(request.charges, &limits);
        self.shared.store.reserve(&LeaseRequest { charges: &charges, ..*request }).await
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.shared.store.update_lease(id, update).await
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.shared.store.live_leases(most).await
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.shared.store.expired_leases(most)
    }

    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        self.shared.store.fault_domain(limit, subject)
    }

    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        self.shared.store.fault_domains_of(id)
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        self.shared.store.uses(domain)
    }

    fn keeps_order(&self) -> bool {
        self.shared.store.keeps_order()
    }

    /// Gives all parts back. No check may follow.
    async fn finish(&self) {
        // Parts that are being taken are in hand after this.
        self.shared.background.finish().await;
        self.shared.give_back(self.shared.held.clear());
        self.shared.background.finish().await;
        self.shared.store.finish().await;
    }
}

#[cfg(test)]
mod tests;
