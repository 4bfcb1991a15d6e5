//! What a node remembers of users, tenants and API keys: bounded, loaded once however many ask, negative answers
//! too. What is remembered is answered without the database; while that is down, the last known answer stands.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, UnitWeighter};
use tollgate_core::{Timestamp, WallClock as _};

use super::DatabaseOptions;
use super::gate::Gate;
use super::rows::{as_ms, decode};
use super::session::Pool;
use super::statements;
use super::subject::{Subject, is_about_the_row};
use crate::api_key::KeyHash;
use crate::directory::{Id, Kind};
use crate::resolve::{Answer, Facts, KeyFacts, TenantFacts, UserFacts};

/// When an API key was last used, in milliseconds of civil time since the Unix epoch; 0 for not since this node knows it.
#[derive(Debug, Default)]
struct LastUse {
    used_ms: AtomicU64,
    recorded_ms: AtomicU64,
}

/// One remembered answer.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    facts: Option<T>,
    loaded_at: Timestamp,
    /// The generation of what was known when it was loaded; an entry of an older one is not believed.
    generation: AtomicU64,
    /// Whether a task refreshes it already.
    is_refreshing: AtomicBool,
    last_use: Arc<LastUse>,
}

impl<T> Entry<T> {
    /// What is known; `None` if there is no such subject.
    pub(crate) fn facts(&self) -> Option<&T> {
        self.facts.as_ref()
    }
}

/// Remembers users, tenants and API keys.
#[derive(Debug)]
pub(crate) struct SubjectCache {
    pub(super) keys: Cache<KeyHash, Arc<Entry<KeyFacts>>>,
    pub(super) users: Cache<Id, Arc<Entry<UserFacts>>>,
    pub(super) tenants: Cache<Id, Arc<Entry<TenantFacts>>>,
    #[cfg(test)]
    model: Cache<u8, Arc<Entry<model::Version>>>,
    pool: Pool,
    options: DatabaseOptions,
    gate: Gate,
    /// Raised when nobody can say what changed, so that every entry is asked for again.
    generation: AtomicU64,
    /// Raised before each change of entries, so that what was read before it and comes after it is noticed.
    epoch: AtomicU64,
    /// How often the database was asked, for tests of single flight.
    loads: AtomicU64,
    /// False only while it is certain that there is no user, tenant or API key: then nobody is looked up.
    has_subjects: AtomicBool,
}

/// The database did not answer.
struct NoAnswer;

/// The place of what is being loaded, in a cache as [`Cache`] is by default.
type Place<'a, K, V> =
    PlaceholderGuard<'a, K, V, UnitWeighter, DefaultHashBuilder, DefaultLifecycle<K, V>>;

/// The place of an entry that is being loaded, and what was known before.
///
/// However loading ends, also when nobody waits for it any more, what was known is put back unless there is better: it is
/// the last known answer.
struct Loading<'a, T: Subject> {
    place: Option<Place<'a, T::Key, Arc<Entry<T>>>>,
    known: Option<Arc<Entry<T>>>,
}

impl<T: Subject> Loading<'_, T> {
    /// Puts `entry` into the place, unless somebody has put something there that is newer.
    fn loaded(mut self, entry: Arc<Entry<T>>) {
        self.known = Some(entry);
    }
}

impl<T: Subject> Drop for Loading<'_, T> {
    fn drop(&mut self) {
        if let (Some(place), Some(entry)) = (self.place.take(), self.known.take()) {
            // Refused if the place is gone: then a change has put its own there.
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
            gate: Gate::new(options.retry_every),
            options: options.clone(),
            generation: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            has_subjects: AtomicBool::new(true),
        }
    }

    /// Asks whether there is anybody to look up. To be called after the version that is followed was read: so a change
    /// that this does not see yet is one that follows.
    pub(super) async fn ask_whether_empty(&self) -> sqlx::Result<()> {
        let row = self.pool.row(statements::HAS_TENANTS, &[]).await?;
        let count = row.ok_or(sqlx::Error::RowNotFound)?.integer(0)?;
        // Release: with the Acquire of `find`.
        self.has_subjects.store(count > 0, Ordering::Release);
        Ok(())
    }

    /// Civil time.
    pub(crate) fn wall_time(&self) -> Timestamp {
        self.options.wall_clock.wall_time()
    }

    /// What is known of the API key with this hash, which is being used: `used_at` in civil time.
    pub(crate) async fn key(
        self: &Arc<Self>,
        hash: KeyHash,
        now: Timestamp,
        used_at: Timestamp,
    ) -> Answer<KeyFacts> {
        let answer = self.find(&hash, now, || Some(hash)).await;
        if let Facts::Remembered(entry) = &answer.facts
            && entry.facts.is_some()
        {
            // Only a time for people: no order with anything else is needed.
            entry.last_use.used_ms.store(used_at.as_ns() / 1_000_000, Ordering::Relaxed);
        }
        answer
    }

    /// What is known of the user `id`.
    pub(crate) async fn user(self: &Arc<Self>, id: &str, now: Timestamp) -> Answer<UserFacts> {
        self.find(id, now, || Id::new(id).ok()).await
    }

    /// What is known of the tenant `id`.
    pub(crate) async fn tenant(self: &Arc<Self>, id: &str, now: Timestamp) -> Answer<TenantFacts> {
        self.find(id, now, || Id::new(id).ok()).await
    }

    /// Whether the database answered when it was last asked.
    pub(super) fn gate(&self) -> &Gate {
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
    ) -> Answer<T>
    where
        T: Subject,
        T::Key: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.has_subjects.load(Ordering::Acquire) {
            return Answer::default();
        }
        let known = T::cache(self).get(asked);
        if let Some(entry) = known.as_ref().filter(|entry| self.is_believed(entry)) {
            if self.is_old(entry, now)
                && !entry.is_refreshing.swap(true, Ordering::Relaxed)
                && let Some(key) = key()
            {
                self.refresh_beside::<T>(key, Arc::clone(entry), now);
            }
            return Answer::remembered(known, false);
        }
        // What is no id is nobody's.
        let Some(key) = key() else {
            return Answer::default();
        };
        // Boxed: what loads is deep and large, and most checks do not load.
        match Box::pin(self.load::<T>(key, now)).await {
            Ok(entry) => Answer::remembered(Some(entry), false),
            Err(NoAnswer) => Answer::remembered(known, true),
        }
    }

    fn is_believed<T>(&self, entry: &Entry<T>) -> bool {
        // Acquire: who sees the new generation of an entry sees the change that raised it.
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

    /// Loads what `key` stands for again in a task of its own, while the old answer stands.
    fn refresh_beside<T: Subject>(
        self: &Arc<Self>,
        key: T::Key,
        entry: Arc<Entry<T>>,
        now: Timestamp,
    ) {
        let subjects = Arc::clone(self);
        tokio::spawn(async move { subjects.refresh(key, &entry, now).await });
    }

    async fn refresh<T: Subject>(&self, key: T::Key, entry: &Entry<T>, now: Timestamp) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Without an answer the next check tries again, which the gate spaces out.
        if let Ok(fresh) = self.ask::<T>(&key, Some(entry), now).await {
            T::cache(self).insert(key, Arc::clone(&fresh));
            self.doubt_if_changed_since(epoch, &fresh);
        }
        entry.is_refreshing.store(false, Ordering::Relaxed);
    }

    /// Loads what `key` stands for, unless somebody has meanwhile: of all who ask at once, one asks the database.
    async fn load<T: Subject>(
        &self,
        key: T::Key,
        now: Timestamp,
    ) -> Result<Arc<Entry<T>>, NoAnswer> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let found = T::cache(self).entry_async(&key, |_, entry: &mut Arc<Entry<T>>| {
            if self.is_believed(entry) {
                EntryAction::Retain(Arc::clone(entry))
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let (place, known) = match found.await {
            EntryResult::Retained(entry) => return Ok(entry),
            EntryResult::Replaced(place, known) => (place, Some(known)),
            EntryResult::Vacant(place) => (place, None),
            // Neither is asked for.
            EntryResult::Removed(..) | EntryResult::Timeout => return Err(NoAnswer),
        };
        let loading = Loading { place: Some(place), known };
        let entry = self.ask::<T>(&key, loading.known.as_deref(), now).await?;
        loading.loaded(Arc::clone(&entry));
        self.doubt_if_changed_since(epoch, &entry);
        Ok(entry)
    }

    /// Makes the next who asks for `entry` load it again if something has changed since `epoch`, when the database was
    /// asked: the change may be newer than the answer, and has not found the entry to change it.
    fn doubt_if_changed_since<T>(&self, epoch: u64, entry: &Entry<T>) {
        if self.epoch.load(Ordering::Acquire) != epoch {
            entry.generation.store(0, Ordering::Release);
        }
    }

    /// Asks the database, within the deadline and unless it is known to be down.
    async fn ask<T: Subject>(
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
            // One row that cannot be read is no reason to spare the database.
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

    /// Everything is asked for again when it is next needed, because nobody can say what changed.
    pub(super) fn doubt_all(&self) {
        self.has_subjects.store(true, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes note that these changed, and loads again those that are remembered, so that no check has to wait.
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
                Kind::User => self.reload::<UserFacts>(Id::checked(name.as_str()), now).await,
                Kind::Tenant => self.reload::<TenantFacts>(Id::checked(name.as_str()), now).await,
                _ => Ok(()),
            };
            reloaded?;
        }
        Ok(())
    }

    /// Before anything else of a change: see `load`.
    fn begin_change(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    async fn reload<T: Subject>(&self, key: T::Key, now: Timestamp) -> sqlx::Result<()> {
        let cache = T::cache(self);
        let Some(existing) = cache.get(&key) else { return Ok(()) };
        let facts = match T::load(&self.pool, &key).await {
            Ok(facts) => facts,
            // The next who asks is told that there is no answer; others' changes must not wait for this row.
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

    /// Writes when API keys were last used, those that were since this was last done. What was used and has been
    /// forgotten since is lost: it is a time for people.
    ///
    /// A later time that another node has written stands, unless it is in the future: that was written while somebody's
    /// clock was wrong.
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
    let kind = Kind::parse(&row.text(1)?).ok_or_else(|| decode("is no kind"))?;
    Ok((kind, row.text(2)?))
}

#[cfg(test)]
#[path = "cache_model.rs"]
mod model;
