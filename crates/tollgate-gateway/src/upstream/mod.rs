//! The upstreams: connections to model servers, their keys, and a circuit breaker for each.
//!
//! Requests go to the addresses of the configuration and nowhere else. Redirects are not followed.

mod begun;
mod breaker;
mod client;
mod fields;
mod quota;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tollgate_core::{Clock, MonotonicClock, SystemWallClock, Timestamp, WallClock as _};

pub use self::begun::BegunBody;
use self::breaker::{Breaker, Gate};
use self::client::{Trust, UpstreamClient};
use self::quota::Quota;
use crate::admission::UpstreamSet;
use crate::config::{Dialect, UpstreamConfig};
use crate::monitor::UpstreamState;

/// The upstreams of a gateway.
pub struct Upstreams {
    all: Vec<Upstream>,
    clock: MonotonicClock,
}

#[derive(Debug)]
struct Upstream {
    config: UpstreamConfig,
    /// Shared by all upstreams that trust the same authorities.
    client: UpstreamClient,
    // Held for some nanoseconds, some times per request.
    breaker: Mutex<Breaker>,
    // Likewise.
    quota: Mutex<Quota>,
}

impl Upstream {
    /// A poisoned lock is fine: the breaker is only a judgement.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poisoned lock is fine: the next answer says what is left.
    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").field("all", &self.all).finish_non_exhaustive()
    }
}

/// Which upstreams may get a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Available {
    /// All of them.
    pub upstreams: UpstreamSet,
    /// Those of them that get it only to find out whether they work again.
    pub probes: UpstreamSet,
}

/// Why an upstream gave no answer that a client can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// It could not be reached, or closed the connection before the first byte of its answer.
    Unreachable,
    /// TLS with it failed, most often because its certificate is not trusted.
    Tls,
    /// Its answer did not begin in time.
    Timeout,
    /// It says that it is overloaded or broken, redirects, or does not accept its key.
    Status(StatusCode),
    /// Its provider limits requests.
    Limited {
        /// For how long.
        wait: Duration,
    },
}

/// A request to an upstream.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, below `/v1`, with its query.
    pub path: &'a str,
    /// The fields of the client.
    pub fields: &'a HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The tokens that are reserved for it.
    pub tokens: u64,
    /// Whether its answer begins with the first piece of its body, and not with its head.
    pub waits_for_body: bool,
    /// Fields that replace those of the client.
    pub trace_fields: HeaderMap,
}

/// The wait if a provider limits requests and does not say for how long.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);

impl Upstreams {
    /// The upstreams of `configs`. Connects to none.
    pub fn new(configs: &[UpstreamConfig]) -> io::Result<Self> {
        let uses_tls = |config: &UpstreamConfig| config.base_url.scheme_str() == Some("https");
        let trusts_system =
            |config: &UpstreamConfig| uses_tls(config) && config.authorities.is_none();
        let trust = if configs.iter().any(trusts_system) { Trust::System } else { Trust::Nobody };
        let shared = client::client(&trust)?;
        let mut all: Vec<Upstream> = Vec::with_capacity(configs.len());
        for config in configs {
            let same = all.iter().find(|other| other.config.authorities == config.authorities);
            let client = match (&config.authorities, same) {
                (None, _) => shared.clone(),
                (Some(_), Some(other)) => other.client.clone(),
                (Some(authorities), None) => client::client(&Trust::Only(authorities))?,
            };
            let config = config.clone();
            all.push(Upstream {
                config,
                client,
                breaker: Mutex::default(),
                quota: Mutex::default(),
            });
        }
        Ok(Self { all, clock: MonotonicClock::new() })
    }

    /// The configuration of the upstream at `index`, which must exist.
    pub fn config(&self, index: usize) -> &UpstreamConfig {
        &self.all[index].config
    }

    /// Those of `dialect` among `indexes` that may get a request of so many tokens now. Call [`Upstreams::chosen`] then.
    pub fn available(&self, indexes: &[usize], dialect: Option<Dialect>, tokens: u64) -> Available {
        let now = self.clock.now();
        let mut available = Available::default();
        for &index in indexes {
            let upstream = &self.all[index];
            if dialect.is_some_and(|dialect| upstream.config.dialect != dialect) {
                continue;
            }
            if upstream.quota().wait(now, tokens).is_some() {
                continue;
            }
            match upstream.breaker().gate(now) {
                Gate::Open => available.upstreams = available.upstreams.with(index),
                Gate::Probe => {
                    available.upstreams = available.upstreams.with(index);
                    available.probes = available.probes.with(index);
                }
                Gate::Shut => {}
            }
        }
        available
    }

    /// Whether another than those `tried` could get the request. Unlike [`Upstreams::available`] it starts no probe.
    pub fn has_other(
        &self,
        indexes: &[usize],
        dialect: Option<Dialect>,
        tokens: u64,
        tried: UpstreamSet,
    ) -> bool {
        let now = self.clock.now();
        UpstreamSet::of(indexes.iter().copied()).without(tried).iter().any(|index| {
            let upstream = &self.all[index];
            let state = upstream.breaker().state(now);
            dialect.is_none_or(|dialect| upstream.config.dialect == dialect)
                && matches!(state, UpstreamState::Available | UpstreamState::HalfOpen)
                && upstream.quota().wait(now, tokens).is_none()
        })
    }

    /// One of `available` was chosen, or none.
    pub fn chosen(&self, available: Available, chosen: Option<usize>) {
        let chosen = UpstreamSet::of(chosen);
        for index in available.probes.without(chosen).iter() {
            self.all[index].breaker().not_probed();
        }
    }

    /// The shortest time until the provider of one of `indexes` takes a request of so many tokens again; `None` if none limits
    /// them.
    pub fn cooling(&self, indexes: &[usize], tokens: u64) -> Option<Duration> {
        let now = self.clock.now();
        let cools_for = |index: &usize| {
            let upstream = &self.all[*index];
            let cools_for = upstream.breaker().cools_for(now);
            cools_for.max(upstream.quota().wait(now, tokens))
        };
        indexes.iter().filter_map(cools_for).min()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none; a valid configuration has at least one.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the upstream at `index` gets requests now.
    pub fn state(&self, index: usize) -> UpstreamState {
        let (upstream, now) = (&self.all[index], self.clock.now());
        let state = upstream.breaker().state(now);
        let is_used_up = upstream.quota().wait(now, 1).is_some();
        match state {
            UpstreamState::Available if is_used_up => UpstreamState::Limited,
            state => state,
        }
    }

    /// Sends a request to the upstream at `index` and waits until its answer begins. Its fields are those that the client gets.
    ///
    /// What became of it opens and closes the breaker. An answer that says that the request is wrong is an answer, and so is a 500,
    /// which the breaker counts as a failure.
    pub async fn send(
        &self,
        index: usize,
        outgoing: &Outgoing<'_>,
    ) -> Result<Response<BegunBody>, UpstreamFailure> {
        let config = &self.all[index].config;
        let Some(request) = request(config, outgoing) else {
            return Err(UpstreamFailure::Unreachable);
        };
        self.all[index].quota().take(outgoing.tokens);
        let sent =
            tokio::time::timeout(config.head_timeout, self.all[index].client.request(request))
                .await;
        if let Ok(Ok(response)) = &sent {
            let wall_time = SystemWallClock.wall_time();
            self.all[index].quota().hear(response.headers(), self.clock.now(), wall_time);
        }
        let answer = match sent {
            Ok(Ok(response)) => match judged(&response) {
                None => begun(config, response, outgoing.waits_for_body).await,
                Some(failure) => Err(failure),
            },
            Ok(Err(error)) => Err(no_answer(config, &error)),
            Err(_) => Err(UpstreamFailure::Timeout),
        };
        match &answer {
            Ok(response) if response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                self.failed(index, UpstreamFailure::Status(response.status()));
            }
            // The other errors of servers say nothing: the request may ask for what the upstream does not have.
            Ok(response) if response.status().is_server_error() => {}
            Ok(_) => self.succeeded(index),
            Err(failure) => self.failed(index, *failure),
        }
        answer
    }

    fn succeeded(&self, index: usize) {
        let upstream = &self.all[index];
        if upstream.breaker().succeeded() {
            tracing::info!(upstream = upstream.config.id, "the upstream answers again");
        }
    }

    fn failed(&self, index: usize, failure: UpstreamFailure) {
        let (upstream, now) = (&self.all[index], self.clock.now());
        let id = &upstream.config.id;
        if let UpstreamFailure::Limited { wait } = failure {
            upstream.breaker().cool(now, wait);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                upstream = id,
                wait_ms,
                "the provider of the upstream limits requests; none is sent for this time"
            );
            return;
        }
        if let UpstreamFailure::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) = failure {
            tracing::error!(
                upstream = id,
                "the upstream does not accept its key; clients get 503. Correct the variable that apiKeyEnv names"
            );
        }
        let opens = match failure {
            // The next request would fail in the same way.
            UpstreamFailure::Tls => upstream.breaker().failed_for_good(now),
            _ => upstream.breaker().failed(now),
        };
        if opens {
            tracing::error!(
                upstream = id,
                ?failure,
                "the upstream fails; it gets no requests until a probe succeeds"
            );
        }
    }
}

fn request(config: &UpstreamConfig, outgoing: &Outgoing<'_>) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(outgoing.body.clone()));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = url(&config.base_url, outgoing.path)?;
    *request.headers_mut() =
        fields::for_upstream(outgoing.fields, config.dialect, config.key.as_ref());
    if !outgoing.trace_fields.is_empty() {
        // It belongs to the trace of the client, which may not be the one that is continued.
        request.headers_mut().remove("tracestate");
        request.headers_mut().extend(outgoing.trace_fields.clone());
    }
    Some(request)
}

/// The address of `path`, whose beginning `/v1` stands for the path of `base`.
fn url(base: &Uri, path: &str) -> Option<Uri> {
    let below = path.strip_prefix("/v1")?;
    let base_path = base.path().trim_end_matches('/');
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(format!("{base_path}{below}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Why there is no answer.
fn no_answer(config: &UpstreamConfig, error: &(dyn Error + 'static)) -> UpstreamFailure {
    if let Some(reason) = client::tls_failure(error) {
        tracing::error!(
            upstream = config.id,
            %reason,
            "TLS with the upstream failed; clients get 503. If its authority is unknown, set caFile of the upstream to the certificate of \
             the authority; if the name is wrong, baseUrl must have a name of the certificate"
        );
        return UpstreamFailure::Tls;
    }
    tracing::debug!(upstream = config.id, %error, "an upstream gave no answer");
    UpstreamFailure::Unreachable
}

/// The answer that begins with `response`, with the fields that the client gets. If it `waits` for the first piece of the body, an
/// upstream that fails before has given no answer. It may be silent for as long as within its body.
async fn begun(
    config: &UpstreamConfig,
    response: Response<Incoming>,
    waits: bool,
) -> Result<Response<BegunBody>, UpstreamFailure> {
    let (mut head, body) = response.into_parts();
    head.headers = fields::for_client(&head.headers);
    let body = if waits && head.status.is_success() {
        let begun = tokio::time::timeout(config.idle_timeout, BegunBody::begun(body)).await;
        let begun = begun.map_err(|_| UpstreamFailure::Timeout)?;
        begun.map_err(|error| no_answer(config, &error))?
    } else {
        BegunBody::unread(body)
    };
    Ok(Response::from_parts(head, body))
}

/// Why an answer is none that a client can have.
fn judged(response: &Response<Incoming>) -> Option<UpstreamFailure> {
    /// Anthropic's status of an overloaded server.
    const OVERLOADED: u16 = 529;
    let status = response.status();
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(UpstreamFailure::Limited {
            wait: wait(response.headers(), SystemWallClock.wall_time()),
        }),
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Some(UpstreamFailure::Status(status)),
        _ if status.as_u16() == OVERLOADED || status.is_redirection() => {
            Some(UpstreamFailure::Status(status))
        }
        _ => None,
    }
}

/// How long a provider wants no requests, by the fields of its answer at `wall_time`.
fn wait(fields: &HeaderMap, wall_time: Timestamp) -> Duration {
    let text = |name: &str| fields.get(name)?.to_str().ok().map(str::trim);
    let number = |name| text(name)?.parse::<u64>().ok();
    let wait = number("retry-after-ms").map(Duration::from_millis);
    let wait = wait.or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs));
    let wait = wait.or_else(|| {
        let until = http_date(text(RETRY_AFTER.as_str())?)?;
        // By the provider's own clock, which may be off. A time that has passed says nothing.
        let now = text(DATE.as_str()).and_then(http_date).unwrap_or(wall_time);
        Some(until.since(now)).filter(|wait| !wait.is_zero())
    });
    wait.unwrap_or(UNKNOWN_WAIT).clamp(Duration::from_millis(1), breaker::MAX_COOLING)
}

/// A date of HTTP, in the form that servers must write it.
fn http_date(text: &str) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(at.as_nanosecond()).ok().map(Timestamp::from_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_stands_for_v1() {
        let of = |base: &str, path| url(&base.parse().unwrap(), path).map(|url| url.to_string());
        assert_eq!(
            of("http://a:1/v1", "/v1/chat/completions").unwrap(),
            "http://a:1/v1/chat/completions"
        );
        assert_eq!(of("https://a", "/v1/messages?x=1").unwrap(), "https://a/messages?x=1");
        assert_eq!(of("http://a/x/", "/v1/messages").unwrap(), "http://a/x/messages");
        assert_eq!(of("http://a", "/admin"), None);
    }

    #[test]
    fn the_wait_of_a_provider_is_read_and_bounded() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut fields = HeaderMap::new();
            for (name, value) in pairs {
                fields.insert(*name, value.parse().unwrap());
            }
            // 2015-10-21T07:28:00Z
            wait(&fields, Timestamp::from_ms(1_445_412_480_000))
        };
        assert_eq!(of(&[]), UNKNOWN_WAIT);
        assert_eq!(of(&[("retry-after", "7")]), Duration::from_secs(7));
        let both = [("retry-after", "7"), ("retry-after-ms", "6500")];
        assert_eq!(of(&both), Duration::from_millis(6_500));
        assert_eq!(of(&[("retry-after", "99999999999")]), breaker::MAX_COOLING);
        assert_eq!(of(&[("retry-after", "soon")]), UNKNOWN_WAIT);
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), UNKNOWN_WAIT);
        let date = ("retry-after", "Wed, 21 Oct 2015 07:28:06 GMT");
        assert_eq!(of(&[date]), Duration::from_secs(6));
        assert_eq!(of(&[date, ("date", "Wed, 21 Oct 2015 07:27:58 GMT")]), Duration::from_secs(8));
        assert_eq!(of(&[date, ("date", "today")]), Duration::from_secs(6));
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2099 07:28:06 GMT")]), breaker::MAX_COOLING);
    }
}
