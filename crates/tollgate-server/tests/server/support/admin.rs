//! A server over a catalog in SQLite, and calls with its admin tokens.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tollgate_server::{CatalogConfig, Secret, ServeConfig};
use tollgate_store::Store;

use super::{Fixture, HttpAnswer};

/// The token that may change the catalog.
pub(crate) const WRITE: &str = "the-token-that-writes";
/// The token that may only read it.
pub(crate) const READ: &str = "the-token-that-reads";

/// A server over a catalog in SQLite, without the built-in policy.
pub(crate) struct Admin {
    pub(crate) fixture: Fixture,
    database: TempDir,
}

impl Admin {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with its configuration changed.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut ServeConfig)) -> Self {
        let admin = Self::start_new(configure).await;
        let deleted = admin.ask("DELETE", "/admin/policies/default", &Value::Null).await;
        assert_eq!(deleted.status, 204, "{}", deleted.body);
        admin
    }

    /// The same with the built-in policy, as a new catalog has it.
    pub(crate) async fn start_new(configure: impl FnOnce(&mut ServeConfig)) -> Self {
        let database = TempDir::new().unwrap();
        let fixture = Fixture::start_with(|config| {
            over(config, &database);
            configure(config);
        })
        .await;
        Self { fixture, database }
    }

    /// The same over `store`.
    pub(crate) async fn start_over(store: impl Store) -> Self {
        let database = TempDir::new().unwrap();
        let configure = |config: &mut ServeConfig| over(config, &database);
        let fixture = Fixture::start_with_store("policies: []", store, configure).await;
        Self { fixture, database }
    }

    /// Sends a request with a JSON body, or without one.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> HttpAnswer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("content-type", "application/json")], &body).await
    }

    /// Sends a change that expects the version `etag`.
    pub(crate) async fn ask_if(
        &self,
        method: &str,
        path: &str,
        etag: &str,
        body: &Value,
    ) -> HttpAnswer {
        let headers = [("content-type", "application/json"), ("if-match", etag)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &headers, &body).await
    }

    /// The file of the catalog.
    pub(crate) fn database(&self) -> PathBuf {
        self.database.path().join("catalog.db")
    }

    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.send("GET", path, &[], "").await
    }

    /// Sends a request with the write token.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpAnswer {
        self.send_as(WRITE, method, path, headers, body).await
    }

    /// Sends a request with `token`.
    pub(crate) async fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> HttpAnswer {
        let token = format!("Bearer {token}");
        let mut all = vec![("authorization", &*token)];
        all.extend(headers);
        self.fixture.client().await.send(method, path, &all, body).await
    }

    /// Creates a record.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("POST", path, &body).await;
        assert_eq!(answer.status, 201, "{path} {body}: {}", answer.body);
        answer.json()
    }

    pub(crate) async fn check(&self, body: Value) -> Value {
        self.fixture.post("/rate-limit/check", &body.to_string()).await.json()
    }
}

/// Lets `config` use a catalog in `database`.
fn over(config: &mut ServeConfig, database: &TempDir) {
    let url = format!("sqlite:{}", database.path().join("catalog.db").display());
    config.catalog = CatalogConfig::Database(Secret::new(url));
    config.admin_token = Some(Secret::new(WRITE));
    config.admin_read_token = Some(Secret::new(READ));
}

/// The fields of the problem in `answer`.
pub(crate) fn faulty_fields(answer: &HttpAnswer) -> Vec<String> {
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}
