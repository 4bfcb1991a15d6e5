//! The limits file of Kuadrant's Limitador: a list of limits, all of which apply if their conditions hold.

use tollgate_catalog::Position;
use tollgate_catalog::document::{Node, Value};

use crate::ImportError;
use crate::attributes::{exactly, is_beginning};
use crate::envoy::DOMAIN;
use crate::fields::{Fields, Unreadable, scalar};
use crate::limitador_condition::{Condition, condition, variable};
use crate::rule::{Limit, Rule, Rules, Test};

const KNOWN: [&str; 8] =
    ["id", "namespace", "max_value", "seconds", "name", "conditions", "variables", "description"];

/// The most limits with the same `per` and window of which each is compared with the others.
const MAX_COMPARED: usize = 1_000;

/// Adds the rules of `document` to `rules`.
pub(crate) fn rules(document: &Node, rules: &mut Rules) -> Result<(), ImportError> {
    let limits = match &document.value {
        Value::List(limits) => limits,
        // The custom resource of the operator has them in its specification.
        Value::Map(_) => {
            let root = Fields::of(document, "")?;
            let inner = root.get("spec").map_or(document, |spec| &spec.node);
            let fields = Fields::of(inner, "spec")?;
            if fields.get("limits").is_none() {
                let message = "has no list of limits";
                return Err(ImportError::at(inner.position, "", message, "a list of limits"));
            }
            fields.list("limits")?
        }
        _ => {
            return Err(ImportError::at(document.position, "", "is no list", "a list of limits"));
        }
    };
    let mut made: Vec<Rule> = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        if let Some(rule) = rule(limit, index, rules)? {
            made.push(rule);
        }
    }
    avoid_overriding(&made, rules);
    for rule in made {
        rules.add(rule);
    }
    Ok(())
}

/// The rule of `limit`, number `index`; `None` if a part of it cannot be carried over.
fn rule(limit: &Node, index: usize, rules: &mut Rules) -> Result<Option<Rule>, ImportError> {
    let name = format!("[{index}]");
    let fields = Fields::of(limit, &name)?;
    let Some(namespace) = fields.text("namespace")? else {
        let path = format!("{name}.namespace");
        return Err(ImportError::at(fields.position, &path, "is missing", "a text"));
    };
    for entry in fields.iter().filter(|entry| !KNOWN.contains(&entry.key.as_str())) {
        rules.leave_out(entry.key_position, entry.key.clone(), "this import does not know it");
    }
    let shown = fields.text("name")?.or(fields.text("id")?).unwrap_or("limit").to_owned();
    let mut numbers = ["max_value", "seconds"].map(|field| whole_number(fields, field));
    for unreadable in numbers.iter_mut().filter_map(|number| number.as_mut().err()) {
        let why = format!("{}, so the limit {shown:?} is left out", unreadable.why);
        rules.leave_out(unreadable.position, std::mem::take(&mut unreadable.name), why);
    }
    let [Ok((most, _)), Ok((_, window_seconds))] = numbers else { return Ok(None) };
    let mut conditions = vec![(DOMAIN.to_owned(), Test::AnyOf(vec![exactly(namespace)]))];
    let mut per: Vec<String> = Vec::new();
    let mut complete = true;
    let mut refuse = |position: Option<Position>, what: String, why: &str| {
        rules.leave_out(position, what, format!("{why}, so the limit {shown:?} is left out"));
        complete = false;
    };
    for node in fields.list("conditions")? {
        let text = scalar(node).unwrap_or_default();
        match condition(text) {
            Ok(found) => {
                for Condition { attribute, values } in found {
                    if conditions.iter().any(|(known, _)| *known == attribute) {
                        let why = "a policy has one condition for each attribute";
                        refuse(node.position, format!("the condition {text}"), why);
                        continue;
                    }
                    // With its only value in `per`, no limit with more conditions overrides this one.
                    let is_one = values.len() == 1 && !is_beginning(&values[0]);
                    if is_one && !per.contains(&attribute) {
                        per.push(attribute.clone());
                    }
                    conditions.push((attribute, Test::AnyOf(values)));
                }
            }
            Err(why) => refuse(node.position, format!("the condition {text}"), why),
        }
    }
    for node in fields.list("variables")? {
        let text = scalar(node).unwrap_or_default();
        match variable(text) {
            Some(attribute) if per.contains(&attribute) => {}
            Some(attribute) => per.push(attribute),
            None => refuse(
                node.position,
                format!("the variable {text}"),
                "it is no entry of the first descriptor",
            ),
        }
    }
    if !complete {
        return Ok(None);
    }
    let id = rules.id(&format!("{namespace}/{shown}"));
    let limit = Limit::Of { limit: most.clone(), window_seconds };
    let position = fields.position;
    Ok(Some(Rule {
        id,
        per,
        conditions,
        unit: None,
        limit,
        shadow: false,
        overrides: Vec::new(),
        position,
    }))
}

/// The whole number in the field `name`, and what it is.
fn whole_number<'n>(fields: Fields<'n>, name: &str) -> Result<(&'n Node, u64), Unreadable> {
    let unreadable = |position, why: &str| {
        Err(Unreadable { position, name: name.to_owned(), why: why.to_owned() })
    };
    let Some(node) = fields.number(name)? else {
        return unreadable(fields.position, "it is missing");
    };
    match scalar(node).and_then(|text| text.parse().ok()) {
        Some(number) => Ok((node, number)),
        None => unreadable(node.position, "it is no whole number"),
    }
}

/// Reports limits that would apply together in Limitador, while one overrides the other here: those with the same `per`
/// and window, of which one has more conditions or more precise ones.
fn avoid_overriding(made: &[Rule], rules: &mut Rules) {
    let key = |rule: &Rule| {
        let Limit::Of { window_seconds, .. } = rule.limit else { return None };
        let mut per = rule.per.clone();
        per.sort();
        let domain = rule.conditions.first().map(|(_, test)| test.clone());
        Some((per, window_seconds, domain))
    };
    let mut groups: std::collections::HashMap<_, Vec<&Rule>> = std::collections::HashMap::new();
    for rule in made {
        if let Some(key) = key(rule) {
            groups.entry(key).or_default().push(rule);
        }
    }
    for group in groups.into_values() {
        // One without a condition of its own overrides none.
        let specific = group.iter().filter(|rule| rule.conditions.len() > 1);
        for rule in specific.take(MAX_COMPARED) {
            if group.iter().any(|other| other.conditions != rule.conditions && meet(rule, other)) {
                let why = "where it applies together with another limit of the same `per` and window, the more specific one \
                     overrides the other here; give one of them another `per` or window if both must hold";
                rules.leave_out(rule.position, format!("the limit {}", rule.id), why);
            }
        }
    }
}

/// Whether some check can meet both rules, as far as single values tell.
fn meet(one: &Rule, other: &Rule) -> bool {
    let values = |rule: &'_ Rule, attribute: &str| {
        rule.conditions.iter().find_map(|(known, test)| match test {
            Test::AnyOf(values)
                if known == attribute && !values.iter().any(|value| is_beginning(value)) =>
            {
                Some(values.clone())
            }
            _ => None,
        })
    };
    one.conditions.iter().all(|(attribute, _)| {
        match (values(one, attribute), values(other, attribute)) {
            (Some(one), Some(other)) => one.iter().any(|value| other.contains(value)),
            _ => true,
        }
    })
}
