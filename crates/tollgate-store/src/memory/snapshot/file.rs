//! The directory of a snapshot: one process uses it, and a snapshot replaces the one before it as a whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tollgate_core::{Clock, Timestamp};

use super::{SnapshotError, SnapshotTime};
use crate::memory::{MemoryStore, MemoryStoreOptions};

const FILE_NAME: &str = "usage.snapshot";
/// The snapshot that is being written.
const NEW_NAME: &str = "usage.snapshot.new";
/// A snapshot that could not be read; the next ones get a number as well.
const REFUSED_NAME: &str = "usage.snapshot.refused";
/// How many of them are kept. One more replaces the last.
const MAX_REFUSED: u32 = 9;
const LOCK_NAME: &str = "lock";
/// How much is read or written at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// The file that holds the snapshots of a store, in a directory that this process has for itself.
#[derive(Debug)]
pub struct SnapshotFile {
    dir: PathBuf,
    /// Held while a snapshot is written, so that two threads do not write into one file.
    writing: Mutex<()>,
    /// Locked until this is dropped.
    _lock: File,
}

/// What was in the file.
#[derive(Debug)]
pub enum Found<C> {
    /// There was none.
    Nothing,
    /// A snapshot: this store goes on where it ended.
    Store(Box<MemoryStore<C>>),
    /// Something that cannot be read. It was renamed to this path: `usage.snapshot.refused`, or with a number, up to `.9`, if there
    /// is one already.
    Refused(SnapshotError, PathBuf),
}

impl SnapshotFile {
    /// Opens the directory `dir`, which is created if it is missing. Fails if another process uses it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                io::Error::new(io::ErrorKind::NotADirectory, "it is a file; accepted: a directory")
            }
            _ => error,
        })?;
        let lock = dir.join(LOCK_NAME);
        let lock = File::create(&lock).map_err(|error| about(&lock, &error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process uses this directory")
            }
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { dir: dir.to_owned(), writing: Mutex::default(), _lock: lock })
    }

    /// Reads the snapshot ([`MemoryStore::read_snapshot`]). Fails if the file cannot be opened or its disk fails, because it may be
    /// readable later, and if a file that is no snapshot cannot be renamed.
    pub fn load<C: Clock>(
        &self,
        options: &MemoryStoreOptions,
        clock: impl FnOnce(SnapshotTime) -> C,
    ) -> io::Result<Found<C>> {
        let path = self.dir.join(FILE_NAME);
        // Before it is opened: opening a pipe would wait for a writer.
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Ok(found) if !found.is_file() => {
                return Err(about(&path, &io::Error::other("it is not a file")));
            }
            found => _ = found.map_err(|error| about(&path, &error))?,
        }
        let file = File::open(&path).map_err(|error| about(&path, &error))?;
        match read(file, options, clock) {
            Ok(store) => Ok(Found::Store(Box::new(store))),
            Err(SnapshotError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Err(about(&path, &error))
            }
            Err(error) => {
                let refused = self.refused_path();
                fs::rename(&path, &refused)?;
                Ok(Found::Refused(error, refused))
            }
        }
    }

    /// Where to keep a snapshot that cannot be read: the first name that is free, or the last of all.
    fn refused_path(&self) -> PathBuf {
        let numbered = (2..=MAX_REFUSED).map(|number| format!("{REFUSED_NAME}.{number}"));
        let mut path = self.dir.join(REFUSED_NAME);
        for name in numbered {
            // If nobody can tell, the name counts as taken.
            if matches!(path.try_exists(), Ok(false)) {
                break;
            }
            path = self.dir.join(name);
        }
        path
    }

    /// Writes a snapshot beside the last one, to the disk, and then replaces that ([`MemoryStore::write_snapshot`]). Returns its
    /// length in bytes. If it fails, the last one stays. Blocks the thread, also while another one writes; only the owner may read the file, because it tells
    /// how keys are hashed.
    pub fn save<C: Clock>(&self, store: &MemoryStore<C>, wall: Timestamp) -> io::Result<u64> {
        // A poisoned lock is fine: a file that was not finished is written anew.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.dir.join(NEW_NAME);
        // One that an earlier process left, whatever it is: the new one is a file of its own.
        _ = fs::remove_file(&new);
        let written = write(&new, store, wall).map_err(|error| about(&new, &error));
        let written = written.and_then(|bytes| {
            fs::rename(&new, self.dir.join(FILE_NAME))?;
            // The entry of the directory must be as durable as the bytes.
            File::open(&self.dir)?.sync_all()?;
            Ok(bytes)
        });
        if written.is_err() {
            // It may not be there.
            _ = fs::remove_file(&new);
        }
        written
    }
}

/// An error that names the file it is about.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn read<C: Clock>(
    file: impl Read,
    options: &MemoryStoreOptions,
    clock: impl FnOnce(SnapshotTime) -> C,
) -> Result<MemoryStore<C>, SnapshotError> {
    MemoryStore::read_snapshot(BufReader::with_capacity(BUFFER_BYTES, file), options, clock)
}

fn write<C: Clock>(path: &Path, store: &MemoryStore<C>, wall: Timestamp) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, &file);
    let bytes = store.write_snapshot(&mut buffered, wall)?;
    buffered.flush()?;
    drop(buffered);
    file.sync_all()?;
    Ok(bytes)
}
