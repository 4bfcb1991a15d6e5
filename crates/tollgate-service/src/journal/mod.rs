//! The journal of settlements: keeps what the store did not answer until it does.
//!
//! A settlement may be sent to the store again at any time, because it counts once. So the journal need not know what the store
//! has done: it keeps a settlement until the store has answered it, and after a restart it sends too much rather than too
//! little. It keeps at most one settlement per lease, the one with the highest sequence number, and it is bounded in
//! bytes. With a directory, a settlement is in a file, on the disk, before it counts as kept.

mod file;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_store::LeaseId;

use self::file::JournalFile;
use crate::Settlement;

/// How safely a settlement is kept that the store did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeping {
    /// It is on the disk, so it survives the end of this process.
    OnDisk,
    /// It is only in memory: it is lost if this process ends before the store answers.
    InMemory,
    /// It is not kept, because the journal is full or there is none.
    Not,
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// The settlements that wait for the store.
    pub waiting: u64,
    /// Those that were refused because the journal was full.
    pub refused: u64,
    /// How often one could not be written to the disk, and so was kept in memory only.
    pub unwritten: u64,
    /// The lines of the file that could not be read at the start.
    pub damaged: u64,
}

/// Keeps settlements that the store did not answer.
#[derive(Debug)]
pub struct SettlementJournal {
    kept: Mutex<Kept>,
    max_bytes: usize,
    file: Option<JournalFile>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By number, in the order in which they came.
    in_order: BTreeMap<u64, Settlement>,
    numbers: HashMap<LeaseId, u64>,
    next: u64,
    bytes: usize,
    stats: JournalStats,
}

/// Whether a settlement was added to what is kept.
#[derive(Debug, PartialEq, Eq)]
enum Addition {
    Added,
    /// The same one, or one with a higher sequence number, is kept already.
    Known,
    Full,
}

impl SettlementJournal {
    /// The usual bound of its memory, in bytes: more than 100,000 settlements.
    pub const DEFAULT_MAX_BYTES: usize = 32 << 20;

    /// A journal in memory, of at most about `max_bytes`.
    pub fn in_memory(max_bytes: usize) -> Self {
        Self { kept: Mutex::default(), max_bytes, file: None }
    }

    /// A journal in the directory `dir`, which is created if it is missing, with the settlements that it has. Reads the whole
    /// file, so call it at the start.
    ///
    /// An error says that the directory cannot be used, or that another process uses it.
    pub fn in_dir(dir: &Path, max_bytes: usize) -> io::Result<Self> {
        let (file, contents) = JournalFile::open(dir)?;
        let mut kept = Kept::default();
        kept.stats.damaged = contents.damaged;
        for settlement in contents.settlements {
            // The bound was kept when they were written; a smaller one now must not lose any.
            kept.add(settlement, usize::MAX);
        }
        Ok(Self { kept: Mutex::new(kept), max_bytes, file: Some(file) })
    }

    /// Keeps `settlement`. With a directory, waits until it is on the disk. O(1), apart from that.
    pub async fn keep(&self, settlement: &Settlement) -> Keeping {
        let written = {
            let mut kept = self.kept();
            match kept.add(settlement.clone(), self.max_bytes) {
                Addition::Full => {
                    kept.stats.refused += 1;
                    return Keeping::Not;
                }
                // Written again nevertheless: the first attempt may have failed.
                Addition::Added | Addition::Known => {}
            }
            // While the lock is held, so that the file has the same order.
            self.file.as_ref().map(|file| {
                file.shrink(kept.in_order.values(), kept.bytes);
                file.append(settlement)
            })
        };
        let Some(written) = written else { return Keeping::InMemory };
        if written.await {
            return Keeping::OnDisk;
        }
        self.kept().stats.unwritten += 1;
        Keeping::InMemory
    }

    /// What it holds.
    pub fn stats(&self) -> JournalStats {
        let kept = self.kept();
        JournalStats { waiting: kept.in_order.len() as u64, ..kept.stats }
    }

    /// At most `most` settlements after the number `after`, in the order in which they came, with their numbers.
    pub(crate) fn waiting(&self, after: Option<u64>, most: usize) -> Vec<(u64, Settlement)> {
        let kept = self.kept();
        let begin = after.map_or(0, |after| after + 1);
        let waiting = kept.in_order.range(begin..).take(most);
        waiting.map(|(number, settlement)| (*number, settlement.clone())).collect()
    }

    /// Forgets the settlement with this number, unless it has been replaced by one with a higher sequence number.
    pub(crate) fn answered(&self, number: u64, settlement: &Settlement) {
        let mut kept = self.kept();
        kept.remove(number, settlement);
        if let Some(file) = &self.file {
            file.shrink(kept.in_order.values(), kept.bytes);
        }
    }

    /// A poisoned lock is fine: a settlement that a panic left half removed is sent once more.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, settlement: Settlement, max_bytes: usize) -> Addition {
        let known = self.numbers.get(&settlement.lease).copied();
        let replaced = known.and_then(|number| self.in_order.get(&number));
        if replaced.is_some_and(|known| settlement.seq <= known.seq) {
            return Addition::Known;
        }
        let freed = replaced.map_or(0, memory_of);
        let bytes = (self.bytes - freed).saturating_add(memory_of(&settlement));
        if bytes > max_bytes {
            return Addition::Full;
        }
        self.bytes = bytes;
        let number = known.unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        self.numbers.insert(settlement.lease.clone(), number);
        self.in_order.insert(number, settlement);
        Addition::Added
    }

    fn remove(&mut self, number: u64, settlement: &Settlement) {
        let is_same = |kept: &Settlement| kept.seq == settlement.seq;
        if self.in_order.get(&number).is_some_and(is_same) {
            self.in_order.remove(&number);
            self.numbers.remove(&settlement.lease);
            self.bytes -= memory_of(settlement);
        }
    }
}

/// About how much memory a kept settlement takes, in bytes.
fn memory_of(settlement: &Settlement) -> usize {
    /// The entries of both maps.
    const ENTRY_BYTES: usize = 2 * size_of::<Settlement>() + 32;
    const TOTAL_BYTES: usize = 40;
    let totals: usize =
        settlement.usage.amounts().map(|(unit, _)| TOTAL_BYTES + unit.name().len()).sum();
    ENTRY_BYTES + 2 * settlement.lease.as_str().len() + totals
}

#[cfg(test)]
mod tests {
    use tollgate_core::{Amount, Quality, Totals, Unit};

    use super::*;

    pub(super) fn settlement(lease: &str, seq: u64, tokens: u64) -> Settlement {
        let amount = |amount| Amount::new(amount).unwrap();
        Settlement {
            lease: LeaseId::parse(lease).unwrap(),
            seq: amount(seq),
            usage: Totals::none().with(Unit::Tokens, amount(tokens)),
            quality: Quality::Exact,
        }
    }

    fn waiting(journal: &SettlementJournal) -> Vec<(String, u64)> {
        let waiting = journal.waiting(None, 100);
        waiting.iter().map(|(_, one)| (one.lease.to_string(), one.seq.get())).collect()
    }

    fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(lease, seq)| ((*lease).to_owned(), *seq)).collect()
    }

    #[tokio::test]
    async fn the_latest_settlement_of_each_lease_is_kept_in_order() {
        let journal = SettlementJournal::in_memory(10_000);
        for (lease, seq) in [("a", 1), ("b", 5), ("a", 3), ("b", 4), ("c", 1), ("a", 3)] {
            assert_eq!(journal.keep(&settlement(lease, seq, 1)).await, Keeping::InMemory);
        }
        assert_eq!(waiting(&journal), named(&[("a", 3), ("b", 5), ("c", 1)]));
        let second = journal.waiting(None, 2)[1].clone();
        journal.answered(second.0, &second.1);
        let (number, first) = journal.waiting(None, 1)[0].clone();
        journal.keep(&settlement("a", 4, 1)).await;
        journal.answered(number, &first);
        assert_eq!(waiting(&journal), named(&[("a", 4), ("c", 1)]), "a newer one stays");
        assert_eq!(journal.waiting(Some(number), 9).len(), 1);
    }

    #[tokio::test]
    async fn a_full_journal_keeps_what_it_has_and_counts_what_it_refuses() {
        let bytes = memory_of(&settlement("a", 1, 1));
        let journal = SettlementJournal::in_memory(2 * bytes);
        let mut kept = Vec::new();
        for lease in ["a", "b", "c"] {
            kept.push(journal.keep(&settlement(lease, 1, 1)).await);
        }
        assert_eq!(kept, [Keeping::InMemory, Keeping::InMemory, Keeping::Not]);
        assert_eq!(journal.keep(&settlement("a", 2, 1)).await, Keeping::InMemory);
        assert_eq!((journal.stats().waiting, journal.stats().refused), (2, 1));
        for (number, settlement) in journal.waiting(None, 9) {
            journal.answered(number, &settlement);
        }
        assert_eq!(journal.kept().bytes, 0);
        assert_eq!(journal.keep(&settlement("c", 1, 1)).await, Keeping::InMemory);
    }
}
