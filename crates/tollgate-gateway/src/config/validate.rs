//! Turns a document into a configuration, or into all its problems.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use tollgate_catalog::DocumentProblem;
use tollgate_catalog::document::{Node, Value};
use tollgate_core::Amount;
use tollgate_core::subject::{ACCEPTED_IDS, check_id};

use crate::dialect::Endpoint;

use super::authorities;
use super::reader::{Field, Fields, Reader, root};
use super::{
    CapField, Dialect, GatewayConfig, MAX_MODELS, MAX_UPSTREAMS, ModelConfig, OnAbort, OnLimit,
    PassThrough, QueueConfig, UpstreamConfig, UpstreamKey,
};

const DIALECTS: [(&str, Dialect); 2] =
    [(Dialect::OpenAi.name(), Dialect::OpenAi), (Dialect::Anthropic.name(), Dialect::Anthropic)];
const CAP_FIELDS: [(&str, CapField); 2] =
    [("max_tokens", CapField::MaxTokens), ("max_completion_tokens", CapField::MaxCompletionTokens)];
const ON_ABORT: [(&str, OnAbort); 2] =
    [("reserved", OnAbort::Reserved), ("observed", OnAbort::Observed)];
const ON_LIMIT: [(&str, OnLimit); 2] = [("cut", OnLimit::Cut), ("finish", OnLimit::Finish)];

const ACCEPTED_ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8080";
const ACCEPTED_URL: &str =
    "an http or https URL without user, query and fragment, such as http://127.0.0.1:9001/v1";
const ACCEPTED_UPSTREAMS: &str = "a list of upstreams' ids";

/// The most tokens of one answer, or in flight at one upstream.
const MAX_TOKENS: u64 = 1_000_000_000;
const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 4_096;
const DEFAULT_MAX_BODY_BYTES: u64 = 8 << 20;
const DEFAULT_MAX_BODY_MEMORY_BYTES: u64 = 256 << 20;
const MAX_BODY_MEMORY_BYTES: u64 = 64 << 30;
const DEFAULT_QUEUE: QueueConfig =
    QueueConfig { max_length: 1_000, max_wait: Duration::from_secs(2), comment_after: None };

type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

pub(super) fn config(
    document: Option<&Node>,
    environment: &Environment<'_>,
) -> Result<GatewayConfig, Vec<DocumentProblem>> {
    let empty = Node::unplaced(Value::Map(Vec::new()));
    let mut reader = Reader::default();
    let config = gateway(&mut reader, document.unwrap_or(&empty), environment);
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

fn gateway(
    reader: &mut Reader,
    document: &Node,
    environment: &Environment<'_>,
) -> Option<GatewayConfig> {
    let known = [
        "listen",
        "upstreams",
        "models",
        "queue",
        "passThrough",
        "maxBodyBytes",
        "maxBodyMemoryBytes",
        "accessLog",
    ];
    let fields = reader.fields(&root(document), &known)?;
    let listen = reader.required(&fields, "listen", ACCEPTED_ADDRESS);
    let listen = listen.and_then(|field| address(reader, &field));
    let upstreams = upstreams(reader, &fields, environment);
    let ids: Vec<_> = upstreams.iter().map(|(id, _)| id.clone()).collect();
    let models = models(reader, &fields, &ids);
    let pass_through = pass_through(reader, &fields, &ids);
    let queue = queue(reader, &fields);
    let max_body = reader.integer(&fields, "maxBodyBytes", 1_024..=1 << 30, DEFAULT_MAX_BODY_BYTES);
    let max_memory = reader.integer(
        &fields,
        "maxBodyMemoryBytes",
        1 << 20..=MAX_BODY_MEMORY_BYTES,
        DEFAULT_MAX_BODY_MEMORY_BYTES.max(max_body),
    );
    if max_memory < max_body {
        let field = fields.get("maxBodyMemoryBytes").or_else(|| fields.get("maxBodyBytes"));
        if let Some(field) = field {
            let accepted = "maxBodyMemoryBytes of at least maxBodyBytes";
            reader.refuse(&field, "a body of maxBodyBytes does not fit", accepted);
        }
    }
    Some(GatewayConfig {
        listen: listen?,
        upstreams: upstreams.into_iter().map(|(_, upstream)| upstream).collect::<Option<_>>()?,
        models,
        pass_through,
        queue,
        max_body_bytes: usize::try_from(max_body).ok()?,
        max_body_memory_bytes: usize::try_from(max_memory).ok()?,
        access_log: reader.flag(&fields, "accessLog", false),
    })
}

fn address(reader: &mut Reader, field: &Field<'_>) -> Option<SocketAddr> {
    let address = reader.text(field, ACCEPTED_ADDRESS)?.parse().ok();
    if address.is_none() {
        reader.mismatch(field, ACCEPTED_ADDRESS);
    }
    address
}

/// The id of each upstream, and the upstream if it is valid.
fn upstreams(
    reader: &mut Reader,
    fields: &Fields<'_>,
    environment: &Environment<'_>,
) -> Vec<(String, Option<UpstreamConfig>)> {
    let accepted = format!("a list of 1 to {MAX_UPSTREAMS} upstreams");
    let Some(list) = reader.required(fields, "upstreams", &accepted) else { return Vec::new() };
    let items = reader.items(&list, &accepted);
    if !(1..=MAX_UPSTREAMS).contains(&items.len()) && matches!(list.value, Value::List(_)) {
        reader.refuse(&list, &format!("has {} upstreams", items.len()), &accepted);
    }
    let mut upstreams: Vec<(String, Option<UpstreamConfig>)> = Vec::new();
    for item in items.into_iter().take(MAX_UPSTREAMS) {
        let (id, upstream) = upstream(reader, &item, environment);
        distinct(reader, &item, id.as_deref(), upstreams.iter().map(|(id, _)| id.as_str()));
        upstreams.push((id.unwrap_or_default(), upstream));
    }
    upstreams
}

fn upstream(
    reader: &mut Reader,
    item: &Field<'_>,
    environment: &Environment<'_>,
) -> (Option<String>, Option<UpstreamConfig>) {
    let known = [
        "id",
        "baseUrl",
        "caFile",
        "dialect",
        "apiKeyEnv",
        "maxConcurrency",
        "maxTokensInFlight",
        "capField",
        "continuousUsage",
        "headTimeoutMs",
        "idleTimeoutMs",
    ];
    let Some(fields) = reader.fields(item, &known) else { return (None, None) };
    let id = id(reader, &fields);
    let url = reader.required(&fields, "baseUrl", ACCEPTED_URL);
    let base_url = url.and_then(|field| base_url(reader, &field));
    let authorities = authorities::read(reader, &fields, base_url.as_ref());
    let dialect = reader.required(&fields, "dialect", "`openai` or `anthropic`");
    let dialect = dialect.and_then(|field| reader.name_in(&field, &DIALECTS));
    let key = fields.get("apiKeyEnv").map(|field| key(reader, &field, environment));
    let concurrency = reader.integer(&fields, "maxConcurrency", 1..=100_000, 64);
    let head_timeout = Duration::from_mins(10);
    let idle_timeout = Duration::from_mins(5);
    let read = UpstreamConfig {
        id: id.clone().unwrap_or_default(),
        base_url: base_url.clone().unwrap_or_default(),
        authorities,
        dialect: dialect.unwrap_or(Dialect::OpenAi),
        key: key.clone().flatten(),
        max_concurrency: u32::try_from(concurrency).unwrap_or(u32::MAX),
        max_tokens_in_flight: reader.integer(
            &fields,
            "maxTokensInFlight",
            1..=MAX_TOKENS,
            MAX_TOKENS,
        ),
        cap_field: reader.named(&fields, "capField", &CAP_FIELDS, CapField::MaxTokens),
        continuous_usage: reader.flag(&fields, "continuousUsage", false),
        head_timeout: reader.milliseconds(&fields, "headTimeoutMs", 1..=3_600_000, head_timeout),
        idle_timeout: reader.milliseconds(&fields, "idleTimeoutMs", 1..=3_600_000, idle_timeout),
    };
    let is_valid = id.is_some() && base_url.is_some() && dialect.is_some() && key != Some(None);
    (id, is_valid.then_some(read))
}

fn id(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let field = reader.required(fields, "id", ACCEPTED_IDS)?;
    let text = reader.text(&field, ACCEPTED_IDS)?;
    if check_id(text).is_err() {
        reader.mismatch(&field, ACCEPTED_IDS);
        return None;
    }
    Some(text.to_owned())
}

fn distinct<'a>(
    reader: &mut Reader,
    item: &Field<'_>,
    id: Option<&str>,
    mut earlier: impl Iterator<Item = &'a str>,
) {
    if let Some(id) = id
        && earlier.any(|known| known == id)
    {
        reader.refuse(item, &format!("the id {id:?} is given twice"), "each id once");
    }
}

/// A URL is shown only up to its scheme, because it may contain a password.
fn base_url(reader: &mut Reader, field: &Field<'_>) -> Option<Uri> {
    let text = reader.text(field, ACCEPTED_URL)?;
    let url: Option<Uri> = text.trim_end_matches('/').parse().ok();
    let url = url.filter(|url| {
        let authority = url.authority().map(http::uri::Authority::as_str);
        matches!(url.scheme_str(), Some("http" | "https"))
            && authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('@'))
            && url.query().is_none()
            && !text.contains('#')
    });
    if url.is_none() {
        reader.refuse(field, "is not such a URL", ACCEPTED_URL);
    }
    url
}

fn key(
    reader: &mut Reader,
    field: &Field<'_>,
    environment: &Environment<'_>,
) -> Option<UpstreamKey> {
    let accepted = "the name of an environment variable";
    let name = reader.text(field, accepted)?;
    let usable = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    match environment(name).map(OsString::into_string) {
        None => reader.refuse(field, &format!("the variable {name:?} is not set"), "one that is"),
        Some(Ok(key)) if usable(&key) => return Some(UpstreamKey::new(key)),
        Some(_) => {
            let message = format!("the value of the variable {name:?} cannot be sent as a key");
            reader.refuse(field, &message, "printable ASCII characters without spaces");
        }
    }
    None
}

fn models(reader: &mut Reader, fields: &Fields<'_>, upstreams: &[String]) -> Vec<ModelConfig> {
    let accepted = format!("a list of 1 to {MAX_MODELS} models");
    let Some(list) = reader.required(fields, "models", &accepted) else { return Vec::new() };
    let items = reader.items(&list, &accepted);
    if !(1..=MAX_MODELS).contains(&items.len()) && matches!(list.value, Value::List(_)) {
        reader.refuse(&list, &format!("has {} models", items.len()), &accepted);
    }
    let mut models: Vec<ModelConfig> = Vec::new();
    for item in items.into_iter().take(MAX_MODELS) {
        let Some(model) = model(reader, &item, upstreams) else { continue };
        distinct(reader, &item, Some(&model.id), models.iter().map(|model| model.id.as_str()));
        models.push(model);
    }
    models
}

fn model(reader: &mut Reader, item: &Field<'_>, upstreams: &[String]) -> Option<ModelConfig> {
    let known = [
        "id",
        "upstreams",
        "upstreamModel",
        "maxOutputTokens",
        "reserveOutputTokens",
        "onAbort",
        "onLimit",
    ];
    let fields = reader.fields(item, &known)?;
    let id = id(reader, &fields);
    let named = named_upstreams(reader, &fields, upstreams);
    let upstream_model = fields.get("upstreamModel");
    let upstream_model =
        upstream_model.and_then(|field| Some(reader.text(&field, "a text")?.to_owned()));
    let max_output_tokens =
        reader.integer(&fields, "maxOutputTokens", 1..=MAX_TOKENS, DEFAULT_MAX_OUTPUT_TOKENS);
    let reserve_output_tokens = fields.get("reserveOutputTokens").map(|_| {
        reader.integer(&fields, "reserveOutputTokens", 1..=max_output_tokens, max_output_tokens)
    });
    let on_abort = reader.named(&fields, "onAbort", &ON_ABORT, OnAbort::Reserved);
    let on_limit = reader.named(&fields, "onLimit", &ON_LIMIT, OnLimit::Cut);
    let id = id?;
    Some(ModelConfig {
        upstreams: named,
        upstream_model: upstream_model.unwrap_or_else(|| id.clone()),
        id,
        max_output_tokens,
        reserve_output_tokens,
        on_abort,
        on_limit,
    })
}

/// The upstreams that the field `upstreams` names, as indexes.
fn named_upstreams(reader: &mut Reader, fields: &Fields<'_>, known: &[String]) -> Vec<usize> {
    let Some(list) = reader.required(fields, "upstreams", ACCEPTED_UPSTREAMS) else {
        return Vec::new();
    };
    let items = reader.items(&list, ACCEPTED_UPSTREAMS);
    if items.is_empty() && matches!(list.value, Value::List(_)) {
        reader.refuse(&list, "is empty", ACCEPTED_UPSTREAMS);
    }
    let mut named = Vec::new();
    for item in items {
        let Some(id) = reader.text(&item, "the id of an upstream") else { continue };
        match known.iter().position(|upstream| upstream == id) {
            Some(index) if named.contains(&index) => {
                reader.refuse(&item, &format!("{id:?} is given twice"), "each upstream once");
            }
            Some(index) => named.push(index),
            None => {
                let ids: Vec<_> = known.iter().map(|id| format!("`{id}`")).collect();
                reader.refuse(&item, &format!("{id:?} is not an upstream"), &ids.join(", "));
            }
        }
    }
    named
}

fn pass_through(
    reader: &mut Reader,
    fields: &Fields<'_>,
    upstreams: &[String],
) -> Vec<PassThrough> {
    let Some(list) = fields.get("passThrough") else { return Vec::new() };
    let items = reader.items(&list, "a list of paths with their upstreams");
    let mut paths: Vec<PassThrough> = Vec::new();
    for item in items {
        let Some(fields) = reader.fields(&item, &["path", "upstreams"]) else { continue };
        let accepted =
            "a path below /v1 that the gateway does not serve itself, such as /v1/rerank";
        let path = reader.required(&fields, "path", accepted);
        let upstreams = named_upstreams(reader, &fields, upstreams);
        let Some(path) = path else { continue };
        let Some(text) = reader.text(&path, accepted) else { continue };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        let is_plain = text.starts_with("/v1/") && text.bytes().all(plain) && !text.contains("..");
        let is_own = Endpoint::of_path(text).is_some() || text.starts_with("/v1/models");
        if !is_plain || is_own {
            reader.mismatch(&path, accepted);
        } else if paths.iter().any(|known| known.path == text) {
            reader.refuse(&path, "is given twice", "each path once");
        } else {
            paths.push(PassThrough { path: text.to_owned(), upstreams });
        }
    }
    paths
}

fn queue(reader: &mut Reader, fields: &Fields<'_>) -> QueueConfig {
    let Some(field) = fields.get("queue") else { return DEFAULT_QUEUE };
    let Some(fields) = reader.fields(&field, &["maxLength", "maxWaitMs", "commentAfterMs"]) else {
        return DEFAULT_QUEUE;
    };
    let max_length = reader.integer(&fields, "maxLength", 0..=100_000, 1_000);
    QueueConfig {
        max_length: usize::try_from(max_length).unwrap_or(DEFAULT_QUEUE.max_length),
        max_wait: reader.milliseconds(&fields, "maxWaitMs", 0..=600_000, DEFAULT_QUEUE.max_wait),
        comment_after: fields.get("commentAfterMs").map(|_| {
            reader.milliseconds(&fields, "commentAfterMs", 10..=600_000, DEFAULT_QUEUE.max_wait)
        }),
    }
}

// Sums of tokens in flight cannot overflow.
const _: () = assert!(MAX_TOKENS < Amount::MAX.get() / 100_000);
