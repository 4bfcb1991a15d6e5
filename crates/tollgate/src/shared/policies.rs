//! Where the policies of a shared limiter come from.

use tollgate_catalog::SnapshotReader;
use tollgate_core::PolicySet;
use tollgate_service::DirectoryLookup;

use super::ConnectError;

/// Where the policies come from.
#[non_exhaustive]
pub enum Policies {
    /// They do not change.
    Set(PolicySet),
    /// A policy file (`.yaml`, `.yml`, `.json` or `.toml`), whose changes are followed. An invalid change changes nothing.
    #[cfg(feature = "catalog")]
    File(std::path::PathBuf),
    /// The database of servers, whose changes are followed: their policies, users, tenants and API keys.
    #[cfg(feature = "catalog")]
    Database {
        /// `sqlite:FILE` or `postgres://…`.
        url: String,
        /// The secret for hashing API keys, which is that of the servers (`TOLLGATE_API_KEY_SECRET`, or the file beside the
        /// database).
        api_key_secret: Vec<u8>,
    },
}

impl From<PolicySet> for Policies {
    fn from(set: PolicySet) -> Self {
        Self::Set(set)
    }
}

/// It may contain a password, so it shows no more than its kind.
impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Set(_) => "Policies::Set",
            #[cfg(feature = "catalog")]
            Self::File(_) => "Policies::File",
            #[cfg(feature = "catalog")]
            Self::Database { .. } => "Policies::Database",
        })
    }
}

/// What follows changes of the policies while it lives.
pub(super) enum Source {
    Fixed,
    #[cfg(feature = "catalog")]
    File {
        _watcher: tollgate_catalog::FileCatalog,
    },
    #[cfg(feature = "catalog")]
    Database {
        _catalog: Box<tollgate_catalog::DatabaseCatalog>,
    },
}

impl Policies {
    #[cfg_attr(
        not(feature = "catalog"),
        expect(clippy::unused_async, reason = "only a database is waited for")
    )]
    pub(super) async fn open(
        self,
    ) -> Result<(SnapshotReader, Option<DirectoryLookup>, Source), ConnectError> {
        match self {
            Self::Set(set) => Ok((SnapshotReader::fixed(set), None, Source::Fixed)),
            #[cfg(feature = "catalog")]
            Self::File(path) => followed::file(&path),
            #[cfg(feature = "catalog")]
            Self::Database { url, api_key_secret } => {
                followed::database(&url, &api_key_secret).await
            }
        }
    }
}

#[cfg(feature = "catalog")]
mod followed {
    use std::path::Path;
    use std::sync::Arc;

    use tollgate_catalog::api_key::KeyHasher;
    use tollgate_catalog::{
        CatalogEvent, DatabaseCatalog, DatabaseOptions, FileCatalog, Resolver, SnapshotReader,
        WatchOptions,
    };
    use tollgate_core::MonotonicClock;
    use tollgate_service::{DirectoryLookup, UnknownApiKeys};

    use super::{ConnectError, Source};

    type Opened = (SnapshotReader, Option<DirectoryLookup>, Source);

    /// The same as in a server: a file knows no API keys, so the hash only shortens the ids under which limits count.
    const FILE_KEY: &[u8] = b"the API keys of a policy file";

    pub(super) fn file(path: &Path) -> Result<Opened, ConnectError> {
        let hasher = KeyHasher::new(FILE_KEY);
        let (options, keys) = (WatchOptions::default(), Some(hasher.clone()));
        let ignored = |_: &CatalogEvent<'_>| {};
        let watcher = FileCatalog::open_with_keys(path, options, keys, ignored)?;
        let reader = watcher.reader();
        let resolver = Resolver::of_snapshot(hasher, Arc::new(MonotonicClock::new()));
        let lookup = DirectoryLookup::new(resolver, UnknownApiKeys::default());
        Ok((reader, Some(lookup), Source::File { _watcher: watcher }))
    }

    pub(super) async fn database(url: &str, secret: &[u8]) -> Result<Opened, ConnectError> {
        let (hasher, options) = (KeyHasher::new(secret), DatabaseOptions::default());
        let ignored = |_: &CatalogEvent<'_>| {};
        let catalog = DatabaseCatalog::open(url, hasher, options, ignored).await?;
        let lookup = DirectoryLookup::new(catalog.resolver(), UnknownApiKeys::default());
        let reader = catalog.reader();
        Ok((reader, Some(lookup), Source::Database { _catalog: Box::new(catalog) }))
    }
}
