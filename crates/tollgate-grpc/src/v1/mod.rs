//! `tollgate.v1.RateLimiter`: the calls of the HTTP interface that decide.

mod answer;
mod leases;
mod request;

use std::sync::Arc;

use tollgate_core::Check;
use tollgate_store::{Store, StoreError};
use tonic::{Request, Response, Status, async_trait};

use self::answer::decision_message;
use self::request::CheckRead;
use crate::Shared;
use crate::observer::GrpcCall;
use crate::proto::tollgate::v1::rate_limiter_server::RateLimiter;
use crate::proto::tollgate::v1::{
    CheckBatchRequest, CheckBatchResponse, CheckRequest, Decision, ExtendRequest, Lease,
    ReleaseRequest, ReserveRequest, ReserveResponse, SettleBatchRequest, SettleBatchResponse,
    SettleRequest, SettleResponse,
};
use crate::status::{Problems, store_unavailable};

/// Answers `tollgate.v1`.
pub(crate) struct TollgateV1<S>(pub(crate) Arc<Shared<S>>);

#[async_trait]
impl<S: Store> RateLimiter for TollgateV1<S> {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<Decision>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::Check).end(self.decide(&request).await)
    }

    async fn peek(&self, request: Request<CheckRequest>) -> Result<Response<Decision>, Status> {
        let request = request.into_inner();
        let peek = async {
            let read = CheckRead::of(&request)?;
            let decision = self.0.service.peek(&read.check()).await;
            Ok(decision_message(&decision.map_err(|error| self.failed(&error))?))
        };
        self.0.begin(GrpcCall::Peek).end(peek.await)
    }

    async fn check_batch(
        &self,
        request: Request<CheckBatchRequest>,
    ) -> Result<Response<CheckBatchResponse>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::CheckBatch).end(self.decide_batch(&request).await)
    }

    async fn reserve(
        &self,
        request: Request<ReserveRequest>,
    ) -> Result<Response<ReserveResponse>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::Reserve).end(self.reserve_lease(&request).await)
    }

    async fn extend(&self, request: Request<ExtendRequest>) -> Result<Response<Lease>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::UpdateLease).end(self.extend_lease(&request).await)
    }

    async fn settle(
        &self,
        request: Request<SettleRequest>,
    ) -> Result<Response<SettleResponse>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::UpdateLease).end(self.settle_lease(&request).await)
    }

    async fn settle_batch(
        &self,
        request: Request<SettleBatchRequest>,
    ) -> Result<Response<SettleBatchResponse>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::SettleBatch).end(self.settle_leases(&request).await)
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<Lease>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::UpdateLease).end(self.release_lease(&request).await)
    }
}

impl<S: Store> TollgateV1<S> {
    async fn decide(&self, request: &CheckRequest) -> Result<Decision, Status> {
        let read = CheckRead::of(request)?;
        let decision = self.0.service.check(&read.check()).await;
        let decision = decision.map_err(|error| self.failed(&error))?;
        self.0.observer.decided(&decision);
        Ok(decision_message(&decision))
    }

    async fn decide_batch(
        &self,
        request: &CheckBatchRequest,
    ) -> Result<CheckBatchResponse, Status> {
        let read = request::read_batch(request)?;
        let checks: Vec<Check<'_>> = read.iter().map(CheckRead::check).collect();
        let decided = self.0.service.check_batch(&checks).await;
        // The reader refuses such a batch; the use case checks it as well.
        let decided = decided.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut decisions = Vec::with_capacity(decided.len());
        for decision in decided {
            let decision = decision.map_err(|error| self.failed(&error))?;
            self.0.observer.decided(&decision);
            decisions.push(decision_message(&decision));
        }
        Ok(CheckBatchResponse { decisions })
    }

    #[cold]
    fn failed(&self, error: &StoreError) -> Status {
        self.0.observer.store_failed();
        tracing::debug!(
            error = error as &dyn std::error::Error,
            "no decision was possible: the store failed"
        );
        store_unavailable()
    }
}

/// A problem with one field.
fn invalid(field: &str, problem: &str, accepted: &str) -> Status {
    let mut problems = Problems::default();
    problems.add(&field, &problem, accepted);
    problems.into_status()
}
