//! The names of leases: random, and in a Cluster with the hash tags under which their records lie.

use smallvec::SmallVec;
use tollgate_store::{FaultDomain, LeaseId, StoreError, StoreErrorKind};

use crate::key::{ALPHABET, TAG_LETTERS, encode, slot};
use crate::store::RedisStore;

/// What the ids of this store begin with.
const PREFIX: char = 'r';
/// What comes before each hash tag.
const BEFORE_TAG: char = '.';
/// The random bytes of an id.
const RANDOM_BYTES: usize = 16;
/// The letters for them.
const RANDOM_LETTERS: usize = 22;
/// The most slots of a Cluster in which one lease can have limits.
const MAX_TAGS: usize = (LeaseId::MAX_BYTES - 1 - RANDOM_LETTERS) / (1 + TAG_LETTERS);

/// The hash tags of a lease, in the order of its groups: one, which is empty, if the store is no Cluster.
pub(super) type Tags<'a> = SmallVec<[&'a str; 2]>;

fn no_random(error: getrandom::Error) -> StoreError {
    StoreError::new(
        StoreErrorKind::NotAsked,
        "the system has no random numbers for the id of a lease",
    )
    .caused_by(error)
}

/// A hash tag that nothing else has, for a lease without limits.
pub(super) fn random_tag() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    let mut tag = String::with_capacity(TAG_LETTERS);
    encode(&bytes, &mut tag);
    Ok(tag)
}

/// A new id of a lease with records under `tags`.
pub(super) fn draw(tags: &Tags<'_>) -> Result<LeaseId, StoreError> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    let mut text = String::with_capacity(64);
    text.push(PREFIX);
    encode(&bytes, &mut text);
    for tag in tags.iter().filter(|tag| !tag.is_empty()) {
        text.push(BEFORE_TAG);
        text.push_str(tag);
    }
    LeaseId::parse(&text).ok_or_else(|| {
        let context = format!(
            "the limits of a lease may lie in at most {MAX_TAGS} slots of a Cluster, not in {}",
            tags.len()
        );
        StoreError::new(StoreErrorKind::Unsupported, context)
    })
}

/// The hash tags of `id` in a store that is a Cluster, if `tagged`; `None` if no such store wrote it.
pub(super) fn tags_of(id: &LeaseId, tagged: bool) -> Option<Tags<'_>> {
    let is_encoded = |text: &str| text.bytes().all(|byte| ALPHABET.contains(&byte));
    let mut pieces = id.as_str().strip_prefix(PREFIX)?.split(BEFORE_TAG);
    let random = pieces.next()?;
    let tags: Tags<'_> = pieces.collect();
    let is_right = random.len() == RANDOM_LETTERS
        && is_encoded(random)
        && tags.is_empty() != tagged
        && tags.iter().all(|tag| tag.len() == TAG_LETTERS && is_encoded(tag));
    match (is_right, tagged) {
        (false, _) => None,
        (true, true) => Some(tags),
        (true, false) => Some(SmallVec::from_elem("", 1)),
    }
}

impl RedisStore {
    /// The servers with the records of the lease `id`.
    pub(crate) fn domains_of_lease(&self, id: &LeaseId) -> SmallVec<[FaultDomain; 2]> {
        let mut domains = SmallVec::new();
        let Some(tags) = tags_of(id, self.keys.tagged) else { return domains };
        if !self.topology.is_cluster() {
            domains.push(FaultDomain::WHOLE);
            return domains;
        }
        for tag in tags {
            let domain = self.topology.domain(slot(tag));
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let tags: Tags<'_> = ["abcdefghijk", "ABCDEFGHIJ_"].into_iter().collect();
        let id = draw(&tags).unwrap();
        assert_eq!(tags_of(&id, true).unwrap().as_slice(), tags.as_slice());
        assert_eq!(tags_of(&id, false), None);
        let plain = draw(&SmallVec::from_elem("", 1)).unwrap();
        assert_eq!(tags_of(&plain, false).unwrap().as_slice(), [""]);
        assert_eq!(tags_of(&plain, true), None);
        let text = id.as_str();
        for wrong in [&text[1..], &text[..text.len() - 1], &format!("{text}."), "r", "r.", "x"] {
            assert_eq!(tags_of(&LeaseId::parse(wrong).unwrap(), true), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_has_room_for_the_tags_of_many_slots() {
        let tags = |number| -> Tags<'_> { std::iter::repeat_n("abcdefghijk", number).collect() };
        assert!(draw(&tags(MAX_TAGS)).is_ok());
        let error = draw(&tags(MAX_TAGS + 1)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    }
}
