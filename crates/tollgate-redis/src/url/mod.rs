//! The URL of Redis or Valkey.
//!
//! No error ever contains text of a URL: in a mistyped URL the password may be anywhere. Once a URL is accepted, its
//! hosts, its path and its files are shown, but never its login.

mod options;
mod split;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use options::Options;

/// The most hosts of one URL.
const MAX_HOSTS: usize = 64;
/// The port of a data node, unless the URL says otherwise.
const DATA_PORT: u16 = 6379;
/// The port of a Sentinel, unless the URL says otherwise.
const SENTINEL_PORT: u16 = 26379;
/// The port in the [`Address`] of a Unix socket.
pub(crate) const NO_PORT: u16 = 0;

/// How Redis is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    Single,
    Sentinel { master: String },
    Cluster,
}

/// A host and a port. For a Unix socket, its path and [`NO_PORT`].
pub(crate) type Address = (String, u16);

/// `address` in the form for messages.
pub(crate) fn shown(address: &Address) -> String {
    match address {
        (path, NO_PORT) => path.clone(),
        (host, port) if host.contains(':') => format!("[{host}]:{port}"),
        (host, port) => format!("{host}:{port}"),
    }
}

/// The transport to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tls(TlsFiles),
    Unix,
}

/// Files in PEM: the authorities to trust in place of the system's, and this process's certificate and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// A user and a password. The user is secret too: it may be a password in the wrong place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A URL of Redis or Valkey.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) deployment: Deployment,
    pub(crate) transport: Transport,
    pub(crate) hosts: Vec<Address>,
    pub(crate) credentials: Option<Credentials>,
    /// The login for the Sentinels, which have their own users.
    pub(crate) sentinel_credentials: Option<Credentials>,
    pub(crate) database: u32,
    pub(crate) prefix: String,
    /// `redis` or `valkey`, as it was given.
    name: &'static str,
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlProblem(String);

impl UrlProblem {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    /// What is wrong, without [what is accepted](RedisUrl::ACCEPTED). It contains no part of the URL.
    pub fn problem(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; accepted: {}", self.0, RedisUrl::ACCEPTED)
    }
}

impl std::error::Error for UrlProblem {}

impl RedisUrl {
    /// The forms of a URL.
    pub const ACCEPTED: &'static str = "redis://HOST[:PORT][/DATABASE], \
         redis-sentinel://HOST[:PORT],…/MASTER[/DATABASE], redis-cluster://HOST[:PORT],…, \
         rediss://…, rediss-sentinel://… and rediss-cluster://… (TLS), redis+unix:///PATH, or each with valkey in place of \
         redis; with [USER]:PASSWORD@ before the hosts and ?OPTION=VALUE&… at the end if wanted";

    /// The host and the port, if the URL names one server. A Unix socket has its path and port 0.
    pub fn server(&self) -> Option<(&str, u16)> {
        match (&self.deployment, &*self.hosts) {
            (Deployment::Single, [(host, port)]) => Some((host, *port)),
            _ => None,
        }
    }

    /// Whether `scheme` is one of those that are parsed here.
    pub fn has_scheme(scheme: &str) -> bool {
        Kind::of(scheme).is_some()
    }

    /// `redis` or `valkey`.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The scheme with which the same server would be used as `deployment`.
    pub(crate) fn scheme_for(&self, deployment: &Deployment) -> String {
        let tls = if matches!(self.transport, Transport::Tls(_)) { "s" } else { "" };
        let suffix = match (deployment, &self.transport) {
            (Deployment::Single, Transport::Unix) => "+unix",
            (Deployment::Single, _) => "",
            (Deployment::Sentinel { .. }, _) => "-sentinel",
            (Deployment::Cluster, _) => "-cluster",
        };
        format!("{}{tls}{suffix}", self.name)
    }
}

/// The URL without login and options.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(shown).collect();
        write!(f, "{}://{}", self.scheme_for(&self.deployment), hosts.join(","))
    }
}

/// The same as [`Display`](fmt::Display): a password must not reach a log.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// What a scheme says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    tls: bool,
    form: Form,
}

/// What follows the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Single,
    Sentinel,
    Cluster,
    Unix,
}

impl Kind {
    fn of(scheme: &str) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "unix" {
            return Some(Self { name: "redis", tls: false, form: Form::Unix });
        }
        let name = ["redis", "valkey"].into_iter().find(|name| scheme.starts_with(name))?;
        let rest = &scheme[name.len()..];
        let (tls, rest) = rest.strip_prefix('s').map_or((false, rest), |rest| (true, rest));
        let form = match rest {
            "" => Form::Single,
            "-sentinel" => Form::Sentinel,
            "-cluster" => Form::Cluster,
            "+unix" if !tls => Form::Unix,
            _ => return None,
        };
        Some(Self { name, tls, form })
    }
}

impl FromStr for RedisUrl {
    type Err = UrlProblem;

    /// Parses a URL. White space around it is ignored, such as the line feed at the end of a file.
    fn from_str(text: &str) -> Result<Self, UrlProblem> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| UrlProblem::new("it has no `://`"))?;
        let kind = Kind::of(scheme).ok_or_else(|| UrlProblem::new("its scheme is unknown"))?;
        split::login(rest, |login, rest| Self::of_parts(kind, login, rest))
    }
}

impl RedisUrl {
    /// Assembles the URL of `kind` from `login` and `rest`.
    fn of_parts(kind: Kind, login: Option<&str>, rest: &str) -> Result<Self, UrlProblem> {
        if rest.contains('#') {
            return Err(UrlProblem::new("it has a `#` after the login; write %23 instead"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('@') {
            return Err(UrlProblem::new("it has an `@` after its hosts; write %40 instead"));
        }
        let mut options = Options::read(query)?;
        let credentials = login.map(credentials).transpose()?.flatten();
        let (place, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (deployment, hosts, database) = match kind.form {
            Form::Unix => (Deployment::Single, vec![socket(place, path)?], ""),
            Form::Single => (Deployment::Single, hosts(place, DATA_PORT)?, path),
            Form::Cluster => (Deployment::Cluster, hosts(place, DATA_PORT)?, path),
            Form::Sentinel => {
                let path = path.strip_prefix('/').unwrap_or(path);
                let end = path.find('/').unwrap_or(path.len());
                let (master, database) = path.split_at(end);
                if master.is_empty() {
                    return Err(UrlProblem::new(
                        "the name of the master is missing after the Sentinels",
                    ));
                }
                let master = split::decoded(master, "master")?;
                (Deployment::Sentinel { master }, hosts(place, SENTINEL_PORT)?, database)
            }
        };
        if hosts.len() > MAX_HOSTS || hosts.len() > 1 && deployment == Deployment::Single {
            return Err(UrlProblem::new(format!("it has {} hosts", hosts.len())));
        }
        let database = options.database(database.strip_prefix('/').unwrap_or(database))?;
        if database != 0 && deployment == Deployment::Cluster {
            return Err(UrlProblem::new("a Cluster has only the database 0"));
        }
        Ok(Self {
            transport: options.transport(kind)?,
            sentinel_credentials: options.sentinel_credentials(kind)?,
            prefix: options.prefix()?,
            deployment,
            hosts,
            credentials,
            database,
            name: kind.name,
        })
    }
}

/// The user and the password of a login; `None` if it is empty.
fn credentials(login: &str) -> Result<Option<Credentials>, UrlProblem> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let user = split::decoded(user, "user")?;
    let password = split::decoded(password, "password")?;
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials { user: Some(user).filter(|user| !user.is_empty()), password }))
}

fn socket(place: &str, path: &str) -> Result<Address, UrlProblem> {
    if !place.is_empty() {
        let problem = "a Unix socket has no host: write three slashes before its path";
        return Err(UrlProblem::new(problem));
    }
    if path.len() < 2 {
        return Err(UrlProblem::new("it names no Unix socket"));
    }
    Ok((split::decoded(path, "path")?, NO_PORT))
}

fn hosts(text: &str, default_port: u16) -> Result<Vec<Address>, UrlProblem> {
    let many = text.contains(',');
    let hosts = text.split(',').enumerate();
    hosts
        .map(|(index, host)| {
            let place = if many { format!("host {}", index + 1) } else { "the host".to_owned() };
            address(host, default_port, &place)
        })
        .collect()
}

/// Parses the host and port in `text`; `place` is its name in messages.
fn address(text: &str, default_port: u16, place: &str) -> Result<Address, UrlProblem> {
    // A colon within brackets belongs to an IPv6 address.
    let end_of_host = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[end_of_host..].find(':') {
        Some(colon) => {
            let (host, port) = text.split_at(end_of_host + colon);
            (host, Some(&port[1..]))
        }
        None => (text, None),
    };
    if host.is_empty() {
        return Err(UrlProblem::new(format!("{place} is empty")));
    }
    let host = url::Host::parse(host).map_err(|_| {
        UrlProblem::new(format!(
            "{place} is neither a host name nor an IP address (IPv6 in brackets)"
        ))
    })?;
    let host = match host {
        url::Host::Domain(name) => name,
        url::Host::Ipv4(address) => address.to_string(),
        url::Host::Ipv6(address) => address.to_string(),
    };
    // `parse` would take a sign.
    let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => default_port,
        Some(port) => match Some(port).filter(digits).and_then(|port| port.parse().ok()) {
            Some(port) if port > 0 => port,
            _ => {
                return Err(UrlProblem::new(format!("the port of {place} is not 1 to 65535")));
            }
        },
    };
    Ok((host, port))
}
