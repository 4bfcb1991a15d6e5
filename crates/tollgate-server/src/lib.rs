//! The Tollgate server: HTTP over the use cases, with its configuration, telemetry and command line.
//!
//! Only this crate knows HTTP and JSON. It is a library so that tests can start the real server in their own process,
//! with their own clock.

mod admin_directory;
mod app;
mod catalog;
mod cli;
mod config;
mod exporting;
mod gateway;
mod grpc;
mod guard;
mod health;
mod http;
mod import;
mod metrics;
mod net;
mod networked_store;
mod probe;
mod recorder;
mod serve;
mod signals;
mod simulation;
mod snapshots;
mod start_error;
mod store_watch;
mod telemetry;
mod traced;
mod verification;

pub use cli::{Cli, Outcome};
pub use config::{
    AdminToken, AllowedHosts, AuthHeaders, CatalogConfig, ConfigError, HttpLimits, LogFormat, Role,
    Secret, ServeConfig, SnapshotConfig, StoreConfig, TrustedProxies, WhatIfBounds,
};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use http::fuzzing;
pub use http::openapi_json;
pub use recorder::RecordConfig;
pub use serve::{End, Server};
pub use start_error::StartError;
pub use tollgate_otlp::{OtlpConfig, Sampling};
