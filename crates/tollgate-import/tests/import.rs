//! What each format becomes, and what is reported as left out.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use tollgate_catalog::{Format, policy_file, validate};
use tollgate_core::{Amount, Attribute, Check, Mode, Policy, PolicySet, Span, Subject, Unit};
use tollgate_import::{Imported, Source, import};

fn imported(source: Source, text: &str) -> Imported {
    import(source, text, Format::Yaml).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The policies of an import, read back from the text that is printed, as a file is read.
fn policies(imported: &Imported) -> Vec<Policy> {
    let yaml = imported.to_yaml();
    let read = policy_file::parse_with(&|_: &str| None, "imported.yaml", &yaml, Format::Yaml);
    let policies = read.unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
    let document = validate::policies("imported", Some(&imported.document()));
    assert_eq!(document.as_ref(), Ok(&policies), "{yaml}");
    policies
}

/// `id: per | conditions | unit limit/seconds mode > overrides`, one policy a line.
fn shown(policies: &[Policy]) -> String {
    let lines = policies.iter().map(|policy| {
        let conditions: Vec<_> = policy.conditions.iter().map(|one| format!("{one:?}")).collect();
        let names: Vec<_> = conditions.iter().map(|text| condition_in_short(text)).collect();
        let limit = policy.limit.map_or("none".to_owned(), |limit| limit.to_string());
        let window = match policy.own_window() {
            Some(Span::Window(window)) => (window.as_ns() / 1_000_000_000).to_string(),
            Some(Span::Calendar(calendar)) => calendar.name().to_owned(),
            None | Some(Span::Concurrency) => "all".to_owned(),
        };
        let shadow = if policy.mode == Mode::Shadow { " shadow" } else { "" };
        let over: Vec<_> = policy.overrides.iter().map(|id| format!(" >{}", id.as_str())).collect();
        let over = over.concat();
        format!(
            "{}: {} | {} | {limit} {}/{window}{shadow}{over}",
            policy.id.as_str(),
            policy.per.attributes().iter().map(Attribute::name).collect::<Vec<_>>().join("+"),
            names.join(" "),
            policy.unit.name(),
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The values in the debug form of a condition.
fn condition_in_short(text: &str) -> String {
    let keep = |c: &char| !matches!(c, ' ' | '"');
    let text: String = text.chars().filter(keep).collect();
    text.trim_start_matches("Condition{attribute:").trim_end_matches('}').replace("accepted:", "")
}

fn left_out(imported: &Imported) -> Vec<String> {
    imported.left_out.iter().map(ToString::to_string).collect()
}

/// Asserts that `imported` reports exactly these, each `LINE:COLUMN: what`, and a part of the reason.
fn check_left_out(imported: &Imported, expected: &[(&str, &str)]) {
    let found = left_out(imported);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (place, why)) in found.iter().zip(expected) {
        assert!(line.starts_with(&format!("{place} — ")), "{place}: {line}");
        assert!(line.contains(why), "{why}: {line}");
    }
}

fn check_refused(source: Source, text: &str, place: &str, says: &str) {
    let error = import(source, text, Format::Yaml).unwrap_err().to_string();
    assert!(error.starts_with(place), "{text}\n{error}");
    assert!(error.contains(says) && error.contains("accepted: "), "{text}\n{error}");
}

/// The attributes of a check, and the amounts of the limits that it meets.
type Case = (&'static [(&'static str, &'static str)], &'static [u64]);

/// The amounts of the limits that a check with `attributes` meets, shadow limits included.
fn met(set: &PolicySet, attributes: &[(&str, &str)]) -> Vec<u64> {
    let mut subject = Subject::empty();
    for (name, value) in attributes {
        subject.set_named(name, value);
    }
    let check = Check::of(subject);
    let mut met: Vec<u64> =
        set.plan(&check).iter().map(|charge| charge.limit.amount().get()).collect();
    met.sort_unstable();
    met
}

const ENVOY: &str = "
domain: rl
descriptors:
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: {unit: day, requests_per_unit: 5}
  - key: to_number
    rate_limit: {unit: day, requests_per_unit: 100}
  - key: user_id
    rate_limit: {unit: Minute, requests_per_unit: 20}
    detailed_metric: true
  - key: user_id
    value: vip*
    rate_limit: {unit: hour, requests_per_unit: 900}
  - key: user_id
    value: tester
    rate_limit: {unit: minute, requests_per_unit: 1}
    shadow_mode: true
  - key: user_id
    value: root
    rate_limit: {unlimited: true}
  - key: user_id
    value: ghost
";

#[test]
fn descriptors_become_policies_that_decide_alike() {
    let imported = imported(Source::EnvoyRatelimit, ENVOY);
    let policies = policies(&imported);
    let set = PolicySet::new(policies.clone()).unwrap();
    let cases: [Case; 12] = [
        (&[("message_type", "marketing"), ("to_number", "1")], &[5]),
        (&[("to_number", "1")], &[100]),
        (&[("message_type", "other"), ("to_number", "1")], &[]),
        (&[("message_type", "marketing")], &[]),
        (&[("user", "anyone")], &[20]),
        (&[("user", "vip7")], &[900]),
        (&[("user", "vip")], &[900]),
        (&[("user", "tester")], &[1]),
        (&[("user", "root")], &[]),
        (&[("user", "ghost")], &[]),
        (&[("path", "/")], &[]),
        (&[], &[]),
    ];
    for (attributes, expected) in cases {
        let with_domain = [attributes, &[("domain", "rl")]].concat();
        assert_eq!(met(&set, &with_domain), expected, "{attributes:?}\n{}", shown(&policies));
        assert_eq!(met(&set, attributes), [0; 0], "without the domain");
    }
    let shadow: Vec<_> = policies.iter().filter(|policy| policy.mode == Mode::Shadow).collect();
    assert_eq!(shadow.len(), 1);
    assert_eq!(shadow[0].limit, Amount::new(1));
    check_left_out(&imported, &[("13:5: detailed_metric", "no metric for each value")]);
}

#[test]
fn every_unit_of_envoy_has_its_length() {
    let units = [
        ("second", 1),
        ("MINUTE", 60),
        ("hour", 3_600),
        ("day", 86_400),
        ("week", 604_800),
        ("month", 2_592_000),
        ("year", 31_536_000),
    ];
    for (unit, seconds) in units {
        let text = format!(
            "{{domain: d, descriptors: [{{key: a, rate_limit: {{unit: {unit}, requests_per_unit: 7}}}}]}}"
        );
        let policies = policies(&imported(Source::EnvoyRatelimit, &text));
        let window = policies[0].counting.window().unwrap().as_ns();
        assert_eq!((policies[0].limit, window), (Amount::new(7), seconds * 1_000_000_000));
    }
}

#[test]
fn what_envoy_has_and_policies_cannot_say_is_reported() {
    let text = "domain: d
descriptors:
  - key: a
    rate_limit: {unit: minute, requests_per_unit: 9007199254740992, name: big}
  - key: b
    descriptors:
      - key: b
        rate_limit: {unit: minute, requests_per_unit: 1}
  - key: c
    value: x*
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: c
    value: xy*
    rate_limit: {unit: minute, requests_per_unit: 3}
  - key: remote_address
    value: 10.*
    rate_limit: {unit: minute, requests_per_unit: 4}
  - key: e
    quota_mode: true
    rate_limit: {unit: minute, requests_per_unit: 5, replaces: [{name: big}, {name: gone}]}
";
    let imported = imported(Source::EnvoyRatelimit, text);
    assert_eq!(shown(&policies(&imported)).lines().count(), 2, "{}", shown(&policies(&imported)));
    check_left_out(
        &imported,
        &[
            ("4:51: the limit d/a", "9007199254740992 is above"),
            ("7:9: the descriptor b/b", "the same attribute"),
            ("12:5: the descriptor c=xy*", "`c=x*` before it"),
            ("15:5: the limit d/remote_address=10.*", "match.ip"),
            ("19:5: quota_mode", "`mode: shadow`"),
            ("20:65: replaces \"big\"", "checks of their own"),
            ("20:78: replaces \"gone\"", "no limit in this file has this name"),
        ],
    );
}

#[test]
fn no_configuration_of_envoy_is_bad_input() {
    let source = Source::EnvoyRatelimit;
    check_refused(source, "- a", "1:1: ", "is a list");
    check_refused(source, "descriptors: []", "1:1: domain: is missing", "");
    check_refused(source, "domain: d\ndescriptors: 5", "2:14: ", "is a number");
    check_refused(source, "domain: d\ndescriptors: [{value: x}]", "2:15: ", "is missing");
    check_refused(source, "domain: [", "1:", "is not YAML");
    check_refused(source, "domain: d\ndomain: e", "2:1: domain: is given twice", "");
}

const LIMITADOR: &str = "---
- namespace: shop
  max_value: 10
  seconds: 60
  name: reads
  conditions: [\"req.method == 'GET'\"]
  variables: [user_id]
- namespace: shop
  max_value: 5
  seconds: 60
  conditions:
    - descriptors[0]['req.method'] == 'POST' && descriptors[0].path.startsWith('/v1/')
  variables:
    - descriptors[0].user_id
- namespace: shop
  max_value: 1000
  seconds: 3600
  conditions: []
  variables: []
- namespace: shop
  max_value: 3
  seconds: 1
  name: others
  conditions: [\"req.method != 'GET'\"]
  variables: [user_id]
- namespace: shop
  max_value: 3
  seconds: 1
  variables: [\"descriptors[1].user_id\"]
";

#[test]
fn limits_of_limitador_all_apply() {
    let imported = imported(Source::Limitador, LIMITADOR);
    let policies = policies(&imported);
    let set = PolicySet::new(policies.clone()).unwrap();
    let cases: [Case; 5] = [
        (&[("req.method", "GET"), ("user", "a")], &[10, 1_000]),
        (&[("req.method", "POST"), ("user", "a"), ("path", "/v1/x")], &[5, 1_000]),
        (&[("req.method", "POST"), ("user", "a"), ("path", "/v2/x")], &[1_000]),
        (&[("req.method", "GET")], &[1_000]),
        (&[], &[1_000]),
    ];
    for (attributes, expected) in cases {
        let with_domain = [attributes, &[("domain", "shop")]].concat();
        assert_eq!(met(&set, &with_domain), expected, "{attributes:?}\n{}", shown(&policies));
    }
    check_left_out(
        &imported,
        &[
            ("24:16: the condition req.method != 'GET'", "the limit \"others\" is left out"),
            ("29:15: the variable descriptors[1].user_id", "no entry of the first descriptor"),
        ],
    );
}

/// Limits with a condition on one value count per it too, so that none overrides another; others are reported.
#[test]
fn limits_of_limitador_that_would_override_each_other_are_reported() {
    let text = "
- {namespace: n, max_value: 100, seconds: 60, name: all, variables: [user]}
- {namespace: n, max_value: 10, seconds: 60, name: get, conditions: [\"m == 'GET'\"], variables: [user]}
- {namespace: n, max_value: 5, seconds: 60, name: some, conditions: [\"m in ['GET', 'PUT']\"], variables: [user]}
";
    let imported = imported(Source::Limitador, text);
    check_left_out(&imported, &[("4:3: the limit n/some", "overrides the other here")]);
    assert_eq!(policies(&imported).len(), 3);
}

#[test]
fn no_limits_file_of_limitador_is_bad_input() {
    let source = Source::Limitador;
    check_refused(source, "a: b", "1:1: has no list of limits", "");
    check_refused(source, "5", "1:1: is no list", "");
    check_refused(source, "- {max_value: 1, seconds: 1}", "1:3: [0].namespace: is missing", "");
}

/// The original refuses such a file. Here both limits apply, so the lower one decides.
#[test]
fn a_descriptor_that_is_given_twice_is_reported() {
    let text = "domain: d
descriptors:
  - key: a
    rate_limit: {unit: day, requests_per_unit: 5}
  - key: b
    value: x
    descriptors:
      - {key: c, rate_limit: {unit: day, requests_per_unit: 3}}
      - {key: c, value: y, rate_limit: {unit: day, requests_per_unit: 4}}
      - {key: c, rate_limit: {unit: hour, requests_per_unit: 2}}
  - key: a
    rate_limit: {unit: day, requests_per_unit: 7}
";
    let imported = imported(Source::EnvoyRatelimit, text);
    check_left_out(
        &imported,
        &[
            (
                "10:9: the descriptor c",
                "already given on line 8, which envoyproxy/ratelimit refuses",
            ),
            ("11:5: the descriptor a", "already given on line 3,"),
        ],
    );
    let set = PolicySet::new(policies(&imported)).unwrap();
    assert_eq!(met(&set, &[("domain", "d"), ("a", "1")]), [5, 7]);
    assert_eq!(met(&set, &[("domain", "d"), ("b", "x"), ("c", "1")]), [2, 3]);
}

/// Whose a key is, and what describes a model, is not in the policies.
#[test]
fn owners_of_litellms_keys_and_descriptions_of_its_models_are_reported() {
    let text = "
model_list:
  - model_name: m
    litellm_params: {model: azure/m, rpm: 5}
    model_info: {id: 1, base_model: azure/m}
    order: 1
keys:
  - {key_alias: a, team_id: t, user_id: u, rpm_limit: 6}
  - {key_alias: b, team_id: null, user_id: null, rpm_limit: 7}
teams:
  - {team_id: t, rpm_limit: 8}
users:
  - {user_id: u, team_id: t, rpm_limit: 9}
";
    let imported = imported(Source::Litellm, text);
    check_left_out(
        &imported,
        &[
            ("5:5: model_info of m", "describes a deployment"),
            ("6:5: order of m", "does not know it"),
            ("8:20: team_id of key a", "as `tenantId`"),
            ("8:32: user_id of key a", "as `userId`"),
            ("13:18: team_id of user u", "as `tenantId`"),
        ],
    );
    assert_eq!(policies(&imported).len(), 5);
}

/// One number that cannot be read ends no import: its limit is listed, and the others are carried over.
#[test]
fn a_number_that_cannot_be_read_leaves_out_its_limit_only() {
    let text = "
- {namespace: n, max_value: x, seconds: 1, name: a}
- {namespace: n, max_value: 1, seconds: 1.5, name: b}
- {namespace: n, max_value: 2, seconds: 60, name: c}
- {namespace: n, name: d}
";
    let limitador = imported(Source::Limitador, text);
    let found = policies(&limitador);
    assert_eq!((found.len(), found[0].id.as_str(), found[0].limit), (1, "n/c", Amount::new(2)));
    check_left_out(
        &limitador,
        &[
            ("2:29: max_value", "it is a text, not a number, so the limit \"a\" is left out"),
            ("3:41: seconds", "it is no whole number, so the limit \"b\" is left out"),
            ("5:3: max_value", "it is missing"),
            ("5:3: seconds", "it is missing"),
        ],
    );

    let text = "domain: d
descriptors:
  - key: a
    rate_limit: {unit: day, requests_per_unit: 1}
  - key: a
    value: x
    rate_limit: {unit: day, requests_per_unit: many}
    descriptors:
      - key: b
        rate_limit: {unit: day, requests_per_unit: 2}
  - key: a
    value: y
    rate_limit: {unit: moon, requests_per_unit: 3, unit_multiplier: 0}
  - key: a
    value: z
    rate_limit: {requests_per_unit: [4]}
  - key: a
    value: free
";
    let envoy = imported(Source::EnvoyRatelimit, text);
    check_left_out(
        &envoy,
        &[
            ("7:48: requests_per_unit", "it is a text, not a number; the limit of this descriptor"),
            ("13:24: unit", "\"moon\" is not a unit; accepted: second, "),
            ("13:69: unit_multiplier", "not a whole number above 0"),
            ("16:17: unit", "it is missing; accepted: second, "),
            ("16:37: requests_per_unit", "it is a list, not a number"),
        ],
    );
    let set = PolicySet::new(policies(&envoy)).unwrap();
    let cases: [Case; 6] = [
        (&[("a", "other")], &[1]),
        (&[("a", "x")], &[1]),
        (&[("a", "x"), ("b", "1")], &[2]),
        (&[("a", "y")], &[1]),
        (&[("a", "z")], &[1]),
        (&[("a", "free")], &[]),
    ];
    for (attributes, expected) in cases {
        let with_domain = [attributes, &[("domain", "d")]].concat();
        assert_eq!(met(&set, &with_domain), expected, "{attributes:?}");
    }

    let text = "
model_list:
  - {model_name: m, litellm_params: {rpm: [5], tpm: 7}}
  - {model_name: n, litellm_params: {rpm: os.environ/RPM, tpm: 8}}
keys:
  - {key_alias: a, rpm_limit: sk-canary, tpm_limit: 9, model_rpm_limit: {m: sk-canary, n: 2}}
teams:
  - {team_id: t, team_member_rpm_limit: {canary: 1}, tpm_limit: 10, model_tpm_limit: 5}
";
    let litellm = imported(Source::Litellm, text);
    let ids: Vec<_> = policies(&litellm).iter().map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(ids, ["key/a/tpm", "key/a/n/rpm", "team/t/tpm", "model/m/tpm", "model/n/tpm"]);
    check_left_out(
        &litellm,
        &[
            ("3:43: rpm", "no whole number"),
            ("4:43: rpm", "no whole number"),
            ("6:31: rpm_limit of key a", "it is a text, not a number, so this limit is left out"),
            ("6:77: m of key a", "it is a text, not a number"),
            ("8:41: team_member_rpm_limit of team t", "it is a map, not a number"),
            ("8:86: model_tpm_limit of team t", "it is no map from models to limits"),
        ],
    );
    assert!(!left_out(&litellm).concat().contains("canary"));
}

const LITELLM: &str = "
model_list:
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-eu, api_key: sk-canary, rpm: 6, tpm: 1000}
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-us, rpm: 4, max_parallel_requests: 2}
  - model_name: openai/*
    litellm_params: {model: openai/*, rpm: 3}
router_settings:
  routing_strategy: usage-based-routing-v2
general_settings:
  master_key: sk-canary
  max_parallel_requests: 5
keys:
  - key_alias: mobile
    token: 88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b
    tpm_limit: 5000
    rpm_limit: 60
    max_parallel_requests: 4
    max_budget: 10.5
    model_rpm_limit: {gpt-4o: 5}
    metadata: {model_tpm_limit: {gpt-4o: 700}}
    models: []
  - {key_alias: old, blocked: true}
  - {key: sk-canary, rpm_limit: 1}
teams:
  - team_id: research
    team_alias: Research
    rpm_limit: 600
    team_member_rpm_limit: 20
    budget_duration: 30d
users:
  - {user_id: ann, tpm_limit: 100, colour: red}
";

#[test]
fn keys_teams_users_and_models_of_litellm_become_policies() {
    let imported = imported(Source::Litellm, LITELLM);
    let policies = policies(&imported);
    let set = PolicySet::new(policies.clone()).unwrap();
    let cases: [Case; 8] = [
        (&[("apiKey", "mobile")], &[60, 5_000]),
        (&[("apiKey", "mobile"), ("model", "gpt-4o")], &[5, 10, 60, 700, 5_000]),
        (&[("apiKey", "old")], &[0]),
        (&[("apiKey", "other")], &[]),
        (&[("tenant", "research")], &[600]),
        (&[("tenant", "research"), ("user", "ann")], &[20, 100, 600]),
        (&[("model", "openai/o3")], &[3]),
        (&[("model", "gpt-4o")], &[10]),
    ];
    for (attributes, expected) in cases {
        assert_eq!(met(&set, attributes), expected, "{attributes:?}\n{}", shown(&policies));
    }
    let tokens = policies.iter().filter(|policy| policy.unit == Unit::Tokens).count();
    assert_eq!(tokens, 3);
    check_left_out(
        &imported,
        &[
            ("5:5: tpm of gpt-4o", "has none, so the model has no limit"),
            ("6:54: max_parallel_requests of gpt-4o", "in flight"),
            ("10:3: router_settings.routing_strategy", "not where it goes"),
            ("12:3: general_settings.master_key", "LiteLLM's server"),
            ("13:3: general_settings.max_parallel_requests", "in flight"),
            ("19:5: max_parallel_requests of key mobile", "in flight"),
            ("20:5: max_budget of key mobile", "not money"),
            ("25:5: the limits of a key", "has no key_alias or token"),
            ("31:5: budget_duration of team research", "not money"),
            ("33:36: colour of user ann", "does not know it"),
        ],
    );
    let all = imported.to_yaml() + &left_out(&imported).join("\n");
    assert!(!all.contains("canary"), "{all}");
}

#[test]
fn lists_of_litellms_api_are_read_too() {
    let keys =
        r#"[{"token": "ab", "rpm_limit": 5, "tpm_limit": null}, {"team_id": "t", "rpm_limit": 7}]"#;
    let imported = import(Source::Litellm, keys, Format::Json).unwrap();
    let policies = policies(&imported);
    assert_eq!(
        shown(&policies).lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["key/ab/rpm:", "team/t/rpm:"]
    );
    check_left_out(&imported, &[]);
}

#[test]
fn no_configuration_of_litellm_is_bad_input() {
    let source = Source::Litellm;
    check_refused(source, "a: b", "1:1: has no limits of LiteLLM", "");
    check_refused(source, "model_list: 5", "1:13: model_list", "is a number");
    check_refused(source, "model_list: [{}]", "1:14: model_list.model_name", "is missing");
}

/// A `$` in a policy file names a variable of the environment.
#[test]
fn a_dollar_in_a_name_stays_one() {
    let text = "{domain: \"a$b\", descriptors: [{key: k, value: \"${HOME}\", \
                rate_limit: {unit: day, requests_per_unit: 1}}]}";
    let imported = imported(Source::EnvoyRatelimit, text);
    let set = PolicySet::new(policies(&imported)).unwrap();
    assert_eq!(met(&set, &[("domain", "a$b"), ("k", "${HOME}")]), [1]);
}
