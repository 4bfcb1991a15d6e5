//! The list of live leases: for people who look, so it may take longer than a check, and costs Redis nothing meanwhile.
//!
//! No key names all leases, because every reservation would have to write it. So the keys of every primary are scanned, a few at a
//! time, and the records of leases among them are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::Cmd;
use tokio::time::Instant;
use tollgate_core::{Clock, Timestamp};
use tollgate_store::{LeaseId, LiveLease, LiveLeases, StoreError, StoreErrorKind};

use super::id::tags_of;
use super::record::Record;
use crate::call::Progress;
use crate::errors::{kind_of, store_error, with_remedy};
use crate::key::tag_of;
use crate::link::{Failure, Link};
use crate::rights::{Lack, pattern};
use crate::store::RedisStore;

/// How long the primaries are scanned.
const SCAN_FOR: Duration = Duration::from_secs(2);
/// How many keys Redis visits in one call: about 0.2 ms.
const VISITED_AT_ONCE: u32 = 500;
/// How many records are read in one call.
const READ_AT_ONCE: usize = 50;
/// The most records that are read of one primary.
const MAX_READ: usize = 200_000;

/// The oldest leases that were found, by the time of their reservation. A scan may find one twice.
struct Oldest {
    most: usize,
    found: BTreeMap<(Timestamp, String), Record>,
    is_complete: bool,
}

impl Oldest {
    fn add(&mut self, record: Record, id: &LeaseId) {
        self.found.insert((record.reserved_at(), id.to_string()), record);
        if self.found.len() > self.most {
            self.is_complete = false;
            self.found.pop_last();
        }
    }
}

impl RedisStore {
    /// [`Store::live_leases`](tollgate_store::Store::live_leases). Fails only if no primary answers; the list of some is not
    /// complete.
    pub(crate) async fn live_leases_of_all(&self, most: usize) -> Result<LiveLeases, StoreError> {
        let deadline = Instant::now() + SCAN_FOR;
        let mut oldest = Oldest { most, found: BTreeMap::new(), is_complete: true };
        let (mut now, mut failed) = (None, None);
        for link in self.topology.primaries().await? {
            match self.scan(&link, deadline, &mut oldest).await {
                Ok(time) => now = now.max(Some(time)),
                Err(error) => {
                    oldest.is_complete = false;
                    failed = Some(error);
                }
            }
        }
        let Some(now) = now else {
            let context = "no primary has a slot";
            let unknown = || StoreError::new(StoreErrorKind::Unavailable, context);
            return Err(failed.unwrap_or_else(unknown));
        };
        let mut leases: Vec<LiveLease> = Vec::with_capacity(oldest.found.len());
        for record in oldest.found.into_values() {
            let others = self.records_elsewhere(&record).await?;
            leases.extend(record.live(&others, now));
        }
        Ok(LiveLeases { leases, is_complete: oldest.is_complete })
    }

    /// Adds the live leases of one primary, and returns its time.
    async fn scan(
        &self,
        link: &Arc<Link>,
        deadline: Instant,
        oldest: &mut Oldest,
    ) -> Result<Timestamp, StoreError> {
        let of_leases = self.keys.of_leases();
        let matching = format!("{}*", pattern(&of_leases));
        let now = self.time_at(link).await?;
        let (mut cursor, mut read) = (String::from("0"), 0);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&matching).arg("COUNT").arg(VISITED_AT_ONCE);
            let (next, keys): (String, Vec<String>) = self.answer_of(link, &scan).await?;
            read += keys.len();
            for keys in keys.chunks(READ_AT_ONCE) {
                for (key, bytes) in keys.iter().zip(self.values(link, keys).await?) {
                    if let Some(bytes) = bytes {
                        self.add_lease(key, &bytes, now, oldest);
                    }
                }
            }
            cursor = next;
            if cursor == "0" {
                return Ok(now);
            }
            if Instant::now() >= deadline || read >= MAX_READ {
                oldest.is_complete = false;
                return Ok(now);
            }
        }
    }

    /// Adds the lease in the record `bytes`, if it is alive and this is the first of its records. What cannot be read may be a lease
    /// that is missing.
    fn add_lease(&self, key: &str, bytes: &[u8], now: Timestamp, oldest: &mut Oldest) {
        let Some(record) = Record::read(bytes, &self.keys) else {
            oldest.is_complete = false;
            return;
        };
        let Some(id) = record.open.as_ref().map(|open| open.id.clone()) else { return };
        let is_first = tags_of(&id, self.keys.tagged)
            .is_some_and(|tags| tags.first().is_some_and(|tag| *tag == tag_of(key)));
        if is_first && record.changing.head.is_live(now) {
            oldest.add(record, &id);
        }
    }

    /// What a lease holds in other slots than its first.
    async fn records_elsewhere(&self, first: &Record) -> Result<Vec<Record>, StoreError> {
        let Some(open) = &first.open else { return Ok(Vec::new()) };
        let tags = tags_of(&open.id, self.keys.tagged).unwrap_or_default();
        let mut others = Vec::new();
        for tag in tags.iter().skip(1) {
            let (place, progress) = (self.place_of(&open.id, tag), Progress::default());
            let record = self.in_time(&progress, false, self.record(&place, &progress)).await?;
            others.extend(record);
        }
        Ok(others)
    }

    async fn time_at(&self, link: &Arc<Link>) -> Result<Timestamp, StoreError> {
        if let Some(clock) = &self.test_clock {
            return Ok(clock.now());
        }
        let (seconds, us): (u64, u64) = self.answer_of(link, &redis::cmd("TIME")).await?;
        Ok(Timestamp::from_ns((seconds * 1_000_000 + us) * 1_000))
    }

    async fn answer_of<T: redis::FromRedisValue>(
        &self,
        link: &Arc<Link>,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        match link.query_within(self.deadline, command).await {
            Ok(answer) => Ok(answer),
            Err(Failure::NotSent(error)) => Err(error),
            Err(Failure::Redis(error)) => {
                let is_forbidden = kind_of(&error) == StoreErrorKind::Forbidden;
                let detail = error.detail().filter(|_| is_forbidden);
                // Updates use the other commands too.
                match detail.and_then(|detail| Lack::of("scan", &format!("NOPERM {detail}"))) {
                    Some(lack) => {
                        let place = self.examiner.data_node(link);
                        let problem = self.examiner.lacking(&place, &[lack]);
                        let error = StoreError::new(StoreErrorKind::Forbidden, problem.to_string());
                        Err(with_remedy(error).within(link.domain))
                    }
                    None => Err(store_error(link, &error, &[])),
                }
            }
        }
    }

    /// The values of `keys`, each read by a command of its own, because they may lie in several slots. A value of another type is
    /// empty.
    async fn values(
        &self,
        link: &Arc<Link>,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        try_join_all(keys.iter().map(|key| async move {
            let mut get = redis::cmd("GET");
            get.arg(key);
            match self.answer_of(link, &get).await {
                Err(error) if error.kind() == StoreErrorKind::ForeignKey => Ok(Some(Vec::new())),
                answer => answer,
            }
        }))
        .await
    }
}
