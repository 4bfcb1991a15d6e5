//! The thread that watches one file.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::signal::{Next, Signal};
use super::{CatalogEvent, Observer, WatchOptions};
use crate::api_key::KeyHasher;
use crate::document::Format;
use crate::error::CatalogError;
use crate::policy_file;
use crate::snapshot::{Loaded, Publisher};

/// How often the content is read again while it keeps changing, before it is refused.
const MAX_SETTLE_READS: usize = 20;

type Content = Result<Arc<[u8]>, CatalogError>;

/// The content of a file: its bytes, or why it could not be read, in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes(Arc<[u8]>),
    Failure(String),
}

impl Seen {
    fn of(content: &Content) -> Self {
        match content {
            Ok(bytes) => Self::Bytes(Arc::clone(bytes)),
            Err(error) => {
                let source = error.source().map(ToString::to_string).unwrap_or_default();
                Self::Failure(format!("{error}: {source}"))
            }
        }
    }
}

/// A watched file, and its state.
pub(super) struct FileWatcher<O> {
    path: PathBuf,
    format: Format,
    options: WatchOptions,
    hasher: Option<KeyHasher>,
    publisher: Publisher,
    observer: O,
    /// The content of the policies in force.
    in_force: Arc<[u8]>,
    /// The content that was last seen and reported, valid or not.
    seen: Seen,
}

impl<O: Observer> FileWatcher<O> {
    /// A watch of the file at `path`, whose `content` has been published.
    pub(super) fn new(
        path: &Path,
        format: Format,
        options: WatchOptions,
        hasher: Option<KeyHasher>,
        content: Arc<[u8]>,
        publisher: Publisher,
        observer: O,
    ) -> Self {
        let seen = Seen::Bytes(Arc::clone(&content));
        let path = path.to_owned();
        Self { path, format, options, hasher, publisher, observer, in_force: content, seen }
    }

    /// Reads the file at each signal, and periodically, until it is told to stop.
    pub(super) fn run(mut self, signal: &Signal) {
        while signal.wait_for_change(self.options.poll_every) == Next::GoOn {
            if let Some(content) = self.new_content(signal) {
                self.take(content);
            }
        }
    }

    /// The content of the file if it is new; `None` otherwise, or if it is told to stop.
    ///
    /// While a file is written in place, it is empty and then incomplete for a while, and a file that is being replaced
    /// may be missing. Therefore a new content is used only if it is the same when it is read again a little later.
    fn new_content(&self, signal: &Signal) -> Option<Content> {
        let mut seen = Seen::of(&self.read());
        if seen == self.seen {
            return None;
        }
        for _ in 0..MAX_SETTLE_READS {
            if signal.pause(self.options.settle) == Next::Stop {
                return None;
            }
            let content = self.read();
            let again = Seen::of(&content);
            if again == seen {
                return (again != self.seen).then_some(content);
            }
            seen = again;
        }
        let unsettled = Err(CatalogError::Unsettled { path: self.path.clone() });
        (Seen::of(&unsettled) != self.seen).then_some(unsettled)
    }

    fn read(&self) -> Content {
        policy_file::read_bytes(&self.path).map(Into::into)
    }

    /// Publishes a new content if it is valid, and notifies the observer.
    fn take(&mut self, content: Content) {
        self.seen = Seen::of(&content);
        let bytes = match content {
            Ok(bytes) if bytes == self.in_force => {
                self.observer.observe(&CatalogEvent::Restored);
                return;
            }
            Ok(bytes) => bytes,
            Err(error) => {
                self.observer.observe(&CatalogEvent::Refused(&error));
                return;
            }
        };
        // The parsers are third-party code: a panic in one must not silently end the watching.
        let compiled = catch_unwind(AssertUnwindSafe(|| self.compile(&bytes)))
            .unwrap_or_else(|_| Err(CatalogError::ReaderFailed { path: self.path.clone() }));
        match compiled {
            Ok(loaded) => {
                let version = self.publisher.version() + 1;
                let snapshot = self.publisher.publish(version, loaded);
                self.in_force = bytes;
                self.observer.observe(&CatalogEvent::Published(&snapshot));
            }
            Err(error) => self.observer.observe(&CatalogEvent::Refused(&error)),
        }
    }

    fn compile(&self, bytes: &[u8]) -> Result<Loaded, CatalogError> {
        let document = policy_file::document(&self.path, self.format, bytes)?;
        if document.is_empty() {
            return Err(CatalogError::BecameEmpty { path: self.path.clone() });
        }
        let loaded = policy_file::compile(&self.path, &document, self.hasher.as_ref())?;
        if !self.options.leases {
            policy_file::refuse_leases(&self.path, &document)?;
        }
        Ok(loaded)
    }
}

/// Makes the system signal changes beside the file at `path`. The parent directory is watched, because the file itself
/// may be replaced.
pub(super) fn notifier(path: &Path, signal: Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let name = path.file_name().map(OsStr::to_owned).unwrap_or_default();
    let mut notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_err() || event.is_ok_and(|event| concerns(&event, &name)) {
            signal.change();
        }
    })?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    notifier.watch(directory.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)?;
    Ok(notifier)
}

/// Whether `event` may have changed the file called `name`.
///
/// Kubernetes replaces the link `..data`, through which the file is linked. Other files in the directory are ignored,
/// and our own reading is not a change.
fn concerns(event: &notify::Event, name: &OsString) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ => {}
    }
    event.need_rescan()
        || event
            .paths
            .iter()
            .filter_map(|path| path.file_name())
            .any(|changed| changed == name || changed.as_encoded_bytes().starts_with(b".."))
}
