//! The cache under every schedule that Shuttle finds: checks, a refresh and the feed, over a database that changes.
//!
//! The model's database is a number. It is read at one instant, and both the question and the answer take a while. The
//! cache holds no lock meanwhile, so other tasks run there.

use std::cell::Cell;

use shuttle::future::{block_on, spawn, yield_now};
use sqlx::sqlite::SqlitePoolOptions;

use super::*;

const SCHEDULES: usize = 2_000;
const KEY: u8 = 7;
/// So long that no entry is refreshed in the background by [`DatabaseOptions::refresh_after`]: the model does that
/// itself.
const NOW: Timestamp = Timestamp::from_ms(1_000);

// Shuttle runs all tasks of a schedule in one thread.
thread_local! {
    static VERSION: Cell<u64> = const { Cell::new(0) };
    static IS_AWAY: Cell<bool> = const { Cell::new(false) };
}

/// The database's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl CachedRecord for Version {
    type Key = u8;

    fn cache(subjects: &SubjectCache) -> &Cache<u8, Arc<Entry<Self>>> {
        &subjects.model
    }

    async fn load(_: &Pool, _: &u8) -> sqlx::Result<Option<Self>> {
        yield_now().await;
        let version = VERSION.get();
        let is_away = IS_AWAY.get();
        yield_now().await;
        if is_away { Err(sqlx::Error::PoolClosed) } else { Ok(Some(Self(version))) }
    }
}

async fn asked(subjects: &Arc<SubjectCache>) -> (Option<u64>, bool) {
    let answer = subjects.find::<Version, u8>(&KEY, NOW, || Some(KEY)).await;
    let version = match &answer.facts {
        Facts::Remembered(entry) => entry.facts().map(|version| version.0),
        _ => None,
    };
    (version, answer.is_degraded)
}

/// Records a change, as [`SubjectCache::changed`] does.
async fn follow(subjects: &SubjectCache) -> sqlx::Result<()> {
    subjects.begin_change();
    subjects.reload::<Version>(KEY, NOW).await
}

/// A check after a change was followed gets it, or something newer; if the database does not answer, the last known
/// value.
async fn a_course(goes_away: bool) {
    VERSION.set(1);
    IS_AWAY.set(false);
    let pool = Pool::Sqlite(SqlitePoolOptions::new().connect_lazy("sqlite::memory:").unwrap());
    let options =
        DatabaseOptions { retry_every: std::time::Duration::ZERO, ..DatabaseOptions::default() };
    let subjects = Arc::new(SubjectCache::new(pool, &options));
    // The newest change that the feed has followed.
    let followed = Arc::new(AtomicU64::new(1));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (subjects, followed) = (Arc::clone(&subjects), Arc::clone(&followed));
        tasks.push(spawn(async move {
            for _ in 0..2 {
                let least = followed.load(Ordering::SeqCst);
                let (version, is_degraded) = asked(&subjects).await;
                let is_new = version.is_some_and(|version| version >= least);
                assert!(is_new || is_degraded, "{version:?} after {least} was followed");
                yield_now().await;
            }
        }));
    }
    let refreshing = Arc::clone(&subjects);
    tasks.push(spawn(async move {
        asked(&refreshing).await;
        if let Some(entry) = refreshing.model.get(&KEY) {
            refreshing.refresh::<Version>(KEY, &entry, NOW).await;
        }
    }));
    let following = Arc::clone(&subjects);
    tasks.push(spawn(async move {
        for version in [2, 3] {
            VERSION.set(version);
            yield_now().await;
            IS_AWAY.set(goes_away && version == 2);
            yield_now().await;
            // If this fails, the next change follows it again.
            if follow(&following).await.is_ok() {
                followed.store(version, Ordering::SeqCst);
            }
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(asked(&subjects).await, (Some(3), false), "when nothing changes any more");
}

fn check(goes_away: bool) {
    // For the timers of sqlx and of the deadline, which never end here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    shuttle::check_random(move || block_on(a_course(goes_away)), SCHEDULES);
    shuttle::check_pct(move || block_on(a_course(goes_away)), SCHEDULES, 3);
}

#[test]
fn who_asks_after_a_change_was_followed_never_gets_what_was_before() {
    check(false);
}

#[test]
fn while_the_database_is_away_the_last_known_answer_stands_and_says_so() {
    check(true);
}
