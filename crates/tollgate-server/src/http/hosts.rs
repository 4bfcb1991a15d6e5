//! The hosts that the server accepts, which protects against pages of other sites that make their own name point at
//! this machine (DNS rebinding). Such a page can only send its own host name.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Version, header};

use super::problem::Problem;
use crate::config::AllowedHosts;

/// The accepted hosts.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// The address of the server, in the form that most clients send.
    own: String,
    /// `None`: any host.
    names: Option<AllowedHosts>,
}

/// A host in a request.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// An address, `localhost` or a name below it: no page of another site can have it.
    Safe,
    /// Any other name.
    Name(&'a str),
}

impl Hosts {
    /// The hosts of a server at `address`. If only this machine can reach it, only the `allowed` names are accepted;
    /// otherwise any name is, unless `allowed` is set.
    pub(crate) fn new(address: SocketAddr, allowed: Option<AllowedHosts>) -> Self {
        let is_local = address.ip().to_canonical().is_loopback();
        let names = allowed.or_else(|| is_local.then(AllowedHosts::default));
        Self { own: address.to_string(), names }
    }

    /// Checks whether `request` may be answered: every host that it names must be accepted.
    #[inline]
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let Some(names) = &self.names else { return Ok(()) };
        let mut given = request.headers().get_all(header::HOST).iter();
        let (host, second) = (given.next(), given.next());
        if request.uri().authority().is_none()
            && second.is_none()
            && host.is_some_and(|host| host.as_bytes() == self.own.as_bytes())
        {
            return Ok(());
        }
        check_named(names, request, host, second)
    }
}

fn check_named<B>(
    names: &AllowedHosts,
    request: &Request<B>,
    host: Option<&HeaderValue>,
    second: Option<&HeaderValue>,
) -> Result<(), Problem> {
    if second.is_some() {
        return Err(Problem::malformed_host("is given more than once"));
    }
    let host = match host.map(HeaderValue::to_str) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(Problem::malformed_host("is not text")),
        None => None,
    };
    // In HTTP/2, or if the request line contains a full URL, the host is in the URI, which takes precedence.
    let authority = request.uri().authority().map(Authority::as_str);
    if host.is_none() && authority.is_none() {
        // Before HTTP/1.1, requests did not need a host; no browser sends such requests.
        let may_miss = matches!(request.version(), Version::HTTP_09 | Version::HTTP_10);
        return if may_miss { Ok(()) } else { Err(Problem::malformed_host("is missing")) };
    }
    for given in [authority, host].into_iter().flatten() {
        match named(given) {
            Some(Named::Safe) => {}
            Some(Named::Name(name)) if names.has(name) => {}
            Some(Named::Name(_)) => return Err(Problem::other_host()),
            None => return Err(Problem::malformed_host("is not a host")),
        }
    }
    Ok(())
}

/// Parses the host in `text`, with or without a port; `None` if it is invalid.
fn named(text: &str) -> Option<Named<'_>> {
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let ends_well = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return (ends_well && address.parse::<Ipv6Addr>().is_ok()).then_some(Named::Safe);
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !is_port(port) || name.is_empty() || !name.bytes().all(may_be) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_local =
        name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
    let is_safe = is_local || name.parse::<Ipv4Addr>().is_ok();
    Some(if is_safe { Named::Safe } else { Named::Name(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_their_ports() {
        let safe = [
            "localhost",
            "LocalHost:8000",
            "localhost.",
            "a.b.localhost:1",
            "127.0.0.1:8000",
            "192.0.2.1",
            "[::1]",
            "[::1]:8000",
            "[2001:db8::1]:",
            "localhost:",
        ];
        for host in safe {
            assert_eq!(named(host), Some(Named::Safe), "{host}");
        }
        let names = [
            ("evil.example", "evil.example"),
            ("Evil.Example.:80", "Evil.Example"),
            ("localhost.evil.example", "localhost.evil.example"),
            ("evillocalhost", "evillocalhost"),
            ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
            ("2130706433", "2130706433"),
            ("0x7f.1", "0x7f.1"),
            ("127.1", "127.1"),
            ("127.0.0.256", "127.0.0.256"),
        ];
        for (host, name) in names {
            assert_eq!(named(host), Some(Named::Name(name)), "{host}");
        }
        let malformed = [
            "",
            ":8000",
            "localhost:x",
            "localhost:80:80",
            "localhost:808080",
            "user@localhost",
            "[::1",
            "[::1]8000",
            "[evil]",
            "[fe80::1%lo]",
            "::1",
            "local host",
            "localhost/",
            "localhost,evil.example",
            "localhost\\evil",
        ];
        for host in malformed {
            assert_eq!(named(host), None, "{host:?}");
        }
    }

    /// The status of the answer to a request with these hosts, if it is refused.
    fn refused(hosts: &Hosts, target: &str, given: &[&str], version: Version) -> Option<u16> {
        let mut request = Request::builder().uri(target).version(version);
        for host in given {
            request = request.header(header::HOST, *host);
        }
        hosts.check(&request.body(()).unwrap()).err().map(|problem| problem.status().as_u16())
    }

    #[test]
    fn every_host_that_is_given_must_be_one_of_the_servers() {
        let local = Hosts::new("127.0.0.1:8000".parse().unwrap(), None);
        let v11 = Version::HTTP_11;
        let cases: [(&str, &[&str], Option<u16>); 12] = [
            ("/", &["127.0.0.1:8000"], None),
            ("/", &["localhost:8000"], None),
            ("/", &["[::1]:8000"], None),
            ("/", &["evil.example"], Some(421)),
            ("/", &[], Some(400)),
            ("/", &[""], Some(400)),
            ("/", &["localhost", "localhost"], Some(400)),
            ("/", &["127.0.0.1:8000", "evil.example"], Some(400)),
            ("http://evil.example/", &["127.0.0.1:8000"], Some(421)),
            ("http://localhost/", &["evil.example"], Some(421)),
            ("http://localhost/", &["127.0.0.1:8000"], None),
            ("http://localhost/", &[], None),
        ];
        for (target, given, status) in cases {
            assert_eq!(refused(&local, target, given, v11), status, "{target} {given:?}");
        }
        assert_eq!(refused(&local, "/", &[], Version::HTTP_10), None);
        assert_eq!(refused(&local, "/", &["evil.example"], Version::HTTP_10), Some(421));
        assert_eq!(refused(&local, "http://evil.example/", &[], Version::HTTP_2), Some(421));
        let open = Hosts::new("0.0.0.0:8000".parse().unwrap(), None);
        assert_eq!(refused(&open, "/", &["anything.example"], v11), None);
        assert_eq!(refused(&open, "/", &[], v11), None);
        let names = || AllowedHosts::new(["gate.example"]);
        for address in ["0.0.0.0:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
            let listed = Hosts::new(address.parse().unwrap(), names());
            for host in ["gate.example", "Gate.Example:443", "192.0.2.1:8000", "localhost"] {
                assert_eq!(refused(&listed, "/", &[host], v11), None, "{address} {host}");
            }
            for host in ["other.example", "a.gate.example", "gate.example.evil"] {
                assert_eq!(refused(&listed, "/", &[host], v11), Some(421), "{address} {host}");
            }
        }
        let mapped = Hosts::new("[::ffff:127.0.0.1]:8000".parse().unwrap(), None);
        assert_eq!(refused(&mapped, "/", &["evil.example"], v11), Some(421));
    }
}
