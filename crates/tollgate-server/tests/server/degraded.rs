//! A store that fails (R11): answers are degraded, in time, flagged and counted; afterwards the store decides again. The crate of the
//! Redis store tests the behaviour of a real Redis.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::{Charge, FailureMode, LeaseUpdate, Limit, Subject};
use tollgate_store::resilience::ResilienceOptions;
use tollgate_store::{
    Capabilities, Charged, LeaseId, LeaseRequest, LeaseState, MemoryStore, Reserved, Store,
    StoreError,
};

use crate::support::{Client, Fixture};

const ALICE: &str = r#"{"userId":"alice","modelId":"gpt-4"}"#;

/// Bans work without a store; each of the other policies has its own mode.
const POLICIES: &str = "
policies:
  - {id: server, scope: USER, limit: 4, windowSeconds: 60}
  - {id: closed, scope: TENANT, limit: 4, windowSeconds: 60, onStoreError: deny}
  - {id: ban, scope: API_KEY, limit: 0}
";

/// An in-memory store that hangs when the test says so. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Hangable(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: MemoryStore,
    hangs: AtomicBool,
    calls: AtomicU64,
}

// SeqCst throughout: the server must see what the test does.
impl Hangable {
    pub(crate) fn set_hanging(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
    }

    fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    async fn called(&self) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        if self.0.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }
}

impl Store for Hangable {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        self.called().await;
        Store::charge(&self.0.memory, charges, request_id).await
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        self.called().await;
        Store::peek(&self.0.memory, charges).await
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        self.called().await;
        Store::reset(&self.0.memory, limit, subject).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        self.called().await;
        Store::reserve(&self.0.memory, request).await
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        self.called().await;
        Store::update_lease(&self.0.memory, id, update).await
    }
}

/// A server, one of two nodes, whose store hangs.
async fn hanging(mode: FailureMode) -> (Hangable, Fixture, Client) {
    let store = Hangable::default();
    let fixture = Fixture::start_with_store(POLICIES, store.clone(), |config| {
        config.resilience.on_store_error = mode;
        config.resilience.nodes = 2.try_into().unwrap();
    })
    .await;
    store.set_hanging(true);
    let client = fixture.client().await;
    (store, fixture, client)
}

async fn counted(fixture: &Fixture, series: &str) -> u64 {
    let metrics = fixture.get("/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
}

fn some(body: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| body[field].clone()).collect()
}

/// P3: every check is answered although the store never answers, and never with a 5xx; after a few checks the store is
/// no longer asked. Other tests measure the duration on nodes under load.
#[tokio::test]
async fn a_store_that_hangs_costs_no_check_more_than_the_deadline() {
    let (store, fixture, mut client) = hanging(FailureMode::Allow).await;
    for _ in 0..50 {
        let answer = client.post("/rate-limit/enforce", ALICE).await;
        assert_eq!((answer.status, &answer.json()["degraded"]), (200, &json!(true)));
    }
    // Five failures in a row open the breaker; then there are occasional probes, more of them on a slow machine.
    assert!(store.calls() >= 5, "{} calls", store.calls());
    assert_eq!(counted(&fixture, r#"tollgate_store_breaker{state="closed"}"#).await, 0);
    assert_eq!(counted(&fixture, r#"tollgate_degraded_decisions_total{mode="allow"}"#).await, 50);
    assert_eq!(counted(&fixture, "tollgate_store_errors_total").await, 50);
}

#[tokio::test]
async fn each_limit_does_without_its_store_what_it_is_told() {
    const FIELDS: [&str; 4] = ["allowed", "reason", "retryAfterMs", "degraded"];
    let tenant = r#"{"userId":"alice","modelId":"m","tenantId":"t"}"#;
    let banned = r#"{"userId":"alice","modelId":"m","apiKey":"k"}"#;
    let cases = [
        (FailureMode::Allow, ALICE, json!([true, null, 0, true])),
        (FailureMode::Deny, ALICE, json!([false, "store_unavailable", 1_000, true])),
        (FailureMode::Allow, tenant, json!([false, "store_unavailable", 1_000, true])),
        (FailureMode::Allow, banned, json!([false, "banned", null, true])),
    ];
    for (mode, body, expected) in cases {
        let (_store, _fixture, mut client) = hanging(mode).await;
        let answer = client.post("/rate-limit/enforce", body).await;
        assert_eq!(some(&answer.json(), &FIELDS), expected, "{mode:?} {body}");
        let status = if answer.json()["allowed"] == true { 200 } else { 429 };
        assert_eq!(answer.status, status, "{mode:?} {body}");
        let peeked = client.post("/rate-limit/peek", body).await;
        assert_eq!(some(&peeked.json(), &FIELDS), expected, "a peek: {mode:?} {body}");
    }
}

/// P5: this node's half of the limit, and no more.
#[tokio::test]
async fn a_local_decision_goes_by_this_nodes_share() {
    let (_store, fixture, mut client) = hanging(FailureMode::Local).await;
    for (allowed, remaining) in [(true, 1), (true, 0), (false, 0)] {
        let body = client.post("/rate-limit/check", ALICE).await.json();
        assert_eq!(some(&body, &["allowed", "remaining"]), json!([allowed, remaining]));
    }
    assert_eq!(counted(&fixture, r#"tollgate_degraded_decisions_total{mode="local"}"#).await, 3);
}

/// P14: limits are enforced again soon after the store's return, with no other checks than usual, and `/readyz` says
/// so. The bound of 2 seconds follows from the options.
#[tokio::test]
async fn a_store_that_is_back_decides_again() {
    let options = ResilienceOptions::default();
    let longest = options.breaker.max_backoff + 2 * options.timeout.unwrap_or_default();
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let (store, fixture, mut client) = hanging(FailureMode::Allow).await;
    while counted(&fixture, r#"tollgate_store_breaker{state="closed"}"#).await == 1 {
        client.post("/rate-limit/check", ALICE).await;
    }
    let ready = fixture.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")));
    assert_eq!(ready.json()["parts"]["store"]["status"], "degraded");
    assert_eq!(ready.json()["parts"]["store"]["cause"], "unavailable");
    store.set_hanging(false);
    while client.post("/rate-limit/check", ALICE).await.json()["degraded"] == true {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fixture.get("/readyz").await.json()["status"], "ready");
    // What was admitted without the store is not charged to it.
    let body = client.post("/rate-limit/check", ALICE).await.json();
    assert_eq!(some(&body, &["count", "degraded"]), json!([2, false]));
}

/// A client that hammers an exhausted limit is denied without the store, also while the store hangs.
#[tokio::test]
async fn known_denials_are_answered_without_the_store() {
    let store = Hangable::default();
    let fixture = Fixture::start_with_store(POLICIES, store.clone(), |_| {}).await;
    let mut client = fixture.client().await;
    for count in 1..=5 {
        let body = client.post("/rate-limit/check", ALICE).await.json();
        assert_eq!(body["allowed"], count < 5);
    }
    store.set_hanging(true);
    for _ in 0..100 {
        let body = client.post("/rate-limit/check", ALICE).await.json();
        assert_eq!(
            some(&body, &["allowed", "reason", "count", "degraded"]),
            json!([false, "limit_exceeded", 4, false])
        );
        assert!((1..=60_000).contains(&body["retryAfterMs"].as_u64().unwrap()), "{body}");
    }
    assert_eq!(store.calls(), 5);
    assert_eq!(counted(&fixture, "tollgate_local_denials_total").await, 100);
}

/// Policies of tokens, for leases.
const TOKENS: &str =
    "policies: [{id: tokens, scope: USER, unit: tokens, limit: 100, windowSeconds: 600}]";

/// Reserves so many tokens for alice.
async fn reserve(client: &mut Client, tokens: u64) -> Value {
    let body = json!({"userId": "alice", "cost": {"tokens": tokens}}).to_string();
    let answer = client.post("/rate-limit/leases", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

/// Settles the lease of `reserved` at so many tokens.
async fn settle(client: &mut Client, reserved: &Value, tokens: u64) -> crate::support::HttpAnswer {
    let id = reserved["lease"]["id"].as_str().unwrap();
    let body = json!({"seq": 1, "usage": {"tokens": tokens}}).to_string();
    client.post(&format!("/rate-limit/leases/{id}/settle"), &body).await
}

/// How many tokens alice has used, to judge by the store.
async fn used(fixture: &Fixture) -> u64 {
    loop {
        let peeked = fixture.post("/rate-limit/peek", ALICE).await.json();
        if peeked["degraded"] == false {
            return peeked["count"].as_u64().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// R11, R13: without the store, the failure mode decides, and the lease is of this server only.
#[tokio::test]
async fn a_lease_that_is_reserved_without_the_store_is_settled_without_it() {
    let store = Hangable::default();
    let fixture = Fixture::start_with_store(TOKENS, store.clone(), |config| {
        config.resilience.on_store_error = FailureMode::Local;
        config.resilience.nodes = 2.try_into().unwrap();
    })
    .await;
    let mut client = fixture.client().await;
    store.set_hanging(true);
    let reserved = reserve(&mut client, 40).await;
    assert_eq!(some(&reserved, &["degraded", "remaining"]), json!([true, 10]));
    let settled = settle(&mut client, &reserved, 5).await;
    assert_eq!((settled.status, &settled.json()["limits"][0]["charged"]), (200, &json!(5)));
    assert_eq!(some(&reserve(&mut client, 45).await, &["degraded"]), json!([true]));
    store.set_hanging(false);
    assert_eq!(used(&fixture).await, 0, "what was admitted without the store is not charged to it");
}

/// P17: a settlement without an answer may be sent again; meanwhile this server keeps it and makes it later.
#[tokio::test]
async fn a_settlement_that_the_store_does_not_answer_is_made_when_it_is_back() {
    let store = Hangable::default();
    let fixture = Fixture::start_with_store(TOKENS, store.clone(), |_| {}).await;
    let mut client = fixture.client().await;
    let reserved = [reserve(&mut client, 40).await, reserve(&mut client, 40).await];
    store.set_hanging(true);
    for reserved in &reserved {
        let unanswered = settle(&mut client, reserved, 7).await;
        let problem = unanswered.json();
        assert_eq!(unanswered.status, 503);
        assert_eq!(problem["type"], "urn:tollgate:problem:update-unanswered");
        assert!(problem["detail"].as_str().unwrap().contains("keeps the settlement in memory"));
    }
    let id = reserved[0]["lease"]["id"].as_str().unwrap();
    let batch = json!({"settlements": [{"leaseId": id, "seq": 1, "usage": {"tokens": 7}}]});
    let batch = client.post("/rate-limit/settle/batch", &batch.to_string()).await.json();
    assert_eq!(batch["settlements"][0]["status"], 503);
    let extend = format!("/rate-limit/leases/{id}/extend");
    let unanswered = client.post(&extend, r#"{"seq":1}"#).await;
    assert_eq!((unanswered.status, unanswered.header("retry-after")), (503, Some("1")));
    assert_eq!(counted(&fixture, "tollgate_lease_journal_length").await, 2);
    assert_eq!(counted(&fixture, "tollgate_lease_settlements_kept_total").await, 3);
    store.set_hanging(false);
    while counted(&fixture, "tollgate_lease_settlements_replayed_total").await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(used(&fixture).await, 14);
    assert_eq!(counted(&fixture, "tollgate_lease_journal_length").await, 0);
    assert_eq!(counted(&fixture, "tollgate_lease_settlements_dropped_total").await, 0);
    let repeated = settle(&mut client, &reserved[0], 7).await;
    assert_eq!((repeated.status, &repeated.json()["repeated"]), (200, &json!(true)));
}

/// With `--journal`, a settlement is accepted when it is on the disk, and survives the server.
#[tokio::test]
async fn a_settlement_in_the_journal_survives_the_server() {
    let dir = tempfile::TempDir::new().unwrap();
    let store = Hangable::default();
    let start = async || {
        Fixture::start_with_store(TOKENS, store.clone(), |config| {
            config.journal = Some(dir.path().join("journal"));
        })
        .await
    };
    let fixture = start().await;
    let mut client = fixture.client().await;
    let reserved = reserve(&mut client, 40).await;
    store.set_hanging(true);
    let accepted = settle(&mut client, &reserved, 7).await;
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.json(), json!({"id": reserved["lease"]["id"], "seq": 1, "accepted": true}));
    let batch = json!({"settlements": [
        {"leaseId": reserved["lease"]["id"], "seq": 1, "usage": {"tokens": 7}}
    ]});
    let batch = client.post("/rate-limit/settle/batch", &batch.to_string()).await.json();
    assert_eq!(
        some(&batch["settlements"][0], &["status", "lease", "problem"]),
        json!([202, null, null])
    );
    drop(client);
    fixture.server.drain().await;
    store.set_hanging(false);
    let fixture = start().await;
    while counted(&fixture, "tollgate_lease_settlements_replayed_total").await < 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(used(&fixture).await, 7);
}
