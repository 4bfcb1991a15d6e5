//! One request and its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use http::request::Parts as Head;
use http::{Response, StatusCode};
use hyper::body::Body;
use tollgate_core::{Amount, Decision, Reason, Unit};
use tollgate_service::{Answers, Caller};
use tollgate_store::Store;

use super::Gateway;
use super::body::{GatewayBody, Meter, MeteredBody, OnMetered, Parts};
use super::caller_key::key_in;
use super::forward::{Forwarded, Job};
use super::lease::{LeaseGuard, Outcome, Wanted, reserve};
use super::models::Model;
use super::record::RequestRecord;
use super::request_body::HeldBody;
use super::stream_bounds::StreamBounds;
use super::waiting::EarlyBeginning;
use crate::admission::{Claim, Holder, TicketId};
use crate::config::{Dialect, ModelConfig, OnAbort, OnLimit};
use crate::dialect::denial::{Denial, TICKET, apply_limits};
use crate::dialect::{
    BodyMeter, Endpoint, Framer, Metered, ModelRequest, RequestProblem, Rewrite, StreamMeter,
    TextSize, Usage,
};
use crate::monitor::RequestOutcome;

/// The cap of the answer, if the client asked for a larger one.
pub(super) const CLAMPED: HeaderName = HeaderName::from_static("x-tollgate-max-output-tokens");

/// The part of the answers that stay within what is reserved for them. The others ask for more, or lead to debt.
const LEARNED_QUANTILE: f64 = 0.95;

/// A request whose caller is known.
pub(super) struct Arrived<'a> {
    pub(super) head: &'a Head,
    pub(super) key: &'a str,
    pub(super) caller: Caller,
    pub(super) record: &'a mut RequestRecord,
}

/// What is reserved for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The tokens of the prompt, estimated.
    input: u64,
    /// The most tokens of each answer.
    cap: u64,
    /// The tokens of all answers that are reserved.
    held: u64,
    /// The most that all answers may have.
    most: u64,
    /// Whether the client asked for more.
    is_clamped: bool,
}

impl Plan {
    /// `learned` says how much the answers of this model and tenant usually use.
    fn of(
        model: &ModelConfig,
        request: &ModelRequest,
        input: u64,
        learned: impl FnOnce() -> Option<Amount>,
    ) -> Self {
        if !request.endpoint().generates() {
            // Counting tokens uses none.
            let input = if request.endpoint() == Endpoint::CountTokens { 0 } else { input };
            return Self { input, ..Self::default() };
        }
        let ceiling = model.max_output_tokens;
        let cap = request.cap.map_or(ceiling, |cap| cap.min(ceiling));
        let each = match (request.cap, model.reserve_output_tokens) {
            (Some(_), _) => cap,
            (None, Some(fixed)) => fixed.min(cap),
            (None, None) => learned().map_or(cap, |learned| learned.get().clamp(1, cap)),
        };
        Self {
            input,
            cap,
            held: each.saturating_mul(request.copies),
            most: cap.saturating_mul(request.copies),
            is_clamped: request.cap.is_some_and(|asked| asked > ceiling),
        }
    }
}

impl Plan {
    /// The cap, if the client asked for a larger one.
    fn clamped_to(&self) -> Option<u64> {
        self.is_clamped.then_some(self.cap)
    }
}

/// A request to a model whose lease is reserved.
pub(super) struct ReservedRequest<S: Store> {
    pub(super) request: ModelRequest,
    body: HeldBody,
    model: Arc<Model>,
    plan: Plan,
    caller: Caller,
    decision: Decision,
    lease: LeaseGuard<S>,
}

/// The ticket that `fields` have. A text that is none is ignored, as a ticket that is not known.
fn ticket_in(fields: &HeaderMap) -> Option<TicketId> {
    fields.get(TICKET)?.to_str().ok()?.parse().ok()
}

impl<S: Store> ReservedRequest<S> {
    /// Writes what was decided about it into the fields of its answer.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        let dialect = self.request.endpoint().dialect();
        let clamped_to = self.plan.clamped_to();
        Answered { dialect, decision: &self.decision, clamped_to }.apply(headers);
    }
}

/// What the answer needs to know of its request.
struct Answered<'a> {
    dialect: Dialect,
    decision: &'a Decision,
    clamped_to: Option<u64>,
}

impl Answered<'_> {
    fn apply(&self, headers: &mut HeaderMap) {
        apply_limits(self.dialect, self.decision, headers);
        if let Some(cap) = self.clamped_to {
            headers.insert(CLAMPED, HeaderValue::from(cap));
        }
    }
}

impl<S: Store> Gateway<S> {
    /// Reserves the lease of a request to a model.
    pub(super) async fn reserve_model<B>(
        &self,
        endpoint: Endpoint,
        arrived: Arrived<'_>,
        body: B,
    ) -> Result<ReservedRequest<S>, Denial>
    where
        B: Body<Data = Bytes> + Send,
    {
        let body = self.memory.read(body).await?;
        let request = ModelRequest::parse(endpoint, body.bytes()).map_err(invalid)?;
        let model = self.models.get(&request.model);
        let model = model.filter(|model| self.speaks(&model.config, endpoint.dialect()));
        let model = model.ok_or_else(|| Denial::UnknownModel(request.model.clone()))?;
        let input = model.ratio.estimate(request.size);
        let learned = || self.learned(&model.config.id, &arrived.caller);
        let plan = Plan::of(&model.config, &request, input, learned);
        let wanted = Wanted {
            api_key: arrived.key.to_owned(),
            model: Some(model.config.id.clone()),
            input: plan.input,
            output: plan.held,
            input_bytes: learnable_bytes(request.size),
            on_abort: model.config.on_abort,
        };
        arrived.record.is_for_model(model, plan.input.saturating_add(plan.held));
        let (decision, lease) = self.reserved(wanted).await?;
        let (model, caller) = (Arc::clone(model), arrived.caller);
        Ok(ReservedRequest { request, body, model, plan, caller, decision, lease })
    }

    /// The answer to a request to a model whose lease is reserved. `early` is told if it waits for long.
    pub(super) async fn model_answer(
        &self,
        head: &Head,
        reserved: ReservedRequest<S>,
        record: &mut RequestRecord,
        early: Option<EarlyBeginning>,
    ) -> Result<Response<GatewayBody<S>>, Denial> {
        let ReservedRequest { request, body, model, plan, caller, decision, lease } = reserved;
        // The key was valid when the lease was reserved.
        let api_key = key_in(&head.headers).unwrap_or_default();
        let holder = Holder { api_key, target: &model.config.id };
        let job = Job {
            claim: Claim { holder, ticket: ticket_in(&head.headers) },
            upstreams: &model.config.upstreams,
            dialect: Some(request.endpoint().dialect()),
            class: caller.priority,
            tenant: tenant(&caller),
            tokens: plan.input.saturating_add(plan.held),
            head,
            body: |index| self.rewritten(&request, &model.config, plan.cap, index),
        };
        let (forwarded, lease) = self.forwarded(&job, lease, record, early).await?;
        drop(body);
        let meter = meter(&forwarded.response, &request, &plan, model.config.on_limit);
        let answered = Answered {
            dialect: request.endpoint().dialect(),
            decision: &decision,
            clamped_to: plan.clamped_to(),
        };
        let learns = learning(Arc::clone(&model), request.size);
        Ok(self.response(forwarded, lease, meter, &answered, learns, record).await)
    }

    /// A request to a path that is only forwarded.
    pub(super) async fn pass_through<B>(
        &self,
        upstreams: &[usize],
        dialect: Dialect,
        arrived: Arrived<'_>,
        body: B,
    ) -> Result<Response<GatewayBody<S>>, Denial>
    where
        B: Body<Data = Bytes> + Send,
    {
        arrived.record.is_passed_through();
        let held_body = self.memory.read(body).await?;
        let wanted = Wanted {
            api_key: arrived.key.to_owned(),
            model: None,
            input: 0,
            output: 0,
            input_bytes: 0,
            on_abort: OnAbort::Reserved,
        };
        let (decision, lease) = self.reserved(wanted).await?;
        let holder = Holder { api_key: arrived.key, target: arrived.head.uri.path() };
        let job = Job {
            claim: Claim { holder, ticket: ticket_in(&arrived.head.headers) },
            upstreams,
            dialect: None,
            class: arrived.caller.priority,
            tenant: tenant(&arrived.caller),
            tokens: 0,
            head: arrived.head,
            body: |_| held_body.bytes(),
        };
        let (forwarded, lease) = self.forwarded(&job, lease, arrived.record, None).await?;
        let answered = Answered { dialect, decision: &decision, clamped_to: None };
        let learns = Box::new(|_: &Metered| {});
        let record = arrived.record;
        Ok(self.response(forwarded, lease, Meter::None, &answered, learns, record).await)
    }

    /// Whether the model has an upstream that speaks `dialect`.
    fn speaks(&self, model: &ModelConfig, dialect: Dialect) -> bool {
        model.upstreams.iter().any(|index| self.upstreams.config(*index).dialect == dialect)
    }

    /// What most answers of the model and the tenant of `caller` have used.
    fn learned(&self, model: &str, caller: &Caller) -> Option<Amount> {
        let tenant = caller.tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        let answers = Answers { model: Some(model.to_owned()), tenant };
        let learned = self.leases.service().learned();
        learned.quantile(&answers, &Unit::OutputTokens, LEARNED_QUANTILE)
    }

    async fn reserved(&self, wanted: Wanted) -> Result<(Decision, LeaseGuard<S>), Denial> {
        let reserved = reserve(&self.leases, wanted).await;
        let (decision, lease) = reserved.map_err(|error| {
            tracing::debug!(%error, "nothing could be reserved");
            Denial::StoreUnavailable
        })?;
        match (lease, decision.reason()) {
            (Some(mut lease), _) => {
                if let Some(tracer) = &self.recorder.tracer {
                    lease.set_trace(tracer.current());
                }
                Ok((decision, lease))
            }
            (None, Some(reason)) if Reason::OF_API_KEYS.contains(&reason) => {
                Err(Denial::ApiKey(reason))
            }
            (None, _) => Err(Denial::Limited(Box::new(decision))),
        }
    }

    /// The beginning of the answer. If there is none, everything is given back before the client is told.
    async fn forwarded<F: Fn(usize) -> Bytes>(
        &self,
        job: &Job<'_, F>,
        mut lease: LeaseGuard<S>,
        record: &mut RequestRecord,
        early: Option<EarlyBeginning>,
    ) -> Result<(Forwarded, LeaseGuard<S>), Denial> {
        match self.forward(job, &mut lease, record, early).await {
            Ok(forwarded) => Ok((forwarded, lease)),
            Err(denial) => {
                settle_now(lease, Outcome::Nothing).await;
                Err(denial)
            }
        }
    }

    fn rewritten(
        &self,
        request: &ModelRequest,
        model: &ModelConfig,
        cap: u64,
        index: usize,
    ) -> Bytes {
        let upstream = self.upstreams.config(index);
        request.rewritten(&Rewrite {
            model: &model.upstream_model,
            cap,
            cap_field: upstream.cap_field,
            continuous_usage: upstream.continuous_usage,
        })
    }

    async fn response(
        &self,
        forwarded: Forwarded,
        lease: LeaseGuard<S>,
        meter: Meter,
        answered: &Answered<'_>,
        metered: OnMetered,
        record: &mut RequestRecord,
    ) -> Response<GatewayBody<S>> {
        let Forwarded { response, permit } = forwarded;
        let idle_timeout = self.upstreams.config(permit.upstream()).idle_timeout;
        let (mut head, upstream) = response.into_parts();
        let (meter, lease, ends_as) = if head.status.is_success() {
            (meter, Some(lease), RequestOutcome::Completed)
        } else {
            settle_now(lease, of_error(head.status)).await;
            (Meter::None, None, RequestOutcome::UpstreamError)
        };
        if matches!(meter, Meter::Stream { .. }) {
            head.headers.remove(CONTENT_LENGTH);
            record.is_stream();
        }
        answered.apply(&mut head.headers);
        let parts = Parts { upstream, meter, lease, permit, idle_timeout, metered, ends_as };
        Response::from_parts(head, GatewayBody::metered(MeteredBody::new(parts)))
    }
}

/// The bytes from which the tokens of an input are learned. Attachments have tokens that their bytes say nothing about.
fn learnable_bytes(size: TextSize) -> u64 {
    if size.attachments == 0 { size.text_bytes } else { 0 }
}

async fn settle_now<S: Store>(lease: LeaseGuard<S>, outcome: Outcome) {
    if let Some(settling) = lease.settle(outcome) {
        settling.await;
    }
}

/// What is charged for an answer that is an error: a request that was wrong was a request.
fn of_error(status: StatusCode) -> Outcome {
    if status.is_client_error() {
        Outcome::Exact { usage: Usage { input: Some(0), ..Usage::default() }, output: 0 }
    } else {
        Outcome::Nothing
    }
}

fn meter<B>(
    response: &Response<B>,
    request: &ModelRequest,
    plan: &Plan,
    on_limit: OnLimit,
) -> Meter {
    let endpoint = request.endpoint();
    if endpoint == Endpoint::CountTokens {
        return Meter::None;
    }
    // What is compressed cannot be read; its length is a lower bound.
    if !is_event_stream(response.headers()) || is_encoded(response.headers()) {
        return Meter::Whole(BodyMeter::new(endpoint));
    }
    let meter = StreamMeter::new(endpoint, request.copies, request.drops_usage());
    let bounds = StreamBounds::new(plan.held, plan.most, on_limit);
    Meter::Stream { framer: Framer::default(), meter: Box::new(meter), bounds }
}

pub(super) fn is_event_stream(fields: &HeaderMap) -> bool {
    let declared = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = declared.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn is_encoded(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

/// Learns from what the upstream counted, and reports counts that cannot be right.
fn learning(model: Arc<Model>, size: TextSize) -> OnMetered {
    Box::new(move |metered| {
        if let Some(input) = metered.usage.input {
            model.ratio.observe(size, input);
        }
        if metered.is_contradicted {
            tracing::warn!(
                model = model.config.id,
                reported = metered.usage.output,
                charged = metered.output,
                "an upstream reported fewer tokens than its answer can have; the larger count is charged"
            );
        }
    })
}

fn tenant(caller: &Caller) -> Arc<str> {
    caller.tenant.as_ref().map_or("", |tenant| tenant.as_str()).into()
}

fn invalid(problem: RequestProblem) -> Denial {
    Denial::Invalid { param: problem.param, message: problem.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(endpoint: Endpoint, body: &str, fixed: Option<u64>, learned: Option<u64>) -> Plan {
        let model = ModelConfig {
            id: "m".to_owned(),
            upstreams: vec![0],
            upstream_model: "m".to_owned(),
            max_output_tokens: 1_000,
            reserve_output_tokens: fixed,
            on_abort: OnAbort::Reserved,
            on_limit: OnLimit::Cut,
        };
        let request = ModelRequest::parse(endpoint, Bytes::copy_from_slice(body.as_bytes()));
        Plan::of(&model, &request.unwrap(), 7, || learned.and_then(Amount::new))
    }

    #[test]
    fn the_cap_is_the_clients_within_the_ceiling() {
        use Endpoint::{Chat, CountTokens, Embeddings};
        let of = |cap, held, most, is_clamped| Plan { input: 7, cap, held, most, is_clamped };
        let cases = [
            (Chat, r#"{"model":"m"}"#, of(1_000, 200, 1_000, false)),
            (Chat, r#"{"model":"m","max_tokens":50}"#, of(50, 50, 50, false)),
            (Chat, r#"{"model":"m","max_tokens":50,"n":3}"#, of(50, 150, 150, false)),
            (Chat, r#"{"model":"m","max_tokens":1001}"#, of(1_000, 1_000, 1_000, true)),
            (
                Chat,
                r#"{"model":"m","max_tokens":5000,"max_completion_tokens":50}"#,
                of(1_000, 1_000, 1_000, true),
            ),
            (
                Chat,
                r#"{"model":"m","max_tokens":50,"max_completion_tokens":80}"#,
                of(80, 80, 80, false),
            ),
            (Embeddings, r#"{"model":"m","input":"x"}"#, of(0, 0, 0, false)),
            (CountTokens, r#"{"model":"m"}"#, Plan::default()),
        ];
        for (endpoint, body, expected) in cases {
            assert_eq!(plan(endpoint, body, Some(200), Some(3)), expected, "{body}");
        }
    }

    #[test]
    fn what_was_learned_is_reserved_if_nothing_else_says_how_much() {
        let held = |body, learned| plan(Endpoint::Chat, body, None, learned).held;
        let uncapped = r#"{"model":"m"}"#;
        assert_eq!((held(uncapped, None), held(uncapped, Some(70))), (1_000, 70));
        assert_eq!((held(uncapped, Some(0)), held(uncapped, Some(5_000))), (1, 1_000));
        assert_eq!(held(r#"{"model":"m","n":3}"#, Some(70)), 210);
        assert_eq!(held(r#"{"model":"m","max_tokens":50}"#, Some(70)), 50);
    }

    #[test]
    fn the_type_of_an_answer_says_whether_it_is_a_stream() {
        let is_stream = |value: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_event_stream(&fields)
        };
        assert!(is_stream("text/event-stream") && is_stream("Text/Event-Stream; charset=utf-8"));
        assert!(!is_stream("application/json") && !is_event_stream(&HeaderMap::new()));
    }
}
