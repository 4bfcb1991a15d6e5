//! The journal of settlements: keeps what the store did not answer until it does.
//!
//! A settlement may be sent to the store again at any time, because it counts once. So the journal need not know what the store
//! has done: it keeps a settlement until the store has answered it, and after a restart it sends too much rather than too
//! little. Of each lease it keeps the settlements in their order, except those that a later one makes needless, and it is bounded
//! in bytes. With a directory, a settlement is in a file, on the disk, before it counts as kept.

mod file;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tollgate_core::{Amount, Quality};
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
    /// The numbers of each lease's, in the order of their sequence numbers.
    numbers: HashMap<LeaseId, SmallVec<[u64; 1]>>,
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

    /// The settlements of `lease` that wait and come before the sequence number `seq`, in their order.
    pub(crate) fn before(&self, lease: &LeaseId, seq: Amount) -> Vec<Settlement> {
        let kept = self.kept();
        let of_lease = kept.of_lease(lease).map(|(_, settlement)| settlement);
        of_lease.filter(|settlement| settlement.seq < seq).cloned().collect()
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
    fn of_lease(&self, lease: &LeaseId) -> impl Iterator<Item = (u64, &Settlement)> {
        let numbers = self.numbers.get(lease).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, self.in_order.get(number)?)))
    }

    fn add(&mut self, settlement: Settlement, max_bytes: usize) -> Addition {
        if self.of_lease(&settlement.lease).any(|(_, known)| settlement.seq <= known.seq) {
            return Addition::Known;
        }
        let is_needless = |(_, known): &(u64, &Settlement)| is_covered(known, &settlement);
        let needless: SmallVec<[(u64, usize); 1]> = self
            .of_lease(&settlement.lease)
            .filter(is_needless)
            .map(|(number, known)| (number, memory_of(known)))
            .collect();
        let freed: usize = needless.iter().map(|(_, bytes)| bytes).sum();
        let bytes = (self.bytes - freed).saturating_add(memory_of(&settlement));
        if bytes > max_bytes {
            return Addition::Full;
        }
        self.bytes = bytes;
        let numbers = self.numbers.entry(settlement.lease.clone()).or_default();
        numbers.retain(|number| !needless.iter().any(|(gone, _)| gone == number));
        for (gone, _) in &needless {
            self.in_order.remove(gone);
        }
        // It takes the place of those that it makes needless, but stays behind the others of its lease.
        let place = needless.first().map(|(number, _)| *number).filter(|_| numbers.is_empty());
        let number = place.unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        numbers.push(number);
        self.in_order.insert(number, settlement);
        Addition::Added
    }

    fn remove(&mut self, number: u64, settlement: &Settlement) {
        let is_same = |kept: &Settlement| kept.seq == settlement.seq;
        if !self.in_order.get(&number).is_some_and(is_same) {
            return;
        }
        self.in_order.remove(&number);
        self.bytes -= memory_of(settlement);
        if let Some(numbers) = self.numbers.get_mut(&settlement.lease) {
            numbers.retain(|kept| *kept != number);
            if numbers.is_empty() {
                self.numbers.remove(&settlement.lease);
            }
        }
    }
}

/// Whether `earlier` changes nothing any more once `later` has been made: `later` names each of its units, and takes back what it
/// charged, or says that at least as much was used.
fn is_covered(earlier: &Settlement, later: &Settlement) -> bool {
    earlier.usage.amounts().all(|(unit, earlier_amount)| {
        let amount = later.usage.of(unit);
        amount.is_some_and(|amount| match (later.quality, earlier.quality) {
            (Quality::Exact, _) => true,
            (Quality::LowerBound, Quality::LowerBound) => amount >= earlier_amount,
            (Quality::LowerBound, Quality::Exact) => false,
        })
    })
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
    use tollgate_core::{Totals, Unit};

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

    /// A unit that a settlement does not name stays as the one before left it, and a lower bound gives nothing back.
    #[tokio::test]
    async fn a_settlement_that_a_later_one_does_not_cover_is_kept_too() {
        let of = |seq: u64, unit: Unit, amount: u64, quality: Quality| {
            let usage = Totals::none().with(unit, Amount::new(amount).unwrap());
            Settlement { usage, quality, ..settlement("a", seq, 0) }
        };
        let [exact, bound] = [Quality::Exact, Quality::LowerBound];
        let (input, output) = (Unit::InputTokens, Unit::OutputTokens);
        let cases = [
            (vec![of(1, output.clone(), 9, exact), of(2, input.clone(), 5, exact)], vec![1, 2]),
            (vec![of(1, output.clone(), 9, exact), of(2, output.clone(), 5, exact)], vec![2]),
            (vec![of(1, output.clone(), 9, exact), of(2, output.clone(), 12, bound)], vec![1, 2]),
            (vec![of(1, output.clone(), 9, bound), of(2, output.clone(), 12, bound)], vec![2]),
            (vec![of(1, output.clone(), 9, bound), of(2, output.clone(), 5, bound)], vec![1, 2]),
            (vec![of(2, output.clone(), 9, exact), of(1, input.clone(), 5, exact)], vec![2]),
            (
                vec![
                    of(1, output.clone(), 9, exact),
                    of(2, input, 5, exact),
                    of(3, output, 7, exact),
                ],
                vec![2, 3],
            ),
        ];
        for (settlements, expected) in cases {
            let journal = SettlementJournal::in_memory(10_000);
            for settlement in &settlements {
                journal.keep(settlement).await;
            }
            let sequence: Vec<_> = waiting(&journal).into_iter().map(|(_, seq)| seq).collect();
            assert_eq!(sequence, expected, "{settlements:?}");
            let lease = &settlements[0].lease;
            let last = Amount::new(expected[expected.len() - 1]).unwrap();
            assert_eq!(journal.before(lease, last).len(), expected.len() - 1);
            for (number, settlement) in journal.waiting(None, 9) {
                journal.answered(number, &settlement);
            }
            let kept = journal.kept();
            assert_eq!((kept.bytes, kept.numbers.len()), (0, 0));
        }
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
