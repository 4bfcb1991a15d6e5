//! A watched policy file: valid content is published as a whole and once, and invalid content never replaces it (P11).
//!
//! Every wait is for an event, with a deadline; no test depends on a sleep.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;
use tollgate_catalog::{CatalogError, CatalogEvent, FileCatalog, WatchOptions};
use tollgate_core::Amount;

/// Far longer than any event takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Notifications only: the first poll comes after the deadline.
const NOTIFIED: WatchOptions = WatchOptions {
    poll_every: Duration::from_hours(1),
    settle: Duration::from_millis(20),
    notifications: true,
    leases: true,
};

/// Polling only, as if notifications were lost.
const POLLED: WatchOptions = WatchOptions {
    poll_every: Duration::from_millis(20),
    settle: Duration::from_millis(20),
    notifications: false,
    leases: true,
};

/// The events that an observer received.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A version, and the ids of its policies.
    Published(u64, Vec<String>),
    Refused(String),
    Restored,
}

struct Watched {
    catalog: FileCatalog,
    told: Receiver<Told>,
}

impl Watched {
    fn open(path: &Path, options: WatchOptions) -> Result<Self, CatalogError> {
        let (sender, told) = channel();
        let observer = move |event: &CatalogEvent<'_>| {
            let told = match event {
                CatalogEvent::Published(snapshot) => Told::Published(
                    snapshot.version(),
                    snapshot.policies().policies().iter().map(|p| p.id.to_string()).collect(),
                ),
                CatalogEvent::Refused(error) => Told::Refused(error.to_string()),
                CatalogEvent::Restored => Told::Restored,
                other => panic!("unexpected: {other:?}"),
            };
            // The test may have ended.
            _ = sender.send(told);
        };
        Ok(Self { catalog: FileCatalog::open(path, options, observer)?, told })
    }

    #[track_caller]
    fn next(&self) -> Told {
        self.told.recv_timeout(DEADLINE).expect("an event before the deadline")
    }

    #[track_caller]
    fn expect_published(&self, version: u64, ids: &[&str]) {
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        assert_eq!(self.next(), Told::Published(version, ids));
        assert_eq!(self.catalog.reader().current().version(), version);
    }

    #[track_caller]
    fn expect_refused(&self, says: &str) {
        match self.next() {
            Told::Refused(error) => assert!(error.contains(says), "{error}"),
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    fn ids(&self) -> Vec<String> {
        let snapshot = self.catalog.reader().snapshot();
        snapshot.policies().policies().iter().map(|policy| policy.id.to_string()).collect()
    }
}

fn policy(id: &str) -> String {
    format!("policies:\n  - {{id: {id}, scope: USER, limit: 5, windowSeconds: 60}}\n")
}

/// A directory with the file `policies.yaml`.
fn file_with(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policies.yaml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

/// Replaces the file as editors do.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let other_file = path.with_extension("swp");
    fs::write(&other_file, content).unwrap();
    fs::rename(&other_file, path).unwrap();
}

fn for_both(test: impl Fn(WatchOptions)) {
    test(NOTIFIED);
    test(POLLED);
}

#[test]
fn a_change_in_place_is_published_with_the_next_version() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        assert_eq!(watched.catalog.reader().current().version(), 1);
        assert_eq!(watched.ids(), ["a"]);
        for (version, id) in [(2, "b"), (3, "c")] {
            fs::write(&path, policy(id)).unwrap();
            // A slow writer leaves the file empty for a while, which may be reported but changes nothing.
            let published = loop {
                match watched.next() {
                    Told::Refused(error) if error.contains("has become empty") => {}
                    told => break told,
                }
            };
            assert_eq!(published, Told::Published(version, vec![id.to_owned()]));
        }
    });
}

#[test]
fn a_replaced_file_is_published() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        for (version, id) in [(2, "b"), (3, "c"), (4, "d")] {
            replace(&path, policy(id));
            watched.expect_published(version, &[id]);
        }
    });
}

/// Over a store without leases, a change to policies that are about them is refused, and the old ones stay.
#[test]
fn policies_that_need_leases_are_refused_if_the_store_keeps_none() {
    let slots = "policies:\n  - {id: b, scope: USER, unit: concurrency, limit: 5}\n";
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, WatchOptions { leases: false, ..options }).unwrap();
        replace(&path, slots);
        watched.expect_refused("policies.yaml:2:32: policies[0].unit: is concurrency");
        assert_eq!(watched.ids(), ["a"]);
        replace(&path, policy("a"));
        assert_eq!(watched.next(), Told::Restored);
    });
}

#[cfg(unix)]
#[test]
fn a_swapped_config_map_is_published() {
    use std::os::unix::fs::symlink;
    for_both(|options| {
        // The layout of Kubernetes: policies.yaml -> ..data/policies.yaml, ..data -> a directory per version.
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let version = |name: &str, id: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("policies.yaml"), policy(id)).unwrap();
        };
        version("..1", "a");
        symlink("..1", at("..data")).unwrap();
        symlink("..data/policies.yaml", at("policies.yaml")).unwrap();
        let watched = Watched::open(&at("policies.yaml"), options).unwrap();
        version("..2", "b");
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        watched.expect_published(2, &["b"]);
    });
}

#[test]
fn an_invalid_file_never_replaces_a_valid_one() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        replace(&path, policy("b").replace('5', "-5"));
        watched.expect_refused("policies.yaml:2:33: policies[0].limit: -5 is negative");
        assert_eq!(watched.ids(), ["a"]);
        replace(&path, "policies: [");
        watched.expect_refused("is not YAML");
        replace(&path, b"\xff\xfe");
        watched.expect_refused("not UTF-8");
        assert_eq!(watched.ids(), ["a"]);
        replace(&path, policy("c"));
        watched.expect_published(2, &["c"]);
    });
}

#[test]
fn a_file_that_becomes_empty_keeps_the_policies() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        replace(&path, "");
        watched.expect_refused("has become empty");
        replace(&path, "# policies\n");
        watched.expect_refused("`policies: []` is the built-in policy alone");
        assert_eq!(watched.ids(), ["a"]);
        replace(&path, "policies: []\n");
        watched.expect_published(2, &["default"]);
    });
}

#[test]
fn a_missing_file_keeps_the_policies_until_it_is_back() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        fs::remove_file(&path).unwrap();
        watched.expect_refused("cannot be read");
        assert_eq!(watched.ids(), ["a"]);
        replace(&path, policy("a"));
        assert_eq!(watched.next(), Told::Restored);
        assert_eq!(watched.catalog.reader().current().version(), 1);
        replace(&path, policy("b"));
        watched.expect_published(2, &["b"]);
    });
}

#[test]
fn the_same_bytes_are_no_new_version_and_an_error_is_told_once() {
    for_both(|options| {
        let (_directory, path) = file_with(&policy("a"));
        let watched = Watched::open(&path, options).unwrap();
        replace(&path, policy("a"));
        replace(&path, policy("a"));
        replace(&path, "[]");
        watched.expect_refused("is a list");
        replace(&path, "[]");
        replace(&path, "[]");
        replace(&path, policy("b"));
        watched.expect_published(2, &["b"]);
        assert!(watched.told.try_recv().is_err());
    });
}

#[test]
fn a_lost_notification_is_made_up_for_by_polling() {
    let (_directory, path) = file_with(&policy("a"));
    let watched = Watched::open(&path, POLLED).unwrap();
    replace(&path, policy("b"));
    watched.expect_published(2, &["b"]);
    // Together with the settling it must stay within P11's 5 seconds.
    let default = WatchOptions::default();
    assert!(default.poll_every + 2 * default.settle < Duration::from_secs(5));
}

#[test]
fn an_invalid_or_missing_file_cannot_be_opened() {
    let (directory, path) = file_with("policies: [{}]");
    assert!(matches!(Watched::open(&path, NOTIFIED), Err(CatalogError::Invalid(_))));
    let missing = directory.path().join("none.yaml");
    assert!(matches!(Watched::open(&missing, NOTIFIED), Err(CatalogError::Unreadable { .. })));
    let beyond = directory.path().join("none").join("none.toml");
    assert!(Watched::open(&beyond, POLLED).is_err());
}

#[test]
fn dropping_the_catalog_ends_the_thread_and_leaves_readers_their_snapshot() {
    let (_directory, path) = file_with(&policy("a"));
    let Watched { catalog, told } = Watched::open(&path, NOTIFIED).unwrap();
    let reader = catalog.reader();
    drop(catalog);
    // The thread owned the observer, and with it the sender.
    assert!(told.recv_timeout(DEADLINE).is_err());
    assert!(told.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected));
    assert_eq!(reader.current().version(), 1);
}

#[test]
fn readers_never_see_half_of_a_change() {
    let both = |limit: u32| {
        let one = |id| format!("{{id: {id}, scope: USER, limit: {limit}, windowSeconds: 60}}");
        format!("policies: [{}, {}]\n", one("a"), one("b"))
    };
    let (_directory, path) = file_with(&both(1));
    let watched = Watched::open(&path, NOTIFIED).unwrap();
    let reader = watched.catalog.reader();
    let checking = std::thread::spawn(move || {
        let mut last = 0;
        while last < 5 {
            let snapshot = reader.current();
            let limits: Vec<_> = snapshot.policies().policies().iter().map(|p| p.limit).collect();
            assert_eq!(limits[0], limits[1]);
            assert_eq!(limits[0].map(Amount::get), Some(snapshot.version()));
            assert!(snapshot.version() >= last);
            last = snapshot.version();
        }
    });
    for version in 2..=5 {
        replace(&path, both(version));
        watched.expect_published(version.into(), &["a", "b"]);
    }
    checking.join().unwrap();
}
