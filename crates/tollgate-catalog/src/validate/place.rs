//! Where a value of a document is, as far as that says whether it is a number or a flag.
//!
//! Text that stands for such a value, as an environment variable does, must become one before it is validated.

use crate::directory::Kind;

/// A place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The document itself: a map of lists.
    Document,
    /// A list of policies.
    Policies,
    /// A policy.
    Policy,
    /// The shares of a policy, or how it is split.
    Shares,
    /// The conditions of a policy.
    Conditions,
    /// One condition.
    Condition,
    /// A value that is a number.
    Number,
    /// A value that is `true` or `false`.
    Flag,
    /// Any other value.
    Other,
}

impl Place {
    /// The value of the field `name` of the map here.
    pub(crate) fn field(self, name: &str) -> Self {
        match (self, name) {
            (Self::Document, name) if name == Kind::Policy.list_name() => Self::Policies,
            (Self::Policy, "limit" | "burst" | "windowSeconds" | "ipv6Prefix")
            | (Self::Shares, _) => Self::Number,
            (Self::Policy, "enabled" | "ignoreCase") | (Self::Condition, _) => Self::Flag,
            (Self::Policy, "shares" | "split") => Self::Shares,
            (Self::Policy, "match") => Self::Conditions,
            (Self::Conditions, _) => Self::Condition,
            _ => Self::Other,
        }
    }

    /// An item of the list here.
    pub(crate) fn item(self) -> Self {
        match self {
            Self::Policies => Self::Policy,
            _ => Self::Other,
        }
    }
}
