//! Why the server did not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tollgate_catalog::CatalogError;
use tollgate_gateway::GatewayError;
use tollgate_gateway::config::ConfigError as GatewayConfigError;
use tollgate_grpc::ReflectionError;
use tollgate_otlp::OtlpError;
use tollgate_store::{Misconfiguration, StoreError};

/// Why the server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The server could not listen at the address.
    Listen {
        /// What sets the address.
        set_by: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The gateway is to listen where this server does.
    SameAddress {
        /// The address of the gateway.
        address: SocketAddr,
        /// The setting of the server that has the same.
        setting: &'static str,
    },
    /// The catalog could not provide policies.
    Catalog(CatalogError),
    /// The built-in policies cannot be compiled.
    Policies(tollgate_core::PolicySetError),
    /// The store cannot be used at all, whether it is available or not.
    Store(StoreError),
    /// The store is not what the configuration says, or does not let this node work.
    Misconfigured {
        /// Where the store was set.
        set_by: Option<String>,
        /// The problem and its remedy.
        problem: Misconfiguration,
    },
    /// The store keeps no leases, and these policies are about leases.
    NeedsLeases {
        /// Where the store was set.
        set_by: Option<String>,
        /// The ids of the policies.
        policies: Vec<String>,
    },
    /// There is no secret for hashing API keys.
    NoApiKeySecret,
    /// The secret for hashing API keys could not be read or created.
    ApiKeySecret {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory of the journal cannot be used.
    Journal {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory of the snapshots cannot be used.
    Snapshots {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of the recording could not be opened.
    Record {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The configuration of the gateway could not be read, or is invalid.
    GatewayConfig(GatewayConfigError),
    /// The gateway needs API keys, and the catalog keeps none.
    GatewayCatalog,
    /// The gateway cannot be made.
    Gateway(GatewayError),
    /// The gRPC services cannot be made.
    Grpc(ReflectionError),
    /// Telemetry cannot be sent.
    Otlp(OtlpError),
    /// No admin token could be generated.
    AdminToken(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { set_by, address, source }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                write!(
                    f,
                    "{set_by}: {address} is in use by another process; accepted: a free port, such as 0"
                )
            }
            Self::Listen { set_by, address, .. } => {
                write!(f, "{set_by}: cannot listen at {address}")
            }
            Self::SameAddress { address, setting } => write!(
                f,
                "`listen` in the file of --gateway: {address} is also the address of {setting}; accepted: another port in one of \
                 the two"
            ),
            Self::Catalog(error @ CatalogError::OtherApiKeySecret) => {
                write!(f, "{error}, in TOLLGATE_API_KEY_SECRET or, for SQLite, in the file beside the database")
            }
            Self::Catalog(error) => error.fmt(f),
            Self::Policies(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Misconfigured { set_by, problem } => {
                let set_by = set_by.as_deref().unwrap_or("the store");
                write!(f, "{set_by}: {problem}. To start without the store anyway: --start-degraded")
            }
            Self::NeedsLeases { set_by, policies } => {
                let set_by = set_by.as_deref().unwrap_or("the store");
                let policies = policies.join(", ");
                write!(
                    f,
                    "{set_by}: this store keeps no leases, which `unit: concurrency` and `onExpire: refund` of these policies are \
                     about: {policies}; accepted: a store in Redis or in memory, or policies without them"
                )
            }
            Self::NoApiKeySecret => f.write_str(
                "TOLLGATE_API_KEY_SECRET is not set; accepted with PostgreSQL: at least 16 bytes, the same on every node",
            ),
            Self::Journal { path, .. } => {
                write!(f, "--journal: {} cannot be used", path.display())
            }
            Self::Snapshots { path, .. } => {
                write!(f, "--store: {} cannot hold snapshots", path.display())
            }
            Self::Record { path, .. } => {
                write!(f, "--record: {} cannot be written", path.display())
            }
            Self::GatewayConfig(error) => error.fmt(f),
            Self::GatewayCatalog => f.write_str(
                "--gateway needs API keys, which this catalog cannot keep; accepted: a catalog in a database \
                 (--catalog sqlite:FILE or postgres://…)",
            ),
            Self::Gateway(error @ GatewayError::NoLeases) => {
                write!(f, "--gateway: {error}; accepted: a store in Redis or in memory (--store)")
            }
            Self::Gateway(error) => error.fmt(f),
            Self::Grpc(error) => error.fmt(f),
            Self::Otlp(error) => error.fmt(f),
            Self::ApiKeySecret { path, .. } => {
                write!(f, "{}: the secret for hashing API keys cannot be read or created", path.display())
            }
            Self::AdminToken(_) => f.write_str("no admin token could be generated"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. }
            | Self::ApiKeySecret { source, .. }
            | Self::Journal { source, .. }
            | Self::Snapshots { source, .. }
            | Self::Record { source, .. }
            | Self::AdminToken(source) => Some(source),
            Self::Catalog(error) => error.source(),
            Self::GatewayConfig(error) => error.source(),
            Self::Gateway(error) => error.source(),
            Self::Grpc(error) => error.source(),
            Self::Otlp(error) => error.source(),
            Self::Policies(_)
            | Self::NoApiKeySecret
            | Self::GatewayCatalog
            | Self::SameAddress { .. }
            | Self::NeedsLeases { .. }
            | Self::Misconfigured { .. } => None,
            Self::Store(error) => error.source(),
        }
    }
}
