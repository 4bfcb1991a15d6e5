//! Writes the answer to Envoy.

use http::HeaderMap;
use prost_types::Duration;
use tollgate_core::{Calendar, Decision, LimitStatus, Mode, Visibility};
use tollgate_service::{Part, Together, Uncovered};

use super::request::Asked;
use crate::proto::envoy::config::core::v3::HeaderValue;
use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};

/// The answer to a request that was decided.
pub(super) fn decided(together: &Together, unmatched: Uncovered) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code(together.allowed),
        statuses: together.parts.iter().map(|part| status(part, unmatched)).collect(),
        response_headers_to_add: headers(&together.decision),
        ..RateLimitResponse::default()
    }
}

/// The answer to a request with a value that is not accepted: the descriptor with it is denied, so nothing was charged. `peeked` has
/// the others.
pub(super) fn refusal(
    asked: &Asked<'_>,
    peeked: &Together,
    unmatched: Uncovered,
    problem: &str,
) -> RateLimitResponse {
    let mut parts = peeked.parts.iter();
    let statuses = asked.descriptors.iter().map(|descriptor| {
        let part = if descriptor.refused.is_none() { parts.next() } else { None };
        let refused = || DescriptorStatus { code: code(false), ..DescriptorStatus::default() };
        part.map_or_else(refused, |part| status(part, unmatched))
    });
    RateLimitResponse {
        overall_code: code(false),
        statuses: statuses.collect(),
        raw_body: format!("{problem}\n").into_bytes().into(),
        ..RateLimitResponse::default()
    }
}

fn code(allowed: bool) -> i32 {
    let code = if allowed { Code::Ok } else { Code::OverLimit };
    code.into()
}

/// The status of one descriptor.
fn status(part: &Part, unmatched: Uncovered) -> DescriptorStatus {
    let code = code(part.allowed(unmatched));
    let Some(limit) = shown(&part.decision) else {
        return DescriptorStatus { code, ..DescriptorStatus::default() };
    };
    let wait_ms = if limit.allowed { Some(limit.reset_after_ms) } else { limit.retry_after_ms };
    DescriptorStatus {
        code,
        current_limit: Some(current_limit(limit)),
        limit_remaining: saturated(limit.remaining),
        duration_until_reset: wait_ms.map(duration),
    }
}

/// The limit to show: the one that binds, or the next that callers may see.
fn shown(decision: &Decision) -> Option<&LimitStatus> {
    let is_shown = |status: &&LimitStatus| {
        status.limit.mode() == Mode::Enforce && status.limit.visibility() == Visibility::Public
    };
    let binding = decision.headline().filter(is_shown);
    binding.or_else(|| decision.limits().iter().find(is_shown))
}

fn current_limit(status: &LimitStatus) -> RateLimit {
    let (unit, count) = window(status);
    RateLimit {
        name: status.limit.policy_id().as_str().to_owned(),
        requests_per_unit: saturated(status.limit.amount().get()),
        unit: unit.into(),
        unit_multiplier: Some(count).filter(|count| *count != 1),
    }
}

/// The window: its unit of time and how many of them it has; `Unknown` if it has none or is no whole number of seconds.
fn window(status: &LimitStatus) -> (Unit, u32) {
    if let Some((calendar, _)) = status.limit.counting().calendar() {
        let unit = match calendar {
            Calendar::Hour => Unit::Hour,
            Calendar::Day => Unit::Day,
            Calendar::Week => Unit::Week,
            Calendar::Month => Unit::Month,
        };
        return (unit, 1);
    }
    let window = status.window().map(tollgate_core::Window::as_duration);
    let Some(seconds) = window.filter(|window| window.subsec_nanos() == 0) else {
        return (Unit::Unknown, 1);
    };
    let units = [(Unit::Day, 86_400), (Unit::Hour, 3_600), (Unit::Minute, 60), (Unit::Second, 1)];
    let seconds = seconds.as_secs();
    let unit =
        units.into_iter().find(|(_, length)| seconds >= *length && seconds.is_multiple_of(*length));
    unit.map_or((Unit::Unknown, 1), |(unit, length)| (unit, saturated(seconds / length)))
}

fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn duration(ms: u64) -> Duration {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0);
    Duration { seconds, nanos }
}

/// The header fields of a decision, as over HTTP.
fn headers(decision: &Decision) -> Vec<HeaderValue> {
    let mut fields = HeaderMap::with_capacity(4);
    tollgate_http::apply(decision, &mut fields);
    let fields = fields.iter().map(|(name, value)| HeaderValue {
        key: name.as_str().to_owned(),
        value: value.to_str().unwrap_or_default().to_owned(),
        ..HeaderValue::default()
    });
    fields.collect()
}
