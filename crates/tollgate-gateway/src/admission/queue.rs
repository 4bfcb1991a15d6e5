//! Who waits, who is turned away, and with which ticket: a pure state machine over the [`Scheduler`] and the [`Tickets`].
//!
//! A request is turned away if its wait is or would be longer than `maxWaitMs`, or if the queue is full and nobody in it comes after it:
//! a full queue keeps those that its order serves first, whoever was there first. The ticket of whoever is turned away says when
//! to come back, and keeps its number. With a ticket that is due it comes before whoever arrived later in its class and tenant, and its
//! expected wait does not turn it away. Against other classes and tenants a ticket is worth nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::Timestamp;

use super::scheduler::{Capacity, Entrant, Line, Number, Scheduler};
use super::tickets::{Holder, Shown, Spot, TicketCounts, TicketId, Tickets};
use crate::config::QueueConfig;

/// The shortest time after which a request without a ticket is told to come back.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest time after which a request is told to come back. It gets no ticket if it would have to wait for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);
/// The shortest time after which a ticket is due. Less is spent on the way, and retries of clients would be used up at once.
const MIN_TICKET_WAIT: Duration = Duration::from_millis(50);
/// The time between two places that become free, while it is not known.
const ASSUMED_INTERVAL: Duration = Duration::from_millis(10);

/// The queue has no place for a request, or its wait was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// When there may be one.
    pub retry_after: Duration,
    /// With what it comes first then.
    pub ticket: Option<TicketId>,
}

/// Who makes a request, and the ticket that it has.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who, and for what.
    pub holder: Holder<'a>,
    /// The ticket.
    pub ticket: Option<TicketId>,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It goes to this upstream.
    Admitted(usize),
    /// It waits, and took the place of another, if that has left for it. Call [`Scheduler::admit_next`] then.
    Waits { number: Number, displaced: Option<Number> },
    /// It is turned away.
    Denied(Busy),
}

/// The queue in front of all upstreams, and the tickets of those that it turned away.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) scheduler: Scheduler,
    tickets: Tickets,
    bounds: QueueConfig,
}

impl Queue {
    pub(super) fn new(capacities: impl IntoIterator<Item = Capacity>, bounds: QueueConfig) -> Self {
        Self { scheduler: Scheduler::new(capacities), tickets: Tickets::default(), bounds }
    }

    /// Puts `entrant` in the queue, if there is a place for it. O(requests that wait), and O(log n) for each ticket that has become
    /// due.
    pub(super) fn arrive(&mut self, entrant: Entrant, claim: Claim<'_>, now: Timestamp) -> Arrival {
        self.tickets.advance(now);
        let shown = claim.ticket.map(|id| (id, self.tickets.show(id, claim.holder, now)));
        match shown {
            Some((_, Shown::Due(number))) => {
                let spot = spot(&entrant);
                self.scheduler.arrive_again(entrant, number);
                match self.admitted() {
                    Some(admitted) => admitted,
                    None => self.wait_or_deny(number, spot, claim.holder, now),
                }
            }
            Some((id, Shown::Early(number, remaining))) => {
                self.scheduler.arrive_again(entrant, number);
                let admitted = self.admitted();
                self.tickets.came_early(id, admitted.is_some());
                admitted.unwrap_or_else(|| {
                    self.scheduler.leave(number);
                    Arrival::Denied(Busy { retry_after: remaining, ticket: Some(id) })
                })
            }
            Some((_, Shown::Worthless)) | None => self.arrive_anew(entrant, claim.holder, now),
        }
    }

    /// Whether whoever has just arrived is admitted. Nobody else could be before it arrived, and nobody else can be now.
    fn admitted(&mut self) -> Option<Arrival> {
        self.scheduler.admit_next().map(|(_, upstream)| Arrival::Admitted(upstream))
    }

    fn arrive_anew(&mut self, entrant: Entrant, holder: Holder<'_>, now: Timestamp) -> Arrival {
        let spot = spot(&entrant);
        let number = self.scheduler.arrive(entrant);
        if let Some(admitted) = self.admitted() {
            return admitted;
        }
        let is_too_long = self.expected_wait(number, &spot) > Some(self.bounds.max_wait);
        if is_too_long || self.bounds.max_wait.is_zero() {
            self.scheduler.leave(number);
            return Arrival::Denied(self.turn_away(number, spot, holder, now));
        }
        self.wait_or_deny(number, spot, holder, now)
    }

    /// The request `number`, which is in the queue, stays there if there is a place for it, if need be that of another.
    fn wait_or_deny(
        &mut self,
        number: Number,
        spot: Spot,
        holder: Holder<'_>,
        now: Timestamp,
    ) -> Arrival {
        let is_full = self.scheduler.waiting() > self.bounds.max_length;
        let last = self.scheduler.last_in_order(&spot).filter(|_| is_full);
        if let Some(last) = last {
            self.scheduler.leave(last);
        }
        if last == Some(number) {
            return Arrival::Denied(self.turn_away(number, spot, holder, now));
        }
        Arrival::Waits { number, displaced: last }
    }

    /// The wait of the request `number` was too long. It leaves the queue. Call [`Scheduler::admit_next`] then.
    pub(super) fn waited_too_long(
        &mut self,
        number: Number,
        spot: Spot,
        holder: Holder<'_>,
        now: Timestamp,
    ) -> Busy {
        self.scheduler.leave(number);
        self.was_displaced(number, spot, holder, now)
    }

    /// What the request `number` is told, which is no longer in the queue because another took its place.
    pub(super) fn was_displaced(
        &mut self,
        number: Number,
        spot: Spot,
        holder: Holder<'_>,
        now: Timestamp,
    ) -> Busy {
        self.tickets.advance(now);
        self.turn_away(number, spot, holder, now)
    }

    fn turn_away(
        &mut self,
        number: Number,
        spot: Spot,
        holder: Holder<'_>,
        now: Timestamp,
    ) -> Busy {
        let expected = self.expected_wait(number, &spot).unwrap_or_default();
        let without =
            Busy { retry_after: expected.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER), ticket: None };
        if self.bounds.max_wait.is_zero() || self.bounds.max_length == 0 {
            return without;
        }
        // Even if nobody is ahead, one place must become free.
        let ahead = self.ahead(number, &spot, true).max(1);
        let known = self.scheduler.time_of_places(ahead, spot.upstreams);
        let assumed =
            || MIN_RETRY_AFTER.max(ASSUMED_INTERVAL * u32::try_from(ahead).unwrap_or(u32::MAX));
        let wait = known.unwrap_or_else(assumed).max(MIN_TICKET_WAIT);
        // Whole milliseconds, as clients are told.
        let wait_ms = wait.as_nanos().div_ceil(1_000_000);
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(u64::MAX));
        if wait > MAX_RETRY_AFTER {
            return without;
        }
        let Some(id) = TicketId::random() else { return without };
        if !self.tickets.issue(id, holder, spot, number, now.after(wait)) {
            return without;
        }
        Busy { retry_after: wait, ticket: Some(id) }
    }

    /// Takes back a ticket that its client cannot see.
    pub(super) fn withdraw(&mut self, ticket: TicketId) {
        self.tickets.withdraw(ticket);
    }

    pub(super) fn ticket_counts(&mut self, now: Timestamp) -> TicketCounts {
        self.tickets.advance(now);
        self.tickets.counts()
    }

    /// How long the request `number` waits at `spot`, if it is not known how often places become free.
    fn expected_wait(&self, number: Number, spot: &Spot) -> Option<Duration> {
        let places = self.ahead(number, spot, false).saturating_add(1);
        self.scheduler.time_of_places(places, spot.upstreams)
    }

    /// How many requests are served before the request `number` at `spot`: all of higher classes, those of its tenant that arrived
    /// before it, and of each other tenant of its class at most one more than that, because tenants take turns. `with_tickets` counts those
    /// that will come back, too. O(requests that wait).
    fn ahead(&self, number: Number, spot: &Spot, with_tickets: bool) -> u64 {
        let waiting = self.scheduler.lines(number, spot.upstreams);
        let tickets = with_tickets.then(|| self.tickets.lines(number, spot.upstreams));
        let (mut higher, mut own) = (0, 0);
        let mut others: HashMap<&Arc<str>, u64> = HashMap::new();
        for Line { class, tenant, length, before } in waiting.chain(tickets.into_iter().flatten()) {
            if class > spot.class {
                higher += length;
            } else if class == spot.class && *tenant == spot.tenant {
                own += before;
            } else if class == spot.class {
                *others.entry(tenant).or_default() += length;
            }
        }
        let others: u64 = others.into_values().map(|length| length.min(own + 1)).sum();
        higher + own + others
    }
}

/// Where `entrant` waits.
pub(super) fn spot(entrant: &Entrant) -> Spot {
    let Entrant { class, ref tenant, upstreams, .. } = *entrant;
    Spot { class, tenant: Arc::clone(tenant), upstreams }
}

#[cfg(test)]
mod tests;
