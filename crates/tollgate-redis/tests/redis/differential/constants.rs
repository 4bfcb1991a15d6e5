//! The operations cross every constant of the scripts, from both sides.

use std::collections::BTreeMap;

/// The files of the scripts.
const LUA: [&str; 21] = [
    include_str!("../../../lua/layout.lua"),
    include_str!("../../../lua/hash.lua"),
    include_str!("../../../lua/long.lua"),
    include_str!("../../../lua/request.lua"),
    include_str!("../../../lua/tally.lua"),
    include_str!("../../../lua/counter.lua"),
    include_str!("../../../lua/bucket.lua"),
    include_str!("../../../lua/calendar.lua"),
    include_str!("../../../lua/decide.lua"),
    include_str!("../../../lua/charge.lua"),
    include_str!("../../../lua/change_tally.lua"),
    include_str!("../../../lua/change_log.lua"),
    include_str!("../../../lua/change_rare.lua"),
    include_str!("../../../lua/change.lua"),
    include_str!("../../../lua/settle.lua"),
    include_str!("../../../lua/reset.lua"),
    include_str!("../../../lua/slots.lua"),
    include_str!("../../../lua/refund.lua"),
    include_str!("../../../lua/refund_first.lua"),
    include_str!("../../../lua/reserve.lua"),
    include_str!("../../../lua/update_lease.lua"),
];

/// Constants at which the scripts change their behaviour: below the value, and from the value on.
pub(super) const THRESHOLDS: [(&str, u64); 8] = [
    ("BLOCK", 64),
    ("FANOUT", 32),
    ("MOST_IN_STRING", 192),
    ("MOST_AFTER_BASE", 1 << 47),
    ("MOST_DELETED", 16),
    ("MOST_TOTAL", (1 << 53) - 1),
    ("MOST_WINDOWS", 4_194_304),
    ("MOST_FREED", 64),
];

/// Constants that decide nothing: meanings of bytes, and their number.
const LAYOUT: [&str; 23] = [
    "UNIT",
    "WEIGHTED",
    "COUNTER",
    "BUCKET",
    "CALENDAR",
    "STATE_BYTES",
    "RECORD_BYTES",
    "TERMS_BYTES",
    "READ_AHEAD",
    "HASH_OUTLIVES_MS",
    "LEASE_TAG",
    "LEASE_BYTES",
    "PART_BYTES",
    "CHANGE_BYTES",
    "HOLD_BYTES",
    "NAMED_BYTES",
    "DIGEST_LETTERS",
    "RELEASED",
    "LOOK",
    "EXTEND",
    "END",
    "SET_BACK",
    "FORGET",
];

/// The sides of each constant on which operations have been.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossed(BTreeMap<&'static str, (u64, u64)>);

impl Crossed {
    /// Notes that `value` was compared with the constant `name`.
    pub(super) fn note(&mut self, name: &'static str, value: u64) {
        let known = THRESHOLDS.iter().find(|(known, _)| *known == name).unwrap();
        let sides = self.0.entry(name).or_default();
        if value < known.1 {
            sides.0 += 1;
        } else {
            sides.1 += 1;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, (below, above)) in &other.0 {
            let sides = self.0.entry(name).or_default();
            *sides = (sides.0 + below, sides.1 + above);
        }
    }

    pub(super) fn assert_all(&self) {
        for (name, value) in THRESHOLDS {
            let (below, above) = self.0.get(name).copied().unwrap_or_default();
            assert!(below > 0 && above > 0, "{name} ({value}): {below} below, {above} above");
        }
    }
}

/// The constants that the scripts define: `local NAME, NAME = 1, 2`.
fn defined() -> Vec<(String, u64)> {
    let lines = LUA.iter().flat_map(|text| text.lines());
    let definitions =
        lines.filter_map(|line| line.trim().strip_prefix("local ")?.split_once(" = "));
    let pairs = definitions.flat_map(|(names, values)| {
        let values: Vec<_> = values.split(", ").collect();
        names
            .split(", ")
            .zip(values)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<Vec<_>>()
    });
    let is_constant = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    pairs
        .filter(|(name, _)| is_constant(name))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect()
}

/// A new constant needs operations on both sides of it.
#[test]
fn every_constant_of_the_scripts_is_known_to_the_operations() {
    let defined = defined();
    assert!(defined.len() >= THRESHOLDS.len() + LAYOUT.len(), "{defined:?}");
    for (name, value) in &defined {
        let threshold = THRESHOLDS.iter().find(|(known, _)| known == name);
        match threshold {
            Some((_, known)) => assert_eq!(known, value, "{name}"),
            None => {
                assert!(LAYOUT.contains(&name.as_str()), "{name} = {value} is crossed by nothing");
            }
        }
    }
    for (name, _) in THRESHOLDS {
        assert!(
            defined.iter().any(|(known, _)| known == name),
            "{name} is no constant of the scripts"
        );
    }
}
