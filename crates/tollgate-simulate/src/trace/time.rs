//! Times of a trace, parsed exactly to the nanosecond, without floating-point numbers.

use tollgate_core::Timestamp;

use crate::error::{LineProblem, shown};

/// The latest time of a trace, the year 2500: so far from the end of [`Timestamp`] that no window reaches beyond it.
const MAX_SECONDS: u64 = 16_725_225_600;

const NS_PER_SECOND: u64 = 1_000_000_000;

const ACCEPTED: &str = "seconds since 1970-01-01T00:00:00Z with at most 9 decimals (1700158624.5), or RFC 3339 \
     (2023-11-16T18:17:04.5Z), up to the year 2500";

const ACCEPTED_AZURE: &str =
    "YYYY-MM-DD HH:MM:SS in UTC with at most 9 decimals, from the year 1970 up to the year 2500";

/// The time in `text`: seconds with decimals, or RFC 3339.
pub(crate) fn parse(column: &str, text: &str) -> Result<Timestamp, LineProblem> {
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let moment = if decimal {
        parse_seconds(text)
    } else if is_rfc_3339(text) {
        text.parse().ok().and_then(|moment: jiff::Timestamp| in_range(moment.as_nanosecond()))
    } else {
        None
    };
    moment.ok_or_else(|| refuse(column, text, ACCEPTED))
}

/// The time in `text` in the format of the Azure traces: `2023-11-16 18:17:03.9799600`.
pub(super) fn parse_azure(column: &str, text: &str) -> Result<Timestamp, LineProblem> {
    let parse = || {
        let well_formed = is_civil(text.get(..19)?, b" ") && is_fraction(text.get(19..)?);
        let civil: jiff::civil::DateTime = well_formed.then(|| text.parse().ok()).flatten()?;
        let moment = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
        in_range(moment.as_nanosecond())
    };
    parse().ok_or_else(|| refuse(column, text, ACCEPTED_AZURE))
}

/// `at` in RFC 3339, for reports.
pub(crate) fn rfc_3339(at: Timestamp) -> String {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(at.as_ns()));
    moment.map_or_else(|_| format!("{} ns", at.as_ns()), |moment| moment.to_string())
}

fn refuse(column: &str, text: &str, accepted: &str) -> LineProblem {
    if text.is_empty() {
        return LineProblem::new(column, "is empty", accepted);
    }
    LineProblem::new(column, format!("is {}", shown(text)), accepted)
}

fn in_range(ns: i128) -> Option<Timestamp> {
    let ns = u64::try_from(ns).ok()?;
    (ns <= MAX_SECONDS * NS_PER_SECOND).then_some(Timestamp::from_ns(ns))
}

/// The time in `text`: digits with at most one decimal point.
fn parse_seconds(text: &str) -> Option<Timestamp> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) if is_digits(decimals) && decimals.len() <= 9 => (whole, decimals),
        Some(_) => return None,
        None => (text, ""),
    };
    // Above the range, the product would overflow.
    let seconds = whole.parse().ok().filter(|seconds: &u64| *seconds <= MAX_SECONDS)?;
    let ns: u64 = format!("{decimals:0<9}").parse().ok()?;
    in_range(i128::from(seconds * NS_PER_SECOND + ns))
}

/// Whether `text` has the shape of RFC 3339; jiff, which parses the numbers, accepts more of ISO 8601.
fn is_rfc_3339(text: &str) -> bool {
    let shape = || {
        let civil = is_civil(text.get(..19)?, b"Tt ");
        let rest = text.get(19..)?;
        let offset_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (fraction, offset) = rest.split_at(offset_at);
        let offset = match offset.as_bytes() {
            [b'Z' | b'z'] => true,
            [b'+' | b'-', h1, h2, b':', m1, m2] => {
                [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit())
            }
            _ => false,
        };
        Some(civil && is_fraction(fraction) && offset)
    };
    shape().unwrap_or(false)
}

/// Whether `text` has the shape `YYYY-MM-DD HH:MM:SS`, with one of `separators` between date and time.
fn is_civil(text: &str, separators: &[u8]) -> bool {
    text.len() == 19
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            10 => separators.contains(&byte),
            13 | 16 => byte == b':',
            _ => byte.is_ascii_digit(),
        })
}

/// Whether `text` is empty, or a decimal point and 1 to 9 digits.
fn is_fraction(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix('.').is_some_and(|digits| is_digits(digits) && digits.len() <= 9)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        let cases = [
            ("0", 0),
            ("0.1", 100_000_000),
            ("1700158624.031960001", 1_700_158_624_031_960_001),
            // 2^53 ns is where a double would start to round.
            ("9007199.254740993", 9_007_199_254_740_993),
            ("16725225600", 16_725_225_600_000_000_000),
            ("2023-11-16T18:17:04.5Z", 1_700_158_624_500_000_000),
            ("2023-11-16t20:17:04.5+02:00", 1_700_158_624_500_000_000),
            ("2023-11-16 18:17:04-00:00", 1_700_158_624_000_000_000),
            ("1970-01-01T00:00:00.000000001Z", 1),
        ];
        for (text, ns) in cases {
            assert_eq!(parse("timestamp", text), Ok(Timestamp::from_ns(ns)), "{text}");
        }
    }

    #[test]
    fn times_of_other_shapes_are_refused() {
        let cases = [
            "",
            ".",
            "1.",
            ".5",
            "1.2.3",
            "-1",
            "+1",
            "1e9",
            "1 ",
            "0x10",
            "NaN",
            "1,5",
            "1.0000000001",
            "16725225600.000000001",
            "99999999999999999999999",
            "2023-11-16",
            "2023-11-16T18:17:04",
            "2023-11-16T18:17Z",
            "20231116T181704Z",
            "2023-11-16T18:17:04.Z",
            "2023-11-16T18:17:04.0123456789Z",
            "2023-11-16T18:17:04+02",
            "2023-11-16T18:17:04Z[UTC]",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2500-01-01T00:00:00.1Z",
            "2023-11-16T18:17:04é",
        ];
        for text in cases {
            assert!(parse("timestamp", text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_the_azure_traces_are_read_exactly() {
        let parse = |text| parse_azure("TIMESTAMP", text);
        let ns = 1_700_158_623_979_960_000;
        assert_eq!(parse("2023-11-16 18:17:03.9799600"), Ok(Timestamp::from_ns(ns)));
        assert_eq!(parse("2023-11-16 18:17:03"), Ok(Timestamp::from_ns(ns - 979_960_000)));
        for text in [
            "",
            "2023-11-16",
            "2023-11-16T18:17:03",
            "2023-11-16 18:17:03Z",
            "2023-11-16 25:00:00",
            "2023-11-16 18:17:03.",
            "2023-11-16 18:17:03.0123456789",
            "1969-12-31 23:59:59",
            "2023-11-16 18:17:0３",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
