//! Leases as a store keeps them: their names, and what an update answers.

use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::lease::ledger::{Ending, LeaseHead};
use tollgate_core::{Amount, Charge, PolicyId, Timestamp, Totals, Ttl, Unit, Weights};

use crate::{StoreError, Verdicts, no_leases, no_refunds};

/// The name of a lease: opaque, unguessable, and valid on every node that uses the same store.
///
/// It has 128 random bits, so nobody can guess it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LeaseId(SmallVec<[u8; USUAL_ID_BYTES]>);

/// Ids of this length need no allocation.
const USUAL_ID_BYTES: usize = 64;

impl LeaseId {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 512;
    /// What [`LeaseId::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "the id of a lease, exactly as the reservation returned it";

    /// The id written as `text`; `None` if no store writes it so. Whether there is such a lease, only the store knows.
    pub fn parse(text: &str) -> Option<Self> {
        let is_legal =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_id = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_legal);
        is_id.then(|| Self(SmallVec::from_slice(text.as_bytes())))
    }

    /// The id of these bytes, which [`LeaseId::parse`] would accept.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        debug_assert!(std::str::from_utf8(bytes).is_ok_and(|text| Self::parse(text).is_some()));
        Self(SmallVec::from_slice(bytes))
    }

    /// [`LeaseId::as_str`] in bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as text: letters, digits and `.`, `_`, `-`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LeaseId {
    /// Only its beginning: whoever has the whole id can settle the lease.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({}…)", self.as_str().get(..4).unwrap_or_default())
    }
}

/// What a reservation asks for.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest<'a> {
    /// What is charged, as by [`Store::charge`](crate::Store::charge).
    pub charges: &'a [Charge<'a>],
    /// Names the lease once (R12).
    pub request_id: Option<&'a str>,
    /// How long the lease lives.
    pub ttl: Ttl,
    /// What whoever reserves wants to be told again when the lease is updated: at most [`LeaseRequest::MAX_NOTE_BYTES`]. No store
    /// reads it.
    pub note: &'a [u8],
}

impl<'a> LeaseRequest<'a> {
    /// The longest note, in bytes.
    pub const MAX_NOTE_BYTES: usize = 1_024;

    /// A lease of `charges` that lives for `ttl`, without a request id or a note.
    pub const fn new(charges: &'a [Charge<'a>], ttl: Ttl) -> Self {
        Self { charges, request_id: None, ttl, note: &[] }
    }

    /// The same with a request id, if there is one.
    #[must_use]
    pub const fn named(self, request_id: Option<&'a str>) -> Self {
        Self { request_id, ..self }
    }

    /// The same with a note. What is above [`LeaseRequest::MAX_NOTE_BYTES`] is cut off.
    #[must_use]
    pub fn with_note(self, note: &'a [u8]) -> Self {
        Self { note: &note[..note.len().min(Self::MAX_NOTE_BYTES)], ..self }
    }
}

/// The answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// A verdict for each charge, in their order, as [`Store::charge`](crate::Store::charge) gives them.
    pub verdicts: Verdicts,
    /// The lease; `None` if the check was denied.
    pub lease: Option<NewLease>,
    /// Whether the failure mode gave any of them, without the store (R11).
    pub degraded: bool,
}

/// A lease that was just reserved, or that the same request id reserved before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives from the reservation or from its last extension.
    pub ttl: Ttl,
    /// How long it still lives: all of that if it was just reserved, and 0 if it has ended or expired.
    pub lives_for: Duration,
    /// What it is now: live if it was just reserved. A lease that ended so long ago that it is not known any more counts as
    /// settled, because a release would have made the request id new, and one that expires is known for longer.
    pub status: LeaseStatus,
    /// Whether the same request id reserved it before.
    pub repeated: bool,
}

impl NewLease {
    /// A lease that was just reserved.
    pub const fn new(id: LeaseId, ttl: Ttl) -> Self {
        let (lives_for, status) = (ttl.as_duration(), LeaseStatus::Live);
        Self { id, ttl, lives_for, status, repeated: false }
    }

    /// The same lease, which the same request id reserved before. `head` is what is known of it at `now`.
    #[must_use]
    pub fn reserved_before(self, head: Option<LeaseHead>, now: Timestamp) -> Self {
        let is_live = head.is_some_and(|head| head.is_live(now));
        let live = head.filter(|_| is_live);
        Self {
            ttl: head.map_or(self.ttl, |head| head.ttl),
            lives_for: live.map_or(Duration::ZERO, |head| head.expires_at.since(now)),
            status: LeaseStatus::of(head.map_or(Ending::Settled, |head| head.ending), is_live),
            repeated: true,
            ..self
        }
    }
}

/// What a lease is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStatus {
    /// It is alive: its slots are taken.
    Live,
    /// It has expired and was neither settled nor released. An extension may revive it, and a settlement still counts.
    Expired,
    /// It was settled.
    Settled,
    /// It was released.
    Released,
}

impl LeaseStatus {
    /// The status of a lease with this ending; `is_alive` says whether its time to live has not passed.
    pub const fn of(ending: Ending, is_alive: bool) -> Self {
        match ending {
            Ending::Open if is_alive => Self::Live,
            Ending::Open => Self::Expired,
            Ending::Settled => Self::Settled,
            Ending::Released => Self::Released,
        }
    }

    /// The name, as in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Settled => "settled",
            Self::Released => "released",
        }
    }
}

/// A lease after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// Whether the update counted.
    pub effect: Effect,
    /// What the lease was before the update.
    pub was: LeaseStatus,
    /// What became of the lease.
    pub ending: Ending,
    /// The sequence number of the last update that counted.
    pub seq: Amount,
    /// What the last extension was told: whether its caller may go on.
    pub proceed: bool,
    /// How long it lives from its last extension.
    pub ttl: Ttl,
    /// How long it still lives; 0 if it has ended or expired.
    pub lives_for: Duration,
    /// What it holds in each limit, in the order of the charges.
    pub holds: SmallVec<[HoldState; 1]>,
    /// The note of its reservation.
    pub note: Box<[u8]>,
}

impl LeaseState {
    /// Whether it is alive.
    pub fn is_live(&self) -> bool {
        self.status() == LeaseStatus::Live
    }

    /// What it is now.
    pub fn status(&self) -> LeaseStatus {
        LeaseStatus::of(self.ending, self.lives_for > Duration::ZERO)
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It changed the lease.
    Changed,
    /// Nothing, because it, or one with a higher sequence number, came before.
    Repeated,
    /// Nothing, because the lease has ended: it was released, or an extension or a release came after the settlement.
    Refused,
}

/// What a lease holds in one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldState {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// How much it counts of each kind of tokens.
    pub weights: Weights,
    /// The limit at the time of the reservation.
    pub limit: Amount,
    /// What is used of it now, by everybody.
    pub usage: u64,
    /// What this lease is charged: what it reserved, or what it used if it was settled. Of concurrency, 1 while it is alive.
    pub charged: u64,
    /// The same before the update.
    pub charged_before: u64,
    /// The key of the limit, as [`key_bytes`](crate::key_bytes) returns it; empty if the store does not keep it, so that
    /// whoever remembers denials must forget all of them.
    pub key: Box<[u8]>,
}

impl HoldState {
    /// By how much the usage is above the limit.
    pub fn debt(&self) -> u64 {
        self.usage.saturating_sub(self.limit.get())
    }
}

/// Leases that are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveLeases {
    /// The oldest first.
    pub leases: Vec<LiveLease>,
    /// Whether these are all.
    pub is_complete: bool,
}

/// A lease that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLease {
    /// Its name.
    pub id: LeaseId,
    /// The note of its reservation.
    pub note: Box<[u8]>,
    /// How long ago it was reserved.
    pub age: Duration,
    /// How long it still lives.
    pub lives_for: Duration,
    /// What its last extension said was used so far.
    pub observed: Totals,
    /// What it holds in each limit, in the order of the charges.
    pub holds: SmallVec<[LiveHold; 1]>,
}

/// What a live lease holds in one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveHold {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// What this lease is charged; of concurrency, 1.
    pub charged: u64,
    /// What its last extension said was used so far, as the limit counts it; `None` if that did not name the unit.
    pub used: Option<Amount>,
}

/// A lease that has expired without being settled or released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredLease {
    /// Its name.
    pub id: LeaseId,
    /// The note of its reservation.
    pub note: Box<[u8]>,
    /// How long ago it expired.
    pub since: Duration,
    /// What it holds in each limit, in the order of the charges.
    pub holds: SmallVec<[ExpiredHold; 1]>,
}

/// What an expired lease holds in one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredHold {
    /// The policy that sets the limit.
    pub policy_id: PolicyId,
    /// Its unit.
    pub unit: Unit,
    /// What the lease was charged while it was alive; of concurrency, 1.
    pub charged_before: u64,
    /// What it is charged since: the same, or 0 of concurrency and where expired leases give back what they hold.
    pub charged: u64,
}

/// What a store can do with leases and parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "a store may have any of them")]
pub struct Capabilities {
    /// Whether it keeps leases.
    pub leases: bool,
    /// Whether another process over the same store can settle them.
    pub leases_everywhere: bool,
    /// Whether leases that expire give back what they hold in limits that say so ([`Limit::refunds_expired`]). If it keeps leases
    /// and cannot do that, it refuses to reserve under such a limit: an error of the kind
    /// [`StoreErrorKind::Unsupported`](crate::StoreErrorKind::Unsupported).
    ///
    /// [`Limit::refunds_expired`]: tollgate_core::Limit::refunds_expired
    pub refunds_expired: bool,
    /// Whether nodes can take parts of limits ahead of time (R22).
    pub parts: bool,
}

impl Capabilities {
    /// None of them.
    pub const NONE: Self =
        Self { leases: false, leases_everywhere: false, refunds_expired: false, parts: false };
    /// Leases for this process.
    pub const LEASES_HERE: Self =
        Self { leases: true, leases_everywhere: false, refunds_expired: true, parts: false };
    /// All of them.
    pub const ALL: Self =
        Self { leases: true, leases_everywhere: true, refunds_expired: true, parts: true };

    /// Why a store with these capabilities cannot reserve `charges`; `None` if it can.
    pub fn refusal(self, charges: &[Charge<'_>]) -> Option<StoreError> {
        if !self.leases {
            return Some(no_leases());
        }
        let needs_refunds = charges.iter().any(|charge| charge.limit.refunds_expired());
        (needs_refunds && !self.refunds_expired).then(no_refunds)
    }

    /// The same, but nobody can take parts of its limits.
    #[must_use]
    pub const fn without_parts(self) -> Self {
        Self { parts: false, ..self }
    }

    /// The same, but it refuses to reserve where leases that expire should give back what they hold.
    #[must_use]
    pub const fn without_refunds(self) -> Self {
        Self { refunds_expired: false, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_core::{Limit, OnExpire, Per, Policy, Subject, Window};

    use super::*;
    use crate::StoreErrorKind;

    #[test]
    fn an_id_is_short_and_plain() {
        let longest = "a".repeat(LeaseId::MAX_BYTES);
        for text in ["a", "AZ09._-", &longest] {
            assert_eq!(LeaseId::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "ä", "a\n", &format!("{longest}a")] {
            assert!(LeaseId::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn an_id_is_not_shown_whole_by_accident() {
        let id = LeaseId::parse("abcdefghijkl").unwrap();
        assert_eq!(
            (format!("{id:?}"), id.to_string()),
            ("LeaseId(abcd…)".into(), "abcdefghijkl".into())
        );
    }

    #[test]
    fn a_store_that_cannot_give_back_refuses_where_it_should() {
        let window = Window::new(Duration::from_secs(10)).unwrap();
        let (id, per) = (PolicyId::new("p").unwrap(), Per::from_scope("GLOBAL").unwrap());
        let keeps = Policy::new(id, per, Amount::new(5), window);
        let refunds = Policy { on_expire: OnExpire::Refund, ..keeps.clone() };
        let [keeps, refunds] = [keeps, refunds].map(|policy| Arc::new(Limit::of(&policy).unwrap()));
        let subject = Subject::new("alice", "gpt-4");
        let charges =
            [&keeps, &refunds].map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE });
        let cannot = Capabilities::ALL.without_refunds();
        let kind = |refusal: Option<StoreError>| refusal.map(|error| error.kind());
        assert_eq!(kind(Capabilities::ALL.refusal(&charges)), None);
        assert_eq!(kind(cannot.refusal(&charges[..1])), None);
        assert_eq!(kind(cannot.refusal(&charges)), Some(StoreErrorKind::Unsupported));
        assert_eq!(kind(Capabilities::NONE.refusal(&[])), Some(StoreErrorKind::Unsupported));
    }
}
