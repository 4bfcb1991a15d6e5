//! Parses durations such as `90s`, `7d` or `1h30m`, exactly.

use std::time::Duration;

use tollgate_core::Window;

use super::report::shortened;

/// What [`window`] accepts.
pub(super) const ACCEPTED_DURATIONS: &str = "a duration from 1ms to 366d in whole days, hours, minutes, seconds and milliseconds, such as 90s, 7d, \
     1h30m or 500ms";

/// The units from the longest to the shortest, with their length in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a window, or returns its problem.
///
/// Each part is an integer and a unit; the units must get shorter, so that no part can be overlooked.
pub(super) fn window(text: &str) -> Result<Window, String> {
    let shown = || format!("{:?}", shortened(text));
    let mut rest = text;
    let (mut total_ms, mut units) = (0_u64, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        match (number, unit) {
            ("", _) => return Err(format!("{} is not a duration", shown())),
            (_, "") if after.is_empty() => {
                return Err(format!("{} has no unit after {}", shown(), shortened(number)));
            }
            (_, "") => return Err(format!("{} is not in whole numbers of units", shown())),
            _ => {}
        }
        let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
            let why = if UNITS.iter().any(|(name, _)| *name == unit) {
                "does not go from longer to shorter units, each once, at"
            } else {
                "has the unknown unit"
            };
            return Err(format!("{} {why} {}", shown(), shortened(unit)));
        };
        // What overflows is above the longest window too.
        let part = number.parse().unwrap_or(u64::MAX).saturating_mul(units[index].1);
        total_ms = total_ms.saturating_add(part);
        units = &units[index + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let length = Duration::from_millis(total_ms);
    Window::new(length).ok_or_else(|| {
        let side = if length < Window::MIN { "below 1ms" } else { "above 366d" };
        format!("{} is {side}", shown())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_the_sum_of_its_parts() {
        let cases = [
            ("90s", Ok(90_000)),
            ("1h", Ok(3_600_000)),
            ("7d", Ok(604_800_000)),
            ("1h30m", Ok(5_400_000)),
            ("500ms", Ok(500)),
            ("1d2h3m4s5ms", Ok(93_784_005)),
            ("0h1s", Ok(1_000)),
            ("366d", Ok(31_622_400_000)),
            ("366d1ms", Err("\"366d1ms\" is above 366d")),
            ("99999999999999999999999d", Err("\"99999999999999999999999d\" is above 366d")),
            ("0s", Err("\"0s\" is below 1ms")),
            ("", Err("is empty")),
            ("90", Err("\"90\" has no unit after 90")),
            ("1h30", Err("\"1h30\" has no unit after 30")),
            ("1w", Err("\"1w\" has the unknown unit w")),
            ("1H", Err("\"1H\" has the unknown unit H")),
            ("1.5h", Err("\"1.5h\" is not in whole numbers of units")),
            ("30m1h", Err("\"30m1h\" does not go from longer to shorter units, each once, at h")),
            ("1h1h", Err("\"1h1h\" does not go from longer to shorter units, each once, at h")),
            ("-1h", Err("\"-1h\" is not a duration")),
            (" 1h", Err("\" 1h\" is not a duration")),
            ("1 h", Err("\"1 h\" is not in whole numbers of units")),
            ("PT1H", Err("\"PT1H\" is not a duration")),
            ("s", Err("\"s\" is not a duration")),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|ms: u64| ms * 1_000_000).map_err(str::to_owned);
            assert_eq!(window(text).map(Window::as_ns), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_window_of_whole_milliseconds_reads_back(ms in 1_u64..=31_622_400_000) {
            let mut left = ms;
            let mut text = String::new();
            for (name, length) in UNITS {
                if left / length > 0 {
                    text.extend([(left / length).to_string(), name.to_owned()]);
                }
                left %= length;
            }
            prop_assert_eq!(window(&text).map(Window::as_ns), Ok(ms * 1_000_000));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9dhms.é ]{0,12}") {
            _ = window(&text);
        }
    }
}
