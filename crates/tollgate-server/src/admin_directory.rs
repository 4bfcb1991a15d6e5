//! The directory behind the admin calls: a database, or the read-only content of a file.

use std::sync::Arc;

use tollgate_catalog::directory::{
    Actor, Change, ChangeFilter, Created, Directory, DirectoryError, Filter, Imported, Kind, Page,
    PageRequest, Stored, Version,
};
use tollgate_catalog::document::Node;
use tollgate_catalog::{DatabaseCatalog, SnapshotDirectory};

/// A directory of one of the kinds that the server supports.
#[derive(Clone, Debug)]
pub(crate) enum AdminDirectory {
    /// Of a file, or of the built-in policy.
    Snapshots(SnapshotDirectory),
    /// Of a database.
    Database(Arc<DatabaseCatalog>),
}

impl AdminDirectory {
    /// Writes pending data and closes connections, after the last call.
    pub(crate) async fn close(&self) {
        if let Self::Database(database) = self {
            database.close().await;
        }
    }
}

/// Forwards a call to either variant.
macro_rules! with_either {
    ($directory:expr, $inner:ident => $call:expr) => {
        match $directory {
            AdminDirectory::Snapshots($inner) => $call,
            AdminDirectory::Database($inner) => $call,
        }
    };
}

impl Directory for AdminDirectory {
    async fn list(
        &self,
        kind: Kind,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Stored>, DirectoryError> {
        with_either!(self, directory => directory.list(kind, filter, page).await)
    }

    async fn get(&self, kind: Kind, id: &str) -> Result<Stored, DirectoryError> {
        with_either!(self, directory => directory.get(kind, id).await)
    }

    async fn create(
        &self,
        actor: &Actor,
        kind: Kind,
        body: &Node,
    ) -> Result<Created, DirectoryError> {
        with_either!(self, directory => directory.create(actor, kind, body).await)
    }

    async fn replace(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> Result<Stored, DirectoryError> {
        with_either!(self, directory => directory.replace(actor, kind, id, expected, body).await)
    }

    async fn patch(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
        body: &Node,
    ) -> Result<Stored, DirectoryError> {
        with_either!(self, directory => directory.patch(actor, kind, id, expected, body).await)
    }

    async fn delete(
        &self,
        actor: &Actor,
        kind: Kind,
        id: &str,
        expected: Option<Version>,
    ) -> Result<(), DirectoryError> {
        with_either!(self, directory => directory.delete(actor, kind, id, expected).await)
    }

    async fn changes(
        &self,
        filter: &ChangeFilter,
        page: &PageRequest,
    ) -> Result<Page<Change>, DirectoryError> {
        with_either!(self, directory => directory.changes(filter, page).await)
    }

    async fn export(&self) -> Result<Node, DirectoryError> {
        with_either!(self, directory => directory.export().await)
    }

    async fn import(&self, actor: &Actor, document: &Node) -> Result<Imported, DirectoryError> {
        with_either!(self, directory => directory.import(actor, document).await)
    }

    fn is_writable(&self) -> bool {
        with_either!(self, directory => directory.is_writable())
    }
}
