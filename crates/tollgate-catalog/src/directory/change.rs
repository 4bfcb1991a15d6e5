//! The history of a directory: who changed what, when.

use tollgate_core::Timestamp;
use tollgate_core::subject::IdProblem;

use super::{Id, Kind};

/// Who makes a change: the name of a token, of a program or of a person.
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

/// What was done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was made.
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

/// One change of one record. It is written in the transaction of the change, so there is none without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number: one more for each, in the order in which they took effect. 1 is the making of the catalog,
    /// so the first is 2.
    pub id: u64,
    /// When, by the clock of the node that made it.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Actor,
    /// What was done.
    pub action: Action,
    /// The kind of the record.
    pub kind: Kind,
    /// The id of the record.
    pub record_id: Id,
    /// The record before, as a JSON object like that of a policy file; `None` if it was made.
    pub before: Option<String>,
    /// The record after; `None` if it was deleted.
    pub after: Option<String>,
}

/// Which changes to list: those that have all that is given. The newest come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// Of records of this kind.
    pub kind: Option<Kind>,
    /// Of the records with this id.
    pub record_id: Option<Id>,
    /// Made by this actor.
    pub actor: Option<Id>,
}
