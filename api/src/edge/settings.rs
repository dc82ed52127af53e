//! What an operator may set about what clients may take.

use limits::{Network, Rate, loopback};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients may take of one API. Addresses are IPv4 addresses and IPv6 networks of /64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientLimits {
    /// Proxies whose `X-Forwarded-For` is believed, as networks; from anyone else the header is not.
    pub trusted_proxies: Vec<Network>,
    /// Networks whose clients none of these limits hold for; a request that was forwarded never is exempt. The default
    /// holds this machine, for tests and load: a proxy beside the API must be trusted instead.
    pub unlimited: Vec<Network>,
    /// Addresses that are counted one by one; beyond it, new ones share what 64 addresses may take.
    pub addresses_max: usize,
    /// Users that are counted one by one; beyond it, new ones share what 64 users may take.
    pub users_max: usize,
    /// Handles that are counted one by one, and pairs of a handle and an address; beyond it, new ones share.
    pub handles_max: usize,
    /// Connections of an address that are open at a time, but of trusted proxies; one more is refused with 429.
    pub address_connections_max: u32,
    /// Requests of an address; one more is refused with 429.
    pub address_requests: Rate,
    /// Requests of a user; one more is refused with 429.
    pub user_requests: Rate,
    /// Chats that a user may create in an hour, repeated requests counted; one more is refused with 429.
    pub user_chats_per_hour: u32,
    /// Sign-ins and registrations of an address, each of which may hash a password; one more is refused with 429.
    pub address_passwords: Rate,
    /// Uses of refresh tokens from an address; one more is refused with 429.
    pub address_refreshes: Rate,
    /// Wrong passwords for one handle from one address in an hour; then 429 for that address and handle.
    pub guesses_per_hour: u32,
    /// Wrong passwords for one handle from all addresses in an hour; then 429, but for addresses it signed in from.
    pub handle_guesses_per_hour: u32,
    /// How long an address counts as one that a handle signs in from, in s.
    pub address_known_s: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            unlimited: loopback(),
            addresses_max: 65_536,
            users_max: 65_536,
            handles_max: 65_536,
            // An office again; a browser opens six.
            address_connections_max: 256,
            // An office, or a fleet of bots behind one address.
            address_requests: Rate { per_s: 1_000, burst: 5_000 },
            // Four times what a busy bot sends; as a user may send over its sockets.
            user_requests: Rate { per_s: 200, burst: 2_000 },
            user_chats_per_hour: 120,
            // An office that signs in at nine o'clock; a core hashes some thirty passwords a second.
            address_passwords: Rate { per_s: 2, burst: 100 },
            // The same office with access tokens of a quarter of an hour, all expired after a night.
            address_refreshes: Rate { per_s: 20, burst: 1_000 },
            // Nobody mistypes thirty times.
            guesses_per_hour: 30,
            handle_guesses_per_hour: 300,
            address_known_s: 30 * 24 * 3_600,
        }
    }
}

impl ClientLimits {
    /// The first setting that cannot work, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let rates = [self.address_requests, self.user_requests, self.address_passwords, self.address_refreshes];
        let checks = [
            (rates.into_iter().all(Rate::is_valid), "a rate must let something through"),
            (
                self.addresses_max > 0 && self.users_max > 0 && self.handles_max > 0,
                "limits.addresses_max, users_max and handles_max must not be 0",
            ),
            (self.user_chats_per_hour > 0, "limits.user_chats_per_hour must not be 0"),
            (
                self.guesses_per_hour > 0 && self.handle_guesses_per_hour >= self.guesses_per_hour,
                "limits.handle_guesses_per_hour must not be below limits.guesses_per_hour, nor that 0",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_lets_nothing_through_is_refused() {
        assert_eq!(ClientLimits::default().fault(), None);
        let none = Rate { per_s: 0, burst: 1 };
        let broken = [
            ClientLimits { address_requests: none, ..ClientLimits::default() },
            ClientLimits { user_requests: none, ..ClientLimits::default() },
            ClientLimits { address_passwords: none, ..ClientLimits::default() },
            ClientLimits { address_refreshes: none, ..ClientLimits::default() },
            ClientLimits { users_max: 0, ..ClientLimits::default() },
            ClientLimits { user_chats_per_hour: 0, ..ClientLimits::default() },
            ClientLimits { guesses_per_hour: 0, ..ClientLimits::default() },
            ClientLimits { handle_guesses_per_hour: 29, ..ClientLimits::default() },
        ];
        for limits in broken {
            assert!(limits.fault().is_some(), "{limits:?}");
        }
    }
}
