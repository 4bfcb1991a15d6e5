//! Decisions as JSON.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use tollgate_core::{Amount, Decision, LimitStatus, OverLimit, Window};
use utoipa::ToSchema;

use super::json_writer::JsonWriter;
use super::problem::Problem;

/// The approximate size of a decision with no limit, in bytes.
pub(super) const DECISION_BYTES: usize = 320;
/// The approximate size of one limit, in bytes.
pub(super) const LIMIT_BYTES: usize = 288;

/// `decision` as JSON.
pub(super) fn decision_json(decision: &Decision) -> serde_json::Result<Vec<u8>> {
    let bytes = DECISION_BYTES + LIMIT_BYTES * decision.limits().len();
    let mut json = JsonWriter::with_capacity(bytes);
    DecisionBody::new(decision).write(&mut json)?;
    Ok(json.into_bytes())
}

/// The decisions of a batch as JSON.
pub(super) fn decisions_json(decisions: &[Decision]) -> serde_json::Result<Vec<u8>> {
    let limits: usize = decisions.iter().map(|decision| decision.limits().len()).sum();
    let bytes = DECISION_BYTES * (decisions.len() + 1) + LIMIT_BYTES * limits;
    let mut json = JsonWriter::with_capacity(bytes);
    json.raw(r#"{"decisions":["#);
    for (index, decision) in decisions.iter().enumerate() {
        json.raw(if index == 0 { "" } else { "," });
        DecisionBody::new(decision).write(&mut json)?;
    }
    json.raw("]}");
    Ok(json.into_bytes())
}

/// An answer with `body` as JSON, which no cache keeps.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(json) => {
            let plain = HeaderValue::from_static("application/json");
            let fresh = HeaderValue::from_static("no-store");
            let headers = [(header::CONTENT_TYPE, plain), (header::CACHE_CONTROL, fresh)];
            (status, headers, json).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be rendered");
            Problem::internal().into_response()
        }
    }
}

/// The answer to a check: the numbers of the binding limit, and every limit that took part.
///
/// On a denial, the binding limit is the one with the longest wait; otherwise it is the one with the smallest share
/// left.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Decision)]
pub(crate) struct DecisionBody<'a> {
    /// Whether the request may pass.
    allowed: bool,
    /// The most of the unit in a window; null if the check meets no limit.
    #[schema(required = true, maximum = 9_007_199_254_740_991_u64)]
    limit: Option<u64>,
    /// The usage after this decision.
    count: u64,
    /// What is left after this decision; null if the check meets no limit.
    #[schema(required = true)]
    remaining: Option<u64>,
    /// The length of the window in seconds, an integer if it is whole; of a calendar, the length of the current period. Null
    /// if the check meets no limit.
    #[schema(required = true, value_type = Option<f64>, exclusive_minimum = 0)]
    window_seconds: Option<Seconds>,
    /// The shortest wait in milliseconds after which the same check is admitted if no other request arrives: 0 if it
    /// is admitted now, null if it never will be.
    #[schema(required = true)]
    retry_after_ms: Option<u64>,
    /// When the usage would be 0 again, in milliseconds.
    reset_after_ms: u64,
    /// The policy that sets the limit; null if the check meets no limit.
    #[schema(required = true, value_type = Option<String>)]
    policy_id: Option<&'a str>,
    /// What the limit counts per, such as `USER_MODEL` or `apiKey+model`; null if the check meets no limit.
    #[schema(required = true, value_type = Option<String>)]
    scope: Option<&'a str>,
    /// What is counted.
    #[schema(value_type = String)]
    unit: &'a str,
    /// Why the check was denied: `limit_exceeded`, `cost_exceeds_limit`, `banned` or `store_unavailable`; or, before
    /// any limit is evaluated, `api_key_revoked`, `api_key_expired` or `api_key_unknown`. Null if the check was
    /// allowed.
    #[schema(required = true, value_type = Option<String>)]
    reason: Option<&'static str>,
    /// Whether the decision was made without the store.
    degraded: bool,
    /// Every limit that took part, including shadow limits.
    #[schema(value_type = Vec<LimitBody>)]
    limits: Limits<'a>,
}

impl<'a> DecisionBody<'a> {
    pub(super) fn new(decision: &'a Decision) -> Self {
        let headline = decision.headline();
        Self {
            allowed: decision.allowed(),
            limit: headline.map(|status| status.limit.amount().get()),
            count: headline.map_or(0, |status| status.count),
            remaining: headline.map(|status| status.remaining),
            window_seconds: headline.and_then(LimitStatus::window).map(Seconds),
            retry_after_ms: decision.retry_after_ms(),
            reset_after_ms: headline.map_or(0, |status| status.reset_after_ms),
            policy_id: headline.map(|status| status.limit.policy_id().as_str()),
            scope: headline.map(|status| status.limit.scope()),
            unit: headline.map_or("requests", |status| status.limit.unit().name()),
            reason: decision.reason().map(tollgate_core::Reason::name),
            degraded: decision.degraded(),
            limits: Limits(decision.limits()),
        }
    }

    /// How many limits took part.
    pub(super) fn limit_count(&self) -> usize {
        self.limits.0.len()
    }

    /// Writes the same JSON as the derived code in a third of the time, because the derived code checks each byte of
    /// each name for characters to escape. A test compares the two.
    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        self.write_open(json)?;
        json.raw("}");
        Ok(())
    }

    /// The same without the brace at the end, so that members can follow.
    pub(super) fn write_open(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw(r#"{"allowed":"#).bool(self.allowed);
        json.raw(r#","limit":"#).number(self.limit);
        json.raw(r#","count":"#).number(Some(self.count));
        json.raw(r#","remaining":"#).number(self.remaining);
        json.raw(r#","windowSeconds":"#).value(&self.window_seconds)?;
        json.raw(r#","retryAfterMs":"#).number(self.retry_after_ms);
        json.raw(r#","resetAfterMs":"#).number(Some(self.reset_after_ms));
        json.raw(r#","policyId":"#).text(self.policy_id)?;
        json.raw(r#","scope":"#).text(self.scope)?;
        json.raw(r#","unit":"#).text(Some(self.unit))?;
        json.raw(r#","reason":"#).text(self.reason)?;
        json.raw(r#","degraded":"#).bool(self.degraded);
        json.raw(r#","limits":["#);
        for (index, status) in self.limits.0.iter().enumerate() {
            json.raw(if index == 0 { "" } else { "," });
            LimitBody::new(status).write(json)?;
        }
        json.raw("]");
        Ok(())
    }
}

/// The verdict of one limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Limit)]
pub(crate) struct LimitBody<'a> {
    /// The policy that sets it.
    #[schema(value_type = String)]
    policy_id: &'a str,
    /// What it counts per.
    #[schema(value_type = String)]
    scope: &'a str,
    /// What it counts.
    #[schema(value_type = String)]
    unit: &'a str,
    /// How it counts: `sliding_window_log`, `sliding_window_counter`, `token_bucket`, `calendar` or `concurrency`.
    #[schema(value_type = String)]
    algorithm: &'static str,
    /// `enforce`, or `shadow`: the limit decides, counts and reports but never denies.
    #[schema(value_type = String)]
    mode: &'static str,
    /// `charge` if the cost of a denied check is recorded, so that it is in `count`; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    over_limit: Option<&'static str>,
    /// Whether it admits the check by itself.
    allowed: bool,
    /// The most of its unit in a window; of a token bucket, the most at once.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    limit: u64,
    /// What a token bucket gets back per window; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refill: Option<u64>,
    /// The usage after this decision.
    count: u64,
    /// What is left after this decision.
    remaining: u64,
    /// By how much the usage is above the limit, because more was used than reserved, a denied cost was recorded or the
    /// limit was lowered; left out if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    debt: Option<u64>,
    /// The length of the window in seconds; of a calendar, the length of the current period; null for concurrency.
    #[schema(required = true, value_type = Option<f64>, exclusive_minimum = 0)]
    window_seconds: Option<Seconds>,
    /// The period of a calendar: `hour`, `day`, `week` or `month`; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    calendar: Option<&'static str>,
    /// The IANA name of the time zone whose clocks show when a period of a calendar starts; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    time_zone: Option<&'static str>,
    /// The shortest wait in milliseconds after which it admits the same check; null if it never will. If the cost of a denied
    /// check was recorded, the same check sent again may have to wait although `allowed` is true.
    #[schema(required = true)]
    retry_after_ms: Option<u64>,
    /// When its usage would be 0 again, in milliseconds.
    reset_after_ms: u64,
    /// The priority class of the check, if the policy has `shares` and `limit` is only the share of this class;
    /// otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    priority: Option<&'static str>,
    /// The share of the class; left out if `limit` is the whole limit of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1)]
    share: Option<f64>,
}

impl<'a> LimitBody<'a> {
    fn new(status: &'a LimitStatus) -> Self {
        let limit = &*status.limit;
        let (class_share, calendar) = (limit.class_share(), limit.counting().calendar());
        Self {
            policy_id: limit.policy_id().as_str(),
            scope: limit.scope(),
            unit: limit.unit().name(),
            algorithm: limit.counting().name(),
            mode: limit.mode().name(),
            over_limit: Some(limit.over_limit())
                .filter(|over_limit| *over_limit != OverLimit::Deny)
                .map(OverLimit::name),
            allowed: status.allowed,
            limit: limit.amount().get(),
            refill: limit.counting().refill().map(Amount::get),
            count: status.count,
            remaining: status.remaining,
            debt: Some(status.debt()).filter(|debt| *debt > 0),
            window_seconds: status.window().map(Seconds),
            calendar: calendar.map(|(calendar, _)| calendar.name()),
            time_zone: calendar.map(|(_, zone)| zone.name()),
            retry_after_ms: status.retry_after_ms,
            reset_after_ms: status.reset_after_ms,
            priority: class_share.map(|class_share| class_share.class.name()),
            share: class_share.map(|class_share| f64::from(class_share.share.millionths()) / 1e6),
        }
    }

    /// The same as [`DecisionBody::write`].
    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw(r#"{"policyId":"#).text(Some(self.policy_id))?;
        json.raw(r#","scope":"#).text(Some(self.scope))?;
        json.raw(r#","unit":"#).text(Some(self.unit))?;
        json.raw(r#","algorithm":"#).text(Some(self.algorithm))?;
        json.raw(r#","mode":"#).text(Some(self.mode))?;
        if let Some(over_limit) = self.over_limit {
            json.raw(r#","overLimit":"#).text(Some(over_limit))?;
        }
        json.raw(r#","allowed":"#).bool(self.allowed);
        json.raw(r#","limit":"#).number(Some(self.limit));
        if let Some(refill) = self.refill {
            json.raw(r#","refill":"#).number(Some(refill));
        }
        json.raw(r#","count":"#).number(Some(self.count));
        json.raw(r#","remaining":"#).number(Some(self.remaining));
        if let Some(debt) = self.debt {
            json.raw(r#","debt":"#).number(Some(debt));
        }
        json.raw(r#","windowSeconds":"#).value(&self.window_seconds)?;
        if let (Some(calendar), Some(time_zone)) = (self.calendar, self.time_zone) {
            json.raw(r#","calendar":"#).text(Some(calendar))?;
            json.raw(r#","timeZone":"#).text(Some(time_zone))?;
        }
        json.raw(r#","retryAfterMs":"#).number(self.retry_after_ms);
        json.raw(r#","resetAfterMs":"#).number(Some(self.reset_after_ms));
        if let (Some(priority), Some(share)) = (self.priority, self.share) {
            json.raw(r#","priority":"#).text(Some(priority))?;
            json.raw(r#","share":"#).value(&share)?;
        }
        json.raw("}");
        Ok(())
    }
}

/// The answers to a batch of checks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Decisions)]
pub(crate) struct DecisionsBody<'a> {
    /// A decision for each check, in their order.
    #[schema(value_type = Vec<DecisionBody>, max_items = 1000)]
    decisions: Decisions<'a>,
}

#[derive(Debug)]
struct Decisions<'a>(&'a [Decision]);

impl Serialize for Decisions<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(DecisionBody::new))
    }
}

#[derive(Debug)]
struct Limits<'a>(&'a [LimitStatus]);

impl Serialize for Limits<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut limits = to.serialize_seq(Some(self.0.len()))?;
        for status in self.0 {
            limits.serialize_element(&LimitBody::new(status))?;
        }
        limits.end()
    }
}

/// The length of a window: an integer if it is whole.
#[derive(Clone, Copy, Debug)]
struct Seconds(Window);

const NS_PER_SECOND: u64 = 1_000_000_000;

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let ns = self.0.as_ns();
        if ns.is_multiple_of(NS_PER_SECOND) {
            to.serialize_u64(ns / NS_PER_SECOND)
        } else {
            to.serialize_f64(self.0.as_seconds())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::{
        Amount, Calendar, Check, Counting, Mode, OverLimit, Per, Policy, PolicyId, PolicySet,
        PriorityClass, Share, Zone,
    };
    use tollgate_store::MemoryStore;

    use super::*;

    fn policy(id: &str, scope: &str, limit: u64, window_ms: u64) -> Policy {
        let window = Window::new(Duration::from_millis(window_ms)).unwrap();
        let per = Per::from_scope(scope).unwrap();
        Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), window)
    }

    #[test]
    fn answers_are_written_as_serde_writes_them() {
        let mut shadow = policy("shadow", "USER", 1, 60_000);
        shadow.mode = Mode::Shadow;
        shadow.over_limit = OverLimit::Charge;
        let mut shared = policy("shared", "GLOBAL", 3, 60_000);
        shared.shares.set(PriorityClass::Standard, Share::of_millionths(333_333).unwrap());
        let mut daily = policy("daily", "USER", 5, 60_000);
        let zone = Zone::named("Europe/Berlin").unwrap();
        daily.counting = Counting::Calendar { calendar: Calendar::Day, zone };
        let set = PolicySet::new(vec![
            policy("a \"quoted\" \\ id, ü", "USER_MODEL", 2, 1_500),
            policy("none", "GLOBAL", 9_007_199_254_740_991, 1),
            shadow,
            shared,
            daily,
        ]);
        let (set, store, check) = (set.unwrap(), MemoryStore::new(), Check::new("alice", "gpt-4"));
        let mut decisions = vec![Decision::assemble(&[], &[])];
        for _ in 0..4 {
            let charges = set.plan(&check);
            decisions.push(Decision::assemble(&charges, &store.charge(&charges)));
        }
        assert!(decisions.iter().any(|decision| !decision.allowed()));
        let [owing] = [policy("owing", "USER", 2, 60_000)]
            .map(|policy| Policy { over_limit: OverLimit::Charge, ..policy });
        let owing = PolicySet::new(vec![owing]).unwrap();
        for _ in 0..3 {
            let charges = owing.plan(&check);
            decisions.push(Decision::assemble(&charges, &store.charge(&charges)));
        }
        let has_debt = |decision: &Decision| decision.limits().iter().any(|one| one.debt() > 0);
        assert!(decisions.iter().any(has_debt));
        for decision in &decisions {
            let derived = serde_json::to_vec(&DecisionBody::new(decision)).unwrap();
            assert_eq!(decision_json(decision).unwrap(), derived);
        }
        let derived = serde_json::to_vec(&DecisionsBody { decisions: Decisions(&decisions) });
        assert_eq!(decisions_json(&decisions).unwrap(), derived.unwrap());
    }

    #[test]
    fn seconds_are_whole_where_they_are_whole() {
        let cases = [(3_600_000, "3600"), (1, "0.001"), (1_500, "1.5"), (1_000, "1")];
        for (ms, expected) in cases {
            let window = Window::new(Duration::from_millis(ms)).unwrap();
            assert_eq!(serde_json::to_string(&Seconds(window)).unwrap(), expected);
        }
    }
}
