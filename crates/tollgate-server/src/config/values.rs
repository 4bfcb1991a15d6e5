//! Parses the values of settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tollgate_core::FailureMode;
use tollgate_memcached::MemcachedUrl;
use tollgate_redis::{RedisUrl, UrlProblem};
use tollgate_service::{Uncovered, UnknownApiKeys};

use super::layers::Refused;
use super::{CatalogConfig, LogFormat, Secret, StoreConfig, StoreUrl};

pub(super) fn address(text: &str) -> Result<SocketAddr, Refused> {
    // Only this name has the same address everywhere.
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| Refused {
        problem: format!("{text:?} is not an address"),
        accepted: "an IP address or localhost, and a port, such as 127.0.0.1:8000 or [::1]:8000; port 0 takes a free one",
    })
}

/// An integer in `range`; `accepted` describes the range.
pub(super) fn integer(
    text: &str,
    range: RangeInclusive<u64>,
    accepted: &'static str,
) -> Result<u64, Refused> {
    // TOML allows digits to be grouped, so the other layers do too.
    let value = text.replace('_', "").parse::<u64>().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| Refused { problem: format!("{text:?} is not accepted"), accepted })
}

/// A [`Duration`] in milliseconds, in `range`.
pub(super) fn milliseconds(
    text: &str,
    range: RangeInclusive<u64>,
    accepted: &'static str,
) -> Result<Duration, Refused> {
    integer(text, range, accepted).map(Duration::from_millis)
}

pub(super) fn boolean(text: &str) -> Result<bool, Refused> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Refused {
            problem: format!("{text:?} is not accepted"),
            accepted: "`true` or `false`",
        }),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Refused> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err(Refused {
            problem: format!("{text:?} is not a log format"),
            accepted: "`json` or `text`",
        }),
    }
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, Refused> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => Err(Refused {
            problem: format!("{text:?} is not a log level"),
            accepted: "`error`, `warn`, `info`, `debug` or `trace`",
        }),
    }
}

pub(super) fn on_store_error(text: &str) -> Result<FailureMode, Refused> {
    FailureMode::parse(text).ok_or_else(|| Refused {
        problem: format!("{text:?} is not a failure mode"),
        accepted: FailureMode::ACCEPTED,
    })
}

pub(super) fn nodes(text: &str) -> Result<NonZeroU32, Refused> {
    let accepted = "an integer from 1 to 10000";
    let nodes = integer(text, 1..=10_000, accepted)?;
    let nodes = u32::try_from(nodes).ok().and_then(NonZeroU32::new);
    nodes.ok_or_else(|| Refused { problem: format!("{text:?} is not accepted"), accepted })
}

/// A part of a whole, in millionths.
pub(super) fn share(text: &str) -> Result<u32, Refused> {
    let accepted = "a number from 0 to 1 with at most 6 decimals";
    let refused = || Refused { problem: format!("{text:?} is not accepted"), accepted };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(decimals) || decimals.len() > 6 {
        return Err(refused());
    }
    let whole: u32 = whole.parse().map_err(|_| refused())?;
    let millionths: u32 = format!("{decimals:0<6}").parse().map_err(|_| refused())?;
    match (whole, millionths) {
        (0, _) => Ok(millionths),
        (1, 0) => Ok(1_000_000),
        _ => Err(refused()),
    }
}

/// A path of a file.
pub(super) fn path(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() {
        let accepted = "the path of a file";
        return Err(Refused { problem: "is empty".to_owned(), accepted });
    }
    Ok(text.into())
}

pub(super) fn directory(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() {
        let accepted = "the path of a directory";
        return Err(Refused { problem: "is empty".to_owned(), accepted });
    }
    Ok(text.into())
}

pub(super) fn gateway_file(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() {
        let accepted = "the path of a file, such as gateway.yaml";
        return Err(Refused { problem: "is empty".to_owned(), accepted });
    }
    Ok(text.into())
}

pub(super) fn uncovered(text: &str) -> Result<Uncovered, Refused> {
    match text {
        "allow" => Ok(Uncovered::Allow),
        "deny" => Ok(Uncovered::Deny),
        _ => Err(Refused {
            problem: format!("{text:?} is not accepted"),
            accepted: "`allow` or `deny`",
        }),
    }
}

pub(super) fn unknown_api_keys(text: &str) -> Result<UnknownApiKeys, Refused> {
    match text {
        "count" => Ok(UnknownApiKeys::Count),
        "deny" => Ok(UnknownApiKeys::Deny),
        _ => Err(Refused {
            problem: format!("{text:?} is not accepted"),
            accepted: "`count` or `deny`",
        }),
    }
}

const ACCEPTED_STORES: &str = "`memory:`, `memory:DIR` (with snapshots in a directory), each with `?max_keys=N`, redis://HOST[:PORT][/DATABASE], redis-sentinel://…, \
     redis-cluster://…, redis+unix://…, rediss://… (TLS) and its kind, and each with valkey in place of redis, or memcached://HOST[:PORT]";

pub(super) const MAX_KEYS_RANGE: RangeInclusive<u64> = 1..=1_000_000_000;
pub(super) const ACCEPTED_MAX_KEYS: &str = "an integer from 1 to 1000000000";

/// The store of a URL. Errors show no part of it, because a URL may contain a password.
pub(super) fn store(url: &str) -> Result<StoreUrl, Refused> {
    let refused = |problem| Err(Refused { problem, accepted: ACCEPTED_STORES });
    let url = url.trim_matches(|c: char| c.is_ascii_whitespace());
    let Some((scheme, rest)) = url.split_once(':') else {
        return refused("is not a URL".to_owned());
    };
    if RedisUrl::has_scheme(scheme) {
        return match url.parse() {
            Ok(url) => {
                Ok(StoreUrl { store: StoreConfig::Redis(Box::new(url)), ..StoreUrl::MEMORY })
            }
            Err(problem) => Err(Refused {
                problem: UrlProblem::problem(&problem).to_owned(),
                accepted: RedisUrl::ACCEPTED,
            }),
        };
    }
    if scheme == MemcachedUrl::SCHEME {
        return match url.parse() {
            Ok(url) => {
                Ok(StoreUrl { store: StoreConfig::Memcached(Box::new(url)), ..StoreUrl::MEMORY })
            }
            Err(problem) => Err(Refused {
                problem: tollgate_memcached::UrlProblem::problem(problem).to_owned(),
                accepted: MemcachedUrl::ACCEPTED,
            }),
        };
    }
    if scheme != "memory" {
        return refused(unknown("store"));
    }
    let (dir, option) = rest.split_once('?').map_or((rest, None), |(dir, it)| (dir, Some(it)));
    if dir.starts_with("//") {
        return refused("`memory:` takes a path, such as memory:/var/lib/tollgate".to_owned());
    }
    if dir.starts_with('~') {
        // A shell does not expand it after the colon, so there would be a directory of this name.
        return refused("`memory:` takes a path, and `~` is not one; write it out".to_owned());
    }
    let snapshots = (!dir.is_empty()).then(|| PathBuf::from(dir));
    let max_keys = match option.map(|option| option.strip_prefix("max_keys=")) {
        None => None,
        Some(None) => return refused("`memory:` has no option but `max_keys`".to_owned()),
        Some(Some(keys)) => match integer(keys, MAX_KEYS_RANGE, ACCEPTED_MAX_KEYS) {
            Ok(keys) => Some(keys),
            Err(Refused { problem, accepted }) => {
                return Err(Refused { problem: format!("`max_keys`: {problem}"), accepted });
            }
        },
    };
    Ok(StoreUrl { store: StoreConfig::Memory, max_keys, snapshots })
}

/// The catalog of a URL. Errors show only the scheme.
pub(super) fn catalog(url: &str) -> Result<CatalogConfig, Refused> {
    let accepted = "`file:PATH`, a policy file ending in .yaml, .yml, .json or .toml; `sqlite:FILE`; or \
         postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE";
    let refused = |problem| Err(Refused { problem, accepted });
    match url.split_once(':') {
        None => refused("is not a URL".to_owned()),
        Some(("file", "")) => refused("the path is empty".to_owned()),
        Some(("file", path)) => {
            // `file:///a/b` and `file:a/b` both name a file on this machine.
            let path = match path.strip_prefix("//") {
                None => path,
                Some(path) if path.starts_with('/') => path,
                Some(path) => match path.strip_prefix("localhost") {
                    Some(path) if path.starts_with('/') => path,
                    _ => return refused("names a file on another machine".to_owned()),
                },
            };
            Ok(CatalogConfig::File(PathBuf::from(path)))
        }
        Some(("sqlite", "" | "//")) => refused("names no file".to_owned()),
        Some(("sqlite" | "postgres" | "postgresql", _)) => {
            Ok(CatalogConfig::Database(Secret::new(url)))
        }
        Some(_) => refused(unknown("catalog")),
    }
}

fn unknown(what: &str) -> String {
    format!("the scheme of the {what} is unknown")
}
