//! How long does a snapshot of the store in memory take to write and to read, and how long do checks wait meanwhile?
//!
//! One thread sends checks of random keys all the time. Its slowest check while nothing else runs tells what the machine adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tollgate_core::{
    Amount, Attribute, Charge, Limit, MonotonicClock, Per, Policy, PolicyId, Subject,
    SystemWallClock, WallClock, Window,
};
use tollgate_store::MemoryStore;
use tollgate_store::memory::{Found, MemoryStoreOptions, SnapshotFile};

use crate::report::{Bound, Goal, Measurements, Section};
use crate::stopwatch::{now, timed, to_f64};

const WRITING: &str = "written to the disk";
const READING: &str = "read";
const SLOWEST: &str = "the slowest check";
const ALONE: &str = "alone";
const MEANWHILE: &str = "while a snapshot is written";
const TIME: &str = "the time";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Snapshots.
    pub rounds: u32,
    /// Keys in the store, each with one admission.
    pub keys: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self { rounds, keys: 10_000_000 }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self { rounds: 2, keys: 1_000 }
    }
}

/// Measures by `plan`.
pub fn run(plan: &Plan) -> Result<Section, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = SnapshotFile::open(dir.path()).map_err(|error| error.to_string())?;
    let options = MemoryStoreOptions::default()
        .max_keys(usize::try_from(plan.keys * 2).unwrap_or(usize::MAX));
    let store = MemoryStore::with_clock(MonotonicClock::new(), &options);
    let limit = limit().ok_or("the limit is invalid")?;
    for key in 0..plan.keys {
        check(&store, &limit, key);
    }
    let mut measured = Measurements::in_unit("ms");
    let mut bytes = 0;
    for _ in 0..plan.rounds {
        let mut written = Ok(0);
        let save = || written = file.save(&store, SystemWallClock.wall_time());
        let (took, meanwhile) = beside_checks(&store, &limit, plan.keys, save);
        bytes = written.map_err(|error| error.to_string())?;
        let (_, alone) = beside_checks(&store, &limit, plan.keys, || thread::sleep(took));
        let mut found = Ok(Found::Nothing);
        let read = timed(|| found = file.load(&options, |_| MonotonicClock::new()));
        let held = match found.map_err(|error| error.to_string())? {
            Found::Store(store) => store.stats().keys,
            other => return Err(format!("the snapshot is not there: {other:?}")),
        };
        if held != store.stats().keys {
            return Err(format!("{held} keys were read of {}", store.stats().keys));
        }
        measured.add(TIME, WRITING, ms(took));
        measured.add(TIME, READING, ms(read));
        measured.add(SLOWEST, ALONE, ms(alone));
        measured.add(SLOWEST, MEANWHILE, ms(meanwhile));
    }
    let goal = |question, contender, most| Goal { question, contender, bound: Bound::AtMost(most) };
    Ok(Section {
        title: format!("snapshots: {} keys in {:.0} MB", plan.keys, to_f64(bytes) / 1e6),
        measurements: measured,
        goals: vec![
            goal(TIME, WRITING, 10_000.0),
            goal(TIME, READING, 10_000.0),
            goal(SLOWEST, MEANWHILE, 5.0),
        ],
    })
}

/// Does `work` while another thread sends checks: how long it took, and the slowest check.
fn beside_checks(
    store: &MemoryStore,
    limit: &Arc<Limit>,
    keys: u64,
    work: impl FnOnce(),
) -> (Duration, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let checks = scope.spawn(|| {
            let (mut slowest, mut key) = (Duration::ZERO, 0_u64);
            // Relaxed: it is only a signal to end.
            while !is_over.load(Ordering::Relaxed) {
                // A step that shares no factor with the number of keys visits them in no order of the table.
                key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let start = now();
                check(store, limit, key % keys);
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
        let took = timed(work);
        is_over.store(true, Ordering::Relaxed);
        (took, checks.join().unwrap_or(Duration::MAX))
    })
}

fn check(store: &MemoryStore, limit: &Arc<Limit>, key: u64) {
    let user = format!("user-{key:011}");
    let subject = Subject::new(&user, "gpt-4");
    std::hint::black_box(store.charge_one(&Charge { limit, subject: &subject, cost: Amount::ONE }));
}

fn limit() -> Option<Arc<Limit>> {
    let per = Per::new(vec![Attribute::User])?;
    let window = Window::new(Duration::from_hours(1))?;
    let policy = Policy::new(PolicyId::new("requests").ok()?, per, Amount::new(100), window);
    Limit::of(&policy).map(Arc::new)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
