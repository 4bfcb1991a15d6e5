//! Parses numbers exactly, from the text in which they were written.

use std::time::Duration;

use tollgate_core::{Amount, Share, Weight, Window};

use super::report::shortened;

/// What [`amount`] accepts.
pub(super) const ACCEPTED_LIMITS: &str =
    "an integer from 0 to 9007199254740991, or null (in TOML \"exempt\") to exempt";

/// What [`window`] accepts.
pub(super) const ACCEPTED_WINDOWS: &str =
    "a number of seconds from 0.001 to 31622400 with at most 9 decimals";

/// What [`share`] accepts.
pub(super) const ACCEPTED_SHARES: &str = "a number from 0 to 1 with at most 6 decimals";

/// What [`weight`] accepts.
pub(super) const ACCEPTED_WEIGHTS: &str = "a number from 0 to 1000 with at most 3 decimals";

/// A window is exact to the nanosecond.
const WINDOW_DECIMALS: usize = 9;

/// Parses an amount, or returns its problem.
///
/// Only an integer in plain decimal digits is accepted: `1.0`, `1e3`, `0x10`, `010` and `-0` are refused, because the
/// writer may not mean the value to which they would be rounded or converted.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    let digits = unsigned(text)?;
    let is_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_decimal = digits.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    if !is_digits {
        let why =
            if is_decimal { "is not written as an integer" } else { "is not in decimal digits" };
        return Err(format!("{} {why}", shortened(text)));
    }
    refuse_leading_zero(text, digits)?;
    // Digits that overflow are above the largest amount too.
    let amount = digits.parse().ok().and_then(Amount::new);
    amount.ok_or_else(|| format!("{} is above {}", shortened(text), Amount::MAX))
}

/// Parses a window in seconds, or returns its problem.
///
/// Exact to the nanosecond. Exponents and more than nine decimals are refused.
pub(super) fn window(text: &str) -> Result<Window, String> {
    let (seconds, subsecond_ns) = decimal(text, WINDOW_DECIMALS)?;
    let length = Duration::new(seconds, subsecond_ns);
    Window::new(length).ok_or_else(|| {
        let (side, bound) =
            if length < Window::MIN { ("below", Window::MIN) } else { ("above", Window::MAX) };
        format!("{} is {side} {}", shortened(text), bound.as_secs_f64())
    })
}

/// Parses a share, or returns its problem.
pub(super) fn share(text: &str) -> Result<Share, String> {
    let (whole, millionths) = decimal(text, Share::MAX_DECIMALS)?;
    let in_millionths = match whole {
        0 => Share::of_millionths(millionths),
        1 if millionths == 0 => Some(Share::WHOLE),
        _ => None,
    };
    in_millionths.ok_or_else(|| format!("{} is above 1", shortened(text)))
}

/// Parses a weight, or returns its problem.
pub(super) fn weight(text: &str) -> Result<Weight, String> {
    let (whole, thousandths) = decimal(text, Weight::MAX_DECIMALS)?;
    let whole = u32::try_from(whole).ok().and_then(|whole| whole.checked_mul(1_000));
    let in_thousandths = whole.and_then(|whole| whole.checked_add(thousandths));
    let weight = in_thousandths.and_then(Weight::of_thousandths);
    weight.ok_or_else(|| format!("{} is above {}", shortened(text), Weight::MAX))
}

/// The whole part of the number in `text`, and the rest in units of its last allowed decimal.
///
/// A whole part that overflows becomes the greatest value, which is above every bound.
fn decimal(text: &str, max_decimals: usize) -> Result<(u64, u32), String> {
    let number = unsigned(text)?;
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (number, None),
    };
    let is_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_digits(whole) || !decimals.is_none_or(is_digits) {
        return Err(format!("{} is not in plain decimal digits", shortened(text)));
    }
    refuse_leading_zero(text, whole)?;
    let decimals = decimals.unwrap_or("");
    if decimals.len() > max_decimals {
        return Err(format!("{} has {} decimals", shortened(text), decimals.len()));
    }
    let rest = format!("{decimals:0<max_decimals$}").parse().unwrap_or(0);
    Ok((whole.parse().unwrap_or(u64::MAX), rest))
}

/// `text` without a plus sign, or the problem of its minus sign.
fn unsigned(text: &str) -> Result<&str, String> {
    let Some(magnitude) = text.strip_prefix('-') else {
        return Ok(text.strip_prefix('+').unwrap_or(text));
    };
    let is_zero = !magnitude.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let why = if is_zero { "has a minus sign" } else { "is negative" };
    Err(format!("{} {why}", shortened(text)))
}

/// Some readers take `010` as ten, others as eight.
fn refuse_leading_zero(text: &str, digits: &str) -> Result<(), String> {
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(format!("{} has a leading zero", shortened(text)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_an_integer_in_plain_digits() {
        let cases = [
            ("0", Ok(0)),
            ("+7", Ok(7)),
            ("9007199254740991", Ok((1 << 53) - 1)),
            ("9007199254740992", Err("9007199254740992 is above 9007199254740991")),
            ("99999999999999999999999", Err("99999999999999999999999 is above 9007199254740991")),
            ("-3", Err("-3 is negative")),
            ("-0", Err("-0 has a minus sign")),
            ("1.0", Err("1.0 is not written as an integer")),
            ("1e3", Err("1e3 is not written as an integer")),
            ("1e400", Err("1e400 is not written as an integer")),
            ("0x10", Err("0x10 is not in decimal digits")),
            ("nan", Err("nan is not in decimal digits")),
            ("010", Err("010 has a leading zero")),
            ("", Err(" is not in decimal digits")),
        ];
        for (text, expected) in cases {
            assert_eq!(amount(text).map(Amount::get), expected.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn a_share_is_a_part_of_one() {
        let cases = [
            ("0.5", Ok(500_000)),
            ("1", Ok(1_000_000)),
            ("1.0", Ok(1_000_000)),
            ("0", Ok(0)),
            ("0.000001", Ok(1)),
            ("1.000001", Err("1.000001 is above 1")),
            ("2", Err("2 is above 1")),
            ("0.0000001", Err("0.0000001 has 7 decimals")),
            ("-0.5", Err("-0.5 is negative")),
            ("5e-1", Err("5e-1 is not in plain decimal digits")),
        ];
        for (text, expected) in cases {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(share(text).map(Share::millionths), expected, "{text:?}");
        }
    }

    #[test]
    fn a_weight_has_at_most_three_decimals() {
        let cases = [
            ("0.1", Ok(100)),
            ("0", Ok(0)),
            ("1.25", Ok(1_250)),
            ("0.001", Ok(1)),
            ("1000", Ok(1_000_000)),
            ("1000.001", Err("1000.001 is above 1000")),
            ("4294968", Err("4294968 is above 1000")),
            ("99999999999999999999", Err("99999999999999999999 is above 1000")),
            ("0.0001", Err("0.0001 has 4 decimals")),
            ("-1", Err("-1 is negative")),
            ("1e-1", Err("1e-1 is not in plain decimal digits")),
        ];
        for (text, expected) in cases {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(weight(text).map(Weight::thousandths), expected, "{text:?}");
        }
    }

    #[test]
    fn a_window_is_exact_and_within_its_bounds() {
        let cases = [
            ("3600", Ok(3_600_000_000_000)),
            ("0.001", Ok(1_000_000)),
            ("0.1", Ok(100_000_000)),
            ("1.000000001", Ok(1_000_000_001)),
            ("31622400.000000000", Ok(31_622_400_000_000_000)),
            ("31622400.000000001", Err("31622400.000000001 is above 31622400")),
            ("0", Err("0 is below 0.001")),
            ("0.000999999", Err("0.000999999 is below 0.001")),
            ("-60", Err("-60 is negative")),
            ("1.0000000001", Err("1.0000000001 has 10 decimals")),
            ("1e3", Err("1e3 is not in plain decimal digits")),
            (".5", Err(".5 is not in plain decimal digits")),
            ("5.", Err("5. is not in plain decimal digits")),
            ("060", Err("060 has a leading zero")),
            ("99999999999999999999999", Err("99999999999999999999999 is above 31622400")),
        ];
        for (text, expected) in cases {
            assert_eq!(
                window(text).map(Window::as_ns),
                expected.map_err(str::to_owned),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_bounds_in_messages_are_those_of_the_core() {
        assert!(ACCEPTED_LIMITS.contains(&Amount::MAX.to_string()));
        assert!(ACCEPTED_WEIGHTS.contains(&Weight::MAX.to_string()));
        assert!(ACCEPTED_WINDOWS.contains(&Window::MIN.as_secs_f64().to_string()));
        assert!(ACCEPTED_WINDOWS.contains(&Window::MAX.as_secs_f64().to_string()));
    }

    proptest! {
        #[test]
        fn every_window_reads_back_from_its_decimals(ns in 1_000_000..=31_622_400_000_000_000_u64) {
            let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
            prop_assert_eq!(window(&text).map(Window::as_ns), Ok(ns));
        }
    }
}
