//! A gateway for one test, its mock models, and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tollgate_catalog::api_key::KeyHasher;
use tollgate_catalog::directory::{Actor, Directory as _, Kind};
use tollgate_catalog::document;
use tollgate_catalog::{CatalogEvent, DatabaseCatalog, DatabaseOptions, Format};
use tollgate_core::{Attribute, Check, ManualClock, Subject, Unit};
use tollgate_gateway::config::GatewayConfig;
use tollgate_gateway::mock_model::{Behaviour, MockModel};
use tollgate_gateway::{Gateway, NoObserver};
use tollgate_service::{DirectoryLookup, RateLimitService, UnknownApiKeys};
use tollgate_store::MemoryStore;
use tollgate_store::memory::MemoryStoreOptions;

/// Longer than anything takes here; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Limits of one tenant in every unit.
pub(crate) const POLICIES: &str = "
tenants: [{id: acme}, {id: other}]
policies:
  - {id: requests, per: [tenant], limit: 1000, windowSeconds: 60}
  - {id: tokens, per: [tenant], unit: tokens, limit: 100000, windowSeconds: 60}
  - {id: input, per: [tenant], unit: input_tokens, limit: 100000, windowSeconds: 60}
  - {id: output, per: [tenant], unit: output_tokens, limit: 100000, windowSeconds: 60}
  - {id: slots, per: [tenant], unit: concurrency, limit: 500}
";

type Store = MemoryStore<ManualClock>;

/// A running gateway. The clock of its store stands still until the test moves it.
pub(crate) struct Fixture {
    pub(crate) gateway: Arc<Gateway<Store>>,
    pub(crate) models: Vec<MockModel>,
    pub(crate) key: String,
    pub(crate) clock: ManualClock,
    service: Arc<RateLimitService<Store>>,
    catalog: DatabaseCatalog,
    address: SocketAddr,
    _files: TempDir,
    _serving: JoinSet<()>,
}

/// The start of a fixture.
pub(crate) struct Setup<'a> {
    pub(crate) policies: &'a str,
    /// Fields of every upstream, and of the model `gpt`.
    pub(crate) upstream: &'a str,
    pub(crate) model: &'a str,
    /// Other lines of the configuration.
    pub(crate) rest: &'a str,
    /// The address of every upstream, in place of that of its mock model.
    pub(crate) base_url: Option<&'a str>,
    /// A mock model for each upstream that speaks OpenAI's dialect; the first also serves the one that speaks Anthropic's.
    pub(crate) behaviours: &'a [Behaviour],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        const ONE: &[Behaviour] = &[Behaviour::WELL];
        Self {
            policies: POLICIES,
            upstream: "",
            model: "",
            rest: "",
            base_url: None,
            behaviours: ONE,
        }
    }
}

impl Setup<'_> {
    fn gateway_yaml(&self, models: &[MockModel]) -> String {
        let base_url = |model: &MockModel| match self.base_url {
            Some(url) => url.to_owned(),
            None => format!("http://{}/v1", model.address()),
        };
        let upstream = |(index, model): (usize, &MockModel)| {
            let (url, fields) = (base_url(model), self.upstream);
            format!(
                "  - {{id: up-{index}, baseUrl: '{url}', dialect: openai, apiKeyEnv: KEY {fields}}}\n"
            )
        };
        let upstreams: String = models.iter().enumerate().map(upstream).collect();
        let ids: Vec<_> = (0..models.len()).map(|index| format!("up-{index}")).collect();
        let (ids, url, fields) = (ids.join(", "), base_url(&models[0]), self.upstream);
        let (model, rest) = (self.model, self.rest);
        format!(
            "listen: 127.0.0.1:0\nupstreams:\n{upstreams}  - {{id: messages, baseUrl: '{url}', dialect: anthropic, \
             apiKeyEnv: KEY {fields}}}\nmodels:\n  - {{id: gpt, upstreams: [{ids}, messages], upstreamModel: mock {model}}}\n{rest}"
        )
    }

    pub(crate) async fn start(self) -> Fixture {
        let mut models = Vec::new();
        for behaviour in self.behaviours {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            models.push(MockModel::start(address, *behaviour).await.unwrap());
        }
        let environment = |name: &str| (name == "KEY").then(|| "upstream-key".into());
        let yaml = self.gateway_yaml(&models);
        let config = GatewayConfig::parse("test", &yaml, Format::Yaml, environment)
            .unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
        let files = TempDir::new().unwrap();
        let (catalog, key) = catalog(&files, self.policies).await;
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone(), &MemoryStoreOptions::default());
        let lookup = DirectoryLookup::new(catalog.resolver(), UnknownApiKeys::Count);
        let service = RateLimitService::new(store, catalog.reader()).with_directory(lookup);
        let service = Arc::new(service.learning(Unit::OutputTokens));
        let gateway =
            Gateway::new(config, Arc::clone(&service), Arc::new(NoObserver), None).unwrap();
        let gateway = Arc::new(gateway);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&gateway)));
        Fixture {
            gateway,
            models,
            key,
            clock,
            service,
            catalog,
            address,
            _files: files,
            _serving: serving,
        }
    }
}

async fn catalog(files: &TempDir, policies: &str) -> (DatabaseCatalog, String) {
    let url = format!("sqlite:{}", files.path().join("catalog.db").display());
    let hasher = KeyHasher::new(b"a secret for tests only");
    let ignore = |_: &CatalogEvent<'_>| {};
    // On a busy machine SQLite may be slow, and a key that is not found is denied.
    let options = DatabaseOptions { load_timeout: PATIENCE, ..DatabaseOptions::default() };
    let catalog = DatabaseCatalog::open(&url, hasher, options, ignore).await;
    let catalog = catalog.unwrap();
    let policies = document::read(policies, Format::Yaml).unwrap().unwrap();
    catalog.import(&actor(), &policies).await.unwrap();
    let key = new_key(&catalog, "k", "acme").await;
    (catalog, key)
}

fn actor() -> Actor {
    Actor::new("test").unwrap()
}

async fn new_key(catalog: &DatabaseCatalog, id: &str, tenant: &str) -> String {
    let body = format!("{{id: {id}, tenantId: {tenant}}}");
    let body = document::read(&body, Format::Yaml).unwrap().unwrap();
    let created = catalog.create(&actor(), Kind::ApiKey, &body).await.unwrap();
    created.secret.unwrap().reveal().to_owned()
}

async fn serve(listener: TcpListener, gateway: Arc<Gateway<Store>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let gateway = Arc::clone(&gateway);
        let handle = service_fn(move |request: Request<Incoming>| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, std::convert::Infallible>(gateway.handle(request).await) }
        });
        connections.spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            // An error is the client's, or one that the test asked for.
            _ = builder.serve_connection(TokioIo::new(stream), handle).await;
        });
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
    /// Whether the body ended as it should.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const STREAM: &str = r#"{"model":"gpt","stream":true,"messages":[]}"#;

impl Fixture {
    /// The beginning of the answer to a `POST` with these `fields`.
    pub(crate) async fn begin(
        &self,
        path: &str,
        body: &str,
        fields: &[(&str, &str)],
    ) -> Response<Incoming> {
        let key = format!("Bearer {}", self.key);
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        if !fields.iter().any(|(name, _)| matches!(*name, "authorization" | "x-api-key")) {
            request = request.header("authorization", key);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        client().request(request).await.unwrap()
    }

    /// The answers to these `POST`s, sent together over one connection with HTTP/2 (h2c).
    pub(crate) async fn post_over_http2(
        &self,
        requests: &[(&str, &str)],
    ) -> Vec<(Version, Answer)> {
        let client = HyperClient::builder(TokioExecutor::new()).http2_only(true).build_http();
        let answers = requests.iter().map(|(path, body)| {
            let request = Request::post(format!("http://{}{path}", self.address))
                .header("authorization", format!("Bearer {}", self.key))
                .body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
            let answer = client.request(request.unwrap());
            async move {
                let response = answer.await.unwrap();
                (response.version(), whole(response).await)
            }
        });
        futures_util::future::join_all(answers).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        whole(self.begin(path, body, fields).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.key));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        whole(client().request(request).await.unwrap()).await
    }

    /// The usage of the limit `policy` of the tenant, when every lease is settled.
    pub(crate) async fn used(&self, policy: &str) -> u64 {
        tokio::time::timeout(PATIENCE, self.gateway.settled()).await.expect("a lease is forgotten");
        self.used_now(policy).await
    }

    /// The same now.
    pub(crate) async fn used_now(&self, policy: &str) -> u64 {
        let subject = Subject::empty().with(&Attribute::ApiKey, &self.key);
        let decision = self.service.peek(&Check::of(subject)).await.unwrap();
        let status = decision.limits().iter().find(|s| s.limit.policy_id().as_str() == policy);
        status.unwrap().count
    }

    /// A key of the tenant `other`.
    pub(crate) async fn other_key(&self) -> String {
        new_key(&self.catalog, "k2", "other").await
    }

    /// Revokes the key.
    pub(crate) async fn revoke(&self) {
        let body = document::read("{revoked: true}", Format::Yaml).unwrap().unwrap();
        self.catalog.patch(&actor(), Kind::ApiKey, "k", None, &body).await.unwrap();
    }

    pub(crate) fn model(&self) -> &MockModel {
        &self.models[0]
    }
}

fn client() -> HyperClient<HttpConnector, Full<Bytes>> {
    HyperClient::builder(TokioExecutor::new()).build_http()
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut is_whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => is_whole = false,
        }
        if !is_whole {
            break;
        }
    }
    let body = String::from_utf8(bytes).unwrap();
    Answer { status: head.status.as_u16(), fields: head.headers, body, is_whole }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}
