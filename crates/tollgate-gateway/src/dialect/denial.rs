//! Errors in a client's dialect, with the headers that its retries obey.
//!
//! The clients of OpenAI and Anthropic wait for `retry-after-ms`, or else `retry-after`, if it is at most [`MAX_OBEYED_WAIT_MS`];
//! for longer waits they would try again after some seconds of their own choice, so `x-should-retry: false` stops them.

mod limit_headers;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;
use tollgate_core::{Decision, Reason, Unit, Visibility};

pub use self::limit_headers::apply_limits;
#[cfg(test)]
pub(crate) use self::limit_headers::limit_names;

use crate::admission::TicketId;
use crate::config::Dialect;

/// The longest wait that clients obey, in milliseconds.
pub const MAX_OBEYED_WAIT_MS: u64 = 60_000;

pub(crate) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The admission ticket of a request that found no place in the queue: in the denial, and in the request that comes back.
pub const TICKET: HeaderName = HeaderName::from_static("x-tollgate-ticket");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request gets an error instead of an answer of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It has no API key.
    NoApiKey,
    /// Its API key is not valid.
    ApiKey(Reason),
    /// The catalog did not answer, and the API key is not cached.
    CatalogUnavailable,
    /// No model has this name here.
    UnknownModel(String),
    /// Nothing is served at this path.
    UnknownPath,
    /// The path does not take this method.
    Method,
    /// The request is invalid.
    Invalid {
        /// The field, if it is one.
        param: Option<&'static str>,
        /// What is wrong and what is accepted.
        message: String,
    },
    /// The body is longer than so many bytes.
    TooLarge(usize),
    /// The body did not arrive in time.
    TooSlow,
    /// Unfinished requests hold all the memory that there is for them.
    NoMemory,
    /// The limits deny it.
    Limited(Box<Decision>),
    /// The store failed, so that nothing could be decided.
    StoreUnavailable,
    /// The queue is full, or the wait would be too long.
    Busy {
        /// When it may be tried again.
        retry_after_ms: u64,
        /// With what it comes first then.
        ticket: Option<TicketId>,
    },
    /// Every upstream of the model is limited by its provider.
    UpstreamLimited {
        /// When it may be tried again.
        retry_after_ms: u64,
    },
    /// No upstream of the model is available.
    NoUpstream,
    /// It waited for an upstream, or came to wait, when the gateway was about to end.
    Ending,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

/// The kind of an error, which has a name in each dialect.
#[derive(Clone, Copy)]
enum Kind {
    Invalid,
    Authentication,
    NotFound,
    TooLarge,
    RateLimit,
    Overloaded,
    Timeout,
}

impl Denial {
    /// The answer in `dialect`.
    pub fn response(&self, dialect: Dialect) -> Response<Bytes> {
        let (status, kind, code) = self.words();
        let message = self.message();
        let body = match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": message,
                "type": self.openai_type(kind),
                "param": self.param(),
                "code": code,
            }}),
            Dialect::Anthropic => {
                json!({"type": "error", "error": {"type": kind.anthropic(), "message": message}})
            }
        };
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Self::Limited(decision) = self {
            apply_limits(dialect, decision, headers);
        }
        if let Self::Busy { ticket: Some(ticket), .. } = self
            && let Ok(value) = HeaderValue::try_from(ticket.to_string())
        {
            headers.insert(TICKET, value);
        }
        apply_retry(headers, self.retry());
        response
    }

    fn words(&self) -> (StatusCode, Kind, &'static str) {
        match self {
            Self::NoApiKey | Self::ApiKey(_) => {
                (StatusCode::UNAUTHORIZED, Kind::Authentication, "invalid_api_key")
            }
            Self::UnknownModel(_) => (StatusCode::NOT_FOUND, Kind::NotFound, "model_not_found"),
            Self::UnknownPath => (StatusCode::NOT_FOUND, Kind::NotFound, "unknown_url"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, Kind::Invalid, "method_not_supported"),
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, Kind::Invalid, "invalid_request"),
            Self::TooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, Kind::TooLarge, "request_too_large")
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, Kind::Timeout, "request_timeout"),
            Self::Limited(_) | Self::UpstreamLimited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Kind::RateLimit, "rate_limit_exceeded")
            }
            Self::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, Kind::RateLimit, "queue_full"),
            Self::UpstreamTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, Kind::Timeout, "upstream_timeout")
            }
            Self::CatalogUnavailable
            | Self::StoreUnavailable
            | Self::NoMemory
            | Self::NoUpstream
            | Self::Ending => {
                (StatusCode::SERVICE_UNAVAILABLE, Kind::Overloaded, "service_unavailable")
            }
        }
    }

    /// For people. It names no user, no key and no limit that callers must not see.
    fn message(&self) -> String {
        match self {
            Self::NoApiKey => {
                "No API key was given. Send it as `Authorization: Bearer KEY` or as `x-api-key`."
                    .to_owned()
            }
            Self::ApiKey(Reason::ApiKeyRevoked) => "This API key was revoked.".to_owned(),
            Self::ApiKey(Reason::ApiKeyExpired) => "This API key has expired.".to_owned(),
            Self::ApiKey(_) => "This API key is not valid.".to_owned(),
            Self::UnknownModel(model) => {
                let shown: String = model.chars().filter(|c| !c.is_control()).take(64).collect();
                format!(
                    "The model `{shown}` does not exist here. GET /v1/models lists those that do."
                )
            }
            Self::UnknownPath => "Nothing is served at this path.".to_owned(),
            Self::Method => "This path does not take this method.".to_owned(),
            Self::Invalid { message, .. } => message.clone(),
            Self::TooLarge(most) => {
                format!("The body is too long; accepted: at most {most} bytes.")
            }
            Self::TooSlow => "The body did not arrive in time.".to_owned(),
            Self::NoMemory => "Too many unfinished requests. Try again soon.".to_owned(),
            Self::Limited(decision) => limited(decision),
            Self::Busy { .. } => "The queue of this model is full. Try again later.".to_owned(),
            Self::UpstreamLimited { .. } => {
                "The provider of this model limits requests. Try again later.".to_owned()
            }
            Self::CatalogUnavailable => {
                "API keys cannot be checked now. Try again soon.".to_owned()
            }
            Self::StoreUnavailable => "Limits cannot be checked now. Try again soon.".to_owned(),
            Self::NoUpstream => {
                "No server of this model is available now. Try again soon.".to_owned()
            }
            Self::Ending => {
                "This server is about to end. Try again, which another one answers.".to_owned()
            }
            Self::UpstreamTimeout => "The model did not answer in time.".to_owned(),
        }
    }

    /// OpenAI names the unit of the limit in the type of a denial.
    fn openai_type(&self, kind: Kind) -> &'static str {
        let Self::Limited(decision) = self else { return kind.openai() };
        match decision.headline().map(|status| status.limit.unit()) {
            Some(Unit::Tokens | Unit::InputTokens | Unit::OutputTokens) => "tokens",
            _ => "requests",
        }
    }

    fn param(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { param, .. } => *param,
            Self::UnknownModel(_) => Some("model"),
            _ => None,
        }
    }

    /// Whether and when to try again; `None` leaves it to the client.
    fn retry(&self) -> Option<Retry> {
        match self {
            Self::Limited(decision) => Some(match decision.retry_after_ms() {
                Some(wait_ms) => Retry::After(wait_ms),
                None => Retry::Never,
            }),
            Self::Busy { retry_after_ms, .. } | Self::UpstreamLimited { retry_after_ms } => {
                Some(Retry::After(*retry_after_ms))
            }
            Self::CatalogUnavailable
            | Self::StoreUnavailable
            | Self::NoMemory
            | Self::NoUpstream
            | Self::Ending => Some(Retry::After(UNAVAILABLE_WAIT_MS)),
            Self::UpstreamTimeout | Self::TooSlow => None,
            _ => Some(Retry::Never),
        }
    }
}

/// The wait if nobody knows how long something stays unavailable.
const UNAVAILABLE_WAIT_MS: u64 = 1_000;

#[derive(Clone, Copy)]
enum Retry {
    After(u64),
    Never,
}

fn apply_retry(headers: &mut HeaderMap, retry: Option<Retry>) {
    let wait_ms = match retry {
        None => return,
        Some(Retry::Never) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            return;
        }
        Some(Retry::After(wait_ms)) => wait_ms.max(1),
    };
    headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait_ms));
    let obeys = wait_ms <= MAX_OBEYED_WAIT_MS;
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(if obeys { "true" } else { "false" }));
}

/// Names the limit, if callers may see it.
fn limited(decision: &Decision) -> String {
    let wait = match decision.retry_after_ms() {
        Some(wait_ms) => format!("Try again in {}.", seconds(wait_ms)),
        None => "Waiting does not help.".to_owned(),
    };
    let headline =
        decision.headline().filter(|status| status.limit.visibility() == Visibility::Public);
    let Some(status) = headline else { return format!("Rate limit reached. {wait}") };
    let (limit, unit) = (status.limit.amount(), status.limit.unit());
    let within = match status.window() {
        Some(window) => format!(" in {} s", window.as_duration().as_secs().max(1)),
        None => String::new(),
    };
    let used = status.count;
    match status.reason() {
        Some(Reason::CostExceedsLimit) => {
            format!("This request needs more {unit} than the limit of {limit}{within}. {wait}")
        }
        _ => format!(
            "Rate limit reached: {used} of {limit} {unit}{within} are used or reserved. {wait}"
        ),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

impl Kind {
    const fn openai(self) -> &'static str {
        match self {
            Self::Invalid | Self::Authentication | Self::NotFound | Self::TooLarge => {
                "invalid_request_error"
            }
            Self::RateLimit => "requests",
            Self::Overloaded => "server_error",
            Self::Timeout => "timeout",
        }
    }

    const fn anthropic(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Overloaded => "overloaded_error",
            Self::Timeout => "timeout_error",
        }
    }
}

#[cfg(test)]
mod tests;
