//! The catalog: policies and the records that they refer to, in a file, SQLite or PostgreSQL.
//!
//! [`policy_file::parse`] parses YAML, JSON or TOML into one [`document`] with positions, and [`validate`] converts it
//! into policies or into a list of all its problems. [`FileCatalog`] watches such a file and publishes each new valid
//! set as a whole, as a [`Snapshot`] with a version. Invalid or missing data never replaces valid data (P11).
//!
//! `DatabaseCatalog` (feature `database`) does the same for a database, which also stores API keys. Both are a
//! [`Directory`]; a [`Resolver`] finds the tenant and the tier of a check in it.
//!
//! This crate must not know a store, a server or a wire format of checks; only `database` uses an async runtime.

pub mod api_key;
#[cfg(feature = "database")]
pub mod database;
pub mod directory;
pub mod document;
pub mod environment;
pub mod error;
pub mod file_catalog;
pub mod policy_file;
pub mod problem;
pub mod reading;
pub mod resolve;
pub mod snapshot;
pub mod validate;

#[cfg(feature = "database")]
pub use database::{DatabaseCatalog, DatabaseOptions, database_file};
pub use directory::{Directory, DirectoryError};
pub use document::Format;
pub use error::CatalogError;
pub use file_catalog::{CatalogEvent, FileCatalog, Observer, SnapshotDirectory, WatchOptions};
pub use problem::{DocumentProblem, Position, Problems};
pub use resolve::{Asked, Resolution, ResolvedKey, Resolver, Standing};
pub use snapshot::{Snapshot, SnapshotReader};
pub use validate::CatalogWarning;
