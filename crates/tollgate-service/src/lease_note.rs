//! What a node that settles a lease is told about its reservation: the note that the store keeps.
//!
//! A byte for the version; the length of each id in two bytes, big-endian, and its UTF-8; the bytes of the input in eight. An id
//! that a check does not have is empty, because no id is.

use smallvec::SmallVec;
use tollgate_core::{Attribute, Subject};

use crate::learned::Answers;

const VERSION: u8 = 1;
/// Notes of this length need no allocation.
const USUAL_BYTES: usize = 96;

fn encoded(ids: [Option<&str>; 3], input_bytes: u64) -> SmallVec<[u8; USUAL_BYTES]> {
    let mut bytes = SmallVec::new();
    bytes.push(VERSION);
    for id in ids {
        let id = id.unwrap_or_default();
        bytes.extend_from_slice(&u16::try_from(id.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(id.as_bytes());
    }
    bytes.extend_from_slice(&input_bytes.to_be_bytes());
    bytes
}

/// What is remembered of a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseNote {
    /// The tenant that the lease is for.
    pub tenant: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// How many bytes the input has; 0 if nobody said.
    pub input_bytes: u64,
}

impl LeaseNote {
    /// The note for a store about a lease for `subject`, completed by the catalog: at most 800 bytes, because ids have at most 256.
    pub fn bytes_of(subject: &Subject<'_>, input_bytes: u64) -> SmallVec<[u8; USUAL_BYTES]> {
        let ids = [Attribute::Tenant, Attribute::Model, Attribute::User];
        encoded(ids.map(|attribute| subject.get(&attribute)), input_bytes)
    }

    /// Whose answer it is.
    pub(crate) fn answers(&self) -> Answers {
        Answers { model: self.model.clone(), tenant: self.tenant.clone() }
    }

    /// The note in `bytes`; `None` if another program, or none, wrote it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let mut id = || {
            let (length, more) = rest.split_first_chunk()?;
            let (id, more) = more.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = more;
            let id = std::str::from_utf8(id).ok()?;
            Some((!id.is_empty()).then(|| id.to_owned()))
        };
        let (tenant, model, user) = (id()?, id()?, id()?);
        let input_bytes = u64::from_be_bytes(rest.try_into().ok()?);
        Some(Self { tenant, model, user, input_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let longest = "ü".repeat(128);
        for (tenant, model) in [("acme", "gpt-4"), ("", "m"), (&longest, &longest)] {
            let some = |id: &str| (!id.is_empty()).then(|| id.to_owned());
            let mut subject = Subject::empty();
            for (attribute, id) in [(&Attribute::Tenant, tenant), (&Attribute::Model, model)] {
                if !id.is_empty() {
                    subject.set(attribute, id);
                }
            }
            let bytes = LeaseNote::bytes_of(&subject, 1 << 40);
            let (tenant, model) = (some(tenant), some(model));
            let note = LeaseNote { tenant, model, user: None, input_bytes: 1 << 40 };
            assert!(bytes.len() <= 1_024);
            assert_eq!(LeaseNote::parse(&bytes), Some(note));
            assert_eq!(LeaseNote::parse(&bytes[..bytes.len() - 1]), None);
            assert_eq!(LeaseNote::parse(&[&bytes[..], &[0]].concat()), None);
        }
        for other in [&[][..], &[2], &[1, 0], &[1, 0, 1, 255, 0, 0, 0, 0]] {
            assert_eq!(LeaseNote::parse(other), None);
        }
    }
}
