//! Sends no calls to a store that fails, and finds out when it works again.
//!
//! Each [fault domain](FaultDomain) of the store has its own state. It is *closed* while the domain works. It *opens*
//! when calls fail; then every call that needs the domain fails at once (P3), and no other (P19). After a while it is
//! *half-open*: one call, the probe, is let through. If it succeeds the state closes; if it fails the state opens for
//! longer.

mod machine;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::{
    Amount, Charge, Clock, LeaseUpdate, Limit, MonotonicClock, Subject, Timestamp,
};

pub use self::machine::{BreakerOptions, BreakerState};
use self::machine::{Machine, Outcome, Phase};
use super::StoreObserver;
use crate::call_report::BeganIn;
use crate::{
    CallEnd, CallObserver, CallReport, Capabilities, ChargeLeft, Charged, ExpiredLease,
    FaultDomain, LeaseId, LeaseRequest, LeaseState, LiveLeases, Part, Reserved, Store, StoreError,
    StoreErrorKind, Taken, no_leases,
};

/// The most domains whose failures are recorded separately: as many as a Cluster may have. Further ones share one
/// state.
const MAX_DOMAINS: usize = 1_024;

/// Fails at once while the store is known to fail.
///
/// - **Domains.** The following applies to each [fault domain](Store::fault_domain) separately. A call is let through
///   if all domains that it needs allow it. A failure counts for the domain that the error names, or for all domains
///   that the call needed if it names none.
/// - **Opens** after some failures in a row, when a share of the calls of a second fails, or at once if the server says
///   that it [refuses every check](StoreErrorKind::refuses_every_check). An error of any kind is a failure, except those
///   that [concern one check](StoreErrorKind::concerns_one_check).
///   A right or a command that only a reset or a settlement lacks opens nothing.
/// - **Probes** with ordinary calls, one at a time, and with [`Breaker::tend`] if there are none. After a failure that
///   [spares some calls](StoreErrorKind::spares_some_calls), only [`Breaker::tend`] probes, if the store
///   [can be probed](Store::can_probe): an ordinary call may not need what is missing. The time between two
///   probes is random, from 0 up to a bound that doubles with each failure (full jitter), but at least `min_backoff` and at
///   most `max_backoff`, so that many nodes do not probe at once.
/// - **Recovers**: a store that works again is used within `max_backoff`, the deadline of a probe, and the next call
///   (P14).
/// - A call that began before the last change of the state says nothing about the store now, and is not counted.
/// - A call whose caller has gone counts when it ends, if the store finishes such calls ([`Store::charge_reported`]);
///   otherwise it is not counted.
#[derive(Debug)]
pub struct Breaker<S, C = MonotonicClock> {
    store: S,
    shared: Arc<Shared<C>>,
}

/// Receives the reports of calls, including calls that outlive their callers.
#[derive(Debug)]
struct Shared<C> {
    clock: C,
    options: BreakerOptions,
    observer: Arc<dyn StoreObserver>,
    // Held for some nanoseconds, twice per call, which is little compared with a call over a network. The observer is
    // called while it is held, so that it sees changes in the order in which they happen.
    machines: Mutex<HashMap<FaultDomain, Machine>>,
}

impl<C: Clock> Shared<C> {
    /// A poisoned lock is fine: every change is complete at once.
    fn machines(&self) -> MutexGuard<'_, HashMap<FaultDomain, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call to `domains` through, or returns how long none will be. It `shows_little` if it does not try everything
    /// that calls need, although a probe would.
    fn admit(
        &self,
        domains: &[FaultDomain],
        shows_little: bool,
    ) -> Result<SmallVec<[BeganIn; 2]>, Duration> {
        let now = self.clock.now();
        let mut machines = self.machines();
        let closed_for = |domain: &FaultDomain| {
            machines.get(domain)?.closed_for(now, &self.options, shows_little)
        };
        if let Some(wait) = domains.iter().filter_map(closed_for).max() {
            return Err(wait);
        }
        let began = domains.iter().map(|domain| {
            let machine = machine_of(&mut machines, *domain, now);
            if machine.phase.state() == BreakerState::Open {
                let (from, to) = machine.enter(Phase::HalfOpen);
                self.observer.breaker_changed(*domain, from, to, None);
            }
            (*domain, machine.epoch)
        });
        Ok(began.collect())
    }

    /// Records how a call ended in `domain`.
    fn report(
        &self,
        machines: &mut HashMap<FaultDomain, Machine>,
        (domain, epoch): BeganIn,
        outcome: Outcome,
        cause: Option<&StoreError>,
    ) {
        let now = self.clock.now();
        let machine = machine_of(machines, domain, now);
        if let Some((from, to)) = machine.report(epoch, outcome, now, &self.options) {
            self.observer.breaker_changed(domain, from, to, cause);
        }
    }
}

fn machine_of(
    machines: &mut HashMap<FaultDomain, Machine>,
    domain: FaultDomain,
    now: Timestamp,
) -> &mut Machine {
    let has_room = machines.len() < MAX_DOMAINS || machines.contains_key(&domain);
    let domain = if has_room { domain } else { FaultDomain::WHOLE };
    machines.entry(domain).or_insert_with(|| Machine::new(now))
}

impl<C: Clock + 'static> CallObserver for Shared<C> {
    fn call_ended(&self, began: &[BeganIn], end: CallEnd<'_>) {
        if let CallEnd::Failed(error) = end {
            self.observer.call_failed(error);
        }
        self.ended(began, end);
    }

    fn charge_left(&self, why: ChargeLeft) {
        self.observer.charge_left(why);
    }
}

/// Receives the reports of calls that are not checks.
struct Aside<C> {
    shared: Arc<Shared<C>>,
    /// Nobody called a probe, so its failure is not a failed call.
    is_probe: bool,
}

impl<C: Clock + 'static> CallObserver for Aside<C> {
    fn call_ended(&self, began: &[BeganIn], end: CallEnd<'_>) {
        match end {
            _ if self.is_probe => self.shared.ended(began, end),
            // Checks may not need what is missing, and must not be decided without the store because of it.
            CallEnd::Failed(error) if error.kind().spares_some_calls() => {
                self.shared.observer.call_failed(error);
                self.shared.ended(began, CallEnd::Abandoned);
            }
            _ => self.shared.call_ended(began, end),
        }
    }

    fn charge_left(&self, why: ChargeLeft) {
        self.shared.charge_left(why);
    }
}

impl<C: Clock> Shared<C> {
    /// Records how the call that began with these domains ended.
    fn ended(&self, began: &[BeganIn], end: CallEnd<'_>) {
        let mut machines = self.machines();
        let (outcome, cause) = match end {
            CallEnd::Answered => (Outcome::Answered, None),
            CallEnd::Abandoned => (Outcome::Unknown, None),
            CallEnd::Failed(error) if error.kind().concerns_one_check() => {
                (Outcome::Answered, Some(error))
            }
            // It says nothing about the store.
            CallEnd::Failed(error) if error.kind() == StoreErrorKind::NotAsked => {
                (Outcome::Unknown, Some(error))
            }
            CallEnd::Failed(error) if error.kind().spares_some_calls() => {
                (Outcome::Lacking, Some(error))
            }
            CallEnd::Failed(error) if error.kind().refuses_every_check() => {
                (Outcome::Refused, Some(error))
            }
            CallEnd::Failed(error) => (Outcome::Failed, Some(error)),
        };
        let at_fault = cause.and_then(StoreError::fault_domain);
        for one in began {
            let here = at_fault.is_none_or(|domain| domain == one.0);
            let outcome = if here { outcome } else { Outcome::Unknown };
            self.report(&mut machines, *one, outcome, cause);
        }
        // The call was redirected to a server for which it was not begun.
        if let Some(domain) = at_fault
            && began.iter().all(|(known, _)| *known != domain)
        {
            let epoch = machine_of(&mut machines, domain, self.clock.now()).epoch;
            self.report(&mut machines, (domain, epoch), outcome, cause);
        }
    }
}

impl<S, C: Clock> Breaker<S, C> {
    /// Puts a breaker around `store`; it uses `clock` and notifies `observer`.
    pub fn new(
        store: S,
        clock: C,
        options: BreakerOptions,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        let machines = Mutex::default();
        Self { store, shared: Arc::new(Shared { clock, options, observer, machines }) }
    }

    /// The inner store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// The state of the domain that is in the worst state.
    pub fn state(&self) -> BreakerState {
        let machines = self.shared.machines();
        let states = BreakerState::ALL.into_iter().rev();
        let worst =
            |state: &BreakerState| machines.values().any(|known| known.phase.state() == *state);
        states.clone().find(worst).unwrap_or(BreakerState::Closed)
    }
}

/// The domains of a call, each once.
type Domains = SmallVec<[FaultDomain; 2]>;

fn each_once(all: impl Iterator<Item = FaultDomain>) -> Domains {
    let mut domains = Domains::new();
    for domain in all {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

impl<S: Store, C: Clock + 'static> Breaker<S, C> {
    fn domains(&self, charges: &[Charge<'_>]) -> Domains {
        each_once(charges.iter().map(|one| self.store.fault_domain(one.limit, one.subject)))
    }

    /// Lets a check of `domains` through, or returns why not.
    fn begin(&self, domains: &[FaultDomain]) -> Result<CallReport, StoreError> {
        let began = self.admit(domains)?;
        let shared = Arc::clone(&self.shared);
        Ok(CallReport::to(shared, began))
    }

    /// The same for another call.
    fn begin_aside(&self, domains: &[FaultDomain]) -> Result<CallReport, StoreError> {
        self.admit(domains).map(|began| self.report_aside(began, false))
    }

    fn report_aside(&self, began: SmallVec<[BeganIn; 2]>, is_probe: bool) -> CallReport {
        CallReport::to(Arc::new(Aside { shared: Arc::clone(&self.shared), is_probe }), began)
    }

    fn admit(&self, domains: &[FaultDomain]) -> Result<SmallVec<[BeganIn; 2]>, StoreError> {
        self.shared.admit(domains, self.store.can_probe()).map_err(|wait| {
            let wait_ms = wait.as_millis();
            let context = format!("the store has just failed; it is tried again in {wait_ms} ms");
            let error = StoreError::new(StoreErrorKind::NotAsked, context);
            self.shared.observer.call_failed(&error);
            error
        })
    }

    /// Call it several times a second. It forgets domains that the store no longer uses, and probes domains that are
    /// due if no check does. So a store that works again is noticed although nobody sends checks, and one that fails is
    /// noticed although few do: a domain whose latest call failed is probed until it answers or the state opens.
    pub async fn tend(&self) {
        let failing: Vec<FaultDomain> = {
            let machines = self.shared.machines();
            let failing = machines.iter().filter(|(_, machine)| machine.is_in_doubt());
            failing.map(|(domain, _)| *domain).collect()
        };
        for domain in failing {
            if !self.store.uses(domain) {
                let mut machines = self.shared.machines();
                if let Some(machine) = machines.remove(&domain) {
                    let (from, to) = (machine.phase.state(), BreakerState::Closed);
                    if from != to {
                        self.shared.observer.breaker_changed(domain, from, to, None);
                    }
                }
            } else if self.store.can_probe()
                && let Ok(began) = self.shared.admit(&[domain], false)
            {
                self.store.probe(domain, self.report_aside(began, true)).await;
            }
        }
    }
}

impl<S: Store, C: Clock + 'static> Store for Breaker<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        let report = self.begin(&self.domains(charges))?;
        self.store.charge_reported(charges, request_id, report).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        let report = self.begin(&self.domains(charges))?;
        self.store.peek_reported(charges, report).await
    }

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        let report = self.begin_aside(&[self.store.fault_domain(limit, subject)])?;
        self.store.reset_reported(limit, subject, report).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        // It says nothing about whether the store works.
        if let Some(refusal) = self.store.capabilities().refusal(request.charges) {
            return Err(refusal);
        }
        let report = self.begin(&self.domains(request.charges))?;
        self.store.reserve_reported(request, report).await
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.store.live_leases(most).await
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.store.expired_leases(most)
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        if !self.store.capabilities().leases {
            return Err(no_leases());
        }
        let domains = each_once(self.store.fault_domains_of(id).into_iter());
        if domains.is_empty() {
            // Nothing is asked, so the answer says nothing about whether the store works.
            return self.store.update_lease(id, update).await;
        }
        let report = self.begin_aside(&domains)?;
        self.store.update_lease_reported(id, update, report).await
    }

    async fn take(&self, charge: &Charge<'_>) -> Result<Taken, StoreError> {
        let report = self.begin(&self.domains(std::slice::from_ref(charge)))?;
        self.store.take_reported(charge, report).await
    }

    async fn give_back(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        let report = self.begin_aside(&[part.domain])?;
        self.store.give_back_reported(part, unused, report).await
    }

    fn fault_domain(&self, limit: &Limit, subject: &Subject<'_>) -> FaultDomain {
        self.store.fault_domain(limit, subject)
    }

    fn fault_domains_of(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        self.store.fault_domains_of(id)
    }

    fn uses(&self, domain: FaultDomain) -> bool {
        self.store.uses(domain)
    }

    async fn finish(&self) {
        self.store.finish().await;
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
