//! Where policies live, and whom they are for: a file, SQLite or PostgreSQL.
//!
//! [`policy_file::parse`] reads YAML, JSON or TOML into one [`document`] with positions, and [`validate`]
//! turns it into policies or into the list of everything that is wrong with it. [`FileCatalog`] watches such
//! a file and publishes each new valid set whole, as a [`Snapshot`] with a version; what is invalid or
//! missing never replaces what is valid (P11).
//!
//! `DatabaseCatalog` (feature `database`) does the same for a database, which also keeps API keys. Either is a
//! [`Directory`]; a [`Resolver`] finds the tenant and the tier of a check in it.
//!
//! This crate must not know a store, a server or a wire format of checks; only `database` knows a runtime.

pub mod api_key;
#[cfg(feature = "database")]
pub mod database;
pub mod directory;
pub mod document;
pub mod error;
pub mod file_catalog;
pub mod policy_file;
pub mod problem;
pub mod resolve;
pub mod snapshot;
pub mod validate;

#[cfg(feature = "database")]
pub use database::{DatabaseCatalog, DatabaseOptions};
pub use directory::{Directory, DirectoryError};
pub use document::Format;
pub use error::CatalogError;
pub use file_catalog::{CatalogEvent, FileCatalog, Observer, SnapshotDirectory, WatchOptions};
pub use problem::{Position, Problem, Problems};
pub use resolve::{Asked, Resolution, ResolvedKey, Resolver, Standing};
pub use snapshot::{Snapshot, SnapshotReader};
