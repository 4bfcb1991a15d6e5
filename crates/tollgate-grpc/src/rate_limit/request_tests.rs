use super::*;

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    let entries = entries.iter().map(entry).collect();
    RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "edge".into(), descriptors, hits_addend: 0 }
}

fn attributes<'a>(check: &Check<'a>) -> Vec<(&'a str, &'a str)> {
    check.subject.attributes().collect()
}

#[test]
fn entries_are_attributes_by_name() {
    let request = request(vec![descriptor(&[
        ("user", "alice"),
        ("model", "gpt-4"),
        ("tenant", "acme"),
        ("api_key", "sk-1"),
        ("service", "chat"),
        ("remote_address", "::ffff:192.0.2.1"),
        ("tier", "pro"),
        ("model_tier", "small"),
        ("generic_key", "checkout"),
    ])]);
    let asked = Asked::read(&request).unwrap();
    let checks = asked.accepted();
    let expected = [
        ("tenant", "acme"),
        ("user", "alice"),
        ("apiKey", "sk-1"),
        ("model", "gpt-4"),
        ("modelTier", "small"),
        ("service", "chat"),
        ("ip", "192.0.2.1"),
        ("tier", "pro"),
        ("domain", "edge"),
        ("generic_key", "checkout"),
    ];
    assert_eq!(attributes(&checks[0]), expected);
    assert_eq!((asked.hits(), checks[0].request_id), (Hits::Charged, None));
}

#[test]
fn the_cost_is_that_of_the_descriptor_or_of_the_request() {
    for (of_request, of_descriptor, hits) in [
        (0, None, 1),
        (7, None, 7),
        (7, Some(0), 0),
        (7, Some(3), 3),
        (0, Some(1 << 32), 1 << 32),
        (u32::MAX, None, u64::from(u32::MAX)),
    ] {
        let descriptor =
            RateLimitDescriptor { hits_addend: of_descriptor, ..descriptor(&[("user", "alice")]) };
        let request = RateLimitRequest { hits_addend: of_request, ..request(vec![descriptor]) };
        let asked = Asked::read(&request).unwrap();
        assert_eq!(asked.accepted()[0].cost.of(&Unit::Requests).get(), hits);
    }
    let tokens = RateLimitDescriptor {
        hits_addend: Some(1_200),
        ..descriptor(&[("user", "alice"), ("unit", "tokens")])
    };
    let request = request(vec![tokens]);
    let asked = Asked::read(&request).unwrap();
    let check = &asked.accepted()[0];
    let cost = |unit| check.cost.of(&unit).get();
    assert_eq!((cost(Unit::Requests), cost(Unit::Tokens)), (0, 1_200));
    assert_eq!(attributes(check), [("user", "alice"), ("domain", "edge")]);
}

#[test]
fn a_wrong_configuration_is_an_error_that_names_the_place() {
    let user = || descriptor(&[("user", "alice")]);
    let limit = Some(crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride::default());
    let negative = |descriptor| RateLimitDescriptor { is_negative_hits: true, ..descriptor };
    let many: Vec<_> = (0..33).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (descriptors, problem) in [
        (vec![], "descriptors has 0 elements; accepted: 1 to 64 descriptors"),
        (vec![user(); 65], "descriptors has 65 elements"),
        (vec![user(), descriptor(&[])], "descriptors[1].entries has 0 elements; accepted: 1 to 32"),
        (vec![descriptor(&many)], "descriptors[0].entries has 33 elements"),
        (
            vec![RateLimitDescriptor { hits_addend: Some((1 << 32) + 1), ..user() }],
            "descriptors[0].hits_addend is 4294967297; accepted: 0 to 4294967296",
        ),
        (vec![RateLimitDescriptor { limit, ..user() }], "descriptors[0].limit is given"),
        (vec![descriptor(&[("", "x")])], "descriptors[0].entries[0] has a key that is empty"),
        (
            vec![descriptor(&[("user_id", "x")])],
            "descriptors[0].entries[0] (user_id) resembles the attribute `user`, but is not the same; accepted: the key `user`",
        ),
        (vec![descriptor(&[("domain", "x")])], "descriptors[0].entries[0] has the key `domain`"),
        (
            vec![descriptor(&[("generic_key", "a"), ("generic_key", "b")])],
            "descriptors[0].entries[1] (generic_key) is given twice",
        ),
        (vec![descriptor(&[("ip", "::1"), ("remote_address", "::1")])], "is given twice"),
        (
            vec![descriptor(&[("unit", "tokens"), ("unit", "tokens")])],
            "descriptors[0].entries[1] (unit) is given twice",
        ),
        (
            vec![negative(user())],
            "descriptors[0].is_negative_hits is given without an entry `request_id`",
        ),
        (
            vec![user(), negative(descriptor(&[("user", "a"), ("request_id", "r")]))],
            "`request_id` in the only descriptor",
        ),
    ] {
        let status = Asked::read(&request(descriptors)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(problem), "{problem}: {}", status.message());
        assert!(status.message().contains("; accepted: "), "{}", status.message());
    }
    let domain = RateLimitRequest { domain: "a\nb".into(), ..request(vec![user()]) };
    let status = Asked::read(&domain).unwrap_err();
    assert!(status.message().starts_with("domain has the control character"));
}

/// A client that sends a value which is not accepted must not pass unlimited.
#[test]
fn a_value_that_a_client_may_choose_is_refused_without_an_error() {
    let long = "x".repeat(257);
    for (key, value, problem) in [
        (
            "user",
            long.as_str(),
            "descriptors[1].entries[0] (user) has 257 bytes; accepted: 1 to 256",
        ),
        ("user", "", "(user) is empty"),
        ("path", "a\u{7}", "(path) has the control character U+0007"),
        ("remote_address", "192.0.2.300", "(remote_address) is not an IP address"),
        (
            "unit",
            "concurrency",
            "descriptors[1].entries[0] (unit) is \"concurrency\", which is not a unit with a cost; accepted: ",
        ),
    ] {
        let request = request(vec![descriptor(&[("model", "m")]), descriptor(&[(key, value)])]);
        let asked = Asked::read(&request).unwrap();
        assert!(asked.refused_value().unwrap().contains(problem), "{:?}", asked.refused_value());
        assert_eq!(asked.accepted().len(), 1);
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_in_values_and_an_error_elsewhere() {
    for key in ["model", "unit", "request_id", "remote_address"] {
        let mut descriptor = descriptor(&[(key, "")]);
        descriptor.entries[0].value = b"\xff\xfe".into();
        let request = request(vec![descriptor]);
        let asked = Asked::read(&request).unwrap();
        let problem = asked.refused_value().unwrap();
        let expected = format!("descriptors[0].entries[0] ({key}) is not UTF-8; accepted: ");
        assert!(problem.starts_with(&expected), "{problem}");
        assert!(asked.accepted().is_empty());
    }
    let mut descriptor = descriptor(&[("model", "m"), ("user", "alice")]);
    descriptor.entries[1].key = b"us\xff".into();
    let domain = b"\xff".into();
    let request = RateLimitRequest { domain, ..request(vec![descriptor]) };
    let status = Asked::read(&request).unwrap_err();
    let expected = "domain is not UTF-8; accepted: text in UTF-8\n\
                    descriptors[0].entries[1].key is not UTF-8; accepted: text in UTF-8";
    assert_eq!(status.message(), expected);
}
