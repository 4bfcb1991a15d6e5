//! `envoy.service.ratelimit.v3.RateLimitService`.

use std::time::Duration;

use tollgate_grpc::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use tollgate_grpc::proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, RateLimit};
use tollgate_service::Uncovered;
use tonic::Code as StatusCode;

use super::client::{descriptor, envoy, hits, request};
use super::{start, start_and};
use crate::degraded::Hangable;
use crate::support::Fixture;

/// The overall code, and of each descriptor its code and what is left.
fn outcome(answer: &RateLimitResponse) -> (Code, Vec<(Code, u32)>) {
    let statuses = answer.statuses.iter();
    let statuses = statuses.map(|status| (status.code(), status.limit_remaining));
    (answer.overall_code(), statuses.collect())
}

async fn ask(fixture: &Fixture, descriptors: Vec<RateLimitDescriptor>) -> RateLimitResponse {
    let answer = envoy(fixture).await.should_rate_limit(request(descriptors)).await;
    answer.unwrap().into_inner()
}

fn header<'a>(answer: &'a RateLimitResponse, name: &str) -> Option<&'a str> {
    let headers = answer.response_headers_to_add.iter();
    headers.filter(|header| header.key == name).map(|header| &*header.value).next()
}

#[tokio::test]
async fn each_descriptor_has_its_status_and_one_denial_charges_none() {
    let fixture = start(
        "policies:
           - {id: user, scope: USER, limit: 2, windowSeconds: 60}
           - {id: model, scope: MODEL, limit: 5, windowSeconds: 5400}",
    )
    .await;
    let both = || vec![descriptor(&[("user", "alice")]), descriptor(&[("model", "gpt-4")])];
    for (user, model) in [(1, 4), (0, 3)] {
        let allowed = (Code::Ok, vec![(Code::Ok, user), (Code::Ok, model)]);
        assert_eq!(outcome(&ask(&fixture, both()).await), allowed);
    }
    let denied = ask(&fixture, both()).await;
    assert_eq!(outcome(&denied), (Code::OverLimit, vec![(Code::OverLimit, 0), (Code::Ok, 3)]));
    let limit = |name: &str, limit, unit: Unit, multiplier| {
        Some(RateLimit {
            name: name.into(),
            requests_per_unit: limit,
            unit: unit.into(),
            unit_multiplier: multiplier,
        })
    };
    assert_eq!(denied.statuses[0].current_limit, limit("user", 2, Unit::Minute, None));
    assert_eq!(denied.statuses[1].current_limit, limit("model", 5, Unit::Minute, Some(90)));
    assert_eq!(denied.statuses[0].duration_until_reset.unwrap().seconds, 60);
    assert_eq!(header(&denied, "retry-after"), Some("60"));
    assert_eq!(
        header(&denied, "ratelimit-policy"),
        Some("\"user\";q=2;w=60, \"model\";q=5;w=5400")
    );
    fixture.clock.advance(Duration::from_mins(1));
    let allowed = (Code::Ok, vec![(Code::Ok, 1), (Code::Ok, 2)]);
    assert_eq!(
        outcome(&ask(&fixture, both()).await),
        allowed,
        "the denial charged the model nothing"
    );
}

#[tokio::test]
async fn hits_are_the_cost_and_none_of_them_peeks() {
    let fixture = start(
        "policies:
           - {id: user, scope: USER, limit: 10, windowSeconds: 60}
           - {id: tokens, scope: USER, unit: tokens, limit: 1000, windowSeconds: 60}",
    )
    .await;
    let alice: &[_] = &[("user", "alice")];
    assert_eq!(outcome(&ask(&fixture, vec![hits(4, alice)]).await).1, [(Code::Ok, 6)]);
    assert_eq!(outcome(&ask(&fixture, vec![hits(0, alice)]).await).1, [(Code::Ok, 6)]);
    assert_eq!(outcome(&ask(&fixture, vec![hits(7, alice)]).await).1, [(Code::OverLimit, 6)]);
    let tokens: &[_] = &[("user", "alice"), ("unit", "tokens")];
    assert_eq!(outcome(&ask(&fixture, vec![hits(900, tokens)]).await).1, [(Code::Ok, 100)]);
    let denied = ask(&fixture, vec![hits(101, tokens)]).await;
    assert_eq!(denied.statuses[0].current_limit.as_ref().unwrap().name, "tokens");
    assert_eq!(outcome(&ask(&fixture, vec![hits(6, alice)]).await).0, Code::Ok);
    let client = envoy(&fixture).await;
    let of_request = |hits_addend| {
        let mut client = client.clone();
        let request = tollgate_grpc::proto::envoy::service::ratelimit::v3::RateLimitRequest {
            hits_addend,
            ..request(vec![descriptor(&[("user", "bob")]), hits(1, &[("user", "eve")])])
        };
        async move { outcome(&client.should_rate_limit(request).await.unwrap().into_inner()).1 }
    };
    assert_eq!(of_request(3).await, [(Code::Ok, 7), (Code::Ok, 9)]);
    assert_eq!(of_request(0).await, [(Code::Ok, 6), (Code::Ok, 8)]);
}

#[tokio::test]
async fn shadow_policies_do_not_deny_and_private_ones_are_not_shown() {
    let fixture = start(
        "policies:
           - {id: shadow, scope: USER, limit: 0, windowSeconds: 60, mode: shadow}
           - {id: secret, scope: TENANT, limit: 1, windowSeconds: 60, visibility: private}",
    )
    .await;
    let answer = ask(&fixture, vec![descriptor(&[("user", "alice")])]).await;
    assert_eq!(outcome(&answer), (Code::Ok, vec![(Code::Ok, 0)]));
    assert_eq!(answer.statuses[0].current_limit, None);
    for code in [Code::Ok, Code::OverLimit] {
        let answer = ask(&fixture, vec![descriptor(&[("tenant", "acme")])]).await;
        assert_eq!(outcome(&answer), (code, vec![(code, 0)]));
        assert_eq!(answer.statuses[0].current_limit, None);
        assert_eq!(header(&answer, "ratelimit"), None);
    }
}

#[tokio::test]
async fn the_domain_is_an_attribute() {
    let fixture = start(
        "policies:
           - {id: edge, scope: USER, limit: 1, windowSeconds: 60, match: {domain: edge}}",
    )
    .await;
    for code in [Code::Ok, Code::OverLimit] {
        assert_eq!(
            ask(&fixture, vec![descriptor(&[("user", "alice")])]).await.overall_code(),
            code
        );
    }
}

#[tokio::test]
async fn what_no_policy_covers_is_counted_and_allowed_or_denied() {
    let yaml = "policies:
           - {id: user, scope: USER, limit: 9, windowSeconds: 60}
           - {id: ops, per: [service], limit: null, match: {service: ops}}";
    let strange = || vec![descriptor(&[("user", "alice")]), descriptor(&[("path", "/")])];
    let lenient = start(yaml).await;
    let allowed = (Code::Ok, vec![(Code::Ok, 8), (Code::Ok, 0)]);
    assert_eq!(outcome(&ask(&lenient, strange()).await), allowed);
    let strict = start_and(yaml, |config| config.grpc_unmatched = Uncovered::Deny).await;
    let denied = (Code::OverLimit, vec![(Code::Ok, 9), (Code::OverLimit, 0)]);
    assert_eq!(outcome(&ask(&strict, strange()).await), denied);
    let exempt = ask(&strict, vec![descriptor(&[("service", "ops")])]).await;
    assert_eq!(exempt.overall_code(), Code::Ok, "a policy that exempts covers");
    for fixture in [lenient, strict] {
        let metrics = fixture.get("/metrics").await.body;
        assert!(metrics.contains("\ntollgate_grpc_unmatched_descriptors_total 1\n"), "{metrics}");
    }
}

#[tokio::test]
async fn hits_can_be_given_back_to_the_charge_that_a_request_id_names() {
    let fixture = start("policies: [{id: user, scope: USER, limit: 10, windowSeconds: 60}]").await;
    let mut client = envoy(&fixture).await;
    let named = |count, id: &str, is_negative_hits| {
        let entries = [("user", "alice"), ("request_id", id)];
        request(vec![RateLimitDescriptor { is_negative_hits, ..hits(count, &entries) }])
    };
    let charged = client.should_rate_limit(named(8, "r1", false)).await.unwrap().into_inner();
    assert_eq!(outcome(&charged).1, [(Code::Ok, 2)]);
    let back = client.should_rate_limit(named(5, "r1", true)).await.unwrap().into_inner();
    assert_eq!(outcome(&back), (Code::Ok, vec![(Code::Ok, 7)]));
    let unknown = client.should_rate_limit(named(5, "r2", true)).await.unwrap_err();
    assert_eq!(unknown.code(), StatusCode::NotFound);
    let unnamed = RateLimitDescriptor { is_negative_hits: true, ..hits(5, &[("user", "alice")]) };
    let unnamed = client.should_rate_limit(request(vec![unnamed])).await.unwrap_err();
    assert_eq!(unnamed.code(), StatusCode::InvalidArgument);
    assert!(unnamed.message().contains("an entry `request_id`"), "{}", unnamed.message());
    assert_eq!(
        outcome(&ask(&fixture, vec![hits(0, &[("user", "alice")])]).await).1,
        [(Code::Ok, 7)]
    );
}

/// A client that sends a value which is not accepted must not pass unlimited, whatever Envoy does after errors.
#[tokio::test]
async fn a_value_that_is_not_accepted_is_denied_with_the_reason() {
    let fixture = start("policies: [{id: user, scope: USER, limit: 10, windowSeconds: 60}]").await;
    let long = "x".repeat(300);
    let answer =
        ask(&fixture, vec![descriptor(&[("user", "a")]), descriptor(&[("user", &long)])]).await;
    assert_eq!(outcome(&answer), (Code::OverLimit, vec![(Code::Ok, 10), (Code::OverLimit, 0)]));
    let body = String::from_utf8(answer.raw_body.to_vec()).unwrap();
    assert!(body.contains("descriptors[1].entries[0] (user) has 300 bytes"), "{body}");
}

/// R11, as over HTTP.
#[tokio::test]
async fn without_the_store_the_failure_mode_decides() {
    let store = Hangable::default();
    let yaml = "policies:
           - {id: open, scope: USER, limit: 1, windowSeconds: 60}
           - {id: closed, scope: TENANT, limit: 1, windowSeconds: 60, onStoreError: deny}";
    let fixture = Fixture::start_with_store(yaml, store.clone(), |config| {
        config.grpc = Some(([127, 0, 0, 1], 0).into());
        config.resilience.timeout = Some(Duration::from_millis(20));
    })
    .await;
    store.set_hanging(true);
    for _ in 0..3 {
        let open = ask(&fixture, vec![descriptor(&[("user", "alice")])]).await;
        assert_eq!(open.overall_code(), Code::Ok);
        let both = vec![descriptor(&[("user", "alice")]), descriptor(&[("tenant", "acme")])];
        let closed = ask(&fixture, both).await;
        assert_eq!(closed.overall_code(), Code::OverLimit);
        assert_eq!(header(&closed, "retry-after"), Some("1"));
    }
}
