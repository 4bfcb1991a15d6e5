//! The primary that Sentinels name. The Sentinels that know the latest failover decide, and among these the majority;
//! then the server itself must confirm it.
//!
//! A Sentinel that was cut off names the previous primary. Therefore all Sentinels are asked, and the server that they
//! name is asked for its ROLE before it is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::link::{Failure, Link};
use crate::topology::{Topology, unknown};
use crate::url::Address;

/// How long one Sentinel may take to name the primary.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(300);
/// How long to wait for the other Sentinels after most have answered.
const GRACE: Duration = Duration::from_millis(50);
/// How long a server may take to report its ROLE.
const ROLE_TIMEOUT: Duration = Duration::from_millis(200);
/// The most servers that are asked for their ROLE per lookup.
const MAX_CANDIDATES: usize = 8;

/// A server that Sentinels name.
#[derive(Debug)]
struct Candidate {
    address: Address,
    /// The number of the failover that made it the primary: the greatest that any Sentinel reports.
    epoch: u64,
    /// How many Sentinels name it.
    votes: usize,
}

/// The primary called `master`.
pub(crate) async fn primary(topology: &Topology, master: &str) -> Result<Arc<Link>, StoreError> {
    let current = topology.known_primaries().into_iter().next();
    let is_current = |candidate: &Candidate| {
        current.as_ref().is_some_and(|link| link.address == candidate.address)
    };
    let mut candidates = named(topology.seeds(), master).await?;
    // The latest failover overrides all earlier ones; for the same failover, the majority of Sentinels decides.
    candidates.sort_by_key(|one| (std::cmp::Reverse((one.epoch, one.votes)), !is_current(one)));
    candidates.truncate(MAX_CANDIDATES);
    let mut primaries: Vec<(Candidate, Arc<Link>)> = Vec::new();
    let mut problem = None;
    let mut unreachable_epoch = None;
    for candidate in candidates {
        // A primary that a later failover has replaced must not be charged while the right one does not answer.
        if unreachable_epoch.is_some_and(|epoch| epoch > candidate.epoch) {
            break;
        }
        let of_lower_rank = |(best, _): &(Candidate, Arc<Link>)| {
            (best.epoch, best.votes) > (candidate.epoch, candidate.votes)
        };
        if primaries.first().is_some_and(of_lower_rank) {
            break;
        }
        let link = topology.link_to(candidate.address.clone());
        match role(&link).await {
            Ok(role) if role == "master" => primaries.push((candidate, link)),
            Ok(role) => {
                let (host, port) = &candidate.address;
                let why = format!("Sentinels name {host}:{port}, whose ROLE is {role:?}");
                problem = Some(unknown(&why));
            }
            Err(error) => {
                unreachable_epoch = Some(candidate.epoch);
                problem = Some(error);
            }
        }
    }
    match primaries.len() {
        0 => Err(problem.unwrap_or_else(|| unknown("no Sentinel named a server"))),
        1 => primaries.pop().map(|(_, link)| link).ok_or_else(|| unknown("none is left")),
        _ => successor(primaries.into_iter().map(|(_, link)| link).collect()).await,
    }
}

/// What `sentinels` name, once most have answered and the others had a little more time.
async fn named(sentinels: &[Arc<Link>], master: &str) -> Result<Vec<Candidate>, StoreError> {
    let ask = |sentinel: &Arc<Link>| ask(Arc::clone(sentinel), master.to_owned());
    let mut asked: JoinSet<_> = sentinels.iter().map(ask).collect();
    let mut votes: HashMap<Address, (u64, usize)> = HashMap::new();
    let (mut answers, mut problem) = (0, None);
    let mut until = Instant::now() + 2 * SENTINEL_TIMEOUT;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until, asked.join_next()).await {
        match answer.map_err(|error| unknown(&error.to_string())).flatten() {
            Ok((address, epoch)) => {
                let vote = votes.entry(address).or_default();
                *vote = (vote.0.max(epoch), vote.1 + 1);
                answers += 1;
            }
            Err(error) => problem = Some(error),
        }
        if answers * 2 > sentinels.len() {
            until = until.min(Instant::now() + GRACE);
        }
    }
    if votes.is_empty() {
        return Err(problem.unwrap_or_else(|| unknown("no Sentinel answered in time")));
    }
    let candidate = |(address, (epoch, votes))| Candidate { address, epoch, votes };
    Ok(votes.into_iter().map(candidate).collect())
}

/// What `sentinel` names, and the number of the failover that made it the primary; 0 if it is not reported.
async fn ask(sentinel: Arc<Link>, master: String) -> Result<(Address, u64), StoreError> {
    let mut address = redis::cmd("SENTINEL");
    address.arg("get-master-addr-by-name").arg(&master);
    let named: Option<Address> =
        sentinel.query_within(SENTINEL_TIMEOUT, &address).await.map_err(failed)?;
    let named = named.ok_or_else(|| unknown(&format!("it knows no master called {master:?}")))?;
    let mut about = redis::cmd("SENTINEL");
    about.arg("MASTER").arg(&master);
    // The user may lack the right to ask for more.
    let fields: Value = sentinel.query_within(SENTINEL_TIMEOUT, &about).await.unwrap_or(Value::Nil);
    Ok((named, field(&fields, "config-epoch").unwrap_or_default()))
}

/// The number called `name` in a list of names and values.
fn field(fields: &Value, name: &str) -> Option<u64> {
    let Value::Array(fields) = fields else { return None };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let mut pairs = fields.chunks_exact(2);
    let value = pairs.find_map(|pair| (text(&pair[0])? == name).then(|| text(&pair[1])))?;
    value?.parse().ok()
}

/// The ROLE of `server`.
async fn role(server: &Arc<Link>) -> Result<String, StoreError> {
    let role: Result<Vec<Value>, _> = server.query_within(ROLE_TIMEOUT, &redis::cmd("ROLE")).await;
    match role {
        Ok(role) => match role.first() {
            Some(Value::BulkString(name)) => Ok(String::from_utf8_lossy(name).into_owned()),
            _ => Err(unknown("the answer to ROLE is malformed")),
        },
        // Without the right to ask, trust the Sentinels. If the login is wrong, calls report it.
        Err(Failure::Redis(error)) if matches!(error.code(), Some("NOPERM" | "NOAUTH")) => {
            Ok("master".to_owned())
        }
        Err(Failure::NotSent(error)) if error.kind() == StoreErrorKind::Unauthenticated => {
            Ok("master".to_owned())
        }
        Err(failure) => Err(failed(failure)),
    }
}

/// Chooses among servers that all say that they are the primary and that equally many Sentinels name: the one that was
/// promoted to replace another, otherwise the first.
async fn successor(primaries: Vec<Arc<Link>>) -> Result<Arc<Link>, StoreError> {
    let mut replication = Vec::new();
    for link in primaries {
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        // The user may lack the right to ask.
        let text: String = link.query_within(ROLE_TIMEOUT, &info).await.unwrap_or_default();
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim().to_owned())
        };
        replication.push((value("master_replid"), value("master_replid2"), link));
    }
    let succeeds = |(_, before, link): &(Option<String>, Option<String>, Arc<Link>)| {
        before.is_some()
            && replication.iter().any(|(id, _, other)| !Arc::ptr_eq(other, link) && id == before)
    };
    let chosen = replication.iter().find(|one| succeeds(one)).or(replication.first());
    chosen.map(|(_, _, link)| Arc::clone(link)).ok_or_else(|| unknown("none is left"))
}

fn failed(failure: Failure) -> StoreError {
    match failure {
        Failure::NotSent(error) => error,
        Failure::Redis(error) => unknown(&error.to_string()),
    }
}
