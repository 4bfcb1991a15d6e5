//! Keys are injective (R8, P10): no choice of ids makes two limits share usage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use tollgate_core::{Amount, Attribute, Charge, Limit, Subject};

use super::{MONTH, counted_by, policy};
use crate::limiter::{charge, peek};
use crate::property::for_all;
use crate::{Harness, Way};

/// A key in its plain form: a policy id, and the values of some attributes.
type RawKey = (String, Vec<String>);

/// Charges every key once, two keys per check, and asserts that each was charged exactly once.
fn share_nothing<H: Harness>(keys: &[RawKey]) {
    let harness = H::new();
    // Attributes are sorted in this order: tenant, user, API key, model.
    let attributes = [Attribute::Tenant, Attribute::User, Attribute::ApiKey, Attribute::Model];
    let limits: Vec<_> = keys
        .iter()
        .map(|(id, values)| {
            let policy = policy(id, &attributes[..values.len()], 2, MONTH);
            let policy = counted_by(Way::ALL[id.len() % 2], policy);
            Arc::new(Limit::of(&policy).unwrap())
        })
        .collect();
    let subjects: Vec<_> = keys
        .iter()
        .map(|(_, values)| {
            let mut subject = Subject::empty();
            for (attribute, value) in attributes.iter().zip(values) {
                subject.set(attribute, value);
            }
            subject
        })
        .collect();
    let charges: Vec<_> = limits
        .iter()
        .zip(&subjects)
        .map(|(limit, subject)| Charge { limit, subject, cost: Amount::ONE })
        .collect();
    for pair in charges.chunks(2) {
        assert!(charge(&harness, pair).iter().all(|verdict| verdict.allowed));
    }
    for (key, verdict) in keys.iter().zip(peek(&harness, &charges)) {
        assert_eq!(verdict.usage, 1, "another key shares the usage of {key:?}");
    }
}

/// Ids whose parts are the same when they are joined, whatever the separator; and ids whose only difference a careless
/// comparison would ignore.
pub fn keys_that_read_alike_share_no_usage<H: Harness>() {
    let joined = [
        "a|b:c",
        "a{b}c",
        "{a}{b}",
        "a/b\\c",
        "a\u{1f}b\u{0}c",
        "a,b;c",
        "a%7Cb",
        "11:22",
        "ab  c",
    ];
    let mut keys: BTreeSet<RawKey> = BTreeSet::new();
    let mut add = |id: &str, values: &[&str]| {
        keys.insert((id.to_owned(), values.iter().map(|&v| v.to_owned()).collect()));
    };
    for text in joined {
        let cuts: Vec<usize> = (0..=text.len()).collect();
        for &cut in &cuts {
            let (left, right) = text.split_at(cut);
            add("p", &[left, right]);
            add("p3", &["", left, right]);
            add("p4", &[left, "", right, ""]);
            for &again in cuts.iter().filter(|again| **again >= cut) {
                add("p3", &[left, &text[cut..again], &text[again..]]);
            }
            if cut > 0 && !left.contains(['\u{0}', '\u{1f}']) {
                // The end of the policy id against the start of a value.
                add(left, &[right]);
                add(left, &[]);
            }
        }
    }
    // Composed and decomposed, case, width, a zero-width joiner, right to left, empty.
    for id in ["é", "e\u{301}", "A", "a", "\u{ff41}", "a\u{200d}", "\u{202e}a", " a", "a ", ""] {
        add("unicode", &[id]);
    }
    let longest = "x".repeat(256);
    for id in [&longest[..], &longest[..255], &longest[..254]] {
        add("long", &[id, &longest]);
        add("long-3", &[&longest, id, ""]);
    }
    // A policy has one `per`: an id with another number of values belongs to a different policy.
    let mut number_of_values = BTreeMap::new();
    let keys: Vec<RawKey> = keys
        .into_iter()
        .filter(|(id, values)| {
            *number_of_values.entry(id.clone()).or_insert(values.len()) == values.len()
        })
        .collect();
    share_nothing::<H>(&keys);
}

/// Random ids over few characters, so that equal concatenations are frequent.
pub fn random_keys_share_no_usage<H: Harness>() {
    let text =
        || vec(select(vec!["a", "b", "|", ":", "{", "}", "é"]), 0..4).prop_map(|cs| cs.concat());
    let values = (text(), text(), text()).prop_map(|(a, b, c)| vec![a, b, c]);
    let id = select(vec!["p", "p|", "p:a", "{p}"]).prop_map(str::to_owned);
    let keys = btree_set((id, values), 2..60);
    for_all("random_keys_share_no_usage", &keys, |keys| {
        share_nothing::<H>(&keys.into_iter().collect::<Vec<_>>());
        Ok(())
    });
}
