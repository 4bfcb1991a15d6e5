//! `/rate-limit/auth`: a check in the headers of a proxy's request, answered by status and headers.

use tollgate_server::{AuthHeaders, TrustedProxies};

use crate::support::{Client, Fixture, HttpAnswer};

const AUTH: &str = "/rate-limit/auth";

const POLICIES: &str = r"
policies:
  - {id: user, scope: USER, limit: 2, windowSeconds: 60}
  - {id: tokens, scope: USER, unit: tokens, limit: 100, windowSeconds: 60}
  - {id: address, scope: IP, limit: 1, windowSeconds: 60}
  - {id: region, per: [region], limit: 1, windowSeconds: 60}
";

type Headers<'a> = &'a [(&'a str, &'a str)];

async fn ask(
    client: &mut Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> HttpAnswer {
    client.send(method, path, headers, "").await
}

#[tokio::test]
async fn every_method_and_every_path_below_is_the_same_check() {
    let fixture = Fixture::start_with_policies(
        "policies: [{id: user, scope: USER, limit: 11, windowSeconds: 60}]",
    )
    .await;
    let mut client = fixture.client().await;
    let alice = [("x-user-id", "alice")];
    for (method, path) in [
        ("GET", AUTH),
        ("HEAD", AUTH),
        ("POST", AUTH),
        ("PUT", "/rate-limit/auth?next=/v1"),
        ("PATCH", "/rate-limit/auth/v1/chat/completions?stream=true"),
        ("DELETE", "/rate-limit/auth/v1"),
        ("GET", "/rate-limit/auth/"),
        ("GET", "/rate-limit/auth/?a=b"),
        ("OPTIONS", AUTH),
        ("PROPFIND", AUTH),
    ] {
        let answer = ask(&mut client, method, path, &alice).await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{method} {path}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"user\";q=11;w=60"));
        assert_eq!(answer.header("content-type"), None);
    }
    let last = ask(&mut client, "GET", AUTH, &alice).await;
    assert_eq!(last.header("ratelimit"), Some("\"user\";r=0;t=60"));
    let denied = ask(&mut client, "GET", AUTH, &alice).await;
    assert_eq!((denied.status, &*denied.body), (429, ""));
    assert_eq!(denied.header("retry-after"), Some("60"));
    assert_eq!(denied.header("ratelimit"), Some("\"user\";r=0;t=60"));
}

#[tokio::test]
async fn the_cost_is_in_a_header() {
    let fixture = Fixture::start_with_policies(POLICIES).await;
    let mut client = fixture.client().await;
    for (cost, status) in [
        ("tokens=60,requests=1", 200),
        ("requests=0, tokens=41", 429),
        ("requests=0,tokens=40", 200),
        ("requests=0,tokens=1", 429),
        ("2", 429),
    ] {
        let headers = [("x-user-id", "alice"), ("x-tollgate-cost", cost)];
        let answer = ask(&mut client, "GET", AUTH, &headers).await;
        assert_eq!(answer.status, status, "{cost}: {:?}", answer.headers);
    }
}

#[tokio::test]
async fn what_is_missing_or_malformed_is_named() {
    let fixture = Fixture::start_with_policies(POLICIES).await;
    let mut client = fixture.client().await;
    let long = "x".repeat(257);
    let cases: [(Headers<'_>, &[&str], &str); 6] = [
        (&[], &["headers"], "at least one of x-user-id, x-model-id, x-tenant-id, x-api-key"),
        (&[("x-user-id", ""), ("x-tollgate-cost", "1")], &["headers"], "at least one of x-user-id"),
        (&[("x-user-id", &long)], &["x-user-id"], "1 to 256 bytes of UTF-8"),
        (&[("x-user-id", "a"), ("x-user-id", "b")], &["x-user-id"], "each header once"),
        (
            &[("x-user-id", "a"), ("x-tollgate-cost", "-1"), ("x-model-id", &long)],
            &["x-model-id", "x-tollgate-cost"],
            "a number of requests",
        ),
        (&[("x-user-id", "a"), ("x-tollgate-cost", "seats")], &["x-tollgate-cost"], "tokens=1200"),
    ];
    for (headers, fields, accepted) in cases {
        let answer = ask(&mut client, "GET", AUTH, headers).await;
        assert_eq!(answer.status, 400, "{headers:?}: {}", answer.body);
        let errors = answer.json()["errors"].clone();
        let named: Vec<_> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect();
        assert_eq!(named, fields, "{}", answer.body);
        assert!(answer.body.contains(accepted), "{}", answer.body);
    }
    let usage = fixture.post("/rate-limit/peek", r#"{"userId":"a"}"#).await;
    assert_eq!(usage.json()["count"], 0, "a refused request charges nothing");
}

#[tokio::test]
async fn other_headers_can_be_configured() {
    let fixture = Fixture::start_with_policies_and(POLICIES, |config| {
        let names = "region=x-region ip=x-client requestId=x-request-id";
        config.auth_headers = AuthHeaders::new(names).unwrap();
    })
    .await;
    let mut client = fixture.client().await;
    let eu = [("x-region", "eu"), ("x-request-id", "r1"), ("x-user-id", "ignored")];
    assert_eq!(ask(&mut client, "GET", AUTH, &eu).await.status, 200);
    assert_eq!(ask(&mut client, "GET", AUTH, &eu).await.status, 200, "R12: charged once");
    let again = [("x-region", "eu"), ("x-request-id", "r2")];
    assert_eq!(ask(&mut client, "GET", AUTH, &again).await.status, 429);
    for (address, status) in [("::ffff:192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.300", 400)] {
        let answer = ask(&mut client, "GET", AUTH, &[("x-client", address)]).await;
        assert_eq!(answer.status, status, "{address}");
    }
}

/// R21: behind trusted proxies, the address is the one that they report.
#[tokio::test]
async fn trusted_proxies_give_the_address() {
    let fixture = Fixture::start_with_policies_and(POLICIES, |config| {
        config.trusted_proxies = TrustedProxies::new("127.0.0.0/8");
    })
    .await;
    let mut client = fixture.client().await;
    for (user, address, status) in
        [("a", "203.0.113.9", 200), ("b", "203.0.113.9", 429), ("c", "203.0.113.8", 200)]
    {
        let headers = [("x-user-id", user), ("x-forwarded-for", address)];
        let answer = ask(&mut client, "GET", AUTH, &headers).await;
        assert_eq!(answer.status, status, "{user} {address}");
    }
}
