//! Leases in a snapshot.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tollgate_core::lease::ledger::{Ending, LeaseHead};
use tollgate_core::{
    Amount, Calendar, Counting, Limit, Mode, OnExpire, OverLimit, Per, Policy, PolicyId, Timestamp,
    TokenKind, Totals, Ttl, Unit, Weight, Weights, Window, Zone,
};

use super::super::digest::Digest;
use super::super::sync::Mutex;
use super::{Held, Hold, Lease, Leases, MAX_SHARDS, Part, Table, lock};

/// A [`Lease`] with its name, as a snapshot has it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::memory) struct SavedLease {
    place: u32,
    secret: u128,
    ending: SavedEnding,
    seq: u64,
    proceed: bool,
    ttl_ms: u64,
    expires_at_ns: u64,
    kept_until_ns: u64,
    longest_life_ns: u64,
    has_expired: bool,
    is_expiry_counted: bool,
    reserved_at_ns: u64,
    observed: Option<Vec<(String, u64)>>,
    note: Vec<u8>,
    named: Option<u128>,
    holds: Vec<SavedHold>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum SavedEnding {
    Open,
    Settled,
    Released,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedHold {
    limit: SavedLimit,
    fingerprint: u64,
    shard_bits: u64,
    held: SavedHeld,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedHeld {
    Parts(Vec<SavedPart>),
    Slot(bool),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct SavedPart {
    at_ns: u64,
    used_then: u64,
    cost: u64,
}

/// What a lease needs of its limits.
#[derive(Debug, Serialize, Deserialize)]
struct SavedLimit {
    policy_id: String,
    unit: String,
    /// Kinds of tokens, each with its weight in thousandths.
    weights: Vec<(String, u32)>,
    counting: SavedCounting,
    amount: u64,
    is_shadow: bool,
    charges_denied: bool,
    refunds: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedCounting {
    Log { window_ns: u64 },
    Counter { window_ns: u64 },
    Bucket { window_ns: u64, refill: u64 },
    Calendar { calendar: String, zone: String },
    Concurrency,
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl SavedLimit {
    fn of(limit: &Limit) -> Self {
        let counting = match limit.counting() {
            Counting::Log { window } => SavedCounting::Log { window_ns: window.as_ns() },
            Counting::Counter { window } => SavedCounting::Counter { window_ns: window.as_ns() },
            Counting::Bucket { window, refill } => {
                SavedCounting::Bucket { window_ns: window.as_ns(), refill: refill.get() }
            }
            Counting::Calendar { calendar, zone } => SavedCounting::Calendar {
                calendar: calendar.name().to_owned(),
                zone: zone.name().to_owned(),
            },
            Counting::Concurrency => SavedCounting::Concurrency,
        };
        Self {
            policy_id: limit.policy_id().to_string(),
            unit: limit.unit().to_string(),
            weights: limit
                .weights()
                .given()
                .map(|(kind, weight)| (kind.name().to_owned(), weight.thousandths()))
                .collect(),
            counting,
            amount: limit.amount().get(),
            is_shadow: limit.mode() == Mode::Shadow,
            charges_denied: limit.over_limit() == OverLimit::Charge,
            refunds: limit.refunds_expired(),
        }
    }

    fn restored(&self) -> Option<Limit> {
        let window = |ns| Window::new(Duration::from_nanos(ns));
        let counting = match &self.counting {
            SavedCounting::Log { window_ns } => Counting::Log { window: window(*window_ns)? },
            SavedCounting::Counter { window_ns } => {
                Counting::Counter { window: window(*window_ns)? }
            }
            SavedCounting::Bucket { window_ns, refill } => {
                Counting::Bucket { window: window(*window_ns)?, refill: Amount::new(*refill)? }
            }
            SavedCounting::Calendar { calendar, zone } => Counting::Calendar {
                calendar: Calendar::parse(calendar)?,
                zone: Zone::named(zone)?,
            },
            SavedCounting::Concurrency => Counting::Concurrency,
        };
        let mut weights = Weights::default();
        for (kind, thousandths) in &self.weights {
            weights.set(TokenKind::parse(kind)?, Weight::of_thousandths(*thousandths)?);
        }
        let id = PolicyId::new(&self.policy_id).ok()?;
        let any_window = Window::new(Window::MIN)?;
        // Its key is known by its digest.
        let per = Per::from_scope("GLOBAL")?;
        let policy = Policy::new(id, per, Some(Amount::new(self.amount)?), any_window);
        Limit::of(&Policy {
            unit: Unit::parse(&self.unit)?,
            weights,
            counting,
            mode: if self.is_shadow { Mode::Shadow } else { Mode::Enforce },
            over_limit: if self.charges_denied { OverLimit::Charge } else { OverLimit::Deny },
            on_expire: if self.refunds { OnExpire::Refund } else { OnExpire::Keep },
            ..policy
        })
    }
}

impl SavedHold {
    fn of(hold: &Hold) -> Self {
        let saved = match &hold.held {
            Held::Slot(taken) => SavedHeld::Slot(*taken),
            Held::Parts(parts) => SavedHeld::Parts(
                parts
                    .iter()
                    .map(|part| SavedPart {
                        at_ns: part.at.as_ns(),
                        used_then: part.used_then,
                        cost: part.cost,
                    })
                    .collect(),
            ),
        };
        let Digest { fingerprint, shard_bits } = hold.digest;
        Self { limit: SavedLimit::of(&hold.limit), fingerprint, shard_bits, held: saved }
    }

    fn restored(&self) -> Option<Hold> {
        let held = match &self.held {
            SavedHeld::Slot(taken) => Held::Slot(*taken),
            SavedHeld::Parts(parts) => Held::Parts(
                parts
                    .iter()
                    .map(|part| Part {
                        at: Timestamp::from_ns(part.at_ns),
                        used_then: part.used_then,
                        cost: part.cost,
                    })
                    .collect(),
            ),
        };
        let digest = Digest { fingerprint: self.fingerprint, shard_bits: self.shard_bits };
        Some(Hold { limit: Arc::new(self.limit.restored()?), digest, held })
    }
}

impl SavedLease {
    fn of(place: u32, secret: u128, lease: &Lease) -> Self {
        let LeaseHead { ending, seq, proceed, ttl, expires_at } = lease.head;
        let observed = lease.observed.as_deref().map(|totals| {
            totals.amounts().map(|(unit, amount)| (unit.to_string(), amount.get())).collect()
        });
        Self {
            place,
            secret,
            ending: match ending {
                Ending::Open => SavedEnding::Open,
                Ending::Settled => SavedEnding::Settled,
                Ending::Released => SavedEnding::Released,
            },
            seq: seq.get(),
            proceed,
            ttl_ms: ttl.as_ms(),
            expires_at_ns: expires_at.as_ns(),
            kept_until_ns: lease.kept_until.as_ns(),
            longest_life_ns: ns(lease.longest_life),
            has_expired: lease.has_expired,
            is_expiry_counted: lease.is_expiry_counted,
            reserved_at_ns: lease.reserved_at.as_ns(),
            observed,
            note: lease.note.to_vec(),
            named: lease.named,
            holds: lease.holds.iter().map(SavedHold::of).collect(),
        }
    }

    fn restored(self) -> Option<(u32, u128, Lease)> {
        let ending = match self.ending {
            SavedEnding::Open => Ending::Open,
            SavedEnding::Settled => Ending::Settled,
            SavedEnding::Released => Ending::Released,
        };
        let head = LeaseHead {
            ending,
            seq: Amount::new(self.seq)?,
            proceed: self.proceed,
            ttl: Ttl::from_ms(self.ttl_ms)?,
            expires_at: Timestamp::from_ns(self.expires_at_ns),
        };
        let observed = match self.observed {
            None => None,
            Some(amounts) => {
                let mut totals = Totals::none();
                for (unit, amount) in amounts {
                    totals.set(Unit::parse(&unit)?, Amount::new(amount)?);
                }
                Some(Box::new(totals))
            }
        };
        let holds: Option<SmallVec<[Hold; 1]>> =
            self.holds.iter().map(SavedHold::restored).collect();
        let lease = Lease {
            head,
            kept_until: Timestamp::from_ns(self.kept_until_ns),
            longest_life: Duration::from_nanos(self.longest_life_ns),
            has_expired: self.has_expired,
            is_expiry_counted: self.is_expiry_counted,
            holds: holds?,
            reserved_at: Timestamp::from_ns(self.reserved_at_ns),
            observed,
            note: self.note.into(),
            named: self.named,
        };
        Some((self.place, self.secret, lease))
    }
}

impl Leases {
    pub(in crate::memory) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// No leases, in as many shards as a snapshot says: ids lead to them.
    pub(in crate::memory) fn with_shards(
        shards: usize,
        max_leases: usize,
        max_ended: usize,
    ) -> Option<Self> {
        let is_possible = shards.is_power_of_two() && shards <= MAX_SHARDS;
        is_possible.then(|| Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_per_shard: (max_leases / shards).max(1),
            max_ended_per_shard: (max_ended / shards).max(1),
            ..Self::new(max_leases, max_ended)
        })
    }

    /// The leases of the `count` places of a shard from `first`; `None` after its last place.
    pub(in crate::memory) fn saved(
        &self,
        shard: usize,
        first: usize,
        count: usize,
    ) -> Option<Vec<SavedLease>> {
        let shard = lock(&self.shards[shard]);
        let places = shard.places.get(first..)?;
        if places.is_empty() {
            return None;
        }
        let kept = (first..).zip(places.iter().take(count)).filter_map(|(place, kept)| {
            let (secret, lease) = kept.as_ref()?;
            Some(SavedLease::of(u32::try_from(place).ok()?, *secret, lease))
        });
        Some(kept.collect())
    }

    /// Puts a lease where it was, and calls `hold` for what it holds. `None` if no store wrote it. A lease whose place is beyond
    /// the bound is forgotten.
    pub(in crate::memory) fn restore(
        &self,
        saved: SavedLease,
        hold: impl FnOnce(u128, &Lease),
    ) -> Option<()> {
        let (place, secret, lease) = saved.restored()?;
        let mut shard = self.shard(secret);
        let index = place as usize;
        if index >= self.max_per_shard {
            return Some(());
        }
        if shard.places.len() <= index {
            shard.places.resize_with(index + 1, || None);
        }
        hold(secret, &lease);
        shard.places[index] = Some((secret, lease));
        Some(())
    }

    /// Call it after the last lease was restored.
    pub(in crate::memory) fn restored(&self) {
        for shard in &self.shards {
            lock(shard).index();
        }
    }
}

impl Table {
    /// Finds the places that are free, and the leases that have ended.
    fn index(&mut self) {
        let mut ended = Vec::new();
        for (place, kept) in (0..).zip(&self.places) {
            match kept {
                None => self.free.push(place),
                Some((_, lease)) if lease.head.ending != Ending::Open => {
                    ended.push((lease.kept_until, place));
                }
                Some(_) => {}
            }
        }
        ended.sort_unstable();
        self.ended = ended.into();
    }
}
