//! The policies of a file, decided in memory by the code of the server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tollgate::leases::StoreLease;
use tollgate::{MemoryStoreOptions, MonotonicClock};
use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::{CatalogError, Resolver, Snapshot, SnapshotReader, policy_file};
use tollgate_service::{DirectoryLookup, RateLimitService, UnknownApiKeys};
use tollgate_store::MemoryStore;

use crate::arguments::{Given, max_keys, path};
use crate::at_once::at_once;
use crate::check::OwnedCheck;
use crate::clock::{LimiterClock, StoreClock};
use crate::counts::{Counts, metrics_dict};
use crate::decision::Decision;
use crate::errors::catalog_error;
use crate::lease::{Guard, Lease, denied, ttl};

/// The same as in a server: a file knows no API keys, so the hash only shortens the ids under which limits count.
const FILE_KEY: &[u8] = b"the API keys of a policy file";

type Store = Arc<MemoryStore<StoreClock>>;
type Service = RateLimitService<Store>;

/// Decides checks by the policies of a file, as a server with this file does. In memory, for one process.
#[pyclass(frozen, subclass, weakref, module = "tollgate")]
#[derive(Debug)]
pub(crate) struct PolicyLimiter {
    store: Store,
    /// Replaced as a whole when the file is read again. Locked only to copy or replace the reference, while Python's lock is
    /// held, so that a fork does not find it locked.
    service: Mutex<Arc<Service>>,
    path: PathBuf,
    clock: Arc<LimiterClock>,
    counts: Counts,
}

/// Reads a policy file.
type Load = fn(&Path, &KeyHasher) -> Result<Arc<Snapshot>, CatalogError>;

/// The service over `store` with the policies, tiers, models and users of the file at `path`.
fn service_of(path: &Path, store: &Store, load: Load) -> PyResult<Arc<Service>> {
    let hasher = KeyHasher::new(FILE_KEY);
    let snapshot = load(path, &hasher).map_err(|error| catalog_error(&error))?;
    let resolver = Resolver::of_snapshot(hasher, Arc::new(MonotonicClock::new()));
    let service = RateLimitService::new(Arc::clone(store), SnapshotReader::from(snapshot));
    let lookup = DirectoryLookup::new(resolver, UnknownApiKeys::default());
    Ok(Arc::new(service.with_directory(lookup)))
}

impl PolicyLimiter {
    fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl PolicyLimiter {
    /// The limiter with the policies of the file at `path`: YAML, JSON or TOML, as `tollgate serve --catalog file:PATH` takes it.
    #[staticmethod]
    #[pyo3(signature = (path, *, max_keys=Given::Nothing, clock=None), text_signature = "(path, *, max_keys=10000000, clock=None)")]
    fn from_file(
        path: &Bound<'_, PyAny>,
        max_keys: Given<'_>,
        clock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let path = self::path("path", path)?;
        let options =
            MemoryStoreOptions::default().max_keys(self::max_keys(max_keys.value().as_ref())?);
        let (clock, of_store) = LimiterClock::new(clock)?;
        let store = Arc::new(MemoryStore::with_clock(of_store, &options));
        let service = Mutex::new(service_of(&path, &store, policy_file::load_snapshot)?);
        Ok(Self { store, service, path, clock: Arc::new(clock), counts: Counts::default() })
    }

    /// Reads the file again. Usage stays; if the file is invalid or has become empty, the policies stay too, and the error is raised.
    fn reload(&self) -> PyResult<()> {
        let service = service_of(&self.path, &self.store, policy_file::reload_snapshot)?;
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = service;
        Ok(())
    }

    /// Decides a check, and charges it if it is admitted, once if it has a `request_id`.
    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn check(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let check = OwnedCheck::parse("check", user, model, others)?.costing(cost)?;
        self.clock.tick(py)?;
        let decision = at_once(self.service().check(&check.check()))?;
        self.counts.count(decision.allowed());
        Ok(Decision(decision))
    }

    /// Whether a check is admitted; charges it if it is.
    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn allow(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        self.check(py, user, model, cost, others).map(|decision| decision.0.allowed())
    }

    /// The decision that `check` would make now; charges nothing.
    #[pyo3(signature = (user=None, model=None, cost=None, **others))]
    fn peek(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Decision> {
        let check = OwnedCheck::parse("peek", user, model, others)?.costing(cost)?;
        self.clock.tick(py)?;
        at_once(self.service().peek(&check.check())).map(Decision)
    }

    /// Decides a check like `check`; if it is admitted, returns a lease that holds what it reserved for `ttl` seconds. Raises
    /// `RateLimitExceeded` if it is denied.
    #[pyo3(signature = (user=None, model=None, cost=None, *, ttl=None, **others))]
    fn reserve(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        cost: Option<&Bound<'_, PyAny>>,
        ttl: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Lease> {
        let check = OwnedCheck::parse("reserve", user, model, others)?.costing(cost)?;
        let ttl = self::ttl(ttl)?;
        self.clock.tick(py)?;
        let reserved = at_once(self.service().reserve(&check.check(), ttl))?;
        self.counts.count(reserved.decision.allowed());
        let Some(lease) = reserved.lease else { return Err(denied(py, reserved.decision)) };
        let guard = Guard::Memory(StoreLease::new(Arc::clone(&self.store), lease));
        Ok(Lease::new(guard, reserved.decision, Some(Arc::clone(&self.clock))))
    }

    /// Clears the usage of every limit that the check meets, and returns the ids of their policies.
    #[pyo3(signature = (user=None, model=None, **others))]
    fn reset(
        &self,
        py: Python<'_>,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let check = OwnedCheck::parse("reset", user, model, others)?;
        self.clock.tick(py)?;
        let reset = at_once(self.service().reset(&check.check()))?;
        Ok(reset.iter().map(|id| id.as_str().to_owned()).collect())
    }

    /// Clears what `user` has used of each of `models`, at most 1,000, under the limits that are kept per user, and returns the ids of
    /// their policies. What all users share, such as the limit of a model, stays; so does what the user has used of other
    /// models under limits per user and model. `others` are those of `check`, such as the user's `tenant`.
    #[pyo3(signature = (user, models, **others))]
    fn reset_user(
        &self,
        py: Python<'_>,
        user: &Bound<'_, PyAny>,
        models: &Bound<'_, PyAny>,
        others: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<String>> {
        let checks = OwnedCheck::of_user("reset_user", user, models, others)?;
        self.clock.tick(py)?;
        let (service, mut reset) = (self.service(), BTreeSet::new());
        for check in &checks {
            reset.extend(at_once(service.reset_user(&check.check()))?);
        }
        Ok(reset.iter().map(|id| id.as_str().to_owned()).collect())
    }

    /// How many checks were allowed and denied, and how many keys are held.
    fn get_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.counts.metrics(), Some(&self.store.stats()))
    }

    /// Counts checks from 0 again, and returns the metrics until now.
    fn reset_metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics_dict(py, self.counts.reset(), Some(&self.store.stats()))
    }

    fn __repr__(&self) -> String {
        format!("<PolicyLimiter of {}>", self.path.display())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.traverse(&visit)
    }
}
