//! What a simulation decides with: policies, and the catalog that completes checks.

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::{Resolver, Snapshot, SnapshotReader};
use tollgate_core::{Check, ManualClock, MonotonicClock, PolicySet, Reason};
use tollgate_service::{DirectoryLookup, Known, RateLimitService, UnknownApiKeys};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

use crate::{SimulateArgs, SimulateError};

/// Used in place of a secret, as `serve` does for a file: there are no stored keys to protect.
const FILE_KEY: &str = "the API keys of a policy file";

/// A future of the lookup of a check.
pub type Lookup<'f> = Pin<Box<dyn Future<Output = Known> + Send + 'f>>;

/// Waits for a lookup, which may need a runtime.
pub type Wait = Box<dyn for<'f> Fn(Lookup<'f>) -> Option<Known>>;

/// What a simulation decides with.
pub struct Source {
    /// The policies, tiers and models.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Completes checks; `None` uses them as the trace gives them.
    catalog: Option<(DirectoryLookup, Wait)>,
    /// What the report calls it; `None` for the built-in policy.
    pub(crate) name: Option<String>,
}

impl Source {
    /// Only `policies`: checks are used as the trace gives them, as by a server without a catalog.
    pub fn policies(policies: PolicySet) -> Self {
        Self { snapshot: SnapshotReader::fixed(policies).snapshot(), catalog: None, name: None }
    }

    /// The catalog of `snapshot`, in which `resolver` looks subjects up; `wait` drives its lookups.
    pub fn catalog(
        name: String,
        snapshot: Arc<Snapshot>,
        resolver: Resolver,
        unknown_api_keys: UnknownApiKeys,
        wait: Wait,
    ) -> Self {
        let lookup = DirectoryLookup::new(resolver, unknown_api_keys);
        Self { snapshot, catalog: Some((lookup, wait)), name: Some(name) }
    }

    /// The policy file that `args` name, or the built-in policy.
    pub(crate) fn of_args(args: &SimulateArgs) -> Result<Self, SimulateError> {
        let file = match (&args.policies, &args.catalog) {
            (Some(path), _) => path.clone(),
            (None, Some(url)) => match url.strip_prefix("file:") {
                Some(path) => path.into(),
                None => {
                    return Err(SimulateError::Flag {
                        flag: "--catalog",
                        problem: "is not a file, and no database was opened".to_owned(),
                        accepted: "`file:PATH`",
                    });
                }
            },
            (None, None) => {
                let default = PolicySet::new(Vec::new()).map_err(SimulateError::PolicySet)?;
                return Ok(Self::policies(default));
            }
        };
        Self::file(&file, unknown_api_keys(args))
    }

    /// The policy file `file`, whose records complete the checks.
    pub(crate) fn file(
        file: &Path,
        unknown_api_keys: UnknownApiKeys,
    ) -> Result<Self, SimulateError> {
        let hasher = KeyHasher::new(FILE_KEY.as_bytes());
        let snapshot = tollgate_catalog::policy_file::load_snapshot(file, &hasher)
            .map_err(SimulateError::Policies)?;
        let resolver = Resolver::of_snapshot(hasher, Arc::new(MonotonicClock::new()));
        let name = file.display().to_string();
        Ok(Self::catalog(
            name,
            snapshot,
            resolver,
            unknown_api_keys,
            Box::new(|lookup| at_once(lookup)),
        ))
    }

    /// The use cases of a server with this catalog and an empty store, on `clock`.
    pub(crate) fn service(
        &self,
        clock: &ManualClock,
    ) -> RateLimitService<MemoryStore<ManualClock>> {
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        let service = RateLimitService::new(store, Arc::clone(&self.snapshot).into());
        match &self.catalog {
            Some((lookup, _)) => service.with_directory(lookup.clone()),
            None => service,
        }
    }

    /// Calls `decide` with `check` as the limits see it, and with the reason for which it is denied without them.
    pub(crate) fn complete<T>(
        &self,
        check: &Check<'_>,
        decide: impl FnOnce(&Check<'_>, Option<Reason>) -> T,
    ) -> Result<T, SimulateError> {
        let Some((lookup, wait)) = &self.catalog else { return Ok(decide(check, None)) };
        let known = wait(Box::pin(lookup.resolve(&self.snapshot, check)));
        let known = known.ok_or(SimulateError::CatalogUnavailable)?;
        Ok(decide(&known.complete(check, &self.snapshot), known.refused()))
    }
}

/// How `args` handle API keys that the catalog does not know.
pub fn unknown_api_keys(args: &SimulateArgs) -> UnknownApiKeys {
    unknown_api_keys_of(args.unknown_api_keys.as_deref())
}

/// The same for the value of the flag.
pub(crate) fn unknown_api_keys_of(flag: Option<&str>) -> UnknownApiKeys {
    match flag {
        Some("deny") => UnknownApiKeys::Deny,
        _ => UnknownApiKeys::Count,
    }
}

/// A lookup in a file, and a call of the store in memory, has its answer at once.
pub(crate) fn at_once<F: Future>(call: F) -> Option<F::Output> {
    match pin!(call).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
