//! The file of a journal: one line for each settlement, appended and synchronised before it counts as kept.
//!
//! A line is `CHECKSUM SEQ QUALITY LEASE UNIT=TOTAL …`. The file is read once, at the start; a line that is torn or damaged is
//! skipped. Nothing is written when the store has answered a settlement: the file is emptied when none waits, and written anew
//! when it is much longer than what waits. A settlement that was answered may be read again after a crash, which does no harm.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use tokio::sync::oneshot;
use tollgate_core::{Amount, Quality, Totals, Unit};
use tollgate_store::LeaseId;

use crate::Settlement;

const FILE_NAME: &str = "settlements.journal";
const NEW_FILE_NAME: &str = "settlements.journal.new";
/// Locked while a process uses the directory.
const LOCK_NAME: &str = "lock";
/// The most writes that wait for the thread. What does not fit is kept in memory only.
const MAX_QUEUED: usize = 8_192;
/// The most lines that are synchronised together.
const MAX_TOGETHER: usize = 1_024;
/// A file below this is only emptied, never written anew, in bytes.
const MIN_REWRITTEN_BYTES: u64 = 1 << 20;

/// The file of a journal, which a thread writes.
#[derive(Debug)]
pub(super) struct JournalFile {
    queue: SyncSender<Work>,
    /// The length of the file when everything in the queue is written. Relaxed: it is changed under the lock of the journal.
    bytes: AtomicU64,
    _lock: File,
}

/// What a journal's file had.
pub(super) struct Contents {
    /// In the order in which they were written.
    pub(super) settlements: Vec<Settlement>,
    /// The lines that could not be read, except a torn one at the end.
    pub(super) damaged: u64,
}

#[derive(Debug)]
enum Work {
    /// Append a line, and say whether it is on the disk.
    Append(String, oneshot::Sender<bool>),
    /// Replace everything by these lines.
    Replace(String),
}

impl JournalFile {
    /// Opens the file in `dir`, and reads what it has.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Contents)> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join(LOCK_NAME))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process uses this directory")
            }
            TryLockError::Error(error) => error,
        })?;
        let mut file = open_file(&dir.join(FILE_NAME))?;
        // The entry of the directory must be as durable as the lines.
        File::open(dir)?.sync_all()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = text[..whole].split_inclusive(|byte| *byte == b'\n');
        let mut contents = Contents { settlements: Vec::new(), damaged: 0 };
        for line in lines {
            match parse(line) {
                Some(settlement) => contents.settlements.push(settlement),
                None => contents.damaged += 1,
            }
        }
        let bytes = whole as u64;
        cut(&mut file, bytes)?;
        let (queue, work) = mpsc::sync_channel(MAX_QUEUED);
        let writer = Writer { dir: dir.to_owned(), file, bytes };
        thread::Builder::new()
            .name("tollgate-journal".to_owned())
            .spawn(move || writer.run(&work))?;
        Ok((Self { queue, bytes: AtomicU64::new(bytes), _lock: lock }, contents))
    }

    /// Appends `settlement`. The future says whether it is on the disk.
    pub(super) fn append(&self, settlement: &Settlement) -> impl Future<Output = bool> + use<> {
        let line = line(settlement);
        let bytes = line.len() as u64;
        let (written, is_written) = oneshot::channel();
        if self.queue.try_send(Work::Append(line, written)).is_ok() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        async { is_written.await.unwrap_or(false) }
    }

    /// Empties the file if nothing is `waiting`, or writes it anew if it is much longer than what is. `waiting_bytes` is at least
    /// the length of their lines.
    pub(super) fn shrink<'s>(
        &self,
        waiting: impl ExactSizeIterator<Item = &'s Settlement>,
        waiting_bytes: usize,
    ) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let is_long = bytes >= MIN_REWRITTEN_BYTES.max(2 * waiting_bytes as u64);
        if bytes == 0 || waiting.len() > 0 && !is_long {
            return;
        }
        let lines: String = waiting.map(line).collect();
        let bytes = lines.len() as u64;
        if self.queue.try_send(Work::Replace(lines)).is_ok() {
            self.bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Ends the file after `bytes`, and writes there next.
fn cut(file: &mut File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.seek(SeekFrom::Start(bytes))?;
    file.sync_data()
}

/// Writes the file, on its own thread.
struct Writer {
    dir: PathBuf,
    file: File,
    /// The length of what is on the disk.
    bytes: u64,
}

impl Writer {
    fn run(mut self, work: &Receiver<Work>) {
        let mut next = work.recv().ok();
        while let Some(current) = next.take() {
            match current {
                Work::Replace(lines) => self.replace(&lines),
                Work::Append(line, written) => {
                    let (mut lines, mut answers) = (line, vec![written]);
                    while answers.len() < MAX_TOGETHER {
                        match work.try_recv() {
                            Ok(Work::Append(line, written)) => {
                                lines.push_str(&line);
                                answers.push(written);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    let is_written = self.append(&lines);
                    for answer in answers {
                        // An error means that nobody waits any more.
                        _ = answer.send(is_written);
                    }
                }
            }
            if next.is_none() {
                next = work.recv().ok();
            }
        }
    }

    fn append(&mut self, lines: &str) -> bool {
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_ok() {
            self.bytes += lines.len() as u64;
        } else {
            // So that the next line does not follow half a line. If this fails too, the checksum tells.
            _ = cut(&mut self.file, self.bytes);
        }
        written.is_ok()
    }

    /// If it fails, the old lines stay; they are sent once more after a restart.
    fn replace(&mut self, lines: &str) {
        if lines.is_empty() {
            if cut(&mut self.file, 0).is_ok() {
                self.bytes = 0;
            }
            return;
        }
        if let Ok(file) = self.written_anew(lines) {
            (self.file, self.bytes) = (file, lines.len() as u64);
        }
    }

    fn written_anew(&self, lines: &str) -> io::Result<File> {
        let new = self.dir.join(NEW_FILE_NAME);
        let mut file = open_file(&new)?;
        cut(&mut file, 0)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, self.dir.join(FILE_NAME))?;
        File::open(&self.dir)?.sync_all()?;
        Ok(file)
    }
}

fn line(settlement: &Settlement) -> String {
    let Settlement { lease, seq, usage, quality } = settlement;
    let mut text = format!("{seq} {quality} {lease}");
    for (unit, total) in usage.amounts() {
        // Writing to a `String` cannot fail.
        _ = write!(text, " {unit}={total}");
    }
    format!("{:016x} {text}\n", checksum(text.as_bytes()))
}

fn parse(line: &[u8]) -> Option<Settlement> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, text) = line.split_once(' ')?;
    if u64::from_str_radix(sum, 16).ok()? != checksum(text.as_bytes()) {
        return None;
    }
    let amount = |text: &str| text.parse().ok().and_then(Amount::new);
    let mut words = text.split(' ');
    let seq = amount(words.next()?)?;
    let quality = Quality::parse(words.next()?)?;
    let lease = LeaseId::parse(words.next()?)?;
    let mut usage = Totals::none();
    for word in words {
        let (unit, total) = word.split_once('=')?;
        usage.set(Unit::parse(unit)?, amount(total)?);
    }
    Some(Settlement { lease, seq, usage, quality })
}

/// FNV-1a, which tells a torn or damaged line; nobody forges one.
fn checksum(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::super::tests::settlement;
    use super::super::{Keeping, SettlementJournal};
    use super::*;

    fn read(dir: &Path) -> Vec<u8> {
        fs::read(dir.join(FILE_NAME)).unwrap()
    }

    fn journal(dir: &Path) -> SettlementJournal {
        SettlementJournal::in_dir(dir, SettlementJournal::DEFAULT_MAX_BYTES).unwrap()
    }

    fn waiting(journal: &SettlementJournal) -> Vec<Settlement> {
        journal.waiting(None, 1_000).into_iter().map(|(_, settlement)| settlement).collect()
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let mut all = vec![settlement("m-1.a_", 7, 0)];
        all.push(Settlement { usage: Totals::none(), ..all[0].clone() });
        let usage = all[0].usage.clone().with(Unit::Custom("images".into()), Amount::MAX);
        all.push(Settlement { quality: Quality::LowerBound, usage, ..all[0].clone() });
        for settlement in all {
            let text = line(&settlement);
            assert_eq!(parse(text.as_bytes()), Some(settlement));
            for end in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..end]), None, "{text} {end}");
            }
            let mut damaged = text.into_bytes();
            damaged[18] ^= 1;
            assert_eq!(parse(&damaged), None);
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("of/the journal");
        let (a, b) = (settlement("a", 1, 10), settlement("b", 2, 20));
        let first = journal(&dir);
        for settlement in [&a, &b] {
            assert_eq!(first.keep(settlement).await, Keeping::OnDisk);
        }
        let busy = SettlementJournal::in_dir(&dir, 1_000).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        let text = read(&dir);
        // Whatever the end of the process tore, what was whole is read, also in a smaller journal.
        for (torn, expected) in [(0, vec![&a, &b]), (1, vec![&a]), (30, vec![&a])] {
            fs::write(dir.join(FILE_NAME), &text[..text.len() - torn]).unwrap();
            let read = SettlementJournal::in_dir(&dir, 1).unwrap();
            assert_eq!(waiting(&read).iter().collect::<Vec<_>>(), expected, "{torn}");
            assert_eq!(read.stats().damaged, 0, "a torn line at the end is usual");
        }
        let damaged = [b"nonsense\n".as_slice(), &text].concat();
        fs::write(dir.join(FILE_NAME), damaged).unwrap();
        let last = journal(&dir);
        assert_eq!((waiting(&last).len(), last.stats().damaged), (2, 1));
        assert_eq!(last.keep(&settlement("c", 1, 1)).await, Keeping::OnDisk);
        drop(last);
        assert_eq!(waiting(&journal(&dir)).len(), 3);
    }

    #[tokio::test]
    async fn the_file_is_emptied_when_nothing_waits_and_written_anew_when_it_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let kept = journal(dir.path());
        kept.keep(&settlement("a", 1, 1)).await;
        let (number, first) = kept.waiting(None, 1)[0].clone();
        kept.answered(number, &first);
        let long = "x".repeat(500);
        // At the same time, so that many lines are synchronised together.
        let all: Vec<_> = (1..=5_000).map(|seq| settlement(&long, seq, seq)).collect();
        join_all(all.iter().map(|settlement| kept.keep(settlement))).await;
        let bytes = read(dir.path()).len() as u64;
        assert!(bytes <= MIN_REWRITTEN_BYTES + 1_000, "{bytes}");
        drop(kept);
        let kept = journal(dir.path());
        assert_eq!(waiting(&kept), [settlement(&long, 5_000, 5_000)]);
        let (number, last) = kept.waiting(None, 1)[0].clone();
        kept.answered(number, &last);
        // Written in order, so the file was empty before.
        kept.keep(&settlement("b", 1, 1)).await;
        assert_eq!(read(dir.path()), line(&settlement("b", 1, 1)).as_bytes());
    }
}
