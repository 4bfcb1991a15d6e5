//! Which waiting request goes to which upstream next: a pure state machine.
//!
//! - **Room.** An upstream takes at most its `max_concurrency` requests, and requests of at most `max_tokens` in all. A request
//!   that is larger than that goes to an upstream that has nothing else to do.
//! - **Order.** Higher classes first; within a class the tenants take turns; within a tenant in the order of arrival.
//! - **No overtaking.** If a request does not fit, its upstreams are kept for it: no request after it in this order goes there. So
//!   a large request does not starve behind small ones. Requests that need other upstreams pass.
//! - **Load.** Of the upstreams with room, the one with the smallest part of its slots taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{PriorityClass, Timestamp};

use super::tickets::Spot;
use crate::config::MAX_UPSTREAMS;

/// A set of upstreams, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamSet(u64);

const _: () = assert!(MAX_UPSTREAMS <= u64::BITS as usize);

impl UpstreamSet {
    /// No upstream.
    pub const EMPTY: Self = Self(0);

    /// The set of `indexes`, each below [`MAX_UPSTREAMS`].
    pub fn of(indexes: impl IntoIterator<Item = usize>) -> Self {
        indexes.into_iter().fold(Self::EMPTY, Self::with)
    }

    /// The set with `index`.
    #[must_use]
    pub fn with(self, index: usize) -> Self {
        debug_assert!(index < MAX_UPSTREAMS);
        Self(self.0 | 1 << index)
    }

    /// Those of it that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether both have one in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The indexes, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_UPSTREAMS).filter(move |index| self.0 & 1 << index != 0)
    }
}

/// What an upstream takes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The most requests.
    pub max_concurrency: u32,
    /// The most tokens of these requests.
    pub max_tokens: u64,
}

/// A request that needs a place at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Its class.
    pub class: PriorityClass,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// The upstreams that it may go to.
    pub upstreams: UpstreamSet,
    /// Its tokens.
    pub tokens: u64,
}

/// The number of a request, in the order of arrival. A request keeps it when it comes back with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

/// How many requests of one tenant and class come to some upstreams, and how many of them were there before another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) class: PriorityClass,
    pub(super) tenant: &'a Arc<str>,
    pub(super) length: u64,
    pub(super) before: u64,
}

#[derive(Debug)]
struct Waiting {
    number: Number,
    upstreams: UpstreamSet,
    tokens: u64,
}

#[derive(Debug)]
struct TenantQueue {
    tenant: Arc<str>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Load {
    capacity: Capacity,
    in_flight: u32,
    tokens: u64,
    /// When it last gave back a place while somebody waited.
    last_release: Option<Timestamp>,
    /// The mean time between two of these, in nanoseconds.
    interval_ns: Option<u64>,
    /// Of how many, at most [`INTERVAL_MEMORY`].
    intervals: u64,
}

/// A new interval between two releases counts for one in so many, or in as many as there were. Requests often end at the same time, so
/// the mean of a few says little.
const INTERVAL_MEMORY: u64 = 32;

impl Load {
    fn has_room(&self, tokens: u64) -> bool {
        let fits = self.tokens.saturating_add(tokens) <= self.capacity.max_tokens;
        self.in_flight < self.capacity.max_concurrency && (fits || self.in_flight == 0)
    }

    /// A smaller part of the slots is taken than of `other`.
    fn is_below(&self, other: &Self) -> bool {
        let part = |load: &Self, by: &Self| {
            u64::from(load.in_flight) * u64::from(by.capacity.max_concurrency)
        };
        let tokens =
            |load: &Self, by: &Self| u128::from(load.tokens) * u128::from(by.capacity.max_tokens);
        (part(self, other), tokens(self, other)) < (part(other, self), tokens(other, self))
    }

    fn released(&mut self, now: Timestamp, somebody_waits: bool) {
        let last = self.last_release.take();
        if !somebody_waits {
            return;
        }
        self.last_release = Some(now);
        let Some(last) = last else { return };
        let interval = now.as_ns().saturating_sub(last.as_ns());
        self.intervals = (self.intervals + 1).min(INTERVAL_MEMORY);
        let mean = self.interval_ns.unwrap_or_default();
        self.interval_ns =
            Some((mean - mean / self.intervals).saturating_add(interval / self.intervals));
    }
}

/// The queue in front of all upstreams, and their loads.
#[derive(Debug)]
pub struct Scheduler {
    loads: Vec<Load>,
    /// Of each class, by its index; the tenant whose turn it is comes first.
    classes: [VecDeque<TenantQueue>; PriorityClass::ALL.len()],
    waiting: usize,
    last_number: u64,
}

impl Scheduler {
    /// A scheduler for upstreams with these capacities, at most [`MAX_UPSTREAMS`].
    pub fn new(capacities: impl IntoIterator<Item = Capacity>) -> Self {
        let load = |capacity| Load {
            capacity,
            in_flight: 0,
            tokens: 0,
            last_release: None,
            interval_ns: None,
            intervals: 0,
        };
        Self {
            loads: capacities.into_iter().map(load).collect(),
            classes: Default::default(),
            waiting: 0,
            last_number: 0,
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of each class wait, by its index. O(tenants that wait).
    pub fn waiting_by_class(&self) -> [usize; PriorityClass::ALL.len()] {
        self.classes.each_ref().map(|queues| queues.iter().map(|queue| queue.waiting.len()).sum())
    }

    /// The requests and tokens in flight at an upstream.
    pub fn in_flight(&self, upstream: usize) -> (u32, u64) {
        self.loads.get(upstream).map_or((0, 0), |load| (load.in_flight, load.tokens))
    }

    /// Puts `entrant` in the queue. Call [`Scheduler::admit_next`] then. O(tenants that wait).
    pub fn arrive(&mut self, entrant: Entrant) -> Number {
        self.last_number += 1;
        let number = Number(self.last_number);
        self.arrive_again(entrant, number);
        number
    }

    /// Puts a request back in the queue that has left it, before those of its tenant that arrived later. Call
    /// [`Scheduler::admit_next`] then. O(tenants that wait + requests of its tenant that wait).
    pub fn arrive_again(&mut self, entrant: Entrant, number: Number) {
        let Entrant { class, tenant, upstreams, tokens } = entrant;
        let waiting = Waiting { number, upstreams, tokens };
        let queues = &mut self.classes[class.index()];
        match queues.iter_mut().find(|queue| queue.tenant == tenant) {
            Some(queue) => {
                let place = queue.waiting.partition_point(|other| other.number < number);
                queue.waiting.insert(place, waiting);
            }
            None => queues.push_back(TenantQueue { tenant, waiting: VecDeque::from([waiting]) }),
        }
        self.waiting += 1;
    }

    /// Takes a request out of the queue; false if it does not wait. Call [`Scheduler::admit_next`] then: it may have kept others
    /// waiting. O(requests that wait).
    pub fn leave(&mut self, number: Number) -> bool {
        for queues in &mut self.classes {
            for (place, queue) in queues.iter_mut().enumerate() {
                let found = queue.waiting.iter().position(|waiting| waiting.number == number);
                let Some(found) = found else { continue };
                queue.waiting.remove(found);
                if queue.waiting.is_empty() {
                    queues.remove(place);
                }
                self.waiting -= 1;
                return true;
            }
        }
        false
    }

    /// Who gives up its place if there is one request too many and `newcomer` has just arrived: of the lowest class, the tenant
    /// that has most waiting, and of it whoever arrived last. Of tenants that have equally many it is the newcomer's own, so nobody
    /// takes a place from a tenant that would then have fewer than its own; else the one whose turn is last. O(tenants that wait).
    pub(super) fn last_in_order(&self, newcomer: &Spot) -> Option<Number> {
        let (class, queues) =
            self.classes.iter().enumerate().find(|(_, queues)| !queues.is_empty())?;
        let is_own = |queue: &TenantQueue| {
            class == newcomer.class.index() && queue.tenant == newcomer.tenant
        };
        let order =
            |(place, queue): &(usize, &TenantQueue)| (queue.waiting.len(), is_own(queue), *place);
        let (_, queue) = queues.iter().enumerate().max_by_key(order)?;
        queue.waiting.back().map(|waiting| waiting.number)
    }

    /// The next request that goes to an upstream, which is loaded with it; `None` if none can. Call it until then after each
    /// other change. O(requests that wait), and O(1) while every upstream is full.
    pub fn admit_next(&mut self) -> Option<(Number, usize)> {
        let mut free =
            UpstreamSet::of((0..self.loads.len()).filter(|index| self.loads[*index].has_room(0)));
        for class in (0..self.classes.len()).rev() {
            for place in 0..self.classes[class].len() {
                if free.is_empty() {
                    return None;
                }
                let found = self.classes[class][place].waiting.iter().enumerate().find_map(
                    |(index, waiting)| {
                        let upstream = self.least_loaded(waiting, free);
                        free = free.without(waiting.upstreams);
                        upstream.map(|upstream| (index, upstream))
                    },
                );
                if let Some((index, upstream)) = found {
                    let number = self.admit(class, place, index, upstream)?;
                    return Some((number, upstream));
                }
            }
        }
        None
    }

    fn least_loaded(&self, waiting: &Waiting, free: UpstreamSet) -> Option<usize> {
        let with_room = |index: &usize| {
            UpstreamSet::of([*index]).meets(free) && self.loads[*index].has_room(waiting.tokens)
        };
        waiting.upstreams.iter().filter(|index| *index < self.loads.len()).filter(with_room).reduce(
            |best, index| {
                if self.loads[index].is_below(&self.loads[best]) { index } else { best }
            },
        )
    }

    /// Loads `upstream` with a request, and passes the turn to the next tenant.
    fn admit(
        &mut self,
        class: usize,
        place: usize,
        index: usize,
        upstream: usize,
    ) -> Option<Number> {
        let queues = &mut self.classes[class];
        let mut queue = queues.remove(place)?;
        let waiting = queue.waiting.remove(index)?;
        if !queue.waiting.is_empty() {
            queues.push_back(queue);
        }
        self.waiting -= 1;
        let load = &mut self.loads[upstream];
        load.in_flight += 1;
        load.tokens += waiting.tokens;
        Some(waiting.number)
    }

    /// A request of `tokens` at `upstream` has ended. Call [`Scheduler::admit_next`] then.
    pub fn release(&mut self, upstream: usize, tokens: u64, now: Timestamp) {
        let somebody_waits = self.waiting > 0;
        let Some(load) = self.loads.get_mut(upstream) else { return };
        load.in_flight = load.in_flight.saturating_sub(1);
        load.tokens = load.tokens.saturating_sub(tokens);
        load.released(now, somebody_waits);
    }

    /// How many requests of each tenant and class wait for one of `upstreams`. O(requests that wait).
    pub(super) fn lines(
        &self,
        number: Number,
        upstreams: UpstreamSet,
    ) -> impl Iterator<Item = Line<'_>> {
        PriorityClass::ALL.into_iter().flat_map(move |class| {
            self.classes[class.index()].iter().map(move |queue| {
                let same = || queue.waiting.iter().filter(|it| it.upstreams.meets(upstreams));
                let before = same().filter(|other| other.number < number).count() as u64;
                Line { class, tenant: &queue.tenant, length: same().count() as u64, before }
            })
        })
    }

    /// How long it takes until so many `places` at one of `upstreams` have become free, by how often these had room while somebody
    /// waited; `None` if that is not known yet.
    pub fn time_of_places(&self, places: u64, upstreams: UpstreamSet) -> Option<Duration> {
        let intervals = upstreams.iter().filter_map(|index| self.loads.get(index)?.interval_ns);
        // Places become free at all of them at a time.
        let per_second: u64 = intervals.map(|ns| 1_000_000_000_000 / ns.max(1_000)).sum();
        if per_second == 0 {
            return None;
        }
        Some(Duration::from_nanos(places.saturating_mul(1_000_000_000_000) / per_second))
    }
}

#[cfg(test)]
mod tests;
