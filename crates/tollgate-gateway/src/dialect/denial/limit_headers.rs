//! The state of limits as header fields: `RateLimit`, and those that the clients of each dialect show.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tollgate_core::{Decision, LimitStatus, Mode, SystemWallClock, Unit, Visibility, WallClock};

use crate::config::Dialect;

/// The fields that show the limits of a unit.
struct Names {
    unit: Unit,
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

impl Names {
    const fn new(
        unit: Unit,
        limit: &'static str,
        remaining: &'static str,
        reset: &'static str,
    ) -> Self {
        Self {
            unit,
            limit: HeaderName::from_static(limit),
            remaining: HeaderName::from_static(remaining),
            reset: HeaderName::from_static(reset),
        }
    }
}

static OPENAI_NAMES: [Names; 2] = [
    Names::new(
        Unit::Requests,
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    Names::new(
        Unit::Tokens,
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ),
];
static ANTHROPIC_NAMES: [Names; 4] = [
    Names::new(
        Unit::Requests,
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    Names::new(
        Unit::Tokens,
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    Names::new(
        Unit::InputTokens,
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    Names::new(
        Unit::OutputTokens,
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

/// Writes the limits of `decision` that callers may see into `headers`, in `dialect` and as `RateLimit`. For each unit, it is
/// the limit with the least left.
pub fn apply_limits(dialect: Dialect, decision: &Decision, headers: &mut HeaderMap) {
    tollgate_http::apply(decision, headers);
    let (names, written): (&[Names], fn(u64) -> String) = match dialect {
        Dialect::OpenAi => (&OPENAI_NAMES, duration),
        Dialect::Anthropic => (&ANTHROPIC_NAMES, instant),
    };
    for Names { unit, limit, remaining, reset } in names {
        let Some(status) = tightest(decision, unit) else { continue };
        headers.insert(limit, HeaderValue::from(status.limit.amount().get()));
        headers.insert(remaining, HeaderValue::from(status.remaining));
        if let Ok(value) = HeaderValue::try_from(written(status.reset_after_ms)) {
            headers.insert(reset, value);
        }
    }
}

/// All fields of both dialects.
#[cfg(test)]
pub(crate) fn limit_names() -> impl Iterator<Item = HeaderName> {
    let all = OPENAI_NAMES.iter().chain(&ANTHROPIC_NAMES);
    all.flat_map(|Names { limit, remaining, reset, .. }| [limit, remaining, reset]).cloned()
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
