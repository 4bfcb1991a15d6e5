//! The configuration of `tollgate serve`: all settings with their defaults and bounds.

mod admin_tokens;
mod allowed_hosts;
mod auth_headers;
mod bounds;
mod layers;
mod otlp;
mod secret;
mod trusted_proxies;
mod values;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use admin_tokens::{ADMIN, ADMIN_READ};
pub use admin_tokens::{AdminToken, Role};
pub use allowed_hosts::AllowedHosts;
pub use auth_headers::AuthHeaders;
pub(crate) use bounds::UNFINISHED_BYTES;
pub use bounds::{HttpLimits, WhatIfBounds};
pub use layers::ConfigError;
use layers::Layers;
pub use secret::Secret;
use tollgate_memcached::MemcachedUrl;
use tollgate_otlp::OtlpConfig;
use tollgate_redis::RedisUrl;
use tollgate_service::{Uncovered, UnknownApiKeys};
use tollgate_store::memory::MemoryStoreOptions;
use tollgate_store::resilience::ResilienceOptions;
pub use trusted_proxies::TrustedProxies;

use crate::recorder::RecordConfig;

/// The configuration of `tollgate serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Where to listen.
    pub http: SocketAddr,
    /// The host names that requests may use, besides `localhost` and addresses. `None`: no other names if only this
    /// machine can reach the server; any name if others can.
    pub allowed_hosts: Option<AllowedHosts>,
    /// The proxies that report a client's address. `None`: a check has the address that its body gives, or none.
    pub trusted_proxies: Option<TrustedProxies>,
    /// The headers that `/rate-limit/auth` reads.
    pub auth_headers: AuthHeaders,
    /// The store.
    pub store: StoreConfig,
    /// Where the store was set, for messages: a flag, a variable or a line of a file.
    pub store_set_by: Option<String>,
    /// Whether to start although the networked store is configured wrongly.
    pub start_degraded: bool,
    /// The most keys that the in-memory store holds.
    pub max_keys: usize,
    /// Where the in-memory store writes snapshots, so that it survives a restart; `None` for nowhere.
    pub snapshots: Option<SnapshotConfig>,
    /// Where to listen for gRPC; `None` for no gRPC.
    pub grpc: Option<SocketAddr>,
    /// What a descriptor gets over gRPC that no policy covers.
    pub grpc_unmatched: Uncovered,
    /// The handling of failures of a networked store. The in-memory store cannot fail.
    pub resilience: ResilienceOptions,
    /// The source of the policies.
    pub catalog: CatalogConfig,
    /// How checks with unknown API keys are handled.
    pub unknown_api_keys: UnknownApiKeys,
    /// The secret for hashing API keys. If it is not set, a SQLite database keeps one in a file beside it.
    pub api_key_secret: Option<Secret>,
    /// The bearer token that may change the catalog. If no token may write, one is generated at the start.
    pub admin_token: Option<Secret>,
    /// The bearer token that may only read.
    pub admin_read_token: Option<Secret>,
    /// Named bearer tokens, whose names the audit log shows.
    pub admin_tokens: Vec<AdminToken>,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The level of the log.
    pub log_level: tracing::Level,
    /// The bounds of connections and requests.
    pub limits: HttpLimits,
    /// The bounds of comparisons of policies.
    pub what_if: WhatIfBounds,
    /// The longest time from the signal to the end of the process.
    pub drain_timeout: Duration,
    /// Where settlements are kept that the store did not answer; `None` for memory.
    pub journal: Option<PathBuf>,
    /// The configuration of the gateway; `None` for no gateway.
    pub gateway: Option<PathBuf>,
    /// What is recorded of the traffic; `None` for nothing.
    pub record: Option<RecordConfig>,
    /// Where traces and metrics are sent over OTLP; `None` for nowhere.
    pub otlp: Option<OtlpConfig>,
}

/// Where usage is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// In this process.
    Memory,
    /// In Redis or Valkey.
    Redis(Box<RedisUrl>),
    /// In memcached.
    Memcached(Box<MemcachedUrl>),
}

/// The snapshots of the in-memory store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// The directory, which one server uses.
    pub dir: PathBuf,
    /// How long after a snapshot the next one begins.
    pub every: Duration,
}

impl SnapshotConfig {
    /// Unless another time is given.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(30);
}

/// The store of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreUrl {
    store: StoreConfig,
    max_keys: Option<u64>,
    /// The directory of the snapshots.
    snapshots: Option<PathBuf>,
}

impl StoreUrl {
    const MEMORY: Self = Self { store: StoreConfig::Memory, max_keys: None, snapshots: None };
}

/// The catalog if nothing is configured: a file in the working directory.
const DEFAULT_CATALOG: &str = "sqlite:tollgate.db";

/// The source of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogConfig {
    /// The built-in default policy (100 requests an hour per user and model) and no known subjects.
    BuiltIn,
    /// A database, at this URL.
    Database(Secret),
    /// A watched policy file.
    File(PathBuf),
}

impl CatalogConfig {
    /// The policy file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::BuiltIn | Self::Database(_) => None,
        }
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8_000)),
            allowed_hosts: None,
            trusted_proxies: None,
            auth_headers: AuthHeaders::default(),
            store: StoreConfig::Memory,
            store_set_by: None,
            start_degraded: false,
            max_keys: MemoryStoreOptions::DEFAULT_MAX_KEYS,
            snapshots: None,
            grpc: None,
            grpc_unmatched: Uncovered::default(),
            resilience: ResilienceOptions::default(),
            catalog: CatalogConfig::Database(Secret::new(DEFAULT_CATALOG)),
            unknown_api_keys: UnknownApiKeys::default(),
            api_key_secret: None,
            admin_token: None,
            admin_read_token: None,
            admin_tokens: Vec::new(),
            log_format: LogFormat::Text,
            log_level: tracing::Level::INFO,
            limits: HttpLimits::default(),
            what_if: WhatIfBounds::default(),
            // Together with the rest of the shutdown, the process ends within 10 seconds (P13).
            drain_timeout: Duration::from_secs(8),
            journal: None,
            gateway: None,
            record: None,
            otlp: None,
        }
    }
}

/// The catalog of `url`, the value of a flag of `simulate`.
pub(crate) fn catalog_of(url: &str) -> Result<CatalogConfig, ConfigError> {
    let flags = [("catalog", Some(url.to_owned()))];
    let mut layers = Layers::new(&["catalog"], flags, |_| None, None);
    let catalog = layers.take("catalog", CatalogConfig::BuiltIn, values::catalog);
    layers.finish(catalog)
}

/// The secret for hashing API keys that `environment` has.
pub(crate) fn api_key_secret_of(
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Secret>, ConfigError> {
    let mut layers = Layers::default();
    let secret = layers.secret(API_KEY_SECRET_VARIABLE, environment(API_KEY_SECRET_VARIABLE));
    layers.finish(secret)
}

/// The text and the path of the file with settings: the one at `file`, else at `TOLLGATE_CONFIG`, else `tollgate.toml` in
/// the working directory if it exists.
fn settings_file(
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(String, PathBuf)>, ConfigError> {
    let named = file.map(|path| (path.to_owned(), "--config"));
    let named = named.or_else(|| {
        environment(CONFIG_VARIABLE).map(|path| (PathBuf::from(path), CONFIG_VARIABLE))
    });
    match named {
        Some((path, place)) => Ok(Some((read(&path, place)?, path))),
        None if Path::new(DEFAULT_FILE).exists() => {
            let path = PathBuf::from(DEFAULT_FILE);
            Ok(Some((read(&path, "the working directory")?, path)))
        }
        None => Ok(None),
    }
}

/// Whether only one of two listeners can have these addresses. Of addresses of different families, only the system knows.
pub(crate) fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let is_same =
        a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
    is_same && one.port() == other.port() && one.port() != 0
}

/// Where the server listens with these settings. The other settings of `environment` and of the file are not checked.
pub(crate) fn http_of(
    flag: Option<String>,
    environment: impl Fn(&str) -> Option<OsString>,
    file: Option<&Path>,
) -> Result<SocketAddr, ConfigError> {
    let file = settings_file(file, &environment)?;
    let file = file.as_ref().map(|(text, path)| (&**path, &**text));
    let mut layers = Layers::new(&KEYS, [("http", flag)], environment, file);
    let http = layers.take("http", ServeConfig::default().http, values::address);
    layers.finish(http)
}

/// The keys of all settings.
pub(crate) const KEYS: [&str; 36] = [
    "http",
    "allowed_hosts",
    "trusted_proxies",
    "auth_headers",
    "grpc",
    "grpc_unmatched",
    "store",
    "max_keys",
    "snapshot_every_ms",
    "on_store_error",
    "store_timeout_ms",
    "start_degraded",
    "nodes",
    "catalog",
    "unknown_api_keys",
    "log_format",
    "log_level",
    "max_body_bytes",
    "max_batch_body_bytes",
    "max_body_memory_bytes",
    "max_header_bytes",
    "header_timeout_ms",
    "body_timeout_ms",
    "idle_timeout_ms",
    "max_connections",
    "max_http2_streams",
    "http2_ping_every_ms",
    "drain_timeout_ms",
    "journal",
    "gateway",
    "record",
    "record_sample",
    "record_max_bytes",
    "record_hash_ids",
    "otlp_endpoint",
    "otlp_sample",
];

/// The file that is read if none is named and it exists.
const DEFAULT_FILE: &str = "tollgate.toml";
/// Only read from the environment: flags appear in lists of processes, files in backups.
const ADMIN_TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_TOKEN";
const ADMIN_READ_TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_READ_TOKEN";
const ADMIN_TOKENS_VARIABLE: &str = "TOLLGATE_ADMIN_TOKENS";
const API_KEY_SECRET_VARIABLE: &str = "TOLLGATE_API_KEY_SECRET";
const CONFIG_VARIABLE: &str = "TOLLGATE_CONFIG";

impl ServeConfig {
    /// The configuration from `flags`, by key, which override `environment`, which overrides the file.
    ///
    /// The file is the one at `file`, else at `TOLLGATE_CONFIG`, else `tollgate.toml` in the working directory if it
    /// exists.
    pub fn load(
        flags: impl IntoIterator<Item = (&'static str, Option<String>)>,
        environment: impl Fn(&str) -> Option<OsString>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let file = settings_file(file, &environment)?;
        let file = file.as_ref().map(|(text, path)| (&**path, &**text));
        let [admin_token, admin_read_token, api_key_secret] =
            [ADMIN_TOKEN_VARIABLE, ADMIN_READ_TOKEN_VARIABLE, API_KEY_SECRET_VARIABLE]
                .map(|name| (name, environment(name)));
        let named_tokens = environment(ADMIN_TOKENS_VARIABLE);
        let standard = otlp::Standard::of(&environment);
        let mut layers = Layers::new(&KEYS, flags, environment, file);
        let mut secret = |(name, value)| layers.secret(name, value);
        let secrets = (secret(admin_token), secret(admin_read_token), secret(api_key_secret));
        let mut config = Self::take(&mut layers);
        config.otlp = otlp::take(&mut layers, &standard);
        (config.admin_token, config.admin_read_token, config.api_key_secret) = secrets;
        if let Some(list) = named_tokens {
            config.take_named_tokens(&mut layers, list);
        }
        if !config.http.ip().is_loopback() && !config.lets_somebody_write() {
            let problem = format!(
                "{} can be reached from other machines, and {ADMIN_TOKEN_VARIABLE} is not set",
                config.http
            );
            let accepted = "a loopback address, or any address with a token in TOLLGATE_ADMIN_TOKEN, or with one that may write in \
                 TOLLGATE_ADMIN_TOKENS";
            layers.refuse_key("http", &problem, accepted);
        }
        if let Some(grpc) = config.grpc.filter(|grpc| meet(config.http, *grpc)) {
            let http = layers.place("http").map(|place| place.to_string());
            let http = http.unwrap_or_else(|| "the default of --http".to_owned());
            let problem = format!("{grpc} is also where HTTP is served, {} by {http}", config.http);
            layers.refuse_key("grpc", &problem, "another port in one of the two");
        }
        config.limits.refuse_bodies_without_memory(&mut layers);
        layers.finish(config)
    }

    /// Whether any configured token may change the catalog.
    pub(crate) fn lets_somebody_write(&self) -> bool {
        let may_write = |one: &AdminToken| one.role == Role::Write;
        self.admin_token.is_some() || self.admin_tokens.iter().any(may_write)
    }

    /// Parses the tokens in `list`.
    fn take_named_tokens(&mut self, layers: &mut Layers, list: OsString) {
        let others: Vec<_> =
            [&self.admin_token, &self.admin_read_token].into_iter().flatten().collect();
        let tokens = match list.into_string() {
            Ok(list) => admin_tokens::parse(&list, &others),
            Err(_) => Err(vec!["is not UTF-8".to_owned()]),
        };
        match tokens {
            Ok(tokens) => self.admin_tokens = tokens,
            Err(problems) => {
                for problem in problems {
                    layers.refuse(&ADMIN_TOKENS_VARIABLE, &problem, admin_tokens::ACCEPTED);
                }
            }
        }
    }

    fn take(layers: &mut Layers) -> Self {
        let default = Self::default();
        let mut store = layers.take("store", StoreUrl::MEMORY, values::store);
        let snapshots = snapshots(layers, store.snapshots.take());
        let max_keys = layers.take("max_keys", None, |text| {
            values::integer(text, values::MAX_KEYS_RANGE, values::ACCEPTED_MAX_KEYS).map(Some)
        });
        if store.max_keys.is_some() && max_keys.is_some() {
            let problem = "the URL of the store also sets max_keys";
            layers.refuse_key("max_keys", problem, "only one of the two");
        }
        if max_keys.is_some() && store.store != StoreConfig::Memory {
            let problem = "is given with a networked store, which has no such bound";
            layers.refuse_key("max_keys", problem, "together with --store memory:");
        }
        let max_keys = max_keys.or(store.max_keys).and_then(|keys| usize::try_from(keys).ok());
        Self {
            http: layers.take("http", default.http, values::address),
            allowed_hosts: layers.take("allowed_hosts", default.allowed_hosts, |text| {
                allowed_hosts::parse(text).map(Some)
            }),
            trusted_proxies: layers.take("trusted_proxies", default.trusted_proxies, |text| {
                trusted_proxies::parse(text).map(Some)
            }),
            auth_headers: layers.take("auth_headers", default.auth_headers, auth_headers::parse),
            grpc: layers.take("grpc", default.grpc, |text| values::address(text).map(Some)),
            grpc_unmatched: layers.take(
                "grpc_unmatched",
                default.grpc_unmatched,
                values::uncovered,
            ),
            store: store.store,
            store_set_by: layers.place("store").map(|place| place.to_string()),
            start_degraded: layers.take("start_degraded", default.start_degraded, values::boolean),
            max_keys: max_keys.unwrap_or(default.max_keys),
            snapshots,
            resilience: resilience(layers, default.resilience),
            catalog: layers.take("catalog", default.catalog, values::catalog),
            unknown_api_keys: layers.take(
                "unknown_api_keys",
                default.unknown_api_keys,
                values::unknown_api_keys,
            ),
            api_key_secret: None,
            admin_token: None,
            admin_read_token: None,
            admin_tokens: Vec::new(),
            log_format: layers.take("log_format", default.log_format, values::log_format),
            log_level: layers.take("log_level", default.log_level, values::log_level),
            limits: HttpLimits::take(layers),
            what_if: WhatIfBounds::default(),
            drain_timeout: layers.take("drain_timeout_ms", default.drain_timeout, |text| {
                let accepted = "an integer from 0 to 600000, in milliseconds";
                values::milliseconds(text, 0..=600_000, accepted)
            }),
            journal: layers.take("journal", None, |text| values::directory(text).map(Some)),
            gateway: layers.take("gateway", None, |text| values::gateway_file(text).map(Some)),
            record: record(layers),
            otlp: None,
        }
    }
}

/// The snapshots in `dir`; how often they are written means nothing without one.
fn snapshots(layers: &mut Layers, dir: Option<PathBuf>) -> Option<SnapshotConfig> {
    const KEY: &str = "snapshot_every_ms";
    let every = layers.take(KEY, None, |text| {
        let accepted = "an integer from 1000 to 86400000, in milliseconds";
        values::milliseconds(text, 1_000..=86_400_000, accepted).map(Some)
    });
    if dir.is_none() && every.is_some() {
        let problem = "is given without a store that writes snapshots";
        layers.refuse_key(KEY, problem, "together with --store memory:DIR");
    }
    let every = every.unwrap_or(SnapshotConfig::DEFAULT_EVERY);
    dir.map(|dir| SnapshotConfig { dir, every })
}

/// The recording; its other settings mean nothing without a file.
fn record(layers: &mut Layers) -> Option<RecordConfig> {
    let file = layers.take("record", None, |text| values::path(text).map(Some));
    let sample = layers.take("record_sample", None, |text| values::share(text).map(Some));
    let max_bytes = layers.take("record_max_bytes", None, |text| {
        let accepted = "an integer from 65536 to 1099511627776, in bytes";
        values::integer(text, 1 << 16..=1 << 40, accepted).map(Some)
    });
    let hash_ids = layers.take("record_hash_ids", None, |text| values::boolean(text).map(Some));
    let others = [
        ("record_sample", sample.is_some()),
        ("record_max_bytes", max_bytes.is_some()),
        ("record_hash_ids", hash_ids.is_some()),
    ];
    let Some(file) = file else {
        if layers.place("record").is_none() {
            for (key, _) in others.into_iter().filter(|(_, is_given)| *is_given) {
                let accepted = "together with a file to record to";
                layers.refuse_key(key, "is given without --record", accepted);
            }
        }
        return None;
    };
    Some(RecordConfig {
        file,
        sample_millionths: sample.unwrap_or(1_000_000),
        max_bytes: max_bytes.unwrap_or(1 << 30),
        hash_ids: hash_ids.unwrap_or(false),
    })
}

fn resilience(layers: &mut Layers, default: ResilienceOptions) -> ResilienceOptions {
    let mut options = default;
    options.on_store_error =
        layers.take("on_store_error", options.on_store_error, values::on_store_error);
    options.timeout = layers.take("store_timeout_ms", options.timeout, |text| {
        let accepted = "an integer from 10 to 10000, in milliseconds";
        values::milliseconds(text, 10..=10_000, accepted).map(Some)
    });
    options.nodes = layers.take("nodes", options.nodes, values::nodes);
    options
}

fn read(path: &Path, place: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let mut refused = ConfigError::default();
        let problem = format!("{} cannot be read: {error}", path.display());
        refused.add(&place, &problem, "a readable TOML file in UTF-8");
        refused
    })
}
