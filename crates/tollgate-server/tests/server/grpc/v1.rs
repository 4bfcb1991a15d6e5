//! `tollgate.v1.RateLimiter`.

use std::collections::HashMap;

use tollgate_grpc::proto::tollgate::v1::{
    CheckBatchRequest, CheckRequest, ExtendRequest, Quality, ReleaseRequest, ReserveRequest,
    SettleBatchRequest, SettleRequest, settle_response, settled,
};
use tonic::Code;

use super::client::tollgate;
use super::start;

const POLICIES: &str = "
policies:
  - {id: user, scope: USER, limit: 3, windowSeconds: 60}
  - {id: tokens, scope: USER, unit: tokens, limit: 1000, windowSeconds: 60}
";

fn amounts(amounts: &[(&str, u64)]) -> HashMap<String, u64> {
    amounts.iter().map(|(unit, amount)| ((*unit).to_owned(), *amount)).collect()
}

fn alice(tokens: u64) -> CheckRequest {
    CheckRequest {
        user_id: "alice".to_owned(),
        cost: amounts(&[("tokens", tokens)]),
        ..CheckRequest::default()
    }
}

#[tokio::test]
async fn a_check_gets_the_decision_that_it_gets_over_http() {
    let fixture = start(POLICIES).await;
    let mut client = tollgate(&fixture).await;
    let peek = client.peek(alice(400)).await.unwrap().into_inner();
    assert_eq!((peek.allowed, peek.limits[0].count), (true, 0));
    let decision = client.check(alice(400)).await.unwrap().into_inner();
    let over_http = fixture.post("/rate-limit/peek", r#"{"userId":"alice"}"#).await.json();
    for (limit, other) in decision.limits.iter().zip(over_http["limits"].as_array().unwrap()) {
        assert_eq!(other["policyId"], *limit.policy_id);
        assert_eq!(other["count"], limit.count);
        assert_eq!(other["remaining"], limit.remaining);
        assert_eq!(other["scope"], *limit.scope);
        assert_eq!(other["algorithm"], *limit.algorithm);
        assert_eq!(other["windowSeconds"], 60);
    }
    assert_eq!((decision.policy_id.as_str(), decision.limit), ("tokens", Some(1_000)));
    let denied = client.check(alice(601)).await.unwrap().into_inner();
    assert_eq!((denied.allowed, &*denied.reason), (false, "limit_exceeded"));
    assert_eq!(denied.retry_after_ms, Some(60_000));
    let never = client.check(alice(1_001)).await.unwrap().into_inner();
    assert_eq!((never.retry_after_ms, &*never.reason), (None, "cost_exceeds_limit"));
    let batch = CheckBatchRequest { checks: vec![alice(1), alice(0), alice(0)] };
    let batch = client.check_batch(batch).await.unwrap().into_inner();
    let allowed: Vec<_> = batch.decisions.iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, true, false]);
}

#[tokio::test]
async fn a_lease_is_reserved_extended_settled_and_released() {
    let fixture = start(POLICIES).await;
    let mut client = tollgate(&fixture).await;
    let reserve = |tokens| ReserveRequest {
        check: Some(alice(tokens)),
        ttl_ms: 60_000,
        ..ReserveRequest::default()
    };
    let reserved = client.reserve(reserve(800)).await.unwrap().into_inner();
    let lease = reserved.lease.unwrap();
    assert_eq!((lease.ttl_ms, lease.expires_in_ms), (60_000, 60_000));
    assert_eq!(lease.reserved, amounts(&[("requests", 1), ("tokens", 800)]));
    let denied = client.reserve(reserve(300)).await.unwrap().into_inner();
    assert!(denied.lease.is_none() && !denied.decision.unwrap().allowed);
    let extend = ExtendRequest {
        lease_id: lease.id.clone(),
        seq: 1,
        wanted: amounts(&[("tokens", 900)]),
        ..ExtendRequest::default()
    };
    let extended = client.extend(extend.clone()).await.unwrap().into_inner();
    assert_eq!((extended.proceed, &*extended.state), (true, "live"));
    assert!(client.extend(extend).await.unwrap().into_inner().repeated);
    let settle = SettleRequest {
        lease_id: lease.id.clone(),
        seq: 2,
        usage: amounts(&[("tokens", 120)]),
        quality: Quality::Exact.into(),
    };
    let settled = client.settle(settle.clone()).await.unwrap().into_inner();
    let Some(settle_response::Result::Lease(settled)) = settled.result else { panic!("no lease") };
    assert_eq!((&*settled.state, settled.limits[1].count), ("settled", 120));
    let released = client.release(ReleaseRequest { lease_id: lease.id.clone() }).await.unwrap_err();
    assert_eq!(released.code(), Code::FailedPrecondition);
    let unknown = SettleRequest { lease_id: "unknown".to_owned(), ..settle.clone() };
    let batch =
        SettleBatchRequest { settlements: vec![SettleRequest { seq: 3, ..settle }, unknown] };
    let batch = client.settle_batch(batch).await.unwrap().into_inner().settled;
    assert!(matches!(&batch[0].result, Some(settled::Result::Lease(lease)) if lease.seq == 3));
    let Some(settled::Result::Failure(failure)) = &batch[1].result else { panic!("it is known") };
    assert_eq!(failure.code, Code::NotFound as i32);
    let other = client.reserve(reserve(100)).await.unwrap().into_inner().lease.unwrap();
    let released =
        client.release(ReleaseRequest { lease_id: other.id }).await.unwrap().into_inner();
    assert_eq!((&*released.state, released.limits[1].count), ("released", 120));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let fixture = start(POLICIES).await;
    let mut client = tollgate(&fixture).await;
    let named = |name: &str, value: &str| CheckRequest {
        attributes: HashMap::from([(name.to_owned(), value.to_owned())]),
        ..CheckRequest::default()
    };
    let cost = |unit: &str, amount| CheckRequest { cost: amounts(&[(unit, amount)]), ..alice(0) };
    for (request, problem) in [
        (CheckRequest::default(), "the check names no subject; accepted: at least one of user_id"),
        (
            CheckRequest { user_id: "a\nb".to_owned(), ..alice(0) },
            "user_id has the control character",
        ),
        (
            CheckRequest { ip: "1.2.3".to_owned(), ..alice(0) },
            "ip is not an IP address; accepted: an",
        ),
        (named("user", "x"), "attributes[\"user\"] is not an attribute: it has a field of its own"),
        (named("tenant_id", "x"), "resembles the built-in attribute `tenant`"),
        (cost("Tokens", 1), "cost[\"Tokens\"] is not a unit; accepted: `requests`"),
        (cost("concurrency", 1), "cost[\"concurrency\"] has no cost"),
        (cost("tokens", 1 << 53), "cost[\"tokens\"] is too large; accepted: 0 to 9007199254740991"),
    ] {
        let status = client.check(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(problem), "{problem}: {}", status.message());
    }
    let batch = CheckBatchRequest { checks: vec![alice(0), CheckRequest::default()] };
    let status = client.check_batch(batch).await.unwrap_err();
    assert!(status.message().starts_with("checks[1] names no subject"), "{}", status.message());
    let status = client.reserve(ReserveRequest { ttl_ms: 1, ..ReserveRequest::default() }).await;
    assert_eq!(status.unwrap_err().message(), "check is missing; accepted: a check");
    let extend = ExtendRequest { lease_id: "x".to_owned(), ..ExtendRequest::default() };
    let status = client.extend(extend).await.unwrap_err();
    assert!(status.message().starts_with("seq is 0; accepted: 1 to"), "{}", status.message());
    let release = client.release(ReleaseRequest::default()).await.unwrap_err();
    let settle = SettleRequest { seq: 1, ..SettleRequest::default() };
    let settle = client.settle(settle).await.unwrap_err();
    let extend = ExtendRequest { seq: 1, ttl_ms: 99, ..ExtendRequest::default() };
    let extend = client.extend(extend).await.unwrap_err();
    let no_lease = "lease_id is missing; accepted: the id that `Reserve` gave";
    assert_eq!((release.message(), settle.message()), (no_lease, no_lease));
    let ttl =
        "ttl_ms is 99; accepted: 0 to keep it, or an integer from 100 to 3600000 (milliseconds)";
    assert_eq!(extend.message(), format!("{no_lease}\n{ttl}"));
}
