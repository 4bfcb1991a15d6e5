//! The ways of counting without their window, for tests that hold for each of them over any window.

use tollgate_core::{Counting, Window};

/// A way of counting, before its window is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// [`Counting::Log`]
    Log,
    /// [`Counting::Counter`]
    Counter,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Log, Self::Counter];

    /// The way in which `counting` counts.
    pub fn of(counting: Counting) -> Self {
        match counting {
            Counting::Log { .. } => Self::Log,
            Counting::Counter { .. } => Self::Counter,
        }
    }

    /// This way over `window`.
    pub fn over(self, window: Window) -> Counting {
        match self {
            Self::Log => Counting::Log { window },
            Self::Counter => Counting::Counter { window },
        }
    }
}
