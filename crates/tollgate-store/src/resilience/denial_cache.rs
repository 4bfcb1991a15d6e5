//! Answers denials that are already known, so that a client that hammers an exhausted limit costs the store almost
//! nothing.
//!
//! A denied check stays denied until its wait is over, unless usage is given back, because other admissions only make
//! the wait longer. So it is answered here until then, and no longer. Anything that gives usage back, on this node or
//! another, is announced through [`Invalidations`].

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{
    Amount, Charge, Clock, Counting, LeaseUpdate, Limit, Mode, MonotonicClock, Subject, Timestamp,
};

use super::StoreObserver;
use super::known_limit::KnownLimit;
use crate::key::each_part;
use crate::{
    Capabilities, Charged, ExpiredLease, FaultDomain, LeaseId, LeaseRequest, LeaseState,
    LiveLeases, Part, Reserved, Store, StoreError, Taken, Verdicts, admits,
};

/// How long a denial without an end (such as a ban) is answered here. The denial itself needs no store, but its count
/// does.
const NEVER_HOLDS: Duration = Duration::from_secs(1);
/// The part by which a wait is shortened here, because the clocks of two machines may run at different speeds: 1/1024
/// is twice the most that NTP corrects (500 parts in a million).
const DRIFT_DIVISOR: u64 = 1_024;
/// Enough that two threads seldom need the same one.
const SHARDS: usize = 64;

/// Answers denials that are already known; asks the store for everything else.
///
/// **Exact.** A check is denied here only if the store would deny it: an enforced limit of the check, with the same
/// amount and way of counting, has denied the same cost, and its wait, counted from before the store was asked, is
/// not over. `retryAfterMs` and `resetAfterMs` count from the arrival of the answer. All other limits of the check must
/// be known too; they show the usage that this node saw last, and so does the `count` of the limit that denies.
///
/// **Always asked:** a check with a request id, which may have been admitted before (R12); a check whose cost is recorded
/// although it is denied (R19); a limit of concurrency, and one to which expired leases give back (R15); a cost that was not denied yet, because its exact wait is unknown; a peek.
///
/// **Invalidated** by resets and settlements on this node, and by what the store announces through [`DenialCache::invalidations`].
/// Nothing is answered here for a [fault domain](FaultDomain) that is not [connected](Invalidations::connected); the
/// denials of other domains stay known.
///
/// **Bounded:** at most `max_keys` keys; the least recently used half is forgotten at once.
#[derive(Debug)]
pub struct DenialCache<S, C = MonotonicClock> {
    store: S,
    clock: C,
    /// The latest time read, so that a clock that steps back is clamped.
    latest_ns: AtomicU64,
    known: Arc<Known>,
    observer: Arc<dyn StoreObserver>,
}

/// The store uses it to announce that known denials may be wrong, on this node or any other. Clones belong to the same
/// cache.
///
/// A store that several nodes share sends [`key_bytes`](crate::key_bytes) to all of them **after** it gave usage back,
/// by a reset, a refund or a settlement. Each of them calls [`Invalidations::forget`]. While a fault domain cannot be
/// announced, it is not [connected](Invalidations::connected).
#[derive(Clone, Debug)]
pub struct Invalidations(Arc<Known>);

impl Invalidations {
    /// From now on the store announces everything that gives usage in `domain` back. Its known denials are forgotten,
    /// because an announcement may have been missed. Call this after the subscription is established.
    pub fn connected(&self, domain: FaultDomain) {
        self.0.forget_domain(domain);
        let mut connected = self.0.connected_domains();
        if !connected.contains(&domain) {
            connected.push(domain);
        }
        // SeqCst: rare, and after everything was forgotten.
        self.0.any_connected.store(true, Ordering::SeqCst);
    }

    /// The store cannot announce changes in `domain` at the moment: its known denials are not used.
    pub fn disconnected(&self, domain: FaultDomain) {
        // Set before forgetting, so that nothing is learned afterwards.
        let mut connected = self.0.connected_domains();
        connected.retain(|known| *known != domain);
        self.0.any_connected.store(!connected.is_empty(), Ordering::SeqCst);
        drop(connected);
        self.0.forget_domain(domain);
    }

    /// Usage of this key was given back; `key` is its [`key_bytes`](crate::key_bytes).
    pub fn forget(&self, key: &[u8]) {
        self.0.forget_key(key);
    }

    /// Usage of any key may have been given back.
    pub fn forget_all(&self) {
        self.0.forget_all();
    }
}

type Digest = u128;

/// What is known about limits, by a keyed hash of their keys.
#[derive(Debug)]
struct Known {
    secret: (u64, u64),
    /// The domains for which the store announces usage that is given back. Read only when a denial is learned.
    connected: RwLock<SmallVec<[FaultDomain; 4]>>,
    any_connected: AtomicBool,
    max_keys_per_half: usize,
    shards: Box<[Mutex<Shard>]>,
}

/// Limits in two halves by last use: when the recent half is full, it replaces the old one.
#[derive(Debug, Default)]
struct Shard {
    recent: HashMap<Digest, KnownLimit>,
    old: HashMap<Digest, KnownLimit>,
    /// How often something was forgotten: answers to questions from before that are not learned.
    forgettings: u64,
}

impl Shard {
    fn get(&mut self, digest: Digest, max_keys: usize) -> Option<&mut KnownLimit> {
        if let Some(known) = self.old.remove(&digest) {
            self.put(digest, known, max_keys);
        }
        self.recent.get_mut(&digest)
    }

    fn put(&mut self, digest: Digest, known: KnownLimit, max_keys: usize) {
        if self.recent.len() >= max_keys && !self.recent.contains_key(&digest) {
            self.old = std::mem::take(&mut self.recent);
        }
        self.old.remove(&digest);
        self.recent.insert(digest, known);
    }
}

/// The keys of a check, each with the count of its shard before the store was asked.
type Asked = SmallVec<[(Digest, u64); 4]>;

/// What is known about a check before the store is asked.
enum CacheLookup {
    /// It is denied.
    Denied(Verdicts),
    /// The store must be asked, and this remembered meanwhile.
    Ask(Asked),
}

impl Known {
    fn new(max_keys: usize) -> Self {
        let random = RandomState::new();
        Self {
            secret: (random.hash_one("denials, first"), random.hash_one("denials, second")),
            connected: RwLock::default(),
            any_connected: AtomicBool::new(false),
            max_keys_per_half: (max_keys / SHARDS / 2).max(1),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_keys(self.secret.0, self.secret.1)
    }

    fn digest(&self, limit: &Limit, subject: &Subject<'_>) -> Digest {
        let mut hasher = self.hasher();
        each_part(limit, subject, |part| hasher.write(part));
        hasher.finish128().as_u128()
    }

    fn shard(&self, digest: Digest) -> MutexGuard<'_, Shard> {
        // Only the low bits are used.
        let low = digest as usize;
        self.shards[low % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Known::forget`] for a key as [`key_bytes`](crate::key_bytes) returns it.
    fn forget_key(&self, key: &[u8]) {
        let mut hasher = self.hasher();
        hasher.write(key);
        self.forget(hasher.finish128().as_u128());
    }

    fn forget(&self, digest: Digest) {
        let mut shard = self.shard(digest);
        shard.forgettings += 1;
        shard.recent.remove(&digest);
        shard.old.remove(&digest);
    }

    /// A poisoned lock is fine: every change of the list is complete at once.
    fn connected_domains(&self) -> std::sync::RwLockWriteGuard<'_, SmallVec<[FaultDomain; 4]>> {
        self.connected.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_connected(&self, domain: FaultDomain) -> bool {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).contains(&domain)
    }

    fn forget_domain(&self, domain: FaultDomain) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.forgettings += 1;
            shard.recent.retain(|_, known| known.domain() != domain);
            shard.old.retain(|_, known| known.domain() != domain);
        }
    }

    fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            *shard = Shard { forgettings: shard.forgettings + 1, ..Shard::default() };
        }
    }

    /// The verdicts on `charges` at `now`, if a denial is known; otherwise what to remember while the store is asked.
    fn look(&self, charges: &[Charge<'_>], now: Timestamp) -> CacheLookup {
        let mut verdicts = Verdicts::new();
        let mut asked = Asked::new();
        for charge in charges {
            let digest = self.digest(charge.limit, charge.subject);
            let mut shard = self.shard(digest);
            asked.push((digest, shard.forgettings));
            let known = shard.get(digest, self.max_keys_per_half);
            verdicts.extend(known.and_then(|known| known.verdict(charge, now)));
        }
        let all_known = verdicts.len() == charges.len();
        let is_recorded = charges.iter().any(Charge::is_recorded_if_denied);
        if all_known && !is_recorded && !admits(charges, &verdicts) {
            CacheLookup::Denied(verdicts)
        } else {
            CacheLookup::Ask(asked)
        }
    }

    /// Learns from the store's answer to a question that was `sent` and `received` at these times.
    fn learn(
        &self,
        charges: &[Charge<'_>],
        verdicts: &[Verdict],
        asked: &Asked,
        (sent, received): (Timestamp, Timestamp),
        domain_of: impl Fn(&Charge<'_>) -> FaultDomain,
    ) {
        let denied = charges.iter().zip(verdicts).filter_map(|(charge, verdict)| {
            let denies = !verdict.allowed && charge.limit.mode() == Mode::Enforce;
            denies.then(|| denied_until(verdict.wait, sent))?
        });
        let Some(until) = denied.max() else {
            return self.admitted(charges, verdicts, asked, received);
        };
        if until <= received {
            return;
        }
        for ((charge, verdict), (digest, forgettings)) in charges.iter().zip(verdicts).zip(asked) {
            let domain = domain_of(charge);
            // Nobody announces that a lease expires.
            let is_announced =
                charge.limit.counting() != Counting::Concurrency && !charge.limit.refunds_expired();
            if !is_announced || !self.is_connected(domain) {
                continue;
            }
            let mut shard = self.shard(*digest);
            if shard.forgettings != *forgettings {
                continue;
            }
            let mut known = KnownLimit::new(charge.limit, verdict, until, received, domain);
            if let Some(before) = shard.get(*digest, self.max_keys_per_half) {
                known.keep_denials_of(before, received);
            }
            if let Some(denied_until) = denied_until(verdict.wait, sent) {
                known.deny(charge.cost, verdict.wait, denied_until, received);
            }
            shard.put(*digest, known, self.max_keys_per_half);
        }
    }

    /// Updates what is known about keys after an admission; adds no new keys.
    fn admitted(
        &self,
        charges: &[Charge<'_>],
        verdicts: &[Verdict],
        asked: &Asked,
        received: Timestamp,
    ) {
        for ((charge, verdict), (digest, _)) in charges.iter().zip(verdicts).zip(asked) {
            let mut shard = self.shard(*digest);
            if let Some(known) = shard.get(*digest, self.max_keys_per_half) {
                known.update(charge.limit, verdict, received);
            }
        }
    }
}

/// The time until which a verdict with this `wait` certainly denies; `None` if it does not deny, or it is not known.
fn denied_until(wait: Wait, sent: Timestamp) -> Option<Timestamp> {
    match wait {
        Wait::None | Wait::Unknown => None,
        Wait::Ns(ns) => Some(sent.after(Duration::from_nanos(ns - ns / DRIFT_DIVISOR))),
        Wait::Never => Some(sent.after(NEVER_HOLDS)),
    }
}

impl<S, C: Clock> DenialCache<S, C> {
    /// Puts the cache around `store`; it remembers denials of at most `max_keys` keys. `clock` is this node's own.
    pub fn new(store: S, clock: C, max_keys: usize, observer: Arc<dyn StoreObserver>) -> Self {
        let known = Arc::new(Known::new(max_keys));
        Self { store, clock, latest_ns: AtomicU64::new(0), known, observer }
    }

    /// The inner store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// The store uses this to announce that known denials may be wrong.
    pub fn invalidations(&self) -> Invalidations {
        Invalidations(Arc::clone(&self.known))
    }

    fn now(&self) -> Timestamp {
        let now_ns = self.clock.now().as_ns();
        // Relaxed: no other memory depends on it.
        Timestamp::from_ns(self.latest_ns.fetch_max(now_ns, Ordering::Relaxed).max(now_ns))
    }
}

/// Forgets keys at the end of a reset or a settlement, however it ends: it may have been carried out.
struct ForgetAtEnd<'a>(&'a Known, SmallVec<[Digest; 4]>);

impl Drop for ForgetAtEnd<'_> {
    fn drop(&mut self) {
        for digest in &self.1 {
            self.0.forget(*digest);
        }
    }
}

impl<S: Store, C: Clock + 'static> Store for DenialCache<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        // A check with an id may be the repetition of an admitted one; only the store knows.
        // SeqCst: see `Invalidations`.
        if request_id.is_some() || !self.known.any_connected.load(Ordering::SeqCst) {
            return self.store.charge(charges, request_id).await;
        }
        // Read before the store is asked: the wait began later than this.
        let sent = self.now();
        let asked = match self.known.look(charges, sent) {
            CacheLookup::Denied(verdicts) => {
                self.observer.denied_locally();
                return Ok(verdicts.into());
            }
            CacheLookup::Ask(asked) => asked,
        };
        let answer = self.store.charge(charges, request_id).await?;
        if !answer.degraded {
            let domain_of =
                |charge: &Charge<'_>| self.store.fault_domain(charge.limit, charge.subject);
            let times = (sent, self.now());
            self.known.learn(charges, &answer.verdicts, &asked, times, domain_of);
        }
        Ok(answer)
    }

    async fn peek(&self, charges: &[Charge<'_>]) -> Result<Charged, StoreError> {
        // The time is read so that it is never behind what the store has seen.
        self.now();
        self.store.peek(charges).await
    }

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        // Forgotten after the store has reset; answers to questions from before that are not learned.
        let digest = self.known.digest(limit, subject);
        let _forget = ForgetAtEnd(&self.known, std::iter::once(digest).collect());
        self.store.reset(limit, subject).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn reserve(&self, request: &LeaseRequest<'_>) -> Result<Reserved, StoreError> {
        // A slot becomes free at any moment, and a lease costs a call anyway.
        self.now();
        self.store.reserve(request).await
    }

    async fn live_leases(&self, most: usize) -> Result<LiveLeases, StoreError> {
        self.store.live_leases(most).await
    }

    fn expired_leases(&self, most: usize) -> Vec<ExpiredLease> {
        self.store.expired_leases(most)
    }

    async fn update_lease(
        &self,
        id: &LeaseId,
        update: &LeaseUpdate,
    ) -> Result<Option<LeaseState>, StoreError> {
        let state = self.store.update_lease(id, update).await?;
        // Also what costs more now: the waits that are known are too short.
        for hold in state.iter().flat_map(|state| &state.holds) {
            if hold.key.is_empty() {
                self.known.forget_all();
            } else {
                self.known.forget_key(&hold.key);
            }
        }
        Ok(state)
    }

    async fn take(&self, charge: &Charge<'_>) -> Result<Taken, StoreError> {
        self.store.take(charge).await
    }

    /// The store announces it, to this node as well.
    async fn give_back(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        self.store.give_back(part, unused).await
    }

    async fn finish(&self) {
        self.store.finish().await;
    }
}

#[cfg(test)]
#[path = "denial_cache_tests.rs"]
mod tests;
