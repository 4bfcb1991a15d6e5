//! Brings a request to an upstream: waits for room, sends, and tries another upstream once if that fails before the answer
//! begins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use tollgate_core::PriorityClass;
use tollgate_store::Store;

use super::Gateway;
use super::lease::LeaseGuard;
use super::record::RequestRecord;
use super::waiting::EarlyBeginning;
use crate::admission::{Busy, Claim, Entrant, Permit, Refused, UpstreamSet};
use crate::config::Dialect;
use crate::dialect::denial::Denial;
use crate::monitor::UpstreamResult;
use crate::upstream::{BegunBody, Outgoing, UpstreamFailure};

/// The most upstreams that a request is sent to.
const MAX_ATTEMPTS: usize = 2;

/// What is forwarded.
pub(super) struct Job<'a, F> {
    /// The upstreams, and the dialect that they must speak.
    pub(super) upstreams: &'a [usize],
    pub(super) dialect: Option<Dialect>,
    pub(super) class: PriorityClass,
    pub(super) tenant: Arc<str>,
    /// Who makes it, and with which ticket.
    pub(super) claim: Claim<'a>,
    /// What it has reserved.
    pub(super) tokens: u64,
    pub(super) head: &'a Parts,
    /// The body for an upstream.
    pub(super) body: F,
}

/// An answer that has begun.
pub(super) struct Forwarded {
    pub(super) response: Response<BegunBody>,
    pub(super) permit: Permit,
}

impl<S: Store> Gateway<S> {
    /// Forwards `job`. What is dropped before the answer begins gives up its place; `lease` says then whether the upstream may
    /// have worked on it.
    pub(super) async fn forward<F: Fn(usize) -> Bytes>(
        &self,
        job: &Job<'_, F>,
        lease: &mut LeaseGuard<S>,
        record: &mut RequestRecord,
        mut early: Option<EarlyBeginning>,
    ) -> Result<Forwarded, Denial> {
        let (mut tried, mut failed) = (UpstreamSet::EMPTY, None);
        let mut last = Denial::NoUpstream;
        let counters = &self.recorder.counters;
        for _ in 0..MAX_ATTEMPTS {
            let Some(permit) = self.place(job, tried, record, &mut early).await? else { break };
            if let Some(failed) = failed {
                counters.retried(failed);
            }
            let index = permit.upstream();
            let config = self.upstreams.config(index);
            let trace_fields = record.sends(config, &job.head.method, tried.iter().count());
            let outgoing = Outgoing {
                method: &job.head.method,
                path: job.head.uri.path_and_query().map_or("/", |path| path.as_str()),
                fields: &job.head.headers,
                body: (job.body)(index),
                tokens: job.tokens,
                // What is only forwarded may be a stream whose head is news of its own.
                waits_for_body: job.dialect.is_some(),
                trace_fields,
            };
            lease.set_sent(true);
            let sent_at = record.now();
            let sent = self.upstreams.send(index, &outgoing).await;
            record.was_sent(index, record.now().since(sent_at));
            tried = tried.with(index);
            let failure = match sent.and_then(|response| self.kept(response, job, tried)) {
                Ok(response) => {
                    record.upstream_answers(response.status());
                    counters.sent(index, UpstreamResult::Answered);
                    return Ok(Forwarded { response, permit });
                }
                Err(failure) => failure,
            };
            record.upstream_failed(failure);
            counters.sent(index, UpstreamResult::of(failure));
            lease.set_sent(false);
            if failure == UpstreamFailure::Timeout {
                return Err(Denial::UpstreamTimeout);
            }
            failed = Some(index);
            last = denial(failure);
        }
        Err(last)
    }

    /// The answer of the last of those `tried`. An error of the upstream itself may be none at another one; only if there is none
    /// left does the client get it.
    fn kept<F>(
        &self,
        response: Response<BegunBody>,
        job: &Job<'_, F>,
        tried: UpstreamSet,
    ) -> Result<Response<BegunBody>, UpstreamFailure> {
        let status = response.status();
        let goes_elsewhere = status == StatusCode::INTERNAL_SERVER_ERROR
            && tried.iter().count() < MAX_ATTEMPTS
            && self.upstreams.has_other(job.upstreams, job.dialect, job.tokens, tried);
        if goes_elsewhere { Err(UpstreamFailure::Status(status)) } else { Ok(response) }
    }

    /// A place at an upstream that was not tried; `None` if there is none any more.
    async fn place<F>(
        &self,
        job: &Job<'_, F>,
        tried: UpstreamSet,
        record: &mut RequestRecord,
        early: &mut Option<EarlyBeginning>,
    ) -> Result<Option<Permit>, Denial> {
        let available = self.upstreams.available(job.upstreams, job.dialect, job.tokens);
        let upstreams = available.upstreams.without(tried);
        if upstreams.is_empty() {
            self.upstreams.chosen(available, None);
            if !tried.is_empty() {
                return Ok(None);
            }
            let cooling = self.upstreams.cooling(job.upstreams, job.tokens);
            return Err(cooling.map_or(Denial::NoUpstream, |wait| Denial::UpstreamLimited {
                retry_after_ms: whole_ms(wait),
            }));
        }
        let entrant = Entrant {
            class: job.class,
            tenant: Arc::clone(&job.tenant),
            upstreams,
            tokens: job.tokens,
        };
        // At another upstream it is late already.
        let ticket = job.claim.ticket.filter(|_| tried.is_empty());
        let waiting = self.admission.enter(entrant, Claim { ticket, ..job.claim });
        let (entered_at, could_begin) = (record.now(), early.is_some());
        let entered = EarlyBeginning::while_waiting(early, waiting, record).await;
        if could_begin
            && early.is_none()
            && let Err(Refused::Busy(Busy { ticket: Some(unseen), .. })) = entered
        {
            // The fields of its answer are sent already.
            self.admission.withdraw(unseen);
        }
        record.has_queued(job.class, record.now().since(entered_at));
        self.upstreams.chosen(available, entered.as_ref().ok().map(Permit::upstream));
        entered.map(Some).map_err(|refused| match refused {
            Refused::Busy(Busy { retry_after, ticket }) => {
                Denial::Busy { retry_after_ms: whole_ms(retry_after), ticket }
            }
            Refused::Closed => Denial::Ending,
        })
    }
}

fn denial(failure: UpstreamFailure) -> Denial {
    match failure {
        UpstreamFailure::Limited { wait } => {
            Denial::UpstreamLimited { retry_after_ms: whole_ms(wait) }
        }
        UpstreamFailure::Timeout => Denial::UpstreamTimeout,
        UpstreamFailure::Unreachable | UpstreamFailure::Tls | UpstreamFailure::Status(_) => {
            Denial::NoUpstream
        }
    }
}

/// In milliseconds, rounded up.
fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
