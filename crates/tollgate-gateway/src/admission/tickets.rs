//! Admission tickets: what a request is given that found no place in the queue, and with which it comes back first.
//!
//! A ticket keeps the number of its request, so that it comes before whoever arrived later, and says when it is worth coming back:
//! the due times of tickets follow one another as fast as places become free. It is valid for one API key and one model, once, from its due
//! time on for [`VALID_FOR`]. This process keeps it, so another gateway does not know it.
//!
//! The table is bounded: a tenant gets a ticket only while it holds fewer than are free, so that no tenant takes those of the others
//! (the dynamic threshold of Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{PriorityClass, Timestamp};

use super::scheduler::{Line, Number, UpstreamSet};

/// For how long after its due time a ticket is valid. Clients that only read `retry-after` come up to a second late.
pub const VALID_FOR: Duration = Duration::from_secs(30);

/// The most tickets that are valid or will be. Each takes some hundred bytes.
pub const MAX_TICKETS: usize = 10_000;

/// The name of a ticket: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(u128);

impl TicketId {
    /// A new one; `None` if the system has no randomness.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(u128::from_ne_bytes(bytes)))
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text is not the name of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATicket;

impl FromStr for TicketId {
    type Err = NotATicket;

    fn from_str(text: &str) -> Result<Self, NotATicket> {
        let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one {
            return Err(NotATicket);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotATicket)
    }
}

/// Who may use a ticket, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The API key.
    pub api_key: &'a str,
    /// The model, or the path that is only forwarded.
    pub target: &'a str,
}

/// Where a request would have waited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) class: PriorityClass,
    pub(super) tenant: Arc<str>,
    pub(super) upstreams: UpstreamSet,
}

/// What has happened to tickets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketCounts {
    /// They were given to requests.
    pub issued: u64,
    /// They came back in time, and their requests kept their places among those of their tenants.
    pub used: u64,
    /// They came back before their due time, and were denied again.
    pub early: u64,
    /// They did not come back in time, or their clients could not be told of them.
    pub expired: u64,
    /// Requests had one that was unknown, used or expired, or was given to another API key or for another model.
    pub ignored: u64,
}

/// What a ticket is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Its request comes back with this number.
    Due(Number),
    /// It is due after this time.
    Early(Number, Duration),
    /// Nothing.
    Worthless,
}

#[derive(Debug)]
struct Entry {
    api_key: Box<str>,
    target: Box<str>,
    spot: Spot,
    number: Number,
    due: Timestamp,
}

/// The tickets of one gateway.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    entries: HashMap<TicketId, Entry>,
    of_tenants: HashMap<Arc<str>, usize>,
    /// Those that are not due yet: their requests will come.
    coming: BTreeSet<(Timestamp, TicketId)>,
    coming_to: HashMap<Spot, BTreeSet<Number>>,
    /// Those that are due.
    due: BTreeSet<(Timestamp, TicketId)>,
    counts: TicketCounts,
}

impl Tickets {
    /// Moves the time on: tickets become due and expire. Call it before anything else. O(log n) for each of these.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(&(due, id)) = self.coming.first()
            && due <= now
        {
            self.coming.pop_first();
            self.no_longer_comes(id);
            self.due.insert((due, id));
        }
        while let Some(&(due, id)) = self.due.first()
            && due.after(VALID_FOR) <= now
        {
            self.remove(id);
            self.counts.expired += 1;
        }
    }

    /// Keeps a ticket; false if there is no room for it.
    pub(super) fn issue(
        &mut self,
        id: TicketId,
        holder: Holder<'_>,
        spot: Spot,
        number: Number,
        due: Timestamp,
    ) -> bool {
        let free = MAX_TICKETS - self.entries.len();
        let held = self.of_tenants.get(&spot.tenant).copied().unwrap_or(0);
        if held >= free || self.entries.contains_key(&id) {
            return false;
        }
        *self.of_tenants.entry(Arc::clone(&spot.tenant)).or_default() += 1;
        self.coming.insert((due, id));
        self.coming_to.entry(spot.clone()).or_default().insert(number);
        let (api_key, target) = (holder.api_key.into(), holder.target.into());
        self.entries.insert(id, Entry { api_key, target, spot, number, due });
        self.counts.issued += 1;
        true
    }

    /// What the ticket `id` is worth to `holder`. One that is due is used up.
    pub(super) fn show(&mut self, id: TicketId, holder: Holder<'_>, now: Timestamp) -> Shown {
        let entry = self
            .entries
            .get(&id)
            .filter(|entry| (&*entry.api_key, &*entry.target) == (holder.api_key, holder.target));
        let Some(entry) = entry else {
            self.counts.ignored += 1;
            return Shown::Worthless;
        };
        let number = entry.number;
        if now < entry.due {
            return Shown::Early(number, entry.due.since(now));
        }
        self.remove(id);
        self.counts.used += 1;
        Shown::Due(number)
    }

    /// A ticket that came early was not needed, or came in vain.
    pub(super) fn came_early(&mut self, id: TicketId, was_admitted: bool) {
        if was_admitted {
            self.remove(id);
            self.counts.used += 1;
        } else {
            self.counts.early += 1;
        }
    }

    /// Takes back a ticket that its client cannot see.
    pub(super) fn withdraw(&mut self, id: TicketId) {
        if self.remove(id) {
            self.counts.expired += 1;
        }
    }

    /// How many requests of each tenant and class will come back for one of `upstreams`. O(tickets of the same tenant, and tenants
    /// with tickets).
    pub(super) fn lines(
        &self,
        number: Number,
        upstreams: UpstreamSet,
    ) -> impl Iterator<Item = Line<'_>> {
        let same = self.coming_to.iter().filter(move |(spot, _)| spot.upstreams.meets(upstreams));
        same.map(move |(spot, numbers)| {
            let length = numbers.len() as u64;
            let is_last = numbers.last().is_none_or(|last| *last < number);
            let before = if is_last { length } else { numbers.range(..number).count() as u64 };
            Line { class: spot.class, tenant: &spot.tenant, length, before }
        })
    }

    pub(super) fn counts(&self) -> TicketCounts {
        self.counts
    }

    fn no_longer_comes(&mut self, id: TicketId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if let Some(numbers) = self.coming_to.get_mut(&entry.spot) {
            numbers.remove(&entry.number);
            if numbers.is_empty() {
                self.coming_to.remove(&entry.spot);
            }
        }
    }

    fn remove(&mut self, id: TicketId) -> bool {
        self.no_longer_comes(id);
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.coming.remove(&(entry.due, id));
        self.due.remove(&(entry.due, id));
        if let Some(held) = self.of_tenants.get_mut(&entry.spot.tenant) {
            *held -= 1;
            if *held == 0 {
                self.of_tenants.remove(&entry.spot.tenant);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
