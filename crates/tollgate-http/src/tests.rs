//! Fields are parsed with an independent parser of structured fields.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sfv::{BareItem, Item, List, ListEntry, Parser};
use tollgate_core::counting::{Verdict, Wait};
use tollgate_core::{
    Amount, Calendar, Charge, Counting, Limit, Per, Policy, PolicyId, Subject, Unit, Window, Zone,
};

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn policy(id: &str, limit: u64, window: Duration) -> Policy {
    let per = Per::from_scope("USER_MODEL").unwrap();
    Policy::new(PolicyId::new(id).unwrap(), per, Amount::new(limit), Window::new(window).unwrap())
}

fn admitted(usage: u64, reset_after_ns: u64) -> Verdict {
    Verdict::new(true, usage, Wait::None, reset_after_ns)
}

fn refused(usage: u64, wait: Wait, reset_after_ns: u64) -> Verdict {
    Verdict::new(false, usage, wait, reset_after_ns)
}

fn decide(limits: &[(Policy, Verdict)]) -> Decision {
    let subject = Subject::new("secret-user", "secret-model");
    let compiled: Vec<_> =
        limits.iter().map(|(policy, _)| Arc::new(Limit::of(policy).unwrap())).collect();
    let charges: Vec<_> = compiled
        .iter()
        .map(|limit| Charge { limit, subject: &subject, cost: Amount::ONE })
        .collect();
    let verdicts: Vec<_> = limits.iter().map(|(_, verdict)| *verdict).collect();
    Decision::assemble(&charges, &verdicts)
}

fn fields(decision: &Decision) -> [Option<String>; 3] {
    let mut headers = HeaderMap::new();
    apply(decision, &mut headers);
    [RATELIMIT_POLICY, RATELIMIT, RETRY_AFTER]
        .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
}

fn check(limits: &[(Policy, Verdict)], expected: [Option<&str>; 3]) {
    let fields = fields(&decide(limits));
    assert_eq!(fields.each_ref().map(Option::as_deref), expected);
}

#[test]
fn private_limits_are_not_named_and_still_set_the_wait() {
    let private = |id, limit| Policy {
        visibility: Visibility::Private,
        ..policy(id, limit, Duration::from_mins(1))
    };
    let public = policy("mine", 10, Duration::from_mins(1));
    check(
        &[
            (private("ceiling", 9), admitted(9, SECOND_NS)),
            (public.clone(), admitted(1, SECOND_NS)),
        ],
        [Some("\"mine\";q=10;w=60"), Some("\"mine\";r=9;t=1"), None],
    );
    let wait = Wait::Ns(5 * SECOND_NS);
    check(
        &[(private("ceiling", 9), refused(9, wait, SECOND_NS)), (public, admitted(1, SECOND_NS))],
        [Some("\"mine\";q=10;w=60"), Some("\"mine\";r=9"), Some("5")],
    );
    check(&[(private("ceiling", 9), admitted(1, SECOND_NS))], [None, None, None]);
    check(&[(private("ceiling", 9), refused(9, wait, SECOND_NS))], [None, None, Some("5")]);
}

fn items(field: &str) -> Vec<Item> {
    let list: List = Parser::new(field).parse().unwrap();
    list.into_iter()
        .map(|entry| match entry {
            ListEntry::Item(item) => item,
            ListEntry::InnerList(_) => panic!("an inner list in {field}"),
        })
        .collect()
}

fn name(item: &Item) -> &str {
    match &item.bare_item {
        BareItem::String(name) => name.as_str(),
        other => panic!("not a string: {other:?}"),
    }
}

fn integer(item: &Item, parameter: &str) -> Option<i64> {
    item.params.iter().find(|(key, _)| key.as_str() == parameter).map(|(_, value)| match value {
        BareItem::Integer(value) => i64::from(*value),
        other => panic!("not an integer: {other:?}"),
    })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
        decoded.push(if byte == b'%' {
            u8::try_from(digit() * 16 + digit()).unwrap()
        } else {
            byte
        });
    }
    String::from_utf8(decoded).unwrap()
}

#[test]
fn an_admission_tells_the_limit_what_is_left_and_until_when() {
    let hour = Duration::from_hours(1);
    check(
        &[(policy("default", 100, hour), admitted(1, 3_600 * SECOND_NS))],
        [Some(r#""default";q=100;w=3600"#), Some(r#""default";r=99;t=3600"#), None],
    );
}

/// A log keeps time in ticks (R7): an hour and a tick is shown as an hour. A counter may take two windows.
#[test]
fn a_reset_is_no_later_than_an_admission_lives() {
    let hour = Duration::from_hours(1);
    let window = Window::new(hour).unwrap();
    let (log, counter) = (Counting::Log { window }, Counting::Counter { window });
    let cases = [
        (log, 3_600 * SECOND_NS + 9_999, 3_600),
        (log, 3_599 * SECOND_NS, 3_599),
        (counter, 7_199 * SECOND_NS, 7_199),
    ];
    for (counting, reset_after_ns, seconds) in cases {
        let policy = Policy { counting, ..policy("p", 2, hour) };
        let expected = format!(r#""p";r=1;t={seconds}"#);
        check(
            &[(policy, admitted(1, reset_after_ns))],
            [Some(r#""p";q=2;w=3600"#), Some(&expected), None],
        );
    }
}

/// R18: the window is the current period, here a day on which clocks are set back.
#[test]
fn a_calendar_has_the_length_of_its_period() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let counting = Counting::Calendar { calendar: Calendar::Day, zone };
    let policy = Policy { counting, ..policy("p", 2, Duration::from_hours(1)) };
    for (period_s, window_s) in [(NonZeroU32::new(90_000), 90_000), (None, 86_400)] {
        let verdict = Verdict { period_s, ..admitted(1, 75_600 * SECOND_NS) };
        let expected = format!(r#""p";q=2;w={window_s}"#);
        check(&[(policy.clone(), verdict)], [Some(&expected), Some(r#""p";r=1;t=75600"#), None]);
    }
}

#[test]
fn a_denial_tells_how_long_to_wait_in_whole_seconds_of_at_least_1() {
    for (wait_ns, seconds) in [(1, 1), (SECOND_NS, 1), (SECOND_NS + 1, 2), (59 * SECOND_NS, 59)] {
        check(
            &[(
                policy("p", 5, Duration::from_mins(1)),
                refused(5, Wait::Ns(wait_ns), 60 * SECOND_NS),
            )],
            [
                Some(r#""p";q=5;w=60"#),
                Some(&format!(r#""p";r=0;t={seconds}"#)),
                Some(&seconds.to_string()),
            ],
        );
    }
}

/// R6: a cost above the limit never fits, so there is no wait.
#[test]
fn a_denial_that_waiting_does_not_help_has_no_retry_after() {
    let hour = Duration::from_hours(1);
    let ban = (policy("ban", 0, hour), refused(0, Wait::Never, 0));
    let full = (policy("full", 5, hour), refused(5, Wait::Ns(SECOND_NS), SECOND_NS));
    check(
        &[full, ban],
        [
            Some(r#""ban";q=0;w=3600, "full";q=5;w=3600"#),
            Some(r#""ban";r=0, "full";r=0;t=1"#),
            None,
        ],
    );
}

#[test]
fn an_old_retry_after_does_not_survive_an_admission() {
    let decision = decide(&[(policy("p", 5, Duration::from_mins(1)), admitted(1, SECOND_NS))]);
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("9"));
    apply(&decision, &mut headers);
    assert_eq!(headers.get(RETRY_AFTER), None);
}

/// The draft: `Retry-After` should not be earlier than a `t`.
#[test]
fn the_headline_comes_first_and_no_reset_is_later_than_retry_after() {
    let hour = Duration::from_hours(1);
    check(
        &[
            (policy("a", 9, hour), admitted(1, 3_600 * SECOND_NS)),
            (policy("b", 5, hour), refused(5, Wait::Ns(10 * SECOND_NS), 3_600 * SECOND_NS)),
            (policy("c", 5, hour), refused(5, Wait::Ns(20 * SECOND_NS), 3_600 * SECOND_NS)),
        ],
        [
            Some(r#""c";q=5;w=3600, "a";q=9;w=3600, "b";q=5;w=3600"#),
            Some(r#""c";r=0;t=20, "a";r=8, "b";r=0;t=10"#),
            Some("20"),
        ],
    );
}

#[test]
fn other_units_are_named_and_windows_below_a_second_are_1() {
    let mut tokens = policy("tpm", 150_000, Duration::from_millis(1));
    tokens.unit = Unit::Tokens;
    check(
        &[(tokens, admitted(1_200, 1))],
        [Some(r#""tpm";q=150000;qu="tokens";w=1"#), Some(r#""tpm";r=148800;t=1"#), None],
    );
}

/// R10.
#[test]
fn shadow_limits_are_left_out() {
    let hour = Duration::from_hours(1);
    let mut shadow = policy("shadow", 1, hour);
    shadow.mode = Mode::Shadow;
    let shadow = (shadow, refused(1, Wait::Ns(SECOND_NS), SECOND_NS));
    check(std::slice::from_ref(&shadow), [None, None, None]);
    check(
        &[shadow, (policy("real", 2, hour), admitted(1, SECOND_NS))],
        [Some(r#""real";q=2;w=3600"#), Some(r#""real";r=1;t=1"#), None],
    );
}

#[test]
fn no_limit_at_all_leaves_no_field() {
    check(&[], [None, None, None]);
}

#[test]
fn ids_are_quoted_escaped_and_percent_encoded() {
    for (id, encoded) in [
        ("two words", "two words"),
        (r#"a"b\c"#, r#"a\"b\\c"#),
        ("100%", "100%25"),
        ("naïve", "na%C3%AFve"),
    ] {
        check(
            &[(policy(id, 1, Duration::from_secs(1)), admitted(1, SECOND_NS))],
            [
                Some(&format!(r#""{encoded}";q=1;w=1"#)),
                Some(&format!(r#""{encoded}";r=0;t=1"#)),
                None,
            ],
        );
    }
}

#[test]
fn lists_are_bounded_and_keep_the_headline() {
    let hour = Duration::from_hours(1);
    for (id_bytes, most_items) in [(6, MAX_ITEMS), (256, 1)] {
        let many: Vec<_> = (0..50_u64)
            .map(|n| {
                let id = format!("é{n:02}{}", "é".repeat((id_bytes - 4) / 2));
                (policy(&id, 100, hour), admitted(n, SECOND_NS))
            })
            .collect();
        let [policy_field, limit_field, _] = fields(&decide(&many));
        for field in [policy_field.unwrap(), limit_field.unwrap()] {
            assert!(field.len() <= MAX_FIELD_BYTES);
            let items = items(&field);
            assert_eq!(items.len(), most_items);
            assert!(name(&items[0]).starts_with("%C3%A949"), "the smallest share left: {field}");
        }
    }
}

#[test]
fn an_item_of_the_greatest_size_fits() {
    let mut longest = policy(&"é".repeat(128), Amount::MAX.get(), Window::MAX);
    longest.unit = Unit::parse(&"u".repeat(Unit::MAX_NAME_BYTES)).unwrap();
    let [policy_field, limit_field, _] = fields(&decide(&[(longest, admitted(0, u64::MAX))]));
    let (policy_field, limit_field) = (policy_field.unwrap(), limit_field.unwrap());
    assert_eq!(integer(&items(&policy_field)[0], "q"), Some(MAX_INTEGER.cast_signed()));
    assert_eq!(integer(&items(&limit_field)[0], "r"), Some(MAX_INTEGER.cast_signed()));
    assert!(policy_field.len().max(limit_field.len()) <= item::MAX_BYTES);
}

proptest! {
    /// Whatever the id, both fields can be parsed, name the policy reversibly, and contain nothing of the subject.
    #[test]
    fn fields_read_back(
        ids in prop::collection::hash_set("[^\\p{Cc}]{1,40}", 1..6),
        limit in 1..=Amount::MAX.get(), usage in 0..=Amount::MAX.get(),
        window_ms in 1..=31_622_400_000_u64, wait_ns in 1..=u64::MAX, allowed: bool,
    ) {
        let verdict = if allowed {
            admitted(usage, wait_ns)
        } else {
            refused(usage, Wait::Ns(wait_ns), wait_ns)
        };
        let limits: Vec<_> = ids
            .iter()
            .map(|id| (policy(id, limit, Duration::from_millis(window_ms)), verdict))
            .collect();
        let [policies, service_limits, retry_after] = fields(&decide(&limits));
        let (policies, service_limits) = (policies.unwrap(), service_limits.unwrap());
        prop_assert!(!policies.contains("secret") && !service_limits.contains("secret"));
        let (policies, service_limits) = (items(&policies), items(&service_limits));
        prop_assert_eq!(policies.len(), service_limits.len());
        let wait_s = wait_ns.div_ceil(SECOND_NS).cast_signed();
        let window_s = window_ms.div_ceil(1_000).cast_signed();
        let t = if allowed { wait_s.min(window_s) } else { wait_s };
        for (policy, service_limit) in policies.iter().zip(&service_limits) {
            prop_assert!(ids.contains(&percent_decoded(name(policy))));
            prop_assert_eq!(name(policy), name(service_limit));
            let as_written = |value: u64| Some(value.min(MAX_INTEGER).cast_signed());
            prop_assert_eq!(integer(policy, "q"), as_written(limit));
            prop_assert_eq!(integer(policy, "w"), Some(window_s));
            prop_assert_eq!(integer(service_limit, "r"), as_written(limit.saturating_sub(usage)));
            prop_assert_eq!(integer(service_limit, "t"), Some(t));
        }
        let retry_after = retry_after.map(|value| value.parse::<i64>().unwrap());
        prop_assert_eq!(retry_after, (!allowed).then_some(wait_s));
    }
}
