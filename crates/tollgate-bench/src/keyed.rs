//! How long does a check of a keyed limiter take, in nanoseconds?
//!
//! - *Hot key, denied*: one key that has used its limit is checked repeatedly.
//! - *Hot key, admitted*: a limit of 100 is used up after 100 checks, so the benchmark uses a batch of keys that fits
//!   into the nearest caches. Each key is admitted once without measuring, and then, one key after the other, the
//!   remaining 99 times. So every measured check is an admission, and the growth of the logs is included.
//! - *Keys at random*: every key was admitted once; then keys are drawn at random, with one thread and with two, each
//!   time on a new limiter, so that the logs hold a few entries. All checks are admissions.
//! - *First admissions*: the time for filling that table, per key. Only reported.
//! - *Full keys at random*: every key has used its limit, so a log denies; governor, which refills one request every 36
//!   s, admits some. Only reported.
//!
//! The result of a round is the median of its slices ([`crate::stopwatch`]), except for first admissions: these use the
//! mean, because a table grows in steps.

use std::sync::Barrier;
use std::thread;

use crate::contender::{Contender, Governor, Harness, LIMIT, TollgateLibrary, TollgateStore};
use crate::key::{Draw, Key};
use crate::naive_log::NaiveLog;
use crate::report::{Bound, Goal, Measurements, Section, median};
use crate::stopwatch::{clock_reads, ns_in_median_slice, ns_per_operation, to_f64};

const HOT_DENIED: &str = "hot key, denied";
const HOT_ADMITTED: &str = "hot key, admitted";
const FIRST_ADMISSIONS: &str = "first admission of each key";
const RANDOM: [&str; 2] = ["keys at random, 1 thread", "keys at random, 2 threads"];
const RANDOM_FULL: [&str; 2] = ["full keys at random, 1 thread", "full keys at random, 2 threads"];
const CLOCK: &str = "one reading of a clock";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds; the median of them counts.
    pub rounds: u32,
    /// Checks of one hot key in a round.
    pub hot_checks: u64,
    /// The number of hot keys.
    pub hot_keys: u64,
    /// How often all of them are used up in a round, on a new limiter each time.
    pub hot_passes: u64,
    /// Distinct keys to draw from.
    pub keys: u64,
    /// The checks of random keys by each thread in a round.
    pub random_checks: u64,
}

impl Plan {
    /// The figures of `docs/BENCHMARKS.md`.
    pub fn full(rounds: u32) -> Self {
        Self {
            rounds,
            hot_checks: 5_000_000,
            hot_keys: 256,
            hot_passes: 80,
            keys: 1_000_000,
            random_checks: 2_000_000,
        }
    }

    /// Just enough to run every line.
    pub fn smoke() -> Self {
        Self {
            rounds: 2,
            hot_checks: 100,
            hot_keys: 4,
            hot_passes: 2,
            keys: 100,
            random_checks: 100,
        }
    }
}

/// Measures every contender by `plan`.
pub fn run(plan: &Plan) -> Section {
    let mut measured = Measurements::in_unit("ns");
    for round in 0..plan.rounds {
        progress(round, plan.rounds);
        for (clock, ns) in clock_reads(plan.hot_checks) {
            measured.add(CLOCK, clock, ns);
        }
        for_each_contender(plan, &mut measured, &HotDenied);
        for_each_contender(plan, &mut measured, &HotAdmitted);
        for_each_contender(plan, &mut measured, &Random { seed: u64::from(round) });
    }
    random_full(plan, &mut measured);
    Section {
        title: format!(
            "keyed: nanoseconds a check and thread, limit 100 an hour, 16-byte keys, {} keys",
            plan.keys
        ),
        measurements: measured,
        goals: goals(),
    }
}

fn goals() -> Vec<Goal> {
    let at_most = [(HOT_DENIED, 1.0), (HOT_ADMITTED, 1.0), (RANDOM[0], 0.5), (RANDOM[1], 0.5)];
    let goals = at_most.into_iter().flat_map(|(question, ratio)| {
        [TollgateStore::NAME, TollgateLibrary::NAME].map(|contender| Goal {
            question,
            contender,
            bound: Bound::AtMostRatio { ratio, of: Governor::NAME },
        })
    });
    goals.collect()
}

#[expect(clippy::print_stderr, reason = "a benchmark of minutes says that it is alive")]
fn progress(round: u32, rounds: u32) {
    eprintln!("keyed: round {} of {rounds}", round + 1);
}

/// A question for each contender.
trait Question {
    /// Measures it once and records the result.
    fn ask<C: Contender>(&self, plan: &Plan, measured: &mut Measurements);
}

fn for_each_contender(plan: &Plan, measured: &mut Measurements, question: &impl Question) {
    question.ask::<Governor>(plan, measured);
    question.ask::<NaiveLog>(plan, measured);
    question.ask::<TollgateStore>(plan, measured);
    question.ask::<TollgateLibrary>(plan, measured);
    question.ask::<Harness>(plan, measured);
}

struct HotDenied;

impl Question for HotDenied {
    fn ask<C: Contender>(&self, plan: &Plan, measured: &mut Measurements) {
        let limiter = C::for_keys(1);
        let key = Key::new(0);
        use_up(&limiter, &key);
        let ns = ns_in_median_slice(plan.hot_checks, |checks| repeat(&limiter, &key, checks));
        measured.add(HOT_DENIED, C::NAME, ns);
    }
}

struct HotAdmitted;

impl Question for HotAdmitted {
    fn ask<C: Contender>(&self, plan: &Plan, measured: &mut Measurements) {
        let keys: Vec<Key> = (0..plan.hot_keys).map(Key::new).collect();
        let checks_a_key = u64::from(LIMIT.get()) - 1;
        let pass = |_| {
            let limiter = C::for_keys(plan.hot_keys);
            repeat_each(&limiter, &keys, 1);
            let checks = plan.hot_keys * checks_a_key;
            ns_per_operation(checks, || repeat_each(&limiter, &keys, checks_a_key))
        };
        let passes: Vec<f64> = (0..plan.hot_passes).map(pass).collect();
        measured.add(HOT_ADMITTED, C::NAME, median(&passes));
    }
}

/// Random keys, in the order of `seed`.
struct Random {
    seed: u64,
}

impl Question for Random {
    fn ask<C: Contender>(&self, plan: &Plan, measured: &mut Measurements) {
        for (question, threads) in RANDOM.into_iter().zip(1..) {
            let limiter = C::for_keys(plan.keys);
            let ns = ns_per_operation(plan.keys, || {
                let mut key = Key::new(0);
                for index in 0..plan.keys {
                    key.set(index);
                    repeat(&limiter, &key, 1);
                }
            });
            measured.add(FIRST_ADMISSIONS, C::NAME, ns);
            let ns = random_ns(&limiter, plan, threads, self.seed);
            measured.add(question, C::NAME, ns);
        }
    }
}

/// The same as [`Random`] with every key used up. Filling takes long and denials change nothing, so every contender is
/// filled only once.
fn random_full(plan: &Plan, measured: &mut Measurements) {
    let governor = filled::<Governor>(plan);
    let naive = filled::<NaiveLog>(plan);
    let store = filled::<TollgateStore>(plan);
    let library = filled::<TollgateLibrary>(plan);
    for round in 0..plan.rounds {
        for (question, threads) in RANDOM_FULL.into_iter().zip(1..) {
            let seed = u64::from(round);
            measured.add(question, Governor::NAME, random_ns(&governor, plan, threads, seed));
            measured.add(question, NaiveLog::NAME, random_ns(&naive, plan, threads, seed));
            measured.add(question, TollgateStore::NAME, random_ns(&store, plan, threads, seed));
            measured.add(question, TollgateLibrary::NAME, random_ns(&library, plan, threads, seed));
            measured.add(question, Harness::NAME, random_ns(&Harness, plan, threads, seed));
        }
    }
}

fn filled<C: Contender>(plan: &Plan) -> C {
    let limiter = C::for_keys(plan.keys);
    let mut key = Key::new(0);
    for index in 0..plan.keys {
        key.set(index);
        use_up(&limiter, &key);
    }
    limiter
}

/// Checks random keys from `threads` threads at once; returns the mean nanoseconds per check and thread.
fn random_ns<C: Contender>(limiter: &C, plan: &Plan, threads: u64, seed: u64) -> f64 {
    let together = Barrier::new(usize::try_from(threads).unwrap_or(1));
    let in_one_thread = |thread: u64| {
        let mut draw = Draw::new(seed * threads + thread, plan.keys);
        let mut key = Key::new(0);
        together.wait();
        ns_in_median_slice(plan.random_checks, |checks| {
            for _ in 0..checks {
                key.set(draw.next_index());
                repeat(limiter, &key, 1);
            }
        })
    };
    let in_one_thread = &in_one_thread;
    let ns: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || in_one_thread(thread))).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    ns.iter().sum::<f64>() / to_f64(threads)
}

fn use_up<C: Contender>(limiter: &C, key: &Key) {
    repeat(limiter, key, u64::from(LIMIT.get()));
}

fn repeat_each<C: Contender>(limiter: &C, keys: &[Key], times: u64) {
    for key in keys {
        repeat(limiter, key, times);
    }
}

#[inline]
fn repeat<C: Contender>(limiter: &C, key: &Key, times: u64) {
    for _ in 0..times {
        std::hint::black_box(limiter.allow(key));
    }
}
