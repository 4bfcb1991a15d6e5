//! P6: answers of Redis are lost after it has charged, and the clients send their checks again.

use tokio::task::JoinSet;
use tollgate_testkit::redis::{Fault, Proxy, RedisServer};

use crate::support::{
    Client, Node, PATIENT, connects_seldom, every_key_expires, until, until_enforcing,
};

/// How many answers to charges are lost, for each fault.
const LOST: u64 = 500;
/// How many checks are in flight when answers start to be lost.
const AT_ONCE: u64 = 50;
/// More than are ever sent.
const POLICY: &str = "policies: [{id: p, scope: USER, limit: 1000000, windowSeconds: 3600}]";
const ALICE: &str = r#"{"userId":"alice","modelId":"m"}"#;

fn with_id(number: u64) -> String {
    format!(r#"{{"userId":"alice","modelId":"m","requestId":"request {number}"}}"#)
}

/// Two nodes over one Redis: one behind a proxy with faults, and one that shows what was charged.
struct Setup {
    server: RedisServer,
    proxy: Proxy,
    node: Node,
    witness: Client,
    _witness_node: Node,
}

impl Setup {
    async fn start() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        let timeout = ["--store-timeout-ms", "250"];
        let node = Node::start_with_policies(&proxy.url(), &timeout, POLICY);
        let witness_node = Node::start_with_policies(&server.url(), &PATIENT, POLICY);
        let witness = witness_node.client().await;
        Self { server, proxy, node, witness, _witness_node: witness_node }
    }

    async fn charged(&mut self) -> u64 {
        let peeked = self.witness.decide("peek", ALICE).await;
        assert!(!peeked.degraded);
        peeked.count
    }

    /// Sends checks with ids from `first` on while answers are lost by `fault`.
    async fn lose(&mut self, fault: Fault, first: u64) {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            clients.push(self.node.client().await);
        }
        until_enforcing(&self.node).await;
        self.proxy.set(fault);
        let mut asked = JoinSet::new();
        for (number, mut client) in (first..).zip(clients) {
            asked.spawn(async move { client.decide("check", &with_id(number)).await });
        }
        for decision in asked.join_all().await {
            assert!(decision.allowed && decision.degraded, "{fault:?}: {decision:?}");
        }
        self.proxy.set(Fault::None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_sent_again_after_1000_lost_answers_are_charged_once_each() {
    let mut setup = Setup::start().await;
    let mut sent = 0;
    for fault in [Fault::DropAnswers, Fault::LoseAnswers] {
        let before = setup.charged().await;
        // Checks that the breaker or the end of the connection held back were not charged, and do not count.
        until("enough answers were lost", async || {
            setup.lose(fault, sent).await;
            sent += AT_ONCE;
            setup.charged().await >= before + LOST
        })
        .await;
    }
    let lost = setup.charged().await;
    assert!((2 * LOST..=sent).contains(&lost), "{lost} of {sent}: no id was charged twice");
    until_enforcing(&setup.node).await;
    let mut client = setup.node.client().await;
    for round in ["again", "and once more"] {
        for number in 0..sent {
            let decision = client.decide("check", &with_id(number)).await;
            assert!(decision.allowed && !decision.degraded, "{number} {round}");
        }
        assert_eq!(setup.charged().await, sent, "{round}: each id was charged once");
    }
    connects_seldom(&setup.proxy, "answers were lost");
    every_key_expires(&setup.server);
}
