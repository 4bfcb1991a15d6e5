//! Opens the catalog of the configuration, and loads the secrets that belong to it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{Actor, Kind};
use tollgate_catalog::{
    CatalogEvent, CatalogWarning, DatabaseCatalog, DatabaseOptions, FileCatalog, Observer,
    Resolver, Snapshot, SnapshotReader, WatchOptions,
};
use tollgate_core::{Counting, MonotonicClock, OnExpire, Policy, PolicySet};

use crate::admin_directory::AdminDirectory;
use crate::config::{
    ADMIN, ADMIN_READ, AdminToken, CatalogConfig, Role, Secret, ServeConfig, StoreConfig,
};
use crate::guard::Guard;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::start_error::StartError;
use crate::telemetry::Chain;

/// Used in place of a secret if there are no stored keys to protect.
const FILE_KEY: &str = "the API keys of a policy file";

/// A catalog: the policies in force, the lookup of subjects, and the file watcher.
pub(crate) struct Catalog {
    pub(crate) policies: SnapshotReader,
    pub(crate) lookup: Option<Resolver>,
    pub(crate) directory: AdminDirectory,
    /// Dropped after the last request is answered; then nothing follows changes any more.
    pub(crate) file: Option<FileCatalog>,
}

/// Opens the catalog of `config`. Its events are logged, counted and shown in `/readyz`.
pub(crate) async fn open(
    config: &ServeConfig,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<Catalog, StartError> {
    let has_built_in = Arc::new(AtomicBool::new(false));
    let observer = CatalogObserver {
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        has_built_in: Arc::clone(&has_built_in),
        file: config.catalog.file().map(Path::to_owned),
        keeps_leases: keeps_leases(config),
        gives_parts: gives_parts(config),
    };
    let begin_with = |snapshot: &Snapshot| {
        has_built_in.store(has_built_in_policy(snapshot), Ordering::Relaxed);
        log_warnings(snapshot, config.catalog.file());
        warn_of_splits(snapshot, gives_parts(config));
    };
    match &config.catalog {
        CatalogConfig::BuiltIn => {
            let default = PolicySet::new(Vec::new()).map_err(StartError::Policies)?;
            let policies = SnapshotReader::fixed(default);
            let directory = AdminDirectory::Snapshots(policies.clone().into());
            Ok(Catalog { policies, lookup: None, directory, file: None })
        }
        CatalogConfig::File(path) => {
            // A file knows no API keys, so the hash only shortens the ids under which limits count.
            let secret = config.api_key_secret.as_ref().map_or(FILE_KEY, Secret::reveal);
            let hasher = KeyHasher::new(secret.as_bytes());
            let leases = keeps_leases(config);
            let options = WatchOptions { leases, ..WatchOptions::default() };
            let keys = Some(hasher.clone());
            let file = FileCatalog::open_with_keys(path, options, keys, observer)
                .map_err(StartError::Catalog)?;
            let policies = file.reader();
            begin_with(&policies.snapshot());
            let directory = AdminDirectory::Snapshots(policies.clone().into());
            let lookup = Resolver::of_snapshot(hasher, Arc::new(MonotonicClock::new()));
            Ok(Catalog { policies, lookup: Some(lookup), directory, file: Some(file) })
        }
        CatalogConfig::Database(url) => {
            let hasher = KeyHasher::new(&api_key_secret(url.reveal(), config)?);
            let options = DatabaseOptions::default();
            let opened = DatabaseCatalog::open(url.reveal(), hasher, options, observer).await;
            let database = Arc::new(opened.map_err(StartError::Catalog)?);
            let (policies, lookup) = (database.reader(), Some(database.resolver()));
            begin_with(&policies.snapshot());
            Ok(Catalog {
                policies,
                lookup,
                directory: AdminDirectory::Database(database),
                file: None,
            })
        }
    }
}

/// The ids of the policies that only mean something if the store keeps leases.
pub(crate) fn about_leases(snapshot: &Snapshot) -> Vec<String> {
    let policies = snapshot.policies().policies().iter();
    let about_leases = policies.filter(|policy| {
        policy.counting == Counting::Concurrency || policy.on_expire == OnExpire::Refund
    });
    about_leases.map(|policy| policy.id.as_str().to_owned()).collect()
}

/// Whether the store of `config` keeps leases.
fn keeps_leases(config: &ServeConfig) -> bool {
    !matches!(config.store, StoreConfig::Memcached(_))
}

/// Whether the store of `config` gives parts of limits ahead of time (R22).
fn gives_parts(config: &ServeConfig) -> bool {
    matches!(config.store, StoreConfig::Redis(_))
}

/// Logs the policies that are split over a store that gives no parts: they are enforced as if they were not split.
fn warn_of_splits(snapshot: &Snapshot, gives_parts: bool) {
    let split = snapshot.policies().policies().iter().filter(|policy| policy.split.is_some());
    let ids: Vec<_> = split.map(|policy| policy.id.as_str()).collect();
    if !gives_parts && !ids.is_empty() {
        tracing::warn!(
            policies = ids.join(", "),
            "`split` has no effect over this store: every check of these policies asks it; only Redis gives parts of limits"
        );
    }
}

/// The secret for hashing API keys: the configured one, or for SQLite the one in a file beside the database, which is
/// created at the first start.
pub(crate) fn api_key_secret(url: &str, config: &ServeConfig) -> Result<Vec<u8>, StartError> {
    if let Some(secret) = &config.api_key_secret {
        return Ok(secret.reveal().as_bytes().to_vec());
    }
    let file = tollgate_catalog::database_file(url).map_err(StartError::Catalog)?;
    let mut path = file.ok_or(StartError::NoApiKeySecret)?.into_os_string();
    path.push(".secret");
    let path = PathBuf::from(path);
    let failed = |source| StartError::ApiKeySecret { path: path.clone(), source };
    match fs::read(&path) {
        Ok(secret) if secret.len() >= Secret::MIN_BYTES => Ok(secret),
        Ok(_) => Err(failed(io::Error::other("it is too short"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(|error| failed(io::Error::other(error)))?;
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
            file.write_all(&secret).map_err(failed)?;
            Ok(secret.to_vec())
        }
        Err(error) => Err(failed(error)),
    }
}

/// A text that says nothing about the secret for API keys and is the same on all nodes that have the same one; `None` without a
/// catalog, where API keys are not hashed. The secret of a SQLite database is made if it is missing.
pub(crate) fn api_key_fingerprint(config: &ServeConfig) -> Result<Option<String>, StartError> {
    let secret = match &config.catalog {
        CatalogConfig::BuiltIn => return Ok(None),
        CatalogConfig::File(_) => {
            config.api_key_secret.as_ref().map_or(FILE_KEY, Secret::reveal).as_bytes().to_vec()
        }
        CatalogConfig::Database(url) => api_key_secret(url.reveal(), config)?,
    };
    Ok(Some(KeyHasher::new(&secret).hash(FINGERPRINTED).to_hex()))
}

/// No API key begins like this.
const FINGERPRINTED: &str = "tollgate: the same secret on every node?";

/// The guard of the admin calls, for the tokens of `config` and the generated one, if there is one.
pub(crate) fn guard(config: &ServeConfig, made: Option<&Secret>) -> Result<Guard, StartError> {
    let impossible = |what| move || StartError::AdminToken(io::Error::other(what));
    let by_variable = [
        (ADMIN, Role::Write, config.admin_token.as_ref().or(made)),
        (ADMIN_READ, Role::Read, config.admin_read_token.as_ref()),
    ];
    let mut tokens = config.admin_tokens.clone();
    for (name, role, token) in by_variable {
        let actor = Actor::new(name).map_err(|_| impossible("its name is invalid")())?;
        tokens.extend(token.map(|token| AdminToken { actor, role, token: token.clone() }));
    }
    Guard::new(tokens).ok_or_else(impossible("the limit for wrong tokens cannot be built"))
}

/// A token that is valid until the server ends.
pub(crate) fn made_token() -> Result<Secret, StartError> {
    let mut random = [0; 24];
    getrandom::fill(&mut random)
        .map_err(|error| StartError::AdminToken(io::Error::other(error)))?;
    let mut token = String::new();
    for byte in random {
        // Writing to a `String` cannot fail.
        _ = write!(token, "{byte:02x}");
    }
    Ok(Secret::new(token))
}

/// The most warnings about one version of the catalog that are logged.
const MAX_LOGGED_WARNINGS: usize = 20;

/// Logs what about the policies and records of `snapshot`, which are from `file` if they are from one, is worth a second look.
fn log_warnings(snapshot: &Snapshot, file: Option<&Path>) {
    let warnings = snapshot.warnings();
    let file = file.map(|file| tracing::field::display(file.display()));
    for CatalogWarning { kind, id, problem } in warnings.iter().take(MAX_LOGGED_WARNINGS) {
        if *kind == Kind::Policy {
            tracing::warn!(file, policy = id, warning = %problem, "a policy may not do what it seems to");
        } else {
            // The log names no user.
            let id = (*kind != Kind::User).then_some(id);
            tracing::warn!(file, kind = kind.name(), id, warning = %problem, "a record may not be what it seems to be");
        }
    }
    let more = warnings.len().saturating_sub(MAX_LOGGED_WARNINGS);
    if more > 0 {
        tracing::warn!(
            file,
            more,
            "more policies or records may not do what they seem to; GET /admin/policies shows why for policies"
        );
    }
}

/// Logs and counts the events of the catalog.
struct CatalogObserver {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// Whether the built-in policy is in force, to say when it no longer is. Relaxed: only this observer changes it.
    has_built_in: Arc<AtomicBool>,
    /// The policy file, if the catalog is one.
    file: Option<PathBuf>,
    /// Whether the store keeps leases.
    keeps_leases: bool,
    /// Whether the store gives parts of limits ahead of time.
    gives_parts: bool,
}

fn has_built_in_policy(snapshot: &Snapshot) -> bool {
    snapshot.policies().policies().iter().any(Policy::is_built_in)
}

impl Observer for CatalogObserver {
    fn observe(&self, event: &CatalogEvent<'_>) {
        match event {
            CatalogEvent::Published(snapshot) => {
                self.metrics.policies_in_force(snapshot);
                self.metrics.reloads_ok.inc();
                self.health.set_catalog_refused(false);
                let policies = snapshot.policies().policies().len();
                tracing::info!(version = snapshot.version(), policies, "new policies are in force");
                let about_leases = about_leases(snapshot);
                if !self.keeps_leases && !about_leases.is_empty() {
                    tracing::error!(
                        policies = about_leases.join(", "),
                        "this store keeps no leases, which these policies are about: nothing can be reserved, and the server will not \
                         start with them; remove them, or use a store in Redis"
                    );
                }
                let has_built_in = has_built_in_policy(snapshot);
                if self.has_built_in.swap(has_built_in, Ordering::Relaxed) && !has_built_in {
                    tracing::warn!(
                        "the built-in policy (100 requests an hour per user and model) is no longer in force: it was changed or \
                         deleted, or a policy file has got policies of its own"
                    );
                }
                log_warnings(snapshot, self.file.as_deref());
                warn_of_splits(snapshot, self.gives_parts);
            }
            CatalogEvent::Refused(error) => {
                self.metrics.reloads_refused.inc();
                self.health.set_catalog_refused(true);
                tracing::error!(error = %Chain(*error), "the changed policies were refused; the old policies stay in force");
            }
            CatalogEvent::Unavailable(error) => {
                self.health.set_catalog_unavailable(true);
                self.metrics.catalog.went_away();
                tracing::warn!(error = %Chain(*error), "the catalog's database is unavailable; checks use the last known records, and records that this node has not read count as unknown");
            }
            CatalogEvent::Available => {
                self.health.set_catalog_unavailable(false);
                self.metrics.catalog.came_back();
                tracing::info!("the catalog's database is available again");
            }
            CatalogEvent::Restored => {
                self.health.set_catalog_refused(false);
                tracing::info!(
                    "the catalog again contains the policies in force; the change that was refused is gone"
                );
            }
            CatalogEvent::PollingOnly(error) => {
                tracing::warn!(
                    error,
                    "change notifications are unavailable; the catalog is polled every one or two seconds instead, so changes may apply slightly later"
                );
            }
            other => tracing::info!(event = ?other, "unknown event of the catalog"),
        }
    }
}
