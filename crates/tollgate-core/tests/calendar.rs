//! The periods of calendars, against a clock on a wall that is read every minute (R18).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use tollgate_core::{Calendar, Period, Timestamp, Zone};

/// Zones with everything that clocks have done since 1972: changes of half an hour and of two hours, at midnight and a minute
/// after it, a change for a month of each year, a day that was skipped, offsets of three quarters of an hour.
const ZONES: [&str; 21] = [
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "America/Caracas",
    "America/Asuncion",
    "America/Scoresbysund",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
];

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
/// 1972, when the last zone had an offset with seconds, and 2075.
const YEARS_S: std::ops::Range<i64> = 2 * 366 * DAY_S..105 * 366 * DAY_S;

/// Where each calendar's periods start in an interval, found by reading the local clock every minute.
struct Scan([Vec<i64>; 4]);

impl Scan {
    fn new(zone: &TimeZone, from_s: i64, until_s: i64) -> Self {
        let shown_s = |at_s: i64| {
            let at = jiff::Timestamp::from_second(at_s).unwrap();
            at_s + i64::from(zone.to_offset(at).seconds())
        };
        let mut starts: [Vec<i64>; 4] = Default::default();
        let mut last_s = shown_s(from_s - MINUTE_S);
        // The latest that the clock has shown, also before it was set back.
        let earlier = (from_s - DAY_S..from_s).step_by(60).map(shown_s);
        let mut latest_s = earlier.max().unwrap();
        for at_s in (from_s..until_s).step_by(60) {
            let now_s = shown_s(at_s);
            if now_s % HOUR_S == 0 || now_s / HOUR_S > last_s / HOUR_S {
                starts[0].push(at_s);
            }
            let (day, latest_day) = (now_s / DAY_S, latest_s / DAY_S);
            if day > latest_day {
                starts[1].push(at_s);
                // The first of January 1970 was a Thursday.
                if (day + 3) / 7 > (latest_day + 3) / 7 {
                    starts[2].push(at_s);
                }
                if month(day) > month(latest_day) {
                    starts[3].push(at_s);
                }
            }
            (last_s, latest_s) = (now_s, latest_s.max(now_s));
        }
        Self(starts)
    }

    /// The period that `at_s` lies in, if the interval contains all of it.
    fn period(&self, calendar: Calendar, at_s: i64) -> Option<(i64, i64)> {
        let starts = &self.0[calendar as usize];
        let next = starts.partition_point(|start_s| *start_s <= at_s);
        Some((*starts.get(next.checked_sub(1)?)?, *starts.get(next)?))
    }
}

/// The months from January 1970 to that of a day, which is counted from the first one.
fn month(mut day: i64) -> i64 {
    let mut months = 0;
    loop {
        let (year, month) = (1970 + months / 12, months % 12);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let days = days[usize::try_from(month).unwrap()];
        if day < days {
            return months;
        }
        day -= days;
        months += 1;
    }
}

/// The generator `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn between(&mut self, from: i64, until: i64) -> i64 {
        from + i64::try_from(self.next() % u64::try_from(until - from).unwrap()).unwrap()
    }
}

fn moment(seconds: i64, ns: u64) -> Timestamp {
    Timestamp::from_ns(u64::try_from(seconds).unwrap() * 1_000_000_000 + ns)
}

/// Compares `number` random moments of an interval; returns how many could be compared.
fn compare(name: &str, from_s: i64, until_s: i64, number: usize, random: &mut Random) -> usize {
    let zone = Zone::named(name).unwrap();
    let scan = Scan::new(&TimeZoneDatabase::bundled().get(name).unwrap(), from_s, until_s);
    let mut compared = 0;
    for turn in 0..number {
        let (at_s, ns) = (random.between(from_s, until_s), random.next() % 1_000_000_000);
        let calendar = Calendar::ALL[turn % 4];
        let Some((start_s, end_s)) = scan.period(calendar, at_s) else { continue };
        let expected = Period { start: moment(start_s, 0), end: moment(end_s, 0) };
        let now = moment(at_s, ns);
        assert_eq!(calendar.period(zone, now), expected, "{name} {calendar:?} {now:?}");
        assert!(expected.length() <= calendar.longest(), "{name} {calendar:?} {now:?}");
        compared += 1;
        // At its ends, and so that nothing remembered helps.
        if turn % 16 < 4 {
            let before = calendar.period(zone, moment(start_s - 1, 999_999_999));
            assert_eq!(before.end, expected.start, "{name} {calendar:?} before {start_s}");
            assert_eq!(calendar.period(zone, expected.start), expected, "{name} {calendar:?}");
            let after = calendar.period(zone, expected.end);
            assert_eq!(after.start, expected.end, "{name} {calendar:?} after {end_s}");
            assert_eq!(calendar.period(zone, moment(end_s - 1, 999_999_999)), expected);
        }
    }
    compared
}

#[test]
fn a_million_moments_lie_in_the_periods_that_clocks_on_walls_show() {
    let (mut random, mut compared) = (Random(18), 0);
    for name in ZONES {
        let zone = TimeZoneDatabase::bundled().get(name).unwrap();
        let first = jiff::Timestamp::from_second(YEARS_S.start).unwrap();
        let changes = zone.following(first).map(|change| change.timestamp().as_second());
        for change_s in changes.take_while(|at_s| YEARS_S.contains(at_s)) {
            let from_s = change_s - change_s.rem_euclid(MINUTE_S) - DAY_S;
            compared += compare(name, from_s, from_s + 2 * DAY_S, 300, &mut random);
        }
        for _ in 0..8 {
            let from_s = random.between(YEARS_S.start, YEARS_S.end) / MINUTE_S * MINUTE_S;
            compared += compare(name, from_s, from_s + 100 * DAY_S, 6_000, &mut random);
        }
    }
    assert!(compared >= 1_000_000, "{compared}");
}

#[test]
fn periods_start_when_the_local_clock_shows_their_beginning() {
    let cases = [
        // Days of 23 and 25 hours; a clock that is set back repeats an hour.
        ("Europe/Berlin", "day", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("Europe/Berlin", "day", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        ("Europe/Berlin", "hour", "2026-10-25T00:30Z", "2026-10-25T00:00Z", "2026-10-25T01:00Z"),
        ("Europe/Berlin", "hour", "2026-10-25T01:30Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"),
        // 02:00 to 01:30, and 02:00 to 02:30.
        (
            "Australia/Lord_Howe",
            "hour",
            "2026-04-04T15:15Z",
            "2026-04-04T14:00Z",
            "2026-04-04T15:30Z",
        ),
        (
            "Australia/Lord_Howe",
            "hour",
            "2026-10-03T15:45Z",
            "2026-10-03T15:30Z",
            "2026-10-03T16:00Z",
        ),
        // From 29 to 31 December.
        ("Pacific/Apia", "day", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("Pacific/Apia", "day", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        // From 00:01 to 23:01 on the day before: the day has begun. The hour goes on.
        ("America/St_Johns", "day", "2006-10-29T03:00Z", "2006-10-29T02:30Z", "2006-10-30T03:30Z"),
        ("America/St_Johns", "hour", "2006-10-29T03:00Z", "2006-10-29T02:30Z", "2006-10-29T03:30Z"),
        // From 00:00 to 01:00: the day starts at one.
        ("America/Havana", "day", "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z"),
        ("Asia/Kathmandu", "month", "2028-02-29T18:00Z", "2028-01-31T18:15Z", "2028-02-29T18:15Z"),
        ("UTC", "month", "2100-02-28T23:59Z", "2100-02-01T00:00Z", "2100-03-01T00:00Z"),
        ("America/New_York", "week", "2026-11-01T12:00Z", "2026-10-26T04:00Z", "2026-11-02T05:00Z"),
        ("UTC", "week", "1970-01-01T00:00Z", "1970-01-01T00:00Z", "1970-01-05T00:00Z"),
    ];
    for (zone, calendar, now, start, end) in cases {
        let at = |text: &str| {
            let parsed: jiff::Timestamp = text.replace('Z', ":00Z").parse().unwrap();
            moment(parsed.as_second(), 0)
        };
        let (zone, calendar) = (Zone::named(zone).unwrap(), Calendar::parse(calendar).unwrap());
        let expected = Period { start: at(start), end: at(end) };
        assert_eq!(calendar.period(zone, at(now)), expected, "{zone:?} {calendar:?} {now}");
    }
}

#[test]
fn the_last_moments_of_all_have_periods() {
    for calendar in Calendar::ALL {
        let last = Timestamp::from_ns(u64::MAX);
        let period = calendar.period(Zone::named("Pacific/Apia").unwrap(), last);
        assert!(period.start < last && last.since(period.start) <= calendar.longest());
        assert!(Duration::from_hours(1) <= calendar.longest());
    }
}
