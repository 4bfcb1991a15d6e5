//! Which server answers for a slot: one server, the primary that Sentinels name, or the primaries of a Cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, RedisError, Value};
use tokio::time::Instant;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::key::SLOTS;
use crate::link::{Failure, Link};
use crate::login::Login;
use crate::url::{Address, Deployment};

/// What is between two looks for the primaries.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one server may take to say where the primaries are.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// Slots, first and last, and the server that answers for them.
type Ranges = Vec<(u16, u16, Arc<Link>)>;

/// The servers of one deployment.
#[derive(Debug)]
pub(crate) struct Topology {
    deployment: Deployment,
    seeds: Vec<Arc<Link>>,
    login: Login,
    state: Mutex<State>,
    looking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    ranges: Ranges,
    stale: bool,
    looked_at: Option<Instant>,
}

impl Topology {
    /// `sentinel_login` is how Sentinels are spoken to: they have users of their own and no databases.
    pub(crate) fn new(
        deployment: Deployment,
        hosts: &[Address],
        login: Login,
        sentinel_login: &Login,
    ) -> Result<Self, StoreError> {
        let seed_login =
            if matches!(deployment, Deployment::Sentinel { .. }) { sentinel_login } else { &login };
        let links = hosts.iter().map(|host| Link::new(host.clone(), seed_login).map(Arc::new));
        let seeds: Vec<_> = links.collect::<Result<_, _>>()?;
        let ranges = match (&deployment, seeds.first()) {
            (Deployment::Single, Some(link)) => vec![(0, SLOTS - 1, Arc::clone(link))],
            _ => Vec::new(),
        };
        let state = Mutex::new(State { ranges, ..State::default() });
        Ok(Self { deployment, seeds, login, state, looking: Arc::default() })
    }

    /// The servers that the URL names.
    pub(crate) fn seeds(&self) -> &[Arc<Link>] {
        &self.seeds
    }

    /// Every server that answers for some slot, with one of its slots.
    pub(crate) async fn primaries_with_slots(
        self: &Arc<Self>,
    ) -> Result<Vec<(u16, Arc<Link>)>, StoreError> {
        let primaries = self.primaries().await?;
        let state = self.state();
        let slot_of = |link: &Arc<Link>| {
            let range = state.ranges.iter().find(|(_, _, known)| Arc::ptr_eq(known, link));
            range.map(|(first, _, _)| *first)
        };
        Ok(primaries.iter().filter_map(|link| Some((slot_of(link)?, Arc::clone(link)))).collect())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.deployment == Deployment::Cluster
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that answers for `slot`.
    pub(crate) async fn link(self: &Arc<Self>, slot: u16) -> Result<Arc<Link>, StoreError> {
        if let Some(link) = self.known(slot) {
            return Ok(link);
        }
        // A task of its own, so that a call that has no more time does not end the look.
        let topology = Arc::clone(self);
        let look = tokio::spawn(async move { topology.look().await });
        look.await.map_err(|error| unknown(&error.to_string()))??;
        let known = self.state();
        find(&known.ranges, slot).ok_or_else(|| unknown("no server answers for a slot"))
    }

    /// Every server that answers for some slot.
    pub(crate) async fn primaries(self: &Arc<Self>) -> Result<Vec<Arc<Link>>, StoreError> {
        self.link(0).await?;
        let mut links: Vec<Arc<Link>> = Vec::new();
        for (_, _, link) in &self.state().ranges {
            if !links.iter().any(|known| Arc::ptr_eq(known, link)) {
                links.push(Arc::clone(link));
            }
        }
        Ok(links)
    }

    fn known(&self, slot: u16) -> Option<Arc<Link>> {
        let state = self.state();
        if state.stale { None } else { find(&state.ranges, slot) }
    }

    /// The primaries may have moved: they are looked for again before the next call.
    pub(crate) fn distrust(&self) {
        if self.deployment != Deployment::Single {
            self.state().stale = true;
        }
    }

    /// The server that `error` sends a call to, if it names one.
    pub(crate) fn redirect(&self, error: &RedisError) -> Result<Option<Arc<Link>>, StoreError> {
        let Some((address, _)) = error.redirect_node() else { return Ok(None) };
        let Some((host, port)) = address.rsplit_once(':') else { return Ok(None) };
        // An empty host is the one that was asked: the next look will find it.
        match port.parse() {
            Ok(port) if !host.is_empty() => self.link_to((host.to_owned(), port)).map(Some),
            _ => Ok(None),
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let _looking = Arc::clone(&self.looking).lock_owned().await;
        {
            let mut state = self.state();
            if !state.stale && !state.ranges.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if state.looked_at.is_some_and(|at| now - at < LOOK_EVERY) {
                return if state.ranges.is_empty() {
                    Err(unknown("looked just now"))
                } else {
                    Ok(())
                };
            }
            state.looked_at = Some(now);
        }
        let mut problem = None;
        let known: Vec<_> =
            self.state().ranges.iter().map(|(_, _, link)| Arc::clone(link)).collect();
        let cluster_nodes = if self.is_cluster() { known } else { Vec::new() };
        for link in self.seeds.iter().chain(&cluster_nodes) {
            match tokio::time::timeout(LOOK_TIMEOUT, self.ask(link)).await {
                Ok(Ok(ranges)) => {
                    let mut state = self.state();
                    (state.ranges, state.stale) = (ranges, false);
                    return Ok(());
                }
                Ok(Err(error)) => problem = Some(error),
                Err(_) => link.drop_connection("it did not say in time where the primaries are"),
            }
        }
        Err(problem.unwrap_or_else(|| unknown("no server said in time")))
    }

    async fn ask(&self, link: &Arc<Link>) -> Result<Ranges, StoreError> {
        let command = match &self.deployment {
            Deployment::Sentinel { master } => {
                let mut command = redis::cmd("SENTINEL");
                command.arg("get-master-addr-by-name").arg(master);
                command
            }
            Deployment::Single | Deployment::Cluster => {
                let mut command = redis::cmd("CLUSTER");
                command.arg("SLOTS");
                command
            }
        };
        if let Deployment::Sentinel { master } = &self.deployment {
            let answer: Option<Address> = self.answer(link, &command).await?;
            let address =
                answer.ok_or_else(|| unknown(&format!("no master is called {master:?}")))?;
            return Ok(vec![(0, SLOTS - 1, self.link_to(address)?)]);
        }
        let answer: Vec<Vec<Value>> = self.answer(link, &command).await?;
        let mut links = HashMap::new();
        let mut ranges = Vec::with_capacity(answer.len());
        for range in &answer {
            let (first, last, (host, port)) =
                slots(range).ok_or_else(|| unknown("CLUSTER SLOTS answered what is no range"))?;
            // An empty host is the one that was asked.
            let host = if host.is_empty() { link.address.0.clone() } else { host };
            let address = (host, port);
            let primary = match links.get(&address) {
                Some(primary) => Arc::clone(primary),
                None => self.link_to(address.clone())?,
            };
            links.insert(address, Arc::clone(&primary));
            ranges.push((first, last, primary));
        }
        if ranges.is_empty() {
            return Err(unknown("the Cluster has no slots"));
        }
        Ok(ranges)
    }

    async fn answer<T: redis::FromRedisValue>(
        &self,
        link: &Arc<Link>,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        link.query(command).await.map_err(|failure| match failure {
            Failure::NotSent(error) => error,
            Failure::Redis(error) => unknown(&error.to_string()),
        })
    }

    /// The link to `address`: a known one, or a new one.
    fn link_to(&self, address: Address) -> Result<Arc<Link>, StoreError> {
        let state = self.state();
        let known = state.ranges.iter().map(|(_, _, link)| link);
        let seeds = self.seeds.iter().filter(|_| self.is_cluster());
        match known.chain(seeds).find(|link| link.address == address) {
            Some(link) => Ok(Arc::clone(link)),
            None => Link::new(address, &self.login).map(Arc::new),
        }
    }
}

fn find(ranges: &Ranges, slot: u16) -> Option<Arc<Link>> {
    let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
    range.map(|(_, _, link)| Arc::clone(link))
}

fn slots(range: &[Value]) -> Option<(u16, u16, Address)> {
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

fn unknown(why: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!("the primary of Redis is not known: {why}"),
    )
}
