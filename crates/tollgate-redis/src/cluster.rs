//! Which server owns which slot of a Cluster, as one of its nodes reports it.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tollgate_store::StoreError;

use crate::link::{Failure, Link};
use crate::topology::{OWNERS, Topology, unknown};
use crate::url::Address;

/// How long one node may take to answer.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// How many nodes are asked at a time, so that one that hangs does not delay the answer of another.
const ASKED_AT_ONCE: usize = 3;

/// The owner of every slot, according to the first node that answers.
pub(crate) async fn owners(topology: &Topology) -> Result<Vec<Option<Arc<Link>>>, StoreError> {
    let mut nodes = topology.known_primaries();
    for seed in topology.seeds() {
        if !nodes.iter().any(|known| Arc::ptr_eq(known, seed)) {
            nodes.push(Arc::clone(seed));
        }
    }
    let mut nodes = nodes.into_iter();
    let mut asked: JoinSet<_> = nodes.by_ref().take(ASKED_AT_ONCE).map(ask).collect();
    let mut problem = None;
    while let Some(answer) = asked.join_next().await {
        match answer.map_err(|error| unknown(&error.to_string())).flatten() {
            Ok(ranges) => return Ok(assigned(topology, ranges)),
            Err(error) => problem = Some(error),
        }
        if let Some(node) = nodes.next() {
            asked.spawn(ask(node));
        }
    }
    Err(problem.unwrap_or_else(|| unknown("no server answered in time")))
}

/// First slot, last slot, and the server that owns them.
type Range = (u16, u16, Address);

async fn ask(node: Arc<Link>) -> Result<Vec<Range>, StoreError> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let answer: Result<Vec<Vec<Value>>, _> = node.query_within(LOOK_TIMEOUT, &command).await;
    let answer = answer.map_err(|failure| match failure {
        Failure::NotSent(error) => error,
        Failure::Redis(error) => unknown(&error.to_string()),
    })?;
    if answer.is_empty() {
        return Err(unknown("the Cluster has no slots"));
    }
    let range = |range: &Vec<Value>| {
        let (first, last, (host, port)) = slots(range)
            .ok_or_else(|| unknown("the answer to CLUSTER SLOTS contains an invalid range"))?;
        // An empty host means the node that was asked.
        let host = if host.is_empty() { node.address.0.clone() } else { host };
        Ok((first, last, (host, port)))
    };
    answer.iter().map(range).collect()
}

fn assigned(topology: &Topology, ranges: Vec<Range>) -> Vec<Option<Arc<Link>>> {
    let mut owners = vec![None; OWNERS];
    for (first, last, address) in ranges {
        let link = topology.link_to(address);
        if let Some(range) = owners.get_mut(usize::from(first)..=usize::from(last)) {
            range.fill(Some(link));
        }
    }
    owners
}

fn slots(range: &[Value]) -> Option<Range> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::Nil => String::new(),
        _ => return None,
    };
    Some(((*first).try_into().ok()?, (*last).try_into().ok()?, (host, (*port).try_into().ok()?)))
}
