//! Hours, days, weeks and months as the clocks of a time zone show them (R18).
//!
//! A period starts when the local clock shows its beginning, or is set forward over it. If the clock is set back, so that it
//! shows a beginning twice, then a day, week or month starts the first time only: its period is longer. An hour starts each
//! time that the clock shows a full hour, so an hour that is repeated counts as another hour. A period that the clock skips
//! as a whole does not exist. So each moment lies in one period, and a period ends where the next one starts.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Span;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::policy::DEFAULT_WINDOW;
use crate::zone::ZoneData;
use crate::{Timestamp, Window, Zone};

/// A unit of the calendar, which is the period of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Calendar {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday, as in ISO 8601.
    Week,
    /// From the first day of a month to the last.
    Month,
}

/// A period of a calendar: from its start, inclusive, to its end, which is the start of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Period {
    /// The first moment, a whole second. That of the period that contains the Unix epoch is the epoch.
    pub start: Timestamp,
    /// The first moment of the next period, a whole second.
    pub end: Timestamp,
}

const NS_PER_S: u64 = 1_000_000_000;
const SECONDS_PER_HOUR: i64 = 3_600;

/// The bits for the length in a packed period: 194 days. The start, in seconds, has the others.
const LENGTH_BITS: u32 = 24;

impl Calendar {
    /// Every calendar.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];
    /// What [`Calendar::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`hour`, `day`, `week` or `month`";

    /// The calendar called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|calendar| calendar.name() == name)
    }

    /// The name, as in policies and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// As long as a period usually is; of a month, 31 days.
    pub const fn usual_length(self) -> Window {
        USUAL_LENGTHS[self as usize]
    }

    /// No period is longer: clocks are set back by at most a few hours.
    pub const fn longest(self) -> Duration {
        Duration::from_nanos(self.usual_length().as_ns() + LONGEST_SET_BACK_NS)
    }

    /// The period of this calendar that `now` lies in, by the clocks of `zone`.
    ///
    /// A pure function. The answer is remembered, so that it takes a few nanoseconds until the period ends.
    #[inline]
    pub fn period(self, zone: Zone, now: Timestamp) -> Period {
        // Relaxed: the value is complete in itself, and an old one is only not found to contain now.
        let latest = &zone.data().latest_periods[self as usize];
        let period = Period::unpacked(latest.load(Ordering::Relaxed));
        if period.contains(now) {
            return period;
        }
        let period = self.find(zone.data(), now);
        latest.store(period.packed(), Ordering::Relaxed);
        period
    }

    #[cold]
    fn find(self, zone: &ZoneData, now: Timestamp) -> Period {
        let at = Instant::of(now);
        let (start, end) = match self {
            Self::Hour => (hour_start(&zone.time_zone, at), hour_end(&zone.time_zone, at)),
            Self::Day | Self::Week | Self::Month => self.days(&zone.time_zone, at),
        };
        Period { start: start.timestamp(), end: end.timestamp() }
    }

    /// The start and the end of a period that consists of whole days.
    fn days(self, zone: &TimeZone, at: Instant) -> (Instant, Instant) {
        let mut first = self.first_day(at.local_date(zone));
        let mut start = first_instant(zone, first);
        loop {
            let next = self.next(first);
            let end = first_instant(zone, next);
            // Not so if the clock was set back over the end, so that it shows the last day again.
            if at < end {
                return (start, end);
            }
            (first, start) = (next, end);
        }
    }

    /// The first day of the period that `date` lies in.
    fn first_day(self, date: Date) -> Date {
        match self {
            Self::Hour | Self::Day => date,
            Self::Week => {
                let since_monday = date.weekday().to_monday_zero_offset();
                date.saturating_sub(Span::new().days(since_monday))
            }
            Self::Month => date.first_of_month(),
        }
    }

    /// The first day of the period after that which begins with `first`.
    fn next(self, first: Date) -> Date {
        let span = Span::new();
        first.saturating_add(match self {
            Self::Hour | Self::Day => span.days(1),
            Self::Week => span.weeks(1),
            Self::Month => span.months(1),
        })
    }
}

/// By calendar.
const USUAL_LENGTHS: [Window; Calendar::ALL.len()] = {
    let hours = [1, 24, 7 * 24, 31 * 24];
    let mut lengths = [DEFAULT_WINDOW; Calendar::ALL.len()];
    let mut index = 0;
    while index < hours.len() {
        lengths[index] = match Window::new(Duration::from_hours(hours[index])) {
            Some(window) => window,
            None => panic!("hours to a month are windows"),
        };
        index += 1;
    }
    lengths
};
/// More than any clock was set back since 1970, which is 2 hours.
const LONGEST_SET_BACK_NS: u64 = 3 * 3_600 * NS_PER_S;

impl Period {
    /// Whether `moment` lies in it.
    #[inline]
    pub const fn contains(self, moment: Timestamp) -> bool {
        self.start.as_ns() <= moment.as_ns() && moment.as_ns() < self.end.as_ns()
    }

    /// How long it lasts.
    pub fn length(self) -> Duration {
        self.end.since(self.start)
    }

    /// [`Period::length`] in seconds; `None` if nothing is left of it before the end of all timestamps.
    #[inline]
    pub fn length_s(self) -> Option<NonZeroU32> {
        let seconds = (self.end.as_ns() - self.start.as_ns()) / NS_PER_S;
        u32::try_from(seconds).ok().and_then(NonZeroU32::new)
    }

    /// In one number, so that it is read and written at once.
    const fn packed(self) -> u64 {
        let start_s = self.start.as_ns() / NS_PER_S;
        let length_s = self.end.as_ns().div_ceil(NS_PER_S) - start_s;
        start_s << LENGTH_BITS | length_s
    }

    const fn unpacked(packed: u64) -> Self {
        let start_s = packed >> LENGTH_BITS;
        let end_s = start_s + (packed & ((1 << LENGTH_BITS) - 1));
        Self {
            start: Timestamp::from_ns(start_s * NS_PER_S),
            end: Timestamp::from_ns(end_s.saturating_mul(NS_PER_S)),
        }
    }
}

/// A moment in whole seconds since the Unix epoch, rounded down: zones change their offset on whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(i64);

impl Instant {
    fn of(moment: Timestamp) -> Self {
        Self(i64::try_from(moment.as_ns() / NS_PER_S).unwrap_or(i64::MAX))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_ns(u64::try_from(self.0).unwrap_or(0).saturating_mul(NS_PER_S))
    }

    fn of_jiff(moment: jiff::Timestamp) -> Self {
        Self(moment.as_second())
    }

    /// Timestamps end in the year 2554, and jiff's in the year 9999.
    fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::MAX)
    }

    fn offset(self, zone: &TimeZone) -> Offset {
        zone.to_offset(self.jiff())
    }

    /// What the local clock shows, in seconds since it showed the beginning of 1970.
    fn local_s(self, zone: &TimeZone) -> i64 {
        self.0 + i64::from(self.offset(zone).seconds())
    }

    fn local_date(self, zone: &TimeZone) -> Date {
        self.offset(zone).to_datetime(self.jiff()).date()
    }

    /// The moment when a clock with this `offset` shows the beginning of `date`.
    fn midnight(date: Date, offset: Offset) -> Self {
        let at_utc = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
        let at_utc_s = at_utc.unwrap_or(jiff::Timestamp::MAX).as_second();
        Self(at_utc_s - i64::from(offset.seconds()))
    }
}

/// The first moment at which the local clock shows the beginning of `date`, or is set forward over it.
fn first_instant(zone: &TimeZone, date: Date) -> Instant {
    match zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).offset() {
        AmbiguousOffset::Unambiguous { offset } => Instant::midnight(date, offset),
        AmbiguousOffset::Fold { before, .. } => Instant::midnight(date, before),
        AmbiguousOffset::Gap { after, .. } => {
            let before_change = Instant::midnight(date, after);
            Change::following(zone, before_change).map_or(before_change, |change| change.at)
        }
    }
}

/// A change of the offset of a zone, or of nothing but its abbreviation.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Instant,
    /// What the clock would have shown,
    before_s: i64,
    /// and what it shows.
    after_s: i64,
}

impl Change {
    fn new(zone: &TimeZone, at: jiff::Timestamp) -> Self {
        let at = Instant::of_jiff(at);
        let before_s = Instant(at.0 - 1).local_s(zone) + 1;
        Self { at, before_s, after_s: at.local_s(zone) }
    }

    /// The first change after `at`.
    fn following(zone: &TimeZone, at: Instant) -> Option<Self> {
        zone.following(at.jiff()).next().map(|change| Self::new(zone, change.timestamp()))
    }

    /// The last change that is not after `at`.
    fn latest(zone: &TimeZone, at: Instant) -> Option<Self> {
        let next_second = Instant(at.0 + 1).jiff();
        zone.preceding(next_second).next().map(|change| Self::new(zone, change.timestamp()))
    }

    /// Whether an hour starts with it: the clock shows a full hour, or was set forward over one.
    fn starts_hour(self) -> bool {
        let full_hour_s = self.after_s - self.after_s.rem_euclid(SECONDS_PER_HOUR);
        full_hour_s == self.after_s || full_hour_s >= self.before_s
    }
}

fn hour_start(zone: &TimeZone, mut at: Instant) -> Instant {
    loop {
        let start = Instant(at.0 - at.local_s(zone).rem_euclid(SECONDS_PER_HOUR));
        match Change::latest(zone, at) {
            Some(change) if change.at > start => {
                if change.starts_hour() {
                    return change.at;
                }
                // The hour goes on across the change.
                at = Instant(change.at.0 - 1);
            }
            _ => return start,
        }
    }
}

fn hour_end(zone: &TimeZone, mut at: Instant) -> Instant {
    loop {
        let since_start_s = at.local_s(zone).rem_euclid(SECONDS_PER_HOUR);
        let end = Instant(at.0 + SECONDS_PER_HOUR - since_start_s);
        match Change::following(zone, at) {
            Some(change) if change.at <= end => {
                if change.starts_hour() {
                    return change.at;
                }
                at = change.at;
            }
            _ => return end,
        }
    }
}
