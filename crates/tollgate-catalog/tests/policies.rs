//! The content of policy files, and the problems of invalid ones (R4, R9, P11).

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tollgate_catalog::directory::{Id, Records, Tenant, User};
use tollgate_catalog::document::{self, Entry, Node, Value};
use tollgate_catalog::validate::Scope;
use tollgate_catalog::{
    CatalogError, CatalogWarning, Format, Position, Problems, policy_file, validate,
};
use tollgate_core::{
    Accepted, Amount, Attribute, Calendar, Check, Condition, Counting, FailureMode, Mode, Pattern,
    Per, Policy, PolicyId, PolicySet, PriorityClass, Reach, ReserveRule, Share, TokenKind, Unit,
    Zone,
};

const FORMATS: [Format; 3] = [Format::Yaml, Format::Json, Format::Toml];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

fn yaml(text: &str) -> Result<Vec<Policy>, Problems> {
    policy_file::parse("p.yaml", text, Format::Yaml)
}

/// A policy file with one policy whose fields, written as in JSON, are on one line each, from line 3 on.
fn one_policy(fields: &[(&str, &str)], format: Format) -> String {
    let lines: Vec<_> = match format {
        // The flow style of YAML accepts JSON.
        Format::Yaml => fields.iter().map(|(name, value)| format!("    {name}: {value}")).collect(),
        Format::Json => {
            fields.iter().map(|(name, value)| format!("    \"{name}\": {value}")).collect()
        }
        Format::Toml => {
            fields.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect()
        }
    };
    match format {
        Format::Yaml => format!("policies:\n  -\n{}\n", lines.join("\n")),
        Format::Json => format!("{{\"policies\": [\n  {{\n{}\n}}]}}\n", lines.join(",\n")),
        Format::Toml => format!("\n[[policies]]\n{}\n", lines.join("\n")),
    }
}

/// A JSON value in TOML.
fn toml(json: &str) -> String {
    if json.starts_with('{') { json.replace("\": ", "\" = ") } else { json.to_owned() }
}

const ID: (&str, &str) = ("id", "\"a\"");
const SCOPE: (&str, &str) = ("scope", "\"USER\"");
const LIMIT: (&str, &str) = ("limit", "5");
const WINDOW: (&str, &str) = ("windowSeconds", "60");

/// One invalid field after four valid ones, so on line 7; or in place of the valid one with its name.
fn with(field: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
    let rest = [ID, SCOPE, LIMIT, WINDOW].into_iter().filter(|(name, _)| *name != field.0);
    rest.chain([field]).collect()
}

/// Asserts that `text` has exactly one problem, at `line` if that is known, with `path`, and that the problem contains
/// `says`.
fn check_problem(text: &str, format: Format, line: Option<usize>, path: &str, says: &str) {
    let problems = policy_file::parse("p", text, format).expect_err(text);
    let shown = problems.to_string();
    assert_eq!(problems.iter().count(), 1, "{format:?}: {text}\n{shown}");
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.path, path, "{format:?}: {shown}");
    assert!(problem.message.contains(says), "{format:?}: {says:?} is not in {shown}");
    assert!(!problem.accepted.is_empty(), "{format:?}: {shown}");
    if let Some(line) = line {
        assert_eq!(problem.position.map(|at| at.line), Some(line), "{format:?}: {shown}");
    }
}

/// The same invalid field in every format; the value is written as in JSON.
fn check_field(field: (&'static str, &'static str), path: &str, says: &str) {
    let fields = with(field);
    let line = 2 + fields.len();
    for format in FORMATS {
        if format == Format::Toml && field.1.contains("null") {
            continue;
        }
        check_problem(&one_policy(&fields, format), format, Some(line), path, says);
    }
}

/// An entry that was not parsed from a text.
fn entry(key: &str, value: Value) -> Entry {
    Entry { key: key.to_owned(), key_position: None, node: Node::unplaced(value) }
}

#[test]
fn the_examples_in_three_formats_hold_the_same_policies() {
    let [yaml, json, toml] = ["policies.yaml", "policies.json", "policies.toml"]
        .map(|name| policy_file::load(&example(name)).unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(yaml.policies(), json.policies());
    assert_eq!(yaml.policies(), toml.policies());
    assert_eq!(yaml.policies().len(), 10);
}

/// R11: a policy may say what it does if the store does not answer.
#[test]
fn a_policy_says_what_it_does_without_the_store() {
    let modes = [
        ("", None),
        (", onStoreError: allow", Some(FailureMode::Allow)),
        (", onStoreError: deny", Some(FailureMode::Deny)),
        (", onStoreError: local", Some(FailureMode::Local)),
    ];
    for (field, mode) in modes {
        let yaml = format!("policies: [{{id: p, scope: USER, limit: 1, windowSeconds: 1{field}}}]");
        let policies = policy_file::parse("p", &yaml, Format::Yaml).unwrap();
        assert_eq!(policies[0].on_store_error, mode, "{field}");
    }
}

/// Decision 0009: a class may have a share of the limit, and a less important class no more than a more important one.
#[test]
fn a_policy_keeps_room_for_the_more_important_classes() {
    let yaml = "policies: [{id: p, scope: GLOBAL, limit: 10, windowSeconds: 1, shares: {standard: 0.8, batch: 0.5}}]";
    let policies = policy_file::parse("p", yaml, Format::Yaml).unwrap();
    let of_each = PriorityClass::ALL.map(|class| policies[0].shares.of(class).to_string());
    assert_eq!(of_each, ["0.5", "0.8", "1", "1"]);
}

#[test]
fn every_field_says_what_it_says() {
    let set = policy_file::load(&example("policies.yaml")).unwrap();
    let policy = |id: &str| set.policies().iter().find(|policy| policy.id.as_str() == id).unwrap();
    assert_eq!(*policy("default"), Policy::default_policy());
    let free = policy("payments-free");
    assert!(matches!(free.counting, Counting::Counter { .. }));
    assert_eq!(free.on_store_error, Some(FailureMode::Local));
    assert_eq!((free.per.scope().as_str(), free.conditions.len()), ("SERVICE", 2));
    let tokens = policy("key-model-tpm");
    assert_eq!((tokens.per.scope().as_str(), &tokens.unit), ("apiKey+model", &Unit::Tokens));
    let large = Condition::one_of(Attribute::ModelTier, &["premium", "large"]);
    assert_eq!(policy("enterprise-large").conditions[1], large);
    assert_eq!(policy("internal-exempt").limit, None);
    assert_eq!(policy("banned-addresses").limit, Some(Amount::ZERO));
    assert_eq!(policy("banned-addresses").counting.window().unwrap().as_ns(), 3_600_000_000_000);
    assert_eq!(policy("try-60-per-user").mode, Mode::Shadow);
    assert_eq!(policy("tenant-burst").counting.window().unwrap().as_ns(), 500_000_000);
    assert!(!policy("tenant-burst").enabled);
}

/// R18: a calendar stands in place of a window and an algorithm.
#[test]
fn a_calendar_is_a_window_and_a_way_of_counting() {
    let cases = [
        ("calendar: hour", Calendar::Hour, "UTC", Reach::OwnWindow),
        (
            "calendar: day, timeZone: America/New_York",
            Calendar::Day,
            "America/New_York",
            Reach::OwnWindow,
        ),
        ("calendar: week, timeZone: UTC", Calendar::Week, "UTC", Reach::OwnWindow),
        (
            "calendar: month, timeZone: Asia/Kathmandu",
            Calendar::Month,
            "Asia/Kathmandu",
            Reach::OwnWindow,
        ),
    ];
    for (fields, calendar, zone, reach) in cases {
        for limit in ["7", "0", "null"] {
            let policies =
                yaml(&format!("policies: [{{id: p, scope: USER, limit: {limit}, {fields}}}]"))
                    .unwrap();
            let zone = Zone::named(zone).unwrap();
            assert_eq!(policies[0].counting, Counting::Calendar { calendar, zone }, "{fields}");
            assert_eq!(policies[0].reach, reach, "{fields}");
        }
    }
}

#[test]
fn a_wrong_calendar_is_told_where_it_is() {
    let policy =
        |fields: &str| format!("policies:\n  - {{id: a, scope: USER, limit: 5,\n    {fields}}}\n");
    let cases = [
        ("calendar: dya", "calendar", "\"dya\" is not accepted (did you mean `day`?)"),
        ("calendar: year", "calendar", "\"year\" is not accepted"),
        ("calendar: 7", "calendar", "7 is a number"),
        (
            "calendar: day, timeZone: Europe/Berln",
            "timeZone",
            "\"Europe/Berln\" is not a time zone (did you mean `Europe/Berlin`?)",
        ),
        ("calendar: day, timeZone: utc", "timeZone", "(did you mean `UTC`?)"),
        ("calendar: day, timeZone: CEST", "timeZone", "\"CEST\" is not a time zone"),
        ("calendar: day, timeZone: 1", "timeZone", "1 is a number"),
        ("calendar: day, windowSeconds: 60", "windowSeconds", "is given beside `calendar`"),
        ("windowSeconds: 60, calendar: day", "calendar", "is given beside `windowSeconds`"),
        ("calendar: day, algorithm: token_bucket", "algorithm", "is given beside `calendar`"),
        ("calendar: day, burst: 5", "burst", "is given beside `calendar`"),
        ("windowSeconds: 60, timeZone: UTC", "timeZone", "is only for calendars"),
    ];
    for (fields, at, says) in cases {
        let path = format!("policies[0].{at}");
        check_problem(&policy(fields), Format::Yaml, Some(3), &path, says);
    }
}

/// R16: `unit: concurrency` has a limit and no window.
#[test]
fn concurrency_has_no_window() {
    let cases = [
        ("limit: 7", Amount::new(7), Reach::OwnWindow),
        ("limit: 0", Some(Amount::ZERO), Reach::EveryWindow),
        ("limit: null", None, Reach::EveryWindow),
        ("exempt: all", None, Reach::EveryLimit),
        ("limit: 7, shares: {batch: 0.5}", Amount::new(7), Reach::OwnWindow),
    ];
    for (fields, limit, reach) in cases {
        let text = format!("policies: [{{id: p, scope: USER, unit: concurrency, {fields}}}]");
        let policies = yaml(&text).unwrap();
        let policy = &policies[0];
        assert_eq!((&policy.unit, policy.counting), (&Unit::Concurrency, Counting::Concurrency));
        assert_eq!((policy.limit, policy.reach), (limit, reach), "{fields}");
        let records = Records { policies: policies.clone(), ..Records::default() };
        let written = document::to_yaml(&records.into_document());
        assert_eq!(yaml(&written).unwrap(), policies, "{written}");
        assert!(!written.contains("window") && !written.contains("algorithm"), "{written}");
    }
}

#[test]
fn what_only_a_window_has_is_refused_beside_concurrency() {
    let fields = [
        "windowSeconds: 60",
        "window: 1m",
        "calendar: day",
        "timeZone: UTC",
        "algorithm: sliding_window_log",
        "burst: 5",
        "overLimit: deny",
        "onExpire: keep",
    ];
    for field in fields {
        let name = field.split(':').next().unwrap();
        for limit in ["5", "0", "null"] {
            let text = format!(
                "policies:\n  - {{id: a, scope: USER, limit: {limit}, unit: concurrency,\n    {field}}}\n"
            );
            let says = "is given beside `unit: concurrency`";
            check_problem(&text, Format::Yaml, Some(3), &format!("policies[0].{name}"), says);
        }
    }
    let all = format!(
        "policies: [{{id: a, scope: USER, limit: 5, unit: concurrency, {}}}]",
        fields.join(", ")
    );
    let problems = policy_file::parse("p", &all, Format::Yaml).unwrap_err();
    assert_eq!(problems.iter().count(), fields.len(), "{problems}");
}

#[test]
fn without_policies_the_default_policy_holds() {
    let cases = [
        ("", Format::Yaml),
        ("# nothing\n", Format::Yaml),
        ("{}", Format::Yaml),
        ("policies: []", Format::Yaml),
        ("", Format::Json),
        ("{}", Format::Json),
        ("{\"policies\": []}", Format::Json),
        ("", Format::Toml),
        ("policies = []", Format::Toml),
    ];
    for (text, format) in cases {
        let policies = policy_file::parse("p", text, format).unwrap();
        let set = PolicySet::new(policies).unwrap();
        assert_eq!(set.policies(), [Policy::default_policy()], "{format:?} {text:?}");
    }
}

/// A list that is missing gets a message about `[]` and about a way to have no limits. The message is true.
#[test]
fn the_built_in_policy_of_a_file_is_replaced_by_a_disabled_one() {
    let says = "is null; accepted: a list of policies; `[]` is the built-in policy alone, and one policy with `enabled: false` \
                alone limits nothing";
    let problems = yaml("policies:\n").unwrap_err().to_string();
    assert!(problems.ends_with(says), "{problems}");
    let tiers = yaml("tiers:\n").unwrap_err().to_string();
    assert!(tiers.ends_with("a list of tiers, `[]` for none"), "{tiers}");
    let check = Check::new("ann", "m");
    let limits =
        |text: &str| PolicySet::new(yaml(text).unwrap()).unwrap().plan(&check).iter().count();
    assert_eq!(limits("policies: []"), 1);
    let disabled = "policies: [{id: none, scope: USER, limit: 1, window: 1h, enabled: false}]";
    assert_eq!(limits(disabled), 0);
}

#[test]
fn a_missing_field_is_told_where_its_policy_starts() {
    let cases = [
        ("id", "is missing"),
        ("scope", "is missing, and so is `per`"),
        ("limit", "is missing"),
        ("windowSeconds", "is missing"),
    ];
    for (missing, says) in cases {
        let fields: Vec<_> =
            [ID, SCOPE, LIMIT, WINDOW].into_iter().filter(|(name, _)| *name != missing).collect();
        for format in FORMATS {
            // YAML counts a block from its first key.
            let line = if format == Format::Yaml { 3 } else { 2 };
            let path = format!("policies[0].{missing}");
            check_problem(&one_policy(&fields, format), format, Some(line), &path, says);
        }
    }
}

#[test]
fn a_wrong_value_is_refused_at_every_field() {
    let cases = [
        (("id", "5"), "5 is a number"),
        (("id", "true"), "true is a boolean"),
        (("id", "null"), "is null"),
        (("id", "\"\""), "\"\" is empty"),
        (("id", "\"a\\u0000b\""), "has the control character U+0000"),
        (("id", "[\"a\"]"), "is a list"),
        (("id", "\"(none)\""), "is reserved for metrics"),
        (("scope", "\"user\""), "\"user\" is not a scope (did you mean `USER`?)"),
        (("scope", "\"PLANET\""), "\"PLANET\" is not a scope"),
        (("scope", "3"), "3 is a number"),
        (("match", "[]"), "is a list"),
        (("match", "null"), "is null"),
        (("match", "\"tier\""), "\"tier\" is a text"),
        (("unit", "\"GPU-s\""), "\"GPU-s\" is not a unit"),
        (("unit", "1"), "1 is a number"),
        (("limit", "-3"), "-3 is negative"),
        (("limit", "-0"), "-0 has a minus sign"),
        (("limit", "1.0"), "1.0 is not written as an integer"),
        (("limit", "1e400"), "1e400 is not written as an integer"),
        (("limit", "9007199254740992"), "9007199254740992 is above 9007199254740991"),
        (("limit", "99999999999999999999"), "99999999999999999999 is above 9007199254740991"),
        (("limit", "\"5\""), "\"5\" is a text"),
        (("limit", "true"), "true is a boolean"),
        (("limit", "{}"), "is a map"),
        (("windowSeconds", "0"), "0 is below 0.001"),
        (("windowSeconds", "0.0009"), "0.0009 is below 0.001"),
        (("windowSeconds", "-60"), "-60 is negative"),
        (("windowSeconds", "31622401"), "31622401 is above 31622400"),
        (("windowSeconds", "1e400"), "1e400 is not in plain decimal digits"),
        (("windowSeconds", "0.1234567891"), "has 10 decimals"),
        (("windowSeconds", "\"60\""), "\"60\" is a text"),
        (("windowSeconds", "null"), "is null"),
        (("algorithm", "\"sliding_window\""), "\"sliding_window\" is not accepted"),
        (("algorithm", "\"sliding-window-log\""), "(did you mean `sliding_window_log`?)"),
        (("algorithm", "null"), "is null"),
        (("mode", "\"Shadow\""), "\"Shadow\" is not accepted (did you mean `shadow`?)"),
        (("mode", "false"), "false is a boolean"),
        (("overLimit", "\"record\""), "\"record\" is not accepted"),
        (("overLimit", "\"Charge\""), "(did you mean `charge`?)"),
        (("overLimit", "null"), "is null"),
        (("onExpire", "\"release\""), "\"release\" is not accepted"),
        (("onExpire", "\"Refund\""), "(did you mean `refund`?)"),
        (("onExpire", "null"), "is null"),
        (("visibility", "\"hidden\""), "\"hidden\" is not accepted"),
        (("visibility", "\"Public\""), "(did you mean `public`?)"),
        (("visibility", "null"), "is null"),
        (("onStoreError", "\"alow\""), "\"alow\" is not accepted (did you mean `allow`?)"),
        (("onStoreError", "null"), "is null"),
        (("shares", "0.5"), "0.5 is a number"),
        (("shares", "{\"batch\": 0.9, \"standard\": 0.8}"), "give `batch` more than `standard`"),
        (("enabled", "\"yes\""), "\"yes\" is a text"),
        (("enabled", "1"), "1 is a number"),
        (("ignoreCase", "\"yes\""), "\"yes\" is a text"),
        (("overrides", "\"b\""), "\"b\" is a text"),
        (("overrides", "null"), "is null"),
    ];
    for (field, says) in cases {
        check_field(field, &format!("policies[0].{}", field.0), says);
    }
}

#[test]
fn a_wrong_share_is_refused_where_it_stands() {
    let cases = [
        ("{\"batch\": \"half\"}", ".batch", "\"half\" is a text"),
        ("{\"batch\": 1.5}", ".batch", "1.5 is above 1"),
        ("{\"bach\": 0.5}", ".bach", "\"bach\" is not a priority class (did you mean `batch`?)"),
        ("{\"batch\": null}", ".batch", "is null"),
    ];
    for (shares, at, says) in cases {
        check_field(("shares", shares), &format!("policies[0].shares{at}"), says);
    }
}

#[test]
fn what_leases_reserve_is_read_and_written() {
    let file = |reserve: &str| {
        format!(
            "policies:\n  - {{id: a, scope: USER, limit: 5, windowSeconds: 60, reserve: {reserve}}}\n"
        )
    };
    let amount = |amount| Amount::new(amount).unwrap();
    let rule = |millionths, least, most| ReserveRule {
        quantile: Share::of_millionths(millionths).unwrap(),
        at_least: amount(least),
        at_most: amount(most),
    };
    let cases = [
        ("{}", vec![]),
        ("{output_tokens: {atMost: 4096}}", vec![(Unit::OutputTokens, rule(950_000, 1, 4_096))]),
        (
            "{output_tokens: {quantile: 0.5, atLeast: 64, atMost: 64}, images: {quantile: 1, atMost: 3}}",
            vec![
                (Unit::OutputTokens, rule(500_000, 64, 64)),
                (Unit::parse("images").unwrap(), rule(1_000_000, 1, 3)),
            ],
        ),
    ];
    for (text, rules) in cases {
        let policies = yaml(&file(text)).unwrap();
        assert_eq!(policies[0].reserve, rules, "{text}");
        let records = Records { policies: policies.clone(), ..Records::default() };
        let written = document::to_yaml(&records.into_document());
        assert_eq!(yaml(&written).unwrap(), policies, "{written}");
    }
}

#[test]
fn a_wrong_reservation_is_refused_where_it_stands() {
    let cases = [
        ("5", "", "5 is a number"),
        ("null", "", "is null"),
        (
            "{\"requests\": {\"atMost\": 1}}",
            ".requests",
            "is no unit of which something is reserved",
        ),
        ("{\"concurrency\": {\"atMost\": 1}}", ".concurrency", "is no unit of which something"),
        ("{\"GPU-s\": {\"atMost\": 1}}", ".GPU-s", "is no unit of which something is reserved"),
        ("{\"tokens\": 5}", ".tokens", "5 is a number"),
        ("{\"tokens\": {}}", ".tokens", "has no atMost"),
        ("{\"tokens\": {\"atMost\": 0}}", ".tokens.atMost", "is 0"),
        ("{\"tokens\": {\"atMost\": 1.5}}", ".tokens.atMost", "1.5 is not written as an integer"),
        ("{\"tokens\": {\"atMost\": \"5\"}}", ".tokens.atMost", "\"5\" is a text"),
        (
            "{\"tokens\": {\"atMost\": 5, \"atLeast\": 6}}",
            ".tokens",
            "has 6 as atLeast, above atMost",
        ),
        ("{\"tokens\": {\"atMost\": 5, \"quantile\": 1.1}}", ".tokens.quantile", "1.1 is above 1"),
        (
            "{\"tokens\": {\"atMost\": 5, \"atmost\": 5}}",
            ".tokens.atmost",
            "(did you mean `atMost`?)",
        ),
    ];
    for (reserve, at, says) in cases {
        check_field(("reserve", reserve), &format!("policies[0].reserve{at}"), says);
    }
    let exempt =
        "policies:\n  - {id: a, scope: USER, limit: null,\n    reserve: {tokens: {atMost: 5}}}\n";
    let says = "cannot be combined with a limit of null";
    check_problem(exempt, Format::Yaml, Some(3), "policies[0].reserve", says);
}

#[test]
fn weights_are_read_and_written() {
    use TokenKind::{CachedInput, Output, Reasoning};
    let file = |weights: &str| {
        format!(
            "policies:\n  - {{id: a, scope: USER, unit: tokens, limit: 5, windowSeconds: 60, weights: {weights}}}\n"
        )
    };
    let cases = [
        ("{}", vec![]),
        ("{cached_input_tokens: 0.1}", vec![(CachedInput, 100)]),
        (
            "{output_tokens: 4, cached_input_tokens: 0.125, reasoning_tokens: 0}",
            vec![(CachedInput, 125), (Output, 4_000), (Reasoning, 0)],
        ),
    ];
    for (text, expected) in cases {
        let policies = yaml(&file(text)).unwrap();
        let given = policies[0].weights.given().map(|(kind, one)| (kind, one.thousandths()));
        assert_eq!(given.collect::<Vec<_>>(), expected, "{text}");
        let records = Records { policies: policies.clone(), ..Records::default() };
        let written = document::to_yaml(&records.into_document());
        assert_eq!(yaml(&written).unwrap(), policies, "{written}");
    }
}

#[test]
fn a_wrong_weight_is_refused_where_it_stands() {
    let file = |unit: &str, limit: &str, weights: &str| {
        format!(
            "policies:\n  - {{id: a, scope: USER, unit: {unit}, limit: {limit}, window: 1m,\n    weights: {weights}}}\n"
        )
    };
    let cases = [
        ("tokens", "5", "", "5 is a number"),
        ("tokens", "null", "", "is null"),
        ("tokens", "{cached_input_tokens: -0.1}", ".cached_input_tokens", "-0.1 is negative"),
        (
            "tokens",
            "{cached_input_tokens: 0.0001}",
            ".cached_input_tokens",
            "0.0001 has 4 decimals",
        ),
        ("tokens", "{output_tokens: 1001}", ".output_tokens", "1001 is above 1000"),
        ("tokens", "{output_tokens: '4'}", ".output_tokens", "\"4\" is a text"),
        ("tokens", "{output_tokens: 4, output_tokens: 5}", ".output_tokens", "twice"),
        (
            "tokens",
            "{cached_tokens: 0.1}",
            ".cached_tokens",
            "\"cached_tokens\" is no kind of `tokens`",
        ),
        ("tokens", "{tokens: 2}", ".tokens", "\"tokens\" is no kind of `tokens`"),
        (
            "input_tokens",
            "{reasoning_tokens: 2}",
            ".reasoning_tokens",
            "\"reasoning_tokens\" is no kind of `input_tokens`",
        ),
        ("requests", "{cached_input_tokens: 1}", "", "cannot be combined with the unit `requests`"),
        ("images", "{cached_input_tokens: 1}", "", "cannot be combined with the unit `images`"),
    ];
    for (unit, weights, at, says) in cases {
        let place = format!("policies[0].weights{at}");
        check_problem(&file(unit, "5", weights), Format::Yaml, Some(3), &place, says);
    }
    let exempt = file("tokens", "null", "{cached_input_tokens: 1}");
    let says = "cannot be combined with a limit of null";
    check_problem(&exempt, Format::Yaml, Some(3), "policies[0].weights", says);
}

#[test]
fn a_wrong_condition_is_refused_where_it_stands() {
    let cases = [
        ("{\"tier\": 5}", ".tier", "5 is a number"),
        ("{\"tier\": false}", ".tier", "false is a boolean"),
        ("{\"tier\": \"\"}", ".tier", "\"\" is empty"),
        ("{\"tier\": {}}", ".tier", "is an empty map"),
        ("{\"tier\": {\"absent\": true, \"present\": true}}", ".tier", "is a map with 2 keys"),
        ("{\"tier\": {\"absent\": false}}", ".tier.absent", "is false"),
        ("{\"tier\": {\"prefix\": \"a\"}}", ".tier.prefix", "\"prefix\" is no such condition"),
        ("{\"tier\": [{\"absent\": true}]}", ".tier[0]", "is a map"),
        (
            "{\"user\": {\"absent\": true}}",
            ".user",
            "matches nothing: the policy counts per `user`",
        ),
        ("{\"model\": \"*-mini\"}", ".model", "\"*-mini\" has an asterisk before its end"),
        ("{\"model\": [\"gpt-4*\", \"gpt*4\"]}", ".model[1]", "has an asterisk before its end"),
        ("{\"tier\": []}", ".tier", "is an empty list"),
        ("{\"tier\": [\"free\", 5]}", ".tier[1]", "5 is a number"),
        ("{\"tier\": [[\"free\"]]}", ".tier[0]", "is a list"),
        (
            "{\"userId\": \"alice\"}",
            ".userId",
            "resembles the built-in attribute `user`, but is not the same",
        ),
        ("{\"\": \"x\"}", "[\"\"]", "is empty"),
        ("{\"ip\": \"203.0.113.0/33\"}", ".ip", "\"203.0.113.0/33\" has a prefix length above 32"),
        ("{\"ip\": \"203.0.113.9/24\"}", ".ip", "(did you mean `203.0.113.0/24`?)"),
        ("{\"ip\": \"10.*\"}", ".ip", "\"10.*\" is not an IP address or a CIDR block"),
        ("{\"ip\": [\"::1\", \" 8.8.8.8\"]}", ".ip[1]", "is not an IP address"),
    ];
    for (value, path, says) in cases {
        check_field(("match", value), &format!("policies[0].match{path}"), says);
    }
}

/// Checks give addresses in their canonical form, so a condition in another form would silently match nothing.
#[test]
fn an_address_is_matched_however_it_is_written() {
    for (written, canonical) in [
        ("2001:DB8:0::8", "2001:db8::8"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("203.0.113.7", "203.0.113.7"),
    ] {
        let text =
            format!("policies: [{{id: p, scope: IP, match: {{ip: \"{written}\"}}, limit: 0}}]");
        let canonical = Condition::one_of(Attribute::Ip, &[canonical]);
        assert_eq!(yaml(&text).unwrap()[0].conditions, [canonical]);
    }
}

#[test]
fn values_prefixes_blocks_presence_and_absence_are_read_in_every_format() {
    let conditions = r#"{"model": ["gpt-4*", "openai/*", "a\\*b"], "ip": "10.0.0.0/8", "tenant": {"present": true}, "region": {"absent": true}}"#;
    for format in FORMATS {
        let text = one_policy(&[ID, LIMIT, WINDOW, SCOPE, ("match", conditions)], format);
        // TOML has no map on one line in the form that the helper writes.
        let text = if format == Format::Toml { text.replace("\": ", "\" = ") } else { text };
        let policies = policy_file::parse("p", &text, format).unwrap();
        let expected = [
            Accepted::AnyOf(vec![
                Pattern::Prefix("gpt-4".to_owned()),
                Pattern::Prefix("openai/".to_owned()),
                Pattern::Exact("a*b".to_owned()),
            ]),
            Accepted::AnyOf(vec![Pattern::parse(&Attribute::Ip, "10.0.0.0/8").unwrap()]),
            Accepted::Present,
            Accepted::Absent,
        ];
        let accepted: Vec<_> =
            policies[0].conditions.iter().map(|one| one.accepted.clone()).collect();
        assert_eq!(accepted, expected, "{format:?}");
    }
}

#[test]
fn a_policy_exempts_from_everything_or_from_its_own_kind_of_limit() {
    let cases = [
        ("scope: IP, limit: null", Reach::EveryWindow),
        ("scope: IP, limit: null, windowSeconds: 60", Reach::OwnWindow),
        ("scope: IP, limit: 0", Reach::EveryWindow),
        ("scope: IP, limit: 5, windowSeconds: 60", Reach::OwnWindow),
        ("scope: IP, limit: null, exempt: all", Reach::EveryLimit),
        ("scope: IP, exempt: all", Reach::EveryLimit),
        ("scope: IP, limit: null, overLimit: deny", Reach::EveryWindow),
        ("scope: IP, limit: null, onExpire: keep", Reach::EveryWindow),
        ("scope: IP, limit: 5, windowSeconds: 60, onExpire: refund", Reach::OwnWindow),
        ("match: {ip: 192.0.2.1}, exempt: all", Reach::EveryLimit),
    ];
    for (fields, expected) in cases {
        let policies = yaml(&format!("policies: [{{id: p, {fields}}}]")).unwrap();
        let policy = &policies[0];
        assert_eq!(policy.reach, expected, "{fields}");
        let shown = tollgate_catalog::directory::Record::Policy(policy.clone()).to_node();
        assert_eq!(validate::policy("", &shown).as_ref(), Ok(policy), "{fields}");
    }
    let wrong = [
        ("scope: IP, limit: 5, exempt: all", "policies[0].limit", "is given beside `exempt`"),
        ("exempt: some", "policies[0].exempt", "\"some\" is no such exemption"),
        ("exempt: true", "policies[0].exempt", "true is a boolean"),
        (
            "scope: IP, limit: null, overLimit: charge",
            "policies[0].overLimit",
            "exempts and so records nothing",
        ),
        ("exempt: all, overLimit: charge", "policies[0].overLimit", "exempts and so records"),
        ("exempt: all, onExpire: refund", "policies[0].onExpire", "exempts and so holds nothing"),
    ];
    for (fields, path, says) in wrong {
        let text = format!("policies: [{{id: p, {fields}}}]");
        check_problem(&text, Format::Yaml, Some(1), path, says);
    }
}

#[test]
fn a_policy_overrides_others_by_their_ids() {
    let file = |overrides: &[&str]| {
        let lines = overrides.iter().zip(["a", "b", "c"]).map(|(overrides, id)| {
            format!("  - {{id: {id}, scope: USER, limit: 5, windowSeconds: 60, overrides: [{overrides}]}}\n")
        });
        format!("policies:\n{}", lines.collect::<String>())
    };
    let policies = yaml(&file(&["b, c", "c", ""])).unwrap();
    let ids: Vec<_> = policies[0].overrides.iter().map(PolicyId::as_str).collect();
    assert_eq!(ids, ["b", "c"]);
    let wrong: [(&[&str], usize, &str, &str); 6] = [
        (
            &["b", "bb"],
            3,
            "policies[1].overrides[0]",
            "there is no policy \"bb\" (did you mean `b`?)",
        ),
        (&["a"], 2, "policies[0].overrides", "in a circle: \"a\" → \"a\""),
        (&["", "c", "b"], 3, "policies[1].overrides", "in a circle: \"b\" → \"c\" → \"b\""),
        (&["b, b", ""], 2, "policies[0].overrides[1]", "\"b\" is given twice"),
        (&["5"], 2, "policies[0].overrides[0]", "5 is a number"),
        (&["\"\""], 2, "policies[0].overrides[0]", "\"\" is empty"),
    ];
    for (overrides, line, path, says) in wrong {
        let problems = yaml(&file(overrides)).unwrap_err();
        let problem = problems.iter().find(|problem| problem.message.contains(says));
        let problem = problem.unwrap_or_else(|| panic!("{says}: {problems}"));
        assert_eq!((problem.path.as_str(), problem.position.map(|at| at.line)), (path, Some(line)));
        assert!(!problem.accepted.is_empty(), "{problems}");
    }
}

#[test]
fn a_wrong_per_is_refused_where_it_stands() {
    let nine = r#"["a","b","c","d","e","f","g","h","i"]"#;
    let cases = [
        ("\"user\"", "", "\"user\" is a text"),
        ("null", "", "is null"),
        ("[\"user\", 5]", "[1]", "5 is a number"),
        ("[\"user\", \"model\", \"user\"]", "[2]", "\"user\" is given twice"),
        (
            "[\"api_key\"]",
            "[0]",
            "\"api_key\" resembles the built-in attribute `apiKey`, but is not the same",
        ),
        ("[\"\"]", "[0]", "\"\" is empty"),
        (nine, "", "has 9 attributes"),
    ];
    for (value, path, says) in cases {
        for format in FORMATS {
            if format == Format::Toml && value == "null" {
                continue;
            }
            let text = one_policy(&[ID, LIMIT, WINDOW, ("per", value)], format);
            check_problem(&text, format, Some(6), &format!("policies[0].per{path}"), says);
        }
    }
}

#[test]
fn a_wrong_ipv6_prefix_is_refused_where_it_stands() {
    let by_address = ("scope", "\"IP\"");
    for (value, says) in [
        ("0", "is 0"),
        ("129", "is 129"),
        ("-64", "is -64"),
        ("64.0", "is 64.0"),
        ("256", "is 256"),
        ("\"64\"", "is \"64\""),
        ("[]", "is a list"),
    ] {
        for format in FORMATS {
            let text = one_policy(&[ID, by_address, LIMIT, WINDOW, ("ipv6Prefix", value)], format);
            check_problem(&text, format, Some(7), "policies[0].ipv6Prefix", says);
        }
    }
    for format in FORMATS {
        let text = one_policy(&[ID, SCOPE, LIMIT, WINDOW, ("ipv6Prefix", "64")], format);
        let says = "is given, but the policy does not count per `ip`";
        check_problem(&text, format, Some(7), "policies[0].ipv6Prefix", says);
    }
}

#[test]
fn a_wrong_split_is_refused_where_it_stands() {
    let limit = ("limit", "1000");
    for (value, path, says) in [
        ("{\"share\": 0}", ".share", "0 is nothing"),
        ("{\"share\": 0.6}", ".share", "0.6 is above 0.5"),
        ("{\"share\": 2}", ".share", "2 is above 1"),
        ("{\"share\": -0.1}", ".share", "-0.1 is negative"),
        ("{\"share\": \"5%\"}", ".share", "\"5%\" is a text"),
        ("{}", ".share", "is missing"),
        ("{\"share\": 0.1, \"life\": 1}", ".life", "is not a field"),
        ("0.05", "", "0.05 is a number"),
        ("{\"share\": 0.001}", "", "would give parts of fewer than 4 of a limit of 1000"),
    ] {
        for format in FORMATS {
            let text = one_policy(&[ID, SCOPE, limit, WINDOW, ("split", value)], format);
            check_problem(&text, format, None, &format!("policies[0].split{path}"), says);
        }
    }
}

#[test]
fn a_policy_that_cannot_be_split_says_why() {
    let split = ("split", "{\"share\": 0.05}");
    let limit = ("limit", "1000");
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[limit, WINDOW, ("algorithm", "\"token_bucket\"")], "beside `token_bucket`"),
        (
            &[limit, WINDOW, ("algorithm", "\"sliding_window_counter\"")],
            "beside `sliding_window_counter`",
        ),
        (&[limit, ("calendar", "\"day\"")], "beside `calendar`"),
        (&[limit, ("unit", "\"concurrency\"")], "is given beside `unit: concurrency`"),
        (&[("limit", "0"), WINDOW], "of which nothing can be taken"),
        (&[limit, WINDOW, ("overLimit", "\"charge\"")], "beside `overLimit: charge`"),
        (&[limit, ("windowSeconds", "0.5")], "beside a window of 0.5 s"),
    ];
    for (fields, says) in cases {
        for format in FORMATS {
            let fields: Vec<_> =
                [ID, SCOPE].iter().chain(fields).chain([&split]).copied().collect();
            check_problem(&one_policy(&fields, format), format, None, "policies[0].split", says);
        }
    }
    for format in FORMATS {
        let text = one_policy(&[ID, SCOPE, limit, WINDOW, split], format);
        let policies = policy_file::parse("p", &text, format).unwrap();
        let share = policies[0].split.unwrap().share();
        assert_eq!(share.to_string(), "0.05");
    }
}

#[test]
fn scope_together_with_per_is_refused_at_the_later() {
    for format in FORMATS {
        let text = one_policy(&[ID, SCOPE, ("per", "[\"user\"]"), LIMIT, WINDOW], format);
        check_problem(&text, format, Some(5), "policies[0].per", "is given beside `scope`");
        let text = one_policy(&[ID, ("per", "[]"), SCOPE, LIMIT, WINDOW], format);
        check_problem(&text, format, Some(5), "policies[0].scope", "is given beside `per`");
    }
}

#[test]
fn unknown_fields_are_refused_with_the_nearest_known_one() {
    let cases = [
        ("windowSecond", "is not a field (did you mean `windowSeconds`?)"),
        ("window_seconds", "is not a field (did you mean `windowSeconds`?)"),
        ("Enabled", "is not a field (did you mean `enabled`?)"),
        ("peak", "is not a field"),
    ];
    for (name, says) in cases {
        check_field((name, "1"), &format!("policies[0].{name}"), says);
    }
    let top = [
        ("policys: []", Format::Yaml, "policys"),
        ("{\"policys\": []}", Format::Json, "policys"),
        ("policys = []", Format::Toml, "policys"),
    ];
    for (text, format, path) in top {
        check_problem(text, format, Some(1), path, "is not a field (did you mean `policies`?)");
    }
}

#[test]
fn a_document_of_another_shape_is_refused() {
    let cases = [
        ("[]", Format::Yaml, "", "is a list"),
        ("hello", Format::Yaml, "", "\"hello\" is a text"),
        ("null", Format::Json, "", "is null"),
        ("5", Format::Json, "", "5 is a number"),
        ("policies:", Format::Yaml, "policies", "is null"),
        ("policies: {}", Format::Yaml, "policies", "is a map"),
        ("{\"policies\": [null]}", Format::Json, "policies[0]", "is null"),
        ("policies = \"x\"", Format::Toml, "policies", "\"x\" is a text"),
        ("[policies]", Format::Toml, "policies", "is a map"),
        ("policies = [2020-01-01]", Format::Toml, "policies[0]", "2020-01-01 is a date"),
    ];
    for (text, format, path, says) in cases {
        check_problem(text, format, Some(1), path, says);
    }
}

#[test]
fn a_key_given_twice_is_refused_with_the_line_of_the_first() {
    let fields = [ID, SCOPE, LIMIT, WINDOW, ("limit", "7")];
    for format in [Format::Yaml, Format::Json] {
        let text = one_policy(&fields, format);
        let says = "is given twice, first on line 5";
        check_problem(&text, format, Some(7), "policies[0].limit", says);
    }
    let text = one_policy(&fields, Format::Toml);
    check_problem(&text, Format::Toml, Some(7), "", "duplicate key");
    check_problem("policies: []\npolicies: []\n", Format::Yaml, Some(2), "policies", "given twice");
}

#[test]
fn an_id_given_twice_is_refused_with_the_line_of_the_first() {
    let cases = [
        (
            "policies:\n  - {id: é, scope: IP, limit: 0}\n  - {id: b, scope: IP, limit: 0}\n  - {id: \"é\", scope: IP, limit: 0}\n",
            Format::Yaml,
            4,
        ),
        (
            "{\"policies\": [\n{\"id\":\"é\",\"scope\":\"IP\",\"limit\":0},\n{\"id\":\"b\",\"scope\":\"IP\",\"limit\":0},\n{\"id\":\"\\u00e9\",\"scope\":\"IP\",\"limit\":0}]}",
            Format::Json,
            4,
        ),
        (
            "[[policies]]\nid='é'\nscope='IP'\nlimit=0\n[[policies]]\nid='b'\nscope='IP'\nlimit=0\n[[policies]]\nid='é'\nscope='IP'\nlimit=0\n",
            Format::Toml,
            10,
        ),
    ];
    for (text, format, line) in cases {
        check_problem(
            text,
            format,
            Some(line),
            "policies[2].id",
            "is the id of policies[0], on line 2",
        );
    }
}

#[test]
fn every_problem_of_a_file_is_listed_in_its_order() {
    let text = "policies:
  - id: a
    scope: USER
    limit: -3
    windowSeconds: 0
  - id: a
    per: [user, 5]
    scope: USR
    limt: 5
    match: {tier: 1, country: [NO, true]}
extra: 1
";
    let shown = yaml(text).unwrap_err().to_string();
    let starts = [
        "p.yaml:4:12: policies[0].limit: -3 is negative; accepted: an integer from 0 to 9007199254740991, or null",
        "p.yaml:5:20: policies[0].windowSeconds: 0 is below 0.001; accepted: a number of seconds",
        "p.yaml:6:5: policies[1].limit: is missing; accepted: an integer from 0",
        "p.yaml:6:5: policies[1].windowSeconds: is missing; accepted: a number of seconds",
        "p.yaml:6:9: policies[1].id: \"a\" is the id of policies[0], on line 2; accepted: ",
        "p.yaml:7:17: policies[1].per[1]: 5 is a number; accepted: tenant, user, apiKey",
        "p.yaml:8:5: policies[1].scope: is given beside `per`; accepted: ",
        "p.yaml:8:12: policies[1].scope: \"USR\" is not a scope (did you mean `USER`?); accepted: GLOBAL",
        "p.yaml:9:5: policies[1].limt: is not a field (did you mean `limit`?); accepted: `id`, `scope`",
        "p.yaml:10:19: policies[1].match.tier: 1 is a number; accepted: a text, a list of texts, `{present: true}` or `{absent: true}`; put it in quotes",
        "p.yaml:10:36: policies[1].match.country[1]: true is a boolean; accepted: ",
        "p.yaml:11:1: extra: is not a field; accepted: `tiers`, `modelTiers`, `models`, `tenants`, `users`, `policies`",
    ];
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{shown}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn a_file_full_of_problems_keeps_the_first_thousand() {
    let text = format!("policies: [{}]", "1, ".repeat(5_000));
    let problems = yaml(&text).unwrap_err();
    assert_eq!(problems.iter().count(), Problems::MAX_KEPT);
    assert_eq!(problems.omitted(), 4_000);
}

#[test]
fn bounds_of_the_core_hold_and_what_is_at_them_is_accepted() {
    let conditions = |count: usize| {
        let entries: Vec<_> = (0..count).map(|n| format!("x{n}: v")).collect();
        format!("policies: [{{id: a, scope: IP, limit: 0, match: {{{}}}}}]", entries.join(", "))
    };
    assert!(yaml(&conditions(Policy::MAX_CONDITIONS)).is_ok());
    let text = conditions(Policy::MAX_CONDITIONS + 1);
    check_problem(&text, Format::Yaml, Some(1), "policies[0].match", "has 17 conditions");

    let values = |count: usize| {
        let list = vec!["v"; count].join(", ");
        format!("policies: [{{id: a, scope: IP, limit: 0, match: {{tier: [{list}]}}}}]")
    };
    assert!(yaml(&values(Policy::MAX_CONDITION_VALUES)).is_ok());
    let text = values(Policy::MAX_CONDITION_VALUES + 1);
    check_problem(&text, Format::Yaml, Some(1), "policies[0].match.tier", "has 1001 values");

    let id =
        |bytes: usize| format!("policies: [{{id: {}, scope: IP, limit: 0}}]", "a".repeat(bytes));
    assert!(yaml(&id(256)).is_ok());
    check_problem(&id(257), Format::Yaml, Some(1), "policies[0].id", "has 257 bytes");
}

#[test]
fn a_file_holds_as_many_policies_as_a_set() {
    // Built rather than parsed, because parsing takes long in a debug build.
    let policy = |n: usize| {
        let fields = [
            ("id", Value::String(format!("p{n}"))),
            ("scope", Value::String("IP".to_owned())),
            ("limit", Value::Null),
        ];
        Node::unplaced(Value::Map(fields.map(|(key, value)| entry(key, value)).into()))
    };
    let document = |count: usize| {
        let policies = Value::List((0..count).map(policy).collect());
        Node::unplaced(Value::Map(vec![entry("policies", policies)]))
    };
    let most = validate::policies("", Some(&document(PolicySet::MAX_POLICIES))).unwrap();
    assert_eq!(most.len(), PolicySet::MAX_POLICIES);
    let problems = validate::policies("", Some(&document(PolicySet::MAX_POLICIES + 1)));
    let shown = problems.unwrap_err().to_string();
    let expected = "policies[100000]: is one of 100001 policies; accepted: at most 100000 policies";
    assert_eq!(shown, expected);
}

#[test]
fn what_is_at_the_edge_is_accepted() {
    let text = "policies:
  - {id: '用户 {x}:|', per: [], limit: 9007199254740991, windowSeconds: 31622400}
  - {id: b, per: [ip, region], limit: +1, windowSeconds: 0.001}
  - {id: 'no', scope: USER, limit: ~, windowSeconds: 1.000000001, match: {country: no, region: []}}
";
    check_problem(text, Format::Yaml, Some(4), "policies[2].match.region", "is an empty list");
    let policies = yaml(&text.replace(", region: []", "")).unwrap();
    assert_eq!(policies[0].limit, Some(Amount::MAX));
    assert_eq!(policies[0].per, Per::from_scope("GLOBAL").unwrap());
    assert_eq!(policies[1].counting.window().unwrap().as_ns(), 1_000_000);
    assert_eq!(policies[2].counting.window().unwrap().as_ns(), 1_000_000_001);
    assert_eq!(
        policies[2].conditions[0].accepted,
        Condition::one_of(Attribute::Tier, &["no"]).accepted
    );
}

#[test]
fn a_byte_order_mark_and_crlf_change_neither_meaning_nor_lines() {
    for (name, format) in [
        ("policies.yaml", Format::Yaml),
        ("policies.json", Format::Json),
        ("policies.toml", Format::Toml),
    ] {
        let text = std::fs::read_to_string(example(name)).unwrap();
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let expected = policy_file::parse(name, &text, format);
        assert_eq!(policy_file::parse(name, &windows, format), expected, "{name}");
        let wrong = windows.replace("1000", "-1").replace("1_000", "-1");
        let line = text.lines().position(|line| line.contains("1000") || line.contains("1_000"));
        let problems = policy_file::parse(name, &wrong, format).unwrap_err();
        let position = problems.iter().next().unwrap().position;
        assert_eq!(position.map(|at| at.line - 1), line, "{problems}");
    }
}

#[test]
fn a_document_without_positions_is_judged_alike() {
    let text = |text: &str| Value::String(text.to_owned());
    let mut fields = vec![
        entry("id", text("a")),
        entry("scope", text("USER")),
        entry("limit", Value::Number("5".to_owned())),
        entry("windowSeconds", Value::Number("0.25".to_owned())),
    ];
    let policy = validate::policy("", &Node::unplaced(Value::Map(fields.clone()))).unwrap();
    assert_eq!(policy.counting.window().unwrap().as_ns(), 250_000_000);
    fields.push(entry("per", Value::List(Vec::new())));
    fields.push(entry("limit", Value::Null));
    let problems = validate::policy("", &Node::unplaced(Value::Map(fields))).unwrap_err();
    assert!(problems.iter().all(|problem| problem.position.is_none()));
    let shown = problems.to_string();
    assert!(shown.starts_with("limit: is given twice; accepted: "), "{shown}");
    assert_eq!(shown.lines().count(), 2);
}

#[test]
fn files_that_cannot_be_policies_are_refused_by_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("dir.yaml")).unwrap();
    std::fs::write(path("bytes.yaml"), b"policies:\n  - {id: caf\xe9}\n").unwrap();
    std::fs::write(path("long.json"), vec![b' '; (16 << 20) + 1]).unwrap();
    std::fs::write(path("policies.txt"), "").unwrap();
    let shown = |name: &str| policy_file::load(&path(name)).unwrap_err();
    assert!(matches!(shown("dir.yaml"), CatalogError::NotAFile { .. }));
    assert!(matches!(shown("none.yaml"), CatalogError::Unreadable { .. }));
    assert!(matches!(shown("long.json"), CatalogError::TooLong { .. }));
    assert!(shown("policies.txt").to_string().ends_with("accepted: .yaml, .yml, .json or .toml"));
    let CatalogError::Invalid(problems) = shown("bytes.yaml") else { panic!("not invalid") };
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.position, Some(Position { line: 2, column: 13 }), "{problems}");
    assert!(problem.message.contains("not UTF-8"), "{problems}");
}

/// The examples with pieces removed, doubled or replaced.
fn mutated_example() -> impl Strategy<Value = (String, Format)> {
    let names = [
        ("policies.yaml", Format::Yaml),
        ("policies.json", Format::Json),
        ("policies.toml", Format::Toml),
    ];
    let texts =
        names.map(|(name, format)| (std::fs::read_to_string(example(name)).unwrap(), format));
    let edit = (
        any::<prop::sample::Index>(),
        0_usize..40,
        "[-\\[\\]{}:,=\"'\n 0-9a-e.é]{0,4}|limit|null|id: default",
    );
    (prop::sample::select(texts.to_vec()), prop::collection::vec(edit, 1..6)).prop_map(
        |((text, format), edits)| {
            let mut chars: Vec<char> = text.chars().collect();
            for (start, length, instead) in edits {
                let start = start.index(chars.len().max(1)).min(chars.len());
                let end = (start + length).min(chars.len());
                chars.splice(start..end, instead.chars());
            }
            (chars.into_iter().collect(), format)
        },
    )
}

/// The window, beside `windowSeconds`, in every format.
#[test]
fn a_window_is_seconds_or_a_duration_with_units() {
    for (window, ns) in
        [("\"90s\"", 90_000_000_000), ("\"1h30m\"", 5_400_000_000_000), ("\"500ms\"", 500_000_000)]
    {
        for format in FORMATS {
            let text = one_policy(&[ID, SCOPE, LIMIT, ("window", window)], format);
            let policies = policy_file::parse("p", &text, format).unwrap();
            assert_eq!(policies[0].counting.window().unwrap().as_ns(), ns, "{text}");
            assert_eq!(policies[0].reach, Reach::OwnWindow);
        }
    }
    let cases = [
        ("60", "policies[0].window", "60 is a number"),
        ("\"60\"", "policies[0].window", "has no unit after 60"),
        ("\"1.5h\"", "policies[0].window", "is not in whole numbers"),
        ("\"367d\"", "policies[0].window", "is above 366d"),
        ("true", "policies[0].window", "true is a boolean"),
    ];
    for (window, path, says) in cases {
        for format in FORMATS {
            let text = one_policy(&[ID, SCOPE, LIMIT, ("window", window)], format);
            check_problem(&text, format, Some(6), path, says);
        }
    }
    for format in FORMATS {
        let text = one_policy(&[ID, SCOPE, LIMIT, WINDOW, ("window", "\"60s\"")], format);
        check_problem(
            &text,
            format,
            Some(7),
            "policies[0].window",
            "is given beside `windowSeconds`",
        );
        let text = one_policy(&[ID, SCOPE, LIMIT, ("window", "\"60s\""), WINDOW], format);
        check_problem(
            &text,
            format,
            Some(7),
            "policies[0].windowSeconds",
            "is given beside `window`",
        );
    }
    check_field(("windowSeconds", "\"90s\""), "policies[0].windowSeconds", "\"90s\" is a text");
}

#[test]
fn anchors_and_merges_work_in_x_fields_and_policies() {
    let text = "x-defaults: &per-user {scope: USER, window: 1h}\n\
                x-anything:\n  - [1, {<<: *per-user}]\n\
                policies:\n\
                  - &small {<<: *per-user, id: small, limit: 5}\n\
                  - {<<: *small, id: large, limit: 50, match: {tier: large}}\n";
    let policies = yaml(text).unwrap();
    let shown: Vec<_> =
        policies.iter().map(|policy| (policy.id.as_str(), policy.limit.unwrap().get())).collect();
    assert_eq!(shown, [("small", 5), ("large", 50)]);
    assert!(policies.iter().all(|policy| policy.per == Per::from_scope("USER").unwrap()));
    for (text, format) in [
        ("{\"x-a\": 1, \"policies\": []}", Format::Json),
        ("policies = []\n[x-a]\nb = 1\n", Format::Toml),
    ] {
        assert!(policy_file::parse("p", text, format).is_ok(), "{text}");
    }
    check_problem("x-a: 1\nx-a: 2\n", Format::Yaml, Some(2), "x-a", "given twice");
    check_problem("X-a: 1\n", Format::Yaml, Some(1), "X-a", "is not a field");
    // Below the top level nothing is ignored.
    check_field(("x-note", "\"a\""), "policies[0].x-note", "is not a field");
}

fn environment(name: &str) -> Option<std::ffi::OsString> {
    let known = [
        ("LIMIT", "25"),
        ("WORD", "abc"),
        ("NUMBER", "1234"),
        ("YES", "true"),
        ("CODE", "1\u{1b}[2J"),
    ];
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
}

#[test]
fn variables_of_the_environment_fill_numbers_and_texts_of_files() {
    let fields = [
        ("id", "\"of-${WORD}\""),
        SCOPE,
        ("limit", "\"${LIMIT}\""),
        ("windowSeconds", "\"${SECONDS:-60}\""),
        (
            "match",
            "{\"user\": \"${NUMBER}\", \"team\": \"$$x\", \"region\": {\"present\": \"${YES}\"}}",
        ),
        ("shares", "{\"batch\": \"0.${FIVE:-5}\"}"),
        ("enabled", "\"${YES}\""),
    ];
    for format in FORMATS {
        let text = one_policy(&fields, format);
        let policies = policy_file::parse_with(&environment, "p", &text, format).unwrap();
        let policy = &policies[0];
        assert_eq!((policy.id.as_str(), policy.limit), ("of-abc", Amount::new(25)), "{format:?}");
        assert_eq!(policy.counting.window().unwrap().as_ns(), 60_000_000_000);
        let conditions = [
            Condition::one_of(Attribute::User, &["1234"]),
            Condition::one_of(Attribute::parse("team").unwrap(), &["$x"]),
        ];
        assert!(conditions.iter().all(|one| policy.conditions.contains(one)), "{policy:?}");
        assert_eq!(policy.shares.of(PriorityClass::Batch).millionths(), 500_000);
        assert!(policy.enabled);
    }
    let plain =
        "policies:\n  - id: a\n    scope: USER\n    limit: ${LIMIT}\n    window: ${WINDOW:-1h}\n";
    assert!(policy_file::parse_with(&environment, "p", plain, Format::Yaml).is_ok());
}

#[test]
fn a_variable_that_does_not_fit_is_reported_at_its_value() {
    let cases = [
        ("limit", "\"${WORD}\"", "the value of \"${WORD}\" is a text"),
        ("limit", "\"${CODE}\"", "the value of \"${CODE}\" is a text"),
        ("limit", "\"-${LIMIT}\"", "the value of \"-${LIMIT}\" is negative"),
        ("limit", "\"${LIMIT}.5\"", "the value of \"${LIMIT}.5\" is not written as an integer"),
        ("limit", "\"${MISSING}\"", "the environment variable MISSING is not set"),
        ("limit", "\"$LIMIT\"", "followed by neither"),
        ("enabled", "\"${WORD}\"", "the value of \"${WORD}\" is a text"),
        ("id", "\"${MISSING}\"", "MISSING is not set"),
    ];
    for (field, value, says) in cases {
        for format in FORMATS {
            let fields = with((field, value));
            let text = one_policy(&fields, format);
            let problems =
                policy_file::parse_with(&environment, "p", &text, format).expect_err(&text);
            let problem = problems.iter().next().unwrap();
            assert_eq!(problem.path, format!("policies[0].{field}"), "{problem}");
            assert!(problem.message.contains(says), "{says:?} is not in {problem}");
            assert!(problem.position.is_some() && !problem.accepted.is_empty(), "{problem}");
        }
    }
    let private = "x-a: ${MISSING}\npolicies: []\n";
    assert!(policy_file::parse_with(&environment, "p", private, Format::Yaml).is_ok());
}

/// Every field in which a value of the environment can be wrong, in a file with the variable `SECRET` in it.
fn files_with_a_secret() -> Vec<String> {
    let fields = [
        "limit: ${SECRET}",
        "windowSeconds: ${SECRET}",
        "window: ${SECRET}",
        "burst: ${SECRET}",
        "ipv6Prefix: ${SECRET}",
        "id: ${SECRET}",
        "scope: ${SECRET}",
        "per: [user, '${SECRET}']",
        "unit: ${SECRET}",
        "mode: ${SECRET}",
        "algorithm: ${SECRET}",
        "calendar: ${SECRET}",
        "timeZone: ${SECRET}",
        "exempt: ${SECRET}",
        "enabled: ${SECRET}",
        "ignoreCase: x${SECRET}",
        "overrides: ['${SECRET}', '${SECRET}']",
        "shares: {batch: '${SECRET}'}",
        "match: {ip: '${SECRET}'}",
        "match: {user: 'a*${SECRET}'}",
        "match: {user: {present: '${SECRET}'}}",
        "match: ${SECRET}",
        "visibility: ${SECRET}",
        "onStoreError: ${SECRET}",
        "overLimit: ${SECRET}",
        "onExpire: ${SECRET}",
        "weights: ${SECRET}",
        "weights: {tokens: '${SECRET}'}",
        "reserve: ${SECRET}",
        "reserve: {tokens: '${SECRET}'}",
        "reserve: {tokens: {atMost: '${SECRET}'}}",
        "reserve: {tokens: {atMost: 5, quantile: '${SECRET}'}}",
    ];
    let valid = ["id: b", "scope: IP", "limit: 5", "window: 1m"];
    let file = |field: &str| {
        let name = field.split(':').next().unwrap();
        let twin = match name {
            "per" => "scope",
            "windowSeconds" | "calendar" => "window",
            _ => name,
        };
        let rest = valid.iter().filter(|one| !one.starts_with(&format!("{twin}:")));
        let fields: Vec<_> = rest.copied().chain([field]).collect();
        format!(
            "tenants: [{{id: acme, tier: '${{SECRET}}'}}, {{id: '${{SECRET}}'}}, {{id: '${{SECRET}}'}}]\npolicies:\n  - {{id: '${{SECRET}}', scope: USER, limit: 1, window: 1m}}\n  - {}\n",
            fields.join("\n    ")
        )
    };
    fields.into_iter().map(file).collect()
}

/// What the environment holds may be a secret: messages name the variable.
#[test]
fn no_problem_shows_the_value_of_a_variable() {
    let long = "canary".repeat(20);
    let values = [
        "canary",
        "7canary",
        "90s7canary",
        "31337.31337",
        "-31337",
        "3133731337313373133731337313373133731337313373133731337",
        "10.31.33.7/8",
        "canary\u{7}",
        "USER_MODELL",
        "enforced",
        &long,
    ];
    for text in files_with_a_secret() {
        for value in values {
            let environment = |name: &str| (name == "SECRET").then(|| value.into());
            let read = policy_file::parse_with(&environment, "p", &text, Format::Yaml);
            let shown = read.unwrap_err().to_string();
            for line in shown.lines() {
                // What is accepted is told whatever the value is.
                let says = line.split("; accepted: ").next().unwrap();
                let parts = ["anary", "3133", "31.3", "10.", "U+0007", "MODEL", "enforce"];
                assert!(!parts.iter().any(|part| says.contains(part)), "{value}: {line}\n{text}");
            }
            assert!(shown.contains("${SECRET}"), "{value}: {shown}\n{text}");
        }
    }
}

/// Asserts that `text` has exactly the problems and then the warnings that begin with these texts.
fn check_examined(text: &str, problems: &[&str], warnings: &[&str]) {
    let examined = policy_file::examine_with(&environment, "p", text, Format::Yaml);
    let found = examined.policies.err().map(|all| all.to_string()).unwrap_or_default();
    let found: Vec<_> = found.lines().map(str::to_owned).collect();
    let place = |position: Option<Position>| position.unwrap().line;
    let told = examined.warnings.iter().map(|CatalogWarning { id, problem, .. }| {
        format!("{} {}: {}", place(problem.position), id, problem.message)
    });
    let told: Vec<_> = told.collect();
    for (found, expected) in [(&found, problems), (&told, warnings)] {
        assert_eq!(found.len(), expected.len(), "{found:#?}\n{text}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{expected}: {found}\n{text}");
        }
    }
}

#[test]
fn errors_hide_neither_one_another_nor_the_warnings() {
    let text = "tiers: [{id: pro, priority: odd}]
tenants: [{id: acme, tier: gold}]
policies:
  - {id: a, scope: USER, limit: '${MISSING}', window: '${LOST}', match: {tier: pr0}}
  - {id: b, scope: USER, limit: -1, window: 1m, match: {tier: pr0}}
  - {id: c, scope: USER, limit: 1, window: 1m, match: {tier: pro}, unit: token}
  - {id: d, scope: MODEL, limit: 1, window: 1m, match: {tier: pr0}}
  - {id: e, per: ['${WORD}1', usre], limit: 1, window: 1m}
";
    check_examined(
        text,
        &[
            "p:1:29: tiers[0].priority: \"odd\" is not",
            "p:2:28: tenants[0].tier: there is no tier \"gold\"",
            "p:4:33: policies[0].limit: the environment variable MISSING is not set",
            "p:4:55: policies[0].window: the environment variable LOST is not set",
            "p:5:33: policies[1].limit: -1 is negative",
        ],
        &["6 c: \"token\" is a unit of your own", "7 d: \"pr0\" is no tier", "8 e: \"usre\" is an"],
    );
}

/// What refers to an id that is not known, or is compared with it, may be right.
#[test]
fn an_unset_id_is_one_problem() {
    let text = "tiers: [{id: '${MISSING}'}, {id: free}]
tenants: [{id: acme, tier: gold}]
policies:
  - {id: '${MISSING}', scope: USER, limit: 1, window: 1m}
  - {id: '${MISSING}', scope: USER, limit: 1, window: 1m, match: {tier: gold}}
  - {id: c, scope: USER, limit: 1, window: 1m, match: {tier: gold}, overrides: [a, '${LOST}']}
";
    let unset = ": the environment variable MISSING is not set";
    check_examined(
        text,
        &[
            &format!("p:1:14: tiers[0].id{unset}"),
            &format!("p:4:10: policies[0].id{unset}"),
            &format!("p:5:10: policies[1].id{unset}"),
            "p:6:84: policies[2].overrides[1]: the environment variable LOST is not set",
        ],
        &[],
    );
}

#[test]
fn an_id_that_looks_like_a_pattern_has_a_warning() {
    let text = "modelTiers: [{id: large}, {id: 'l*'}]
models: [{id: 'gpt-*', modelTier: large}, {id: gpt, modelTier: large}]
tiers: [{id: 'p*o'}]
tenants: [{id: '*', tier: 'p*o'}]
users: [{id: 'a*', tenantId: '*'}]
policies:
  - {id: 'all*', per: [model], limit: 1, window: 1m, match: {tenant: '*', model: 'gpt-*'}}
";
    let says = "has a `*`, which stands for itself here: only `match` in a policy takes patterns, so this is one";
    let expected = [
        format!("1 l*: {says} model tier with that id"),
        format!("2 gpt-*: {says} model with"),
        format!("3 p*o: {says} tier with"),
        format!("4 *: {says} tenant with"),
        format!("5 a*: {says} user with"),
    ];
    check_examined(text, &[], &expected.each_ref().map(String::as_str));
}

#[test]
fn a_warning_shows_no_value_of_a_variable() {
    let text = "tiers: [{id: pro}, {id: '${WORD}'}]
tenants: [{id: '${WORD}*'}]
policies:
  - {id: a, scope: USER, limit: 1, window: 1m, match: {tier: '${WORD}d', apiKey: ['${WORD}*', x]}}
  - {id: b, scope: USER, limit: 1, window: 1m, match: {tier: abd}}
  - {id: '${WORD}', scope: MODEL, limit: 1, window: 1m}
  - {id: d, scope: MODEL, limit: 1, window: 1m}
";
    check_examined(
        text,
        &[],
        &[
            "2 ${WORD}*: has a `*`",
            "4 a: the value of \"${WORD}d\" is no tier of the catalog",
            "4 a: the value of \"${WORD}*\" matches no API key",
            "5 b: \"abd\" is no tier of the catalog",
            "7 d: limits the same as \"${WORD}\", with",
        ],
    );
    let warnings = policy_file::examine_with(&environment, "p", text, Format::Yaml).warnings;
    assert!(warnings.iter().all(|one| !one.problem.to_string().contains("abc")), "{warnings:#?}");
}

/// Variables are replaced only in files of this machine, not in the body of a call.
#[test]
fn without_an_environment_nothing_is_replaced() {
    let text = "policies: [{id: \"${PATH}$$\", scope: USER, limit: 1, window: 1h}]\n";
    assert_eq!(yaml(text).unwrap()[0].id.as_str(), "${PATH}$$");
    check_field(("limit", "\"${LIMIT}\""), "policies[0].limit", "\"${LIMIT}\" is a text");
}

#[test]
fn a_file_gets_the_environment_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    // Cargo sets this one for every test.
    let text = "policies: [{id: \"${CARGO_PKG_NAME}\", scope: USER, limit: 1, window: 1h}]\n";
    std::fs::write(&path, text).unwrap();
    assert_eq!(policy_file::load(&path).unwrap().policies()[0].id.as_str(), "tollgate-catalog");
    std::fs::write(&path, "policies:\n  - id: ${TOLLGATE_TEST_NOT_SET}\n").unwrap();
    let problem = policy_file::load(&path).unwrap_err().to_string();
    assert!(problem.contains(":2:9: policies[0].id: the environment variable"), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_mutated_file_gives_policies_or_problems_and_never_panics((text, format) in mutated_example()) {
        match policy_file::parse("p", &text, format) {
            Ok(policies) => prop_assert!(PolicySet::new(policies).is_ok()),
            Err(problems) => {
                prop_assert!(problems.iter().count() > 0);
                prop_assert!(!problems.to_string().contains(|c: char| c.is_control() && c != '\n'));
            }
        }
    }
}

/// Ids that people might choose: separators, quotes, characters similar to control characters, and whatever YAML reads
/// as something else.
fn odd_id() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/ '\"\\\\#:{}\\[\\],&*!|>%@`~?-]{1,12}",
        "\\PC{1,12}",
        prop_oneof![Just("null"), Just("no"), Just("1.0"), Just("2001-01-01"), Just("\u{2028}")]
            .prop_map(str::to_owned),
    ]
}

proptest! {
    /// What is exported is read back unchanged, through JSON and through YAML.
    #[test]
    fn records_read_back_as_they_were_written(
        policies in tollgate_testkit::generate::policies(1..=5),
        names in proptest::collection::vec((odd_id(), odd_id()), 1..5),
        conditions in proptest::collection::vec((odd_id(), odd_id()), 0..3),
    ) {
        let mut records = Records { policies, ..Records::default() };
        let mut seen = std::collections::HashSet::new();
        for (id, name) in names.into_iter().filter(|(id, _)| seen.insert(id.clone())) {
            let id = Id::new(&id).unwrap();
            records.tenants.push(Tenant { id: id.clone(), name: name.clone(), tier: None });
            records.users.push(User { id: id.clone(), tenant_id: id, name, tier: None });
        }
        let mut attributes = std::collections::HashSet::new();
        for (name, value) in conditions {
            let attribute = tollgate_core::Attribute::parse(&format!("x-{name}")).unwrap();
            if attributes.insert(attribute.clone()) && let Some(policy) = records.policies.first_mut() {
                policy.conditions.push(Condition::one_of(attribute, &[&value]));
            }
        }
        for policy in &mut records.policies {
            // Without a window of its own, it gets the default one. Concurrency has none to write.
            let is_narrow = policy.counting != Counting::Concurrency
                || policy.limit.is_some_and(|limit| limit != Amount::ZERO);
            policy.reach = if is_narrow { Reach::OwnWindow } else { Reach::EveryWindow };
            // What nothing can match is refused.
            let per = policy.per.attributes();
            policy.conditions.retain(|one| {
                one.accepted != Accepted::Absent || !per.contains(&one.attribute)
            });
        }
        let document = records.clone().into_document();
        let texts = [
            (Format::Json, document::to_json(&document)),
            (Format::Yaml, document::to_json(&document)),
            (Format::Yaml, document::to_yaml(&document)),
        ];
        for (format, text) in texts {
            let read = document::read(&text, format);
            prop_assert!(read.is_ok(), "{read:?}\n{text}");
            let again = validate::records("again", read.unwrap().as_ref(), Scope::Document);
            prop_assert_eq!(again.as_ref(), Ok(&records), "{}", text);
        }
    }
}
