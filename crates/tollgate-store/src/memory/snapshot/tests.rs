use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use tollgate_core::{
    Amount, Charge, Counting, LeaseUpdate, Limit, ManualClock, Per, Policy, PolicyId, Quality,
    Subject, Timestamp, TokenKind, Totals, Ttl, Unit, Weight, Weights, Window,
};

use super::super::{MemoryStore, MemoryStoreOptions};
use super::{Found, SnapshotError, SnapshotFile, SnapshotTime};
use crate::LeaseRequest;

const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);
/// The wall clock need not show the time of the store.
const WALL: Timestamp = Timestamp::from_ms(1_800_000_000_000);

type ManualStore = MemoryStore<ManualClock>;

fn limit(id: &str, amount: u64) -> Arc<Limit> {
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let (id, per) = (PolicyId::new(id).unwrap(), Per::from_scope("USER").unwrap());
    Arc::new(Limit::of(&Policy::new(id, per, Amount::new(amount), window)).unwrap())
}

fn slots(amount: u64) -> Arc<Limit> {
    let window = Window::new(Window::MIN).unwrap();
    let (id, per) = (PolicyId::new("slots").unwrap(), Per::from_scope("USER").unwrap());
    let policy = Policy::new(id, per, Amount::new(amount), window);
    let unit = Unit::parse("concurrency").unwrap();
    Arc::new(Limit::of(&Policy { unit, counting: Counting::Concurrency, ..policy }).unwrap())
}

fn store(options: &MemoryStoreOptions) -> (ManualStore, ManualClock) {
    let clock = ManualClock::at(NOW);
    (MemoryStore::with_clock(clock.clone(), options), clock)
}

fn charge(store: &ManualStore, limit: &Arc<Limit>, user: &str, cost: u64) -> bool {
    let (subject, cost) = (Subject::new(user, "m"), Amount::new(cost).unwrap());
    store.charge_one(&Charge { limit, subject: &subject, cost }).allowed
}

fn usage(store: &ManualStore, limit: &Arc<Limit>, user: &str) -> u64 {
    let subject = Subject::new(user, "m");
    store.peek(&[Charge { limit, subject: &subject, cost: Amount::ZERO }])[0].usage
}

fn snapshot(store: &ManualStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = store.write_snapshot(&mut bytes, WALL).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// Reads it a while later by the wall clock.
fn read(bytes: &[u8], later: Duration) -> Result<ManualStore, SnapshotError> {
    let resumed = |time: SnapshotTime| ManualClock::at(time.resumed(WALL.after(later)));
    MemoryStore::read_snapshot(bytes, &MemoryStoreOptions::default(), resumed)
}

/// A store with usage of each form, leases and request ids.
fn full_store() -> ManualStore {
    let (store, _) = store(&MemoryStoreOptions::default());
    let (short, long, weighted, slots) =
        (limit("short", 5), limit("long", 50), limit("weighted", 5_000), slots(3));
    for _ in 0..5 {
        assert!(charge(&store, &short, "alice", 1));
    }
    for cost in 1..50 {
        assert!(charge(&store, &long, "alice", 1));
        assert!(charge(&store, &weighted, "alice", cost));
    }
    let subject = Subject::new("alice", "m");
    let charge = |limit| Charge { limit, subject: &subject, cost: Amount::ONE };
    let charges = [charge(&long), charge(&slots)];
    let ttl = Ttl::from_ms(5_000).unwrap();
    let request = LeaseRequest::new(&charges, ttl).named(Some("request")).with_note(b"note");
    assert!(store.reserve(&request).lease.is_some());
    store
}

#[test]
fn an_expiry_is_told_once() {
    let (store, clock) = store(&MemoryStoreOptions::default());
    for ttl_ms in [5_000, 20_000] {
        let ttl = Ttl::from_ms(ttl_ms).unwrap();
        assert!(store.reserve(&LeaseRequest::new(&[], ttl)).lease.is_some());
    }
    clock.advance(Duration::from_secs(6));
    assert_eq!(store.expired_leases(9).len(), 1);
    let store = read(&snapshot(&store), Duration::from_secs(20)).unwrap();
    let told: Vec<_> = store.expired_leases(9).iter().map(|lease| lease.since.as_secs()).collect();
    assert_eq!(told, [6], "only the one that expired meanwhile");
    assert_eq!((store.stats().live_leases, store.stats().expired_leases), (0, 1));
}

#[test]
fn windows_go_on_by_the_wall_clock() {
    let (store, clock) = store(&MemoryStoreOptions::default());
    let limit = limit("p", 5);
    for _ in 0..5 {
        assert!(charge(&store, &limit, "alice", 1));
    }
    clock.advance(Duration::from_secs(10));
    let bytes = snapshot(&store);
    // Not a nanosecond early, and not late.
    let early = read(&bytes, Duration::from_nanos(49_999_999_999)).unwrap();
    assert!(!charge(&early, &limit, "alice", 1));
    let on_time = read(&bytes, Duration::from_secs(50)).unwrap();
    assert!(charge(&on_time, &limit, "alice", 5));
}

/// R14: by the weights of its reservation.
#[test]
fn a_lease_is_settled_by_its_weights_after_a_restart() {
    let (store, _) = store(&MemoryStoreOptions::default());
    let mut weights = Weights::default();
    weights.set(TokenKind::CachedInput, Weight::of_thousandths(100).unwrap());
    let window = Window::new(Duration::from_mins(1)).unwrap();
    let (id, per) = (PolicyId::new("tokens").unwrap(), Per::from_scope("USER").unwrap());
    let policy = Policy::new(id, per, Amount::new(1_000), window);
    let limit = Arc::new(Limit::of(&Policy { unit: Unit::Tokens, weights, ..policy }).unwrap());
    let (subject, cost) = (Subject::new("alice", "m"), Amount::new(100).unwrap());
    let charges = [Charge { limit: &limit, subject: &subject, cost }];
    let lease = store.reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT)).lease.unwrap();
    let restored = read(&snapshot(&store), Duration::ZERO).unwrap();
    let usage_of = Totals::none()
        .with(Unit::Tokens, cost)
        .with(TokenKind::CachedInput.unit(), Amount::new(80).unwrap());
    let settle = LeaseUpdate::Settle { seq: Amount::ONE, usage: usage_of, quality: Quality::Exact };
    assert!(restored.update_lease(&lease.id, &settle).is_some());
    assert_eq!(usage(&restored, &limit, "alice"), 20 + 8);
}

/// As if the program had not been away.
#[test]
fn a_wall_clock_that_was_set_back_stands_still() {
    let time = SnapshotTime { clock: NOW, wall: WALL };
    let day = Duration::from_hours(24);
    assert_eq!(time.resumed(WALL.before(day)), NOW);
    assert_eq!(time.resumed(WALL.after(day)), NOW.after(day));
}

/// However many keys and shards the options ask for now.
#[test]
fn the_bounds_may_be_others_at_the_next_start() {
    let (store, _) = store(&MemoryStoreOptions::default());
    let limit = limit("p", 5);
    for user in 0..1_000 {
        assert!(charge(&store, &limit, &user.to_string(), 3));
    }
    let bytes = snapshot(&store);
    let read = |max_keys| {
        let options = MemoryStoreOptions::default().max_keys(max_keys);
        MemoryStore::read_snapshot(&*bytes, &options, |_| ManualClock::at(NOW)).unwrap()
    };
    let larger = read(100_000_000);
    assert!((0..1_000).all(|user| usage(&larger, &limit, &user.to_string()) == 3));
    let smaller = read(512).stats();
    assert!(smaller.keys <= 512 && smaller.evicted >= 488, "{smaller:?}");
}

/// A log that is longer than what is copied at once, beside others.
#[test]
fn a_long_log_is_saved_whole() {
    let (store, _) = store(&MemoryStoreOptions::default().max_keys(1));
    let limit = limit("p", 100_000);
    let users: Vec<String> = (0..40).map(|user| user.to_string()).collect();
    let (one, _) = self::store(&MemoryStoreOptions::default().max_keys(1_024));
    for user in &users {
        for _ in 0..2_000 {
            assert!(charge(&one, &limit, user, 1));
        }
    }
    for _ in 0..40_000 {
        assert!(charge(&store, &limit, "alice", 1));
    }
    let [store, one] = [store, one].map(|store| read(&snapshot(&store), Duration::ZERO).unwrap());
    assert_eq!(usage(&store, &limit, "alice"), 40_000);
    assert!(users.iter().all(|user| usage(&one, &limit, user) == 2_000));
}

/// Every key that exists all the time is saved once, while others come and go.
#[test]
fn a_snapshot_under_load_has_every_key() {
    let (store, _) = store(&MemoryStoreOptions::default().max_keys(8_192));
    let limit = limit("p", 1_000_000);
    let users: Vec<String> = (0..1_000).map(|user| format!("stays {user}")).collect();
    for user in &users {
        assert!(charge(&store, &limit, user, 3));
    }
    let bytes = thread::scope(|scope| {
        for thread in 0..2 {
            let (store, limit) = (&store, &limit);
            scope.spawn(move || {
                for turn in 0..20_000 {
                    let user = format!("comes and goes {thread} {}", turn % 700);
                    charge(store, limit, &user, 1);
                    if turn % 3 == 0 {
                        store.reset(limit, &Subject::new(&user, "m"));
                    }
                }
            });
        }
        (0..20).map(|_| snapshot(&store)).collect::<Vec<_>>()
    });
    for bytes in bytes {
        let read = read(&bytes, Duration::ZERO).unwrap();
        assert!(users.iter().all(|user| usage(&read, &limit, user) == 3));
    }
}

/// A lease that was reserved between the save of its keys and its own: its slots are as it says.
#[test]
fn slots_are_as_their_leases_say() {
    let store = full_store();
    let slots = slots(3);
    let restored = read(&snapshot(&store), Duration::ZERO).unwrap();
    assert_eq!(usage(&restored, &slots, "alice"), 1);
    let restored = read(&snapshot(&store), Duration::from_secs(5)).unwrap();
    assert_eq!(usage(&restored, &slots, "alice"), 0, "it has expired meanwhile");
}

#[test]
fn a_snapshot_that_is_cut_or_changed_is_refused() {
    let bytes = snapshot(&full_store());
    assert!(read(&bytes, Duration::ZERO).is_ok());
    for length in 0..bytes.len() {
        let error = read(&bytes[..length], Duration::ZERO).unwrap_err();
        let is_head = matches!(error, SnapshotError::NotASnapshot) && length < 12;
        assert!(is_head || matches!(error, SnapshotError::Damaged(..)), "{length}: {error}");
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (place % 8);
        assert!(read(&changed, Duration::ZERO).is_err(), "{place}");
    }
    let longer = [&bytes[..], b"x"].concat();
    let error = read(&longer, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("something follows its end"), "{error}");
}

#[test]
fn a_snapshot_of_another_kind_is_refused_with_its_reason() {
    let bytes = snapshot(&full_store());
    let of = |text: &[u8]| read(text, Duration::ZERO).unwrap_err().to_string();
    assert!(of(b"policies:\n  - id: a").contains("it does not begin with `tollgate`"));
    assert!(of(b"").contains("it does not begin with `tollgate`"));
    let mut other = bytes;
    other[8] = 9;
    assert_eq!(of(&other), "it has version 9; this program reads version 2");
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("tollgate-snapshot-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn load(file: &SnapshotFile) -> Found<ManualClock> {
    file.load(&MemoryStoreOptions::default(), |time| ManualClock::at(time.clock)).unwrap()
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let dir = Dir::new("replaced");
    let file = SnapshotFile::open(&dir.0).unwrap();
    assert!(matches!(load(&file), Found::Nothing));
    let (store, _) = store(&MemoryStoreOptions::default());
    let limit = limit("p", 5);
    for count in 1..=3 {
        assert!(charge(&store, &limit, "alice", 1));
        let bytes = file.save(&store, WALL).unwrap();
        let path = dir.0.join("usage.snapshot");
        assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode;
            assert_eq!(mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        }
        let Found::Store(read) = load(&file) else { panic!("no store") };
        assert_eq!(usage(&read, &limit, "alice"), count);
    }
    // Nothing can be written there.
    fs::create_dir(dir.0.join("usage.snapshot.new")).unwrap();
    assert!(file.save(&store, WALL).is_err());
    assert!(matches!(load(&file), Found::Store(_)), "the last one stays");
}

/// As when a server ends while it writes one.
#[test]
fn snapshots_of_two_threads_do_not_mix() {
    let dir = Dir::new("threads");
    let file = SnapshotFile::open(&dir.0).unwrap();
    let (store, _) = store(&MemoryStoreOptions::default());
    let limit = limit("p", 5);
    for user in 0..5_000 {
        assert!(charge(&store, &limit, &user.to_string(), 1));
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert!(file.save(&store, WALL).is_ok())));
        }
    });
    let Found::Store(read) = load(&file) else { panic!("no store") };
    assert_eq!(read.stats().keys, 5_000);
}

#[test]
fn a_file_that_is_refused_is_kept() {
    let dir = Dir::new("refused");
    let file = SnapshotFile::open(&dir.0).unwrap();
    file.save(&full_store(), WALL).unwrap();
    let path = dir.0.join("usage.snapshot");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let Found::Refused(error, kept) = load(&file) else { panic!("not refused") };
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(fs::read(kept).unwrap(), bytes);
    assert!(matches!(load(&file), Found::Nothing), "the next start finds none");
}

/// The first may be the one to look into: only the last of nine gives way.
#[test]
fn files_that_are_refused_are_kept_beside_each_other() {
    let dir = Dir::new("refused_often");
    let file = SnapshotFile::open(&dir.0).unwrap();
    let mut names = Vec::new();
    for nth in 1..=10 {
        fs::write(dir.0.join("usage.snapshot"), format!("damaged {nth}")).unwrap();
        let Found::Refused(_, kept) = load(&file) else { panic!("not refused") };
        assert_eq!(fs::read_to_string(&kept).unwrap(), format!("damaged {nth}"));
        names.push(kept.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(names[..2], ["usage.snapshot.refused", "usage.snapshot.refused.2"]);
    assert_eq!(names[8..], ["usage.snapshot.refused.9", "usage.snapshot.refused.9"]);
    for (name, nth) in names.iter().zip(1..9) {
        assert_eq!(fs::read_to_string(dir.0.join(name)).unwrap(), format!("damaged {nth}"));
    }
}

/// It may be a good snapshot that can be read later.
#[test]
fn what_cannot_be_opened_is_an_error_and_stays() {
    let dir = Dir::new("unopened");
    let file = SnapshotFile::open(&dir.0).unwrap();
    let path = dir.0.join("usage.snapshot");
    fs::create_dir(&path).unwrap();
    let options = MemoryStoreOptions::default();
    let error = file.load(&options, |_| ManualClock::default()).unwrap_err().to_string();
    assert!(error.contains("usage.snapshot: it is not a file"), "{error}");
    assert!(path.is_dir());
}

/// A symbolic link in the place of the new snapshot is replaced. The file that it points to is not written.
#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_new_file_is_not_followed() {
    let dir = Dir::new("link");
    let file = SnapshotFile::open(&dir.0).unwrap();
    let other = dir.0.join("other");
    fs::write(&other, "of somebody else").unwrap();
    std::os::unix::fs::symlink(&other, dir.0.join("usage.snapshot.new")).unwrap();
    file.save(&full_store(), WALL).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"of somebody else");
    assert!(matches!(load(&file), Found::Store(_)));
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let dir = Dir::new("shared");
    let first = SnapshotFile::open(&dir.0).unwrap();
    let error = SnapshotFile::open(&dir.0).unwrap_err().to_string();
    assert!(error.contains("another process uses this directory"), "{error}");
    drop(first);
    assert!(SnapshotFile::open(&dir.0).is_ok());
}
