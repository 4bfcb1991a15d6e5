//! What a node that settles a lease is told about its reservation: the note that the store keeps.
//!
//! A byte for the version; the length of each id in two bytes, big-endian, and its UTF-8; the bytes of the input in eight. An id
//! that a check does not have is empty, because no id is.

use tollgate_core::{Attribute, Subject};

use crate::learned::Answers;

const VERSION: u8 = 1;

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
    /// The note about a lease for `subject`, completed by the catalog.
    pub fn of(subject: &Subject<'_>, input_bytes: u64) -> Self {
        let id = |attribute| subject.get(&attribute).map(str::to_owned);
        Self {
            tenant: id(Attribute::Tenant),
            model: id(Attribute::Model),
            user: id(Attribute::User),
            input_bytes,
        }
    }

    /// Whose answer it is.
    pub(crate) fn answers(&self) -> Answers {
        Answers { model: self.model.clone(), tenant: self.tenant.clone() }
    }

    /// The note for a store: at most 800 bytes, because ids have at most 256.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for id in [&self.tenant, &self.model, &self.user] {
            let id = id.as_deref().unwrap_or_default();
            bytes.extend(u16::try_from(id.len()).unwrap_or_default().to_be_bytes());
            bytes.extend(id.bytes().take(usize::from(u16::MAX)));
        }
        bytes.extend(self.input_bytes.to_be_bytes());
        bytes
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
            let (tenant, model) = (some(tenant), some(model));
            let note = LeaseNote { tenant, model, user: None, input_bytes: 1 << 40 };
            let bytes = note.to_bytes();
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
