//! What Redis keeps of a lease in one slot: numbers that the scripts read and change, and what only this file reads.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::counting::log::Admission;
use tollgate_core::lease::ledger::{Ending, LeaseHead};
use tollgate_core::{
    Amount, Calendar, Counting, Limit, Mode, OnExpire, Per, Policy, PolicyId, Timestamp, TokenKind,
    Totals, Ttl, Unit, Weight, Weights, Window, Zone,
};
use tollgate_store::{LeaseId, LiveHold, LiveLease};

use crate::key::Keys;
use crate::wire::{EntryId, NS_PER_S, TICK_NS, integer, push, unsigned};

/// The first bytes of a record.
const TAG: u64 = 393_812;
/// The bytes before the parts.
pub(super) const HEAD_BYTES: usize = 64;
/// The bytes of a part.
const PART_BYTES: usize = 42;
/// The version of what follows the parts: without weights, so that servers of before read it, and with them.
const FORMAT: u64 = 2;
const WEIGHTED_FORMAT: u64 = 3;

/// The flags of a limit: it denies nothing; it gives back what expired leases hold; it has weights.
const SHADOW: u64 = 1;
const REFUNDS: u64 = 2;
const WEIGHTED: u64 = 4;

/// How a limit counts, in what follows the parts.
const LOG: u64 = 0;
const COUNTER: u64 = 1;
const BUCKET: u64 = 2;
const CALENDAR: u64 = 3;
const CONCURRENCY: u64 = 4;

/// A lease in one slot.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) changing: Changing,
    pub(super) holds: SmallVec<[Hold; 4]>,
    pub(super) note: Box<[u8]>,
    /// How many bytes of what follows the parts stay when the lease ends.
    pub(super) kept_bytes: usize,
    /// What is kept only until it ends.
    pub(super) open: Option<Open>,
}

/// What is kept of a lease that has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: LeaseId,
    /// The end of the key of its request id, if it has one.
    pub(super) named: Option<String>,
    /// What its last extension said was used.
    observed: Totals,
    /// How many bytes of what follows the parts come before that.
    pub(super) bytes_before_observed: usize,
}

/// The part of a record that the scripts change.
#[derive(Debug)]
pub(super) struct Changing {
    /// Grows with every change.
    pub(super) version: u64,
    pub(super) head: LeaseHead,
    reserved_at: Timestamp,
    pub(super) parts: SmallVec<[Part; 4]>,
}

/// What a lease was charged at one time, or a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The index of its limit in the slot.
    pub(super) hold: usize,
    entry: Admission,
    at: Timestamp,
    /// The usage right after it.
    used_then: u64,
    /// 1 for a slot.
    pub(super) cost: u64,
}

/// A limit of a lease. It is the limit of the time of the reservation, also if the policy has changed.
#[derive(Debug)]
pub(super) struct Hold {
    /// Its index in the check.
    pub(super) place: usize,
    pub(super) limit: Arc<Limit>,
    pub(super) key: String,
    /// Its key in announcements.
    pub(super) name: Vec<u8>,
}

impl Part {
    /// By which `change.lua` finds it.
    pub(super) fn id(&self, limit: &Limit) -> EntryId {
        let at = self.at;
        match limit.counting() {
            Counting::Log { .. } => EntryId::Log(self.entry),
            Counting::Counter { window } => {
                let start = Timestamp::from_ns(at.as_ns() - at.as_ns() % window.as_ns());
                EntryId::Counter { start, window }
            }
            Counting::Bucket { window, .. } => {
                EntryId::Bucket { at, used_then: self.used_then, window }
            }
            Counting::Calendar { calendar, zone } => {
                EntryId::Calendar { period: calendar.period(zone, at) }
            }
            Counting::Concurrency => EntryId::Slot,
        }
    }
}

impl Hold {
    pub(super) fn is_slot(&self) -> bool {
        self.limit.counting() == Counting::Concurrency
    }
}

impl Changing {
    /// What the limit with this index is charged, or 1 for a slot.
    pub(super) fn charged(&self, hold: usize) -> u64 {
        self.parts_of(hold).map(|(_, part)| part.cost).sum()
    }

    /// The parts of the limit with this index, oldest first, each with its own index.
    pub(super) fn parts_of(&self, hold: usize) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().enumerate().filter(move |(_, part)| part.hold == hold)
    }

    /// The beginning of `bytes` and how long it is; `None` if a script did not write it.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader(bytes);
        if reader.number(4)? != TAG {
            return None;
        }
        let (version, seq) = (reader.double()?, reader.double()?);
        let ending = ending_of(reader.number(1)?)?;
        let proceed = reader.number(1)? == 1;
        let (ttl, expires_us) = (Ttl::from_ms(reader.double()?)?, reader.double()?);
        reader.take(16)?;
        let reserved_us = reader.double()?;
        let at = |us: u64| us.checked_mul(TICK_NS).map(Timestamp::from_ns);
        let (expires_at, reserved_at) = (at(expires_us)?, at(reserved_us)?);
        let seq = Amount::new(seq)?;
        let parts = reader.number(2)?;
        let parts: SmallVec<[Part; 4]> =
            (0..parts).map(|_| reader.part()).collect::<Option<_>>()?;
        let head = LeaseHead { ending, seq, proceed, ttl, expires_at };
        let length = HEAD_BYTES + parts.len() * PART_BYTES;
        Some((Self { version, head, reserved_at, parts }, length))
    }
}

/// The number for `ending` in a record.
pub(super) const fn ending_code(ending: Ending) -> u8 {
    match ending {
        Ending::Open => 0,
        Ending::Settled => 1,
        Ending::Released => 2,
    }
}

fn ending_of(code: u64) -> Option<Ending> {
    [Ending::Open, Ending::Settled, Ending::Released]
        .into_iter()
        .find(|ending| u64::from(ending_code(*ending)) == code)
}

impl Record {
    /// `None` if this version did not write it.
    pub(super) fn read(bytes: &[u8], keys: &Keys) -> Option<Self> {
        let (changing, length) = Changing::read(bytes)?;
        let rest = bytes.get(length..)?;
        let mut reader = Reader(rest);
        if !matches!(reader.number(1)?, FORMAT | WEIGHTED_FORMAT) {
            return None;
        }
        let holds = reader.number(2)?;
        let holds: SmallVec<[Hold; 4]> =
            (0..holds).map(|_| reader.hold(keys)).collect::<Option<_>>()?;
        let note = reader.number(2)?;
        let note = reader.take(usize::try_from(note).ok()?)?.into();
        let kept_bytes = rest.len() - reader.0.len();
        let open = if reader.0.is_empty() { None } else { Some(reader.open(rest.len())?) };
        let is_whole =
            reader.0.is_empty() && changing.parts.iter().all(|part| part.hold < holds.len());
        is_whole.then_some(Self { changing, holds, note, kept_bytes, open })
    }

    /// What is shown of it at `now`, with what `others`, its records in other slots, hold; `None` if it has ended or expired.
    pub(super) fn live(&self, others: &[Self], now: Timestamp) -> Option<LiveLease> {
        let head = &self.changing.head;
        let open = self.open.as_ref().filter(|_| head.is_live(now))?;
        let mut holds: SmallVec<[_; 4]> = SmallVec::new();
        for record in std::iter::once(self).chain(others) {
            holds.extend(record.holds.iter().enumerate().map(|(index, hold)| {
                let (policy_id, unit) = (hold.limit.policy_id().clone(), hold.limit.unit().clone());
                let charged = record.changing.charged(index);
                let used = hold.limit.total_of(&open.observed);
                (hold.place, LiveHold { policy_id, unit, charged, used })
            }));
        }
        holds.sort_by_key(|(place, _)| *place);
        Some(LiveLease {
            id: open.id.clone(),
            note: self.note.clone(),
            age: now.since(self.changing.reserved_at),
            lives_for: head.expires_at.since(now),
            observed: open.observed.clone(),
            holds: holds.into_iter().map(|(_, hold)| hold).collect(),
        })
    }

    /// What each limit is charged.
    pub(super) fn charged(&self) -> SmallVec<[u64; 4]> {
        (0..self.holds.len()).map(|hold| self.changing.charged(hold)).collect()
    }

    /// The limits to which it gives back what it holds when it expires, with their indices.
    pub(super) fn refunding(&self) -> impl Iterator<Item = (usize, &Hold)> {
        self.holds.iter().enumerate().filter(|(_, hold)| hold.limit.refunds_expired())
    }

    /// When it was reserved.
    pub(super) fn reserved_at(&self) -> Timestamp {
        self.changing.reserved_at
    }
}

/// What a new hold is written from.
pub(super) struct NewHold<'a> {
    pub(super) place: usize,
    pub(super) limit: &'a Limit,
    /// The hash tag of its key; empty for none.
    pub(super) tag: &'a str,
    pub(super) name: &'a [u8],
}

/// What follows the parts of a new record. `named` is the end of the key of the request id, empty for none.
pub(super) fn rest<'a>(
    holds: impl ExactSizeIterator<Item = NewHold<'a>> + Clone,
    note: &[u8],
    named: &str,
    id: &LeaseId,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192 + note.len());
    let is_weighted = holds.clone().any(|hold| !hold.limit.weights().is_empty());
    push(&mut bytes, if is_weighted { WEIGHTED_FORMAT } else { FORMAT }, 1);
    push(&mut bytes, holds.len() as u64, 2);
    for NewHold { place, limit, tag, name } in holds {
        push(&mut bytes, place as u64, 2);
        let shadow = if limit.mode() == Mode::Shadow { SHADOW } else { 0 };
        let refunds = if limit.refunds_expired() { REFUNDS } else { 0 };
        let weighted = if limit.weights().is_empty() { 0 } else { WEIGHTED };
        push(&mut bytes, shadow | refunds | weighted, 1);
        push_counting(&mut bytes, limit.counting());
        push(&mut bytes, limit.amount().get(), 8);
        push_text(&mut bytes, limit.unit().to_string().as_bytes());
        push_weights(&mut bytes, limit.weights());
        push_text(&mut bytes, tag.as_bytes());
        push_text(&mut bytes, name);
    }
    push(&mut bytes, note.len() as u64, 2);
    bytes.extend_from_slice(note);
    push(&mut bytes, named.len() as u64, 1);
    bytes.extend_from_slice(named.as_bytes());
    push(&mut bytes, id.as_bytes().len() as u64, 2);
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend(observed(&Totals::none()));
    bytes
}

/// The end of the record of an open lease. Of more units than 255, the others are not kept.
pub(super) fn observed(totals: &Totals) -> Vec<u8> {
    let most = usize::from(u8::MAX);
    let mut bytes = vec![u8::try_from(totals.amounts().count()).unwrap_or(u8::MAX)];
    for (unit, amount) in totals.amounts().take(most) {
        push_text(&mut bytes, unit.to_string().as_bytes());
        push(&mut bytes, amount.get(), 8);
    }
    bytes
}

fn push_counting(bytes: &mut Vec<u8>, counting: Counting) {
    let (kind, window, refill) = match counting {
        Counting::Log { window } => (LOG, Some(window), None),
        Counting::Counter { window } => (COUNTER, Some(window), None),
        Counting::Bucket { window, refill } => (BUCKET, Some(window), Some(refill)),
        Counting::Calendar { .. } => (CALENDAR, None, None),
        Counting::Concurrency => (CONCURRENCY, None, None),
    };
    push(bytes, kind, 1);
    if let Some(window) = window {
        push(bytes, window.as_ns(), 8);
    }
    if let Some(refill) = refill {
        push(bytes, refill.get(), 8);
    }
    if let Some((calendar, zone)) = counting.calendar() {
        push_text(bytes, calendar.name().as_bytes());
        push_text(bytes, zone.name().as_bytes());
    }
}

/// Nothing if there are none.
fn push_weights(bytes: &mut Vec<u8>, weights: &Weights) {
    if weights.is_empty() {
        return;
    }
    push(bytes, weights.given().count() as u64, 1);
    for (kind, weight) in weights.given() {
        push_text(bytes, kind.name().as_bytes());
        push(bytes, weight.thousandths().into(), 4);
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    push(bytes, text.len() as u64, 4);
    bytes.extend_from_slice(text);
}

/// Reads numbers and texts one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        self.take(bytes).map(unsigned)
    }

    fn double(&mut self) -> Option<u64> {
        u64::try_from(integer(self.take(8)?)?).ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number(4)?;
        self.take(usize::try_from(length).ok()?)
    }

    fn part(&mut self) -> Option<Part> {
        let hold = usize::try_from(self.number(2)?).ok()?;
        let entry = Admission { number: self.double()?, stamp: self.double()? };
        let at = Timestamp::from_ns(self.number(4)? * NS_PER_S + self.number(4)?);
        Some(Part { hold, entry, at, used_then: self.double()?, cost: self.double()? })
    }

    fn unit(&mut self) -> Option<Unit> {
        Unit::parse(std::str::from_utf8(self.text()?).ok()?)
    }

    fn weights(&mut self) -> Option<Weights> {
        let mut weights = Weights::default();
        for _ in 0..self.number(1)? {
            let kind = TokenKind::parse(std::str::from_utf8(self.text()?).ok()?)?;
            let thousandths = u32::try_from(self.number(4)?).ok()?;
            weights.set(kind, Weight::of_thousandths(thousandths)?);
        }
        Some(weights)
    }

    /// `all` is the length of what follows the parts.
    fn open(&mut self, all: usize) -> Option<Open> {
        let named = self.number(1)?;
        let named = std::str::from_utf8(self.take(usize::try_from(named).ok()?)?).ok()?;
        let id = self.number(2)?;
        let id = LeaseId::parse(std::str::from_utf8(self.take(usize::try_from(id).ok()?)?).ok()?)?;
        let bytes_before_observed = all - self.0.len();
        let mut observed = Totals::none();
        for _ in 0..self.number(1)? {
            observed.set(self.unit()?, Amount::new(self.number(8)?)?);
        }
        let named = (!named.is_empty()).then(|| named.to_owned());
        Some(Open { id, named, observed, bytes_before_observed })
    }

    fn hold(&mut self, keys: &Keys) -> Option<Hold> {
        let place = usize::try_from(self.number(2)?).ok()?;
        let flags = self.number(1)?;
        let mode = if flags & SHADOW == 0 { Mode::Enforce } else { Mode::Shadow };
        let on_expire = if flags & REFUNDS == 0 { OnExpire::Keep } else { OnExpire::Refund };
        let counting = self.counting()?;
        let amount = Amount::new(self.number(8)?)?;
        let unit = self.unit()?;
        let weights = if flags & WEIGHTED == 0 { Weights::default() } else { self.weights()? };
        let tag = std::str::from_utf8(self.text()?).ok()?;
        let name = self.text()?.to_vec();
        // A name begins with the id of the policy.
        let mut parts = Reader(&name);
        let id = usize::try_from(parts.number(8)?).ok()?;
        let id = PolicyId::new(std::str::from_utf8(parts.take(id)?).ok()?).ok()?;
        let window = counting.window().or_else(|| Window::new(Window::MIN))?;
        let policy = Policy::new(id, Per::from_scope("GLOBAL")?, Some(amount), window);
        let limit = Limit::of(&Policy { unit, weights, counting, mode, on_expire, ..policy })?;
        let key = keys.of_name(&name, tag, counting == Counting::Concurrency);
        Some(Hold { place, limit: Arc::new(limit), key, name })
    }

    fn counting(&mut self) -> Option<Counting> {
        let kind = self.number(1)?;
        let window = |reader: &mut Self| Window::new(Duration::from_nanos(reader.number(8)?));
        Some(match kind {
            LOG => Counting::Log { window: window(self)? },
            COUNTER => Counting::Counter { window: window(self)? },
            BUCKET => {
                let window = window(self)?;
                Counting::Bucket { window, refill: Amount::new(self.number(8)?)? }
            }
            CALENDAR => {
                let calendar = Calendar::parse(std::str::from_utf8(self.text()?).ok()?)?;
                let zone = Zone::named(std::str::from_utf8(self.text()?).ok()?)?;
                Counting::Calendar { calendar, zone }
            }
            CONCURRENCY => Counting::Concurrency,
            _ => return None,
        })
    }
}
