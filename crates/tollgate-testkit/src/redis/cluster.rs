//! A Cluster of three primaries with a replica each.

use super::server::{RedisServer, wait_for};

/// Three primaries, then their replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A Cluster whose every node knows all slots.
    pub fn start() -> Self {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let nodes: Vec<_> = (0..6).map(|_| RedisServer::start_with(&settings)).collect();
        let addresses: Vec<_> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let created = std::process::Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "redis-cli --cluster create: {said}");
        wait_for("the Cluster to be whole", || {
            nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]).concat();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            })
        });
        wait_for("the replicas to be linked", || {
            let linked = |node: &&RedisServer| {
                node.info("master_link_status").is_some_and(|status| status == "up")
            };
            nodes.iter().filter(linked).count() == 3
        });
        Self { nodes }
    }

    /// `redis-cluster://…` of three of the nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().take(3).map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// The nodes: at first the primaries are the first three.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The nodes, to kill one.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}
