//! R18 word by word: when periods start.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan, Unit};

use crate::{Calendar, Zone};

const NS_PER_S: i128 = 1_000_000_000;

/// The start of the period that `now_ns` lies in, and of the one after it. Nothing is before the epoch.
pub(super) fn period(calendar: Calendar, zone: Zone, now_ns: u128) -> (u128, u128) {
    let zone = &zone.data().time_zone;
    let now_ns = i128::try_from(now_ns).unwrap_or(i128::MAX);
    let now = Timestamp::from_nanosecond(now_ns).unwrap_or(Timestamp::MAX);
    let shown = zone.to_datetime(now);
    let mut starts: Vec<Timestamp> = beginnings(calendar, shown)
        .into_iter()
        .flat_map(|one| starts(calendar, zone, one))
        .collect();
    starts.sort_unstable();
    let of = |start: Option<&Timestamp>| {
        let seconds = start.map_or(0, |start| i128::from(start.as_second()));
        u128::try_from(seconds * NS_PER_S).unwrap_or(0)
    };
    let (started, later): (Vec<_>, Vec<_>) = starts.iter().partition(|start| **start <= now);
    (of(started.last().copied()), of(later.first().copied()))
}

/// The beginnings of periods around what the clock shows, by the calendar alone.
fn beginnings(calendar: Calendar, shown: DateTime) -> Vec<DateTime> {
    let around = |steps: i64, one: &dyn Fn(i64) -> Option<DateTime>| {
        (-steps..=steps).filter_map(one).collect()
    };
    let midnight = |date: Date| date.at(0, 0, 0, 0);
    match calendar {
        Calendar::Hour => {
            let full = shown.date().at(shown.hour(), 0, 0, 0);
            around(3, &|hours| full.checked_add(hours.hours()).ok())
        }
        Calendar::Day => {
            around(2, &|days| shown.date().checked_add(days.days()).ok().map(midnight))
        }
        Calendar::Week => {
            let monday = shown.date().nth_weekday(-1, jiff::civil::Weekday::Monday).ok();
            around(2, &|weeks| monday?.checked_add(weeks.weeks()).ok().map(midnight))
        }
        Calendar::Month => {
            let first = shown.date().first_of_month();
            around(2, &|months| first.checked_add(months.months()).ok().map(midnight))
        }
    }
}

/// The moments at which the clock shows `beginning`, or is set forward over it. Of a day or more, only the first one counts.
fn starts(calendar: Calendar, zone: &TimeZone, beginning: DateTime) -> Vec<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(beginning);
    let (Ok(earlier), Ok(later)) = (ambiguous.earlier(), ambiguous.later()) else {
        return Vec::new();
    };
    match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } if calendar == Calendar::Hour => vec![earlier, later],
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => vec![earlier],
        AmbiguousOffset::Gap { .. } => {
            // The clock is set forward in between, on a whole second.
            let seconds = later.since((Unit::Second, earlier)).map_or(0, |span| span.get_seconds());
            let offset_before = zone.to_offset(earlier);
            let moments = (0..=seconds).filter_map(|s| earlier.checked_add(s.seconds()).ok());
            moments
                .into_iter()
                .find(|at| zone.to_offset(*at) != offset_before)
                .into_iter()
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_start_when_the_clock_shows_midnight() {
        let seconds = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        let cases = [
            (
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                "America/Havana",
                "2026-03-08T05:00:00Z",
                "2026-03-08T05:00:00Z",
                "2026-03-09T04:00:00Z",
            ),
            (
                "Pacific/Apia",
                "2011-12-30T09:59:59Z",
                "2011-12-29T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
        ];
        for (zone, now, start, end) in cases {
            let ns = |text| u128::try_from(i128::from(seconds(text)) * NS_PER_S).unwrap();
            let zone = Zone::named(zone).unwrap();
            assert_eq!(period(Calendar::Day, zone, ns(now)), (ns(start), ns(end)), "{zone:?}");
        }
    }
}
