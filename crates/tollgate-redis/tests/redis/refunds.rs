//! What Redis keeps of leases that give back what they hold when they expire (R15). The conformance suite has what they give back.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{
    Amount, Charge, Counting, LeaseUpdate, Limit, ManualClock, OnExpire, Per, Policy, PolicyId,
    Quality, Subject, Timestamp, Totals, Ttl, Unit, Window,
};
use tollgate_redis::RedisStore;
use tollgate_store::{LeaseId, LeaseRequest, Store, StoreErrorKind};
use tollgate_testkit::redis::RedisServer;

use crate::support::{RUNTIME, store_at};

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);
const TTL_MS: u64 = 5_000;

fn limit(id: &str, on_expire: OnExpire, counting: fn(Window) -> Counting) -> Arc<Limit> {
    let window = Window::new(Duration::from_secs(100)).unwrap();
    let per = Per::from_scope("USER").unwrap();
    let policy = Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(100), window);
    Arc::new(Limit::of(&Policy { on_expire, counting: counting(window), ..policy }).unwrap())
}

fn log(window: Window) -> Counting {
    Counting::Log { window }
}

/// 1 token a second.
fn bucket(window: Window) -> Counting {
    Counting::Bucket { window, refill: Amount::new(100).unwrap() }
}

struct Run {
    server: RedisServer,
    store: RedisStore,
    clock: Arc<ManualClock>,
}

impl Run {
    fn new() -> Self {
        let (server, clock) = (RedisServer::start(), Arc::new(ManualClock::default()));
        let store = store_at(&server.url()).with_test_clock(clock.clone()).with_hint(clock.clone());
        let run = Self { server, store, clock };
        run.at(0);
        run
    }

    fn at(&self, ms: u64) {
        self.clock.set(START.after(Duration::from_millis(ms)));
    }

    fn reserve(&self, limit: &Arc<Limit>, cost: u64) -> LeaseId {
        let charge = [charge(limit, cost)];
        let request = LeaseRequest::new(&charge, Ttl::from_ms(TTL_MS).unwrap());
        RUNTIME.block_on(self.store.reserve(&request)).unwrap().lease.unwrap().id
    }

    fn check(&self, limit: &Arc<Limit>, cost: u64) -> bool {
        let charge = [charge(limit, cost)];
        RUNTIME.block_on(self.store.charge(&charge, None)).unwrap().verdicts[0].allowed
    }

    fn usage(&self, limit: &Arc<Limit>) -> u64 {
        RUNTIME.block_on(self.store.peek(&[charge(limit, 1)])).unwrap().verdicts[0].usage
    }

    /// The key of what leases give back in `limit`.
    fn due_key(&self, limit: &Limit) -> String {
        format!("{}x", self.store.key(limit, &ALICE))
    }

    fn command(&self, arguments: &[&str]) -> String {
        self.server.command(arguments).concat()
    }
}

static ALICE: Subject<'static> = Subject::new("alice", "m");

fn charge(limit: &Arc<Limit>, cost: u64) -> Charge<'_> {
    Charge { limit, subject: &ALICE, cost: Amount::new(cost).unwrap() }
}

fn settle(seq: u64, total: u64) -> LeaseUpdate {
    let usage = Totals::none().with(Unit::Requests, Amount::new(total).unwrap());
    LeaseUpdate::Settle { seq: Amount::new(seq).unwrap(), usage, quality: Quality::Exact }
}

/// Limits that keep have no set. A set has an expiry, and no member for a lease that has ended or expired.
#[test]
fn only_open_leases_of_such_limits_are_in_a_set() {
    let run = Run::new();
    let (refunds, keeps) =
        (limit("refunds", OnExpire::Refund, log), limit("keeps", OnExpire::Keep, log));
    run.reserve(&keeps, 5);
    assert_eq!(run.command(&["EXISTS", &run.due_key(&keeps)]), "0");
    let key = run.due_key(&refunds);
    let [first, _] = [3, 4].map(|cost| run.reserve(&refunds, cost));
    assert_eq!(run.command(&["ZCARD", &key]), "2");
    let life_ms: u64 = run.command(&["PTTL", &key]).parse().unwrap();
    // The time to live, the window, and the slack of a test.
    assert!((TTL_MS + 100_000..TTL_MS + 100_000 + 700_000).contains(&life_ms), "{life_ms}");
    let bytes: u64 = run.command(&["MEMORY", "USAGE", &key]).parse().unwrap();
    println!("a set with 2 holds takes {bytes} bytes");
    RUNTIME.block_on(run.store.update_lease(&first, &settle(1, 2))).unwrap().unwrap();
    assert_eq!(run.command(&["ZCARD", &key]), "1");
    run.at(TTL_MS);
    assert_eq!(run.usage(&refunds), 2, "a peek is enough");
    assert_eq!(run.command(&["EXISTS", &key]), "0");
    RUNTIME.block_on(run.store.reset(&refunds, &ALICE)).unwrap();
    run.reserve(&refunds, 3);
    RUNTIME.block_on(run.store.reset(&refunds, &ALICE)).unwrap();
    assert_eq!(run.command(&["EXISTS", &key]), "0", "what was reset is not given back");
}

/// Something else has written to a set or to the usage: checks of that limit fail, and those that are sent with them do not.
#[test]
fn a_damaged_set_fails_only_its_checks() {
    let run = Run::new();
    let [one, other] = ["one", "other"].map(|id| limit(id, OnExpire::Refund, log));
    for damage in ["text", "short", "usage"] {
        run.reserve(&one, 5);
        run.reserve(&other, 5);
        run.at(2 * TTL_MS);
        let (key, used) = (run.due_key(&one), run.store.key(&one, &ALICE));
        match damage {
            "text" => run.command(&["SET", &key, "x"]),
            "short" => run.command(&["ZADD", &key, "1", "x"]),
            _ => run.command(&["SET", &used, "x"]),
        };
        let before = run.command(&["DUMP", &key]);
        let of = |limit| [charge(limit, 1)];
        let (of_one, of_other) = (of(&one), of(&other));
        let error = RUNTIME.block_on(run.store.charge(&of_one, None)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{damage}: {error:?}");
        // In one call the others are not decided either, and are sent again alone.
        let checks = [&of_other[..], &of_one[..]];
        let together = RUNTIME.block_on(run.store.charge_many_with_ids(&checks));
        assert!(together.is_err(), "{damage}");
        assert!(run.check(&other, 1), "{damage}");
        assert_eq!(run.usage(&other), 1, "{damage}");
        assert_eq!(run.command(&["DUMP", &key]), before, "{damage}: it stays as it is");
        run.command(&["FLUSHALL"]);
        run.at(0);
    }
}

/// A check under `keep` has written the bucket after the lease expired. What was produced since is not produced once more.
#[test]
fn a_bucket_that_was_written_since_gets_back_no_more_than_it_misses() {
    let run = Run::new();
    let (refunds, keeps) =
        (limit("p", OnExpire::Refund, bucket), limit("p", OnExpire::Keep, bucket));
    run.reserve(&refunds, 50);
    run.at(20_000);
    assert!(run.check(&keeps, 10));
    assert_eq!(run.usage(&keeps), 40);
    run.at(25_000);
    // Of 50, 20 were produced until the check, and 5 since.
    assert_eq!(run.usage(&refunds), 10 - 5);
    run.at(40_000);
    assert_eq!(run.usage(&refunds), 0);
    assert_eq!(run.usage(&keeps), 0);
}

/// A call of many checks gives back what is due before it decides the first.
#[test]
fn checks_of_one_call_find_what_is_due() {
    let run = Run::new();
    let refunds = limit("refunds", OnExpire::Refund, log);
    run.reserve(&refunds, 99);
    run.at(TTL_MS);
    let one = [charge(&refunds, 50)];
    let checks = [&one[..], &one[..], &one[..]];
    let decided = RUNTIME.block_on(run.store.charge_many_with_ids(&checks)).unwrap();
    let allowed: Vec<bool> = decided.iter().map(|one| one[0].0.allowed).collect();
    assert_eq!(allowed, [true, true, false]);
}
