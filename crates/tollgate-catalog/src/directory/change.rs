//! The audit log of a directory: who changed what, and when.

use tollgate_core::Timestamp;
use tollgate_core::subject::IdProblem;

use super::{Id, Kind};

/// The author of a change: the name of a token, a program or a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(Id);

impl Actor {
    /// The actor called `name`: 1 to 256 bytes of UTF-8 without control characters. Never a secret.
    pub fn new(name: &str) -> Result<Self, IdProblem> {
        Id::new(name).map(Self)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.0.as_str()
    }
}

/// What was done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was created.
    Create,
    /// It was replaced or patched.
    Update,
    /// It was deleted.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// The action called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// The name, as in the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One change of one record. It is written in the same transaction as the change itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number: one more than that of the change before. The creation of the catalog is 1, so the first change is 2.
    pub id: u64,
    /// When, by the clock of the node that made the change.
    pub at: Timestamp,
    /// Who made the change.
    pub actor: Actor,
    /// What was done.
    pub action: Action,
    /// The kind of the record.
    pub kind: Kind,
    /// The id of the record.
    pub record_id: Id,
    /// The record before, as a JSON object like that of a policy file; `None` if it was created.
    pub before: Option<String>,
    /// The record after; `None` if it was deleted.
    pub after: Option<String>,
}

/// Which changes to list: those that match all given values, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// Only changes of records of this kind.
    pub kind: Option<Kind>,
    /// Only changes of records with this id.
    pub record_id: Option<Id>,
    /// Only changes by this actor.
    pub actor: Option<Id>,
}
