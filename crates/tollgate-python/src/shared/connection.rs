//! How a shared limiter begins: with the first call in each process.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::OnceCell;
use tollgate::shared::{ConnectError, Policies, RedisStore, ResilienceOptions, SharedLimiter};
use tollgate::{Policy, PolicySet, PolicySetError};
use tollgate_store::StoreError;

use super::runtime::OfProcess;
use crate::errors;

pub(super) type Limiter = SharedLimiter<RedisStore>;

/// Where the policies come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Fixed(Box<Policy>),
    File(PathBuf),
    Database { url: String, api_key_secret: Vec<u8> },
}

impl Source {
    fn policies(&self) -> Result<Policies, PolicySetError> {
        Ok(match self {
            Self::Fixed(policy) => Policies::Set(PolicySet::new(vec![(**policy).clone()])?),
            Self::File(path) => Policies::File(path.clone()),
            Self::Database { url, api_key_secret } => {
                Policies::Database { url: url.clone(), api_key_secret: api_key_secret.clone() }
            }
        })
    }
}

/// What a connection needs.
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) source: Source,
    pub(super) options: ResilienceOptions,
}

/// The limiter of this process, once it has begun.
#[derive(Clone)]
pub(super) struct Connection {
    settings: Arc<Settings>,
    limiter: Arc<OnceCell<Arc<Limiter>>>,
}

/// The connection of each process that uses a limiter.
pub(super) struct Connections {
    settings: Arc<Settings>,
    current: Mutex<OfProcess<Connection>>,
}

/// Why a call has no answer.
pub(super) enum Failure {
    Policies(PolicySetError),
    Connect(ConnectError),
    Store(StoreError),
}

impl From<PolicySetError> for Failure {
    fn from(error: PolicySetError) -> Self {
        Self::Policies(error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Policies(error) => PyValueError::new_err(error.to_string()),
            Failure::Connect(error) => errors::connect_error(&error),
            Failure::Store(error) => errors::store_error(&error),
        }
    }
}

impl Connections {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), current: Mutex::new(OfProcess::none()) }
    }

    /// The connection of this process.
    pub(super) fn current(&self) -> Connection {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let made = current.get_or_make(|| {
            let settings = Arc::clone(&self.settings);
            Ok::<_, std::convert::Infallible>(Connection { settings, limiter: Arc::default() })
        });
        match made {
            Ok(connection) => connection.clone(),
        }
    }
}

impl Connection {
    /// The limiter; begins if it has not. Calls that come meanwhile wait for the same beginning.
    pub(super) async fn limiter(&self) -> Result<Arc<Limiter>, Failure> {
        if let Some(begun) = self.limiter.get() {
            return Ok(Arc::clone(begun));
        }
        // In a box, because the future of every check would have room for it: 18 kB.
        let begin = Box::pin(self.limiter.get_or_try_init(|| async {
            let Settings { url, source, options } = &*self.settings;
            Ok(Arc::new(Limiter::redis(url, source.policies()?, options).await?))
        }));
        begin.await.cloned()
    }

    /// The limiter, if it has begun.
    pub(super) fn begun(&self) -> Option<&Arc<Limiter>> {
        self.limiter.get()
    }
}
