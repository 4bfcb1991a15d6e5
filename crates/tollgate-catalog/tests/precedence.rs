//! Which policies of a file apply to a check (R4): the table of `docs/DESIGN.md`, and policies as people write them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tollgate_catalog::{Format, policy_file};
use tollgate_core::{Attribute, Check, PolicySet, Subject};

/// The attributes of a subject, and the ids of the policies that limit it.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

/// Asserts that, of `policies` in the flow style of YAML, those in `applying` limit a check of each subject.
fn check(policies: &str, cases: &[Case<'_>]) {
    let parsed = policy_file::parse("p", policies, Format::Yaml);
    let set = PolicySet::new(parsed.unwrap()).unwrap();
    for (subject, applying) in cases {
        let attributes: Vec<_> =
            subject.iter().map(|(name, value)| (Attribute::parse(name).unwrap(), *value)).collect();
        let mut subject = Subject::empty();
        for (attribute, value) in &attributes {
            subject.set(attribute, value);
        }
        let check = Check::of(subject);
        let plan = set.plan(&check);
        let ids: Vec<_> = plan.iter().map(|charge| charge.limit.policy_id().as_str()).collect();
        assert_eq!(ids, *applying, "{attributes:?}");
    }
}

#[test]
fn the_policies_of_the_design_apply_as_it_says() {
    let design = include_str!("../../../docs/DESIGN.md");
    let begin = design.find("```yaml\npolicies:\n  - {id: default").unwrap() + "```yaml\n".len();
    let end = begin + design[begin..].find("```").unwrap();
    let alice = ("user", "alice");
    let (small, pro) = (("model", "small"), ("tier", "pro"));
    check(
        &design[begin..end],
        &[
            (&[alice, small], &["default", "tokens", "daily"]),
            (&[alice, small, pro], &["pro", "tokens", "daily"]),
            (&[alice, ("model", "gpt-4"), pro], &["pro-gpt4", "tokens", "daily"]),
            (&[alice, ("model", "gpt-4o"), pro], &["pro", "tokens", "daily", "gpt-4s"]),
            (&[alice, small, pro, ("region", "eu")], &["pro", "eu", "tokens", "daily"]),
            (&[alice, small, ("tier", "internal"), ("service", "ops")], &["tokens"]),
            (&[("user", "mallory"), small], &["default", "banned", "tokens", "daily"]),
            (&[("user", "mallory"), small, ("ip", "192.0.2.7")], &[]),
            (&[small], &[]),
        ],
    );
}

#[test]
fn prefixes_match_and_the_longest_overrides() {
    let policies = r#"policies:
      - {id: any, scope: MODEL, limit: 9, windowSeconds: 60}
      - {id: openai, scope: MODEL, match: {model: "openai/*"}, limit: 5, windowSeconds: 60}
      - {id: gpt-4, scope: MODEL, match: {model: ["openai/gpt-4*", "gpt-4*"]}, limit: 2, windowSeconds: 60}
      - {id: gpt-4o, scope: MODEL, match: {model: openai/gpt-4o}, limit: 1, windowSeconds: 60}
      - {id: star, scope: MODEL, match: {model: '\*'}, limit: 1, windowSeconds: 60}
      - {id: llama, scope: MODEL, match: {model: "LLAMA*"}, ignoreCase: true, limit: 1, windowSeconds: 60}"#;
    let cases: [Case<'_>; 8] = [
        (&[("model", "gpt-4o")], &["gpt-4"]),
        (&[("model", "openai/o1")], &["openai"]),
        (&[("model", "openai/gpt-4-turbo")], &["gpt-4"]),
        (&[("model", "openai/gpt-4o")], &["gpt-4o"]),
        (&[("model", "openai")], &["any"]),
        (&[("model", "*")], &["star"]),
        (&[("model", "Llama-3")], &["llama"]),
        (&[("model", "Openai/o1")], &["any"]),
    ];
    check(policies, &cases);
}

/// R16: limits of concurrency override one another, and no limit over a window.
#[test]
fn concurrency_is_a_window_of_its_own() {
    let policies = r"policies:
      - {id: slots, scope: USER, unit: concurrency, limit: 5}
      - {id: pro-slots, scope: USER, unit: concurrency, match: {tier: pro}, limit: 9}
      - {id: ops-slots, scope: USER, unit: concurrency, match: {service: ops}, limit: null}
      - {id: requests, scope: USER, limit: 5, windowSeconds: 60}
      - {id: banned, scope: USER, match: {tier: free}, limit: 0}";
    let alice = ("user", "alice");
    check(
        policies,
        &[
            (&[alice], &["slots", "requests"]),
            (&[alice, ("tier", "pro")], &["pro-slots", "requests"]),
            (&[alice, ("service", "ops")], &["requests"]),
            (&[alice, ("tier", "free")], &["slots", "banned"]),
        ],
    );
}

#[test]
fn blocks_match_and_the_smallest_overrides() {
    let policies = r#"policies:
      - {id: internal, scope: IP, match: {ip: [10.0.0.0/8, "fd00::/8"]}, limit: 9, windowSeconds: 60}
      - {id: office, scope: IP, match: {ip: 10.1.0.0/16}, limit: 5, windowSeconds: 60}
      - {id: printer, scope: IP, match: {ip: 10.1.0.9}, limit: 0}"#;
    let cases: [Case<'_>; 5] = [
        (&[("ip", "10.2.0.1")], &["internal"]),
        (&[("ip", "fd00::1")], &["internal"]),
        (&[("ip", "10.1.0.1")], &["office"]),
        (&[("ip", "10.1.0.9")], &["printer"]),
        (&[("ip", "11.0.0.1")], &[]),
    ];
    check(policies, &cases);
}

#[test]
fn a_tier_keeps_the_limits_of_other_windows_unless_it_names_them() {
    let file = |overrides: &str| {
        format!(
            "policies:
      - {{id: minute, scope: USER, limit: 10, windowSeconds: 60}}
      - {{id: day, scope: USER, limit: 20, windowSeconds: 86400}}
      - {{id: pro, scope: USER, match: {{tier: pro}}, limit: 1000, windowSeconds: 60{overrides}}}"
        )
    };
    let (free, pro): (&[_], &[_]) = (&[("user", "a")], &[("user", "a"), ("tier", "pro")]);
    check(&file(""), &[(free, &["minute", "day"]), (pro, &["day", "pro"])]);
    check(&file(", overrides: [day]"), &[(free, &["minute", "day"]), (pro, &["pro"])]);
    // Another way of counting over the same window is still the same limit.
    let counter = ", algorithm: sliding_window_counter";
    check(&file(counter), &[(pro, &["day", "pro"])]);
}

#[test]
fn exemptions_lift_what_they_say() {
    let file = |exemption: &str| {
        format!(
            "policies:
      - {{id: minute, scope: USER, limit: 10, windowSeconds: 60}}
      - {{id: day, scope: USER, limit: 20, windowSeconds: 86400}}
      - {{id: banned, scope: IP, match: {{ip: 192.0.2.0/24}}, limit: 0}}
      - {{id: exempt, match: {{ip: 192.0.2.1}}, {exemption}}}
      - {{id: evening, scope: USER, match: {{ip: 192.0.2.1, model: m}}, limit: 1, windowSeconds: 1}}"
        )
    };
    let subject: &[_] = &[("user", "a"), ("ip", "192.0.2.1")];
    let other: &[_] = &[("user", "a"), ("ip", "192.0.2.2")];
    let usual: &[_] = &["minute", "day", "banned"];
    check(&file("exempt: all"), &[(subject, &[]), (other, usual)]);
    check(&file("scope: IP, limit: null, exempt: all"), &[(subject, &[]), (other, usual)]);
    check(&file("scope: IP, limit: null"), &[(subject, &["minute", "day"]), (other, usual)]);
    check(&file("scope: USER, limit: null"), &[(subject, &["banned"]), (other, usual)]);
    let minute = "scope: USER, limit: null, windowSeconds: 60";
    check(&file(minute), &[(subject, &["day", "banned"]), (other, usual)]);
    // More conditions do not override an exemption from everything; only its id does.
    let specific: &[_] = &[("user", "a"), ("ip", "192.0.2.1"), ("model", "m")];
    check(&file("exempt: all"), &[(specific, &[])]);
    let named =
        file("exempt: all").replace("windowSeconds: 1}", "windowSeconds: 1, overrides: [exempt]}");
    check(&named, &[(specific, &["minute", "day", "banned", "evening"]), (subject, &[])]);
    // A trial of an exemption exempts nobody.
    check(&file("exempt: all, mode: shadow"), &[(subject, usual)]);
}

#[test]
fn presence_and_absence_are_conditions() {
    let policies = "policies:
      - {id: anonymous, scope: MODEL, match: {tenant: {absent: true}}, limit: 1, windowSeconds: 60}
      - {id: tenants, scope: MODEL, match: {tenant: {present: true}}, limit: 5, windowSeconds: 60}
      - {id: acme, scope: MODEL, match: {tenant: acme}, limit: 9, windowSeconds: 60}";
    let cases: [Case<'_>; 3] = [
        (&[("model", "m")], &["anonymous"]),
        (&[("model", "m"), ("tenant", "globex")], &["tenants"]),
        (&[("model", "m"), ("tenant", "acme")], &["acme"]),
    ];
    check(policies, &cases);
}
