//! What the scripts are asked and what they answer: packed integers, least byte first.
//!
//! The script decides; from the few numbers that it says, the verdict is worked out by the same code of
//! `tollgate_core::algorithm` that decides in memory. If the two disagree, that is an error.

use tollgate_core::algorithm::Verdict;
use tollgate_core::algorithm::sliding_window_counter::{self as counter, Counter};
use tollgate_core::algorithm::sliding_window_log::{self as log, Log, LogTime};
use tollgate_core::{Algorithm, Amount, Charge, Limit, Mode, Timestamp, Window};

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
const MAGIC: u8 = b'T';
const LOG_TAG: u8 = 1;
const COUNTER_TAG: u8 = 3;
const VERSION: u8 = 1;

const ALLOWED: u8 = 1;
const HAS_ENTRIES: u8 = 2;
const TIME_BYTES: usize = 8;
const LIMIT_BYTES: usize = 24;

/// Asks to charge or to peek; `test` replaces Redis's time, and `once` is for how long a request id is known.
pub(crate) fn operation(charges: bool, test: Option<Timestamp>, once: Option<Window>) -> Vec<u8> {
    /// Redis's own clock takes keys away, whatever the time of the test.
    const TEST_SLACK_MS: u64 = 600_000;
    let mut bytes = vec![if charges { b'c' } else { b'p' }];
    if let Some(now) = test {
        push(&mut bytes, now.as_ns() / NS_PER_S, 4);
        push(&mut bytes, now.as_ns() % NS_PER_S, 4);
        push(&mut bytes, TEST_SLACK_MS, 4);
    }
    if let Some(window) = once {
        push(&mut bytes, window.as_ns() / NS_PER_S, 4);
        push(&mut bytes, window.as_ns() % NS_PER_S, 4);
    }
    bytes
}

/// What the script has to know of one limit. `hint` is about now; a wrong one costs time, no exactness.
pub(crate) fn argument(charge: &Charge<'_>, hint: Timestamp) -> Vec<u8> {
    let (limit, window) = (charge.limit, charge.limit.window());
    let mut bytes = tag(limit);
    push(&mut bytes, limit.amount().get(), 7);
    push(&mut bytes, charge.cost.get(), 7);
    let shadow = u64::from(limit.mode() == Mode::Shadow);
    match limit.algorithm() {
        Algorithm::SlidingWindowLog => {
            push(&mut bytes, window.ticks(), 4);
            push(&mut bytes, window.tick_ns(), 4);
            push(&mut bytes, life_ms(limit), 5);
            push(&mut bytes, shadow, 1);
        }
        Algorithm::SlidingWindowCounter => {
            push(&mut bytes, window.as_ns() / NS_PER_S, 4);
            push(&mut bytes, window.as_ns() % NS_PER_S, 4);
            push(&mut bytes, life_ms(limit), 5);
            push(&mut bytes, shadow + 2, 1);
            let start_ns = hint.as_ns() - hint.as_ns() % window.as_ns();
            push(&mut bytes, start_ns / NS_PER_S, 4);
            push(&mut bytes, start_ns % NS_PER_S, 4);
        }
    }
    bytes
}

/// How long a key lives after it was written: at most 2W and a second (R9). A log is written anew before an
/// admission could outlive its key, so a quarter of a window more spares most admissions that.
pub(crate) fn life_ms(limit: &Limit) -> u64 {
    let window_ns = limit.window().as_ns();
    match limit.algorithm() {
        Algorithm::SlidingWindowLog => {
            window_ns.div_ceil(NS_PER_MS) + window_ns / NS_PER_MS / 4 + 1_000
        }
        Algorithm::SlidingWindowCounter => 2 * window_ns / NS_PER_MS + 1_000,
    }
}

/// An admission, as `settle.lua` finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId {
    /// The stamp of the entry in ticks, or the start of the counter's window in nanoseconds.
    at: u64,
}

impl EntryId {
    /// The id of an admission made at `at`.
    pub(crate) fn of(limit: &Limit, at: Timestamp) -> Self {
        let window = limit.window();
        let at = match limit.algorithm() {
            Algorithm::SlidingWindowLog => LogTime::new(window, at).stamp(),
            Algorithm::SlidingWindowCounter => at.as_ns() - at.as_ns() % window.as_ns(),
        };
        Self { at }
    }
}

/// Asks to change an admission at `old` to `new`.
pub(crate) fn settlement(limit: &Limit, id: EntryId, old: Amount, new: Amount) -> Vec<u8> {
    let mut bytes = tag(limit);
    let per_s = match limit.algorithm() {
        Algorithm::SlidingWindowLog => NS_PER_S / limit.window().tick_ns(),
        Algorithm::SlidingWindowCounter => NS_PER_S,
    };
    push(&mut bytes, id.at / per_s, 4);
    push(&mut bytes, id.at % per_s, 4);
    push(&mut bytes, per_s, 4);
    push(&mut bytes, old.get(), 7);
    push(&mut bytes, new.get(), 7);
    bytes
}

fn tag(limit: &Limit) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(44);
    match limit.algorithm() {
        Algorithm::SlidingWindowLog => {
            bytes.extend([MAGIC, LOG_TAG, limit.window().tick_exponent(), VERSION]);
        }
        Algorithm::SlidingWindowCounter => bytes.extend([MAGIC, COUNTER_TAG, 0, VERSION]),
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, value: u64, width: usize) {
    bytes.extend_from_slice(&value.to_le_bytes()[..width]);
}

/// What the script said of one limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// Before the check was charged.
    pub(crate) before: Verdict,
    /// After it was charged; the same if there was nothing to charge.
    pub(crate) after: Verdict,
    /// What the admission would be found by.
    pub(crate) id: EntryId,
}

/// Reads the answer to `charges`; `None` if it cannot be one.
pub(crate) fn answer(bytes: &[u8], charges: &[Charge<'_>]) -> Option<Vec<Said>> {
    let (time, limits) = bytes.split_at_checked(TIME_BYTES)?;
    let now_ns = unsigned(&time[..4]) * NS_PER_S + unsigned(&time[4..]);
    if limits.len() != charges.len() * LIMIT_BYTES {
        return None;
    }
    let parts = limits.chunks_exact(LIMIT_BYTES).zip(charges);
    parts.map(|(part, charge)| said(now_ns, part, charge)).collect()
}

fn said(now_ns: u64, part: &[u8], charge: &Charge<'_>) -> Option<Said> {
    let flags = part[0];
    let usage = unsigned(&part[1..8]);
    let (second, third) = (signed(&part[8..16])?, signed(&part[16..24])?);
    let said = match charge.limit.algorithm() {
        Algorithm::SlidingWindowLog => log_said(now_ns, flags, usage, second, third, charge),
        Algorithm::SlidingWindowCounter => {
            counter_said(now_ns, usage, second.try_into().ok()?, third.try_into().ok()?, charge)
        }
    };
    (said.before.allowed == (flags & ALLOWED != 0)).then_some(said)
}

/// The two entries of a log that an answer depends on.
struct SeenLog {
    len: usize,
    usage: u64,
    /// The entry that frees enough, then the newest one.
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
    newest_after: i64,
    freeing_after: i64,
    charge: &Charge<'_>,
) -> Said {
    let window = charge.limit.window();
    let floor = now_ns / window.tick_ns();
    let [freeing, newest] =
        [freeing_after, newest_after].map(|after| floor.saturating_add_signed(after));
    let len = if flags & HAS_ENTRIES == 0 { 0 } else { 2 };
    // A clock that has stepped back stands still at the newest entry (R7).
    let ahead = len > 0 && newest > now_ns.div_ceil(window.tick_ns());
    let now_ns = if ahead { newest * window.tick_ns() } else { now_ns };
    let time = LogTime::new(window, Timestamp::from_ns(now_ns));
    let seen = SeenLog { len, usage, ticks: [freeing, newest] };
    let before = log::evaluate(&seen, charge.limit.amount(), &time, charge.cost);
    let after = log::admitted(before, &time, charge.cost);
    Said { before, after, id: EntryId { at: time.stamp() } }
}

fn counter_said(
    now_ns: u64,
    current: u64,
    previous: u64,
    windows_ahead: u64,
    charge: &Charge<'_>,
) -> Said {
    let window = charge.limit.window();
    let width_ns = window.as_ns();
    let start_ns = (now_ns / width_ns).saturating_add(windows_ahead).saturating_mul(width_ns);
    // A clock that has stepped back stands still at the start of the latest window (R7).
    let now = Timestamp::from_ns(now_ns.max(start_ns));
    let kept = Counter { start: Timestamp::from_ns(start_ns), current, previous };
    let before = counter::evaluate(kept, charge.limit.amount(), window, now, charge.cost);
    let after = match charge.cost {
        Amount::ZERO => before,
        cost => counter::admitted(before, kept.admitted(cost), window, now, cost),
    };
    Said { before, after, id: EntryId { at: start_ns } }
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn signed(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.try_into().ok()?))
}
