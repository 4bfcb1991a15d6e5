//! Blocks of IP addresses in the notation of CIDR (RFC 4632): `10.0.0.0/8`, `2001:db8::/32`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nested::Block;

/// A block of addresses: all that begin with the same bits.
///
/// An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4, as everywhere in Tollgate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    // The derived order is that of `Block`: by first address, the wider block first.
    is_v6: bool,
    /// The first address, aligned to the left.
    bits: u128,
    length: u8,
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkProblem {
    /// It is neither an address nor an address, a slash and a number.
    NotABlock,
    /// Its length is above this.
    TooLong(u8),
    /// Its address has bits set beyond its length; this is the block that contains it.
    HostBits(Network),
}

impl fmt::Display for NetworkProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABlock => f.write_str("is not an IP address or a CIDR block"),
            Self::TooLong(most) => write!(f, "has a prefix length above {most}"),
            Self::HostBits(network) => write!(
                f,
                "has bits set after the first {} (did you mean `{network}`?)",
                network.length
            ),
        }
    }
}

impl std::error::Error for NetworkProblem {}

impl Network {
    /// The block that `text` writes: an address, a slash, and how many leading bits are fixed.
    pub fn parse(text: &str) -> Result<Self, NetworkProblem> {
        let (address, length) = text.split_once('/').ok_or(NetworkProblem::NotABlock)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkProblem::NotABlock)?;
        let is_plain = length.bytes().all(|digit| digit.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        if !is_plain || length.is_empty() {
            return Err(NetworkProblem::NotABlock);
        }
        let most = if address.is_ipv6() { 128 } else { 32 };
        let length = length.parse().ok().filter(|length| *length <= most);
        let length = length.ok_or(NetworkProblem::TooLong(most))?;
        Self::of(address, length)
    }

    fn of(address: IpAddr, length: u8) -> Result<Self, NetworkProblem> {
        const MAPPED_BITS: u8 = 96;
        let written_as_v6 = address.is_ipv6();
        let (address, length) = match address.to_canonical() {
            v4 @ IpAddr::V4(_) if written_as_v6 && length >= MAPPED_BITS => {
                (v4, length - MAPPED_BITS)
            }
            v4 @ IpAddr::V4(_) if !written_as_v6 => (v4, length),
            _ => (address, length),
        };
        let (is_v6, bits) = key(address);
        let network = Self { is_v6, bits: bits & mask(length), length };
        if network.bits == bits { Ok(network) } else { Err(NetworkProblem::HostBits(network)) }
    }

    /// The block of `length` fixed bits that holds `address`; at most all its bits are fixed.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let (is_v6, bits) = key(address.to_canonical());
        let length = length.min(if is_v6 { 128 } else { 32 });
        Self { is_v6, bits: bits & mask(length), length }
    }

    /// How many leading bits are fixed.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The only address of the block, if it has just one.
    pub fn single_address(self) -> Option<IpAddr> {
        let whole = if self.is_v6 { 128 } else { 32 };
        (self.length == whole).then(|| self.first())
    }

    /// Whether `address` is in the block.
    pub fn contains_address(self, address: IpAddr) -> bool {
        let (is_v6, bits) = key(address.to_canonical());
        self.is_v6 == is_v6 && bits & mask(self.length) == self.bits
    }

    fn first(self) -> IpAddr {
        if self.is_v6 {
            return IpAddr::V6(Ipv6Addr::from_bits(self.bits));
        }
        let [a, b, c, d, ..] = self.bits.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.length)
    }
}

/// How many leading bits of an IPv6 address stand for its holder: limits per address count all the addresses of such a
/// network together (R21). A provider usually gives each customer a /64, so one that counted single addresses would be
/// evaded by taking another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv6Prefix(u8);

impl Ipv6Prefix {
    /// What [`Ipv6Prefix::new`] accepts, for messages.
    pub const ACCEPTED: &str = "an integer from 1 to 128";

    /// A prefix of `bits`, from 1 to 128; `None` for any other number.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits == 0 || bits > 128 { None } else { Some(Self(bits)) }
    }

    /// The number of bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The key under which `address` counts: for an IPv6 address its network, such as `2001:db8::/64`; for any other text
    /// the text itself.
    pub fn group(self, address: &str) -> Cow<'_, str> {
        // Only IPv6 addresses contain a colon.
        if !address.contains(':') {
            return Cow::Borrowed(address);
        }
        match address.parse().map(|address: IpAddr| address.to_canonical()) {
            Ok(single) if single.is_ipv4() || self.0 == 128 => Cow::Owned(single.to_string()),
            Ok(address) => Cow::Owned(Network::around(address, self.0).to_string()),
            Err(_) => Cow::Borrowed(address),
        }
    }
}

impl Default for Ipv6Prefix {
    /// 64 bits.
    fn default() -> Self {
        Self(64)
    }
}

impl Block for Network {
    type Value = IpAddr;

    fn key(&self) -> u128 {
        rough_key(self.is_v6, self.bits)
    }

    fn key_of(value: &IpAddr) -> u128 {
        let (is_v6, bits) = key(*value);
        rough_key(is_v6, bits)
    }

    fn starts_by(&self, value: &IpAddr) -> bool {
        let (is_v6, bits) = key(*value);
        (self.is_v6, self.bits) <= (is_v6, bits)
    }

    fn contains(&self, value: &IpAddr) -> bool {
        self.contains_address(*value)
    }

    fn contains_block(&self, other: &Self) -> bool {
        self.is_v6 == other.is_v6
            && self.length <= other.length
            && other.bits & mask(self.length) == self.bits
    }
}

/// The family of `address`, and its bits aligned to the left.
fn key(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// The family and all bits but the last, in one number.
fn rough_key(is_v6: bool, bits: u128) -> u128 {
    u128::from(is_v6) << 127 | bits >> 1
}

/// The first `length` of 128 bits.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains_address(address.parse().unwrap())
    }

    #[test]
    fn a_block_contains_the_addresses_that_begin_with_its_bits() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "203.0.113.7", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("192.0.2.128/25", "192.0.2.127", false),
        ];
        for (network, address, expected) in cases {
            assert_eq!(contains(network, address), expected, "{network} {address}");
        }
        assert_eq!(Network::parse("2001:DB8:0::/32").unwrap().to_string(), "2001:db8::/32");
    }

    #[test]
    fn a_single_address_is_known_as_one() {
        for (text, single) in [
            ("192.0.2.1/32", Some("192.0.2.1")),
            ("2001:db8::1/128", Some("2001:db8::1")),
            ("192.0.2.0/31", None),
        ] {
            let single: Option<IpAddr> = single.map(|address| address.parse().unwrap());
            assert_eq!(Network::parse(text).unwrap().single_address(), single, "{text}");
        }
    }

    #[test]
    fn a_wrong_block_is_refused_with_the_reason() {
        let cases = [
            ("10.0.0.0", "is not an IP address or a CIDR block"),
            ("10.0.0/8", "is not an IP address or a CIDR block"),
            ("10.0.0.0/", "is not an IP address or a CIDR block"),
            ("10.0.0.0/+8", "is not an IP address or a CIDR block"),
            ("10.0.0.0/08", "is not an IP address or a CIDR block"),
            ("10.0.0.0/33", "has a prefix length above 32"),
            ("::/129", "has a prefix length above 128"),
            ("::/9999", "has a prefix length above 128"),
            ("10.1.0.0/8", "has bits set after the first 8 (did you mean `10.0.0.0/8`?)"),
            ("::1/64", "has bits set after the first 64 (did you mean `::/64`?)"),
        ];
        for (text, problem) in cases {
            assert_eq!(Network::parse(text).unwrap_err().to_string(), problem, "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_stands_for_its_network() {
        let group = |bits, address| Ipv6Prefix::new(bits).unwrap().group(address).into_owned();
        for address in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:DB8:1:2::1"] {
            assert_eq!(group(64, address), "2001:db8:1:2::/64");
        }
        assert_eq!(group(48, "2001:db8:1:2::1"), "2001:db8:1::/48");
        assert_eq!(group(128, "2001:db8:1:2::1"), "2001:db8:1:2::1");
        assert_eq!(group(1, "ffff::"), "8000::/1");
        // An IPv4 address counts alone, also if it is written as IPv6. A text that is no address is not changed.
        assert_eq!(group(64, "192.0.2.1"), "192.0.2.1");
        assert_eq!(group(64, "::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(group(128, "2001:DB8::0"), "2001:db8::");
        for other in ["2001:db8::/64", "host:80", ""] {
            assert_eq!(group(64, other), other);
        }
        assert_eq!((Ipv6Prefix::new(0), Ipv6Prefix::new(129)), (None, None));
    }
}
