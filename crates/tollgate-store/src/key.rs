//! A limit's key as bytes, which are the same on every node.

use tollgate_core::{Limit, Subject};

/// The key of `subject` under `limit`: the policy id and the values of [`Limit::key_parts`], each with its
/// length, so that no two keys have the same bytes (R8).
pub fn key_bytes(limit: &Limit, subject: &Subject<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    each_part(limit, subject, |part| bytes.extend_from_slice(part));
    bytes
}

/// The parts of [`key_bytes`], in order, for callers that only hash them.
pub(crate) fn each_part(limit: &Limit, subject: &Subject<'_>, mut take: impl FnMut(&[u8])) {
    let mut add = |text: &str| {
        take(&(text.len() as u64).to_le_bytes());
        take(text.as_bytes());
    };
    add(limit.policy_id().as_str());
    limit.key_parts(subject).for_each(|(_, value)| add(&value));
}
