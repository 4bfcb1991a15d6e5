//! Where Redis is, read from a URL. A problem names the part, never the password.

use std::fmt;
use std::str::FromStr;

/// The most hosts of one URL.
const MAX_HOSTS: usize = 64;
/// The longest prefix of keys, in bytes.
const MAX_PREFIX_BYTES: usize = 64;
/// The prefix of keys, unless the URL says otherwise.
const DEFAULT_PREFIX: &str = "tg:";
const ACCEPTED: &str = "redis://HOST[:PORT][/DATABASE], rediss://… (TLS), \
     redis-sentinel://HOST[:PORT],…/MASTER[/DATABASE] or redis-cluster://HOST[:PORT],…, each with \
     USER:PASSWORD@ before the hosts and ?prefix=… at the end if wanted";

/// How Redis is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    Single,
    Sentinel { master: String },
    Cluster,
}

/// A host and a port.
pub(crate) type Address = (String, u16);

/// A URL of Redis or Valkey.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) deployment: Deployment,
    pub(crate) tls: bool,
    pub(crate) hosts: Vec<Address>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
    pub(crate) prefix: String,
}

/// What is wrong with a URL, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlProblem(String);

impl UrlProblem {
    /// What is wrong, without what is accepted. Never shows the password.
    pub fn problem(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; accepted: {ACCEPTED}", self.0)
    }
}

impl std::error::Error for UrlProblem {}

/// The URL without the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.deployment, self.tls) {
            (Deployment::Single, false) => "redis",
            (Deployment::Single, true) => "rediss",
            (Deployment::Sentinel { .. }, false) => "redis-sentinel",
            (Deployment::Sentinel { .. }, true) => "rediss-sentinel",
            (Deployment::Cluster, false) => "redis-cluster",
            (Deployment::Cluster, true) => "rediss-cluster",
        };
        let hosts: Vec<_> =
            self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(f, "{scheme}://{}", hosts.join(","))
    }
}

/// As [`Display`](fmt::Display): a password must not reach a log.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl FromStr for RedisUrl {
    type Err = UrlProblem;

    fn from_str(text: &str) -> Result<Self, UrlProblem> {
        let problem = |text: &str| UrlProblem(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| problem("it has no `://`"))?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        // A password may hold an `@`.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(a, b)| (Some(a), b));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").unwrap_or("?")),
        };
        let (deployment, port, database) = match kind {
            "" => (Deployment::Single, 6379, path),
            "-cluster" => (Deployment::Cluster, 6379, path),
            "-sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(problem("it names no master after the sentinels"));
                }
                (Deployment::Sentinel { master: decoded(master, "master")? }, 26379, database)
            }
            _ => return Err(problem("its scheme is none of Redis's")),
        };
        let hosts =
            hosts.split(',').map(|host| address(host, port)).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > MAX_HOSTS || hosts.len() > 1 && deployment == Deployment::Single {
            return Err(UrlProblem(format!("it has {} hosts", hosts.len())));
        }
        let database = match database {
            "" => 0,
            text => text.parse().map_err(|_| problem("its database is not a number"))?,
        };
        if database != 0 && deployment == Deployment::Cluster {
            return Err(problem("a Cluster has no database but 0"));
        }
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            None => (None, None),
            Some((user, password)) => (some(user, "user")?, some(password, "password")?),
        };
        let prefix = prefix(query)?;
        Ok(Self { deployment, tls, hosts, user, password, database, prefix })
    }
}

fn some(text: &str, place: &str) -> Result<Option<String>, UrlProblem> {
    if text.is_empty() { Ok(None) } else { decoded(text, place).map(Some) }
}

fn address(text: &str, default_port: u16) -> Result<Address, UrlProblem> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(UrlProblem("a host is empty".to_owned()));
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(UrlProblem(format!("the port of {host} is not 1 to 65535"))),
        },
    };
    Ok((host.to_owned(), port))
}

fn prefix(query: Option<&str>) -> Result<String, UrlProblem> {
    let Some(query) = query else { return Ok(DEFAULT_PREFIX.to_owned()) };
    let Some(value) = query.strip_prefix("prefix=") else {
        return Err(UrlProblem("after `?` it has something else than prefix=…".to_owned()));
    };
    let prefix = decoded(value, "prefix")?;
    if prefix.len() > MAX_PREFIX_BYTES || prefix.contains(['{', '}']) {
        let problem = format!("its prefix is not 0 to {MAX_PREFIX_BYTES} bytes without {{ and }}");
        return Err(UrlProblem(problem));
    }
    Ok(prefix)
}

/// `text` with its `%XX` replaced.
fn decoded(text: &str, place: &str) -> Result<String, UrlProblem> {
    let problem = || UrlProblem(format!("its {place} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or_else(problem)?;
            let digits = std::str::from_utf8(digits).map_err(|_| problem())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| problem())?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_deployment_are_read() {
        let cases = [
            ("redis://localhost", "redis://localhost:6379", 0, "tg:"),
            ("redis://u:p@h:1/3?prefix=x%3A", "redis://h:1", 3, "x:"),
            ("rediss://[::1]:7/", "rediss://::1:7", 0, "tg:"),
            ("redis-sentinel://a,b:2/main/4", "redis-sentinel://a:26379,b:2", 4, "tg:"),
            ("redis-cluster://a:1,b:2?prefix=", "redis-cluster://a:1,b:2", 0, ""),
        ];
        for (text, shown, database, prefix) in cases {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!((url.database, url.prefix.as_str()), (database, prefix), "{text}");
        }
        let url: RedisUrl = "redis://:p%40ss@@h".parse().unwrap();
        assert_eq!((url.user, url.password.as_deref()), (None, Some("p@ss@")));
    }

    #[test]
    fn a_wrong_url_is_named_without_its_password() {
        let cases = [
            ("localhost", "it has no `://`"),
            ("http://u:secret@h", "its scheme is none of Redis's"),
            ("redis://u:secret@", "a host is empty"),
            ("redis://u:secret@h:x", "the port of h is not 1 to 65535"),
            ("redis://u:secret@h:0", "the port of h is not 1 to 65535"),
            ("redis://u:secret@h/x", "its database is not a number"),
            ("redis://u:secret@a,b", "it has 2 hosts"),
            ("redis://u:secret%zz@h", "its password is not percent-encoded UTF-8"),
            ("redis-sentinel://u:secret@h", "it names no master after the sentinels"),
            ("redis-cluster://u:secret@h/1", "a Cluster has no database but 0"),
            ("redis://u:secret@h?timeout=1", "after `?` it has something else than prefix=…"),
            ("redis://h?prefix={", "its prefix is not 0 to 64 bytes without { and }"),
        ];
        for (text, expected) in cases {
            let problem = text.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let url: RedisUrl = "redis://u:secret@h".parse().unwrap();
        assert!(!format!("{url:?} {url}").contains("secret"));
    }
}
