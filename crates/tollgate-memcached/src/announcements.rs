//! Announces to every node that usage of a key was given back, so that none answers a denial that does not hold any more.
//!
//! memcached publishes nothing, so the keys are in a value that each node reads twice a second: how many were announced so far,
//! and the last of them. A node that has missed some forgets all that it knows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::{SystemWallClock, WallClock};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::connection::Failure;
use crate::key::{KEY_ID_BYTES, KeyId};
use crate::link::jitter;
use crate::protocol::{Command, Condition, Reply};
use crate::store::Shared;

const MAGIC: &[u8; 4] = b"TGA\x01";
/// The most keys in the value.
const MAX_KEYS: usize = 512;
/// The most keys that wait to be announced. If there are more, every node forgets everything.
const MAX_WAITING: usize = 4_096;
/// The highest count of a value, so that it can rise: counts begin at nanoseconds since the Unix epoch.
const MAX_COUNT: u64 = 1 << 63;
/// How often a node reads the value: what is given back on one node is known to all about so much later.
const READ_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take here: no check waits for it.
const ANSWER: Duration = Duration::from_secs(1);
/// How long the value lives after the last announcement.
const LIFE: Duration = Duration::from_hours(1);
/// The longest wait between two attempts to announce.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// The keys that this process has to announce.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    waiting: Mutex<HashSet<KeyId>>,
    has_too_many: AtomicBool,
    is_running: AtomicBool,
}

/// The value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Announced {
    /// How many were announced so far. A new value begins so high that it is higher than that of an older one.
    count: u64,
    /// The last of them.
    last: Vec<KeyId>,
}

impl Announced {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        self.last.iter().for_each(|key| out.extend_from_slice(&key.0));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, keys) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        let (keys, rest) = keys.as_chunks::<KEY_ID_BYTES>();
        let last = keys.iter().map(|key| KeyId(*key)).collect();
        let count = u64::from_le_bytes(*count);
        (rest.is_empty() && count <= MAX_COUNT).then_some(Self { count, last })
    }

    fn add(&mut self, keys: &[KeyId], has_too_many: bool) {
        self.count += keys.len() as u64;
        self.last.extend_from_slice(keys);
        let surplus = self.last.len().saturating_sub(MAX_KEYS);
        self.last.drain(..surplus);
        if has_too_many {
            // As if so many had been announced.
            self.count += 2 * MAX_KEYS as u64;
            self.last.clear();
        }
    }

    /// The keys that were announced since `count`; `None` if they are not known any more.
    fn since(&self, count: u64) -> Option<&[KeyId]> {
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        self.last.get(self.last.len().checked_sub(missed)?..)
    }
}

impl Shared {
    /// Announces that usage of `key` was given back, in the background.
    pub(crate) fn announce(self: &Arc<Self>, key: KeyId) {
        let announcer = &self.announcer;
        {
            let mut waiting = announcer.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < MAX_WAITING {
                waiting.insert(key);
            } else {
                // SeqCst, here and below: rare, and what is set while the keys are taken must be seen.
                announcer.has_too_many.store(true, Ordering::SeqCst);
            }
        }
        if !announcer.is_running.swap(true, Ordering::SeqCst) {
            let (shared, running) = (Arc::clone(self), self.background.begin());
            tokio::spawn(async move {
                shared.announce_waiting().await;
                drop(running);
            });
        }
    }

    async fn announce_waiting(&self) {
        let announcer = &self.announcer;
        loop {
            let keys: Vec<KeyId> = {
                let mut waiting = announcer.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let keys = waiting.drain().collect::<Vec<_>>();
                if keys.is_empty() {
                    announcer.is_running.store(false, Ordering::SeqCst);
                    return;
                }
                keys
            };
            let has_too_many = announcer.has_too_many.swap(false, Ordering::SeqCst);
            let mut most = Duration::from_millis(1);
            while self.add_announcements(&keys, has_too_many).await.is_err() {
                tokio::time::sleep(jitter(most)).await;
                most = (most * 2).min(MAX_WAIT);
            }
        }
    }

    /// Adds `keys` to the value; an error if another node did so at the same time, or if memcached did not answer. To announce
    /// twice is harmless.
    async fn add_announcements(
        &self,
        keys: &[KeyId],
        has_too_many: bool,
    ) -> Result<(), StoreError> {
        let connection = self.link.connection().await?;
        let name = self.keys.announcements();
        let until = || Instant::now() + ANSWER;
        let get = Command::Get { key: &name };
        let reply = self.link.ask(&connection, &get, until()).await.map_err(Failure::of_read)?;
        let (found, condition) = match reply {
            Reply::Value(bytes, cas) => (Announced::decode(&bytes), Condition::Unchanged(cas)),
            _ => (None, Condition::Absent),
        };
        let new = || Announced { count: SystemWallClock.wall_time().as_ns(), last: Vec::new() };
        let mut announced = found.unwrap_or_else(new);
        announced.add(keys, has_too_many);
        let value = announced.encode();
        let expires_at_s = connection.expires_at_s(LIFE);
        let set = Command::Set { key: &name, value: &value, expires_at_s, condition };
        match self.link.ask(&connection, &set, until()).await.map_err(Failure::of_change)? {
            Reply::Done(_) => Ok(()),
            _ => Err(StoreError::new(StoreErrorKind::Unavailable, "another node announced")),
        }
    }

    /// Reads what is announced and forgets those keys; never returns. While nothing can be read, no denial is answered without
    /// memcached.
    pub(crate) async fn listen(&self) {
        let mut heard: Option<Heard> = None;
        loop {
            heard = self.hear(heard).await;
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// Reads the value, and forgets what was announced since it was `heard`.
    pub(crate) async fn hear(&self, heard: Option<Heard>) -> Option<Heard> {
        let read = self.read_announcements().await.ok();
        match &read {
            Some(read) => self.learn(heard.as_ref(), read),
            None => self.known.set_hears(false),
        }
        read
    }

    fn learn(&self, before: Option<&Heard>, now: &Heard) {
        let same = before.filter(|before| before.generation == now.generation);
        let news = same.and_then(|before| match (&before.announced, &now.announced) {
            (None, None) => Some([].as_slice()),
            (Some(before), Some(now)) => now.since(before.count),
            _ => None,
        });
        match news {
            // After an error nothing was learned until now.
            Some(keys) if self.known.hears() => keys.iter().for_each(|key| self.known.forget(key)),
            _ => self.known.set_hears(true),
        }
    }

    async fn read_announcements(&self) -> Result<Heard, StoreError> {
        let connection = self.link.connection().await?;
        let name = self.keys.announcements();
        let get = Command::Get { key: &name };
        let until = Instant::now() + ANSWER;
        let reply = self.link.ask(&connection, &get, until).await.map_err(Failure::of_read)?;
        let announced = match reply {
            Reply::Value(bytes, _) => Announced::decode(&bytes),
            _ => None,
        };
        Ok(Heard { generation: connection.generation, announced })
    }
}

/// What was read last.
pub(crate) struct Heard {
    /// The connection: after a restart memcached has lost the value.
    generation: u64,
    announced: Option<Announced>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyId {
        KeyId([byte; KEY_ID_BYTES])
    }

    #[test]
    fn a_node_learns_what_was_announced_since_it_read_last() {
        let mut announced = Announced { count: 100, last: Vec::new() };
        announced.add(&[key(1), key(2)], false);
        let read = Announced::decode(&announced.encode()).unwrap();
        assert_eq!(read, announced);
        announced.add(&[key(3)], false);
        assert_eq!(announced.since(read.count), Some([key(3)].as_slice()));
        assert_eq!(announced.since(announced.count), Some([].as_slice()));
        assert_eq!(announced.since(100).map(<[_]>::len), Some(3));
        assert_eq!(announced.since(99), None, "one was announced before the value was made");
        assert_eq!(announced.since(104), None, "of another value");
        announced.add(&vec![key(4); MAX_KEYS], false);
        assert_eq!(announced.last.len(), MAX_KEYS);
        assert_eq!(announced.since(103).map(<[_]>::len), Some(MAX_KEYS));
        assert_eq!(announced.since(102), None, "the first of them is forgotten");
        let count = announced.count;
        announced.add(&[key(5)], true);
        assert_eq!(announced.since(count), None, "too many");
    }

    #[test]
    fn another_value_is_not_one() {
        let too_high = [MAGIC.as_slice(), &[255; 8]].concat();
        for bytes in [&b""[..], b"TGA\x01", b"TGA\x0212345678", b"TGA\x01123456789", &too_high] {
            assert_eq!(Announced::decode(bytes), None);
        }
    }
}
