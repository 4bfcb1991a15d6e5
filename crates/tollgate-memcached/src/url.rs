//! The URL of memcached.
//!
//! No error ever contains text of a URL: in a mistyped URL a password may be anywhere. Once a URL is accepted, its host is shown.

use std::fmt;
use std::str::FromStr;

/// The port of memcached, unless the URL says otherwise.
const PORT: u16 = 11211;
/// The longest prefix of keys, in bytes.
const MAX_PREFIX_BYTES: usize = 64;
/// The default prefix of keys.
const DEFAULT_PREFIX: &str = "tg:";

/// A URL of memcached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemcachedUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) prefix: String,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlProblem(&'static str);

impl UrlProblem {
    /// What is wrong, without [what is accepted](MemcachedUrl::ACCEPTED). It contains no part of the URL.
    pub fn problem(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for UrlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; accepted: {}", self.0, MemcachedUrl::ACCEPTED)
    }
}

impl std::error::Error for UrlProblem {}

impl MemcachedUrl {
    /// The host and the port.
    pub fn server(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The scheme.
    pub const SCHEME: &'static str = "memcached";
    /// The form of a URL.
    pub const ACCEPTED: &'static str = "memcached://HOST[:PORT][?prefix=PREFIX], one server, with a prefix of up to 64 visible ASCII \
         characters";
}

impl FromStr for MemcachedUrl {
    type Err = UrlProblem;

    fn from_str(url: &str) -> Result<Self, UrlProblem> {
        let rest = url.strip_prefix(Self::SCHEME).and_then(|rest| rest.strip_prefix("://"));
        let rest = rest.ok_or(UrlProblem("does not begin with memcached://"))?;
        if rest.contains('#') {
            return Err(UrlProblem("has a fragment (`#`), which means nothing to memcached"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('@') {
            return Err(UrlProblem(
                "has a user or a password, but Tollgate does not log in to memcached",
            ));
        }
        if place.contains(',') {
            return Err(UrlProblem("names several servers, but a store on memcached has one"));
        }
        if place.contains('/') {
            return Err(UrlProblem("has a path, but memcached has no databases"));
        }
        let (host, port) = split(place)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(UrlProblem("has no valid host"));
        }
        Ok(Self { host: host.to_owned(), port, prefix: prefix(query)? })
    }
}

fn split(place: &str) -> Result<(&str, u16), UrlProblem> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => {
            (host, Some(rest.strip_prefix(':').ok_or(UrlProblem("has no valid port"))?))
        }
        None if place.starts_with('[') => {
            return Err(UrlProblem("has an address whose `[` is not closed by `]`"));
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None => PORT,
        Some(port) => number(port).ok_or(UrlProblem("has no valid port"))?,
    };
    Ok((host, port))
}

/// A port in digits, which `u16::from_str` alone does not require: it accepts a sign.
fn number(port: &str) -> Option<u16> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port != 0)
}

fn prefix(query: &str) -> Result<String, UrlProblem> {
    let mut found = None;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let value = option.strip_prefix("prefix=");
        let value = value.ok_or(UrlProblem("has an option other than `prefix`"))?;
        let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || value.len() > MAX_PREFIX_BYTES || found.replace(value).is_some() {
            return Err(UrlProblem("has no valid `prefix`"));
        }
    }
    Ok(found.unwrap_or(DEFAULT_PREFIX).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_server() {
        for (url, host, port, prefix) in [
            ("memcached://cache", "cache", 11211, "tg:"),
            ("memcached://cache:1/", "cache", 1, "tg:"),
            ("memcached://127.0.0.1:11212?prefix=a", "127.0.0.1", 11212, "a"),
            ("memcached://[::1]:5?prefix=", "::1", 5, ""),
            ("memcached://[::1]", "::1", 11211, "tg:"),
        ] {
            let expected = MemcachedUrl { host: host.to_owned(), port, prefix: prefix.to_owned() };
            assert_eq!(url.parse(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_and_not_shown() {
        for url in [
            "memcached:canary",
            "memcached://",
            "memcached://:canary@h",
            "memcached://user:canary@h",
            "memcached://canary:x",
            "memcached://canary:0",
            "memcached://canary:70000",
            "memcached://canary:+1",
            "memcached://[::1]canary",
            "memcached://[::1canary",
            "memcached://canary#x",
            "memcached://canary,b",
            "memcached://can ary",
            "memcached://canary/1",
            "memcached://h?canary=1",
            "memcached://h?prefix=can ary",
            "memcached://h?prefix=canary&prefix=b",
            &format!("memcached://h?prefix=canary{}", "x".repeat(64)),
        ] {
            let problem = MemcachedUrl::from_str(url).unwrap_err();
            assert!(!problem.to_string().contains("canary"), "{url}: {problem}");
        }
    }
    #[test]
    fn a_problem_names_the_part_of_the_url() {
        for (url, part) in [
            ("memcached://h/1", "path"),
            ("memcached://h#x", "fragment"),
            ("memcached://h/#x", "fragment"),
            ("memcached://[::1", "`]`"),
            ("memcached://[::1:11211", "`]`"),
            ("memcached://h:+11211", "port"),
            ("memcached://h?prefx=a", "`prefix`"),
        ] {
            let problem = MemcachedUrl::from_str(url).unwrap_err();
            assert!(problem.problem().contains(part), "{url}: {problem}");
        }
    }
}
