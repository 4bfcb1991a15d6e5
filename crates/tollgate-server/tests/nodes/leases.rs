//! P16 and P7 across processes: many clients reserve and settle through three nodes, and judge the limits by their own records.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_core::{SystemWallClock, Timestamp, WallClock};
use tollgate_testkit::redis::{RedisCluster, RedisServer};

use crate::support::{Client, Node, PATIENT, every_key_expires, until_ready};

const CLIENTS: u64 = 64;
/// The leases that each client asks for.
const ASKED: u64 = 120;
/// Sets another number.
const ASKED_VARIABLE: &str = "TOLLGATE_LEASES_ASKED";
const SLOTS: u64 = 8;
const TOKENS: u64 = 20_000;
const WINDOW: Duration = Duration::from_secs(2);
const RESERVED: u64 = 100;

const POLICIES: &str = "policies:
  - {id: slots, scope: USER, unit: concurrency, limit: 8}
  - {id: tokens, scope: USER, unit: output_tokens, limit: 20000, windowSeconds: 2}
  - {id: requests, scope: GLOBAL, limit: 1000000, windowSeconds: 2}";

/// An instant by both clocks of the machine: Redis counts by the wall clock, which can be set while a test runs.
#[derive(Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: Timestamp,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemWallClock.wall_time() }
    }

    /// Whether less than a window lies between this and `later`, whatever was done to the wall clock.
    fn is_within_window_of(self, later: Self) -> bool {
        let by_monotonic = later.monotonic.duration_since(self.monotonic);
        by_monotonic.max(later.wall.since(self.wall)) < WINDOW
    }
}

/// What a client knows of one of its leases.
#[derive(Clone, Copy)]
struct Lease {
    /// It was reserved between these.
    asked: Moment,
    granted: Moment,
    /// It was settled between these.
    settling: Moment,
    settled: Moment,
    used: u64,
}

async fn post(client: &mut Client, path: &str, body: &Value) -> (u16, Value) {
    let (status, text) = client.post(path, &body.to_string()).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
}

/// Asks for leases, holds each for a moment, and settles it.
async fn take_leases(mut client: Client, number: u64, asked: u64) -> Vec<Lease> {
    let mut leases = Vec::new();
    for turn in 0..asked {
        let asked = Moment::now();
        let body = json!({"userId": "alice", "modelId": "m", "ttlMs": 60_000, "cost": {"output_tokens": RESERVED}});
        let (status, answer) = post(&mut client, "/rate-limit/leases", &body).await;
        let granted = Moment::now();
        assert_eq!(answer["degraded"], false, "{answer}");
        if status == 429 {
            // As a client that waits for its turn, but not so long that the others are alone.
            let wait_ms = answer["retryAfterMs"].as_u64().unwrap_or(1).min(2 + number % 7);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            continue;
        }
        assert_eq!(status, 201, "{answer}");
        tokio::time::sleep(Duration::from_millis((number + turn) % 4)).await;
        // Less, as much, or more than was reserved.
        let used = (number * 31 + turn * 17) % 150;
        let settling = Moment::now();
        let path = format!("/rate-limit/leases/{}/settle", answer["lease"]["id"].as_str().unwrap());
        let body = json!({"seq": 1, "usage": {"output_tokens": used}});
        let (status, answer) = post(&mut client, &path, &body).await;
        assert_eq!(status, 200, "{answer}");
        leases.push(Lease { asked, granted, settling, settled: Moment::now(), used });
    }
    leases
}

/// At no instant more slots, and in no window more tokens, than the limits and what was used above reservations.
fn judge(leases: &[Lease]) {
    let most = leases.iter().map(|one| {
        // Certainly held when the last of them was granted.
        let at = one.granted.monotonic;
        let is_held =
            |other: &&Lease| other.granted.monotonic <= at && at < other.settling.monotonic;
        leases.iter().filter(is_held).count() as u64
    });
    assert!(most.clone().all(|held| held <= SLOTS), "{:?} of {SLOTS} slots", most.max());
    for last in leases {
        let at = last.granted;
        let inside = leases.iter().filter(|one| {
            one.granted.monotonic <= at.monotonic && one.asked.is_within_window_of(at)
        });
        let held = inside.clone().map(|one| {
            if at.monotonic < one.settling.monotonic { RESERVED } else { RESERVED.min(one.used) }
        });
        // What was used above a reservation was charged when it was settled, whether or not there was room: only what was charged
        // before the last of these leases was decided had to leave room for it.
        let decided = inside.map(|one| one.asked.monotonic).max().unwrap_or(at.monotonic);
        let debts = leases
            .iter()
            .filter(|one| one.settled.monotonic <= decided && one.settling.is_within_window_of(at));
        let debts = debts.map(|one| one.used.saturating_sub(RESERVED));
        let charged = held.sum::<u64>() + debts.sum::<u64>();
        assert!(charged <= TOKENS, "{charged} of {TOKENS} tokens when a lease was granted");
    }
}

async fn limits_hold(url: &str) {
    let nodes: Vec<_> =
        (0..3).map(|_| Node::start_with_policies(url, &PATIENT, POLICIES)).collect();
    for node in &nodes {
        until_ready(node).await;
    }
    let asked = std::env::var(ASKED_VARIABLE).map_or(ASKED, |asked| asked.parse().unwrap());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = nodes[usize::try_from(number).unwrap() % nodes.len()].client().await;
        clients.spawn(take_leases(client, number, asked));
    }
    let leases: Vec<Lease> = clients.join_all().await.concat();
    assert!(leases.len() > 64, "only {} were granted", leases.len());
    judge(&leases);
    let mut client = nodes[0].client().await;
    let peeked = client.post("/rate-limit/peek", r#"{"userId":"alice","modelId":"m"}"#).await.1;
    let peeked: Value = serde_json::from_str(&peeked).unwrap();
    let slots = peeked["limits"].as_array().unwrap().iter().find(|one| one["policyId"] == "slots");
    assert_eq!(slots.unwrap()["count"], 0, "every slot was given back: {peeked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_three_processes_over_one_redis_keep_their_limits() {
    let server = RedisServer::start();
    limits_hold(&server.url()).await;
    every_key_expires(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_three_processes_over_a_cluster_keep_their_limits() {
    let cluster = RedisCluster::start().patient();
    limits_hold(&cluster.url()).await;
}

/// What a key holds, shortened.
const DIGEST: &str = "return redis.sha1hex(redis.call('DUMP', KEYS[1]))";

/// What a lease of a damaged record used is charged nowhere, the record is left as it is, and the caller learns that sending the
/// update again does not help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_tollgate_did_not_write_answers_its_own_problem_and_changes_nothing() {
    let server = RedisServer::start();
    let node = Node::start_with_policies(&server.url(), &PATIENT, POLICIES);
    until_ready(&node).await;
    let mut client = node.client().await;
    let body = json!({"userId": "alice", "modelId": "m", "cost": {"output_tokens": RESERVED}, "ttlMs": 60_000});
    let (status, reserved) = post(&mut client, "/rate-limit/leases", &body).await;
    assert_eq!((status, &reserved["degraded"]), (201, &json!(false)), "{reserved}");
    let path = format!("/rate-limit/leases/{}", reserved["lease"]["id"].as_str().unwrap());
    let [key] = &*server.command(&["KEYS", "tg:l*"]) else { panic!("not one lease") };
    let contents = |server: &RedisServer| {
        let mut keys = server.command(&["KEYS", "tg:*"]);
        keys.sort();
        keys.into_iter().map(|key| server.command(&["EVAL", DIGEST, "1", &key])).collect::<Vec<_>>()
    };
    for garbage in ["", "somebody else's", &"\u{1}".repeat(300)] {
        server.command(&["SET", key, garbage, "PX", "60000"]);
        let before = contents(&server);
        let settle = json!({"seq": 1, "usage": {"output_tokens": 5}});
        let extend = json!({"seq": 1, "observed": {"output_tokens": 500}});
        for (call, body) in [("settle", &settle), ("extend", &extend)] {
            let (status, answer) = post(&mut client, &format!("{path}/{call}"), body).await;
            let problem = json!("urn:tollgate:problem:unreadable-lease");
            assert_eq!((status, &answer["type"]), (500, &problem), "{call}: {answer}");
        }
        let batch =
            json!({"settlements": [{"leaseId": reserved["lease"]["id"], "seq": 1, "usage": {}}]});
        let (status, answer) = post(&mut client, "/rate-limit/settle/batch", &batch).await;
        assert_eq!((status, &answer["settlements"][0]["status"]), (200, &json!(500)), "{answer}");
        assert_eq!(contents(&server), before, "{garbage:?}");
    }
    assert_eq!(node.counted("tollgate_lease_journal_length").await, 0, "it would never be made");
    assert_eq!(node.counted("tollgate_lease_settlements_dropped_total").await, 6);
    assert_eq!(node.counted(r#"tollgate_store_breaker{state="closed"}"#).await, 1);
    assert!(node.end().contains(key.as_str()), "the log names the key");
}
