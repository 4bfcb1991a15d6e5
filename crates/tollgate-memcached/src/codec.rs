//! What memcached keeps of one key, as bytes. Times are in nanoseconds since the Unix epoch, numbers are LEB128.
//!
//! ```text
//! "TGM" version latest idle_at usage requests
//!
//! usage     0                                             none
//!           1 next count entry…                           a log
//!           2, 3 or 4 number number idle_at               a counter, a token bucket or a calendar
//! entry     stamp·4 + (2 if the cost is not 1) + (1 if a number is skipped), the number skipped to, the cost
//!           stamps and numbers as differences to the entry before
//! requests  count (digest expires_at verdict)…
//! ```
//!
//! A value is decoded only if all of it is what this version writes: anything else is not Tollgate's, and is left alone.

use std::num::NonZeroU32;

use tollgate_core::counting::{Tally, TallyKind, Verdict, Wait};
use tollgate_core::{Amount, Timestamp};

use crate::key::REQUEST_DIGEST_BYTES;
use crate::log::{AdmissionLog, Entry, MAX_ENTRIES, TICK_NS};
use crate::state::{KeyState, MAX_REQUEST_IDS, OnceRecord, Usage};

/// The latest time of a key, in the year 2116,
const MAX_LATEST_NS: u64 = 1 << 62;
/// and the latest moment that is computed from it, in the year 2262: neither overflows anywhere.
const MAX_NS: u64 = 1 << 63;
/// The highest number of an admission; those of microseconds stay below it for as long.
const MAX_NUMBER: u64 = 1 << 62;
/// The latest time of an admission, in ticks.
const MAX_STAMP: u64 = MAX_NS / TICK_NS;

/// The beginning of every value: the last byte is the version of the format.
const MAGIC: &[u8; 4] = b"TGM\x01";

const NONE: u64 = 0;
const LOG: u64 = 1;
const TALLIES: [(u64, TallyKind); 3] =
    [(2, TallyKind::Counter), (3, TallyKind::Bucket), (4, TallyKind::Calendar)];

/// The bits of an entry beside its stamp.
const HAS_COST: u64 = 2;
const SKIPS_NUMBERS: u64 = 1;

/// The bits of a verdict.
const ALLOWED: u64 = 1;
const WAITS: u64 = 2;
const NEVER: u64 = 4;
const HAS_PERIOD: u64 = 8;
const HAS_RECORDED: u64 = 16;

/// `state` as bytes.
pub(crate) fn encode(state: &KeyState) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 6 * state.weight());
    out.extend_from_slice(MAGIC);
    put(&mut out, state.latest.as_ns());
    put(&mut out, state.idle_at.as_ns());
    match &state.usage {
        Usage::None => put(&mut out, NONE),
        Usage::Log(log) => put_log(&mut out, log),
        Usage::Tally(tally) => {
            let known = TALLIES.iter().find(|(_, kind)| *kind == tally.kind);
            put(&mut out, known.map_or(NONE, |(number, _)| *number));
            let [first, second] = tally.numbers;
            for number in [first, second, tally.idle_at_ns] {
                put(&mut out, number);
            }
        }
    }
    put(&mut out, state.once.len() as u64);
    for one in &state.once {
        out.extend_from_slice(&one.request);
        put(&mut out, one.expires_at.as_ns());
        put_verdict(&mut out, &one.verdict, if one.recorded.is_some() { HAS_RECORDED } else { 0 });
        if let Some(recorded) = &one.recorded {
            put_verdict(&mut out, recorded, 0);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn put_log(out: &mut Vec<u8>, log: &AdmissionLog) {
    put(out, LOG);
    put(out, log.next);
    put(out, log.entries.len() as u64);
    let (mut stamp, mut number) = (0, 0);
    for entry in &log.entries {
        let skips = entry.number != number;
        let has_cost = entry.cost != 1;
        let bits = if has_cost { HAS_COST } else { 0 } | if skips { SKIPS_NUMBERS } else { 0 };
        put(out, (entry.stamp - stamp) << 2 | bits);
        if skips {
            put(out, entry.number - number);
        }
        if has_cost {
            put(out, entry.cost);
        }
        (stamp, number) = (entry.stamp, entry.number + 1);
    }
}

fn put_verdict(out: &mut Vec<u8>, verdict: &Verdict, more: u64) {
    let wait = match verdict.wait {
        Wait::None | Wait::Unknown => 0,
        Wait::Ns(_) => WAITS,
        Wait::Never => NEVER,
    };
    let period = if verdict.period_s.is_some() { HAS_PERIOD } else { 0 };
    put(out, u64::from(verdict.allowed) | wait | period | more);
    put(out, verdict.usage);
    put(out, verdict.reset_after_ns);
    if let Wait::Ns(ns) = verdict.wait {
        put(out, ns);
    }
    if let Some(period_s) = verdict.period_s {
        put(out, u64::from(period_s.get()));
    }
}

/// The state of `bytes`; `None` if they are not exactly one.
pub(crate) fn decode(bytes: &[u8]) -> Option<KeyState> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
    let latest = Timestamp::from_ns(reader.at_most(MAX_LATEST_NS)?);
    let idle_at = Timestamp::from_ns(reader.number()?);
    let usage = match reader.number()? {
        NONE => Usage::None,
        LOG => Usage::Log(reader.log()?),
        other => {
            let (_, kind) = TALLIES.into_iter().find(|(number, _)| *number == other)?;
            let numbers = [reader.number()?, reader.number()?];
            let tally = Tally { kind, numbers, idle_at_ns: reader.number()? };
            is_possible(&tally).then_some(Usage::Tally(tally))?
        }
    };
    let count = reader.count(MAX_REQUEST_IDS)?;
    let once = (0..count).map(|_| reader.once()).collect::<Option<_>>()?;
    reader.0.is_empty().then_some(KeyState { latest, idle_at, usage, once })
}

/// Whether Tollgate can have written `tally`. The time at which a bucket is full may be as late as [`u64::MAX`].
fn is_possible(tally: &Tally) -> bool {
    let [first, second] = tally.numbers;
    let is_amount = |number: u64| number <= Amount::MAX.get();
    match tally.kind {
        TallyKind::Counter => is_amount(first) && is_amount(second) && tally.idle_at_ns <= MAX_NS,
        TallyKind::Calendar => is_amount(first) && second <= MAX_NS && tally.idle_at_ns <= MAX_NS,
        TallyKind::Bucket => is_amount(second),
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let digit = u64::from(byte & 0x7f);
            let shifted = digit << shift;
            // Nothing may be cut off.
            if shifted >> shift != digit {
                return None;
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most)
    }

    fn at_most(&mut self, most: u64) -> Option<u64> {
        self.number().filter(|number| *number <= most)
    }

    fn log(&mut self) -> Option<AdmissionLog> {
        let next = self.at_most(MAX_NUMBER)?;
        let count = self.count(MAX_ENTRIES)?;
        let mut entries = Vec::with_capacity(count.min(self.0.len()));
        let (mut stamp, mut number, mut usage) = (0_u64, 0_u64, 0_u64);
        for _ in 0..count {
            let word = self.number()?;
            stamp = stamp.checked_add(word >> 2).filter(|stamp| *stamp <= MAX_STAMP)?;
            if word & SKIPS_NUMBERS != 0 {
                number = number.checked_add(self.number()?)?;
            }
            let cost = if word & HAS_COST == 0 { 1 } else { self.at_most(Amount::MAX.get())? };
            usage += cost;
            if cost == 0 || number >= next || usage > Amount::MAX.get() {
                return None;
            }
            entries.push(Entry { number, stamp, cost });
            number += 1;
        }
        Some(AdmissionLog { entries, next })
    }

    fn once(&mut self) -> Option<OnceRecord> {
        let (request, rest) = self.0.split_first_chunk::<REQUEST_DIGEST_BYTES>()?;
        self.0 = rest;
        let expires_at = Timestamp::from_ns(self.number()?);
        let (verdict, has_recorded) = self.verdict()?;
        let recorded = if has_recorded { Some(self.verdict()?.0) } else { None };
        Some(OnceRecord { request: *request, expires_at, verdict, recorded })
    }

    fn verdict(&mut self) -> Option<(Verdict, bool)> {
        let bits = self.number()?;
        let (usage, reset_after_ns) = (self.number()?, self.number()?);
        let wait = match (bits & WAITS != 0, bits & NEVER != 0) {
            (true, true) => return None,
            (true, false) => Wait::Ns(self.number()?),
            (false, true) => Wait::Never,
            (false, false) => Wait::None,
        };
        let period_s = if bits & HAS_PERIOD == 0 {
            None
        } else {
            Some(NonZeroU32::new(u32::try_from(self.number()?).ok()?)?)
        };
        let allowed = bits & ALLOWED != 0;
        let verdict = Verdict { period_s, ..Verdict::new(allowed, usage, wait, reset_after_ns) };
        Some((verdict, bits & HAS_RECORDED != 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::time::Duration;
    use tollgate_core::{Calendar, Counting, Limit, Per, Policy, PolicyId, Window, Zone};

    use super::*;
    use crate::state::Asked;

    fn logs() -> impl Strategy<Value = AdmissionLog> {
        let entries = vec((0..(1_u64 << 40), 1..5_u64, 1..1_000_u64), 0..50);
        (entries, 0..(1_u64 << 50)).prop_map(|(steps, skipped)| {
            let (mut stamp, mut number) = (1_700_000_000_000_000, skipped);
            let entries: Vec<_> = steps
                .into_iter()
                .map(|(later, numbers, cost)| {
                    (stamp, number) = (stamp + later, number + numbers);
                    Entry { number, stamp, cost: cost.saturating_sub(900).max(1) }
                })
                .collect();
            AdmissionLog { next: number + 1, entries }
        })
    }

    fn usages() -> impl Strategy<Value = Usage> {
        let kinds = select(TALLIES.map(|(_, kind)| kind).to_vec());
        let tally = (kinds, [0..=Amount::MAX.get(), 0..=Amount::MAX.get()], 0..=MAX_NS);
        let tally =
            tally.prop_map(|(kind, numbers, idle_at_ns)| Tally { kind, numbers, idle_at_ns });
        prop_oneof![Just(Usage::None), logs().prop_map(Usage::Log), tally.prop_map(Usage::Tally)]
    }

    fn verdicts() -> impl Strategy<Value = Verdict> {
        let wait =
            prop_oneof![Just(Wait::None), Just(Wait::Never), any::<u64>().prop_map(Wait::Ns)];
        (any::<bool>(), any::<u64>(), wait, any::<u64>(), any::<u32>()).prop_map(
            |(allowed, usage, wait, reset_after_ns, period_s)| Verdict {
                period_s: NonZeroU32::new(period_s),
                ..Verdict::new(allowed, usage, wait, reset_after_ns)
            },
        )
    }

    fn states() -> impl Strategy<Value = KeyState> {
        let once = (any::<[u8; 16]>(), any::<u64>(), verdicts(), proptest::option::of(verdicts()));
        let once = once.prop_map(|(request, expires_ns, verdict, recorded)| OnceRecord {
            request,
            expires_at: Timestamp::from_ns(expires_ns),
            verdict,
            recorded,
        });
        (0..=MAX_LATEST_NS, any::<u64>(), usages(), vec(once, 0..5)).prop_map(
            |(latest, idle_at, usage, once)| {
                let [latest, idle_at] = [latest, idle_at].map(Timestamp::from_ns);
                KeyState { latest, idle_at, usage, once }
            },
        )
    }

    proptest! {
        #[test]
        fn a_state_is_decoded_as_it_was_encoded(state in states()) {
            let bytes = encode(&state);
            prop_assert_eq!(decode(&bytes), Some(state));
        }

        /// No part of a value is a value, and nothing may follow one.
        #[test]
        fn a_value_that_was_cut_or_lengthened_is_refused(state in states(), cut: prop::sample::Index) {
            let mut bytes = encode(&state);
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), None);
            bytes.push(0);
            prop_assert_eq!(decode(&bytes), None);
        }

        /// Whatever is decoded is what this version writes.
        #[test]
        fn other_bytes_are_refused(bytes in vec(any::<u8>(), 0..60)) {
            let value = [MAGIC.as_slice(), &bytes].concat();
            if let Some(state) = decode(&value) {
                prop_assert_eq!(decode(&encode(&state)), Some(state));
            }
            prop_assert_eq!(decode(&bytes), None);
        }
    }

    fn any_usages() -> impl Strategy<Value = Usage> {
        let edges =
            || prop_oneof![any::<u64>(), select(vec![0, 1, MAX_NS, u64::MAX - 1, u64::MAX])];
        let kinds = select(TALLIES.map(|(_, kind)| kind).to_vec());
        let tally = (kinds, [edges(), edges()], edges());
        let tally =
            tally.prop_map(|(kind, numbers, idle_at_ns)| Tally { kind, numbers, idle_at_ns });
        let log = (edges(), edges(), edges(), edges()).prop_map(|(number, stamp, cost, next)| {
            let number = number.min(u64::MAX - 1);
            let entries = vec![Entry { number, stamp: stamp >> 2, cost }];
            AdmissionLog { entries, next }
        });
        prop_oneof![tally.prop_map(Usage::Tally), log.prop_map(Usage::Log)]
    }

    fn limits() -> Vec<Limit> {
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let bucket = Counting::Bucket { window, refill: Amount::new(10).unwrap() };
        let calendar = Counting::Calendar { calendar: Calendar::Day, zone: Zone::utc() };
        let ways = [Counting::Log { window }, Counting::Counter { window }, bucket, calendar];
        let limits = ways.map(|counting| {
            let id = PolicyId::new("p").unwrap();
            let policy = Policy::new(id, Per::from_scope("USER").unwrap(), Amount::new(10), window);
            Limit::of(&Policy { counting, ..policy }).unwrap()
        });
        limits.to_vec()
    }

    proptest! {
        /// Whatever is decoded can be worked with, and gives a value that can be decoded again.
        #[test]
        fn no_value_breaks_the_arithmetic(
            latest in prop_oneof![any::<u64>(), Just(MAX_LATEST_NS), Just(1_800_000_000_000_000_000)],
            usage in any_usages(),
            costs in vec(0..20_u64, 1..5),
        ) {
            let latest = Timestamp::from_ns(latest);
            let state = KeyState { latest, idle_at: latest, usage, once: Vec::new() };
            let Some(state) = decode(&encode(&state)) else { return Ok(()) };
            let now = Timestamp::from_ms(1_800_000_000_000);
            for limit in limits() {
                let mut state = state.clone();
                for cost in &costs {
                    let cost = Amount::new(*cost).unwrap();
                    let asked = Asked { limit: &limit, cost, is_recorded_if_denied: false, is_denied: false, request: None };
                    let (answer, _) = state.charge(&asked, now);
                    state.evaluate(&limit, now, cost);
                    prop_assert!(decode(&encode(&state)).is_some(), "{state:?}");
                    state.refund(&limit, answer.receipt.as_ref(), None, now);
                }
            }
        }
    }

    #[test]
    fn the_format_is_fixed() {
        let log = AdmissionLog {
            entries: vec![
                Entry { number: 300, stamp: 5, cost: 1 },
                Entry { number: 301, stamp: 7, cost: 2 },
            ],
            next: 302,
        };
        let state = KeyState {
            latest: Timestamp::from_ns(1),
            idle_at: Timestamp::from_ns(2),
            usage: Usage::Log(log),
            once: Vec::new(),
        };
        let bytes = [b'T', b'G', b'M', 1, 1, 2, 1, 0xae, 2, 2, 0x15, 0xac, 2, 0x0a, 2, 0];
        assert_eq!(encode(&state), bytes);
    }

    /// A log with the most entries and the most request ids is smaller than what memcached takes by default.
    #[test]
    fn the_largest_value_fits_into_memcached() {
        let year_us = 366 * 86_400_000_000_u64;
        let entries = (0..MAX_ENTRIES as u64).map(|index| Entry {
            number: (1 << 51) + index * 2,
            stamp: (1 << 51) + index * year_us / MAX_ENTRIES as u64,
            cost: Amount::MAX.get() / (MAX_ENTRIES as u64 + 1),
        });
        let entries: Vec<_> = entries.collect();
        let verdict = Verdict {
            period_s: NonZeroU32::new(u32::MAX),
            ..Verdict::new(false, Amount::MAX.get(), Wait::Ns(1 << 60), 1 << 60)
        };
        let record = OnceRecord {
            request: [255; 16],
            expires_at: Timestamp::from_ns(u64::MAX),
            verdict,
            recorded: Some(verdict),
        };
        let state = KeyState {
            latest: Timestamp::from_ns(MAX_LATEST_NS),
            idle_at: Timestamp::from_ns(u64::MAX),
            usage: Usage::Log(AdmissionLog { next: 1 << 52, entries }),
            once: vec![record; MAX_REQUEST_IDS],
        };
        let bytes = encode(&state).len();
        assert!(bytes < (1 << 20) - 512, "{bytes}");
    }
}
