//! Which part of a store a charge depends on.

/// A part of a store that can fail independently, such as one primary of a Cluster.
///
/// Decorators record failures separately for each domain, so that a failing part degrades only the checks that need it.
/// A domain keeps its number for as long as the store [uses](crate::Store::uses) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultDomain(u32);

impl FaultDomain {
    /// The only domain of a store that fails as a whole.
    pub const WHOLE: Self = Self(0);

    /// The domain with this number. 0 is [`FaultDomain::WHOLE`].
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
}
