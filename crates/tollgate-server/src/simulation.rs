//! `tollgate simulate`, with the catalogs of `serve`.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::{CatalogEvent, DatabaseCatalog, DatabaseOptions};
use tollgate_simulate::{Report, SimulateArgs, SimulateError, Source};

use crate::catalog::api_key_secret;
use crate::config::{self, CatalogConfig, ServeConfig};

/// How long a check waits for its subject: there is no caller in a hurry.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any simulation: it must not change when keys were last used.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// Why there is no report.
pub(crate) enum SimulationError {
    /// The simulation failed.
    Simulate(SimulateError),
    /// The catalog cannot be used.
    Catalog(Box<dyn Error>),
}

impl<E: Error + 'static> From<E> for SimulationError {
    fn from(error: E) -> Self {
        Self::Catalog(Box::new(error))
    }
}

/// Runs the simulation of `args`.
pub(crate) fn run(mut args: SimulateArgs) -> Result<Report, SimulationError> {
    let Some(url) = &args.catalog else {
        return tollgate_simulate::run(&args).map_err(SimulationError::Simulate);
    };
    let environment = |name: &str| std::env::var_os(name);
    match config::catalog_of(url)? {
        CatalogConfig::BuiltIn => args.catalog = None,
        CatalogConfig::File(path) => (args.policies, args.catalog) = (Some(path), None),
        CatalogConfig::Database(url) => {
            let secret = config::api_key_secret_of(environment)?;
            let config = ServeConfig { api_key_secret: secret, ..ServeConfig::default() };
            return with_database(&args, url.reveal(), &config);
        }
    }
    tollgate_simulate::run(&args).map_err(SimulationError::Simulate)
}

fn with_database(
    args: &SimulateArgs,
    url: &str,
    config: &ServeConfig,
) -> Result<Report, SimulationError> {
    must_exist(url)?;
    let hasher = KeyHasher::new(&api_key_secret(url, config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = DatabaseOptions {
        notifications: false,
        load_timeout: LOAD_TIMEOUT,
        record_uses_every: NEVER,
        ..DatabaseOptions::default()
    };
    let observer = |_: &CatalogEvent<'_>| {};
    let opened = runtime.block_on(DatabaseCatalog::open(url, hasher, options, observer))?;
    // The policies of the start are used throughout, as one version.
    let (snapshot, resolver) = (opened.reader().snapshot(), opened.resolver());
    let handle = runtime.handle().clone();
    let wait = move |lookup: tollgate_simulate::Lookup<'_>| {
        Some(handle.block_on(lookup)).filter(|known| !known.is_degraded())
    };
    let unknown = tollgate_simulate::unknown_api_keys(args);
    let name = "the catalog's database".to_owned();
    let source = Source::catalog(name, snapshot, resolver, unknown, Box::new(wait));
    let report = tollgate_simulate::simulate_with(args, &source);
    drop((source, opened));
    runtime.shutdown_background();
    report.map_err(SimulationError::Simulate)
}

/// Refuses a file of SQLite that is not there: opening it would create it.
fn must_exist(url: &str) -> io::Result<()> {
    let Some(path) = url.strip_prefix("sqlite:") else { return Ok(()) };
    let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
    if Path::new(path).is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "--catalog: {path} is not a file; accepted: the database of a server"
    )))
}
