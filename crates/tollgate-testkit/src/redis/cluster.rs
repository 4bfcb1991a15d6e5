//! A Cluster: three primaries with a replica each, or what a test asks for.

use super::server::{RedisServer, wait_for};

/// The primaries, then their replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A Cluster of three primaries with a replica each, whose every node knows all slots.
    pub fn start() -> Self {
        Self::of(3, 1)
    }

    /// The same of so many primaries with so many replicas each.
    pub fn of(primaries: usize, replicas: usize) -> Self {
        let count = primaries * (1 + replicas);
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::start_with(&settings)).collect();
        let addresses: Vec<_> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let created = std::process::Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "redis-cli --cluster create: {said}");
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
