//! The proxies whose word on a client's address counts.

use std::net::IpAddr;

use tollgate_core::matching::{Network, NetworkProblem};

use super::layers::Refused;

/// The maximum number of networks.
const MAX_NETWORKS: usize = 256;

const ACCEPTED: &str = "IP addresses and CIDR blocks, with commas or white space between, such as 10.0.0.0/8, 2001:db8::/32";

/// The networks of proxies that name the client's address truthfully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// The addresses and CIDR blocks in `text`, with commas or white space between; `None` if one of them is neither.
    pub fn new(text: &str) -> Option<Self> {
        parse(text).ok()
    }

    /// Whether `address` is one of theirs.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains_address(address))
    }
}

/// Parses the networks in `text`.
pub(super) fn parse(text: &str) -> Result<TrustedProxies, Refused> {
    let items = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty());
    let mut networks = Vec::new();
    for item in items {
        let parsed = match item.parse::<IpAddr>() {
            Ok(address) => Ok(Network::around(address, 128)),
            Err(_) => Network::parse(item),
        };
        let refused = |problem: NetworkProblem| Refused {
            problem: format!("{item:?} {problem}"),
            accepted: ACCEPTED,
        };
        networks.push(parsed.map_err(refused)?);
    }
    let problem = match networks.len() {
        0 => "names no proxy".to_owned(),
        count if count > MAX_NETWORKS => format!("has {count} networks, more than {MAX_NETWORKS}"),
        _ => return Ok(TrustedProxies(networks)),
    };
    Err(Refused { problem, accepted: ACCEPTED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_addresses_and_blocks_and_nothing_else() {
        let proxies = parse("10.0.0.0/8, 192.0.2.1\t2001:db8::/32 ::1").unwrap();
        for address in ["10.255.0.1", "192.0.2.1", "2001:db8:ffff::", "::1", "::ffff:10.0.0.1"] {
            assert!(proxies.has(address.parse().unwrap()), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.2", "2001:db9::", "::2", "127.0.0.1"] {
            assert!(!proxies.has(address.parse().unwrap()), "{address}");
        }
        for (wrong, problem) in [
            ("", "names no proxy"),
            (" , ", "names no proxy"),
            (
                "10.0.0.1/8",
                "\"10.0.0.1/8\" has bits set after the first 8 (did you mean `10.0.0.0/8`?)",
            ),
            ("10.0.0.0/33", "\"10.0.0.0/33\" has a prefix length above 32"),
            ("::1,proxy.internal", "\"proxy.internal\" is not an IP address or a CIDR block"),
        ] {
            assert_eq!(parse(wrong).unwrap_err().problem, problem, "{wrong:?}");
        }
        assert!(parse(&"10.0.0.1,".repeat(MAX_NETWORKS + 1)).is_err());
    }
}
