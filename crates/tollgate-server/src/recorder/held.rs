//! Lines of leases that are not settled yet: they are written when it is known how much output the answer had.
//!
//! Invariant: a line is written before [`MAX_LATE_LINES`] others came after it, so that `simulate` can put the lines in the order
//! of their times.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tollgate_core::{Amount, Timestamp, Ttl};
use tollgate_store::LeaseId;

use super::MAX_QUEUED;

/// After how many other lines one is written at the latest.
const MAX_LATE_LINES: u64 = 50_000;
const _: () =
    assert!(MAX_LATE_LINES + (MAX_QUEUED as u64) < tollgate_simulate::trace::MAX_READ_AHEAD as u64);
/// The most bytes of lines that are held.
const MAX_HELD_BYTES: usize = 32 << 20;
/// After this time nobody settles a lease that was not extended.
const MAX_AGE: Duration = Ttl::MAX.as_duration();

/// What an answer had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its output tokens, if the settlement names them.
    pub(super) output: Option<Amount>,
    /// How long it took; `None` if there was no answer.
    pub(super) lasted: Option<Duration>,
}

#[derive(Debug)]
struct Line {
    start: String,
    number: u64,
    reserved_at: Timestamp,
}

/// Lines without their end.
#[derive(Debug, Default)]
pub(super) struct HeldLines {
    by_lease: HashMap<LeaseId, Line>,
    /// In the order in which they came, with some that are not held any more.
    order: VecDeque<(u64, LeaseId)>,
    /// How many lines came so far.
    lines: u64,
    bytes: usize,
}

impl HeldLines {
    /// Counts a line that is not held.
    pub(super) fn pass(&mut self) {
        self.lines += 1;
    }

    /// Holds a line until its lease is settled; returns it if a line of this lease is held already.
    pub(super) fn hold(
        &mut self,
        lease: LeaseId,
        start: String,
        reserved_at: Timestamp,
    ) -> Option<String> {
        self.lines += 1;
        if self.by_lease.contains_key(&lease) {
            return Some(start);
        }
        self.bytes += start.len();
        self.order.push_back((self.lines, lease.clone()));
        self.by_lease.insert(lease, Line { start, number: self.lines, reserved_at });
        None
    }

    /// The line of `lease`, whose answer ended at `now`, and what the answer had; `None` if it is not held.
    pub(super) fn end(
        &mut self,
        lease: &LeaseId,
        has_answer: bool,
        output: Option<Amount>,
        now: Timestamp,
    ) -> Option<(String, Answer)> {
        let line = self.by_lease.remove(lease)?;
        self.bytes -= line.start.len();
        let lasted = has_answer.then(|| now.since(line.reserved_at));
        Some((line.start, Answer { output, lasted }))
    }

    /// The next line that can be held no longer at `now`. Call it until it returns `None`.
    pub(super) fn next_overdue(&mut self, now: Timestamp) -> Option<String> {
        self.next_if(|held, line| {
            held.lines - line.number >= MAX_LATE_LINES
                || held.bytes > MAX_HELD_BYTES
                || now.since(line.reserved_at) >= MAX_AGE
        })
    }

    /// The oldest line. Call it until it returns `None`.
    pub(super) fn next(&mut self) -> Option<String> {
        self.next_if(|_, _| true)
    }

    fn next_if(&mut self, is_over: impl Fn(&Self, &Line) -> bool) -> Option<String> {
        while let Some((number, lease)) = self.order.front() {
            let line = self.by_lease.get(lease).filter(|line| line.number == *number);
            if line.is_some_and(|line| !is_over(self, line)) {
                return None;
            }
            let (is_held, lease) = (line.is_some(), lease.clone());
            self.order.pop_front();
            if is_held {
                return self.end(&lease, false, None, Timestamp::default()).map(|(start, _)| start);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(number: u64) -> LeaseId {
        LeaseId::parse(&format!("lease-{number}")).unwrap()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_line_waits_for_its_lease() {
        let mut held = HeldLines::default();
        assert_eq!(held.hold(lease(1), "one".to_owned(), at(5)), None);
        assert_eq!(held.hold(lease(2), "two".to_owned(), at(6)), None);
        let again = held.hold(lease(1), "again".to_owned(), at(7));
        assert_eq!(again.as_deref(), Some("again"), "a repetition is a line of its own");
        assert_eq!(held.next_overdue(at(7)), None);
        let output = Amount::new(30);
        let ended = held.end(&lease(1), true, output, at(25)).unwrap();
        let answer = Answer { output, lasted: Some(Duration::from_millis(20)) };
        assert_eq!(ended, ("one".to_owned(), answer));
        assert_eq!(held.end(&lease(1), true, output, at(25)), None);
        assert_eq!(
            held.end(&lease(2), false, None, at(26)),
            Some(("two".to_owned(), Answer::default()))
        );
        assert_eq!((held.next(), held.bytes, held.order.len()), (None, 0, 0));
    }

    #[test]
    fn a_line_is_held_no_longer_than_a_trace_may_be_out_of_order() {
        let mut held = HeldLines::default();
        held.hold(lease(1), "first".to_owned(), at(0));
        held.hold(lease(2), "second".to_owned(), at(0));
        for _ in 0..MAX_LATE_LINES - 2 {
            held.pass();
            assert_eq!(held.next_overdue(at(1)), None);
        }
        held.pass();
        assert_eq!(held.next_overdue(at(1)).as_deref(), Some("first"));
        assert_eq!(held.next_overdue(at(1)), None);
        held.pass();
        assert_eq!(held.next_overdue(at(1)).as_deref(), Some("second"));
        held.hold(lease(3), "third".to_owned(), at(10));
        assert_eq!(held.next_overdue(at(10 + 3_599_999)), None);
        assert_eq!(held.next_overdue(at(10 + 3_600_000)).as_deref(), Some("third"));
    }

    #[test]
    fn the_memory_of_held_lines_is_bounded() {
        let mut held = HeldLines::default();
        let line = "x".repeat(4_000);
        let (mut written, lines) = (0, 10_000);
        for number in 0..lines {
            held.hold(lease(number), line.clone(), at(0));
            while held.next_overdue(at(0)).is_some() {
                written += 1;
            }
            assert!(held.bytes <= MAX_HELD_BYTES);
        }
        while held.next().is_some() {
            written += 1;
        }
        assert_eq!((written, held.bytes), (lines, 0));
    }
}
