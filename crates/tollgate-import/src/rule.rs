//! A limit on its way to a policy.

use std::collections::HashSet;

use tollgate_catalog::document::{Entry, Node, Value};
use tollgate_catalog::{Position, validate};

use crate::LeftOut;

/// Longer ids are shortened, and told apart by a number.
const MAX_ID_CHARS: usize = 60;

/// What a rule counts, and how much of it.
#[derive(Clone, Debug)]
pub(crate) enum Limit {
    /// At most this number in a window.
    Of { limit: Node, window_seconds: u64 },
    /// Nothing: a ban.
    Ban,
    /// Any number: an exemption from the limits with the same attributes, of every window.
    Exempt,
    /// Something that cannot be read and has been reported. No policy is made of it.
    Unreadable,
}

/// A limit with what it applies to.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    /// The attributes that it counts per.
    pub(crate) per: Vec<String>,
    /// Attributes and what they must be.
    pub(crate) conditions: Vec<(String, Test)>,
    pub(crate) unit: Option<&'static str>,
    pub(crate) limit: Limit,
    pub(crate) shadow: bool,
    /// The ids of the rules that it overrides.
    pub(crate) overrides: Vec<String>,
    /// Where it is in the document.
    pub(crate) position: Option<Position>,
}

/// What the value of an attribute must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// One of these conditions, as policies write them.
    AnyOf(Vec<String>),
    /// There is none.
    Absent,
}

impl Rule {
    fn to_node(&self) -> Node {
        let mut fields = Map::default();
        fields.text("id", &self.id);
        fields.list("per", &self.per);
        // What is converted counts every address by itself.
        if self.per.iter().any(|attribute| attribute == "ip") {
            fields.add("ipv6Prefix", Value::Number("128".to_owned()));
        }
        if !self.conditions.is_empty() {
            let mut conditions = Map::default();
            for (attribute, test) in &self.conditions {
                match test {
                    Test::AnyOf(values) if values.len() == 1 => {
                        conditions.text(attribute, &values[0]);
                    }
                    Test::AnyOf(values) => conditions.list(attribute, values),
                    Test::Absent => {
                        let mut absent = Map::default();
                        absent.add("absent", Value::Bool(true));
                        conditions.add(attribute, Value::Map(absent.0));
                    }
                }
            }
            fields.add("match", Value::Map(conditions.0));
        }
        if let Some(unit) = self.unit {
            fields.text("unit", unit);
        }
        match &self.limit {
            Limit::Of { limit, window_seconds } => {
                fields.0.push(Entry {
                    key: "limit".to_owned(),
                    key_position: limit.position,
                    node: limit.clone(),
                });
                fields.add("windowSeconds", Value::Number(window_seconds.to_string()));
            }
            Limit::Ban => fields.add("limit", Value::Number("0".to_owned())),
            Limit::Exempt | Limit::Unreadable => fields.add("limit", Value::Null),
        }
        if !self.overrides.is_empty() {
            fields.list("overrides", &self.overrides);
        }
        if self.shadow {
            fields.text("mode", "shadow");
        }
        Node { position: self.position, value: Value::Map(fields.0) }
    }
}

/// The rules found so far, and what was not carried over.
#[derive(Default)]
pub(crate) struct Rules {
    found: Vec<Rule>,
    left_out: Vec<LeftOut>,
    ids: HashSet<String>,
}

impl Rules {
    /// An id that no other rule has: `wanted`, or something like it.
    pub(crate) fn id(&mut self, wanted: &str) -> String {
        let plain: String = wanted
            .chars()
            .map(|c| if c.is_control() { '_' } else { c })
            .take(MAX_ID_CHARS)
            .collect();
        let mut id = plain.clone();
        let mut number = 1;
        while id.is_empty() || !self.ids.insert(id.clone()) {
            number += 1;
            id = format!("{plain}#{number}");
        }
        id
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.found.push(rule);
    }

    pub(crate) fn leave_out(
        &mut self,
        position: Option<Position>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.left_out.push(LeftOut { position, what: what.into(), why: why.into() });
    }

    /// The policies, each of them valid, and what was left out, with the rules of which the validator refuses something.
    pub(crate) fn into_policies(mut self) -> (Vec<Node>, Vec<LeftOut>) {
        let mut valid = Vec::new();
        let found = std::mem::take(&mut self.found);
        for rule in found.into_iter().filter(|rule| !matches!(rule.limit, Limit::Unreadable)) {
            match validate::policy("", &rule.to_node()) {
                Ok(_) => valid.push(rule),
                Err(problems) => {
                    for problem in &problems {
                        let position = problem.position.or(rule.position);
                        let why = format!(
                            "{}: {}; accepted: {}",
                            problem.path, problem.message, problem.accepted
                        );
                        self.leave_out(position, format!("the limit {}", rule.id), why);
                    }
                }
            }
        }
        let ids: HashSet<String> = valid.iter().map(|rule| rule.id.clone()).collect();
        let policies = valid.into_iter().map(|mut rule| {
            rule.overrides.retain(|id| ids.contains(id));
            rule.to_node()
        });
        (policies.collect(), self.left_out)
    }
}

#[derive(Default)]
struct Map(Vec<Entry>);

impl Map {
    fn add(&mut self, key: &str, value: Value) {
        let node = Node::unplaced(value);
        self.0.push(Entry { key: key.to_owned(), key_position: None, node });
    }

    fn text(&mut self, key: &str, text: &str) {
        self.add(key, Value::String(text.to_owned()));
    }

    fn list(&mut self, key: &str, texts: &[String]) {
        let items = texts.iter().map(|text| Node::unplaced(Value::String(text.clone())));
        self.add(key, Value::List(items.collect()));
    }
}
