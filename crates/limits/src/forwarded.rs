//! Who a proxy says that it speaks for, as far as it can be believed.
//!
//! Each proxy appends the address that connected to it to `X-Forwarded-For`, so the right-most entry is the only one
//! that our own proxy wrote. Entries of further trusted proxies are passed over; the first other one is the client.
//! Whatever stands to the left of it was written by the client or by nobody we know.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};

use crate::network::{Network, canonical, holds};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whom a request of this peer is counted for; none: the peer is exempt, and speaks for itself.
///
/// A request that somebody passed on is never exempt, known to us or not: nobody becomes so by a header.
#[must_use]
pub fn counted(peer: IpAddr, headers: &HeaderMap, trusted: &[Network], exempt: &[Network]) -> Option<IpAddr> {
    let is_exempt = !headers.contains_key(FORWARDED_FOR) && holds(exempt, peer);
    (!is_exempt).then(|| sender(peer, headers, trusted))
}

/// Whose request this is: the peer's, or that of the client that a trusted peer passed it on for.
#[must_use]
pub fn sender(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    // A client that cannot be told is the proxy's own affair, and counts as the proxy.
    let client = if holds(trusted, peer) { client(headers, trusted) } else { None };
    client.unwrap_or_else(|| canonical(peer))
}

/// The client of a request that came through trusted proxies; none if it cannot be told.
///
/// Several headers are one list (RFC 9110 §5.3). An entry that is no address ends the search: what stands before it
/// cannot be believed. `1.2.3.4:567` and `[::1]:567`, which some proxies write, are read too.
fn client(headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for entry in value.to_str().ok()?.rsplit(',') {
            let address = parse(entry.trim())?;
            if !holds(trusted, address) {
                return Some(address);
            }
        }
    }
    None
}

fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?;
    Some(canonical(address))
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn found(values: &[&str]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(&headers, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_of_ours_is_the_client() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["203.0.113.7"], Some("203.0.113.7")),
            (&["198.51.100.1, 203.0.113.7"], Some("203.0.113.7")),
            (&["198.51.100.1", "203.0.113.7"], Some("203.0.113.7")),
            (&["203.0.113.7, 10.0.0.3,10.0.0.2"], Some("203.0.113.7")),
            (&["203.0.113.7, 10.0.0.3", "2001:db8:ffff::2"], Some("203.0.113.7")),
            (&["::ffff:203.0.113.7"], Some("203.0.113.7")),
            (&["203.0.113.7, ::ffff:10.0.0.9"], Some("203.0.113.7")),
            (&["2001:db8::7"], Some("2001:db8::7")),
            (&["[2001:db8::7]:4711"], Some("2001:db8::7")),
            (&["[2001:db8::7]"], Some("2001:db8::7")),
            (&["203.0.113.7:4711"], Some("203.0.113.7")),
            (&["127.0.0.1, 203.0.113.7"], Some("203.0.113.7")),
        ];
        for (values, client) in cases {
            assert_eq!(found(values).as_deref(), *client, "{values:?}");
        }
    }

    #[test]
    fn garbage_and_lists_of_proxies_alone_name_nobody() {
        let cases: &[&[&str]] = &[
            &[],
            &[""],
            &["10.0.0.1, 10.0.0.2"],
            &["203.0.113.7, unknown"],
            &["203.0.113.7, 10.0.0.3, _hidden"],
            &["203.0.113.7,"],
            &["203.0.113.7, 1.2.3.4.5"],
            &["203.0.113.7, \u{fc}"],
            &["203.0.113.7", "for=192.0.2.1"],
        ];
        for values in cases {
            assert_eq!(found(values), None, "{values:?}");
        }
    }
}
