//! `envoy.service.ratelimit.v3.RateLimitService`.
//!
//! Each descriptor is a subject of its own. The limits of all descriptors are decided together: if one denies, none is charged
//! (R3).

mod answer;
mod request;

use std::sync::Arc;

use tollgate_core::Check;
use tollgate_service::{GivenBack, Together, Uncovered};
use tollgate_store::{Store, StoreError};
use tonic::{Request, Response, Status, async_trait};

use self::request::{Asked, Hits};
use crate::Shared;
use crate::observer::GrpcCall;
use crate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use crate::status::{no_leases, store_unavailable};
use crate::undecoded::envoy::service::ratelimit::v3::RateLimitRequest;
use crate::undecoded::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;

/// Answers Envoy.
pub(crate) struct EnvoyRateLimit<S>(pub(crate) Arc<Shared<S>>);

#[async_trait]
impl<S: Store> RateLimitService for EnvoyRateLimit<S> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        self.0.begin(GrpcCall::ShouldRateLimit).end(self.decide(&request).await)
    }
}

impl<S: Store> EnvoyRateLimit<S> {
    async fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        let asked = Asked::read(request)?;
        let unmatched = self.0.unmatched;
        let service = &self.0.service;
        if let Some(problem) = asked.refused_value() {
            // Of a value that clients may choose: the request must not pass unlimited, so it is no error.
            let checks = asked.accepted();
            let together = Box::pin(service.peek_together(&checks, unmatched)).await;
            let together = together.map_err(|error| self.failed(&error))?;
            return Ok(answer::refusal(&asked, &together, unmatched, problem));
        }
        let checks = asked.accepted();
        let together = match (&checks[..], asked.hits()) {
            // What is rare is boxed, so that the others move less memory.
            ([check], Hits::GivenBack) => Box::pin(self.give_back(check)).await?,
            ([check], Hits::Charged) if check.request_id.is_some() => {
                let kept = Box::pin(service.check_kept(check, unmatched)).await;
                self.decided(kept)?
            }
            _ => self.decided(service.check_together(&checks, unmatched).await)?,
        };
        Ok(answer::decided(&together, unmatched))
    }

    /// Gives back, and peeks at what is left then.
    async fn give_back(&self, check: &Check<'_>) -> Result<Together, Status> {
        let service = &self.0.service;
        match service.give_back(check).await.map_err(|error| self.failed(&error))? {
            GivenBack::Done => {}
            GivenBack::NotFound => {
                return Err(Status::not_found(
                    "request_id: names no charge of this subject that can be given back: it was denied, it was made more than an \
                     hour ago or before the policies changed, or its subject differs",
                ));
            }
            GivenBack::NotCharged(unit) => {
                return Err(Status::failed_precondition(format!(
                    "unit: the charge that request_id names has nothing of {:?}; accepted: the unit of the charge",
                    unit.name()
                )));
            }
            GivenBack::NoLeases => return Err(no_leases()),
            GivenBack::NotKept(policy) => {
                return Err(Status::failed_precondition(format!(
                    "is_negative_hits: policy {:?} has overLimit: charge or onExpire: refund, so its charges are not kept to be given \
                     back",
                    policy.as_str()
                )));
            }
        }
        let nothing = check.clone().at_cost(request::no_hits());
        let peek = service.peek_together(std::slice::from_ref(&nothing), Uncovered::Allow).await;
        let together = peek.map_err(|error| self.failed(&error))?;
        Ok(Together { allowed: true, ..together })
    }

    fn decided(&self, together: Result<Together, StoreError>) -> Result<Together, Status> {
        let together = together.map_err(|error| self.failed(&error))?;
        let is_matched = together.parts.iter().any(|part| part.is_covered);
        for _ in together.parts.iter().filter(|part| !part.is_covered) {
            self.0.observer.unmatched();
        }
        if is_matched {
            self.0.observer.decided(&together.decision);
        }
        Ok(together)
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
