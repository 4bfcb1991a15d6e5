//! The cache of users, tenants and API keys, including ids that do not exist. It is bounded, and loads a record once,
//! however many checks ask for it. Cached records are used without asking the database; if the database is down, the
//! last known record is used.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, UnitWeighter};
use tollgate_core::{Timestamp, WallClock as _};

use super::DatabaseOptions;
use super::cached_record::{CachedRecord, UserKey, is_about_the_row};
use super::retry_gate::RetryGate;
use super::rows::{as_ms, decode};
use super::session::Pool;
use super::statements;
use crate::api_key::KeyHash;
use crate::directory::{Address, Id, Kind};
use crate::resolve::{Facts, KeyFacts, SubjectLookup, TenantFacts, UserFacts};

/// When an API key was last used, in milliseconds of civil time since the Unix epoch; 0 if it was not used since this
/// node knows it.
#[derive(Debug, Default)]
struct LastUse {
    used_ms: AtomicU64,
    recorded_ms: AtomicU64,
}

/// One cached answer.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    facts: Option<T>,
    loaded_at: Timestamp,
    /// The generation in which it was loaded; entries of older generations are stale.
    generation: AtomicU64,
    /// Whether a task is already refreshing it.
    is_refreshing: AtomicBool,
    last_use: Arc<LastUse>,
}

impl<T> Entry<T> {
    /// What is known; `None` if there is no such subject.
    pub(crate) fn facts(&self) -> Option<&T> {
        self.facts.as_ref()
    }
}

/// Caches users, tenants and API keys.
#[derive(Debug)]
pub(crate) struct SubjectCache {
    pub(super) keys: Cache<KeyHash, Arc<Entry<KeyFacts>>>,
    pub(super) users: Cache<UserKey, Arc<Entry<UserFacts>>>,
    pub(super) tenants: Cache<Id, Arc<Entry<TenantFacts>>>,
    #[cfg(test)]
    model: Cache<u8, Arc<Entry<model::Version>>>,
    pool: Pool,
    options: DatabaseOptions,
    gate: RetryGate,
    /// Raised when it is unknown what changed, so that every entry is loaded again.
    generation: AtomicU64,
    /// Raised before each change of entries, so that an answer that was read before the change and arrives after it is
    /// detected.
    epoch: AtomicU64,
    /// How often the database was asked, for tests of single flight.
    loads: AtomicU64,
    /// False only while it is certain that there is no user, tenant or API key: then nothing is looked up.
    has_subjects: AtomicBool,
}

/// The database did not answer.
struct NoAnswer;

/// The placeholder for a value that is being loaded, in the default kind of [`Cache`].
type Place<'a, K, V> =
    PlaceholderGuard<'a, K, V, UnitWeighter, DefaultHashBuilder, DefaultLifecycle<K, V>>;

/// The placeholder for an entry that is being loaded, and the previous answer.
///
/// However the loading ends, even if nobody waits for it any more, the previous answer is put back unless there is a
/// newer one: it is the last known answer.
struct Loading<'a, T: CachedRecord> {
    place: Option<Place<'a, T::Key, Arc<Entry<T>>>>,
    known: Option<Arc<Entry<T>>>,
}

impl<T: CachedRecord> Loading<'_, T> {
    /// Puts `entry` into the place of the placeholder, unless something newer is there.
    fn loaded(mut self, entry: Arc<Entry<T>>) {
        self.known = Some(entry);
    }
}

impl<T: CachedRecord> Drop for Loading<'_, T> {
    fn drop(&mut self) {
        if let (Some(place), Some(entry)) = (self.place.take(), self.known.take()) {
            // It is refused if the placeholder is gone, because then a change has stored its own entry.
            _ = place.insert(entry);
        }
    }
}

impl SubjectCache {
    pub(super) fn new(pool: Pool, options: &DatabaseOptions) -> Self {
        let entries = usize::try_from(options.cached_subjects).unwrap_or(usize::MAX);
        Self {
            keys: Cache::new(entries),
            users: Cache::new(entries),
            tenants: Cache::new(entries),
            #[cfg(test)]
            model: Cache::new(entries),
            pool,
            gate: RetryGate::new(options.retry_every),
            options: options.clone(),
            generation: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            has_subjects: AtomicBool::new(true),
        }
    }

    /// Checks whether there is anything to look up. Call it after reading the version to follow: then a change that
    /// this does not see yet has a later version.
    pub(super) async fn ask_whether_empty(&self) -> sqlx::Result<()> {
        let row = self.pool.row(statements::HAS_TENANTS, &[]).await?;
        let count = row.ok_or(sqlx::Error::RowNotFound)?.integer(0)?;
        // Release: pairs with the Acquire of `find`.
        self.has_subjects.store(count > 0, Ordering::Release);
        Ok(())
    }

    /// Civil time.
    pub(crate) fn wall_time(&self) -> Timestamp {
        self.options.wall_clock.wall_time()
    }

    /// What is known about the API key with this hash, which is being used: `used_at` in civil time.
    pub(crate) async fn key(
        self: &Arc<Self>,
        hash: KeyHash,
        now: Timestamp,
        used_at: Timestamp,
    ) -> SubjectLookup<KeyFacts> {
        let answer = self.find(&hash, now, || Some(hash)).await;
        if let Facts::Remembered(entry) = &answer.facts
            && entry.facts.is_some()
        {
            // The time is only informative, so it needs no order with anything else.
            entry.last_use.used_ms.store(used_at.as_ns() / 1_000_000, Ordering::Relaxed);
        }
        answer
    }

    /// What is known about the user `id`.
    pub(crate) async fn user(
        self: &Arc<Self>,
        tenant: Option<&str>,
        id: &str,
        now: Timestamp,
    ) -> SubjectLookup<UserFacts> {
        // A value that is not a valid id belongs to no subject.
        let Some(key) = UserKey::new(tenant, id) else { return SubjectLookup::default() };
        self.find(&key, now, || Some(key.clone())).await
    }

    /// What is known about the tenant `id`.
    pub(crate) async fn tenant(
        self: &Arc<Self>,
        id: &str,
        now: Timestamp,
    ) -> SubjectLookup<TenantFacts> {
        self.find(id, now, || Id::new(id).ok()).await
    }

    /// Whether the database answered the last time it was asked.
    pub(super) fn gate(&self) -> &RetryGate {
        &self.gate
    }

    /// How often the database was asked for a subject.
    pub(super) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    async fn find<T, Q>(
        self: &Arc<Self>,
        asked: &Q,
        now: Timestamp,
        key: impl FnOnce() -> Option<T::Key>,
    ) -> SubjectLookup<T>
    where
        T: CachedRecord,
        T::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.has_subjects.load(Ordering::Acquire) {
            return SubjectLookup::default();
        }
        let known = T::cache(self).get(asked);
        if let Some(entry) = known.as_ref().filter(|entry| self.is_current(entry)) {
            if self.is_old(entry, now)
                && !entry.is_refreshing.swap(true, Ordering::Relaxed)
                && let Some(key) = key()
            {
                self.refresh_in_background::<T>(key, Arc::clone(entry), now);
            }
            return SubjectLookup::remembered(known, false);
        }
        // A value that is not a valid id belongs to no subject.
        let Some(key) = key() else {
            return SubjectLookup::default();
        };
        // Boxed: the future that loads a record is large, and most checks do not need it.
        match Box::pin(self.load::<T>(key, now)).await {
            Ok(entry) => SubjectLookup::remembered(Some(entry), false),
            Err(NoAnswer) => SubjectLookup::remembered(known, true),
        }
    }

    fn is_current<T>(&self, entry: &Entry<T>) -> bool {
        // Acquire: a thread that sees the new generation of an entry also sees the change that raised it.
        entry.generation.load(Ordering::Acquire) == self.generation.load(Ordering::Acquire)
    }

    fn is_old<T>(&self, entry: &Entry<T>, now: Timestamp) -> bool {
        let lives = if entry.facts.is_some() {
            self.options.refresh_after
        } else {
            self.options.refresh_unknown_after
        };
        entry.loaded_at.after(lives) <= now
    }

    /// Reloads `key` in a separate task; until then the old answer is used.
    fn refresh_in_background<T: CachedRecord>(
        self: &Arc<Self>,
        key: T::Key,
        entry: Arc<Entry<T>>,
        now: Timestamp,
    ) {
        let subjects = Arc::clone(self);
        tokio::spawn(async move { subjects.refresh(key, &entry, now).await });
    }

    async fn refresh<T: CachedRecord>(&self, key: T::Key, entry: &Entry<T>, now: Timestamp) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // If it gets no answer, the next check tries again; the gate limits how often.
        if let Ok(fresh) = self.ask::<T>(&key, Some(entry), now).await {
            T::cache(self).insert(key, Arc::clone(&fresh));
            self.doubt_if_changed_since(epoch, &fresh);
        }
        entry.is_refreshing.store(false, Ordering::Relaxed);
    }

    /// Loads `key`, unless another task has done so meanwhile: of all that ask at once, only one asks the database.
    async fn load<T: CachedRecord>(
        &self,
        key: T::Key,
        now: Timestamp,
    ) -> Result<Arc<Entry<T>>, NoAnswer> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let found = T::cache(self).entry_async(&key, |_, entry: &mut Arc<Entry<T>>| {
            if self.is_current(entry) {
                EntryAction::Retain(Arc::clone(entry))
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let (place, known) = match found.await {
            EntryResult::Retained(entry) => return Ok(entry),
            EntryResult::Replaced(place, known) => (place, Some(known)),
            EntryResult::Vacant(place) => (place, None),
            // Neither is loaded from the database.
            EntryResult::Removed(..) | EntryResult::Timeout => return Err(NoAnswer),
        };
        let loading = Loading { place: Some(place), known };
        let entry = self.ask::<T>(&key, loading.known.as_deref(), now).await?;
        loading.loaded(Arc::clone(&entry));
        self.doubt_if_changed_since(epoch, &entry);
        Ok(entry)
    }

    /// Makes the next check that uses `entry` reload it, if something has changed since `epoch`, when the database was
    /// asked. The change may be newer than the answer, and could not update an entry that was not there yet.
    fn doubt_if_changed_since<T>(&self, epoch: u64, entry: &Entry<T>) {
        if self.epoch.load(Ordering::Acquire) != epoch {
            entry.generation.store(0, Ordering::Release);
        }
    }

    /// Asks the database, within the deadline and unless it is known to be down.
    async fn ask<T: CachedRecord>(
        &self,
        key: &T::Key,
        existing: Option<&Entry<T>>,
        now: Timestamp,
    ) -> Result<Arc<Entry<T>>, NoAnswer> {
        if !self.gate.may_try(now) {
            return Err(NoAnswer);
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        let generation = self.generation.load(Ordering::Acquire);
        let loading = tokio::time::timeout(self.options.load_timeout, T::load(&self.pool, key));
        let facts = match loading.await {
            Ok(Ok(facts)) => facts,
            // One malformed row is no reason to stop asking the database.
            Ok(Err(error)) if is_about_the_row(&error) => return Err(NoAnswer),
            Ok(Err(_)) | Err(_) => {
                self.gate.failed(now);
                return Err(NoAnswer);
            }
        };
        self.gate.succeeded();
        Ok(Arc::new(Entry {
            facts,
            loaded_at: now,
            generation: AtomicU64::new(generation),
            is_refreshing: AtomicBool::new(false),
            last_use: existing.map(|entry| Arc::clone(&entry.last_use)).unwrap_or_default(),
        }))
    }

    /// Marks every entry as stale because it is unknown what changed; each is loaded again when it is next needed.
    pub(super) fn invalidate_all(&self) {
        self.has_subjects.store(true, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that these have changed, and reloads those that are cached, so that no check has to wait.
    pub(super) async fn changed(
        &self,
        changed: &[(Kind, String)],
        now: Timestamp,
    ) -> sqlx::Result<()> {
        self.begin_change();
        if changed.iter().any(|(kind, _)| !kind.is_in_snapshot()) {
            self.has_subjects.store(true, Ordering::Release);
        }
        for (kind, name) in changed {
            let reloaded = match kind {
                Kind::ApiKey => match KeyHash::from_hex(name) {
                    Some(hash) => self.reload::<KeyFacts>(hash, now).await,
                    None => Ok(()),
                },
                Kind::User => self.reload_user(Address::parse(name), now).await,
                Kind::Tenant => self.reload::<TenantFacts>(Id::checked(name.as_str()), now).await,
                _ => Ok(()),
            };
            reloaded?;
        }
        Ok(())
    }

    /// This must come before everything else of a change: see `load`.
    /// Loads what is cached of a user again: as one of its tenants, and as one of any tenant.
    async fn reload_user(&self, address: Address<'_>, now: Timestamp) -> sqlx::Result<()> {
        for tenant in address.tenants().map(Some).chain([None]) {
            if let Some(key) = UserKey::new(tenant, address.id) {
                self.reload::<UserFacts>(key, now).await?;
            }
        }
        Ok(())
    }

    fn begin_change(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    async fn reload<T: CachedRecord>(&self, key: T::Key, now: Timestamp) -> sqlx::Result<()> {
        let cache = T::cache(self);
        let Some(existing) = cache.get(&key) else { return Ok(()) };
        let facts = match T::load(&self.pool, &key).await {
            Ok(facts) => facts,
            // The next check gets no answer for this row; changes of other records must not wait for it.
            Err(error) if is_about_the_row(&error) => {
                cache.remove(&key);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let entry = Entry {
            facts,
            loaded_at: now,
            generation: AtomicU64::new(self.generation.load(Ordering::Acquire)),
            is_refreshing: AtomicBool::new(false),
            last_use: Arc::clone(&existing.last_use),
        };
        cache.insert(key, Arc::new(entry));
        Ok(())
    }

    /// Writes when API keys were last used, for those used since the last call. If an entry was used and has been
    /// evicted since, its time is lost; the times are only informative.
    ///
    /// A later time that another node has written stays, unless it is in the future: then a clock was wrong when it was
    /// written.
    pub(super) async fn record_uses(&self) -> sqlx::Result<()> {
        let used: Vec<_> = self
            .keys
            .iter()
            .filter_map(|(hash, entry)| {
                let used_ms = entry.last_use.used_ms.load(Ordering::Relaxed);
                let recorded_ms = entry.last_use.recorded_ms.load(Ordering::Relaxed);
                (used_ms != recorded_ms).then(|| (hash, Arc::clone(&entry.last_use), used_ms))
            })
            .collect();
        for batch in used.chunks(self.options.uses_per_batch.max(1)) {
            let mut transaction = self.pool.begin_writing().await?;
            let now_ms = as_ms(self.wall_time());
            for (hash, _, used_ms) in batch {
                let hash = hash.to_hex();
                // It may be in the future, by a clock that was set back since.
                let used_ms = as_ms(Timestamp::from_ms(*used_ms)).min(now_ms);
                let arguments = [hash.as_str().into(), used_ms.into(), now_ms.into()];
                transaction.connection().execute(statements::RECORD_USE, &arguments).await?;
            }
            transaction.commit().await?;
            for (_, last_use, used_ms) in batch {
                last_use.recorded_ms.store(*used_ms, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// What changed, in a row of [`CHANGED_SINCE`](statements::CHANGED_SINCE).
pub(super) fn changed(row: &super::session::Row) -> sqlx::Result<(Kind, String)> {
    let kind = Kind::parse(&row.text(1)?).ok_or_else(|| decode("is not a kind"))?;
    Ok((kind, row.text(2)?))
}

#[cfg(test)]
#[path = "cache_model.rs"]
mod model;
