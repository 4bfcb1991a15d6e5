//! The address of the client behind trusted proxies (R21).

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use parse_net::{ClientAddress, ForwardedSource, client_address};

use crate::config::TrustedProxies;

/// The most proxies that a request may have passed. A longer chain is as untrustworthy as a malformed one.
const MAX_HOPS: u8 = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that checks of a request count under unless they name another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client(pub(super) IpAddr);

impl Client {
    /// The client of a request with `headers` that came from `peer`: the peer itself, unless it is one of `proxies`; then
    /// the last address in `Forwarded` or `X-Forwarded-For` that is none of theirs.
    ///
    /// A proxy appends to one of the two and passes on what a client wrote in the other. So if they disagree, or one is
    /// malformed, nothing tells whose word it is, and the proxy itself is the client: a forged address never counts.
    pub(super) fn of(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> Self {
        let peer = peer.to_canonical();
        let trusts = |address: IpAddr| proxies.has(address);
        let named =
            |name: HeaderName, source: for<'a> fn(&'a [&'a [u8]]) -> ForwardedSource<'a>| {
                let lines: Vec<&[u8]> =
                    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                if lines.is_empty() {
                    return None;
                }
                Some(match client_address(peer, source(&lines), &trusts, MAX_HOPS) {
                    Ok(ClientAddress::Forwarded { addr, .. }) => addr.to_canonical(),
                    // Also a client that its proxy hides.
                    _ => peer,
                })
            };
        let of_standard = named(header::FORWARDED, |lines| ForwardedSource::Forwarded(lines));
        let of_custom = named(X_FORWARDED_FOR, |lines| ForwardedSource::XForwardedFor(lines));
        match (of_standard, of_custom) {
            (Some(one), Some(other)) if one != other => Self(peer),
            (Some(address), _) | (None, Some(address)) => Self(address),
            (None, None) => Self(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[(&'static str, &'static str)]) -> String {
        let proxies = TrustedProxies::new("10.0.0.0/8, 2001:db8:1::/48").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let Client(address) = Client::of(&proxies, peer.parse().unwrap(), &headers);
        address.to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let chain = "x-forwarded-for";
        assert_eq!(client("10.0.0.1", &[(chain, "203.0.113.9")]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[(chain, "1.1.1.1, 203.0.113.9,10.0.0.2")]), "203.0.113.9");
        let lines = [(chain, "1.1.1.1"), (chain, "203.0.113.9"), (chain, "10.0.0.2")];
        assert_eq!(client("10.0.0.1", &lines), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[(chain, "10.0.0.7, 10.0.0.2")]), "10.0.0.7");
        assert_eq!(client("2001:db8:1::1", &[(chain, "2001:db8:2::9")]), "2001:db8:2::9");
        assert_eq!(client("::ffff:10.0.0.1", &[(chain, "::ffff:203.0.113.9")]), "203.0.113.9");
        let standard = r#"for=1.1.1.1, for="[2001:db8:2::9]:4711";proto=https;by=10.0.0.1"#;
        assert_eq!(client("10.0.0.1", &[("forwarded", standard)]), "2001:db8:2::9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_forged_chain_never_counts() {
        let chain = "x-forwarded-for";
        // The peer is no trusted proxy.
        assert_eq!(client("192.0.2.1", &[(chain, "203.0.113.9")]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &[("forwarded", "for=203.0.113.9")]), "192.0.2.1");
        // The client forges the field that its proxy does not append to.
        let both = [(chain, "203.0.113.9"), ("forwarded", "for=198.51.100.1")];
        assert_eq!(client("10.0.0.1", &both), "10.0.0.1");
        let agreeing = [(chain, "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(client("10.0.0.1", &agreeing), "203.0.113.9");
        for malformed in ["", "unknown", "203.0.113.9, ,", "a b", "300.1.1.1", "\u{7f}"] {
            let Ok(value) = HeaderValue::from_str(malformed) else { continue };
            let mut headers = HeaderMap::new();
            headers.append(chain, value);
            let proxies = TrustedProxies::new("10.0.0.0/8").unwrap();
            let peer: IpAddr = "10.0.0.1".parse().unwrap();
            assert_eq!(Client::of(&proxies, peer, &headers), Client(peer), "{malformed:?}");
        }
        let long = "203.0.113.9, ".repeat(usize::from(MAX_HOPS)) + "203.0.113.9";
        let headers =
            HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_str(&long).unwrap())]);
        let proxies = TrustedProxies::new("10.0.0.0/8").unwrap();
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(Client::of(&proxies, peer, &headers), Client(peer));
    }
}
