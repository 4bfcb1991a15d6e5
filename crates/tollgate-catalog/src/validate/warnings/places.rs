//! Where in a document the values of policies are.

use std::collections::HashMap;

use tollgate_core::PolicyId;

use crate::directory::Kind;
use crate::document::{Entry, Node, Value};
use crate::problem::Position;

/// The maps in a document from which policies were made, by the ids of the policies.
#[derive(Debug, Default)]
pub struct Places<'n> {
    /// Each with its index in the list.
    policies: HashMap<&'n str, (usize, &'n Node)>,
}

impl<'n> Places<'n> {
    /// Those of `document`, a map of lists. Of several policies with one id, the first counts. O(its policies).
    pub fn of_document(document: &'n Node) -> Self {
        let mut places = Self::default();
        for (index, policy) in items_of(document, Kind::Policy).iter().enumerate() {
            places.add(index, policy);
        }
        places
    }

    /// That of `policy`, which is the whole document.
    pub fn of_policy(policy: &'n Node) -> Self {
        let mut places = Self::default();
        places.add(0, policy);
        places
    }

    fn add(&mut self, index: usize, policy: &'n Node) {
        if let Some(id) = id_of(policy) {
            self.policies.entry(id).or_insert((index, policy));
        }
    }

    /// The index of the policy `id` in its list.
    pub(crate) fn index(&self, id: &PolicyId) -> Option<usize> {
        self.policies.get(id.as_str()).map(|(index, _)| *index)
    }

    /// The position of the value to which `steps` lead from the policy `id`, or of the last one on the way that is in the
    /// document.
    pub(super) fn position(&self, id: &PolicyId, steps: &[Step<'_>]) -> Option<Position> {
        let (_, mut node) = *self.policies.get(id.as_str())?;
        let mut position = node.position;
        for step in steps {
            let next = match step {
                Step::Field(name) => field(node, name).map(|entry| &entry.node),
                Step::Item(index) => item(node, *index),
            };
            let Some(next) = next else { break };
            position = next.position.or(position);
            node = next;
        }
        position
    }
}

/// One step from a policy to one of its values.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// The items of the list of `kind` in `document`.
pub(super) fn items_of(document: &Node, kind: Kind) -> &[Node] {
    match field(document, kind.list_name()).map(|list| &list.node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// The id that `record` has, if it is a text.
pub(super) fn id_of(record: &Node) -> Option<&str> {
    match &field(record, "id")?.node.value {
        Value::String(id) => Some(id),
        _ => None,
    }
}

fn item(node: &Node, index: usize) -> Option<&Node> {
    match &node.value {
        Value::List(items) => items.get(index),
        _ => None,
    }
}

pub(super) fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name),
        _ => None,
    }
}
