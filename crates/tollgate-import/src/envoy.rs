//! The configuration of envoyproxy/ratelimit: a domain, and a tree of descriptors.
//!
//! A descriptor of a request is looked up level by level: its value, else a value with an asterisk that it begins with,
//! else the key alone. It gets the limit of the node at which its last entry arrives, and none if it does not arrive at
//! one. Each such node becomes a rule with the keys of its path as attributes; [`super::envoy_order`] makes the rules
//! override each other as the lookup would.

use std::collections::{BTreeSet, HashMap};

use tollgate_catalog::Position;
use tollgate_catalog::document::{Entry, Node};

use crate::ImportError;
use crate::attributes::attribute;
use crate::envoy_order::{self, Leaf, Level, Value};
use crate::fields::{Fields, Unreadable, scalar};
use crate::rule::{Limit, Rules};

/// The attribute that holds the domain.
pub(crate) const DOMAIN: &str = "domain";

/// The most descriptors of a file.
pub(crate) const MAX_DESCRIPTORS: usize = 10_000;

/// The units with their length in seconds, which are those of the original: a month has 30 days, a year 365.
const UNITS: [(&str, u64); 7] = [
    ("second", 1),
    ("minute", 60),
    ("hour", 3_600),
    ("day", 86_400),
    ("week", 604_800),
    ("month", 2_592_000),
    ("year", 31_536_000),
];
const ACCEPTED_UNITS: &str = "second, minute, hour, day, week, month or year";

/// The fields of a descriptor that are read.
const DESCRIPTOR_FIELDS: [&str; 5] = ["key", "value", "rate_limit", "descriptors", "shadow_mode"];
const LIMIT_FIELDS: [&str; 6] =
    ["unit", "requests_per_unit", "unlimited", "name", "replaces", "unit_multiplier"];

/// Adds the rules of `document` to `rules`.
pub(crate) fn rules(document: &Node, rules: &mut Rules) -> Result<(), ImportError> {
    let root = Fields::of(document, "")?;
    let Some(domain) = root.text("domain")?.filter(|domain| !domain.is_empty()) else {
        return Err(ImportError::at(root.position, "domain", "is missing", "the domain's name"));
    };
    for entry in root.iter().filter(|entry| !["domain", "descriptors"].contains(&&*entry.key)) {
        leave_out(rules, entry, "this import does not know it");
    }
    let mut tree = Tree { rules, nodes: Vec::new(), names: Vec::new(), hidden: BTreeSet::new() };
    tree.descriptors(root.list("descriptors")?, &[])?;
    let Tree { nodes, names, hidden, .. } = tree;
    envoy_order::add(domain, nodes, hidden, &names, rules);
    Ok(())
}

/// A name of a limit, or one that a limit replaces.
pub(crate) struct Named {
    /// The index of the limit among the leaves.
    pub(crate) leaf: usize,
    pub(crate) name: String,
    /// The entry that names another limit to replace; `None` for the limit's own name.
    pub(crate) replaces: Option<Node>,
}

/// A walk over the descriptors.
struct Tree<'r> {
    rules: &'r mut Rules,
    /// Every descriptor, also without a limit.
    nodes: Vec<Leaf>,
    names: Vec<Named>,
    /// The attributes of descriptors that the lookup never takes.
    hidden: BTreeSet<BTreeSet<String>>,
}

impl Tree<'_> {
    /// Adds `items` and all below them, which are inside `path`.
    fn descriptors(&mut self, items: &[Node], path: &[Level]) -> Result<(), ImportError> {
        let mut prefixes: Vec<Level> = Vec::new();
        let mut firsts: HashMap<Level, Option<Position>> = HashMap::new();
        for item in items {
            let fields = Fields::of(item, "descriptors")?;
            let level = level(fields)?;
            let path = [path, std::slice::from_ref(&level)].concat();
            if self.nodes.len() >= MAX_DESCRIPTORS {
                let message = "is one descriptor too many";
                let accepted = format!("at most {MAX_DESCRIPTORS} descriptors");
                return Err(ImportError::at(item.position, "descriptors", message, accepted));
            }
            if let Some(hidden_by) = prefixes.iter().find(|earlier| earlier.hides(&level)) {
                let why = format!("`{hidden_by}` before it matches all of its values");
                self.rules.leave_out(item.position, format!("the descriptor {level}"), why);
                let attributes = path.iter().map(|level| level.attribute.clone()).collect();
                self.hide(fields, attributes)?;
                continue;
            }
            if let Some(first) = firsts.get(&level) {
                let on_line = first.map(|at| format!(" on line {}", at.line)).unwrap_or_default();
                let why = format!(
                    "its key and value are already given{on_line}, which envoyproxy/ratelimit refuses; both become policies and apply together"
                );
                self.rules.leave_out(item.position, format!("the descriptor {level}"), why);
            } else {
                firsts.insert(level.clone(), item.position);
            }
            if matches!(level.value, Value::Prefix(_)) {
                prefixes.push(level);
            }
            self.unread(fields, &DESCRIPTOR_FIELDS);
            let leaf = self.nodes.len();
            let limit = match fields.get("rate_limit") {
                Some(entry) => Some(self.limit(entry, leaf)?),
                None => None,
            };
            let shadow = fields.flag("shadow_mode")?;
            self.nodes.push(Leaf { levels: path.clone(), limit, shadow, position: item.position });
            self.descriptors(fields.list("descriptors")?, &path)?;
        }
        Ok(())
    }

    /// Notes the attributes of a descriptor that is never taken, and of all below it.
    fn hide(
        &mut self,
        fields: Fields<'_>,
        attributes: BTreeSet<String>,
    ) -> Result<(), ImportError> {
        for below in fields.list("descriptors")? {
            let below = Fields::of(below, "descriptors")?;
            let mut attributes = attributes.clone();
            attributes.insert(level(below)?.attribute);
            self.hide(below, attributes)?;
        }
        self.hidden.insert(attributes);
        Ok(())
    }

    /// The limit in `entry`.
    fn limit(&mut self, entry: &Entry, leaf: usize) -> Result<Limit, ImportError> {
        let fields = Fields::of(&entry.node, "rate_limit")?;
        self.unread(fields, &LIMIT_FIELDS);
        if let Some(name) = fields.text("name")? {
            self.names.push(Named { leaf, name: name.to_owned(), replaces: None });
        }
        for replaced in fields.list("replaces")? {
            let name = Fields::of(replaced, "replaces")?.text("name")?.unwrap_or_default();
            self.names.push(Named {
                leaf,
                name: name.to_owned(),
                replaces: Some(replaced.clone()),
            });
        }
        if fields.flag("unlimited")? {
            return Ok(Limit::Exempt);
        }
        let unit = self.unit_seconds(fields);
        let multiplier = self.multiplier(fields);
        let limit = match fields.number("requests_per_unit") {
            Ok(Some(limit)) => Some(limit.clone()),
            Ok(None) => {
                self.unreadable(fields.position, "requests_per_unit", "it is missing");
                None
            }
            Err(Unreadable { position, why, .. }) => {
                self.unreadable(position, "requests_per_unit", &why);
                None
            }
        };
        let limit = unit.zip(multiplier).zip(limit).map(|((seconds, multiplier), limit)| {
            Limit::Of { limit, window_seconds: seconds.saturating_mul(multiplier) }
        });
        Ok(limit.unwrap_or(Limit::Unreadable))
    }

    /// The length of the unit of `fields`, a limit; `None` if it cannot be read, which is reported.
    fn unit_seconds(&mut self, fields: Fields<'_>) -> Option<u64> {
        let Some(entry) = fields.get("unit") else {
            let why = format!("it is missing; accepted: {ACCEPTED_UNITS}");
            self.unreadable(fields.position, "unit", &why);
            return None;
        };
        let unit = scalar(&entry.node).unwrap_or_default();
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        if known.is_none() {
            let why = format!("{unit:?} is not a unit; accepted: {ACCEPTED_UNITS}");
            self.unreadable(entry.node.position, "unit", &why);
        }
        known.map(|(_, seconds)| *seconds)
    }

    /// The multiplier of the unit of `fields`, a limit; `None` if it cannot be read, which is reported.
    fn multiplier(&mut self, fields: Fields<'_>) -> Option<u64> {
        let Some(entry) = fields.get("unit_multiplier") else { return Some(1) };
        let number = fields.number("unit_multiplier").ok().flatten().and_then(scalar);
        let multiplier = number.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        if multiplier.is_none() {
            let why = "it is not a whole number above 0";
            self.unreadable(entry.node.position, "unit_multiplier", why);
        }
        multiplier
    }

    /// Reports that a limit is left out because of its field `name`.
    fn unreadable(&mut self, position: Option<Position>, name: &str, why: &str) {
        let why = format!(
            "{why}; the limit of this descriptor is left out, and that of a less precise one applies if there is one"
        );
        self.rules.leave_out(position, name, why);
    }

    /// Reports the fields that are not `read`.
    fn unread(&mut self, fields: Fields<'_>, read: &[&str]) {
        for entry in fields.iter().filter(|entry| !read.contains(&entry.key.as_str())) {
            let why = match entry.key.as_str() {
                "detailed_metric" | "value_to_metric" => {
                    "Tollgate has no metric for each value; the console and `/admin` show usage by key"
                }
                "share_threshold" => {
                    "every value has a usage of its own; for a shared one remove the attribute from `per`"
                }
                "quota_mode" => "a policy denies, or reports with `mode: shadow`",
                _ => "this import does not know it",
            };
            leave_out(self.rules, entry, why);
        }
    }
}

fn leave_out(rules: &mut Rules, entry: &Entry, why: &str) {
    rules.leave_out(entry.key_position, entry.key.clone(), why);
}

/// The key and value of a descriptor.
fn level(fields: Fields<'_>) -> Result<Level, ImportError> {
    let Some(key) = fields.text("key")?.filter(|key| !key.is_empty()) else {
        let message = "is missing";
        return Err(ImportError::at(fields.position, "descriptors.key", message, "a key"));
    };
    let value = match fields.text("value")?.unwrap_or_default() {
        "" => Value::Any,
        value => match value.strip_suffix('*') {
            Some(prefix) => Value::Prefix(prefix.to_owned()),
            None => Value::Exact(value.to_owned()),
        },
    };
    Ok(Level { key: key.to_owned(), attribute: attribute(key).to_owned(), value })
}
