//! Makes policies of descriptors override each other as the lookup of envoyproxy/ratelimit does.
//!
//! The lookup takes the more precise node at each level and never goes back. So of two nodes with the same keys, the one
//! that is more precise at the first level where they differ wins; and a more precise node that lacks the next key hides
//! what a less precise one has below it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use tollgate_catalog::Position;

use crate::attributes::{beginning, exactly};
use crate::envoy::{DOMAIN, Named};
use crate::rule::{Limit, Rule, Rules, Test};

/// The most conditions of a policy; the validator has the same bound.
const MAX_CONDITIONS: usize = 16;

/// One entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Level {
    /// The key in the document.
    pub(crate) key: String,
    /// The attribute that it becomes.
    pub(crate) attribute: String,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    Any,
    Prefix(String),
    Exact(String),
}

impl Level {
    /// Whether this one, if it comes first, matches every value of `later`, also one with an asterisk.
    pub(crate) fn hides(&self, later: &Self) -> bool {
        match (&self.value, &later.value) {
            (Value::Prefix(one), Value::Prefix(other)) => {
                self.key == later.key && other.starts_with(one.as_str())
            }
            _ => false,
        }
    }

    /// How soon the lookup takes it; only for those that can match the same value.
    fn precision(&self) -> usize {
        match &self.value {
            Value::Any => 0,
            Value::Prefix(prefix) => 1 + prefix.len(),
            Value::Exact(_) => usize::MAX,
        }
    }

    /// Whether some value is matched by both.
    fn meets(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Any, _) | (_, Value::Any) => true,
            (Value::Exact(one), Value::Exact(other)) => one == other,
            (Value::Exact(exact), Value::Prefix(prefix))
            | (Value::Prefix(prefix), Value::Exact(exact)) => exact.starts_with(prefix.as_str()),
            (Value::Prefix(one), Value::Prefix(other)) => {
                one.starts_with(other.as_str()) || other.starts_with(one.as_str())
            }
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Any => f.write_str(&self.key),
            // An id is seen by callers and in metrics.
            _ if self.attribute == "apiKey" => write!(f, "{}=…", self.key),
            Value::Prefix(prefix) => write!(f, "{}={prefix}*", self.key),
            Value::Exact(exact) => write!(f, "{}={exact}", self.key),
        }
    }
}

/// A descriptor, as the path to it.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) levels: Vec<Level>,
    /// `None` if it has none.
    pub(crate) limit: Option<Limit>,
    pub(crate) shadow: bool,
    pub(crate) position: Option<Position>,
}

impl Leaf {
    fn keys(&self) -> Keys {
        self.levels.iter().map(|level| level.key.clone()).collect()
    }

    fn is_exact(&self) -> bool {
        self.levels.iter().all(|level| matches!(level.value, Value::Exact(_)))
    }

    /// Whether the lookup takes this one rather than `other`, which has the same keys, for some descriptor.
    fn wins_over(&self, other: &Self) -> bool {
        let both = || self.levels.iter().zip(&other.levels);
        both().all(|(one, other)| one.meets(other))
            && both()
                .find(|(one, other)| one.precision() != other.precision())
                .is_some_and(|(one, other)| one.precision() > other.precision())
    }

    /// Whether a policy of this one overrides that of `other`, over which it wins, without naming it: it has the same
    /// `per`, and each of its conditions is at least as precise.
    fn is_everywhere_as_precise(&self, other: &Self) -> bool {
        self.levels
            .iter()
            .zip(&other.levels)
            .all(|(one, other)| one.precision() >= other.precision())
    }

    fn shares_window(&self, other: &Self) -> bool {
        match (&self.limit, &other.limit) {
            (
                Some(Limit::Of { window_seconds: one, .. }),
                Some(Limit::Of { window_seconds: other, .. }),
            ) => one == other,
            // An exemption gives no window, so it is for limits of every one, and limits nothing if it is not overridden.
            _ => true,
        }
    }
}

type Keys = Vec<String>;

/// Adds the rules of `nodes`, all descriptors of `domain` that the lookup can take, to `rules`. The others have the
/// attributes `unreachable`.
pub(crate) fn add(
    domain: &str,
    nodes: Vec<Leaf>,
    unreachable: BTreeSet<BTreeSet<String>>,
    names: &[Named],
    rules: &mut Rules,
) {
    let mut leaves = usable(nodes, rules);
    let limited: BTreeSet<Keys> =
        leaves.iter().flatten().filter(|leaf| leaf.limit.is_some()).map(Leaf::keys).collect();
    let hidden = hidden(&leaves, &limited);
    leaves.extend(hidden.into_iter().map(Some));
    let known: Vec<(usize, Leaf)> =
        leaves.into_iter().enumerate().filter_map(|(index, leaf)| Some((index, leaf?))).collect();
    let key_sets: BTreeSet<BTreeSet<String>> = known
        .iter()
        .map(|(_, leaf)| leaf.levels.iter().map(|level| level.attribute.clone()).collect())
        .chain(unreachable)
        .collect();
    let mut groups: BTreeMap<Keys, Vec<(usize, Leaf)>> = BTreeMap::new();
    for (index, leaf) in known {
        groups.entry(leaf.keys()).or_default().push((index, leaf));
    }
    let mut ids = HashMap::new();
    let mut made = Vec::new();
    for (keys, group) in groups {
        if limited.contains(&keys) {
            made.extend(group_rules(domain, &group, &key_sets, rules, &mut ids));
        }
    }
    replace(names, &ids, &mut made, rules);
    made.sort_by_key(|rule| rule.position);
    for rule in made {
        rules.add(rule);
    }
}

/// `nodes` without those whose paths cannot be a check: it has each attribute once, in no order.
fn usable(nodes: Vec<Leaf>, rules: &mut Rules) -> Vec<Option<Leaf>> {
    let mut orders: HashMap<BTreeSet<String>, Keys> = HashMap::new();
    let check = |leaf: Leaf| {
        let attributes: BTreeSet<String> =
            leaf.levels.iter().map(|level| level.attribute.clone()).collect();
        let path = || format!("the descriptor {}", shown(&leaf.levels));
        if attributes.len() < leaf.levels.len() || attributes.contains(DOMAIN) {
            if leaf.limit.is_some() {
                let why = "two of its entries, or an entry and the domain, are the same attribute of a check";
                rules.leave_out(leaf.position, path(), why);
            }
            return None;
        }
        let keys = leaf.keys();
        let first = orders.entry(attributes).or_insert_with(|| keys.clone());
        if *first != keys {
            if leaf.limit.is_some() {
                let why = format!(
                    "a check has no order of attributes, and {} is here too",
                    first.join(", ")
                );
                rules.leave_out(leaf.position, path(), why);
            }
            return None;
        }
        Some(leaf)
    };
    nodes.into_iter().map(check).collect()
}

/// Descriptors that are looked up without a result, although a less precise one has a limit with the same keys.
fn hidden(leaves: &[Option<Leaf>], limited: &BTreeSet<Keys>) -> Vec<Leaf> {
    let paths: HashSet<&[Level]> = leaves.iter().flatten().map(|leaf| &*leaf.levels).collect();
    let mut found: BTreeMap<Vec<Level>, Leaf> = BTreeMap::new();
    for leaf in leaves.iter().flatten() {
        let keys = leaf.keys();
        for longer in
            limited.iter().filter(|longer| longer.len() > keys.len() && longer.starts_with(&keys))
        {
            let next = &longer[keys.len()..];
            let any = |key: &String| Level {
                key: key.clone(),
                attribute: crate::attributes::attribute(key).to_owned(),
                value: Value::Any,
            };
            let mut levels = leaf.levels.clone();
            levels.push(any(&next[0]));
            if paths.contains(&*levels) {
                continue;
            }
            levels.extend(next[1..].iter().map(any));
            let hidden = Leaf {
                levels: levels.clone(),
                limit: None,
                shadow: false,
                position: leaf.position,
            };
            found.entry(levels).or_insert(hidden);
        }
    }
    found.into_values().collect()
}

/// The rules of `group`, descriptors with the same keys.
fn group_rules(
    domain: &str,
    group: &[(usize, Leaf)],
    key_sets: &BTreeSet<BTreeSet<String>>,
    rules: &mut Rules,
    ids: &mut HashMap<usize, String>,
) -> Vec<Rule> {
    // What has no limit is an exemption here, so what wins over it must override it too.
    let beaten = losers(group, |_| true);
    let losers = losers(group, |leaf| leaf.limit.is_some());
    // What wins over nothing and has no limit means nothing. An enforced loser is a reason for a shadow policy to need
    // an exemption beside it, because a shadow policy overrides no enforced one.
    let is_needed = |place: usize| group[place].1.limit.is_some() || !losers[place].is_empty();
    let mut order: Vec<usize> = (0..group.len()).filter(|place| is_needed(*place)).collect();
    order.sort_by_key(|place| group[*place].1.position);
    let ids_of: HashMap<usize, String> = order
        .iter()
        .map(|place| (*place, rules.id(&format!("{domain}/{}", shown(&group[*place].1.levels)))))
        .collect();
    // The exemptions beside shadow policies, which let past what these would have overridden.
    let has_others = |place: &usize| {
        let leaf = &group[*place].1;
        leaf.shadow && leaf.limit.is_some() && !losers[*place].is_empty()
    };
    let others: HashMap<usize, String> = order
        .iter()
        .filter(|place| has_others(place))
        .map(|place| (*place, rules.id(&format!("{}/others", ids_of[place]))))
        .collect();
    let mut made = Vec::new();
    for place in order {
        let (index, leaf) = &group[place];
        ids.insert(*index, ids_of[&place].clone());
        let conditions = conditions(domain, leaf, key_sets, rules);
        let named = |stand_in: &Leaf| -> Vec<String> {
            let mut named = Vec::new();
            for loser in &beaten[place] {
                let other = &group[*loser].1;
                let is_more_precise = leaf.is_everywhere_as_precise(other);
                if !(is_more_precise && stand_in.shares_window(other)) {
                    named.extend(ids_of.get(loser).cloned());
                }
                if !is_more_precise {
                    named.extend(others.get(loser).cloned());
                }
            }
            named
        };
        let rule = |id: String, limit: Limit, shadow: bool, overrides: Vec<String>| Rule {
            id,
            per: leaf.levels.iter().map(|level| level.attribute.clone()).collect(),
            conditions: conditions.clone(),
            unit: None,
            limit,
            shadow,
            overrides,
            position: leaf.position,
        };
        let exemption = Leaf { limit: Some(Limit::Exempt), ..leaf.clone() };
        if let Some(id) = others.get(&place) {
            made.push(rule(id.clone(), Limit::Exempt, false, named(&exemption)));
        }
        let id = ids_of[&place].clone();
        match &leaf.limit {
            Some(limit) => made.push(rule(id, limit.clone(), leaf.shadow, named(leaf))),
            None => made.push(rule(id, Limit::Exempt, false, named(&exemption))),
        }
    }
    made
}

/// For each of `group`, those that `counts` and over which it wins.
fn losers(group: &[(usize, Leaf)], counts: impl Fn(&Leaf) -> bool) -> Vec<Vec<usize>> {
    // Two that are exact everywhere never match the same descriptor.
    let general: Vec<usize> =
        (0..group.len()).filter(|place| !group[*place].1.is_exact()).collect();
    let one = |winner: &(usize, Leaf)| {
        let loses = |loser: &&usize| {
            let loser = &group[**loser].1;
            counts(loser) && winner.1.wins_over(loser)
        };
        general.iter().filter(loses).copied().collect::<Vec<_>>()
    };
    let mut losers: Vec<Vec<usize>> = group.iter().map(one).collect();
    // What is exact can still lose to something that is more precise at an earlier level, which is then general.
    for winner in &general {
        for (place, (_, loser)) in group.iter().enumerate() {
            if loser.is_exact() && counts(loser) && group[*winner].1.wins_over(loser) {
                losers[*winner].push(place);
            }
        }
    }
    losers
}

/// The conditions of `leaf`: the domain, its values, and that the check has no attribute with which it would be another
/// descriptor of the file.
fn conditions(
    domain: &str,
    leaf: &Leaf,
    key_sets: &BTreeSet<BTreeSet<String>>,
    rules: &mut Rules,
) -> Vec<(String, Test)> {
    let mut conditions = vec![(DOMAIN.to_owned(), Test::AnyOf(vec![exactly(domain)]))];
    for level in &leaf.levels {
        let value = match &level.value {
            Value::Any => continue,
            Value::Prefix(prefix) => beginning(prefix),
            Value::Exact(exact) => exactly(exact),
        };
        conditions.push((level.attribute.clone(), Test::AnyOf(vec![value])));
    }
    let own: BTreeSet<String> = leaf.levels.iter().map(|level| level.attribute.clone()).collect();
    let others: BTreeSet<&String> = key_sets
        .iter()
        .filter(|set| set.len() > own.len() && own.is_subset(set))
        .flat_map(|set| set.difference(&own))
        .collect();
    let room = MAX_CONDITIONS.saturating_sub(conditions.len());
    if others.len() > room {
        let what =
            format!("the absence of {} keys in {}", others.len() - room, shown(&leaf.levels));
        let why = format!(
            "a policy has at most {MAX_CONDITIONS} conditions, so longer descriptors meet this limit too"
        );
        rules.leave_out(leaf.position, what, why);
    }
    let absent = others.into_iter().take(room).map(|other| (other.clone(), Test::Absent));
    conditions.extend(absent);
    conditions
}

/// Carries `replaces` over, as far as it can be.
fn replace(names: &[Named], ids: &HashMap<usize, String>, made: &mut [Rule], rules: &mut Rules) {
    for named in names {
        let Some(entry) = &named.replaces else { continue };
        let what = format!("replaces {:?}", named.name);
        let of_name =
            names.iter().filter(|other| other.replaces.is_none() && other.name == named.name);
        let replaced: Vec<&String> = of_name.filter_map(|other| ids.get(&other.leaf)).collect();
        let Some(id) = ids.get(&named.leaf) else { continue };
        if replaced.is_empty() {
            rules.leave_out(entry.position, what, "no limit in this file has this name");
            continue;
        }
        let replaced: Vec<String> =
            replaced.into_iter().filter(|other| !reaches(made, other, id)).cloned().collect();
        for rule in made.iter_mut().filter(|rule| rule.id == *id) {
            rule.overrides.extend(replaced.iter().cloned());
        }
        let why = "it is `overrides` in the policy, which only holds between limits that one check meets; the descriptors of \
             a request are checks of their own";
        rules.leave_out(entry.position, what, why);
    }
}

/// Whether the rule `from` overrides the rule `to`, itself or by others: it must not be overridden by it.
fn reaches(made: &[Rule], from: &str, to: &str) -> bool {
    let mut seen = HashSet::from([from]);
    let mut left = vec![from];
    while let Some(id) = left.pop() {
        if id == to {
            return true;
        }
        let rules = made.iter().filter(|rule| rule.id == id);
        left.extend(
            rules.flat_map(|rule| &rule.overrides).map(String::as_str).filter(|id| seen.insert(id)),
        );
    }
    false
}

fn shown(levels: &[Level]) -> String {
    levels.iter().map(Level::to_string).collect::<Vec<_>>().join("/")
}
