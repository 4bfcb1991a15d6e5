//! A [`Decision`] as HTTP response fields: `RateLimit-Policy` and `RateLimit` (IETF
//! draft-ietf-httpapi-ratelimit-headers-10) and, on a denial, `Retry-After` (RFC 9110).
//!
//! ```text
//! RateLimit-Policy: "default";q=100;w=3600, "tokens";q=150000;qu="tokens";w=60
//! RateLimit: "default";r=99;t=3600, "tokens";r=148800;t=60
//! ```
//!
//! - Both lists have an item for each enforced public limit of the check: the headline (R5) first, the others in the
//!   order of the policies. Private limits are omitted, because callers must not see them; shadow limits, because they
//!   never deny (R10). There are at most [`MAX_ITEMS`] items in at most [`MAX_FIELD_BYTES`] bytes. Without an item, the
//!   field is absent.
//! - `q` is the limit, `r` what is left of it. A structured field's integer has 15 digits, so an amount above
//!   [`MAX_INTEGER`] is written as [`MAX_INTEGER`].
//! - `qu` is the unit, if it is not `requests`. The draft's registry has no token units yet, so Tollgate uses its own
//!   names.
//! - `w` is the window and `t` a wait, both in whole seconds rounded up, because the draft has nothing finer: a window
//!   of 1 ms is `w=1`.
//! - On an admission, `t` is the time until the usage is 0 again; for a log it is at most `w`. On a denial, it is the
//!   wait of each limit that denies. The limits that would admit have no `t`, so that no `t` is later than
//!   `Retry-After`, as the draft requires. A limit that never admits the check has no `t` either.
//! - `Retry-After` is `retryAfterMs` in whole seconds rounded up, so at least 1 (R6). It is absent if waiting does not
//!   help.
//! - A policy id is written as a quoted string in which `%` and each byte outside printable ASCII are percent-encoded.
//!   A percent-decoder restores the id.
//! - No user, API key or other part of a limit's key is ever written: the draft's `pk` is not used.
//!
//! This crate must not know a server, a body or a store.

mod item;

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tollgate_core::{Counting, Decision, LimitStatus, Mode, Visibility};

pub use http::header::RETRY_AFTER;

/// `RateLimit-Policy`: the limits and their windows.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `RateLimit`: what is left of the limits, and for how long.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The most limits named in one response.
pub const MAX_ITEMS: usize = 8;

/// The most bytes of one field value. Proxies often allow 4 KiB for all the fields of a response.
pub const MAX_FIELD_BYTES: usize = 1024;

/// The largest integer of a structured field (RFC 9651, section 3.3.1).
pub const MAX_INTEGER: u64 = 999_999_999_999_999;

// The headline must fit; otherwise a response could have no item.
const _: () = assert!(item::MAX_BYTES <= MAX_FIELD_BYTES);

/// A field value while it is written. (A small vector on the stack is slower, because it appends less directly.)
type Buffer = Vec<u8>;

/// Room for the fields of a few limits.
const USUAL_BYTES: usize = 256;

/// Writes the fields of `decision` into `headers`, replacing those with the same names.
///
/// Changes nothing if the check met no enforced limit. O([`MAX_ITEMS`]); about 0.3 µs for one limit, of which two
/// insertions into the map take 0.13 µs.
pub fn apply(decision: &Decision, headers: &mut HeaderMap) {
    let Some(headline) = decision.headline() else { return };
    if let Some(seconds) = retry_after_s(decision) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    } else {
        headers.remove(RETRY_AFTER);
    }
    let (mut policy, mut service_limit) =
        (Buffer::with_capacity(USUAL_BYTES), Buffer::with_capacity(USUAL_BYTES));
    for status in named(decision, headline) {
        let (policy_bytes, service_limit_bytes) = (policy.len(), service_limit.len());
        item::write_policy(&mut policy, status);
        item::write_service_limit(&mut service_limit, status, wait_s(decision, status));
        if policy.len().max(service_limit.len()) > MAX_FIELD_BYTES {
            policy.truncate(policy_bytes);
            service_limit.truncate(service_limit_bytes);
            break;
        }
    }
    // A list without items is not written.
    if policy.is_empty() {
        headers.remove(RATELIMIT_POLICY);
        headers.remove(RATELIMIT);
    } else {
        insert(headers, RATELIMIT_POLICY, &policy);
        insert(headers, RATELIMIT, &service_limit);
    }
}

/// The value of `Retry-After`: whole seconds, rounded up, at least 1. `None` if the check is admitted or never will be.
pub fn retry_after_s(decision: &Decision) -> Option<u64> {
    if decision.allowed() { None } else { decision.retry_after_ms().map(|ms| whole_s(ms).max(1)) }
}

/// The limits to name: the headline, then the other enforced ones, without those that callers must not see.
fn named<'a>(
    decision: &'a Decision,
    headline: &'a LimitStatus,
) -> impl Iterator<Item = &'a LimitStatus> {
    let others = decision
        .limits()
        .iter()
        .filter(|status| status.limit.mode() == Mode::Enforce && !std::ptr::eq(*status, headline));
    let all = std::iter::once(headline).chain(others);
    all.filter(|status| status.limit.visibility() == Visibility::Public).take(MAX_ITEMS)
}

/// The value of `t` for one limit.
fn wait_s(decision: &Decision, status: &LimitStatus) -> Option<u64> {
    match (decision.allowed(), status.allowed) {
        (true, _) => Some(reset_s(status)),
        // A limit that has recorded the denied cost may have no room for it again until later.
        (false, true) => status.retry_after_ms.filter(|ms| *ms > 0).map(whole_s),
        (false, false) => status.retry_after_ms.map(whole_s),
    }
}

/// The time until the usage is 0 again, which is when the last admission has lived its life. The ticks of a log add
/// some microseconds (R7), which must not be rounded up to another second. A token bucket has no ticks, and may lack more than
/// its capacity.
fn reset_s(status: &LimitStatus) -> u64 {
    let reset_s = whole_s(status.reset_after_ms);
    match status.limit.counting() {
        Counting::Bucket { .. } => reset_s,
        _ => reset_s.min(whole_s_of(status.limit.longest_life())),
    }
}

/// The window in which the whole amount becomes available again: of a token bucket, the time until it is full; of a
/// calendar, the current period. `None` for concurrency.
fn window_s(status: &LimitStatus) -> Option<u64> {
    match status.limit.counting() {
        Counting::Log { .. }
        | Counting::Counter { .. }
        | Counting::Calendar { .. }
        | Counting::Concurrency => status.window().map(|window| whole_s_of(window.as_duration())),
        Counting::Bucket { .. } => Some(whole_s_of(status.limit.longest_life())),
    }
}

fn whole_s_of(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

fn whole_s(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    // Only printable ASCII is ever written, so the value is always valid.
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
