//! Durations in reports.

use std::fmt;

use serde::{Serialize, Serializer};

/// A duration that is shown in seconds; in JSON it is a number of seconds, an integer if it is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    ns: u64,
}

const NS_PER_SECOND: u64 = 1_000_000_000;

impl Seconds {
    /// The duration of `ns` nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// The duration in nanoseconds.
    pub const fn as_ns(self) -> u64 {
        self.ns
    }
}

/// To the millisecond.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = (self.ns / NS_PER_SECOND, self.ns % NS_PER_SECOND);
        match ns / 1_000_000 {
            0 if ns == 0 => write!(f, "{seconds} s"),
            ms => write!(f, "{seconds}.{ms:03} s"),
        }
    }
}

impl Serialize for Seconds {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a JSON number; lengths up to 104 days stay exact to the nanosecond"
    )]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.ns.is_multiple_of(NS_PER_SECOND) {
            serializer.serialize_u64(self.ns / NS_PER_SECOND)
        } else {
            serializer.serialize_f64(self.ns as f64 / 1e9)
        }
    }
}
