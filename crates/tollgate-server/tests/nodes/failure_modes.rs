//! P5: without the store, three processes decide by the failure mode of each policy, report it, count it, and log it
//! once.

use tollgate_testkit::redis::RedisServer;

use crate::support::{Decision, Node, until_enforcing};

/// Checks of one subject by each node: more than the limit.
const CHECKS: u64 = 120;

/// A failure mode and its expected results.
struct Case {
    /// Flags of the server.
    flags: &'static [&'static str],
    limit: u64,
    /// The policy's mode, if it has one.
    on_store_error: Option<&'static str>,
    /// The resulting mode, as in `/metrics`.
    decides: &'static str,
    /// How many checks of all nodes together are admitted.
    admitted: u64,
    /// Why the others are denied.
    reason: &'static str,
}

impl Case {
    fn yaml(&self) -> String {
        let mode = self.on_store_error.map(|mode| format!(", onStoreError: {mode}"));
        format!(
            "policies: [{{id: p, scope: USER, limit: {}, windowSeconds: 3600{}}}]",
            self.limit,
            mode.unwrap_or_default()
        )
    }

    async fn check(&self) {
        let server = RedisServer::start();
        let flags = [&["--on-store-error"], self.flags].concat();
        let start = |_| Node::start_with_policies(&server.url(), &flags, &self.yaml());
        let nodes: Vec<_> = (0..3).map(start).collect();
        for node in &nodes {
            until_enforcing(node).await;
        }
        server.kill();
        let mut admitted = 0;
        for node in nodes {
            admitted += self.check_node(node).await;
        }
        assert_eq!(admitted, self.admitted, "{flags:?} {}", self.yaml());
    }

    /// Sends checks to one node; returns how many it admitted.
    async fn check_node(&self, node: Node) -> u64 {
        let about = format!("{:?} {}", self.flags, self.yaml());
        let series = format!(r#"tollgate_degraded_decisions_total{{mode="{}"}}"#, self.decides);
        let counted_before = node.counted(&series).await;
        let mut client = node.client().await;
        let mut admitted = 0;
        for _ in 0..CHECKS {
            let Decision { allowed, degraded, reason, .. } = client.check("alice", "m").await;
            assert!(degraded, "{about}");
            if allowed {
                admitted += 1;
            } else {
                assert_eq!(reason.as_deref(), Some(self.reason), "{about}");
            }
        }
        assert_eq!(node.counted(&series).await - counted_before, CHECKS, "{about}");
        let (_, ready) = client.get("/readyz").await;
        assert!(ready.contains("degraded"), "{about}: {ready}");
        let log = node.end();
        let failing = log.lines().filter(|line| line.contains("the store is unavailable")).count();
        assert_eq!(failing, 1, "{about}: once for the transition in {log}");
        assert!(log.lines().count() < 10, "{about}: not a line for each check: {log}");
        admitted
    }
}

/// A policy without its own mode uses the server's. A limit below the number of nodes has an empty share and admits
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_each_policy_does_what_it_is_told() {
    const LOCAL: &[&str] = &["local", "--nodes", "3"];
    const EVERY: u64 = 3 * CHECKS;
    let cases: [(&[&str], _, _, _, _, _); 9] = [
        (LOCAL, 100, None, "local", 3 * 33, "limit_exceeded"),
        (LOCAL, 101, None, "local", 3 * 33, "limit_exceeded"),
        (LOCAL, 2, None, "local", 0, "store_unavailable"),
        (&["allow"], 100, None, "allow", EVERY, ""),
        (&["deny"], 100, None, "deny", 0, "store_unavailable"),
        (&["allow"], 100, Some("deny"), "deny", 0, "store_unavailable"),
        (&["deny"], 100, Some("allow"), "allow", EVERY, ""),
        (&["deny", "--nodes", "3"], 100, Some("local"), "local", 3 * 33, "limit_exceeded"),
        (LOCAL, 100, Some("allow"), "allow", EVERY, ""),
    ];
    for (flags, limit, on_store_error, decides, admitted, reason) in cases {
        Case { flags, limit, on_store_error, decides, admitted, reason }.check().await;
    }
}
