//! Sequences that once lost usage, broke the order of checks, or overwrote another program's data.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tollgate_core::{
    Amount, Charge, Counting, Limit, ManualClock, OverLimit, Policy, Subject, Timestamp, Window,
};
use tollgate_redis::RedisStore;
use tollgate_store::{Ordered, Store, StoreErrorKind};
use tollgate_testkit::Way;
use tollgate_testkit::redis::RedisServer;

use crate::conformance::{CLUSTER_STORE, SERVER_STORE, apart};
use crate::support::{RUNTIME, limit_of, store_at};

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// A store in virtual time, and everything that it admitted.
struct Case {
    store: RedisStore,
    clock: Arc<ManualClock>,
    window: Duration,
    admitted: Vec<(Timestamp, u64)>,
    now: Timestamp,
}

impl Case {
    fn new(store: &RedisStore, window: Duration) -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set(START);
        let store = apart(store).with_test_clock(clock.clone());
        Self { store, clock, window, admitted: Vec::new(), now: START }
    }

    fn at_ms(&mut self, after_ms: u64) {
        self.now = START.after(Duration::from_millis(after_ms));
        self.clock.set(self.now);
    }

    /// What was admitted in the window that ends now.
    fn used(&self) -> u64 {
        let leaves = |at: &Timestamp| at.after(self.window) > self.now;
        self.admitted.iter().filter(|(at, _)| leaves(at)).map(|(_, cost)| cost).sum()
    }

    /// Sends `number` checks, and compares the count after each.
    fn ask(&mut self, limit: &Arc<Limit>, number: usize, cost: u64) -> usize {
        let subject = Subject::new("alice", "m");
        let charge = Charge { limit, subject: &subject, cost: Amount::new(cost).unwrap() };
        let mut allowed = 0;
        for turn in 0..number {
            let charged = RUNTIME.block_on(self.store.charge(&[charge], None)).unwrap();
            let verdict = charged.verdicts[0];
            let fits = self.used() + cost <= limit.amount().get();
            assert_eq!(verdict.allowed, fits, "check {turn} of cost {cost}, {} used", self.used());
            if verdict.allowed {
                self.admitted.push((self.now, cost));
                allowed += 1;
            }
            assert_eq!(verdict.usage, self.used(), "after check {turn} of cost {cost}");
        }
        allowed
    }
}

fn log_of(amount: u64, window: Duration) -> Arc<Limit> {
    limit_of("p", "USER", amount, window, Way::Log)
}

/// C1 and C2: a log that shrinks, is used by two priority classes, and then gets other costs, or cost 1 from then on.
#[test]
fn a_log_that_changes_its_costs_keeps_its_usage() {
    let window = Duration::from_secs(8);
    let whole = log_of(1_000, window);
    let batch = Arc::new(whole.with_amount(Amount::new(200).unwrap()));
    for later in [2, 1] {
        let mut case = Case::new(&SERVER_STORE, window);
        assert_eq!(case.ask(&whole, 120, 1), 120);
        case.at_ms(3_000);
        assert_eq!(case.ask(&whole, 180, 1), 180);
        case.at_ms(8_000);
        case.ask(&whole, 1, 1);
        case.ask(&batch, 1, 1);
        case.ask(&whole, 600, later);
        case.at_ms(11_000);
        case.ask(&whole, 1_100, later);
    }
}

/// C3: a limit is lowered and raised again while entries leave.
#[test]
fn a_limit_that_is_lowered_and_raised_keeps_its_usage() {
    let window = Duration::from_secs(8);
    let (high, low) = (log_of(1_000, window), log_of(200, window));
    let mut case = Case::new(&SERVER_STORE, window);
    for step in 0..12_u64 {
        case.at_ms(step * 1_500);
        case.ask(if step % 3 == 1 { &low } else { &high }, 150, 1);
        case.ask(&high, 3, 2);
    }
    case.at_ms(19_000);
    case.ask(&high, 1_100, 1);
}

/// C9: a check over several slots is denied by one limit after the log of another had its expiry renewed, and is
/// refunded.
#[test]
fn a_charge_that_is_taken_back_leaves_the_older_admissions() {
    let window = Duration::from_secs(4);
    let mut case = Case::new(&CLUSTER_STORE, window);
    let limit = log_of(100, window);
    let full = limit_of("full", "MODEL", 1, window, Way::Log);
    case.ask(&limit, 40, 1);
    let subject = Subject::new("alice", "m");
    let [first, second] =
        [&limit, &full].map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    RUNTIME.block_on(case.store.charge(&[second], None)).unwrap();
    // Later than a quarter of the window, so that the expiry of the key is renewed.
    case.at_ms(1_500);
    for _ in 0..5 {
        let charged = RUNTIME.block_on(case.store.charge(&[first, second], None)).unwrap();
        assert!(!charged.verdicts[1].allowed);
    }
    case.ask(&limit, 1, 1);
    case.at_ms(4_000);
    case.ask(&limit, 200, 1);
    case.at_ms(5_500);
    case.ask(&limit, 5, 1);
}

/// C11: after a step back of the clock a full limit denies for at most one window, and its wait is right.
#[test]
fn a_step_back_of_the_clock_denies_for_a_window_at_most() {
    let window = Duration::from_secs(4);
    for way in Way::ALL {
        let limit = limit_of("p", "USER", 5, window, way);
        let subject = Subject::new("alice", "m");
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::ONE };
        let mut case = Case::new(&SERVER_STORE, window);
        case.at_ms(10_000);
        for _ in 0..5 {
            let charged = RUNTIME.block_on(case.store.charge(&[charge], None)).unwrap();
            assert!(charged.verdicts[0].allowed);
        }
        case.at_ms(7_000);
        // Only peeks and denials follow: they record the step too.
        let denied = RUNTIME.block_on(case.store.charge(&[charge], None)).unwrap().verdicts[0];
        let tollgate_core::counting::Wait::Ns(wait_ns) = denied.wait else {
            panic!("{way:?}: {denied:?}")
        };
        let longest =
            denied.period_s.map_or(window, |period_s| Duration::from_secs(period_s.get().into()));
        assert!(Duration::from_nanos(wait_ns) <= longest, "{way:?}: {denied:?}");
        for (after_ms, allowed) in
            [(wait_ns / 1_000_000 - 1, false), (wait_ns.div_ceil(1_000_000), true)]
        {
            case.at_ms(7_000 + after_ms);
            let peeked = RUNTIME.block_on(case.store.peek(&[charge])).unwrap();
            assert_eq!(peeked.verdicts[0].allowed, allowed, "{way:?} after {after_ms} ms");
        }
    }
}

/// Checks of one batch that share a limit are decided in their order, also by a server that has lost the script or the
/// connection.
#[test]
fn ordered_charges_keep_their_order_when_a_script_or_a_connection_is_new() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    for round in 0..10 {
        let limit = limit_of(&format!("p{round}"), "USER", 20, Duration::from_mins(1), Way::Log);
        let subject = Subject::new("alice", "m");
        let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
        server.command(&["SCRIPT", "FLUSH"]);
        let calls = (0..40).map(|_| store.charge(&charge, None));
        let answers = RUNTIME.block_on(Ordered::new(join_all(calls)));
        let allowed: Vec<_> =
            answers.into_iter().map(|answer| answer.unwrap().verdicts[0].allowed).collect();
        let expected: Vec<_> = (0..40).map(|place| place < 20).collect();
        assert_eq!(allowed, expected, "round {round}");
    }
}

/// If another program's value is in the place of the older part of a log, the check fails before anything is charged,
/// and the value is neither overwritten nor deleted.
#[test]
fn a_key_of_somebody_else_beside_a_log_stays_and_charges_nothing() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let window = Duration::from_hours(1);
    let long = log_of(10_000, window);
    let other = limit_of("q", "USER", 10_000, window, Way::Log);
    let subject = Subject::new("alice", "m");
    let [first, second] =
        [&other, &long].map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
    let beside = format!("{}b", store.key(&long, &subject));
    for write in [vec!["SET", &beside, "x"], vec!["HSET", &beside, "f", "x"]] {
        server.command(&["FLUSHALL"]);
        server.command(&write);
        let before = server.command(&["DUMP", &beside]);
        let mut charged = 0;
        let error = loop {
            match RUNTIME.block_on(store.charge(&[first, second], None)) {
                Ok(_) => charged += 1,
                Err(error) => break error,
            }
            assert!(charged < 1_000, "the log becomes long");
        };
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{write:?}");
        let peeked = RUNTIME.block_on(store.peek(&[first])).unwrap();
        assert_eq!(peeked.verdicts[0].usage, charged, "the other limit was not charged");
        assert!(RUNTIME.block_on(store.reset(&long, &subject)).is_err());
        assert_eq!(server.command(&["DUMP", &beside]), before, "{write:?}");
    }
}

/// If the older part of a log was evicted or deleted, checks of that log fail; they never get a wrong count.
#[test]
fn a_log_without_its_older_part_is_an_error_of_its_own_checks() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let window = Duration::from_hours(1);
    let limit = log_of(400, window);
    let subject = Subject::new("alice", "m");
    let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    for _ in 0..400 {
        RUNTIME.block_on(store.charge(&charge, None)).unwrap();
    }
    server.command(&["DEL", &format!("{}b", store.key(&limit, &subject))]);
    let error = RUNTIME.block_on(store.charge(&charge, None)).unwrap_err();
    assert!(error.kind().concerns_one_check(), "{error:?}");
    let bob = Subject::new("bob", "m");
    let charge = [Charge { limit: &limit, subject: &bob, cost: Amount::ONE }];
    assert_eq!(RUNTIME.block_on(store.charge(&charge, None)).unwrap().verdicts[0].usage, 1);
}

/// A connection that Redis closed while nothing was being sent is not used for a check.
#[test]
fn a_connection_that_was_closed_while_idle_costs_no_check() {
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let limit = log_of(1_000, Duration::from_hours(1));
    let subject = Subject::new("alice", "m");
    let charge = [Charge { limit: &limit, subject: &subject, cost: Amount::ONE }];
    for round in 1..=5 {
        let charged = RUNTIME.block_on(store.charge(&charge, None)).unwrap();
        assert_eq!(charged.verdicts[0].usage, round);
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        // This does not depend on time: the end of the stream was queued before the answer to this command on another
        // connection of the same server.
        RUNTIME.block_on(until_closed(&store));
    }
}

/// Waits until the store has no connection.
async fn until_closed(store: &RedisStore) {
    while store.is_connected() {
        tokio::task::yield_now().await;
    }
}

/// If a right is revoked while the store runs, no limit stays charged by a check that was not decided, and no admission
/// leaves early.
#[test]
fn a_right_that_is_taken_away_leaves_nothing_half_done() {
    let server = RedisServer::start();
    let window = Duration::from_secs(10);
    let [user, model] = [("a", "USER"), ("b", "USER_MODEL")]
        .map(|(id, scope)| limit_of(id, scope, 100, window, Way::Log));
    for right in ["set", "setrange", "pexpire"] {
        let case = Case::new(&store_at(&server.url()), window);
        let first = Subject::new("alice", "m");
        for _ in 0..3 {
            let charges =
                [&user, &model].map(|limit| Charge { limit, subject: &first, cost: Amount::ONE });
            RUNTIME.block_on(case.store.charge(&charges, None)).unwrap();
        }
        // Later than a quarter of the window, so that expiries are renewed; and a limit that has no log yet.
        case.clock.set(START.after(Duration::from_secs(4)));
        server.command(&["ACL", "SETUSER", "default", &format!("-{right}")]);
        // If both logs exist already, an admission needs no SET.
        let names: &[&str] = if right == "set" { &["n1", "n2"] } else { &["n1", "n2", "m"] };
        for name in names {
            let subject = Subject::new("alice", name);
            let charges =
                [&user, &model].map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
            assert!(
                RUNTIME.block_on(case.store.charge(&charges, None)).is_err(),
                "-{right} {name}"
            );
        }
        server.command(&["ACL", "SETUSER", "default", &format!("+{right}")]);
        let charges =
            [&user, &model].map(|limit| Charge { limit, subject: &first, cost: Amount::ONE });
        let peeked = RUNTIME.block_on(case.store.peek(&charges)).unwrap();
        let counts: Vec<_> = peeked.verdicts.iter().map(|verdict| verdict.usage).collect();
        assert_eq!(counts, [3, 3], "-{right}");
    }
}

/// R19: the key of a token bucket that is below empty lives until the debt is paid, however large that is.
#[test]
fn a_bucket_in_debt_is_kept_until_the_debt_is_paid() {
    const MINUTE_MS: u64 = 60_000;
    let server = RedisServer::start();
    let store = store_at(&server.url());
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let policy = Policy {
        over_limit: OverLimit::Charge,
        counting: Counting::Bucket { window, refill: Amount::new(1_000).unwrap() },
        ..Policy::default_policy()
    };
    let limit = Arc::new(Limit::of(&policy).unwrap());
    // The most is what 700 days refill.
    for (user, cost) in [("alice", 1_000_000), ("bob", limit.most_recorded().get())] {
        let subject = Subject::new(user, "m");
        let charge = Charge { limit: &limit, subject: &subject, cost: Amount::new(cost).unwrap() };
        let denied = RUNTIME.block_on(store.charge(&[charge], None)).unwrap().verdicts[0];
        assert_eq!((denied.allowed, denied.usage), (false, cost));
        let life = server.command(&["PTTL", &store.key(&limit, &subject)]);
        let life_ms: u64 = life[0].parse().unwrap();
        // Some of it is over already.
        assert!(life_ms > (cost / 1_000 - 60) * MINUTE_MS, "{life_ms} for {cost}");
    }
}
