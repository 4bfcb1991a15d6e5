//! Priority classes: whose checks are admitted longest as a limit fills up.

/// The importance of the checks of a tier when a limit fills up, in ascending order: [`PriorityClass::Internal`] is the
/// most important.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PriorityClass {
    /// Work that can wait; shed first.
    Batch,
    /// The class of a tier without another one.
    #[default]
    Standard,
    /// Work that was paid more for.
    Premium,
    /// The platform's own work; shed last.
    Internal,
}

impl PriorityClass {
    /// Every class, the least important first.
    pub const ALL: [Self; 4] = [Self::Batch, Self::Standard, Self::Premium, Self::Internal];
    /// What [`PriorityClass::parse`] accepts, for messages.
    pub const ACCEPTED: &str = "`internal`, `premium`, `standard` or `batch`";

    /// The place of the class in [`PriorityClass::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The name, as in tiers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Standard => "standard",
            Self::Premium => "premium",
            Self::Internal => "internal",
        }
    }
}
