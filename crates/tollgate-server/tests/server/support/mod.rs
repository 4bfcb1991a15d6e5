//! A server for one test, and a client that checks every JSON answer against the OpenAPI document.

mod admin;
mod client;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate_core::{ManualClock, Timestamp};
use tollgate_server::{CatalogConfig, ServeConfig, Server};
use tollgate_store::Store;
use tollgate_store::resilience::Invalidations;

pub(crate) use admin::{Admin, READ, WRITE, faulty_fields};
pub(crate) use client::{Client, HttpAnswer, json_headers};
pub(crate) use schema::{check_schema, document, matches_schema, validator};

/// A server for one test. The clock of its store stands still until the test moves it.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) clock: ManualClock,
    files: TempDir,
}

impl Fixture {
    /// A server with the built-in policy.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with the built-in policy and its configuration changed.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut ServeConfig)) -> Self {
        Self::launch(None, configure).await
    }

    /// A server with the policies of this YAML, in a file that it watches.
    pub(crate) async fn start_with_policies(yaml: &str) -> Self {
        Self::launch(Some(yaml), |_| {}).await
    }

    /// The same with its configuration changed.
    pub(crate) async fn start_with_policies_and(
        yaml: &str,
        configure: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        Self::launch(Some(yaml), configure).await
    }

    /// A server over `store`, with the policies of this YAML. Known denials are answered without the store.
    pub(crate) async fn start_with_store(
        yaml: &str,
        store: impl Store,
        configure: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        let (mut config, files) = prepare(Some(yaml));
        configure(&mut config);
        let listen = |_: &_, invalidations: Invalidations| {
            invalidations.connected(tollgate_store::FaultDomain::WHOLE);
            std::future::pending()
        };
        let server = Server::start_with_store(&config, store, listen).await.unwrap();
        Self { server, clock: ManualClock::default(), files }
    }

    /// The same, but the store is asked about every check: nothing says that its changes are announced. It reads `clock`.
    pub(crate) async fn start_with_asked_store(
        yaml: &str,
        store: impl Store,
        clock: ManualClock,
    ) -> Self {
        let (config, files) = prepare(Some(yaml));
        let listen = |_: &_, _: Invalidations| std::future::pending();
        let server = Server::start_with_store(&config, store, listen).await.unwrap();
        Self { server, clock, files }
    }

    async fn launch(yaml: Option<&str>, configure: impl FnOnce(&mut ServeConfig)) -> Self {
        let (mut config, files) = prepare(yaml);
        configure(&mut config);
        // Not at a multiple of a window, so that nothing is aligned by accident.
        let clock = ManualClock::at(Timestamp::from_ms(1_800_000_001_234));
        let server = Server::start_with_clock(&config, clock.clone()).await.unwrap();
        Self { server, clock, files }
    }

    /// The policy file.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.files.path().join("policies.yaml")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A client with a separate connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Posts `body` over a separate connection.
    pub(crate) async fn post(&self, path: &str, body: &str) -> HttpAnswer {
        self.client().await.post(path, body).await
    }

    /// Gets `path` over a separate connection.
    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.client().await.send("GET", path, &[], "").await
    }
}

/// A configuration on a free port, and the files that it names.
fn prepare(yaml: Option<&str>) -> (ServeConfig, TempDir) {
    let files = TempDir::new().unwrap();
    let mut config = ServeConfig::default();
    config.catalog = CatalogConfig::BuiltIn;
    config.http = SocketAddr::from(([127, 0, 0, 1], 0));
    if let Some(yaml) = yaml {
        let path = files.path().join("policies.yaml");
        std::fs::write(&path, yaml).unwrap();
        config.catalog = CatalogConfig::File(path);
    }
    (config, files)
}
