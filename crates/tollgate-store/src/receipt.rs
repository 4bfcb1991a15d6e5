//! What one call charged, so that its cost can be changed later.

use std::borrow::Cow;
use std::fmt;

use smallvec::{SmallVec, smallvec};
use tollgate_core::{Amount, Charge};

/// A receipt of up to seven limits with ids of usual lengths needs one allocation.
const FEW_BYTES: usize = 512;
type Bytes = SmallVec<[u8; FEW_BYTES]>;
/// The first byte of a receipt that names anything.
const VERSION: u8 = 1;

/// Names what one call charged, for [`Store::settle`](crate::Store::settle) and [`Store::release`](crate::Store::release).
///
/// It is empty if nothing was charged: after a denial, a peek, a cost of 0 or a decision without the store, and always if the
/// store [cannot settle](crate::Capabilities::settles).
///
/// Callers only keep it, or [send it](Receipt::as_bytes) to another process. It contains the policy ids and the values of the
/// limits' keys in plain text and is not authenticated: do not hand it to clients without a signature.
///
/// It is a pointer, because every answer of a store is moved with it. An empty one allocates nothing; making or cloning
/// another allocates once up to 512 bytes, which is seven limits with ids of usual lengths.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Receipt(Option<Box<Bytes>>);

const _: () = assert!(size_of::<Receipt>() == size_of::<usize>());

impl Receipt {
    /// A receipt for nothing.
    #[inline]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether nothing was charged.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The receipt as bytes, which [`Receipt::from_bytes`] reads in any process.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }

    /// The receipt that [`Receipt::as_bytes`] returned; `None` if these bytes are not one. O(bytes).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = match bytes.split_first() {
            None => return Some(Self::none()),
            Some((&VERSION, rest)) if !rest.is_empty() => rest,
            Some(_) => return None,
        };
        while !rest.is_empty() {
            Held::read(&mut rest)?;
        }
        Some(Self(Some(Box::new(SmallVec::from_slice(bytes)))))
    }

    /// For stores: each charge that the receipt names.
    pub fn held(&self) -> impl Iterator<Item = Held<'_>> {
        let mut rest = self.as_bytes().get(1..).unwrap_or_default();
        std::iter::from_fn(move || Held::read(&mut rest))
    }

    /// For stores: adds that the charge at `place` of the call was charged `cost`. `admission` is what the store needs to
    /// find it again.
    pub fn add(&mut self, place: usize, charge: &Charge<'_>, cost: Amount, admission: &[u8]) {
        let id = charge.limit.policy_id().as_str();
        let parts = || std::iter::once(Cow::Borrowed(id)).chain(charge.key_values());
        let unit = charge.limit.unit().name().as_bytes();
        let bytes = self.begin(place, cost, unit, parts().count());
        for part in parts() {
            push_bytes(bytes, part.as_bytes());
        }
        push_bytes(bytes, admission);
    }

    /// For stores: adds a charge of another receipt, which costs `cost` now. A cost of 0 is not added, because nothing is
    /// charged.
    pub fn add_held(&mut self, held: &Held<'_>, cost: Amount) {
        if cost == Amount::ZERO {
            return;
        }
        let bytes = self.begin(held.place, cost, held.unit, held.parts().count());
        bytes.extend_from_slice(held.parts);
        push_bytes(bytes, held.admission);
    }

    /// Adds what is before the parts of a key.
    fn begin(&mut self, place: usize, cost: Amount, unit: &[u8], parts: usize) -> &mut Bytes {
        let bytes = self.0.get_or_insert_with(|| Box::new(smallvec![VERSION]));
        push_number(bytes, place as u64);
        push_number(bytes, cost.get());
        push_bytes(bytes, unit);
        push_number(bytes, parts as u64);
        bytes
    }
}

fn push_bytes(bytes: &mut Bytes, added: &[u8]) {
    push_number(bytes, added.len() as u64);
    bytes.extend_from_slice(added);
}

/// Seven bits a byte, the lowest first; all but the last byte have the highest bit set.
fn push_number(bytes: &mut Bytes, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.held()).finish()
    }
}

/// For stores and their decorators: one charge that a [`Receipt`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    place: usize,
    cost: Amount,
    unit: &'a [u8],
    parts: &'a [u8],
    admission: &'a [u8],
}

impl<'a> Held<'a> {
    /// Its index among the charges of the call.
    pub fn place(&self) -> usize {
        self.place
    }

    /// What it was charged.
    pub fn cost(&self) -> Amount {
        self.cost
    }

    /// The [name](tollgate_core::Unit::name) of the limit's unit, so that whoever settles by unit needs no policy.
    pub fn unit(&self) -> &'a [u8] {
        self.unit
    }

    /// What the store added to find it again.
    pub fn admission(&self) -> &'a [u8] {
        self.admission
    }

    /// The policy id, and the values of the limit's [`Limit::key_parts`](tollgate_core::Limit::key_parts).
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.parts;
        std::iter::from_fn(move || read_bytes(&mut rest))
    }

    /// The limit's key, as [`key_bytes`](crate::key_bytes) returns it.
    pub fn key_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.each_part(|part| bytes.extend_from_slice(part));
        bytes
    }

    /// The parts of [`Held::key_bytes`], in order, for callers that only hash them.
    pub(crate) fn each_part(&self, mut take: impl FnMut(&[u8])) {
        for part in self.parts() {
            take(&(part.len() as u64).to_le_bytes());
            take(part);
        }
    }

    /// Reads one charge from the beginning of `bytes`; `None` if there is none.
    fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        // A check has at most 65,535 limits, and whoever releases a receipt makes a list of them.
        let place = usize::from(u16::try_from(read_number(bytes)?).ok()?);
        let cost = Amount::new(read_number(bytes)?)?;
        let unit = read_bytes(bytes)?;
        let count = read_number(bytes)?;
        let before = *bytes;
        for _ in 0..count {
            read_bytes(bytes)?;
        }
        let parts = before.get(..before.len() - bytes.len())?;
        let admission = read_bytes(bytes)?;
        Some(Self { place, cost, unit, parts, admission })
    }
}

fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits << shift;
        if byte & 0x80 == 0 {
            // The last byte holds one bit of 64.
            return (shift < 63 || bits <= 1).then_some(number);
        }
    }
    None
}

/// What [`Store::settle`](crate::Store::settle) changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Names what is charged now, for the next settlement.
    pub receipt: Receipt,
    /// The places of the charges that were not found: they have left their window, were reset, or were changed by another
    /// settlement.
    pub not_found: SmallVec<[usize; 4]>,
}

/// What a store can do with what it has charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether it can change a charge: [`Store::settle`](crate::Store::settle) and
    /// [`Store::release`](crate::Store::release).
    pub settles: bool,
    /// Whether another process over the same store can, with the [bytes](Receipt::as_bytes) of the receipt.
    pub settles_from_elsewhere: bool,
    /// Whether a request id that is seen again returns the receipt of the first time, with the costs of that time.
    pub keeps_receipts: bool,
}

impl Capabilities {
    /// None of them.
    pub const NONE: Self =
        Self { settles: false, settles_from_elsewhere: false, keeps_receipts: false };
    /// All of them.
    pub const ALL: Self =
        Self { settles: true, settles_from_elsewhere: true, keeps_receipts: true };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tollgate_core::{Limit, Per, Policy, PolicyId, Subject, Window};

    use super::*;
    use crate::key_bytes;

    fn limit(id: &str, scope: &str) -> Arc<Limit> {
        let window = Window::new(std::time::Duration::from_secs(10)).unwrap();
        let per = Per::from_scope(scope).unwrap();
        let id = PolicyId::new(id).unwrap();
        Arc::new(Limit::of(&Policy::new(id, per, Amount::new(10), window)).unwrap())
    }

    fn receipt(user: &str, costs: &[u64], admission: &[u8]) -> (Receipt, Vec<Vec<u8>>) {
        let subject = Subject::new(user, "gpt-4");
        let mut receipt = Receipt::none();
        let mut keys = Vec::new();
        for (place, cost) in costs.iter().enumerate() {
            let limit = limit(
                ["per-user", "per-user-and-model"][place % 2],
                ["USER", "USER_MODEL"][place % 2],
            );
            let cost = Amount::new(*cost).unwrap();
            let charge = Charge { limit: &limit, subject: &subject, cost };
            receipt.add(place, &charge, cost, admission);
            keys.push(key_bytes(&limit, &subject));
        }
        (receipt, keys)
    }

    #[test]
    fn a_receipt_of_seven_limits_needs_one_allocation() {
        let (receipt, _) = receipt("user-0123456789", &[Amount::MAX.get(); 7], &[7; 18]);
        let bytes = receipt.0.as_deref().unwrap();
        assert!(!bytes.spilled(), "{} bytes", bytes.len());
        assert!(Receipt::none().is_empty() && Receipt::none().held().next().is_none());
    }

    proptest! {
        #[test]
        fn a_receipt_is_read_as_it_was_written(
            user in "\\PC{0,40}",
            costs in proptest::collection::vec(0..=Amount::MAX.get(), 0..6),
            admission in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            let (receipt, keys) = receipt(&user, &costs, &admission);
            let read = Receipt::from_bytes(receipt.as_bytes()).unwrap();
            prop_assert_eq!(&read, &receipt);
            let mut copied = Receipt::none();
            for ((place, held), key) in read.held().enumerate().zip(&keys) {
                prop_assert_eq!((held.place(), held.cost().get()), (place, costs[place]));
                prop_assert_eq!((held.unit(), held.admission()), (&b"requests"[..], &admission[..]));
                prop_assert_eq!(&held.key_bytes(), key);
                copied.add_held(&held, Amount::ONE);
            }
            prop_assert_eq!(read.held().count(), costs.len());
            let ones = copied.held().map(|held| (held.place(), held.cost(), held.key_bytes()));
            let expected = keys.into_iter().enumerate().map(|(place, key)| (place, Amount::ONE, key));
            prop_assert_eq!(ones.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            // A receipt that was cut off is refused, unless it ends between two charges.
            for length in 1..receipt.as_bytes().len() {
                if let Some(cut) = Receipt::from_bytes(&receipt.as_bytes()[..length]) {
                    prop_assert!(cut.held().count() < costs.len() && !cut.is_empty());
                }
            }
        }

        #[test]
        fn bytes_from_elsewhere_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for bytes in [&bytes[..], &[&[VERSION], &bytes[..]].concat()] {
                if let Some(receipt) = Receipt::from_bytes(bytes) {
                    prop_assert_eq!(receipt.held().next().is_none(), bytes.is_empty());
                }
            }
        }
    }
}
