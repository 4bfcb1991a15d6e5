//! The memory of request ids under every schedule that Shuttle finds: copies of a check that arrive together, records
//! that expire meanwhile, and a sweep in between.
//!
//! `once.rs` is compiled a second time here, with Shuttle's locks, at which tasks are switched. A failure prints the
//! schedule; `shuttle::replay` runs it again.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Amount, Charge, Clock, Limit, ManualClock, Policy, Subject, Timestamp};

use crate::Verdicts;
use once::Once;
use sync::Mutex;

mod sync {
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
}

#[expect(clippy::duplicate_mod, reason = "compiled a second time, with the locks above")]
#[expect(dead_code, reason = "reservations take the same lock as checks")]
#[path = "once.rs"]
mod once;

const SCHEDULES: usize = 2_000;
const COPIES: usize = 3;
/// Half a window of the default policy, so that the second step of the clock ends the records made before the first.
const STEP: Duration = Duration::from_mins(30);

/// When each request id was charged, in the order of the charges.
type Ledger = Mutex<Vec<(&'static str, Timestamp)>>;

/// Charges every check, and returns which charge that was: a copy that charged nothing must get the answer of the
/// first.
fn charge(ledger: &Ledger, clock: &ManualClock, request_id: &'static str) -> Verdicts {
    let mut ledger = ledger.lock().unwrap();
    ledger.push((request_id, clock.now()));
    let usage = ledger.len() as u64;
    [Verdict::new(true, usage, Wait::None, 0)].into_iter().collect()
}

fn check_all_copies() {
    let clock = ManualClock::default();
    let once = Arc::new(Once::new(64));
    let ledger = Arc::new(Ledger::default());
    let limit = Arc::new(Limit::of(&Policy::default_policy()).unwrap());
    let window = limit.counting().window().unwrap().as_duration();
    let copies = (0..COPIES).flat_map(|_| ["a", "b"]).map(|request_id| {
        let (clock, once, ledger, limit) =
            (clock.clone(), once.clone(), ledger.clone(), limit.clone());
        thread::spawn(move || {
            let subject = Subject::new("alice", "gpt-4");
            let charges = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
            let verdicts =
                once.charge(&charges, request_id, &clock, || charge(&ledger, &clock, request_id));
            let place = usize::try_from(verdicts[0].usage).unwrap() - 1;
            let told = ledger.lock().unwrap()[place].0;
            assert_eq!(told, request_id, "a check got the answer of another");
        })
    });
    let mut tasks: Vec<_> = copies.collect();
    tasks.push({
        let (clock, once) = (clock.clone(), once.clone());
        thread::spawn(move || {
            for _ in 0..2 {
                clock.advance(STEP);
                once.sweep(clock.now());
            }
        })
    });
    for task in tasks {
        task.join().unwrap();
    }
    let (records, order) = once.held();
    assert!(records <= order, "{} of {records} records would never be forgotten", records - order);
    let ledger = ledger.lock().unwrap();
    for id in ["a", "b"] {
        let times: Vec<_> = ledger.iter().filter(|(of, _)| *of == id).map(|(_, at)| *at).collect();
        assert!(!times.is_empty(), "{id} was never charged");
        let is_apart = times.windows(2).all(|pair| pair[1].since(pair[0]) >= window);
        assert!(is_apart, "{id} was charged twice within a window: {times:?}");
    }
}

#[test]
fn a_request_id_charges_once_in_a_window_under_every_schedule() {
    shuttle::check_random(check_all_copies, SCHEDULES);
    shuttle::check_pct(check_all_copies, SCHEDULES, 3);
}
