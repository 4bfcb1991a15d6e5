//! The policies of a tree of descriptors apply exactly where the lookup of envoyproxy/ratelimit finds its limits.

#![cfg(test)]

use proptest::prelude::*;
use tollgate_catalog::{Format, validate};
use tollgate_core::{Check, PolicySet, Subject};
use tollgate_import::{Source, import};

/// A descriptor of the configuration: its value ends in an asterisk for a prefix, and is empty for any.
#[derive(Clone, Debug)]
struct Node {
    key: usize,
    value: String,
    limit: Option<u64>,
    unit: &'static str,
    shadow: bool,
    below: Vec<Node>,
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// The lookup, written as the documentation describes it.
fn lookup(nodes: &[Node], entries: &[(usize, &str)]) -> Option<u64> {
    let [(key, value), rest @ ..] = entries else { return None };
    let of_key = || nodes.iter().filter(|node| node.key == *key);
    let exact = of_key().find(|node| !node.value.ends_with('*') && node.value == *value);
    let prefix = || {
        of_key().find(|node| {
            node.value.strip_suffix('*').is_some_and(|prefix| value.starts_with(prefix))
        })
    };
    let any = || of_key().find(|node| node.value.is_empty());
    let node = exact.or_else(prefix).or_else(any)?;
    if rest.is_empty() { node.limit } else { lookup(&node.below, rest) }
}

/// Gives each node an amount of its own, removes the second of two with the same key and value, and keeps the keys of a
/// path in one order.
fn tidy(nodes: Vec<Node>, from_key: usize, next: &mut u64) -> Vec<Node> {
    let mut seen = std::collections::HashSet::new();
    let fits = |node: &Node| node.key >= from_key && seen.insert((node.key, node.value.clone()));
    let kept: Vec<_> = nodes.into_iter().filter(fits).collect();
    kept.into_iter()
        .map(|node| {
            *next += 1;
            let limit = node.limit.map(|_| *next);
            let below = tidy(node.below, node.key + 1, next);
            Node { limit, below, ..node }
        })
        .collect()
}

fn yaml(nodes: &[Node]) -> String {
    let items = nodes.iter().map(|node| {
        let limit = node.limit.map_or(String::new(), |limit| {
            format!(", rate_limit: {{unit: {}, requests_per_unit: {limit}}}", node.unit)
        });
        let (key, value, shadow) = (KEYS[node.key], &node.value, node.shadow);
        let below = yaml(&node.below);
        format!(
            "{{key: {key}, value: '{value}'{limit}, shadow_mode: {shadow}, descriptors: {below}}}"
        )
    });
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn nodes(depth: u32) -> BoxedStrategy<Vec<Node>> {
    let below = if depth == 0 { Just(Vec::new()).boxed() } else { nodes(depth - 1) };
    let node = (
        0..KEYS.len(),
        prop_oneof![Just(""), Just("x"), Just("xy"), Just("x*"), Just("xy*"), Just("*")],
        proptest::option::of(Just(0_u64)),
        prop_oneof![Just("minute"), Just("hour")],
        prop::bool::weighted(0.2),
        below,
    );
    let node = node.prop_map(|(key, value, limit, unit, shadow, below)| Node {
        key,
        value: value.to_owned(),
        limit,
        unit,
        shadow,
        below,
    });
    proptest::collection::vec(node, 0..5).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn policies_apply_where_the_lookup_finds_a_limit(nodes in nodes(2)) {
        let nodes = tidy(nodes, 0, &mut 0);
        let text = format!("{{domain: d, descriptors: {}}}", yaml(&nodes));
        let imported = import(Source::EnvoyRatelimit, &text, Format::Yaml).unwrap();
        let policies = validate::policies("p", Some(&imported.document())).unwrap();
        if policies.is_empty() {
            return Ok(());
        }
        let set = PolicySet::new(policies).unwrap();
        let values = ["x", "xy", "xyz", "q"];
        // Every descriptor of up to three entries with the keys in order.
        for keys in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]] {
            for choice in 0..values.len().pow(u32::try_from(keys.len()).unwrap()) {
                let entries: Vec<(usize, &str)> = keys
                    .iter()
                    .enumerate()
                    .map(|(place, key)| {
                        let place = u32::try_from(place).unwrap();
                        (*key, values[choice / values.len().pow(place) % values.len()])
                    })
                    .collect();
                let mut subject = Subject::empty();
                subject.set_named("domain", "d");
                for (key, value) in &entries {
                    subject.set_named(KEYS[*key], value);
                }
                let check = Check::of(subject);
                let met: Vec<u64> =
                    set.plan(&check).iter().map(|charge| charge.limit.amount().get()).collect();
                // Descriptors of which no key is in the file meet the limits of the keys that are.
                let is_in_file = has_path(&nodes, keys);
                if is_in_file || lookup(&nodes, &entries).is_some() {
                    let expected: Vec<u64> = lookup(&nodes, &entries).into_iter().collect();
                    prop_assert_eq!(met, expected, "{:?}\n{}\n{}", entries, text, imported.to_yaml());
                }
            }
        }
    }
}

/// Whether some path of the file has these keys.
fn has_path(nodes: &[Node], keys: &[usize]) -> bool {
    let Some((first, rest)) = keys.split_first() else { return true };
    nodes.iter().any(|node| node.key == *first && has_path(&node.below, rest))
}
