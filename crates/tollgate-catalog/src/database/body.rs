//! Prepares the bodies of calls for validation: creates or checks the id, and applies a patch to the current record.

use crate::directory::{Address, DirectoryError, Id, Kind, Record, source};
use crate::document::{Entry, Node, Value};
use crate::problem::{DocumentProblem, Problems};

/// The number of random bytes in a generated id.
const MADE_ID_BYTES: usize = 12;

/// Optional fields for which the validators do not accept null. In a patch, null restores their default.
const NULL_IS_DEFAULT: [&str; 25] = [
    "scope",
    "per",
    "ipv6Prefix",
    "match",
    "ignoreCase",
    "unit",
    "weights",
    "burst",
    "exempt",
    "shares",
    "split",
    "windowSeconds",
    "calendar",
    "timeZone",
    "window",
    "algorithm",
    "overrides",
    "mode",
    "overLimit",
    "onExpire",
    "reserve",
    "visibility",
    "onStoreError",
    "enabled",
    "revoked",
];

/// The fields of an API key that only the directory sets. They are accepted if unchanged, so that a record that was
/// read can be sent back.
const KEPT: [&str; 2] = ["prefix", "lastUsedAt"];

/// The field of a policy that says where it comes from.
const SOURCE: &str = "source";

/// The field of a policy that says what is worth a second look.
const WARNINGS: &str = "warnings";

/// `body` with an id: its own, or a new one from the system's random source.
pub(super) fn with_id(body: &Node) -> Result<Node, getrandom::Error> {
    let mut body = body.clone();
    if let Value::Map(entries) = &mut body.value
        && !entries.iter().any(|entry| entry.key == "id")
    {
        let mut bytes = [0; MADE_ID_BYTES];
        getrandom::fill(&mut bytes)?;
        entries.insert(0, id_entry(&crate::api_key::hex(&bytes)));
    }
    Ok(body)
}

/// `body` as the replacement of `current`: with its id, and without the fields that only the directory sets.
pub(super) fn replacement(current: &Record, body: &Node) -> Result<Node, Problems> {
    let mut body = body.clone();
    let Value::Map(entries) = &mut body.value else { return Ok(body) };
    let mut problems = Vec::new();
    if let Some(entry) = entries.iter().find(|entry| entry.key == "id") {
        if entry.node.value != Value::String(current.id().to_owned()) {
            let message = "is not the id of the record to change";
            problems.push(problem(entry, message, "the same id, or none"));
        }
    } else {
        entries.insert(0, id_entry(current.id()));
    }
    if let Record::ApiKey(api_key) = current {
        let prefix = Value::String(api_key.prefix.clone());
        if let Some(entry) =
            entries.iter().find(|entry| entry.key == "prefix" && entry.node.value != prefix)
        {
            let message = "belongs to the key's secret and cannot be changed";
            problems.push(problem(entry, message, "the same prefix, or none"));
        }
        entries.retain(|entry| !KEPT.contains(&entry.key.as_str()));
    }
    if let Record::Policy(policy) = current {
        let source = source(policy).map(|source| Value::String(source.to_owned()));
        if let Some(entry) = entries
            .iter()
            .find(|entry| entry.key == SOURCE && Some(&entry.node.value) != source.as_ref())
        {
            let message = "says where the policy comes from and cannot be changed";
            problems.push(problem(entry, message, "the same source, or none"));
        }
        entries.retain(|entry| entry.key != SOURCE && entry.key != WARNINGS);
    }
    if problems.is_empty() { Ok(body) } else { Err(Problems::of("", problems, 0)) }
}

/// `current`, with its own fields replaced by those of `patch`.
pub(super) fn patched(current: &Record, patch: &Node) -> Result<Node, Problems> {
    let Value::Map(changes) = &patch.value else { return Ok(patch.clone()) };
    let mut node = current.to_node();
    if let Value::Map(entries) = &mut node.value {
        let is_set = |name: &str| {
            changes.iter().any(|entry| entry.key == name && entry.node.value != Value::Null)
        };
        entries.retain(|entry| {
            // `scope` and `per` are two ways to set the same thing; setting one replaces the other. So are
            // `windowSeconds` and `window`, of which a record has the former.
            let is_other = match entry.key.as_str() {
                "scope" => is_set("per"),
                "per" => is_set("scope"),
                "windowSeconds" => is_set("window"),
                _ => false,
            };
            !is_other && !changes.iter().any(|change| change.key == entry.key)
        });
        let resets = |entry: &Entry| {
            entry.node.value == Value::Null && NULL_IS_DEFAULT.contains(&entry.key.as_str())
        };
        entries.extend(changes.iter().filter(|entry| !resets(entry)).cloned());
    }
    node.position = patch.position;
    replacement(current, &node)
}

/// The id in `address`; what cannot be an id belongs to no record.
pub(super) fn id_of(kind: Kind, address: Address<'_>) -> Result<Id, DirectoryError> {
    let not_found = |_| DirectoryError::NotFound { kind, id: address.id.to_owned() };
    if let Some(tenant) = address.tenant {
        Id::new(tenant).map_err(not_found)?;
    }
    Id::new(address.id).map_err(not_found)
}

fn id_entry(id: &str) -> Entry {
    let node = Node::unplaced(Value::String(id.to_owned()));
    Entry { key: "id".to_owned(), key_position: None, node }
}

fn problem(entry: &Entry, message: &str, accepted: &str) -> DocumentProblem {
    DocumentProblem {
        position: entry.node.position,
        path: entry.key.clone(),
        message: message.to_owned(),
        accepted: accepted.to_owned(),
    }
}
