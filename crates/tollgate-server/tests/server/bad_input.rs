//! Every malformed or out-of-range request gets an error with the field, the problem and what is accepted, and charges
//! nothing.

use serde_json::Value;

use crate::support::{Fixture, document, json_headers, matches_schema};

const CHECK: &str = "/rate-limit/check";
const BATCH: &str = "/rate-limit/check/batch";

/// A body that is JSON but not a valid check: the fields in error, in the order of the body, with part of each problem.
type Case = (&'static str, &'static [(&'static str, &'static str)]);

const CASES: &[Case] = &[
    ("{}", &[("body", "names no subject")]),
    (r#"{"userId":null,"ip":null,"attributes":{}}"#, &[("body", "names no subject")]),
    (r#"{"cost":{"tokens":5},"requestId":"r"}"#, &[("body", "names no subject")]),
    ("[]", &[("body", "is an array")]),
    ("null", &[("body", "is null")]),
    (r#""x""#, &[("body", "is a string")]),
    (r#"{"userId":5,"modelId":true}"#, &[("userId", "is a number"), ("modelId", "is a boolean")]),
    (r#"{"userId":null,"modelId":["a"]}"#, &[("modelId", "is an array")]),
    (r#"{"userId":"","modelId":"m"}"#, &[("userId", "is empty")]),
    (r#"{"userId":"a\nb","modelId":"m"}"#, &[("userId", "the control character U+000A")]),
    (r#"{"userId":"a\u0000","modelId":"m"}"#, &[("userId", "the control character U+0000")]),
    (r#"{"userId":"a","userId":"b","modelId":"m"}"#, &[("userId", "is given twice")]),
    (r#"{"userId":"a","modelId":"m","user":"b"}"#, &[("user", "is unknown")]),
    (r#"{"userId":"a","modelId":"m","UserId":"b"}"#, &[("UserId", "is unknown")]),
    (r#"{"userId":"a","modelId":"m","tenantId":""}"#, &[("tenantId", "is empty")]),
    (r#"{"userId":"a","modelId":"m","apiKey":1}"#, &[("apiKey", "is a number")]),
    (r#"{"userId":"a","modelId":"m","service":{}}"#, &[("service", "is an object")]),
    (r#"{"userId":"a","modelId":"m","requestId":"\u0007"}"#, &[("requestId", "U+0007")]),
    (r#"{"userId":"a","modelId":"m","ip":"300.1.1.1"}"#, &[("ip", "is not an IP address")]),
    (r#"{"userId":"a","modelId":"m","ip":"10.0.0.1:80"}"#, &[("ip", "is not an IP address")]),
    (r#"{"userId":"a","modelId":"m","ip":"010.0.0.1"}"#, &[("ip", "is not an IP address")]),
    (r#"{"userId":"a","modelId":"m","ip":"fe80::1%eth0"}"#, &[("ip", "is not an IP address")]),
    (r#"{"userId":"a","modelId":"m","ip":7}"#, &[("ip", "is a number")]),
    (r#"{"userId":"a","modelId":"m","attributes":[]}"#, &[("attributes", "is an array")]),
    (
        r#"{"userId":"a","modelId":"m","attributes":{"region":5,"x":""}}"#,
        &[("attributes.region", "is a number"), ("attributes.x", "is empty")],
    ),
    (
        r#"{"userId":"a","modelId":"m","attributes":{"":"v","a\u0001":"v"}}"#,
        &[("attributes.", "has a name that is empty"), ("attributes.a\\u{1}", "has a name that")],
    ),
    (
        r#"{"userId":"a","modelId":"m","attributes":{"r":"1","r":"2"}}"#,
        &[("attributes.r", "is given twice")],
    ),
    (
        r#"{"userId":"a","modelId":"m","attributes":{"user":"b","ip":"::1"}}"#,
        &[("attributes.user", "field of its own"), ("attributes.ip", "field of its own")],
    ),
    (
        r#"{"userId":"a","attributes":{"Service":"pay","api_key":"k","model_tier":"large"}}"#,
        &[
            ("attributes.Service", "resembles the built-in attribute `service`"),
            ("attributes.api_key", "resembles the built-in attribute `apiKey`"),
            ("attributes.model_tier", "resembles the built-in attribute `modelTier`"),
        ],
    ),
    (r#"{"userId":"a","modelId":"m","cost":5}"#, &[("cost", "is a number")]),
    (r#"{"userId":"a","modelId":"m","cost":{"tokens":-1}}"#, &[("cost.tokens", "is negative")]),
    (r#"{"userId":"a","modelId":"m","cost":{"tokens":-0.5}}"#, &[("cost.tokens", "is negative")]),
    (
        r#"{"userId":"a","modelId":"m","cost":{"tokens":1.0}}"#,
        &[("cost.tokens", "is not a whole number in plain digits")],
    ),
    (
        r#"{"userId":"a","modelId":"m","cost":{"tokens":1e3}}"#,
        &[("cost.tokens", "is not a whole number in plain digits")],
    ),
    (
        r#"{"userId":"a","modelId":"m","cost":{"tokens":9007199254740992}}"#,
        &[("cost.tokens", "is too large")],
    ),
    (
        r#"{"userId":"a","modelId":"m","cost":{"tokens":99999999999999999999}}"#,
        &[("cost.tokens", "is too large")],
    ),
    (r#"{"userId":"a","modelId":"m","cost":{"tokens":"1"}}"#, &[("cost.tokens", "is a string")]),
    (r#"{"userId":"a","modelId":"m","cost":{"tokens":null}}"#, &[("cost.tokens", "is null")]),
    (
        r#"{"userId":"a","modelId":"m","cost":{"concurrency":1}}"#,
        &[(
            "cost.concurrency",
            "has no cost: a lease holds one slot by itself, and a check holds none",
        )],
    ),
    (r#"{"userId":"a","modelId":"m","cost":{"Tok":1}}"#, &[("cost.Tok", "is not a unit")]),
    (
        r#"{"userId":"a","modelId":"m","cost":{"tokens":1,"tokens":2}}"#,
        &[("cost.tokens", "is given twice")],
    ),
    (
        r#"{"userId":"","x":[{"y":1}],"cost":{"tokens":-1},"modelId":"m","ip":"no"}"#,
        &[
            ("userId", "is empty"),
            ("x", "is unknown"),
            ("cost.tokens", "is negative"),
            ("ip", "is not an IP address"),
        ],
    ),
];

fn named(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| (error["field"].as_str().unwrap(), error["problem"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_value_that_is_not_accepted_is_named_with_its_field() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client().await;
    for path in [CHECK, "/rate-limit/enforce", "/rate-limit/peek"] {
        for (body, expected) in CASES {
            let answer = client.post(path, body).await;
            assert_eq!(answer.status, 422, "{body}");
            let problem = answer.json();
            let errors = named(&problem);
            let all_named = errors.len() == expected.len()
                && errors
                    .iter()
                    .zip(*expected)
                    .all(|((field, text), (at, part))| field == at && text.contains(part));
            assert!(all_named, "{body}: expected {expected:?}, not {errors:?}");
        }
    }
    // Nothing was charged or stored.
    let metrics = fixture.get("/metrics").await.body;
    assert!(metrics.contains("\ntollgate_store_keys 0\n"), "{metrics}");
}

/// The schema refuses no check that the parser accepts, and the parser refuses none that the schema allows.
#[tokio::test]
async fn the_schema_of_a_check_says_what_the_reader_accepts() {
    let properties =
        document()["components"]["schemas"]["Check"]["properties"].as_object().unwrap();
    let mut members: Vec<&str> = properties.keys().map(String::as_str).collect();
    members.sort_unstable();
    let mut read = [
        "userId",
        "modelId",
        "tenantId",
        "apiKey",
        "service",
        "ip",
        "attributes",
        "cost",
        "requestId",
    ];
    read.sort_unstable();
    assert_eq!(members, read);
    for (body, expected) in CASES {
        // Rules that JSON Schema cannot express: control characters, addresses, units, reserved names, duplicates.
        let said = expected.iter().any(|(field, problem)| {
            let of_type = problem.starts_with("is a ") || problem.starts_with("is an ");
            let of_range = ["is unknown", "is negative", "names no subject"].contains(problem);
            let nullable = *field != "body";
            of_type || of_range || (*problem == "is null" && !nullable)
        });
        if said {
            let value = serde_json::from_str(body).unwrap();
            assert!(!matches_schema("Check", &value), "the schema accepts {body}");
        }
    }
}

#[tokio::test]
async fn bounds_of_a_check_hold_at_their_edges() {
    let fixture = Fixture::start().await;
    let members = |count: usize, value: &str| {
        let all: Vec<String> = (0..count).map(|n| format!(r#""u{n}":{value}"#)).collect();
        format!("{{{}}}", all.join(","))
    };
    let check =
        |field: &str, value: &str| format!(r#"{{"userId":"a","modelId":"m","{field}":{value}}}"#);
    let long = |bytes: usize| format!("\"{}\"", "é".repeat(bytes / 2) + &"x".repeat(bytes % 2));
    let cases = [
        (check("apiKey", &long(256)), None),
        (check("apiKey", &long(257)), Some("apiKey")),
        (check("attributes", &members(32, r#""v""#)), None),
        (check("attributes", &members(33, r#""v""#)), Some("attributes")),
        (check("cost", &members(16, "1")), None),
        (check("cost", &members(17, "1")), Some("cost")),
        (check("cost", r#"{"tokens":9007199254740991}"#), None),
        (check("cost", r#"{"requests":0}"#), None),
    ];
    for (body, refused) in cases {
        let answer = fixture.post(CHECK, &body).await;
        let problem = answer.json();
        match refused {
            None => assert_eq!(answer.status, 200, "{body}: {problem}"),
            Some(field) => assert_eq!(named(&problem)[0].0, field, "{body}: {problem}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_400_with_line_and_column() {
    let fixture = Fixture::start().await;
    let cases = [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("{\"userId\":\n  nope}", "line 2 column 4"),
        (r#"{"userId":"a","modelId":"m"} x"#, "line 1 column 30"),
        (r#"{"userId":"a","modelId":"m",}"#, "line 1 column 29"),
        ("{'userId':'a'}", "line 1 column 2"),
        ("{\"userId\":\"a\nb\"}", "line 2 column 0"),
        (r#"{"userId":"\ud800","modelId":"m"}"#, "line 1 column 18"),
        ("{\"userId\":\"a\",\"modelId\":\"m\"", "line 1 column 27"),
        (r#"{"cost":{"tokens":01}}"#, "line 1 column 20"),
        (r#"{"userId":NaN}"#, "line 1 column 11"),
    ];
    for (body, place) in cases {
        for path in [CHECK, BATCH] {
            let answer = fixture.post(path, body).await;
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert_eq!(answer.status, 400, "{body}: {detail}");
            assert!(path == BATCH || detail.contains(place), "{body}: {detail}");
        }
    }
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let status = fixture.post(CHECK, &deep).await.status;
    assert!([400, 422].contains(&status), "{status}");
}

#[tokio::test]
async fn a_problem_shows_no_more_of_a_name_than_fits() {
    let fixture = Fixture::start().await;
    let body = format!(r#"{{"userId":"a","modelId":"m","{}":1}}"#, "k".repeat(10_000));
    let answer = fixture.post(CHECK, &body).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.len() < 1_000, "{}", answer.body);
}

/// 415: wrong headers about the body; and unusual headers that are accepted.
#[tokio::test]
async fn only_a_body_declared_as_plain_json_is_read() {
    let fixture = Fixture::start().await;
    let cases: [(&[(&str, &str)], u16); 8] = [
        (&[], 415),
        (&[("content-type", "text/plain")], 415),
        (&[("content-type", "application/x-www-form-urlencoded")], 415),
        (&[("content-type", "application/jsonp")], 415),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        (&[("content-type", "application/json; charset=utf-8")], 200),
        (&[("content-type", "Application/JSON")], 200),
        (&[("content-type", "application/json"), ("content-encoding", "identity")], 200),
    ];
    for (headers, expected) in cases {
        let body = r#"{"userId":"a","modelId":"m"}"#;
        let answer = fixture.client().await.send("POST", CHECK, headers, body).await;
        assert_eq!(answer.status, expected, "{headers:?}");
        if expected == 415 {
            let named = answer.json()["errors"][0]["accepted"].as_str().unwrap().to_owned();
            assert!(["application/json", "no encoding"].contains(&&*named), "{named}");
        }
    }
}

#[tokio::test]
async fn a_body_over_its_cap_is_413() {
    let fixture = Fixture::start_with(|config| {
        config.limits.max_body_bytes = 1_024;
        config.limits.max_batch_body_bytes = 2_048;
    })
    .await;
    let padded = |bytes: usize| {
        let check = r#"{"userId":"a","modelId":"m"}"#;
        format!("{check}{}", " ".repeat(bytes - check.len()))
    };
    let cases = [
        (CHECK, 1_024, 200),
        (CHECK, 1_025, 413),
        (CHECK, 1_000_000, 413),
        (BATCH, 2_048, 422),
        (BATCH, 2_049, 413),
    ];
    for (path, bytes, expected) in cases {
        assert_eq!(fixture.post(path, &padded(bytes)).await.status, expected, "{path} {bytes}");
    }
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405_with_what_is_allowed() {
    let fixture = Fixture::start().await;
    let cases = [
        ("GET", "/nothing", 404, None),
        ("POST", "/rate-limit", 404, None),
        ("POST", "/rate-limit/check/", 404, None),
        ("GET", CHECK, 405, Some("POST")),
        ("DELETE", BATCH, 405, Some("POST")),
        ("POST", "/healthz", 405, Some("GET,HEAD")),
        ("PUT", "/metrics", 405, Some("GET,HEAD")),
        ("POST", "/docs", 405, Some("GET,HEAD")),
    ];
    for (method, path, status, allow) in cases {
        let answer = fixture.client().await.send(method, path, &json_headers(), "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], status);
    }
}
