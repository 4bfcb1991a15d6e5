//! The requests of leases to the scripts, and their answers.

use tollgate_core::counting::Verdict;
use tollgate_core::{Amount, Charge, Timestamp, Ttl};
use tollgate_store::{LeaseId, NewLease};

use super::record::Changing;
use crate::check::GroupReply;
use crate::wire::{
    self, ScriptReply, TERMS_BYTES, TIME_BYTES, Terms, answer_bytes, push, push_double, unsigned,
};

/// The numbers of a reservation.
pub(super) struct Reservation {
    pub(super) ttl: Ttl,
    /// For how long the lease is known after it has expired.
    pub(super) life_ms: u64,
    /// For how long the request id is remembered.
    pub(super) once_us: u64,
    /// Whether the request id decides which lease it is.
    pub(super) is_first: bool,
}

impl Reservation {
    pub(super) fn packed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        for number in [self.ttl.as_ms(), self.life_ms, self.once_us] {
            push_double(&mut bytes, number);
        }
        push(&mut bytes, self.is_first.into(), 1);
        bytes
    }
}

/// What follows the answer in the value of a request id: the terms of each limit, because the same id may be sent again
/// with another cost or when a policy was changed, and the lease.
pub(super) fn once_rest(charges: &[Charge<'_>], lease: &NewLease) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(charges.len() * TERMS_BYTES + 68);
    for charge in charges {
        Terms::of(charge).push(&mut bytes);
    }
    push(&mut bytes, lease.ttl.as_ms(), 4);
    bytes.extend_from_slice(lease.id.as_str().as_bytes());
    bytes
}

/// The answer to a reservation.
pub(super) enum ReserveReply {
    /// It was decided, now or when the request id was used first.
    Decided {
        said: GroupReply,
        /// The lease, if it is admitted.
        lease: NewLease,
        /// The time by the server's clock, and that at which it was decided.
        now: Timestamp,
        then: Timestamp,
    },
    /// The call ran after its latest time.
    Late,
}

impl ReserveReply {
    /// `None` if `answer` is malformed. `lease` is what a new lease is called.
    pub(super) fn read(answer: &[u8], charges: &[Charge<'_>], lease: &NewLease) -> Option<Self> {
        let (kind, answer) = match answer {
            b"L" => return Some(Self::Late),
            [kind, answer @ ..] => (*kind, answer),
            [] => return None,
        };
        let now = wire::told_time(answer)?;
        let answer = if kind == b'O' { answer.get(TIME_BYTES..)? } else { answer };
        let then = wire::told_time(answer)?;
        let (answer, lease) = match kind {
            b'N' => (answer, lease.clone()),
            b'O' => {
                let bytes = answer_bytes(charges.len()) + charges.len() * TERMS_BYTES;
                let (answer, lease) = answer.split_at_checked(bytes)?;
                let (ttl, id) = lease.split_at_checked(4)?;
                let id = LeaseId::parse(std::str::from_utf8(id).ok()?)?;
                (answer, NewLease::new(id, Ttl::from_ms(unsigned(ttl))?))
            }
            _ => return None,
        };
        match wire::answer(answer, charges)? {
            ScriptReply::LimitReply(said) => Some(Self::Decided { said, lease, now, then }),
            ScriptReply::Late | ScriptReply::Undecided => None,
        }
    }
}

/// What `update_lease.lua` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Action {
    /// Nothing: the state is the answer.
    Look = 0,
    /// Extends it.
    Extend = 1,
    /// Settles or releases it.
    End = 2,
    /// Takes an extension back because another slot has refused it.
    SetBack = 3,
    /// Deletes it, because the check was denied in another slot.
    Forget = 4,
}

/// What an extension may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Refusal {
    /// Nothing is refused.
    Nothing = 0,
    /// It charges nothing that needs room.
    More = 1,
    /// Neither that, nor is the life of the lease extended.
    Life = 2,
}

/// The numbers of an update.
pub(super) struct Numbers {
    /// The version of the record to which the update applies.
    pub(super) version: u64,
    pub(super) action: Action,
    pub(super) seq: Amount,
    /// As in the record.
    pub(super) ending: u8,
    /// The time to live of an extension; for how long a lease that ends is known.
    pub(super) ttl_ms: u64,
    /// Of an extension that is set back: when the lease expires; 0 to keep the time.
    pub(super) expires_us: u64,
    pub(super) refusal: Refusal,
    pub(super) limits: usize,
    pub(super) forced: usize,
    pub(super) wanted: usize,
    pub(super) slots: usize,
    pub(super) changes: usize,
    /// Of how many limits expired leases give back what they hold.
    pub(super) refunds: usize,
    /// How many bytes of what follows the parts stay.
    pub(super) kept_bytes: usize,
}

impl Numbers {
    pub(super) fn push(&self, bytes: &mut Vec<u8>) {
        push_double(bytes, self.version);
        push(bytes, self.action as u64, 1);
        push_double(bytes, self.seq.get());
        push(bytes, self.ending.into(), 1);
        push_double(bytes, self.ttl_ms);
        push_double(bytes, self.expires_us);
        push(bytes, self.refusal as u64, 1);
        let counts =
            [self.limits, self.forced, self.wanted, self.slots, self.changes, self.refunds];
        for count in counts {
            push(bytes, count as u64, 2);
        }
        push(bytes, self.kept_bytes as u64, 4);
    }
}

/// The answer to an update.
pub(super) enum UpdateReply {
    /// It was done. The verdicts are those on a cost of 0 afterwards.
    Done { lease: Box<Changing>, verdicts: Vec<Verdict>, now: Timestamp },
    /// The record has changed since: this is it. Nothing was done.
    Changed(Vec<u8>),
    /// There is none.
    Gone,
}

impl UpdateReply {
    /// `None` if `answer` is malformed.
    pub(super) fn read(answer: &[u8], charges: &[Charge<'_>]) -> Option<Self> {
        let (kind, rest) = answer.split_first()?;
        match kind {
            b'N' if rest.is_empty() => return Some(Self::Gone),
            b'V' => return Some(Self::Changed(rest.to_vec())),
            b'K' => {}
            _ => return None,
        }
        let (length, rest) = rest.split_at_checked(2)?;
        let (lease, answer) = rest.split_at_checked(usize::try_from(unsigned(length)).ok()?)?;
        let lease = Box::new(Changing::read(lease)?.0);
        let now = wire::told_time(answer.get(..TIME_BYTES)?)?;
        match wire::answer(answer, charges)? {
            ScriptReply::LimitReply(said) => {
                let verdicts = said.iter().map(|one| one.before).collect();
                Some(Self::Done { lease, verdicts, now })
            }
            ScriptReply::Late | ScriptReply::Undecided => None,
        }
    }
}
