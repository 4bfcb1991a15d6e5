//! A log in its simplest form: a queue of stamps and costs. It decides and records, so tests compare other forms of a log
//! with it, such as the Lua scripts of `tollgate-redis`, operation by operation.

use std::collections::VecDeque;

use super::{Log, LogTime, admitted, evaluate};
use crate::Amount;
use crate::counting::Verdict;

/// Names one admission in its log: its place since the log was empty, and its stamp. A log that was reset counts its
/// places from 0 again, so the stamp is compared too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    /// How many admissions the log had recorded before.
    pub number: u64,
    /// Its stamp, in ticks of the log's own time.
    pub stamp: u64,
}

/// A stamp and a cost. A cost of 0 is a refunded admission: it keeps its place and counts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    stamp: u64,
    cost: u64,
}

/// The admissions of one key, oldest first, whose usage is at most [`Amount::MAX`].
///
/// - A decision forgets what has left the window only when it records an admission: a denial and a peek change no
///   usage (R3).
/// - When the clock has stepped back, the log's own time is set so that its newest admission was made now (R7). The
///   admissions keep their distances, so none leaves early, and all have left a window later.
///
/// An admission and a change cost amortised O(1); a denial O(n), as it looks for its wait entry by entry. Memory is 16
/// bytes an admission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    entries: VecDeque<Entry>,
    /// The number of the first of `entries`.
    first: u64,
    /// The costs of all `entries` together.
    held: u64,
    /// How far the log's own time is ahead of the store's clock, in ticks.
    ahead: u64,
}

impl LogState {
    /// Decides `cost` at `time` and, with `charge`, records it if it is admitted and not 0 (R1).
    pub fn decide(
        &mut self,
        limit: Amount,
        time: &LogTime,
        cost: Amount,
        charge: bool,
    ) -> (Verdict, Option<Admission>) {
        self.follow(time);
        let time = time.shifted(self.ahead);
        // A refunded admission has no time.
        let counts = |entry: &Entry| entry.cost > 0 && !time.has_left(entry.stamp);
        let left = self.entries.iter().position(counts).unwrap_or(self.entries.len());
        let live = self.live_from(left);
        let verdict = evaluate(&live, limit, &time, cost);
        if !charge || !verdict.allowed || cost == Amount::ZERO {
            return (verdict, None);
        }
        let stamp = if live.is_empty() {
            let stamp = time.stamp() - self.ahead;
            *self = Self::default();
            stamp
        } else {
            self.held = live.usage;
            self.entries.drain(..left);
            self.first += left as u64;
            time.stamp()
        };
        let number = self.first + self.entries.len() as u64;
        self.entries.push_back(Entry { stamp, cost: cost.get() });
        self.held += cost.get();
        (admitted(verdict, &time, cost), Some(Admission { number, stamp }))
    }

    /// Changes the cost of `admission` from `old` to `new`; with a `new` of 0 it is as if it had not been made.
    ///
    /// False, and nothing is changed, if there is no such admission any more, or if the usage would be more than
    /// [`Amount::MAX`].
    pub fn change(&mut self, admission: Admission, old: Amount, new: Amount) -> bool {
        let wanted = Entry { stamp: admission.stamp, cost: old.get() };
        let others = self.held.saturating_sub(old.get());
        let entry = admission
            .number
            .checked_sub(self.first)
            .and_then(|place| self.entries.get_mut(usize::try_from(place).ok()?))
            .filter(|entry| **entry == wanted && old != Amount::ZERO);
        let (Some(entry), true) = (entry, others + new.get() <= Amount::MAX.get()) else {
            return false;
        };
        entry.cost = new.get();
        self.held = others + new.get();
        if self.held == 0 {
            *self = Self::default();
        }
        true
    }

    /// The number of admissions held, including those that were refunded or have left the window since the last admission.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps the newest admission from being in the future.
    fn follow(&mut self, time: &LogTime) {
        let live = self.live_from(0);
        if let Some(newest) = live.len().checked_sub(1) {
            let ahead = live.tick(newest).saturating_sub(time.stamp());
            self.ahead = self.ahead.max(ahead);
        }
    }

    fn live_from(&self, from: usize) -> Live<'_> {
        let newest = self.entries.iter().rposition(|entry| entry.cost > 0);
        let until = newest.map_or(from, |newest| (newest + 1).max(from));
        let left: u64 = self.entries.range(..from).map(|entry| entry.cost).sum();
        Live { entries: &self.entries, from, until, usage: self.held - left }
    }
}

/// The entries that have not left the window, up to the newest that counts.
struct Live<'a> {
    entries: &'a VecDeque<Entry>,
    from: usize,
    until: usize,
    usage: u64,
}

impl Log for Live<'_> {
    fn len(&self) -> usize {
        self.until - self.from
    }

    fn tick(&self, index: usize) -> u64 {
        self.entries[self.from + index].stamp
    }

    fn usage(&self) -> u64 {
        self.usage
    }

    fn index_freeing(&self, amount: u64) -> usize {
        let mut sum = 0;
        let mut live = self.entries.range(self.from..self.until);
        live.position(|entry| {
            sum += entry.cost;
            sum >= amount
        })
        .unwrap_or(0)
    }
}
