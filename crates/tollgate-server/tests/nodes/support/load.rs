//! Sends checks by a schedule that does not wait for answers, so that a late answer counts as late.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Client, Decision, Node};

/// The number of checks a second, as in P3.
const PER_SECOND: u32 = 200;
/// Connections made at the start: enough for as long as P3 lets an answer take.
const CONNECTIONS: usize = 40;

/// The answers to a load.
pub(crate) struct Load {
    pub(crate) decisions: Vec<Decision>,
    /// The times from when each check was due until its answer, ascending.
    latencies: Vec<Duration>,
}

impl Load {
    /// The time that this many of 1,000 answers did not exceed.
    pub(crate) fn per_mille(&self, part: usize) -> Duration {
        self.latencies[(self.latencies.len() * part).div_ceil(1_000) - 1]
    }
}

/// 200 checks a second for `duration`, each for a different user whose name begins with `name`.
pub(crate) async fn load(node: &Node, name: &str, duration: Duration) -> Load {
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(node.client().await);
    }
    let interval = Duration::from_secs(1) / PER_SECOND;
    let mut asked: JoinSet<(Client, Decision, Duration)> = JoinSet::new();
    let mut answered = Vec::new();
    let mut due = Instant::now();
    let end = due + duration;
    while due < end {
        tokio::time::sleep_until(due).await;
        while let Some(one) = asked.try_join_next() {
            let (client, decision, took) = one.unwrap();
            idle.push(client);
            answered.push((decision, took));
        }
        let mut client = match idle.pop() {
            Some(client) => client,
            None => node.client().await,
        };
        let user = format!("{name}-{}", answered.len() + asked.len());
        asked.spawn(async move {
            let decision = client.check(user, "m").await;
            (client, decision, due.elapsed())
        });
        due += interval;
    }
    while let Some(one) = asked.join_next().await {
        let (_, decision, took) = one.unwrap();
        answered.push((decision, took));
    }
    let (decisions, mut latencies): (Vec<_>, Vec<_>) = answered.into_iter().unzip();
    latencies.sort_unstable();
    Load { decisions, latencies }
}
