//! The judges against an exact limiter and against every choice of moments.

use proptest::prelude::*;

use super::*;

const RULE: Rule = Rule { limit: 3, window: Duration::from_millis(100) };
const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn at(us: u64) -> Timestamp {
    START.after(Duration::from_micros(us))
}

/// A decision at `time`, sent and answered so much before and after.
fn record(time: u64, before: u64, after: u64, allowed: bool, wait: Duration) -> Record {
    let answer = Answer { allowed, retry_after: wait, count: 0 };
    Record {
        sent: START.after(Duration::from_micros(time)).before(Duration::from_micros(before)),
        received: at(time + after),
        answer,
    }
}

/// What an exact limiter answers to checks at these times, in microseconds.
fn exact(times: &[(u64, u64, u64)]) -> Vec<Record> {
    let mut admitted: Vec<u64> = Vec::new();
    let window = 100_000;
    let mut records = Vec::new();
    for &(time, before, after) in times {
        let inside: Vec<_> = admitted.iter().filter(|one| **one + window > time).collect();
        let allowed = inside.len() < 3;
        let wait = inside.first().map_or(0, |first| **first + window - time).div_ceil(1_000);
        if allowed {
            admitted.push(time);
        }
        let wait = if allowed { 0 } else { wait };
        records.push(record(time, before, after, allowed, Duration::from_millis(wait)));
    }
    records
}

fn times() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    let times =
        prop::collection::vec((1_000_000_u64..1_400_000, 0_u64..20_000, 0_u64..20_000), 1..80);
    times.prop_map(|mut times| {
        times.sort_unstable();
        times
    })
}

proptest! {
    /// Whatever the latencies, an exact limiter is never accused.
    #[test]
    fn an_exact_limiter_is_never_accused(times in times()) {
        let records = exact(&times);
        prop_assert_eq!(excess(RULE, &records), None);
        prop_assert_eq!(wrong_denial(RULE, &records), None);
        for (denial, (time, ..)) in records.iter().zip(&times).filter(|(one, _)| !one.answer.allowed) {
            let oldest = records.iter().zip(&times).find(|(one, (then, ..))| {
                one.answer.allowed && then + 100_000 > *time
            });
            let wait = wait(RULE, oldest.ok_or_else(|| TestCaseError::fail("denied"))?.0, denial);
            prop_assert!(!wait.is_too_short() && !wait.is_too_long(), "{wait:?}");
        }
    }

    /// If answers take no time, every excess is found, but for what the clocks may differ by.
    #[test]
    fn without_latency_every_excess_is_found(times in times()) {
        let records: Vec<_> = times.iter().map(|(time, ..)| record(*time, 0, 0, true, Duration::ZERO)).collect();
        let most = times.iter().map(|(first, ..)| {
            let inside = times.iter().filter(|(one, ..)| one >= first && *one < first + 100_000 - 101);
            u64::try_from(inside.count()).unwrap_or(u64::MAX)
        });
        let most = most.max().unwrap_or(0);
        let found = excess(RULE, &records).map(|found| found.admitted);
        prop_assert_eq!(found, (most > RULE.limit).then_some(most));
    }
}

/// A denial is wrong only if the window cannot have been full.
#[test]
fn a_denial_is_wrong_if_the_window_cannot_have_been_full() {
    let admitted = |time| record(time, 0, 0, true, Duration::ZERO);
    let denied = |time, before| record(time, before, 0, false, Duration::ZERO);
    let full = [admitted(0), admitted(1_000), admitted(2_000)];
    for (time, before, is_wrong) in [(50_000, 0, false), (100_500, 0, true), (100_500, 500, false)]
    {
        let records = [&full[..], &[denied(time, before)]].concat();
        assert_eq!(wrong_denial(RULE, &records).is_some(), is_wrong, "{time} {before}");
    }
}

/// A wait that was rounded down is noticed if the answers came fast.
#[test]
fn a_wait_is_judged_to_within_what_the_answers_took() {
    let first = record(0, 0, 100, true, Duration::ZERO);
    let denial = |announced| record(10_300, 0, 100, false, Duration::from_millis(announced));
    // The exact wait is from 89.6 to 89.8 ms.
    for (announced, is_too_short, is_too_long) in
        [(88, true, false), (89, true, false), (90, false, false), (91, false, true)]
    {
        let wait = wait(RULE, &first, &denial(announced));
        assert_eq!(
            (wait.is_too_short(), wait.is_too_long()),
            (is_too_short, is_too_long),
            "{wait:?}"
        );
    }
    assert!(uncertainty(&first, &denial(90)) < Duration::from_micros(230));
}
