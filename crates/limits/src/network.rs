//! Networks in CIDR notation (RFC 4632, RFC 4291), and the one spelling of an address that all else works with.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address, or not a number behind the slash.
    #[error("not a network of the form 192.0.2.0/24 or 2001:db8::/32")]
    Form,
    /// More bits than such an address has.
    #[error("prefix longer than the address")]
    TooLong,
    /// Bits set behind the prefix: probably a mistyped prefix.
    #[error("address has bits behind its prefix")]
    HostBits,
}

/// All addresses that begin with the same bits; a single address is a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address belongs to it; an IPv4-mapped IPv6 address is the IPv4 address that it maps.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, canonical(address)) {
            (IpAddr::V4(ours), IpAddr::V4(it)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                ours.to_bits() == it.to_bits() & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(it)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                ours.to_bits() == it.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The address as IPv4 wherever it is one.
pub(crate) const fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 site gets at the least (RFC 6177).
#[must_use]
pub fn client_key(address: IpAddr) -> (u8, u64) {
    match canonical(address) {
        IpAddr::V4(address) => (4, u64::from(address.to_bits())),
        IpAddr::V6(address) => (6, (address.to_bits() >> 64) as u64),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
                let prefix = if digits { prefix.parse::<u8>().ok() } else { None };
                (address, Some(prefix.ok_or(NetworkError::Form)?))
            }
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_fault| NetworkError::Form)?;
        let bits = if written.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(NetworkError::TooLong);
        }
        let address = canonical(written);
        // ::ffff:192.0.2.0/120 is 192.0.2.0/24; a shorter prefix would reach beyond the mapped addresses.
        let prefix = match (written, address) {
            (IpAddr::V6(_), IpAddr::V4(_)) => prefix.checked_sub(96).ok_or(NetworkError::HostBits)?,
            (IpAddr::V4(_) | IpAddr::V6(_), _) => prefix,
        };
        let network = Self { address, prefix };
        if network.contains(address) { Ok(network) } else { Err(NetworkError::HostBits) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|fault| D::Error::custom(format_args!("{text}: {fault}")))
    }
}

/// Whether the address belongs to one of the networks.
#[must_use]
pub fn holds(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// This machine.
#[must_use]
pub fn loopback() -> Vec<Network> {
    let all_of_127 = Network { address: IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };
    vec![all_of_127, Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_the_addresses_under_its_prefix() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                &["9.255.255.255", "11.0.0.0", "::a00:1"],
            ),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]),
            ("::/0", &["::1", "2001:db8::1"], &["192.0.2.1", "::ffff:192.0.2.1"]),
            ("2001:db8::/33", &["2001:db8:7fff:ffff::1"], &["2001:db8:8000::", "2001:db7::"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("::ffff:192.0.2.0/120", &["192.0.2.255"], &["192.0.3.0"]),
        ];
        for (text, inside, outside) in cases {
            let network = network(text);
            assert!(inside.iter().all(|it| network.contains(address(it))), "{text}");
            assert!(!outside.iter().any(|it| network.contains(address(it))), "{text}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn a_text_that_is_no_network_is_refused() {
        let cases = [
            ("", NetworkError::Form),
            ("localhost", NetworkError::Form),
            ("10.0.0.0/", NetworkError::Form),
            ("10.0.0.0/+8", NetworkError::Form),
            ("10.0.0.0/8/8", NetworkError::Form),
            ("10.0.0/8", NetworkError::Form),
            ("10.0.0.0/33", NetworkError::TooLong),
            ("::/129", NetworkError::TooLong),
            ("10.0.0.1/8", NetworkError::HostBits),
            ("2001:db8::1/64", NetworkError::HostBits),
            ("::ffff:0.0.0.0/95", NetworkError::HostBits),
        ];
        for (text, fault) in cases {
            assert_eq!(text.parse::<Network>(), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_site() {
        let same = |a: &str, b: &str| client_key(address(a)) == client_key(address(b));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("0.0.0.1", "::"));
    }
}
