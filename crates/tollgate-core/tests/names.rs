//! The words that policies, answers and metrics are written in. They are read by programs: each stays as it is.

use tollgate_core::{
    Amount, Attribute, Calendar, Counting, FailureMode, Mode, Policy, PriorityClass, Reason, Zone,
};

#[test]
fn reasons_are_called_as_in_answers() {
    let limits = Reason::OF_LIMITS.map(Reason::name);
    assert_eq!(limits, ["limit_exceeded", "cost_exceeds_limit", "banned", "store_unavailable"]);
    let api_keys = Reason::OF_API_KEYS.map(Reason::name);
    assert_eq!(api_keys, ["api_key_revoked", "api_key_expired", "api_key_unknown"]);
}

#[test]
fn what_a_policy_says_is_read_by_its_own_name() {
    let window = Policy::default_policy().counting.window().unwrap();
    let bucket = Counting::Bucket { window, refill: Amount::ONE };
    let ways = [Counting::Log { window }, Counting::Counter { window }, bucket];
    let names = ["sliding_window_log", "sliding_window_counter", "token_bucket"];
    assert_eq!(ways.map(Counting::name), names);
    assert_eq!(ways.map(Counting::name), Counting::NAMES);
    let (calendar, zone) = (Calendar::Day, Zone::utc());
    assert_eq!(Counting::Calendar { calendar, zone }.name(), "calendar");
    assert_eq!(Calendar::ALL.map(Calendar::name), ["hour", "day", "week", "month"]);
    for calendar in Calendar::ALL {
        assert_eq!(Calendar::parse(calendar.name()), Some(calendar));
        assert!(Calendar::ACCEPTED.contains(calendar.name()));
    }
    assert_eq!(Calendar::parse("Day"), None);
    assert_eq!([Mode::Enforce, Mode::Shadow].map(Mode::name), ["enforce", "shadow"]);
    for mode in [Mode::Enforce, Mode::Shadow] {
        assert_eq!(Mode::parse(mode.name()), Some(mode));
    }
    assert_eq!(FailureMode::ALL.map(FailureMode::name), ["allow", "deny", "local"]);
    for mode in FailureMode::ALL {
        assert_eq!(FailureMode::parse(mode.name()), Some(mode));
    }
    let classes = ["batch", "standard", "premium", "internal"];
    assert_eq!(PriorityClass::ALL.map(PriorityClass::name), classes);
    for class in PriorityClass::ALL {
        assert_eq!(PriorityClass::parse(class.name()), Some(class));
    }
    let nonsense = "nonsense";
    assert_eq!(Mode::parse(nonsense), None);
    assert_eq!(FailureMode::parse(nonsense), None);
    assert_eq!(PriorityClass::parse(nonsense), None);
}

#[test]
fn attributes_are_called_as_in_policies() {
    let names = ["tenant", "user", "apiKey", "model", "modelTier", "service", "ip", "tier"];
    for name in names {
        let attribute = Attribute::parse(name).unwrap();
        assert!(!matches!(attribute, Attribute::Custom(_)), "{name} is built in");
        assert_eq!((attribute.name(), attribute.to_string().as_str()), (name, name));
    }
    assert_eq!(Attribute::parse("region").as_ref().map(Attribute::name), Some("region"));
    assert_eq!(Attribute::parse(""), None);
}
