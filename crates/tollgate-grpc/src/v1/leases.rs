//! The calls for leases (R13–R16).

use tollgate_core::lease::ledger::Ending;
use tollgate_core::{Amount, LeaseUpdate, Quality, Ttl};
use tollgate_service::{Keeping, MAX_BATCH_SETTLEMENTS, Settlement, Unsettled};
use tollgate_store::{Effect, LeaseId, LeaseState, Store, StoreError};
use tonic::Status;

use super::answer::{lease_message, reservation_message};
use super::request::{CheckRead, totals};
use super::{TollgateV1, invalid};
use crate::proto::tollgate::v1::{
    Accepted, ExtendRequest, Failure, Lease, Quality as QualityMessage, ReleaseRequest,
    ReserveRequest, ReserveResponse, SettleBatchRequest, SettleBatchResponse, SettleRequest,
    SettleResponse, Settled, settle_response, settled,
};
use crate::status::{Problems, no_leases};

const ACCEPTED_SEQ: &str = "1 to 9007199254740991";
const ACCEPTED_INPUT: &str = "0 to 9007199254740991";
const ACCEPTED_BATCH: &str = "at most 1000 elements";
const ACCEPTED_LEASE: &str = "the id that `Reserve` gave";
/// 0 is accepted too: without a presence of its own, it is the same as nothing.
const ACCEPTED_TTL: &str = "0 for the default, or an integer from 100 to 3600000 (milliseconds)";
const ACCEPTED_NEW_TTL: &str = "0 to keep it, or an integer from 100 to 3600000 (milliseconds)";

const _: () = assert!(Ttl::MIN.as_ms() == 100 && Ttl::MAX.as_ms() == 3_600_000);
const _: () = assert!(MAX_BATCH_SETTLEMENTS == 1_000);

/// A settlement that is made, or will be.
enum Made {
    Now(LeaseState),
    /// It is on the disk of this server.
    Later,
}

impl<S: Store> TollgateV1<S> {
    pub(super) async fn reserve_lease(
        &self,
        request: &ReserveRequest,
    ) -> Result<ReserveResponse, Status> {
        let Some(check) = &request.check else {
            return Err(invalid("check", "is missing", "a check"));
        };
        let mut problems = Problems::default();
        let read = CheckRead::read(check, "check.", &mut problems);
        let ttl = ttl(request.ttl_ms, ACCEPTED_TTL, &mut problems).unwrap_or_default();
        if Amount::new(request.input_bytes).is_none() {
            problems.add(&"input_bytes", &"is too large", ACCEPTED_INPUT);
        }
        let read = problems.or(read)?;
        self.needs_leases()?;
        let reservation = self.0.service.reserve_for(&read.check(), ttl, request.input_bytes).await;
        let reservation = reservation.map_err(|error| self.failed(&error))?;
        self.0.observer.decided(&reservation.decision);
        self.0.observer.reserved(&reservation);
        Ok(reservation_message(&reservation))
    }

    pub(super) async fn extend_lease(&self, request: &ExtendRequest) -> Result<Lease, Status> {
        let mut problems = Problems::default();
        named(&request.lease_id, "", &mut problems);
        let seq = seq(request.seq, "seq", &mut problems);
        let ttl = ttl(request.ttl_ms, ACCEPTED_NEW_TTL, &mut problems);
        let observed = totals(&request.observed, "observed", &mut problems);
        let wanted = totals(&request.wanted, "wanted", &mut problems);
        let update = problems.or(LeaseUpdate::Extend { seq, ttl, observed, wanted })?;
        self.update(&request.lease_id, &update).await
    }

    pub(super) async fn release_lease(&self, request: &ReleaseRequest) -> Result<Lease, Status> {
        let mut problems = Problems::default();
        named(&request.lease_id, "", &mut problems);
        let update = problems.or(LeaseUpdate::Release)?;
        self.update(&request.lease_id, &update).await
    }

    pub(super) async fn settle_lease(
        &self,
        request: &SettleRequest,
    ) -> Result<SettleResponse, Status> {
        let mut problems = Problems::default();
        let settlement = settlement(request, "", &mut problems);
        let settlement = problems.or(settlement)?;
        self.needs_leases()?;
        let Some(settlement) = settlement else { return Err(unknown_lease()) };
        let settled = self.0.service.settle(&settlement).await;
        let (id, seq) = (&request.lease_id, request.seq);
        let result = match self.made(&settlement.to_update(), settled)? {
            Made::Now(state) => settle_response::Result::Lease(lease_message(id, &state)),
            Made::Later => {
                settle_response::Result::Accepted(Accepted { lease_id: id.clone(), seq })
            }
        };
        Ok(SettleResponse { result: Some(result) })
    }

    pub(super) async fn settle_leases(
        &self,
        request: &SettleBatchRequest,
    ) -> Result<SettleBatchResponse, Status> {
        let count = request.settlements.len();
        if count > MAX_BATCH_SETTLEMENTS {
            return Err(invalid("settlements", &format!("has {count} elements"), ACCEPTED_BATCH));
        }
        let mut problems = Problems::default();
        let read = request.settlements.iter().enumerate();
        let read = read
            .map(|(place, one)| settlement(one, &format!("settlements[{place}]."), &mut problems));
        let read: Vec<Option<Settlement>> = read.collect();
        let read = problems.or(read)?;
        self.needs_leases()?;
        let sent: Vec<Settlement> = read.iter().flatten().cloned().collect();
        let answers = self.0.service.settle_batch(&sent).await;
        let answers = answers.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut answers = answers.into_iter();
        let settled = request.settlements.iter().zip(&read).map(|(request, settlement)| {
            // What cannot be the id of a lease was not sent.
            let answer = settlement.as_ref().and_then(|settlement| {
                answers.next().map(|answer| self.made(&settlement.to_update(), answer))
            });
            settled_message(request, answer.unwrap_or_else(|| Err(unknown_lease())))
        });
        Ok(SettleBatchResponse { settled: settled.collect() })
    }

    async fn update(&self, id: &str, update: &LeaseUpdate) -> Result<Lease, Status> {
        self.needs_leases()?;
        let Some(lease) = LeaseId::parse(id) else {
            self.0.observer.updated(update, None);
            return Err(unknown_lease());
        };
        let updated = self.0.service.update_lease(&lease, update).await;
        let state = self.judged(update, updated)?;
        Ok(lease_message(id, &state))
    }

    /// The state of a lease after an update that was made or repeated.
    fn judged(
        &self,
        update: &LeaseUpdate,
        updated: Result<Option<LeaseState>, StoreError>,
    ) -> Result<LeaseState, Status> {
        let updated = updated.map_err(|error| self.unanswered(&error))?;
        self.0.observer.updated(update, updated.as_ref());
        let state = updated.ok_or_else(unknown_lease)?;
        match (state.effect, state.ending) {
            (Effect::Changed | Effect::Repeated, _) => Ok(state),
            (Effect::Refused, Ending::Released) => Err(Status::failed_precondition(
                "the lease was released, so it can be neither extended nor settled; what was used after all is charged by a check",
            )),
            (Effect::Refused, _) => Err(Status::failed_precondition(
                "the lease was settled, so it can be neither extended nor released; a settlement with a higher seq corrects it",
            )),
        }
    }

    fn made(
        &self,
        update: &LeaseUpdate,
        settled: Result<Option<LeaseState>, Unsettled>,
    ) -> Result<Made, Status> {
        let unsettled = match settled {
            Ok(state) => return self.judged(update, Ok(state)).map(Made::Now),
            Err(unsettled) => unsettled,
        };
        let status = self.unanswered(&unsettled.error);
        self.0.observer.unsettled(&unsettled);
        match unsettled.kept {
            Keeping::OnDisk => Ok(Made::Later),
            Keeping::Not => Err(status),
            Keeping::InMemory => Err(Status::unavailable(
                "the store is unavailable; this server keeps the settlement in memory and makes it when the store is available \
                 again; send it again to be sure, with the same seq: it counts once",
            )),
        }
    }

    fn needs_leases(&self) -> Result<(), Status> {
        let has_leases = self.0.service.store().capabilities().leases;
        if has_leases { Ok(()) } else { Err(no_leases()) }
    }

    #[cold]
    fn unanswered(&self, error: &StoreError) -> Status {
        self.0.observer.store_failed();
        tracing::debug!(
            error = error as &dyn std::error::Error,
            "a lease could not be updated: the store failed"
        );
        if error.kind().concerns_one_check() {
            return Status::data_loss(
                "the record of the lease, or the usage of one of its limits, holds something that Tollgate did not write; nothing was \
                 changed, and sending the update again changes nothing; the log of the server names the key",
            );
        }
        Status::unavailable(
            "the store is unavailable; send the same update again, with the same seq: it counts once",
        )
    }
}

fn unknown_lease() -> Status {
    Status::not_found(
        "lease_id: no lease has this id: it was never given, it is of another deployment, or the lease ended so long ago that it is \
         no longer known",
    )
}

/// Adds a problem if no lease is named.
fn named(id: &str, at: &str, problems: &mut Problems) {
    if id.is_empty() {
        problems.add(&format_args!("{at}lease_id"), &"is missing", ACCEPTED_LEASE);
    }
}

/// The settlement; `None` if the id cannot be that of a lease.
fn settlement(request: &SettleRequest, at: &str, problems: &mut Problems) -> Option<Settlement> {
    named(&request.lease_id, at, problems);
    let quality = match QualityMessage::try_from(request.quality) {
        Ok(QualityMessage::Unspecified | QualityMessage::Exact) => Quality::Exact,
        Ok(QualityMessage::LowerBound) => Quality::LowerBound,
        Err(_) => {
            let accepted = "QUALITY_EXACT or QUALITY_LOWER_BOUND";
            problems.add(&format_args!("{at}quality"), &"is unknown", accepted);
            Quality::Exact
        }
    };
    let seq = seq(request.seq, &format!("{at}seq"), problems);
    let usage = totals(&request.usage, &format!("{at}usage"), problems);
    let lease = LeaseId::parse(&request.lease_id)?;
    Some(Settlement { lease, seq, usage, quality })
}

fn settled_message(request: &SettleRequest, made: Result<Made, Status>) -> Settled {
    let id = &request.lease_id;
    let result = match made {
        Ok(Made::Now(state)) => settled::Result::Lease(lease_message(id, &state)),
        Ok(Made::Later) => {
            settled::Result::Accepted(Accepted { lease_id: id.clone(), seq: request.seq })
        }
        Err(status) => settled::Result::Failure(Failure {
            code: status.code() as i32,
            message: status.message().to_owned(),
        }),
    };
    Settled { result: Some(result) }
}

fn seq(value: u64, field: &str, problems: &mut Problems) -> Amount {
    let seq = Amount::new(value).filter(|seq| *seq > Amount::ZERO);
    if seq.is_none() {
        problems.add(&field, &format!("is {value}"), ACCEPTED_SEQ);
    }
    seq.unwrap_or(Amount::ONE)
}

/// A time to live; 0 says nothing.
fn ttl(ms: u64, accepted: &str, problems: &mut Problems) -> Option<Ttl> {
    if ms == 0 {
        return None;
    }
    let ttl = Ttl::from_ms(ms);
    if ttl.is_none() {
        problems.add(&"ttl_ms", &format!("is {ms}"), accepted);
    }
    ttl
}
