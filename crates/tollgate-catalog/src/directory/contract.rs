//! The operations of a directory.

use super::{
    Actor, Change, ChangeFilter, DirectoryError, Filter, Kind, Page, PageRequest, Stored, Version,
};
use crate::document::Node;

/// A record that was just created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The record.
    pub stored: Stored,
    /// The secret of an API key, which is returned only here; `None` for other kinds.
    pub secret: Option<crate::api_key::ApiKeySecret>,
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were created.
    pub created: usize,
    /// Records that were replaced because they differed.
    pub updated: usize,
    /// Records that already were as in the file.
    pub unchanged: usize,
}

/// Stores records and the audit log. Problems of a record or a document on its own are found by
/// [`validate`](crate::validate).
///
/// A change is made as a whole, with its entry in the audit log, or not at all. When a call that changes something
/// returns, the change applies to checks on this node; on other nodes it applies within 5 seconds. A call that fails
/// has changed nothing. There is one exception: if the connection to a PostgreSQL server is lost during the commit, it
/// is unknown whether the change was made ([`DirectoryError::Unavailable`]).
///
/// Bodies are maps as in a policy file. Unknown fields, values out of range and references to records that do not exist
/// are all listed in the [`Problems`](crate::Problems) of [`DirectoryError::Invalid`].
///
/// `expected` is the version that a change expects; a record with another version is not changed
/// ([`DirectoryError::Stale`]). `None` accepts any version.
pub trait Directory: Send + Sync {
    /// The records of `kind` that match `filter`, sorted by id.
    fn list(
        &self,
        kind: Kind,
        filter: &Filter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Stored>, DirectoryError>> + Send;

    /// The record of `kind` with the id `id`.
    fn get(
        &self,
        kind: Kind,
        id: &str,
    ) -> impl Future<Output = Result<Stored, DirectoryError>> + Send;

    /// Creates a record. If `id` is omitted, one is generated.
    fn create(
        &self,
        actor: &Actor,
        kind: Kind,
        body: &Node,
    ) -> impl Future<Output = Result<Created, DirectoryError>> + Send;

    /// Replaces a whole record: fields that `body` omits get their defaults. The id stays the same: `body` may omit or
    /// repeat it. The secret of an API key stays the same too.
    fn replace(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> impl Future<Output = Result<Stored, DirectoryError>> + Send;

    /// Replaces the fields in `body`, each as a whole. `null` restores the default of a field; but a policy's `limit:
    /// null` exempts, which is not the same as omitting `limit`.
    fn patch(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> impl Future<Output = Result<Stored, DirectoryError>> + Send;

    /// Deletes a record that no other refers to.
    fn delete(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> impl Future<Output = Result<(), DirectoryError>> + Send;

    /// The audit log, newest change first.
    fn changes(
        &self,
        filter: &ChangeFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Change>, DirectoryError>> + Send;

    /// All records except API keys, as a policy file: one consistent state, a map of lists.
    fn export(&self) -> impl Future<Output = Result<Node, DirectoryError>> + Send;

    /// Creates or replaces every record of a policy file, all or none. Records that the file does not name are kept.
    fn import(
        &self,
        actor: &Actor,
        document: &Node,
    ) -> impl Future<Output = Result<Imported, DirectoryError>> + Send;

    /// Whether [`Directory::create`] and the other changes can succeed at all; false for a file.
    fn is_writable(&self) -> bool;
}
