//! Finds the server that owns a slot: a single server, the primary that Sentinels name, or a primary of a Cluster.
//!
//! While the right servers are uncertain, calls go to the known ones, and a task looks for the right ones in parallel.
//! So a failing server does not block calls to the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::RedisError;
use tokio::sync::Notify;
use tokio::time::Instant;
use tollgate_store::{FaultDomain, StoreError, StoreErrorKind};

use crate::cluster;
use crate::key::SLOTS;
use crate::link::Link;
use crate::login::Login;
use crate::sentinel;
use crate::url::{Address, Deployment};

/// The time between two lookups of the primaries.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The time between two lookups at Sentinels while all is well, so that a Sentinel or a primary that missed a failover
/// is noticed within a second.
const SENTINEL_POLL: Duration = Duration::from_millis(300);
/// The most servers of a Cluster that are kept although they own no slot: calls are redirected to them while a slot
/// moves.
const MAX_OTHER_LINKS: usize = 64;

/// The servers of one deployment.
#[derive(Debug)]
pub(crate) struct Topology {
    deployment: Deployment,
    seeds: Vec<Arc<Link>>,
    login: Login,
    state: Mutex<State>,
    looking: tokio::sync::Mutex<()>,
    /// Whether a task is looking, or about to.
    refreshing: AtomicBool,
    polling: AtomicBool,
    /// Notified when the owners have changed.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The owner of each slot; without a Cluster, one owner for all. Empty if nothing is known.
    owners: Vec<Option<Arc<Link>>>,
    /// Each owner once.
    primaries: Vec<Arc<Link>>,
    /// Other servers of a Cluster to which calls were redirected, the latest last.
    others: Vec<Arc<Link>>,
    looked_at: Option<Instant>,
    /// How many lookups were made.
    looks: u64,
    last_domain: u32,
}

impl Topology {
    /// `sentinel_login` is the login for Sentinels, which have their own users and no databases.
    pub(crate) fn new(
        deployment: Deployment,
        hosts: &[Address],
        login: Login,
        sentinel_login: &Login,
    ) -> Self {
        let seed_login =
            if matches!(deployment, Deployment::Sentinel { .. }) { sentinel_login } else { &login };
        let is_cluster = deployment == Deployment::Cluster;
        let mut seeds = Vec::with_capacity(hosts.len());
        let mut state = State::default();
        for host in hosts {
            let domain = if is_cluster { state.next_domain() } else { FaultDomain::WHOLE };
            seeds.push(Arc::new(Link::new(host.clone(), domain, seed_login)));
        }
        if deployment == Deployment::Single {
            state.set_owners(seeds.iter().take(1).cloned().map(Some).collect());
        }
        Self {
            deployment,
            seeds,
            login,
            state: Mutex::new(state),
            looking: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
            polling: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Every server that owns a slot, with one of its slots.
    pub(crate) async fn primaries_with_slots(
        self: &Arc<Self>,
    ) -> Result<Vec<(u16, Arc<Link>)>, StoreError> {
        let primaries = self.primaries().await?;
        let state = self.state();
        let slot_of = |link: &Arc<Link>| {
            let is_owner = |owner: &Option<Arc<Link>>| {
                owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, link))
            };
            let slot = state.owners.iter().position(is_owner)?;
            u16::try_from(slot).ok()
        };
        Ok(primaries.iter().filter_map(|link| Some((slot_of(link)?, Arc::clone(link)))).collect())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.deployment == Deployment::Cluster
    }

    /// The servers that the URL names.
    pub(crate) fn seeds(&self) -> &[Arc<Link>] {
        &self.seeds
    }

    /// A poisoned lock is fine: every change is a single assignment.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of `slot`.
    pub(crate) async fn link(self: &Arc<Self>, slot: u16) -> Result<Arc<Link>, StoreError> {
        if let Some(link) = self.state().owner(slot) {
            return Ok(link);
        }
        self.look_apart().await?;
        self.state().owner(slot).ok_or_else(|| unknown("a slot has no known owner"))
    }

    /// The fault domain of `slot`.
    pub(crate) fn domain(&self, slot: u16) -> FaultDomain {
        if !self.is_cluster() {
            return FaultDomain::WHOLE;
        }
        self.state().owner(slot).map_or(FaultDomain::WHOLE, |link| link.domain)
    }

    /// Whether any slot is in `domain`. Slots without a known owner are in [`FaultDomain::WHOLE`].
    pub(crate) fn uses(&self, domain: FaultDomain) -> bool {
        let state = self.state();
        match domain {
            FaultDomain::WHOLE => {
                !self.is_cluster()
                    || state.owners.is_empty()
                    || state.owners.iter().any(Option::is_none)
            }
            _ => state.primaries.iter().any(|link| link.domain == domain),
        }
    }

    /// Every server that owns a slot.
    pub(crate) async fn primaries(self: &Arc<Self>) -> Result<Vec<Arc<Link>>, StoreError> {
        if self.state().owners.is_empty() {
            self.look_apart().await?;
        }
        Ok(self.state().primaries.clone())
    }

    /// The known primaries. After each lookup a different one comes first, so that the next lookup asks that one.
    pub(crate) fn known_primaries(&self) -> Vec<Arc<Link>> {
        let state = self.state();
        let mut primaries = state.primaries.clone();
        if let Ok(looks) = usize::try_from(state.looks)
            && !primaries.is_empty()
        {
            let turn = looks % primaries.len();
            primaries.rotate_left(turn);
        }
        primaries
    }

    /// The primaries may have changed: starts a lookup in the background.
    pub(crate) fn distrust(self: &Arc<Self>) {
        // AcqRel: the failure that this caller saw happened before the lookup that it requests.
        if self.deployment == Deployment::Single || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let topology = Arc::clone(self);
        tokio::spawn(async move {
            let ago = topology.state().looked_at.map(|at| at.elapsed());
            if let Some(rest) = ago.and_then(|ago| LOOK_EVERY.checked_sub(ago)) {
                tokio::time::sleep(rest).await;
            }
            topology.refreshing.store(false, Ordering::Release);
            // If the lookup fails, calls fail too and report the error.
            let _ = topology.look().await;
        });
    }

    /// Looks up the primaries now, unless that was just done.
    pub(crate) async fn look_again(self: &Arc<Self>) {
        if self.deployment != Deployment::Single {
            // If the lookup fails, the call fails too and reports the error.
            let _ = self.look_apart().await;
        }
    }

    /// The server to which `error` redirects a call, if it names one.
    pub(crate) fn redirect(&self, error: &RedisError) -> Option<Arc<Link>> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        // An empty host means the server that was asked; the next lookup will find it.
        let port = port.parse().ok().filter(|_| !host.is_empty())?;
        Some(self.link_to((host.to_owned(), port)))
    }

    /// The same for a slot that has moved: from now on its new owner is asked.
    pub(crate) fn moved(self: &Arc<Self>, slot: u16, error: &RedisError) -> Option<Arc<Link>> {
        let link = self.redirect(error);
        if let Some(link) = &link
            && self.is_cluster()
        {
            self.state().set_owner(slot, link);
            self.changed.notify_one();
        }
        self.distrust();
        link
    }

    /// Looks in a separate task, so that the lookup continues when the call times out.
    async fn look_apart(self: &Arc<Self>) -> Result<(), StoreError> {
        let topology = Arc::clone(self);
        let look = tokio::spawn(async move { topology.look().await });
        look.await.map_err(|error| unknown(&error.to_string()))?
    }

    async fn look(self: &Arc<Self>) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let _looking = self.looking.lock().await;
        {
            let mut state = self.state();
            let now = Instant::now();
            if let Some(at) = state.looked_at
                && (at >= asked_at || now - at < LOOK_EVERY)
            {
                let known = !state.owners.is_empty();
                return if known {
                    Ok(())
                } else {
                    Err(unknown("the last lookup has just failed"))
                };
            }
            (state.looked_at, state.looks) = (Some(now), state.looks + 1);
        }
        let owners = match &self.deployment {
            Deployment::Cluster => cluster::owners(self).await?,
            Deployment::Sentinel { master } => {
                self.poll_sentinels();
                vec![Some(sentinel::primary(self, master).await?)]
            }
            Deployment::Single => return Ok(()),
        };
        if self.state().set_owners(owners) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Asks the Sentinels repeatedly, for as long as the store is used.
    fn poll_sentinels(self: &Arc<Self>) {
        // Relaxed: it only elects the caller that starts the task.
        if self.polling.swap(true, Ordering::Relaxed) {
            return;
        }
        let topology = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SENTINEL_POLL).await;
                let Some(topology) = topology.upgrade() else { return };
                // If the lookup fails, calls fail too and report the error.
                let _ = topology.look().await;
            }
        });
    }

    /// The link to `address`: a known one, or a new one, which is then remembered.
    pub(crate) fn link_to(&self, address: Address) -> Arc<Link> {
        let mut state = self.state();
        let seeds = self.seeds.iter().filter(|_| self.is_cluster());
        let known = state.primaries.iter().chain(&state.others).chain(seeds);
        if let Some(link) = known.into_iter().find(|link| link.address == address) {
            return Arc::clone(link);
        }
        let domain = if self.is_cluster() { state.next_domain() } else { FaultDomain::WHOLE };
        let link = Arc::new(Link::new(address, domain, &self.login));
        if state.others.len() >= MAX_OTHER_LINKS {
            state.others.remove(0);
        }
        state.others.push(Arc::clone(&link));
        link
    }
}

impl State {
    fn owner(&self, slot: u16) -> Option<Arc<Link>> {
        let index = if self.owners.len() == 1 { 0 } else { usize::from(slot) };
        self.owners.get(index).cloned().flatten()
    }

    fn next_domain(&mut self) -> FaultDomain {
        // 0 stands for the whole store.
        self.last_domain = self.last_domain.checked_add(1).unwrap_or(1);
        FaultDomain::new(self.last_domain)
    }

    fn set_owner(&mut self, slot: u16, link: &Arc<Link>) {
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(link));
            self.find_primaries();
        }
    }

    /// Sets the owners; returns whether they changed.
    fn set_owners(&mut self, owners: Vec<Option<Arc<Link>>>) -> bool {
        let same = |(one, other): (&Option<Arc<Link>>, &Option<Arc<Link>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let unchanged =
            self.owners.len() == owners.len() && self.owners.iter().zip(&owners).all(same);
        if !unchanged {
            self.owners = owners;
            self.find_primaries();
        }
        !unchanged
    }

    fn find_primaries(&mut self) {
        let before = std::mem::take(&mut self.primaries);
        let owners = self.owners.iter().flatten();
        for link in owners {
            if !self.primaries.iter().rev().any(|known| Arc::ptr_eq(known, link)) {
                self.primaries.push(Arc::clone(link));
            }
        }
        // A slot may move back to a server that owns none at the moment.
        let gone = before.into_iter().filter(|link| {
            !self.primaries.iter().chain(&self.others).any(|known| Arc::ptr_eq(known, link))
        });
        let gone: Vec<_> = gone.collect();
        self.others.extend(gone);
        let primaries = &self.primaries;
        self.others.retain(|link| !primaries.iter().any(|known| Arc::ptr_eq(known, link)));
        let too_many = self.others.len().saturating_sub(MAX_OTHER_LINKS);
        self.others.drain(..too_many);
    }
}

/// How many slots have a stored owner.
pub(crate) const OWNERS: usize = SLOTS as usize;

pub(crate) fn unknown(why: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!("the primary of Redis is not known: {why}"),
    )
}
