//! A watched policy file: each new valid content is published as a whole, an invalid one never (P11).
//!
//! Notifications about the parent directory say when to read the file, so that replaced files and the symbolic links of
//! Kubernetes' `ConfigMap`s are noticed. Polling every few seconds makes up for lost notifications. Only the content
//! matters: the same bytes are not a change, and a new content is read twice before it is used.

mod directory;
mod signal;
mod watch;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::api_key::KeyHasher;
use crate::directory::Unavailable;
use crate::error::CatalogError;
use crate::policy_file;
use crate::snapshot::{Publisher, Snapshot, SnapshotReader};

pub use self::directory::SnapshotDirectory;
use self::signal::Signal;
use self::watch::FileWatcher;

/// How a file is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// How often to read the file without a notification. Together with [`WatchOptions::settle`] it bounds how long a
    /// change can stay unnoticed.
    pub poll_every: Duration,
    /// How long a new content must stay the same before it is used.
    pub settle: Duration,
    /// Whether to ask the system for notifications; otherwise changes are found by polling only.
    pub notifications: bool,
    /// Whether the store keeps leases. Otherwise a change with policies that only mean something with leases is refused.
    /// The content at the start is not looked at: its caller can refuse it with more context.
    pub leases: bool,
}

impl Default for WatchOptions {
    /// Reads every 2 seconds and settles for 100 ms: even with a lost notification this is within the 5 seconds of P11.
    fn default() -> Self {
        Self {
            poll_every: Duration::from_secs(2),
            settle: Duration::from_millis(100),
            notifications: true,
            leases: true,
        }
    }
}

/// An event of a catalog.
#[derive(Debug)]
#[non_exhaustive]
pub enum CatalogEvent<'a> {
    /// A new valid content is in force.
    Published(&'a Arc<Snapshot>),
    /// The content is invalid or cannot be read; the old policies stay in force. Reported once for each content.
    Refused(&'a CatalogError),
    /// After a refusal, the content is again that of the policies in force.
    Restored,
    /// The database does not answer; the last known data is used. Reported once.
    Unavailable(&'a Unavailable),
    /// The database answers again, and the changes made meanwhile are known.
    Available,
    /// The system provides no notifications; changes are found by polling only.
    PollingOnly(&'a (dyn Error + 'static)),
}

/// Receives the events of a catalog, to log and count them.
///
/// It is called from the thread or task that follows the catalog, one call at a time; while it runs, the next change
/// waits. It must not drop the catalog.
pub trait Observer: Send + 'static {
    /// Handles `event`.
    fn observe(&self, event: &CatalogEvent<'_>);
}

impl<F: Fn(&CatalogEvent<'_>) + Send + 'static> Observer for F {
    fn observe(&self, event: &CatalogEvent<'_>) {
        self(event);
    }
}

/// A policy file in force. When it is dropped, watching ends, and readers keep the last snapshot.
#[derive(Debug)]
pub struct FileCatalog {
    reader: SnapshotReader,
    signal: Arc<Signal>,
    /// Dropped before the thread is told to stop, so that no more signals come.
    notifier: Option<notify::RecommendedWatcher>,
    thread: Option<JoinHandle<()>>,
}

impl FileCatalog {
    /// Loads the file at `path` and starts to watch it.
    ///
    /// An invalid or missing file is an error here; later it is reported to `observer`.
    pub fn open(
        path: &Path,
        options: WatchOptions,
        observer: impl Observer,
    ) -> Result<Self, CatalogError> {
        Self::open_with_keys(path, options, None, observer)
    }

    /// The same for checks whose API keys are replaced by what `hasher` makes of them: a condition on an API key takes the
    /// key's text or its hash.
    pub fn open_with_keys(
        path: &Path,
        options: WatchOptions,
        hasher: Option<KeyHasher>,
        observer: impl Observer,
    ) -> Result<Self, CatalogError> {
        let format = policy_file::format_of(path)?;
        let signal = Arc::new(Signal::default());
        // Watch before reading for the first time, so that no change is missed in between.
        let notifier = if options.notifications {
            watch::notifier(path, Arc::clone(&signal))
                .map_err(|error| observer.observe(&CatalogEvent::PollingOnly(&error)))
                .ok()
        } else {
            None
        };
        let content: Arc<[u8]> = policy_file::read_bytes(path)?.into();
        let document = policy_file::document(path, format, &content)?;
        let publisher = Publisher::new(1, policy_file::compile(path, &document, hasher.as_ref())?);
        let reader = publisher.reader();
        let watch = FileWatcher::new(path, format, options, hasher, content, publisher, observer);
        let watched = Arc::clone(&signal);
        let thread = thread::Builder::new()
            .name("tollgate-catalog".to_owned())
            .spawn(move || watch.run(&watched))
            .map_err(|source| CatalogError::NoWatcher { path: path.to_owned(), source })?;
        Ok(Self { reader, signal, notifier, thread: Some(thread) })
    }

    /// A reader of the snapshots of this file.
    pub fn reader(&self) -> SnapshotReader {
        self.reader.clone()
    }
}

impl Drop for FileCatalog {
    fn drop(&mut self) {
        self.notifier = None;
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // An error means that an observer panicked, which the panic itself has reported.
            _ = thread.join();
        }
    }
}
