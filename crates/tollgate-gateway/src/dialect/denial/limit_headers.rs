//! The state of limits as header fields: `RateLimit`, and those that the clients of each dialect show.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tollgate_core::{Decision, LimitStatus, Mode, SystemWallClock, Unit, Visibility, WallClock};

use crate::config::Dialect;

/// The name of each unit in the fields of a dialect.
const OPENAI_UNITS: [(Unit, &str); 2] = [(Unit::Requests, "requests"), (Unit::Tokens, "tokens")];
const ANTHROPIC_UNITS: [(Unit, &str); 4] = [
    (Unit::Requests, "requests"),
    (Unit::Tokens, "tokens"),
    (Unit::InputTokens, "input-tokens"),
    (Unit::OutputTokens, "output-tokens"),
];

/// Writes the limits of `decision` that callers may see into `headers`, in `dialect` and as `RateLimit`. For each unit, it is
/// the limit with the least left.
pub fn apply_limits(dialect: Dialect, decision: &Decision, headers: &mut HeaderMap) {
    tollgate_http::apply(decision, headers);
    let units: &[(Unit, &str)] = match dialect {
        Dialect::OpenAi => &OPENAI_UNITS,
        Dialect::Anthropic => &ANTHROPIC_UNITS,
    };
    for (unit, name) in units {
        let Some(status) = tightest(decision, unit) else { continue };
        let reset_ms = status.reset_after_ms;
        let (limit, remaining) = (status.limit.amount().get(), status.remaining);
        match dialect {
            Dialect::OpenAi => {
                insert(headers, &format!("x-ratelimit-limit-{name}"), &limit.to_string());
                insert(headers, &format!("x-ratelimit-remaining-{name}"), &remaining.to_string());
                insert(headers, &format!("x-ratelimit-reset-{name}"), &duration(reset_ms));
            }
            Dialect::Anthropic => {
                let field = |part| format!("anthropic-ratelimit-{name}-{part}");
                insert(headers, &field("limit"), &limit.to_string());
                insert(headers, &field("remaining"), &remaining.to_string());
                insert(headers, &field("reset"), &instant(reset_ms));
            }
        }
    }
}

/// The enforced public limit in `unit` with the least left.
fn tightest<'a>(decision: &'a Decision, unit: &Unit) -> Option<&'a LimitStatus> {
    let is_shown = |status: &&LimitStatus| {
        status.limit.unit() == unit
            && status.limit.mode() == Mode::Enforce
            && status.limit.visibility() == Visibility::Public
    };
    decision.limits().iter().filter(is_shown).min_by_key(|status| status.remaining)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// A duration as OpenAI writes it, such as `1h2m3.5s` or `120ms`.
fn duration(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let mut out = String::new();
    if hours > 0 {
        _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        _ = write!(out, "{minutes}m");
    }
    let thousandths = rest % 1_000;
    _ = write!(out, "{}", rest / 1_000);
    if thousandths > 0 {
        out.push_str(format!(".{thousandths:03}").trim_end_matches('0'));
    }
    out + "s"
}

/// The time in so many milliseconds, as RFC 3339 in whole seconds rounded up.
fn instant(in_ms: u64) -> String {
    let now_ms = SystemWallClock.wall_time().as_ns() / 1_000_000;
    let seconds = i64::try_from((now_ms + in_ms).div_ceil(1_000)).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_openai_does() {
        let cases = [
            (0, "0ms"),
            (120, "120ms"),
            (1_000, "1s"),
            (59_120, "59.12s"),
            (360_000, "6m0s"),
            (3_723_500, "1h2m3.5s"),
            (86_400_000, "24h0m0s"),
        ];
        for (ms, expected) in cases {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn an_instant_is_written_as_rfc_3339() {
        let written = instant(1_000);
        assert!(written.len() == 20 && written.ends_with('Z'), "{written}");
    }
}
