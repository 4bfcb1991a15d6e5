//! Limiters with a fault each, which the experiments must find, and exact ones, of which they must find nothing. Time is
//! virtual, and checks take times drawn from a seed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod virtual_time;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tollgate::RateLimiter;
use tollgate_core::{Counting, ManualClock, Timestamp};
use tollgate_verify::judge::Rule;
use tollgate_verify::{
    Answer, Ask, CheckError, Finding, Outcome, Promise, Settings, Target, Timeline as _,
    run_experiments,
};
use virtual_time::VirtualTime;

const LIMIT: u64 = 40;
const WINDOW: Duration = Duration::from_secs(2);

/// What is wrong with a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    AdmitsOneMore,
    DeniesOneEarly,
    ChargesDenials,
    /// Usage is cleared at each multiple of the window.
    ForgetsAtTheEdge,
    /// An admission leaves the window this much too early.
    ForgetsEarly(Duration),
    /// An admission leaves the window this much too late.
    ForgetsLate(Duration),
    RoundsTheRetryTimeDown,
    RetryTimeIsTooLong(Duration),
    CountsPerNode,
}

/// The obvious limiter: a list of admissions for each subject.
struct Limiter {
    fault: Fault,
    admissions: HashMap<String, Vec<Timestamp>>,
}

impl Limiter {
    fn new(fault: Fault) -> Self {
        Self { fault, admissions: HashMap::new() }
    }

    fn check(&mut self, subject: &str, now: Timestamp) -> Answer {
        let (window, limit) = match self.fault {
            Fault::ForgetsEarly(by) => (WINDOW.saturating_sub(by), LIMIT),
            Fault::ForgetsLate(by) => (WINDOW + by, LIMIT),
            Fault::AdmitsOneMore => (WINDOW, LIMIT + 1),
            Fault::DeniesOneEarly => (WINDOW, LIMIT - 1),
            _ => (WINDOW, LIMIT),
        };
        let edge = now.as_ns() / ns(WINDOW) * ns(WINDOW);
        let forgets = self.fault == Fault::ForgetsAtTheEdge;
        let list = self.admissions.entry(subject.to_owned()).or_default();
        list.retain(|one| one.after(window) > now && !(forgets && one.as_ns() < edge));
        let allowed = list.len() < usize::try_from(limit).unwrap();
        let wait = list.first().map_or(Duration::ZERO, |first| first.after(window).since(now));
        if allowed || self.fault == Fault::ChargesDenials {
            list.push(now);
        }
        let ms = match self.fault {
            Fault::RoundsTheRetryTimeDown => wait.as_nanos() / 1_000_000,
            _ => wait.as_nanos().div_ceil(1_000_000),
        };
        let retry_after = Duration::from_millis(ms.try_into().unwrap());
        let retry_after = match self.fault {
            Fault::RetryTimeIsTooLong(by) => retry_after + by,
            _ => retry_after,
        };
        let count = u64::try_from(list.len()).unwrap();
        Answer { allowed, retry_after: if allowed { Duration::ZERO } else { retry_after }, count }
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// Nodes over one limiter, or over one each.
struct Deployment<'a> {
    time: &'a VirtualTime,
    nodes: usize,
    limiters: Mutex<Vec<Limiter>>,
    latency: Latency,
}

/// Draws how long a check takes on its way, and the answer on its way back.
struct Latency {
    most: Duration,
    random: Mutex<ChaCha8Rng>,
}

impl Latency {
    fn new(most: Duration, seed: u64) -> Self {
        Self { most, random: Mutex::new(ChaCha8Rng::seed_from_u64(seed)) }
    }

    fn next(&self) -> Duration {
        let random = self.random.lock().unwrap().next_u64();
        // From a quarter of the most to the most.
        self.most / 4 + Duration::from_nanos(random % ns(self.most * 3 / 4))
    }
}

impl Target for Deployment<'_> {
    fn nodes(&self) -> usize {
        self.nodes
    }

    async fn check(&self, node: usize, subject: &str, _: Ask) -> Result<Answer, CheckError> {
        self.time.sleep_until(self.time.now().after(self.latency.next())).await;
        let answer = {
            let mut limiters = self.limiters.lock().unwrap();
            let node = node % limiters.len();
            limiters[node].check(subject, self.time.now())
        };
        self.time.sleep_until(self.time.now().after(self.latency.next())).await;
        Ok(answer)
    }
}

fn settings() -> Settings {
    Settings { rule: Rule { limit: LIMIT, window: WINDOW }, prefix: "run".to_owned() }
}

/// What the experiments find of three nodes with this fault.
fn findings(fault: Fault, most: Duration, seed: u64) -> Vec<Finding> {
    // Not at a multiple of a window, so that nothing is aligned by accident.
    let time = VirtualTime::at(Timestamp::from_ms(1_800_000_000_321 + 7 * seed));
    let limiters = if fault == Fault::CountsPerNode { 3 } else { 1 };
    let limiters = (0..limiters).map(|_| Limiter::new(fault)).collect();
    let latency = Latency::new(most, seed);
    let target = Deployment { time: &time, nodes: 3, limiters: Mutex::new(limiters), latency };
    time.block_on(run_experiments(&settings(), &target, &time)).unwrap().0
}

fn broken(findings: &[Finding]) -> Vec<Promise> {
    let broken = findings.iter().filter(|finding| finding.outcome == Outcome::Broken);
    broken.map(|finding| finding.promise).collect()
}

const FAST: Duration = Duration::from_micros(300);

#[test]
fn each_fault_is_found() {
    use Promise::{Denials, Limit, Nodes, Retry, Window};
    let ms = Duration::from_millis;
    for (fault, expected) in [
        (Fault::AdmitsOneMore, Limit),
        (Fault::DeniesOneEarly, Limit),
        (Fault::ChargesDenials, Denials),
        (Fault::ForgetsAtTheEdge, Window),
        (Fault::ForgetsEarly(ms(60)), Window),
        (Fault::ForgetsLate(ms(60)), Retry),
        (Fault::RoundsTheRetryTimeDown, Retry),
        (Fault::RetryTimeIsTooLong(ms(3)), Retry),
        (Fault::CountsPerNode, Nodes),
    ] {
        for seed in 0..5 {
            let findings = findings(fault, FAST, seed);
            assert!(broken(&findings).contains(&expected), "{fault:?}, seed {seed}: {findings:#?}");
        }
    }
}

/// Slow answers hide faults, but never make one up.
#[test]
fn nothing_is_found_of_an_exact_limiter() {
    for most in
        [FAST, Duration::from_millis(3), Duration::from_millis(40), Duration::from_millis(700)]
    {
        for seed in 0..5 {
            let findings = findings(Fault::None, most, seed);
            assert_eq!(broken(&findings), [], "{most:?}, seed {seed}: {findings:#?}");
            let is_fast = most <= Duration::from_millis(3);
            let untested = findings.iter().any(|finding| finding.outcome == Outcome::NotTested);
            assert_eq!(untested, !is_fast, "{most:?}, seed {seed}: {findings:#?}");
        }
    }
}

/// A limiter of the library, on a clock that follows the virtual time.
struct Library<'a> {
    time: &'a VirtualTime,
    clock: ManualClock,
    limiter: RateLimiter<ManualClock>,
    latency: Latency,
}

impl<'a> Library<'a> {
    fn new(time: &'a VirtualTime, counting: fn(tollgate::Window) -> Counting) -> Self {
        let clock = ManualClock::at(time.now());
        let limiter = RateLimiter::builder(LIMIT, WINDOW).counting(counting);
        let limiter = limiter.build_with_clock(clock.clone()).unwrap();
        Self { time, clock, limiter, latency: Latency::new(FAST, 1) }
    }
}

impl Target for Library<'_> {
    fn nodes(&self) -> usize {
        1
    }

    async fn check(&self, _: usize, subject: &str, _: Ask) -> Result<Answer, CheckError> {
        self.time.sleep_until(self.time.now().after(self.latency.next())).await;
        self.clock.set(self.time.now());
        let decision = self.limiter.check(subject, "m");
        self.time.sleep_until(self.time.now().after(self.latency.next())).await;
        let retry_after = decision.retry_after_ms().unwrap_or(0);
        Ok(Answer {
            allowed: decision.allowed(),
            retry_after: Duration::from_millis(retry_after),
            count: 0,
        })
    }
}

#[test]
fn the_library_is_exact_with_a_log_and_approximate_with_a_counter() {
    for (counting, is_exact) in [
        ((|window| Counting::Log { window }) as fn(tollgate::Window) -> Counting, true),
        (|window| Counting::Counter { window }, false),
    ] {
        let time = VirtualTime::at(Timestamp::from_ms(1_800_000_000_321));
        let target = Library::new(&time, counting);
        let (findings, _) = time.block_on(run_experiments(&settings(), &target, &time)).unwrap();
        assert_eq!(broken(&findings).is_empty(), is_exact, "{findings:#?}");
    }
}
