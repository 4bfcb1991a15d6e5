//! A Cluster: by default three primaries with a replica each.

use super::server::{RedisServer, wait_for};

/// The settings of each node.
const SETTINGS: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];

/// Runs `redis-cli --cluster`.
fn try_redis_cli(arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("redis-cli");
    command.arg("--cluster").args(arguments).output().unwrap()
}

/// The same; an error fails the test.
fn redis_cli(arguments: &[&str]) {
    let output = try_redis_cli(arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "redis-cli --cluster {arguments:?}: {said}");
}

/// The primaries, then their replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A Cluster of three primaries with a replica each, in which every node knows all slots.
    pub fn start() -> Self {
        Self::of(3, 1)
    }

    /// The same with this many primaries and replicas of each.
    pub fn of(primaries: usize, replicas: usize) -> Self {
        let count = primaries * (1 + replicas);
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::start_with(&SETTINGS)).collect();
        let addresses: Vec<_> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let mut create = vec!["create"];
        create.extend(addresses.iter().map(String::as_str));
        let replicas_text = replicas.to_string();
        create.extend(["--cluster-replicas", &replicas_text, "--cluster-yes"]);
        redis_cli(&create);
        let all_known = format!("cluster_known_nodes:{count}\r");
        wait_for("the Cluster to be whole", || {
            nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]).concat();
                info.contains("cluster_state:ok") && info.contains(&all_known)
            })
        });
        wait_for("the replicas to be linked", || {
            let linked = |node: &&RedisServer| {
                node.info("master_link_status").is_some_and(|status| status == "up")
            };
            nodes.iter().filter(linked).count() == primaries * replicas
        });
        Self { nodes }
    }

    /// The same Cluster with so much patience that no node fails over because the machine is busy: for tests that stop
    /// no node.
    #[must_use]
    pub fn patient(self) -> Self {
        for node in &self.nodes {
            node.command(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
        }
        self
    }

    /// Adds a primary without slots, with the same timeouts as the first node.
    pub fn add_primary(&mut self) {
        let patience = &self.nodes[0].command(&["CONFIG", "GET", "cluster-node-timeout"])[1];
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", patience];
        let node = RedisServer::start_with(&settings);
        let address = format!("127.0.0.1:{}", node.port());
        let first_address = format!("127.0.0.1:{}", self.nodes[0].port());
        redis_cli(&["add-node", &address, &first_address]);
        self.nodes.push(node);
        let count = self.nodes.len();
        let all_known = format!("cluster_known_nodes:{count}\r");
        wait_for("all to know the new primary, and to agree", || {
            let knows = |node: &RedisServer| {
                let info = node.command(&["CLUSTER", "INFO"]).concat();
                info.contains("cluster_state:ok") && info.contains(&all_known)
            };
            self.nodes.iter().all(knows) && try_redis_cli(&["check", &address]).status.success()
        });
    }

    /// Moves this many slots, with their keys, from all other primaries to the node that was added last. Takes a while.
    pub fn move_to_last(&self, slots: u32) {
        let last = &self.nodes[self.nodes.len() - 1];
        let id = last.command(&["CLUSTER", "MYID"]).concat();
        let address = format!("127.0.0.1:{}", last.port());
        let slots = slots.to_string();
        redis_cli(&[
            "reshard",
            &address,
            "--cluster-from",
            "all",
            "--cluster-to",
            &id,
            "--cluster-slots",
            &slots,
            "--cluster-yes",
        ]);
    }

    /// `redis-cluster://…` with three of the nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().take(3).map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// The nodes; initially the first three are the primaries.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The nodes, to kill one.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}
