//! The requests to the scripts and their answers: packed numbers in little-endian order.
//!
//! The script decides. From the few numbers that it returns, the code of `tollgate_core::counting` that decides in
//! memory computes the verdict. It is an error if the two disagree.

use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::counting::Verdict;
use tollgate_core::counting::bucket::{self, Bucket, Rate};
use tollgate_core::counting::calendar::{self, PeriodCount};
use tollgate_core::counting::counter::{self, Counter};
use tollgate_core::counting::log::{self, Admission, Log, LogTime};
use tollgate_core::counting::slots::{self, Slots};
use tollgate_core::{
    Amount, Calendar, Charge, Counting, Limit, Mode, OverLimit, Period, Timestamp, Window, Zone,
};

pub(crate) const NS_PER_S: u64 = 1_000_000_000;
pub(crate) const NS_PER_MS: u64 = 1_000_000;
/// The tick of a log in Redis: the resolution of Redis's clock.
pub(crate) const TICK_NS: u64 = 1_000;

/// The modes of a limit in a request.
const LOG: u8 = 0;
const SHADOW: u8 = 1;
const COUNTER: u8 = 2;
/// A token bucket comes with what a counter comes with, and the refill.
const BUCKET: u8 = 8 + COUNTER;
/// A calendar comes with the number of its period among those of the call.
const CALENDAR: u8 = 16 + COUNTER;
/// The slots of leases.
const SLOTS: u8 = 64;
/// Added to a mode if a later check of the call has the same limit on the same key.
const COMES_AGAIN: u8 = 4;
/// Added to a mode if the cost of a denied check is recorded; it comes with the most that the usage may be after that.
const RECORDS_DENIED: u8 = 32;
/// Added to a mode if a lease asks.
const OF_LEASE: u8 = 128;
/// The options of a check in a request.
const CHARGES: u8 = 1;
const ONCE: u8 = 2;
/// The kinds of admissions to change.
const NO_KIND: u8 = 0;
const LOG_KIND: u8 = 1;
const COUNTER_KIND: u8 = 3;
const BUCKET_KIND: u8 = 4;
const CALENDAR_KIND: u8 = 5;

/// The flags of an answer.
const ALLOWED: u8 = 1;
const HAS_ENTRIES: u8 = 2;
/// Its cost is recorded even if the check is denied.
const RECORDED: u8 = 4;
pub(crate) const TIME_BYTES: usize = 8;
const LIMIT_BYTES: usize = 41;
/// The first answer to a request id, sent again, ends with the [`Terms`] of each limit.
pub(crate) const TERMS_BYTES: usize = 33;
/// The whole answer to a check that ran after its latest time.
const LATE: &[u8] = b"L";
/// The first byte of the whole answer to a call whose periods do not contain the time; the time follows.
const OTHER_PERIOD: u8 = b'P';
/// The first byte of an answer that is an error, in a call with several checks.
const ERROR: u8 = b'E';

/// The most checks of one call.
pub(crate) const MAX_CHECKS: usize = 64;
/// Seconds and nanoseconds have 4 bytes each. A log is exact to microseconds below 2^53 (until the year 2255).
const _: () = assert!(MAX_CHECKS <= u8::MAX as usize);

/// One check as the script gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The limits, at most 65,535.
    pub(crate) charges: &'a [Charge<'a>],
    /// For each limit, whether a later check of the call has its key; empty if none does. A wrong value costs time but
    /// not exactness.
    pub(crate) come_again: &'a [bool],
    /// Whether the check is charged if it is admitted.
    pub(crate) charging: bool,
    /// What is done about limits that deny.
    pub(crate) over_limit: IfDenied,
    /// Whether a lease asks, whose limits may have changed since: then nothing is forgotten that checks count.
    pub(crate) of_lease: bool,
    /// How long its request id is remembered, if it has one: the longest of its windows.
    pub(crate) once: Option<Window>,
    /// Redis's time after which nothing may be charged.
    pub(crate) not_after: Option<Timestamp>,
}

/// What a check does about limits that deny it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfDenied {
    /// What the limits say.
    AsLimits,
    /// No cost is recorded.
    Nothing,
    /// Every cost is recorded, and no limit denies.
    Everything,
}

/// The calendars of a call, each once.
type Calendars = SmallVec<[(Calendar, Zone); 2]>;

/// The times that a request tells Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The time of a test, which replaces Redis's.
    pub(crate) test: Option<Timestamp>,
    /// About the current time; a wrong value costs time but not exactness.
    pub(crate) hint: Timestamp,
    /// The same of Redis's time.
    pub(crate) server: Timestamp,
}

/// A call with one or more checks.
pub(crate) fn request(checks: &[Ask<'_>], times: &Times) -> Vec<u8> {
    request_of(checks, checks.len() > 1, times)
}

/// The same, where each check comes after its length and the number of its keys, if `is_counted`.
pub(crate) fn request_of(checks: &[Ask<'_>], is_counted: bool, times: &Times) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let calendars = calendars(checks);
    push_head(&mut bytes, times.test, checks.len(), calendars.len());
    for (calendar, zone) in &calendars {
        push_periods(&mut bytes, times.server, |at| calendar.period(*zone, at));
    }
    for check in checks {
        let keys = check.charges.len() as u64 + u64::from(check.once.is_some());
        let at = bytes.len();
        if is_counted {
            push(&mut bytes, 0, 4);
            push(&mut bytes, keys, 2);
        }
        let begin = bytes.len();
        push_check(&mut bytes, check, times.hint, &calendars);
        if is_counted {
            let length = (bytes.len() - begin) as u64;
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes()[..4]);
        }
    }
    bytes
}

fn push_head(bytes: &mut Vec<u8>, test: Option<Timestamp>, checks: usize, calendars: usize) {
    /// Redis's own clock expires keys, whatever the time of the test.
    const TEST_SLACK_MS: u64 = 600_000;
    bytes.push(u8::from(test.is_some()));
    push(bytes, checks as u64, 1);
    push(bytes, calendars as u64, 2);
    if let Some(now) = test {
        push(bytes, now.as_ns() / NS_PER_S, 4);
        push(bytes, now.as_ns() % NS_PER_S, 4);
        push(bytes, TEST_SLACK_MS, 4);
    }
}

/// The calendars of all limits. There are fewer than 65,536, as a time zone has four.
fn calendars(checks: &[Ask<'_>]) -> Calendars {
    let mut calendars = Calendars::new();
    for charge in checks.iter().flat_map(|check| check.charges) {
        if let Some(calendar) = charge.limit.counting().calendar()
            && !calendars.contains(&calendar)
        {
            calendars.push(calendar);
        }
    }
    calendars
}

/// The current period and the nearer of its neighbours, because the server's clock may be a little before or after `now`.
fn push_periods(bytes: &mut Vec<u8>, now: Timestamp, period_of: impl Fn(Timestamp) -> Period) {
    let period = period_of(now);
    let is_first_half = now.since(period.start) < period.length() / 2;
    let bounds = if is_first_half && period.start > Timestamp::default() {
        let before = period_of(Timestamp::from_ns(period.start.as_ns() - 1));
        [before.start, period.start, period.end]
    } else {
        [period.start, period.end, period_of(period.end).end]
    };
    for bound in bounds {
        push(bytes, bound.as_ns() / NS_PER_S, 4);
    }
}

fn push_check(bytes: &mut Vec<u8>, check: &Ask<'_>, hint: Timestamp, calendars: &Calendars) {
    push(bytes, check.charges.len() as u64, 2);
    let charging = if check.charging { CHARGES } else { 0 };
    bytes.push(charging + if check.once.is_some() { ONCE } else { 0 });
    push_double(bytes, check.not_after.map_or(0, |at| at.as_ns() / TICK_NS));
    push_double(bytes, check.once.map_or(0, |window| window.as_ns().div_ceil(TICK_NS)));
    if check.once.is_some() {
        check.charges.iter().for_each(|charge| Terms::of(charge).push(bytes));
    }
    for (place, charge) in check.charges.iter().enumerate() {
        let (limit, window_ns) = (charge.limit, window_ns(charge.limit));
        let denies_nothing =
            limit.mode() == Mode::Shadow || check.over_limit == IfDenied::Everything;
        let shadow = if denies_nothing { SHADOW } else { 0 };
        let way = way(limit.counting());
        let records = match check.over_limit {
            IfDenied::AsLimits => limit.over_limit() == OverLimit::Charge,
            IfDenied::Nothing => false,
            IfDenied::Everything => true,
        };
        // What is recorded in any case is written at once.
        let again = !records && check.come_again.get(place).is_some_and(|again| *again);
        let again = if again { COMES_AGAIN } else { 0 };
        let records_denied = if records { RECORDS_DENIED } else { 0 };
        let of_lease = if check.of_lease { OF_LEASE } else { 0 };
        bytes.push(shadow + way + again + records_denied + of_lease);
        push_double(bytes, limit.amount().get());
        // A lease takes one slot, whatever else it costs.
        push_double(bytes, if way == SLOTS { 0 } else { charge.cost.get() });
        push_double(bytes, life_ms(limit));
        push_double(bytes, window_ns.div_ceil(TICK_NS));
        if records {
            push_double(bytes, limit.most_recorded().get());
        }
        if let Some(calendar) = limit.counting().calendar() {
            let place = calendars.iter().position(|one| *one == calendar).unwrap_or_default();
            // Lua counts from 1.
            push(bytes, place as u64 + 1, 2);
        } else if way & COUNTER != 0 {
            let start_ns = hint.as_ns() - hint.as_ns() % window_ns;
            for ns in [window_ns, start_ns] {
                push(bytes, ns / NS_PER_S, 4);
                push(bytes, ns % NS_PER_S, 4);
            }
        }
        if let Counting::Bucket { refill, .. } = limit.counting() {
            push_double(bytes, refill.get());
        }
    }
}

fn way(counting: Counting) -> u8 {
    match counting {
        Counting::Log { .. } => LOG,
        Counting::Counter { .. } => COUNTER,
        Counting::Bucket { .. } => BUCKET,
        Counting::Calendar { .. } => CALENDAR,
        Counting::Concurrency => SLOTS,
    }
}

/// A policy whose bucket takes longer than [`Window::MAX`] to fill is refused.
pub(crate) const LONGEST_BUCKET_LIFE_MS: u64 = 2 * Window::MAX.as_secs() * 1_000;

/// How long a key lives after it was written: at most 2W and half a second (R9), and the hash of a long log half a
/// second longer. A log's expiry is renewed before an admission could outlive its key; an extra quarter of a window
/// makes most admissions skip this. A token bucket lives until it is full, which the script computes, and at
/// most as long as this; that of a calendar lives until the period ends, which the script computes too.
pub(crate) fn life_ms(limit: &Limit) -> u64 {
    let window_ns = window_ns(limit);
    match limit.counting() {
        Counting::Log { .. } => window_ns.div_ceil(NS_PER_MS) + window_ns / NS_PER_MS / 4 + 500,
        Counting::Counter { .. } => 2 * window_ns / NS_PER_MS + 500,
        Counting::Bucket { .. } => LONGEST_BUCKET_LIFE_MS,
        Counting::Calendar { calendar, .. } => calendar.longest().as_secs() * 1_000,
        Counting::Concurrency => tollgate_core::Ttl::MAX.as_ms(),
    }
}

/// 0 for concurrency.
fn window_ns(limit: &Limit) -> u64 {
    limit.counting().window().map_or(0, Window::as_ns)
}

/// The identity of an admission, by which `change.lua` finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryId {
    /// An entry of a log.
    Log(Admission),
    /// What was counted in the window of a counter that starts at this time.
    Counter {
        /// The start of the window.
        start: Timestamp,
        /// Its length.
        window: Window,
    },
    /// What was taken from a token bucket at this time.
    Bucket {
        /// The time.
        at: Timestamp,
        /// What was missing right after.
        used_then: u64,
        /// The window.
        window: Window,
    },
    /// What was counted in a period of a calendar.
    Calendar {
        /// The period.
        period: Period,
    },
    /// None: a check holds no slot.
    Slot,
}

/// The beginning of a request without checks.
pub(crate) fn time(test: Option<Timestamp>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    push_head(&mut bytes, test, 0, 0);
    bytes
}

/// What `refund.lua` keeps of what a lease holds in its limit with this index; the key of the lease follows.
pub(crate) fn push_hold(bytes: &mut Vec<u8>, index: usize, limit: &Limit) {
    let (kind, window) = match limit.counting() {
        Counting::Log { .. } => (LOG_KIND, None),
        Counting::Counter { window } => (COUNTER_KIND, Some(window)),
        Counting::Bucket { window, .. } => (BUCKET_KIND, Some(window)),
        Counting::Calendar { .. } => (CALENDAR_KIND, None),
        Counting::Concurrency => (NO_KIND, None),
    };
    push(bytes, index as u64, 2);
    bytes.push(kind);
    let window_ns = window.map_or(0, Window::as_ns);
    push(bytes, window_ns / NS_PER_S, 4);
    push(bytes, window_ns % NS_PER_S, 4);
}

/// The request to change an admission from `old` to `new`.
pub(crate) fn push_change(bytes: &mut Vec<u8>, id: EntryId, [old, new]: [u64; 2]) {
    let seconds_and_ns = |at: Timestamp| [at.as_ns() / NS_PER_S, at.as_ns() % NS_PER_S];
    let (kind, [first, second], used_then, of_ns) = match id {
        EntryId::Log(admission) => (LOG_KIND, [admission.number, admission.stamp], 0, 0),
        EntryId::Counter { start, window } => {
            (COUNTER_KIND, seconds_and_ns(start), 0, window.as_ns())
        }
        EntryId::Bucket { at, used_then, window } => {
            (BUCKET_KIND, seconds_and_ns(at), used_then, window.as_ns())
        }
        EntryId::Calendar { period } => {
            (CALENDAR_KIND, seconds_and_ns(period.start), 0, period.end.as_ns())
        }
        EntryId::Slot => (NO_KIND, [0, 0], 0, 0),
    };
    bytes.push(kind);
    for number in [first, second, old, new, used_then] {
        push_double(bytes, number);
    }
    push(bytes, of_ns / NS_PER_S, 4);
    push(bytes, of_ns % NS_PER_S, 4);
}

pub(crate) fn push(bytes: &mut Vec<u8>, value: u64, width: usize) {
    bytes.extend_from_slice(&value.to_le_bytes()[..width]);
}

/// A number below 2^53, in the form that Lua has it.
#[expect(clippy::cast_precision_loss, reason = "amounts and microseconds are below 2^53")]
pub(crate) fn push_double(bytes: &mut Vec<u8>, value: u64) {
    debug_assert!(value <= Amount::MAX.get());
    bytes.extend_from_slice(&(value as f64).to_le_bytes());
}

/// What the script returned for one limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitReply {
    /// Before the check was charged.
    pub(crate) before: Verdict,
    /// After it was charged; the same if nothing was charged.
    pub(crate) after: Verdict,
    /// After its cost was recorded although the check is denied (R19), with the wait of the same check sent again. `None` if
    /// nothing is recorded of a denied check. The wait of `before` is not known then.
    pub(crate) recorded: Option<Verdict>,
    /// The identity of the admission.
    pub(crate) id: EntryId,
}

/// What the script returned for one check.
#[derive(Debug)]
pub(crate) enum ScriptReply {
    /// The results for each limit.
    LimitReply(Vec<LimitReply>),
    /// The call ran after its latest time, so nothing was charged.
    Late,
    /// One of several checks could not be decided; nothing of it was charged.
    Undecided,
}

/// What a check asked of a limit, and what the limit was: with this, its answer can be read also after the policy was
/// changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    amount: Amount,
    cost: Amount,
    way: u8,
    /// `None` for concurrency.
    window: Option<Window>,
    /// Of a token bucket.
    refill: Amount,
}

impl Terms {
    pub(crate) fn of(charge: &Charge<'_>) -> Self {
        let counting = charge.limit.counting();
        Self {
            amount: charge.limit.amount(),
            cost: charge.cost,
            way: way(counting),
            window: counting.window(),
            refill: counting.refill().unwrap_or(Amount::ZERO),
        }
    }

    /// Appends [`TERMS_BYTES`].
    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.way);
        let window_ns = self.window.map_or(0, Window::as_ns);
        for number in [self.amount.get(), self.cost.get(), window_ns, self.refill.get()] {
            push(bytes, number, 8);
        }
    }

    /// `None` if [`Terms::push`] did not write these bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (way, numbers) = bytes.split_first()?;
        let mut numbers = numbers.chunks_exact(8).map(unsigned);
        let mut next = || numbers.next();
        Some(Self {
            way: *way,
            amount: Amount::new(next()?)?,
            cost: Amount::new(next()?)?,
            window: Window::new(Duration::from_nanos(next()?)),
            refill: Amount::new(next()?)?,
        })
    }

    fn rate(&self) -> Option<Rate> {
        Some(Rate { refill: self.refill, window: self.window? })
    }
}

/// The length of the answer to a check of this many limits, if it was decided.
pub(crate) const fn answer_bytes(limits: usize) -> usize {
    TIME_BYTES + limits * LIMIT_BYTES
}

/// Whether an answer to a check of so many limits may have this length.
const fn is_answer_length(bytes: usize, limits: usize) -> bool {
    bytes == answer_bytes(limits) || bytes == answer_bytes(limits) + limits * TERMS_BYTES
}

/// Redis's time, if the call was not decided because its periods do not contain that.
pub(crate) fn time_of_other_period(bytes: &[u8]) -> Option<Timestamp> {
    let [OTHER_PERIOD, time @ ..] = bytes else { return None };
    (time.len() == TIME_BYTES).then(|| told_time(time)).flatten()
}

/// The time at the beginning of an answer.
pub(crate) fn told_time(bytes: &[u8]) -> Option<Timestamp> {
    let (seconds, ns) = bytes.get(..TIME_BYTES)?.split_at(4);
    Some(Timestamp::from_ns(unsigned(seconds) * NS_PER_S + unsigned(ns)))
}

/// Parses the answer to a check of `charges`; `None` if it is malformed.
pub(crate) fn answer(bytes: &[u8], charges: &[Charge<'_>]) -> Option<ScriptReply> {
    if bytes == LATE {
        return Some(ScriptReply::Late);
    }
    if bytes.first() == Some(&ERROR) && !is_answer_length(bytes.len(), charges.len()) {
        return Some(ScriptReply::Undecided);
    }
    let (time, limits) = bytes.split_at_checked(TIME_BYTES)?;
    let now_ns = unsigned(&time[..4]) * NS_PER_S + unsigned(&time[4..]);
    let (limits, first) = limits.split_at_checked(charges.len() * LIMIT_BYTES)?;
    let terms: SmallVec<[Terms; 4]> = if first.is_empty() {
        charges.iter().map(Terms::of).collect()
    } else if first.len() == charges.len() * TERMS_BYTES {
        first.chunks_exact(TERMS_BYTES).map(Terms::read).collect::<Option<_>>()?
    } else {
        return None;
    };
    let parts = limits.chunks_exact(LIMIT_BYTES).zip(&terms);
    parts
        .map(|(part, terms)| said(now_ns, part, terms))
        .collect::<Option<_>>()
        .map(ScriptReply::LimitReply)
}

fn said(now_ns: u64, part: &[u8], terms: &Terms) -> Option<LimitReply> {
    let flags = part[0];
    let mut doubles = part[1..].chunks_exact(8).map(integer);
    let mut next = || doubles.next().flatten();
    let (usage, second, third) = (amount(next()?)?, next()?, next()?);
    let (number, stamp) = (amount(next()?)?, amount(next()?)?);
    let is_recorded = flags & RECORDED != 0;
    let said = match terms.way {
        LOG => {
            let id = Admission { number, stamp };
            log_said(now_ns, flags, usage, [second, third], id, terms)?
        }
        COUNTER => counter_said(now_ns, usage, amount(second)?, terms, is_recorded)?,
        BUCKET => bucket_said(now_ns, usage, terms, is_recorded)?,
        CALENDAR => {
            calendar_said(now_ns, usage, [amount(second)?, amount(third)?], terms, is_recorded)?
        }
        SLOTS => slots_said(now_ns, usage, [second, third], terms)?,
        _ => return None,
    };
    let agrees =
        said.before.allowed == (flags & ALLOWED != 0) && said.recorded.is_some() == is_recorded;
    agrees.then_some(said)
}

/// [`LimitReply::recorded`], from the verdict before and that over the usage with the cost.
fn recorded(before: Verdict, with_cost: Verdict) -> Verdict {
    Verdict { allowed: before.allowed, ..with_cost }
}

/// The two entries of a log on which an answer depends.
struct SeenLog {
    len: usize,
    usage: u64,
    /// The entry that frees enough room, then the newest one.
    ticks: [u64; 2],
}

impl Log for SeenLog {
    fn len(&self) -> usize {
        self.len
    }

    fn tick(&self, index: usize) -> u64 {
        self.ticks[index]
    }

    fn usage(&self) -> u64 {
        self.usage
    }

    fn index_freeing(&self, _: u64) -> usize {
        0
    }
}

fn log_said(
    now_ns: u64,
    flags: u8,
    usage: u64,
    [newest_after, freeing_after]: [i64; 2],
    id: Admission,
    terms: &Terms,
) -> Option<LimitReply> {
    let (floor, up) = (now_ns / TICK_NS, i64::from(!now_ns.is_multiple_of(TICK_NS)));
    let len = if flags & HAS_ENTRIES == 0 { 0 } else { 2 };
    if newest_after > up || freeing_after > up {
        return None;
    }
    // The log's own time may be ahead of the store's clock, so only differences count.
    let ahead = newest_after.min(freeing_after).min(0).unsigned_abs();
    let [freeing, newest] = [freeing_after, newest_after]
        .map(|after| floor.saturating_add(ahead).saturating_add_signed(after));
    let now = Timestamp::from_ns(now_ns);
    let time = LogTime::in_ticks_of(TICK_NS, terms.window?, now).shifted(ahead);
    let seen = SeenLog { len, usage, ticks: [freeing, newest] };
    let before = log::evaluate(&seen, terms.amount, &time, terms.cost);
    let after = log::admitted(before, &time, terms.cost);
    let recorded = (flags & RECORDED != 0).then(|| {
        let usage = usage.saturating_add(terms.cost.get());
        let seen = SeenLog { len: 2, usage, ticks: [freeing, time.stamp()] };
        recorded(before, log::evaluate(&seen, terms.amount, &time, terms.cost))
    });
    Some(LimitReply { before, after, recorded, id: EntryId::Log(id) })
}

fn counter_said(
    now_ns: u64,
    current: u64,
    previous: u64,
    terms: &Terms,
    is_recorded: bool,
) -> Option<LimitReply> {
    let Terms { amount, cost, .. } = *terms;
    let window = terms.window?;
    let (now, start) = (Timestamp::from_ns(now_ns), now_ns - now_ns % window.as_ns());
    let kept = Counter { start: Timestamp::from_ns(start), current, previous };
    let (before, charged) = counter::decide(kept, amount, window, now, cost);
    let after = charged.map_or(before, |(after, _)| after);
    let with_cost = || counter::decide(kept, Amount::MAX, window, now, cost).1;
    let recorded = is_recorded
        .then(with_cost)
        .flatten()
        .map(|(_, kept)| recorded(before, counter::evaluate(kept, amount, window, now, cost)));
    Some(LimitReply { before, after, recorded, id: EntryId::Counter { start: kept.start, window } })
}

fn bucket_said(now_ns: u64, missing: u64, terms: &Terms, is_recorded: bool) -> Option<LimitReply> {
    let (Terms { amount, cost, .. }, rate) = (*terms, terms.rate()?);
    let now = Timestamp::from_ns(now_ns);
    let start = Timestamp::from_ns(now_ns - now_ns % rate.window.as_ns());
    let kept = Bucket { start, missing };
    let (before, charged) = bucket::decide(kept, amount, rate, now, cost);
    let after = charged.map_or(before, |(after, _)| after);
    let with_cost = || bucket::decide(kept, rate.most_recorded(), rate, now, cost).1;
    let recorded = is_recorded
        .then(with_cost)
        .flatten()
        .map(|(_, kept)| recorded(before, bucket::evaluate(kept, amount, rate, now, cost)));
    let (used_then, window) = (recorded.unwrap_or(after).usage, rate.window);
    Some(LimitReply { before, after, recorded, id: EntryId::Bucket { at: now, used_then, window } })
}

/// The slots on which an answer depends.
struct SeenSlots {
    held: u64,
    freeing: Timestamp,
    last: Timestamp,
}

impl Slots for SeenSlots {
    fn held(&self) -> u64 {
        self.held
    }

    fn expire_at(&self, count: u64) -> Timestamp {
        if count == self.held { self.last } else { self.freeing }
    }
}

/// `None` if a time cannot be.
fn slots_said(now_ns: u64, held: u64, times_us: [i64; 2], terms: &Terms) -> Option<LimitReply> {
    let [last, freeing] = times_us.map(|us| Some(Timestamp::from_ns(amount(us)? * TICK_NS)));
    let seen = SeenSlots { held, freeing: freeing?, last: last? };
    let now = Timestamp::from_ns(now_ns);
    let before = slots::evaluate(&seen, terms.amount, now);
    Some(LimitReply { before, after: before, recorded: None, id: EntryId::Slot })
}

/// `None` if the period does not contain the time.
fn calendar_said(
    now_ns: u64,
    count: u64,
    bounds_s: [u64; 2],
    terms: &Terms,
    is_recorded: bool,
) -> Option<LimitReply> {
    let [start, end] = bounds_s.map(|seconds| Timestamp::from_ns(seconds.saturating_mul(NS_PER_S)));
    let (now, period) = (Timestamp::from_ns(now_ns), Period { start, end });
    if !period.contains(now) {
        return None;
    }
    let kept = PeriodCount { start, count };
    let Terms { amount, cost, .. } = *terms;
    let (before, charged) = calendar::decide(kept, amount, period, now, cost);
    let after = charged.map_or(before, |(after, _)| after);
    let with_cost = || calendar::decide(kept, Amount::MAX, period, now, cost).1;
    let recorded = is_recorded
        .then(with_cost)
        .flatten()
        .map(|(_, kept)| recorded(before, calendar::evaluate(kept, amount, period, now, cost)));
    Some(LimitReply { before, after, recorded, id: EntryId::Calendar { period } })
}

pub(crate) fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A whole number that Lua holds as a double; `None` if it is not one, or not below 2^53.
#[expect(clippy::cast_possible_truncation, reason = "it is checked to be whole and small enough")]
pub(crate) fn integer(bytes: &[u8]) -> Option<i64> {
    const END: f64 = 9_007_199_254_740_992.0;
    let number = f64::from_le_bytes(bytes.try_into().ok()?);
    (number.fract() == 0.0 && number.abs() < END).then_some(number as i64)
}

fn amount(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}
