//! What an operator may set about what clients may take.

use limits::{Network, Rate, loopback};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one socket and one client address may take. Addresses are IPv4 addresses and IPv6 networks of /64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientLimits {
    /// Proxies whose `X-Forwarded-For` is believed, as networks; from anyone else the header is not.
    pub trusted_proxies: Vec<Network>,
    /// Networks whose clients none of these limits hold for, nor those of users; a request that was forwarded never is
    /// exempt. The default holds this machine, for tests and load: a proxy beside the gateway must be trusted instead.
    pub unlimited: Vec<Network>,
    /// Addresses that are counted one by one; beyond it, new ones share what 64 addresses may take.
    pub addresses_max: usize,
    /// Connections that an address may open; one more is refused with 429.
    pub address_connects: Rate,
    /// Connections of an address that are not authenticated yet; one more is refused with 429.
    pub address_unauthenticated_max: u32,
    /// Open sockets of an address; one more is refused with 429.
    pub address_sockets_max: u32,
    /// Messages from all sockets of an address; one more is answered with `rate_limited`.
    pub address_frames: Rate,
    /// Bytes of messages from all sockets of an address; a message over it is answered with `rate_limited`.
    pub address_bytes: Rate,
    /// Messages from one socket; one more is answered with `rate_limited`.
    pub socket_frames: Rate,
    /// Bytes of messages from one socket; a message over it is answered with `rate_limited`.
    pub socket_bytes: Rate,
    /// Control frames and fragments from one socket; one more closes it with 1008.
    pub socket_extra_frames: Rate,
    /// A socket that sends so many times what it may send, in spite of `rate_limited`, is closed with 4006.
    pub flood_factor: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            unlimited: loopback(),
            addresses_max: 65_536,
            // An office behind one address comes back within half a minute after a gateway has left.
            address_connects: Rate { per_s: 20, burst: 200 },
            address_unauthenticated_max: 128,
            address_sockets_max: 2_048,
            address_frames: Rate { per_s: 4_000, burst: 20_000 },
            address_bytes: Rate { per_s: 8 << 20, burst: 32 << 20 },
            // A thousand chats may be caught up at once; nobody types a tenth of the rate.
            socket_frames: Rate { per_s: 100, burst: 1_000 },
            socket_bytes: Rate { per_s: 256 << 10, burst: 1 << 20 },
            // Four of the longest messages in the smallest pieces that are allowed.
            socket_extra_frames: Rate { per_s: 20, burst: 512 },
            flood_factor: 4,
        }
    }
}

impl ClientLimits {
    /// The first setting that cannot work, if there is one.
    pub(crate) fn fault(&self, max_message_bytes: u32, max_fragments: u32) -> Option<&'static str> {
        let rates = [
            self.address_connects,
            self.address_frames,
            self.address_bytes,
            self.socket_frames,
            self.socket_bytes,
            self.socket_extra_frames,
        ];
        let checks = [
            (rates.into_iter().all(Rate::is_valid), "a rate must let something through"),
            (self.addresses_max > 0, "limits.addresses_max must not be 0"),
            (self.address_unauthenticated_max > 0, "limits.address_unauthenticated_max must not be 0"),
            (self.address_sockets_max > 0, "limits.address_sockets_max must not be 0"),
            (self.flood_factor > 1, "limits.flood_factor must be over 1"),
            (
                self.socket_bytes.burst >= max_message_bytes && self.address_bytes.burst >= max_message_bytes,
                "the burst of limits.socket_bytes and limits.address_bytes must let the longest message through",
            ),
            (
                self.socket_extra_frames.burst >= max_fragments,
                "the burst of limits.socket_extra_frames must let a message of max_fragments through",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }
}

/// What one user may take, over all sockets on this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserLimits {
    /// Users that are counted one by one; beyond it, new ones share what 64 users may take.
    pub users_max: usize,
    /// Signed-in sockets of a user; one more is answered with `rate_limited` and closed with 4007.
    pub sockets_max: usize,
    /// Messages of a user; one more is answered with `rate_limited`.
    pub frames: Rate,
    /// Bytes of messages of a user; a message over it is answered with `rate_limited`.
    pub bytes: Rate,
    /// Chats that a user may create in an hour, resends counted; one more is answered with `rate_limited`.
    pub chats_per_hour: u32,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self {
            users_max: 65_536,
            sockets_max: 32,
            frames: Rate { per_s: 200, burst: 2_000 },
            bytes: Rate { per_s: 512 << 10, burst: 2 << 20 },
            chats_per_hour: 120,
        }
    }
}

impl UserLimits {
    /// The first setting that cannot work, if there is one.
    pub(crate) fn fault(&self, max_message_bytes: u32) -> Option<&'static str> {
        let checks = [
            (self.frames.is_valid() && self.bytes.is_valid(), "a rate must let something through"),
            (self.users_max > 0, "users.users_max must not be 0"),
            (self.sockets_max > 0, "users.sockets_max must not be 0"),
            (self.chats_per_hour > 0, "users.chats_per_hour must not be 0"),
            (self.bytes.burst >= max_message_bytes, "the burst of users.bytes must let the longest message through"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_lets_nothing_through_is_refused() {
        let fault = |limits: &ClientLimits| limits.fault(65_536, 128);
        assert_eq!(fault(&ClientLimits::default()), None);
        let narrow = Rate { per_s: 1, burst: 65_535 };
        let broken = [
            ClientLimits { address_connects: Rate { per_s: 0, burst: 1 }, ..ClientLimits::default() },
            ClientLimits { socket_bytes: narrow, ..ClientLimits::default() },
            ClientLimits { address_bytes: narrow, ..ClientLimits::default() },
            ClientLimits { socket_extra_frames: Rate { per_s: 1, burst: 127 }, ..ClientLimits::default() },
            ClientLimits { flood_factor: 1, ..ClientLimits::default() },
        ];
        for limits in broken {
            assert!(fault(&limits).is_some(), "{limits:?}");
        }
        assert_eq!(UserLimits::default().fault(65_536), None);
        assert!(UserLimits { bytes: narrow, ..UserLimits::default() }.fault(65_536).is_some());
    }
}
