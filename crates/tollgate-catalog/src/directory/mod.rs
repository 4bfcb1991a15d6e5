//! Tenants, users, API keys, tiers, model tiers, models and policies, as records that a [`Directory`] stores and
//! changes, with an audit log.
//!
//! Every kind of record has the same operations. A body is passed in as a [`Node`](crate::document::Node), so that the
//! same code validates a call over HTTP and a file, and a [`Record`] is returned.
//!
//! This module must not know a database, HTTP or the rules of limits.

mod address;
mod change;
mod contract;
mod error;
mod filter;
mod kind;
mod record;
mod records;

pub use address::{Address, user_address};
pub use change::{Action, Actor, Change, ChangeFilter};
pub use contract::{Created, Directory, Imported};
pub use error::{DirectoryError, Unavailable};
pub use filter::{Filter, Page, PageRequest};
pub use kind::Kind;
pub use record::{ApiKey, Id, Model, ModelTier, Record, Stored, Tenant, Tier, User, Version};
pub use records::{Records, source};
pub use tollgate_core::PriorityClass;

/// The id of the tier of every subject without another tier. It always exists.
pub const DEFAULT_TIER: &str = "default";
