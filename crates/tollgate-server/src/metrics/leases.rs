//! Metrics of leases.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_core::{Amount, LeaseUpdate, Unit};
use tollgate_service::{LeaseEvent, Reservation};
use tollgate_store::memory::MemoryStoreStats;
use tollgate_store::{Effect, HoldState, LeaseState};

type Label = [(&'static str, &'static str); 1];

/// The labels of units. Custom ones are counted together, because clients name them.
const UNITS: [&str; 5] = ["requests", "tokens", "input_tokens", "output_tokens", OTHER_UNITS];
const OTHER_UNITS: &str = "(other)";

/// The place of `unit` in [`UNITS`]; `None` for slots, which have no amount.
fn place_of(unit: &Unit) -> Option<usize> {
    Some(match unit {
        Unit::Requests => 0,
        Unit::Tokens => 1,
        Unit::InputTokens => 2,
        Unit::OutputTokens => 3,
        Unit::Custom(_) => 4,
        Unit::Concurrency => return None,
    })
}

/// A counter for each of [`UNITS`].
#[derive(Debug)]
struct ByUnit {
    family: Family<Label, Counter>,
    counters: [Counter; UNITS.len()],
}

impl ByUnit {
    fn new() -> Self {
        let family = Family::default();
        let of_unit = |unit: &'static str| Counter::clone(&family.get_or_create(&[("unit", unit)]));
        let counters = UNITS.map(of_unit);
        Self { family, counters }
    }
}

/// Metrics of leases. All series are created at the start, so counting takes no lock.
#[derive(Debug)]
pub(crate) struct LeaseMetrics {
    events: Family<Label, Counter>,
    by_event: [Counter; LeaseEvent::ALL.len()],
    reserved: ByUnit,
    used: ByUnit,
    debt: ByUnit,
    settled: ByUnit,
    within: ByUnit,
    unused: ByUnit,
    exceeded: ByUnit,
    unrecorded: ByUnit,
    live: Gauge<u64, AtomicU64>,
    journal_length: Gauge<u64, AtomicU64>,
    /// Settlements that the store did not answer and that this server keeps.
    pub(crate) kept: Counter,
    /// Those that the store has answered later.
    pub(crate) replayed: Counter,
    /// Those that were not kept, or not any longer.
    pub(crate) dropped: Counter,
}

impl LeaseMetrics {
    pub(super) fn new() -> Self {
        let events = Family::default();
        let of_event =
            |event: LeaseEvent| Counter::clone(&events.get_or_create(&[("event", event.name())]));
        let by_event = LeaseEvent::ALL.map(of_event);
        let (reserved, used, debt) = (ByUnit::new(), ByUnit::new(), ByUnit::new());
        let (settled, within) = (ByUnit::new(), ByUnit::new());
        let (unused, exceeded, unrecorded) = (ByUnit::new(), ByUnit::new(), ByUnit::new());
        Self {
            events,
            by_event,
            reserved,
            used,
            debt,
            settled,
            within,
            unused,
            exceeded,
            unrecorded,
            live: Gauge::default(),
            journal_length: Gauge::default(),
            kept: Counter::default(),
            replayed: Counter::default(),
            dropped: Counter::default(),
        }
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let events = "What happened to leases";
        to.register("lease_events", events, self.events.clone());
        let reserved = "What the settled leases had reserved, extensions included, by unit";
        to.register("lease_reserved", reserved, self.reserved.family.clone());
        let used = "What the settled leases had used when they were first settled, by unit";
        to.register("lease_used", used, self.used.family.clone());
        let debt = "What settlements and extensions were charged above limits, by unit";
        to.register("lease_debt", debt, self.debt.family.clone());
        let settled = "Leases that held some of a unit when they were first settled";
        to.register("lease_settlements", settled, self.settled.family.clone());
        let within = "Those that used at most what they had reserved";
        to.register("lease_settlements_within_reservation", within, self.within.family.clone());
        let unused = "What settled leases had reserved and did not use, by unit; leases that used more add 0";
        to.register("lease_unused", unused, self.unused.family.clone());
        let exceeded = "What settled leases used above their reservations, by unit; leases that used less add 0";
        to.register("lease_exceeded", exceeded, self.exceeded.family.clone());
        let unrecorded = "What settled leases used and could not be charged, because the usage of a limit holds no more";
        to.register("lease_unrecorded", unrecorded, self.unrecorded.family.clone());
        let live = "Leases alive that this server keeps in memory; with Redis only those that it granted without it";
        to.register("leases_live", live, self.live.clone());
        let length = "Settlements that the store has not answered, kept until it does";
        to.register("lease_journal_length", length, self.journal_length.clone());
        let kept = "Settlements that the store did not answer and that were kept, counted each time they were sent";
        to.register("lease_settlements_kept", kept, self.kept.clone());
        let replayed = "Kept settlements that the store answered later";
        to.register("lease_settlements_replayed", replayed, self.replayed.clone());
        let dropped = "Settlements that could not be kept or made, each time that one is sent: what their leases reserved stays charged";
        to.register("lease_settlements_dropped", dropped, self.dropped.clone());
    }

    /// Takes over what the store in memory knows about its leases.
    pub(super) fn set_store(&self, store: &MemoryStoreStats) {
        self.live.set(store.live_leases);
        for counter in self.counters_of(LeaseEvent::Expired) {
            // Relaxed: a copy of the store's own count; concurrent scrapes copy the same count or a newer one.
            counter.inner().fetch_max(store.expired_leases, Ordering::Relaxed);
        }
    }

    /// Sets how many settlements the journal keeps.
    pub(crate) fn set_journal_length(&self, length: u64) {
        self.journal_length.set(length);
    }

    /// Counts a reservation.
    pub(crate) fn reserved(&self, reservation: &Reservation) {
        self.count(match &reservation.lease {
            None => LeaseEvent::Denied,
            Some(lease) if lease.repeated => LeaseEvent::Repeated,
            Some(_) => LeaseEvent::Reserved,
        });
    }

    /// Counts what `update` did; `state` is `None` if there is no such lease.
    pub(crate) fn updated(&self, update: &LeaseUpdate, state: Option<&LeaseState>) {
        let event = LeaseEvent::of(update, state);
        self.count(event);
        let Some(state) = state.filter(|state| state.effect == Effect::Changed) else { return };
        for (place, holds) in by_unit(state) {
            self.debt.counters[place].inc_by(most(&holds, new_debt));
            if !matches!(event, LeaseEvent::Settled | LeaseEvent::SettledLate) {
                continue;
            }
            let reserved = most(&holds, |hold| hold.charged_before);
            let used = most(&holds, |hold| hold.charged.max(reported(update, hold)));
            let unrecorded = |hold: &HoldState| reported(update, hold).saturating_sub(hold.charged);
            self.unrecorded.counters[place].inc_by(most(&holds, unrecorded));
            self.reserved.counters[place].inc_by(reserved);
            self.used.counters[place].inc_by(used);
            self.settled.counters[place].inc_by(u64::from(reserved > 0));
            self.within.counters[place].inc_by(u64::from(reserved > 0 && used <= reserved));
            self.unused.counters[place].inc_by(reserved.saturating_sub(used));
            self.exceeded.counters[place].inc_by(used.saturating_sub(reserved));
        }
    }

    fn count(&self, event: LeaseEvent) {
        for counter in self.counters_of(event) {
            counter.inc();
        }
    }

    fn counters_of(&self, event: LeaseEvent) -> impl Iterator<Item = &Counter> {
        let named = self.by_event.iter().zip(LeaseEvent::ALL);
        named.filter(move |(_, known)| *known == event).map(|(counter, _)| counter)
    }
}

/// The holds of each unit, with its place in [`UNITS`]. Custom units that share a label are apart here.
fn by_unit(state: &LeaseState) -> Vec<(usize, Vec<&HoldState>)> {
    let mut units: Vec<(usize, Vec<&HoldState>)> = Vec::new();
    for hold in &state.holds {
        let Some(place) = place_of(&hold.unit) else { continue };
        match units.iter_mut().find(|(_, holds)| holds[0].unit == hold.unit) {
            Some((_, holds)) => holds.push(hold),
            None => units.push((place, vec![hold])),
        }
    }
    units
}

/// The greatest `amount` of the holds of one unit: several limits count the same usage.
fn most(holds: &[&HoldState], amount: impl Fn(&HoldState) -> u64) -> u64 {
    holds.iter().map(|hold| amount(hold)).max().unwrap_or_default()
}

/// What `update` says that was used of the unit of `hold`, as its limit counts it; 0 if it says nothing.
fn reported(update: &LeaseUpdate, hold: &HoldState) -> u64 {
    match update {
        LeaseUpdate::Settle { usage, .. } => {
            hold.weights.of_totals(&hold.unit, usage).map_or(0, Amount::get)
        }
        LeaseUpdate::Extend { .. } | LeaseUpdate::Release => 0,
    }
}

/// What the update charged above the limit.
fn new_debt(hold: &HoldState) -> u64 {
    let charged = hold.charged.saturating_sub(hold.charged_before);
    hold.debt().min(charged)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::lease::ledger::Ending;
    use tollgate_core::{PolicyId, Quality, TokenKind, Totals, Ttl, Weight, Weights};
    use tollgate_store::LeaseStatus;

    use super::*;

    fn hold(unit: Unit, usage: u64, charged_before: u64, charged: u64) -> HoldState {
        HoldState {
            policy_id: PolicyId::new("p").unwrap(),
            unit,
            weights: Weights::default(),
            limit: Amount::new(100).unwrap(),
            usage,
            charged,
            charged_before,
            key: Box::default(),
        }
    }

    fn settled(effect: Effect, was: LeaseStatus, holds: Vec<HoldState>) -> LeaseState {
        LeaseState {
            effect,
            was,
            ending: Ending::Settled,
            seq: Amount::ONE,
            proceed: true,
            ttl: Ttl::DEFAULT,
            lives_for: Duration::ZERO,
            holds: holds.into(),
            note: Box::default(),
        }
    }

    #[test]
    fn an_update_is_counted_by_what_it_did() {
        let settle = LeaseUpdate::Settle {
            seq: Amount::ONE,
            usage: Totals::none(),
            quality: Quality::Exact,
        };
        for (effect, was, expected) in [
            (Effect::Changed, LeaseStatus::Live, LeaseEvent::Settled),
            (Effect::Changed, LeaseStatus::Expired, LeaseEvent::SettledLate),
            (Effect::Changed, LeaseStatus::Settled, LeaseEvent::Corrected),
            (Effect::Repeated, LeaseStatus::Settled, LeaseEvent::Repeated),
            (Effect::Refused, LeaseStatus::Released, LeaseEvent::Refused),
        ] {
            let state = settled(effect, was, Vec::new());
            assert_eq!(LeaseEvent::of(&settle, Some(&state)), expected);
        }
        assert_eq!(LeaseEvent::of(&settle, None), LeaseEvent::NotFound);
    }

    #[test]
    fn usage_is_counted_as_the_limit_weighs_it() {
        let metrics = LeaseMetrics::new();
        let amount = |amount| Amount::new(amount).unwrap();
        let cached = Unit::Custom("cached_input_tokens".into());
        let usage =
            Totals::none().with(Unit::InputTokens, amount(1_000)).with(cached, amount(1_000));
        let settle = LeaseUpdate::Settle { seq: Amount::ONE, usage, quality: Quality::Exact };
        let mut weights = Weights::default();
        weights.set(TokenKind::CachedInput, Weight::of_thousandths(100).unwrap());
        let held = HoldState { weights, ..hold(Unit::InputTokens, 100, 1_000, 100) };
        let state = settled(Effect::Changed, LeaseStatus::Live, vec![held]);
        metrics.updated(&settle, Some(&state));
        let input = |by_unit: &ByUnit| by_unit.counters[2].get();
        assert_eq!((input(&metrics.reserved), input(&metrics.used)), (1_000, 100));
        assert_eq!((input(&metrics.unused), input(&metrics.unrecorded)), (900, 0));
    }

    #[test]
    fn usage_is_counted_once_for_all_limits_of_a_unit_and_a_correction_not_again() {
        let metrics = LeaseMetrics::new();
        let settle = LeaseUpdate::Settle {
            seq: Amount::ONE,
            usage: Totals::none().with(Unit::Tokens, Amount::new(95).unwrap()),
            quality: Quality::Exact,
        };
        let holds = || {
            vec![
                hold(Unit::Tokens, 130, 40, 80),
                hold(Unit::Tokens, 90, 40, 80),
                hold(Unit::Requests, 1, 1, 1),
                hold(Unit::Custom("images".into()), 300, 5, 3),
                hold(Unit::Custom("micro_usd".into()), 90, 10, 60),
                hold(Unit::Concurrency, 0, 1, 0),
            ]
        };
        metrics.updated(&settle, Some(&settled(Effect::Changed, LeaseStatus::Live, holds())));
        let counts = |by_unit: &ByUnit| by_unit.counters.each_ref().map(Counter::get);
        assert_eq!(counts(&metrics.reserved), [1, 40, 0, 0, 15]);
        // The bucket could not hold the last 15 tokens.
        assert_eq!(counts(&metrics.used), [1, 95, 0, 0, 63]);
        assert_eq!(counts(&metrics.unrecorded), [0, 15, 0, 0, 0]);
        assert_eq!(counts(&metrics.within), [1, 0, 0, 0, 1]);
        assert_eq!(counts(&metrics.debt), [0, 30, 0, 0, 0]);
        assert_eq!(counts(&metrics.exceeded), [0, 55, 0, 0, 50]);
        assert_eq!(counts(&metrics.unused), [0, 0, 0, 0, 2]);
        let corrected = settled(Effect::Changed, LeaseStatus::Settled, holds());
        metrics.updated(&settle, Some(&corrected));
        let repeated = settled(Effect::Repeated, LeaseStatus::Settled, holds());
        metrics.updated(&settle, Some(&repeated));
        assert_eq!(counts(&metrics.used), [1, 95, 0, 0, 63]);
        assert_eq!(counts(&metrics.debt), [0, 60, 0, 0, 0], "a correction may add to it");
    }
}
