//! Which part of a store a charge depends on.

/// A part of a store that fails by itself, such as one primary of a Cluster.
///
/// What surrounds a store keeps what it knows of failures for each domain apart, so that a part that fails degrades
/// only the checks that need it. A store gives a domain the same number for as long as it
/// [uses](crate::Store::uses) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultDomain(u32);

impl FaultDomain {
    /// The only domain of a store that fails as a whole.
    pub const WHOLE: Self = Self(0);

    /// The domain of this number. 0 is [`FaultDomain::WHOLE`].
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}
