//! What can be done with a directory.

use super::{
    Actor, Change, ChangeFilter, DirectoryError, Filter, Kind, Page, PageRequest, Stored, Version,
};
use crate::document::Node;

/// A record that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The record.
    pub stored: Stored,
    /// The secret of an API key, now and never again; `None` for other kinds.
    pub secret: Option<crate::api_key::Secret>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were made.
    pub created: usize,
    /// Records that were replaced because they differed.
    pub updated: usize,
    /// Records that were as they are in the file already.
    pub unchanged: usize,
}

/// Keeps records, and their history. What is wrong with a record or a document by itself is told without it, by
/// [`validate`](crate::validate).
///
/// A change is made whole, with its entry in the history, or not at all. When a call that changes something returns,
/// checks on this node obey it; on other nodes they do within 5 seconds. A call that fails has changed nothing,
/// except that after the loss of the connection to a PostgreSQL server during the commit nobody can say:
/// [`DirectoryError::Unavailable`].
///
/// Bodies are maps as in a policy file. A field that is not known, one out of range, and a reference to what does not
/// exist are all in the [`Problems`](crate::Problems) of [`DirectoryError::Invalid`].
///
/// `expected` is the version that a change is meant for; a record of another version stays as it is
/// ([`DirectoryError::Stale`]). `None` takes any.
pub trait Directory: Send + Sync {
    /// The records of `kind` that `filter` names, in the order of their ids.
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

    /// Makes a record. An `id` that is left out is made.
    fn create(
        &self,
        actor: &Actor,
        kind: Kind,
        body: &Node,
    ) -> impl Future<Output = Result<Created, DirectoryError>> + Send;

    /// Replaces a record whole: what `body` leaves out gets its default. The id stays: `body` may leave it out, or
    /// repeat it. The secret of an API key stays too.
    fn replace(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> impl Future<Output = Result<Stored, DirectoryError>> + Send;

    /// Replaces the fields that `body` has, each whole. `null` gives a field its default again; but a policy's
    /// `limit: null` exempts, and is not the same as leaving `limit` out.
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

    /// The history, the newest change first.
    fn changes(
        &self,
        filter: &ChangeFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Change>, DirectoryError>> + Send;

    /// All records but API keys, as a policy file: one consistent state, a map of lists.
    fn export(&self) -> impl Future<Output = Result<Node, DirectoryError>> + Send;

    /// Makes or replaces every record of a policy file, all or none. Records that the file does not name stay.
    fn import(
        &self,
        actor: &Actor,
        document: &Node,
    ) -> impl Future<Output = Result<Imported, DirectoryError>> + Send;

    /// Whether [`Directory::create`] and the other changes can succeed at all; not so for a file.
    fn is_writable(&self) -> bool;
}
