//! What a provider says is left of its limits, so that it is not asked for more until they reset.
//!
//! `OpenAI`'s fields are `x-ratelimit-remaining-…` and `x-ratelimit-reset-…`, with durations such as `6m0s`. Anthropic's are
//! `anthropic-ratelimit-…-remaining` and `…-reset`, with times.

use std::time::Duration;

use http::HeaderMap;
use tollgate_core::Timestamp;

use super::breaker::MAX_COOLING;

/// The beginnings of the names of all fields.
const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Resource {
    const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens];

    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
        }
    }

    /// What a request of so many tokens takes at least. How many of them are of the input is not known here.
    fn taken_by(self, tokens: u64) -> u64 {
        match self {
            Self::Requests => 1,
            Self::Tokens => tokens.max(1),
            Self::InputTokens | Self::OutputTokens => u64::from(tokens > 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    amount: u64,
    /// When the limit resets; nothing is known then.
    until: Timestamp,
}

/// What is left of the limits of a provider.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Quota([Option<Left>; Resource::ALL.len()]);

impl Quota {
    /// Takes over what the fields of an answer say at `now`, which is `wall_time` in civil time. A time that is further away than
    /// a minute counts as a minute: then one request asks again.
    pub(super) fn hear(&mut self, fields: &HeaderMap, now: Timestamp, wall_time: Timestamp) {
        // Most model servers have no quotas, and their answers are not searched for each name.
        if !fields.keys().any(|name| PREFIXES.iter().any(|it| name.as_str().starts_with(it))) {
            return;
        }
        for (left, resource) in self.0.iter_mut().zip(Resource::ALL) {
            let name = resource.name();
            let openai = said(fields, &format!("x-ratelimit-remaining-{name}"))
                .zip(said(fields, &format!("x-ratelimit-reset-{name}")).and_then(duration));
            let said = openai.or_else(|| {
                let field = |part| said(fields, &format!("anthropic-ratelimit-{name}-{part}"));
                field("remaining").zip(field("reset").and_then(|text| until(text, wall_time)))
            });
            let Some((amount, wait)) = said else { continue };
            let Ok(amount) = amount.parse() else { continue };
            *left = Some(Left { amount, until: now.after(wait.min(MAX_COOLING)) });
        }
    }

    /// How long to wait until a request of so many tokens may be sent; `None` if it may now.
    pub(super) fn wait(&self, now: Timestamp, tokens: u64) -> Option<Duration> {
        let is_short = |(left, resource): (&Option<Left>, Resource)| {
            let left = left.filter(|left| now < left.until)?;
            (left.amount < resource.taken_by(tokens)).then(|| left.until.since(now))
        };
        self.0.iter().zip(Resource::ALL).filter_map(is_short).max()
    }

    /// A request of so many tokens is sent. The next answer says what is left then.
    pub(super) fn take(&mut self, tokens: u64) {
        for (left, resource) in self.0.iter_mut().zip(Resource::ALL) {
            if let Some(left) = left {
                left.amount = left.amount.saturating_sub(resource.taken_by(tokens));
            }
        }
    }
}

fn said<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name)?.to_str().ok().map(str::trim)
}

/// A duration such as `1h2m3.5s` or `20ms`; a number alone is in seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        sum = sum.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = after;
    }
    Some(sum).filter(|_| !text.is_empty())
}

/// The time until `text`, a time of RFC 3339.
fn until(text: &str, wall_time: Timestamp) -> Option<Duration> {
    let at: jiff::Timestamp = text.parse().ok()?;
    // A time after 2554 is far enough away.
    let at = u64::try_from(at.as_nanosecond().max(0)).unwrap_or(u64::MAX);
    Some(Timestamp::from_ns(at).since(wall_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z
    const WALL: Timestamp = Timestamp::from_ms(1_767_225_600_000);

    fn quota(pairs: &[(&'static str, &'static str)]) -> Quota {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.insert(*name, value.parse().unwrap());
        }
        let mut quota = Quota::default();
        quota.hear(&fields, Timestamp::from_ms(1_000), WALL);
        quota
    }

    fn wait_ms(quota: &Quota, at_ms: u64, tokens: u64) -> Option<u128> {
        quota.wait(Timestamp::from_ms(at_ms), tokens).map(|wait| wait.as_millis())
    }

    #[test]
    fn what_is_used_up_is_not_asked_for_until_it_resets() {
        let requests = quota(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6s"),
            ("x-ratelimit-remaining-tokens", "500"),
            ("x-ratelimit-reset-tokens", "1m30s"),
        ]);
        assert_eq!(wait_ms(&requests, 1_000, 10), Some(6_000));
        assert_eq!(wait_ms(&requests, 7_000, 500), None);
        assert_eq!(wait_ms(&requests, 7_000, 501), Some(54_000), "a minute at most");
        assert_eq!(wait_ms(&requests, 61_000, 501), None);
        let anthropic = quota(&[
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:05Z"),
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "2025-12-31T23:59:59Z"),
        ]);
        assert_eq!(
            (wait_ms(&anthropic, 1_000, 1), wait_ms(&anthropic, 1_000, 0)),
            (Some(5_000), None)
        );
    }

    #[test]
    fn what_is_sent_is_taken_from_what_is_left() {
        let mut left = quota(&[
            ("x-ratelimit-remaining-requests", "2"),
            ("x-ratelimit-reset-requests", "10s"),
            ("x-ratelimit-remaining-tokens", "1000"),
            ("x-ratelimit-reset-tokens", "20s"),
        ]);
        left.take(700);
        assert_eq!(wait_ms(&left, 1_000, 300), None);
        assert_eq!(wait_ms(&left, 1_000, 301), Some(20_000));
        left.take(1);
        assert_eq!(wait_ms(&left, 1_000, 1), Some(10_000));
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for pairs in [
            &[][..],
            &[("x-ratelimit-remaining-requests", "0")],
            &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "soon")],
            &[("x-ratelimit-remaining-requests", "-1"), ("x-ratelimit-reset-requests", "1s")],
            &[
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "tomorrow"),
            ],
        ] {
            assert_eq!(quota(pairs), Quota::default(), "{pairs:?}");
        }
    }

    #[test]
    fn a_duration_is_read() {
        let ms = |text| duration(text).map(|duration| duration.as_millis());
        let cases = [("1s", 1_000), ("6m0s", 360_000), ("20ms", 20), ("2m59.56s", 179_560)];
        for (text, expected) in cases {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        assert_eq!((ms("1h0m1s"), ms("7"), ms("0.5")), (Some(3_601_000), Some(7_000), Some(500)));
        assert_eq!(
            (ms(""), ms("s"), ms("1x"), ms("-1"), ms("1s1"), ms("NaN")),
            (None, None, None, None, None, None)
        );
    }
}
