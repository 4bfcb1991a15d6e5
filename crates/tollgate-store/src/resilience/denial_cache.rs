//! Answers denials that are already known, so that a client that hammers a spent limit costs the store next
//! to nothing.
//!
//! A denial with a known wait stays a denial until that wait is over, unless usage is given back: other
//! admissions only lengthen it. So it is answered here until then, and no longer. What may give usage back, here
//! or elsewhere, is told through [`Invalidations`].

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{Charge, Clock, Limit, Mode, MonotonicClock, Subject, Timestamp};

use super::StoreObserver;
use super::known_limit::KnownLimit;
use crate::key::each_part;
use crate::{Charged, FaultDomain, Store, StoreError, Verdicts, admits};

/// For how long a denial that no wait ends is answered here: it needs no store, but its count does.
const NEVER_HOLDS: Duration = Duration::from_secs(1);
/// The part of a wait by which it is shortened here, as clocks of two machines may run apart: 1/1024 is twice
/// what NTP corrects at most (500 parts in a million).
const DRIFT_DIVISOR: u64 = 1_024;
/// Enough that two threads seldom meet.
const SHARDS: usize = 64;

/// Answers denials that are already known; asks the store for everything else.
///
/// **Exact.** A check is denied here only if the store would deny it: an enforced limit of it, of the same amount,
/// way of counting and window, has denied the same cost, and its wait, counted from before the store was asked, is
/// not over. `retryAfterMs` and `resetAfterMs` go on from when the answer came. All other limits of the check must
/// be known too; they show the usage that this node saw last, as does `count` of the one that denies.
///
/// **Asked anyway:** a check with a request id, which may have been admitted before (R12); a cost that was not
/// denied yet, as its exact wait is unknown; a peek.
///
/// **Invalidated** by resets on this node, and by what the store tells through [`DenialCache::invalidations`].
/// Of a [fault domain](FaultDomain) that is not [connected](Invalidations::connected) nothing is known here; what is known of
/// the others holds on.
///
/// **Bounded:** at most `max_keys` keys, the least recently used forgotten in halves.
#[derive(Debug)]
pub struct DenialCache<S, C = MonotonicClock> {
    store: S,
    clock: C,
    /// The latest time read: a clock that steps back is clamped.
    latest_ns: AtomicU64,
    known: Arc<Known>,
    observer: Arc<dyn StoreObserver>,
}

/// Where a store tells what makes known denials untrue, on this node or on any other. Clones tell the same cache.
///
/// A store that several nodes share sends [`key_bytes`](crate::key_bytes) to all of them, **after** it gave usage back: by a reset,
/// a refund, a settlement. Each of them calls [`Invalidations::forget`]. While it cannot be told of a fault domain, that
/// is not [connected](Invalidations::connected).
#[derive(Clone, Debug)]
pub struct Invalidations(Arc<Known>);

impl Invalidations {
    /// From here on the store tells of everything that gives usage in `domain` back. What was known of it is forgotten,
    /// since something may have been missed. To be called after the subscription is in place.
    pub fn connected(&self, domain: FaultDomain) {
        self.0.forget_domain(domain);
        let mut connected = self.0.connected_domains();
        if !connected.contains(&domain) {
            connected.push(domain);
        }
        // SeqCst: seldom, and after everything was forgotten.
        self.0.any_connected.store(true, Ordering::SeqCst);
    }

    /// The store can tell nothing of `domain` for now: nothing is answered by what is known of it.
    pub fn disconnected(&self, domain: FaultDomain) {
        // Before it is forgotten, so that nothing is learned after.
        let mut connected = self.0.connected_domains();
        connected.retain(|known| *known != domain);
        self.0.any_connected.store(!connected.is_empty(), Ordering::SeqCst);
        drop(connected);
        self.0.forget_domain(domain);
    }

    /// Usage of this key was given back; `key` is its [`key_bytes`](crate::key_bytes).
    pub fn forget(&self, key: &[u8]) {
        let mut hasher = self.0.hasher();
        hasher.write(key);
        self.0.forget(hasher.finish128().as_u128());
    }

    /// Usage of any key may have been given back.
    pub fn forget_all(&self) {
        self.0.forget_all();
    }
}

type Digest = u128;

/// What is known of limits, by a keyed hash of their keys.
#[derive(Debug)]
struct Known {
    secret: (u64, u64),
    /// The domains of which the store tells what gives usage back. Read only when a denial is learned.
    connected: RwLock<SmallVec<[FaultDomain; 4]>>,
    any_connected: AtomicBool,
    max_keys_per_half: usize,
    shards: Box<[Mutex<Shard>]>,
}

/// Limits in two halves by last use: when the recent half is full, it takes the place of the old one.
#[derive(Debug, Default)]
struct Shard {
    recent: HashMap<Digest, KnownLimit>,
    old: HashMap<Digest, KnownLimit>,
    /// How often something was forgotten: an answer to a question from before is not learned from.
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

/// The keys of a check, each with the forgettings of its shard before the store was asked.
type Asked = SmallVec<[(Digest, u64); 4]>;

/// What is known of a check before the store is asked.
enum Look {
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

    /// A shard is whole whatever a thread that held it did: each change of it is made at once.
    fn shard(&self, digest: Digest) -> MutexGuard<'_, Shard> {
        // Only the low bits are used.
        let low = digest as usize;
        self.shards[low % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, digest: Digest) {
        let mut shard = self.shard(digest);
        shard.forgettings += 1;
        shard.recent.remove(&digest);
        shard.old.remove(&digest);
    }

    /// The list is whole whatever a thread that held it did.
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

    /// The verdicts over `charges` at `now`, if it is known that they deny; otherwise what to remember while the
    /// store is asked.
    fn look(&self, charges: &[Charge<'_>], now: Timestamp) -> Look {
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
        if all_known && !admits(charges, &verdicts) {
            Look::Denied(verdicts)
        } else {
            Look::Ask(asked)
        }
    }

    /// Takes in what the store said to a question `sent` and answered at `received`.
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
            if !self.is_connected(domain) {
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

    /// Brings what is known of keys up to date with an admission; learns no new keys.
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

/// Until when a verdict of `wait` certainly denies; `None` if it does not, or nobody knows.
fn denied_until(wait: Wait, sent: Timestamp) -> Option<Timestamp> {
    match wait {
        Wait::None | Wait::Unknown => None,
        Wait::Ns(ns) => Some(sent.after(Duration::from_nanos(ns - ns / DRIFT_DIVISOR))),
        Wait::Never => Some(sent.after(NEVER_HOLDS)),
    }
}

impl<S, C: Clock> DenialCache<S, C> {
    /// `store`, of whose denials at most `max_keys` keys are remembered. `clock` is this node's own.
    pub fn new(store: S, clock: C, max_keys: usize, observer: Arc<dyn StoreObserver>) -> Self {
        let known = Arc::new(Known::new(max_keys));
        Self { store, clock, latest_ns: AtomicU64::new(0), known, observer }
    }

    /// What it surrounds.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Where the store tells what makes known denials untrue.
    pub fn invalidations(&self) -> Invalidations {
        Invalidations(Arc::clone(&self.known))
    }

    fn now(&self) -> Timestamp {
        let now_ns = self.clock.now().as_ns();
        // Relaxed: a value by itself.
        Timestamp::from_ns(self.latest_ns.fetch_max(now_ns, Ordering::Relaxed).max(now_ns))
    }
}

/// Forgets a key at the end of a reset, however that ends: it may have been carried out.
struct ForgetAtEnd<'a>(&'a Known, Digest);

impl Drop for ForgetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl<S: Store, C: Clock + 'static> Store for DenialCache<S, C> {
    async fn charge(
        &self,
        charges: &[Charge<'_>],
        request_id: Option<&str>,
    ) -> Result<Charged, StoreError> {
        // A check with an id may be the repetition of one that was admitted; only the store knows.
        // SeqCst: see `Invalidations`.
        if request_id.is_some() || !self.known.any_connected.load(Ordering::SeqCst) {
            return self.store.charge(charges, request_id).await;
        }
        // Before the store is asked: its wait began later than this.
        let sent = self.now();
        let asked = match self.known.look(charges, sent) {
            Look::Denied(verdicts) => {
                self.observer.denied_locally();
                return Ok(verdicts.into());
            }
            Look::Ask(asked) => asked,
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
        // Time is read so that it is never behind what the store has seen.
        self.now();
        self.store.peek(charges).await
    }

    fn keeps_order(&self) -> bool {
        self.store.keeps_order()
    }

    async fn reset(&self, limit: &Limit, subject: &Subject<'_>) -> Result<(), StoreError> {
        // Forgotten after the store has reset, and what was asked before then is not learned from.
        let _forget = ForgetAtEnd(&self.known, self.known.digest(limit, subject));
        self.store.reset(limit, subject).await
    }

    async fn finish(&self) {
        self.store.finish().await;
    }
}

#[cfg(test)]
#[path = "denial_cache_tests.rs"]
mod tests;
