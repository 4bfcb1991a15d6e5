//! Parts of limits that nodes take ahead of time (R22): a charge of a log, and the change of it that gives back what was not spent.

use tollgate_core::counting::log::Admission;
use tollgate_core::{Amount, Charge};
use tollgate_store::{FaultDomain, Part, Store, StoreError, StoreErrorKind, Taken, key_bytes};

use crate::check::Decided;
use crate::store::RedisStore;
use crate::wire::EntryId;

/// The key of a limit of which a part is taken.
pub(crate) struct PartPlace {
    domain: FaultDomain,
    key: String,
    /// The key in announcements.
    name: Vec<u8>,
}

impl PartPlace {
    /// That of `charge`.
    pub(crate) fn of(store: &RedisStore, charge: &Charge<'_>) -> Self {
        Self {
            domain: store.fault_domain(charge.limit, charge.subject),
            key: store.keys.of_charge(charge),
            name: key_bytes(charge.limit, charge.subject),
        }
    }

    /// What `decided` says about the charge of a part of `size`.
    pub(crate) fn taken(self, size: Amount, decided: &Decided) -> Result<Taken, StoreError> {
        let (Some(reply), Some(verdict)) =
            (decided.limits.first(), decided.verdicts().first().copied())
        else {
            return Err(StoreError::new(StoreErrorKind::Unreadable, "a script decided no limit"));
        };
        if !reply.before.allowed {
            return Ok(Taken { verdict, part: None });
        }
        let EntryId::Log(admission) = reply.id else {
            let context = "a part was taken of a limit that does not count in a log";
            return Err(StoreError::new(StoreErrorKind::Unsupported, context).after_send());
        };
        let token = Token { admission, key: self.key, name: self.name }.to_bytes();
        Ok(Taken { verdict, part: Some(Part { domain: self.domain, size, token }) })
    }
}

/// What finds the charge of a part again.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    admission: Admission,
    key: String,
    name: Vec<u8>,
}

impl Token {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + self.key.len() + self.name.len());
        let numbers = [self.admission.number, self.admission.stamp, self.key.len() as u64];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(&self.name);
        bytes
    }

    /// `None` if no store of this kind wrote it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let (first, rest) = bytes.split_first_chunk()?;
        let (second, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (key, name) = rest.split_at_checked(usize::try_from(number(length)).ok()?)?;
        Some(Self {
            admission: Admission { number: number(first), stamp: number(second) },
            key: String::from_utf8(key.to_vec()).ok()?,
            name: name.to_vec(),
        })
    }
}

impl RedisStore {
    /// Gives `unused` of `part` back. Repeating it changes nothing, because the charge is found only while it has the whole size.
    pub(crate) async fn reduce_part(&self, part: &Part, unused: Amount) -> Result<(), StoreError> {
        let Some(Token { admission, key, name }) = Token::parse(&part.token) else {
            let context = "the part to give back is not of this store";
            return Err(StoreError::new(StoreErrorKind::Unsupported, context));
        };
        let left = part.size.get().saturating_sub(unused.get());
        let left = Amount::new(left).unwrap_or(part.size);
        self.change_cost(&key, EntryId::Log(admission), (part.size, left), name).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        let token = Token {
            admission: Admission { number: 7, stamp: u64::MAX },
            key: "{tg:1}ä".to_owned(),
            name: vec![0, 1, 255],
        };
        let bytes = token.to_bytes();
        assert_eq!(Token::parse(&bytes), Some(token));
        for length in 0..24 {
            assert_eq!(Token::parse(&bytes[..length]), None);
        }
    }
}
