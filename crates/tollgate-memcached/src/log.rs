//! The admissions of one key under a limit that counts by a log (R1).

use tollgate_core::counting::Verdict;
use tollgate_core::counting::Wait;
use tollgate_core::counting::log::{self, Log, LogTime};
use tollgate_core::{Amount, Timestamp, Window};

/// The tick of every log, whatever its window, in nanoseconds.
pub(crate) const TICK_NS: u64 = 1_000;
/// The most admissions of a log, so that its value is smaller than the largest that memcached takes by default. A log that
/// has so many is full until the oldest leaves.
pub(crate) const MAX_ENTRIES: usize = 60_000;

/// One admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Names it: the numbers of a log rise and are never used twice.
    pub(crate) number: u64,
    /// Its time in ticks, rounded up.
    pub(crate) stamp: u64,
    pub(crate) cost: u64,
}

/// The admissions, oldest first. Neither their numbers nor their stamps ever decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdmissionLog {
    pub(crate) entries: Vec<Entry>,
    /// The number of the next admission.
    pub(crate) next: u64,
}

/// `now` in the ticks of a log over `window`.
pub(crate) fn time_of(window: Window, now: Timestamp) -> LogTime {
    LogTime::in_ticks_of(TICK_NS, window, now)
}

impl AdmissionLog {
    /// A log without admissions, made at `now`. Its numbers begin so high that those of an earlier log of the same key, which
    /// was deleted, are not used again.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { entries: Vec::new(), next: now.as_ns() / TICK_NS }
    }

    /// The entries that have left the window.
    fn left(&self, time: &LogTime) -> usize {
        self.entries.partition_point(|entry| time.has_left(entry.stamp))
    }

    /// The verdict of `limit` on `cost` (R1). O(n).
    pub(crate) fn evaluate(&self, limit: Amount, time: &LogTime, cost: Amount) -> Verdict {
        let live = &self.entries[self.left(time)..];
        let usage = live.iter().map(|entry| entry.cost).sum();
        let verdict = log::evaluate(&Live { entries: live, usage }, limit, time, cost);
        match live.first() {
            Some(oldest) if verdict.allowed && live.len() >= MAX_ENTRIES => {
                let leaves_at_ns = time.leaves_at_ns(oldest.stamp);
                let wait = Wait::Ns(leaves_at_ns.saturating_sub(time.now_ns()).max(1));
                Verdict { allowed: false, wait, ..verdict }
            }
            _ => verdict,
        }
    }

    /// Forgets what has left the window, and records an admission of `cost`, which is not 0. Returns the entry.
    pub(crate) fn record(&mut self, time: &LogTime, cost: Amount) -> Entry {
        self.entries.drain(..self.left(time));
        let entry = Entry { number: self.next, stamp: time.stamp(), cost: cost.get() };
        self.next += 1;
        self.entries.push(entry);
        entry
    }

    /// Removes an admission; false if it is not there any more.
    pub(crate) fn remove(&mut self, entry: &Entry) -> bool {
        let found = self.entries.binary_search_by_key(&entry.number, |one| one.number);
        let Some(index) = found.ok().filter(|index| self.entries[*index] == *entry) else {
            return false;
        };
        self.entries.remove(index);
        true
    }

    /// When nothing of it is in `window` any more.
    pub(crate) fn idle_at(&self, window: Window) -> Timestamp {
        let newest = self.entries.last().map_or(0, |entry| entry.stamp.saturating_mul(TICK_NS));
        Timestamp::from_ns(newest).after(window.as_duration())
    }
}

/// The entries that are in the window.
struct Live<'a> {
    entries: &'a [Entry],
    usage: u64,
}

impl Log for Live<'_> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn tick(&self, index: usize) -> u64 {
        self.entries[index].stamp
    }

    fn usage(&self) -> u64 {
        self.usage
    }

    fn index_freeing(&self, amount: u64) -> usize {
        let mut sum = 0;
        let mut entries = self.entries.iter();
        entries
            .position(|entry| {
                sum += entry.cost;
                sum >= amount
            })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tollgate_core::counting::log::LogState;

    use super::*;

    const WINDOW: Duration = Duration::from_micros(100);

    proptest! {
        /// Operation by operation as the log of the core: decisions, admissions, and admissions that are taken back.
        #[test]
        fn it_is_the_log_of_the_core(
            limit in 0..10_u64,
            steps in prop::collection::vec((0..40_000_u64, 0..6_u64, any::<bool>()), 1..40),
        ) {
            let (limit, window) = (Amount::new(limit).unwrap(), Window::new(WINDOW * 10).unwrap());
            let (mut log, mut model) = (AdmissionLog::default(), LogState::default());
            let (mut now_ns, mut made) = (1_000_000_000, Vec::new());
            for (later_ns, cost, takes_back) in steps {
                now_ns += later_ns;
                let time = time_of(window, Timestamp::from_ns(now_ns));
                if takes_back && let Some((entry, admission)) = made.pop() {
                    let entry: Entry = entry;
                    let old = Amount::new(entry.cost).unwrap();
                    prop_assert_eq!(log.remove(&entry), model.change(admission, old, Amount::ZERO));
                    prop_assert!(!log.remove(&entry), "twice");
                }
                let cost = Amount::new(cost).unwrap();
                let verdict = log.evaluate(limit, &time, cost);
                prop_assert_eq!(verdict, model.decide(limit, &time, cost, false).0);
                if let (_, Some(admission)) = model.decide(limit, &time, cost, true) {
                    made.push((log.record(&time, cost), admission));
                }
            }
        }
    }

    #[test]
    fn a_log_with_the_most_entries_is_full_until_the_oldest_leaves() {
        let window = Window::new(Duration::from_secs(10)).unwrap();
        let start = Timestamp::from_ms(1_700_000_000_000);
        let mut log = AdmissionLog::new(start);
        for second in [0, 1] {
            let time = time_of(window, start.after(Duration::from_secs(second)));
            let most = if second == 0 { 1 } else { MAX_ENTRIES };
            while log.entries.len() < most {
                log.record(&time, Amount::ONE);
            }
        }
        let at = |ms| time_of(window, start.after(Duration::from_millis(ms)));
        let verdict = log.evaluate(Amount::MAX, &at(4_000), Amount::ONE);
        assert_eq!((verdict.allowed, verdict.wait), (false, Wait::Ns(6_000_000_000)));
        assert!(!log.evaluate(Amount::MAX, &at(9_999), Amount::ONE).allowed);
        assert!(log.evaluate(Amount::MAX, &at(10_000), Amount::ONE).allowed);
    }
}
