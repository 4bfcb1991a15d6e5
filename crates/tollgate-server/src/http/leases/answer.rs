//! Leases as JSON.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use tollgate_core::{Cost, Decision, Timestamp};
use tollgate_store::{Effect, HoldState, LeaseState, NewLease};
use utoipa::ToSchema;

use super::super::answer::{DECISION_BYTES, DecisionBody, LIMIT_BYTES};
use super::super::json_writer::JsonWriter;
use super::super::problem::Problem;
use super::Settled;

/// The approximate size of a lease without limits, in bytes.
const LEASE_BYTES: usize = 224;
/// The approximate size of what a lease holds in one limit, in bytes.
const HOLD_BYTES: usize = 144;

/// A moment in civil time, as RFC 3339 with milliseconds.
fn rfc3339(at: Timestamp) -> String {
    // Times of 64 bits end long before those of the library.
    let ms = i64::try_from(at.as_ns() / 1_000_000).unwrap_or(i64::MAX);
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap_or_default())
}

/// The answer to a reservation that was admitted: the decision, and the lease.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GrantedLease)]
pub(crate) struct GrantedBody<'a> {
    #[serde(flatten)]
    decision: DecisionBody<'a>,
    #[schema(value_type = NewLeaseBody)]
    lease: NewLeaseBody<'a>,
}

impl<'a> GrantedBody<'a> {
    /// The answer at `now`, in civil time.
    pub(super) fn new(
        decision: &'a Decision,
        lease: &'a NewLease,
        asked: &'a Cost,
        now: Timestamp,
    ) -> Self {
        let lease = NewLeaseBody {
            id: lease.id.as_str(),
            state: lease.status.name(),
            repeated: lease.repeated,
            ttl_ms: lease.ttl.as_ms(),
            expires_at: rfc3339(now.after(lease.lives_for)),
            reserved: (!lease.repeated).then_some(Reserved(asked)),
        };
        Self { decision: DecisionBody::new(decision), lease }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let bytes = DECISION_BYTES + LEASE_BYTES + LIMIT_BYTES * self.decision.limit_count();
        let mut json = JsonWriter::with_capacity(bytes);
        self.decision.write_open(&mut json)?;
        json.raw(r#","lease":{"id":"#).text(Some(self.lease.id))?;
        json.raw(r#","state":"#).text(Some(self.lease.state))?;
        json.raw(r#","repeated":"#).bool(self.lease.repeated);
        json.raw(r#","ttlMs":"#).number(Some(self.lease.ttl_ms));
        json.raw(r#","expiresAt":"#).text(Some(&self.lease.expires_at))?;
        if let Some(reserved) = &self.lease.reserved {
            json.raw(r#","reserved":"#);
            reserved.write(&mut json)?;
        }
        json.raw("}}");
        Ok(json.into_bytes())
    }
}

/// The answer to a reservation that was denied: the decision, and what it asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeniedLease)]
pub(crate) struct DeniedBody<'a> {
    #[serde(flatten)]
    decision: DecisionBody<'a>,
    /// What was asked for, by unit, with what policies reserve of units that `cost` did not name. Nothing of it is held.
    #[schema(value_type = BTreeMap<String, u64>)]
    reserved: Reserved<'a>,
}

impl<'a> DeniedBody<'a> {
    pub(super) fn new(decision: &'a Decision, asked: &'a Cost) -> Self {
        Self { decision: DecisionBody::new(decision), reserved: Reserved(asked) }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let bytes = DECISION_BYTES + LIMIT_BYTES * self.decision.limit_count();
        let mut json = JsonWriter::with_capacity(bytes);
        self.decision.write_open(&mut json)?;
        json.raw(r#","reserved":"#);
        self.reserved.write(&mut json)?;
        json.raw("}");
        Ok(json.into_bytes())
    }
}

/// What was asked for, by unit.
#[derive(Debug)]
struct Reserved<'a>(&'a Cost);

impl Reserved<'_> {
    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw("{");
        for (place, (unit, amount)) in self.0.amounts().enumerate() {
            json.raw(if place == 0 { "" } else { "," }).text(Some(unit.name()))?;
            json.raw(":").number(Some(amount.get()));
        }
        json.raw("}");
        Ok(())
    }
}

impl Serialize for Reserved<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.amounts().map(|(unit, amount)| (unit.name(), amount.get())))
    }
}

/// A lease that was just reserved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewLease)]
pub(crate) struct NewLeaseBody<'a> {
    /// Its id, which updates name. Whoever knows it can settle the lease.
    #[schema(value_type = String, min_length = 1, max_length = 512)]
    id: &'a str,
    /// `live`. If the reservation was sent again with its `requestId`, and the lease has ended meanwhile: `settled`, `released` or
    /// `expired`. Such a lease holds no slot and allows no new work; for that, reserve with a new id. A lease that ended so long ago
    /// that it is not known any more is `settled`.
    #[schema(value_type = String)]
    state: &'static str,
    /// Whether the same `requestId` reserved this lease before.
    repeated: bool,
    /// How long it lives from the reservation, in milliseconds, unless it is extended.
    #[schema(minimum = 100, maximum = 3_600_000)]
    ttl_ms: u64,
    /// When it expires, by this server's clock. The store's clock decides. If the reservation was sent again with its
    /// `requestId`, and the lease has ended meanwhile, this is now.
    #[schema(format = DateTime)]
    expires_at: String,
    /// What was asked for, by unit, with what policies reserve of units that `cost` did not name. Missing if the reservation was sent
    /// again with its `requestId`: the lease holds what the first one asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    reserved: Option<Reserved<'a>>,
}

/// A lease after an update, and what is used of its limits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Lease, examples(json!(super::schema::lease())))]
pub(crate) struct LeaseBody<'a> {
    /// Its id.
    #[schema(value_type = String, min_length = 1, max_length = 512)]
    id: &'a str,
    /// `live`, `expired`, `settled` or `released`.
    #[schema(value_type = String)]
    state: &'static str,
    /// The sequence number of the last update that counted; 0 if there was none.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    seq: u64,
    /// Whether this update changed nothing because it, or one with a higher `seq`, came before.
    repeated: bool,
    /// Whether the caller may go on, as the last extension was told: false if what it wanted was not admitted.
    proceed: bool,
    /// How long it lives from its last extension, in milliseconds.
    #[schema(minimum = 100, maximum = 3_600_000)]
    ttl_ms: u64,
    /// When it expires, by this server's clock; null if it is not alive. The store's clock decides.
    #[schema(required = true, format = DateTime)]
    expires_at: Option<String>,
    /// What it holds in each limit, and what is used of the limit now.
    #[schema(value_type = Vec<HoldBody>)]
    limits: Holds<'a>,
}

impl<'a> LeaseBody<'a> {
    /// The body at `now`, in civil time.
    pub(super) fn new(id: &'a str, state: &'a LeaseState, now: Timestamp) -> Self {
        Self {
            id,
            state: state.status().name(),
            seq: state.seq.get(),
            repeated: state.effect == Effect::Repeated,
            proceed: state.proceed,
            ttl_ms: state.ttl.as_ms(),
            expires_at: state.is_live().then(|| rfc3339(now.after(state.lives_for))),
            limits: Holds(&state.holds),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let bytes = LEASE_BYTES + HOLD_BYTES * self.limits.0.len();
        let mut json = JsonWriter::with_capacity(bytes);
        self.write(&mut json)?;
        Ok(json.into_bytes())
    }

    /// The same as [`DecisionBody::write_open`]: faster than the derived code.
    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw(r#"{"id":"#).text(Some(self.id))?;
        json.raw(r#","state":"#).text(Some(self.state))?;
        json.raw(r#","seq":"#).number(Some(self.seq));
        json.raw(r#","repeated":"#).bool(self.repeated);
        json.raw(r#","proceed":"#).bool(self.proceed);
        json.raw(r#","ttlMs":"#).number(Some(self.ttl_ms));
        json.raw(r#","expiresAt":"#).text(self.expires_at.as_deref())?;
        json.raw(r#","limits":["#);
        for (index, hold) in self.limits.0.iter().enumerate() {
            json.raw(if index == 0 { "" } else { "," });
            HoldBody::new(hold).write(json)?;
        }
        json.raw("]}");
        Ok(())
    }
}

/// What a lease holds in one limit, and what is used of the limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Hold)]
pub(crate) struct HoldBody<'a> {
    /// The policy that sets the limit.
    #[schema(value_type = String)]
    policy_id: &'a str,
    /// What it counts.
    #[schema(value_type = String)]
    unit: &'a str,
    /// The limit at the time of the reservation.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    limit: u64,
    /// The usage now, of everybody.
    count: u64,
    /// What is left now.
    remaining: u64,
    /// By how much the usage is above the limit.
    debt: u64,
    /// What this lease is charged: what it reserved, or what it used if it was settled. Of `concurrency`, 1 while it is
    /// alive.
    charged: u64,
}

impl<'a> HoldBody<'a> {
    fn new(hold: &'a HoldState) -> Self {
        Self {
            policy_id: hold.policy_id.as_str(),
            unit: hold.unit.name(),
            limit: hold.limit.get(),
            count: hold.usage,
            remaining: hold.limit.get().saturating_sub(hold.usage),
            debt: hold.debt(),
            charged: hold.charged,
        }
    }

    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw(r#"{"policyId":"#).text(Some(self.policy_id))?;
        json.raw(r#","unit":"#).text(Some(self.unit))?;
        json.raw(r#","limit":"#).number(Some(self.limit));
        json.raw(r#","count":"#).number(Some(self.count));
        json.raw(r#","remaining":"#).number(Some(self.remaining));
        json.raw(r#","debt":"#).number(Some(self.debt));
        json.raw(r#","charged":"#).number(Some(self.charged));
        json.raw("}");
        Ok(())
    }
}

#[derive(Debug)]
struct Holds<'a>(&'a [HoldState]);

impl Serialize for Holds<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut holds = to.serialize_seq(Some(self.0.len()))?;
        for hold in self.0 {
            holds.serialize_element(&HoldBody::new(hold))?;
        }
        holds.end()
    }
}

/// A settlement that the store did not answer. It is on the disk of this server, which makes it when the store is available
/// again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedSettlement, examples(json!({"id": "m0000000a4f0c5d2e8b7a19364d5e0f7c2b1a", "seq": 2, "accepted": true})))]
pub(crate) struct AcceptedBody<'a> {
    /// The lease.
    #[schema(value_type = String, min_length = 1, max_length = 512)]
    id: &'a str,
    /// The sequence number of the settlement.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    seq: u64,
    /// Always true.
    accepted: bool,
}

impl<'a> AcceptedBody<'a> {
    pub(super) fn new(id: &'a str, seq: u64) -> Self {
        Self { id, seq, accepted: true }
    }
}

/// The answers to a batch of settlements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settlements)]
pub(crate) struct SettlementsBody<'a> {
    /// An answer for each settlement, in their order.
    #[schema(max_items = 1000)]
    settlements: Vec<SettledBody<'a>>,
}

impl<'a> SettlementsBody<'a> {
    pub(super) fn new(settlements: Vec<SettledBody<'a>>) -> Self {
        Self { settlements }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json =
            JsonWriter::with_capacity(self.settlements.len() * 2 * (LEASE_BYTES + HOLD_BYTES));
        json.raw(r#"{"settlements":["#);
        for (index, settled) in self.settlements.iter().enumerate() {
            json.raw(if index == 0 { "" } else { "," });
            settled.write(&mut json)?;
        }
        json.raw("]}");
        Ok(json.into_bytes())
    }
}

/// The answer to one settlement of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Settled)]
pub(crate) struct SettledBody<'a> {
    /// The lease, as the settlement named it.
    #[schema(value_type = String)]
    lease_id: &'a str,
    /// The status that the settlement would have alone. After 202, neither of the others is there.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// The lease after it; left out if there is a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lease: Option<LeaseBody<'a>>,
    /// Why it was not made; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Problem>, nullable = false)]
    problem: Option<&'a Problem>,
}

impl<'a> SettledBody<'a> {
    /// The answer at `now`, in civil time.
    pub(super) fn new(
        lease_id: &'a str,
        answer: &'a Result<Settled, Problem>,
        now: Timestamp,
    ) -> Self {
        let (status, lease, problem) = match answer {
            Ok(Settled::Now(state)) => (200, Some(LeaseBody::new(lease_id, state, now)), None),
            Ok(Settled::Later) => (202, None, None),
            Err(problem) => (problem.status().as_u16(), None, Some(problem)),
        };
        Self { lease_id, status, lease, problem }
    }

    fn write(&self, json: &mut JsonWriter) -> serde_json::Result<()> {
        json.raw(r#"{"leaseId":"#).text(Some(self.lease_id))?;
        json.raw(r#","status":"#).number(Some(self.status.into()));
        if let Some(lease) = &self.lease {
            json.raw(r#","lease":"#);
            lease.write(json)?;
        }
        if let Some(problem) = self.problem {
            json.raw(r#","problem":"#).value(problem)?;
        }
        json.raw("}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::lease::ledger::Ending;
    use tollgate_core::{Amount, Check, Per, Policy, PolicyId, PolicySet, Ttl, Unit, Window};
    use tollgate_store::{LeaseRequest, LeaseStatus, MemoryStore};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_007);

    #[test]
    fn a_moment_has_milliseconds() {
        assert_eq!(rfc3339(NOW), "2027-01-15T08:00:00.007Z");
        assert_eq!(rfc3339(Timestamp::from_ms(0)), "1970-01-01T00:00:00.000Z");
    }

    fn state(count: u64, ending: Ending) -> LeaseState {
        let hold = |id: &str, unit, charged| HoldState {
            policy_id: PolicyId::new(id).unwrap(),
            unit,
            weights: tollgate_core::Weights::default(),
            limit: Amount::new(100).unwrap(),
            usage: charged + 90,
            charged,
            charged_before: 0,
            key: Box::default(),
        };
        let holds = (0..count).map(|n| hold("a \"quoted\" id, ü", Unit::Tokens, 7 * n)).collect();
        let lives_for =
            if ending == Ending::Open { Duration::from_secs(5) } else { Duration::ZERO };
        LeaseState {
            effect: Effect::Changed,
            was: LeaseStatus::Live,
            ending,
            seq: Amount::ONE,
            proceed: false,
            ttl: Ttl::DEFAULT,
            lives_for,
            holds,
            note: Box::default(),
        }
    }

    #[test]
    fn leases_are_written_as_serde_writes_them() {
        let mut answers = vec![Err(Problem::unknown_lease()), Ok(Settled::Later)];
        for ending in [Ending::Open, Ending::Settled, Ending::Released] {
            let states = (0..3).map(|count| state(count, ending));
            answers.extend(states.map(|state| Ok(Settled::Now(state))));
        }
        for answer in answers.iter().flatten() {
            let Settled::Now(state) = answer else { continue };
            let body = LeaseBody::new("some-id", state, NOW);
            assert_eq!(body.to_json().unwrap(), serde_json::to_vec(&body).unwrap());
        }
        let settled = answers.iter().map(|answer| SettledBody::new("some \"id\"", answer, NOW));
        let body = SettlementsBody::new(settled.collect());
        assert_eq!(body.to_json().unwrap(), serde_json::to_vec(&body).unwrap());
    }

    #[test]
    fn a_granted_lease_is_written_as_serde_writes_it() {
        let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("USER").unwrap());
        let window = Window::new(Duration::from_mins(1)).unwrap();
        let set = PolicySet::new(vec![Policy::new(id, per, Amount::new(3), window)]).unwrap();
        let (store, check) = (MemoryStore::new(), Check::new("alice", "gpt-4"));
        let charges = set.plan(&check);
        let reserved = store.reserve(&LeaseRequest::new(&charges, Ttl::DEFAULT));
        let decision = Decision::assemble(&charges, &reserved.verdicts);
        let lease = reserved.lease.unwrap();
        let again = lease.clone().reserved_before(None, Timestamp::from_ms(0));
        let decisions = [decision, Decision::assemble(&[], &[])];
        for (decision, lease) in decisions.iter().zip([lease, again]) {
            let body = GrantedBody::new(decision, &lease, &check.cost, NOW);
            assert_eq!(body.to_json().unwrap(), serde_json::to_vec(&body).unwrap());
        }
    }

    #[test]
    fn a_denied_lease_is_written_as_serde_writes_it() {
        let decision = Decision::assemble(&[], &[]);
        let asked = Cost::one_request().with(Unit::Custom("gpu \"ms\"".into()), Amount::MAX);
        for asked in [asked, Cost::one_request()] {
            let body = DeniedBody::new(&decision, &asked);
            assert_eq!(body.to_json().unwrap(), serde_json::to_vec(&body).unwrap());
        }
    }
}
