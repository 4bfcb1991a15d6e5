//! Policy documents: any text gives either its policies or the list of its problems.
//!
//! The first byte selects the format. A document that can be parsed is written as JSON and as YAML and parsed again, which
//! must give the same values. Accepted policies must compile.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_catalog::document::{self, Node, Value};
use tollgate_catalog::{Format, policy_file};
use tollgate_core::PolicySet;

fuzz_target!(|input: (u8, &str)| {
    let (format, text) = input;
    let format = [Format::Yaml, Format::Json, Format::Toml][usize::from(format) % 3];
    if let Ok(policies) = policy_file::parse("policies", text, format) {
        PolicySet::new(policies).expect("policies that are accepted compile");
    }
    let Ok(Some(read)) = document::read(text, format) else { return };
    if are_numbers_of_json(&read) {
        same(&read, &document::to_yaml(&read), Format::Yaml);
        same(&read, &document::to_json(&read), Format::Json);
    }
});

fn same(read: &Node, written: &str, format: Format) {
    let again = match document::read(written, format) {
        Ok(Some(again)) => again,
        other => panic!("{read:?} was written as {written:?}, which is read as {other:?}"),
    };
    assert!(are_alike(&read.value, &again.value), "{read:?} became {again:?} by {written:?}");
}

/// Whether the values are the same, wherever they stand.
fn are_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        // Neither YAML nor JSON has dates.
        (Value::Date(one), Value::String(other)) => one == other,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| are_alike(&one.value, &other.value))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    one.key == other.key && are_alike(&one.node.value, &other.node.value)
                })
        }
        (one, other) => one == other,
    }
}

/// Whether every number is written as JSON writes numbers, as in every document that is written for people: YAML also has
/// 0x10 and .inf, TOML inf.
fn are_numbers_of_json(node: &Node) -> bool {
    match &node.value {
        Value::Number(text) => serde_json::from_str::<serde_json::Number>(text).is_ok(),
        Value::List(items) => items.iter().all(are_numbers_of_json),
        Value::Map(entries) => entries.iter().all(|entry| are_numbers_of_json(&entry.node)),
        _ => true,
    }
}
