//! Who and what policies are for: tenants, users, API keys, tiers, model tiers, models, and the policies
//! themselves, as records that a [`Directory`] keeps, changes and tells the history of.
//!
//! Every kind of record goes through the same verbs. A body comes in as a [`Node`](crate::document::Node), so that
//! a call over HTTP and a file are judged by the same code, and goes out as a [`Record`].
//!
//! This module must not know a database, HTTP or the rules of limits.

mod change;
mod error;
mod filter;
mod kind;
mod record;
mod records;
mod verbs;

pub use change::{Action, Actor, Change, ChangeFilter};
pub use error::{DirectoryError, Unavailable};
pub use filter::{Filter, Page, PageRequest};
pub use kind::Kind;
pub use record::{ApiKey, Id, Model, ModelTier, Record, Stored, Tenant, Tier, User, Version};
pub use records::Records;
pub use tollgate_core::PriorityClass;
pub use verbs::{Created, Directory, Imported};

/// The id of the tier of everyone who has no other. It always exists.
pub const DEFAULT_TIER: &str = "default";
