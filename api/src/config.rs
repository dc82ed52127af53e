//! Settings of the API.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::TICKET_LASTS_S_MAX;

use crate::edge::check_origins;
use crate::{ClientLimits, Error};

/// Settings of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What clients may take.
    pub limits: ClientLimits,
    /// Exact origins whose pages may read answers, as browsers send them.
    pub allowed_origins: Vec<String>,
    /// Connections at a time; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a connection may be used, in ms; then the answer to what is under way is its last.
    pub connection_lasts_ms: u64,
    /// How long the head of a request may take, in ms.
    pub head_timeout_ms: u64,
    /// How long a whole request may take, in ms; then 503.
    pub request_timeout_ms: u64,
    /// How long a client may take nothing of its answer, in ms; then its connection ends.
    pub write_timeout_ms: u64,
    /// Bytes of a request's body; more is 413.
    pub body_bytes_max: usize,
    /// How long an access token is good, in s.
    pub access_token_s: u64,
    /// How long a refresh token is good that nobody uses, in s.
    pub refresh_token_s: u64,
    /// How long a spent refresh token is still taken, in ms: its client may not have got the answer.
    pub refresh_leeway_ms: u64,
    /// How long a ticket for a socket is good, in s: at most 30.
    pub ticket_s: u64,
    /// Passwords that are hashed at a time. Each takes 19 MiB and a core.
    pub password_jobs: usize,
    /// Passwords that wait to be hashed; further ones are answered with 503.
    pub password_queue: usize,
    /// How long a command's outcome is waited for, in ms; then 202.
    pub outcome_timeout_ms: u64,
    /// How long a read waits for `at_least`, in ms.
    pub read_timeout_ms: u64,
    /// How long what is under way may go on at shutdown, in ms.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7080)),
            limits: ClientLimits::default(),
            allowed_origins: Vec::new(),
            connections_max: 4_096,
            connection_lasts_ms: 60_000,
            head_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            write_timeout_ms: 10_000,
            body_bytes_max: 64 * 1024,
            access_token_s: 15 * 60,
            refresh_token_s: 30 * 24 * 3_600,
            refresh_leeway_ms: 10_000,
            ticket_s: 30,
            // One core is left to the path of messages on the smallest machine.
            password_jobs: 1,
            password_queue: 64,
            outcome_timeout_ms: 10_000,
            read_timeout_ms: 2_000,
            drain_ms: 5_000,
        }
    }
}

impl Config {
    /// The defaults, listening on this address.
    ///
    /// # Errors
    /// [`Error::Address`] if it is none.
    pub fn listening_on(address: &str) -> Result<Self, Error> {
        Ok(Self { listen: address.parse().map_err(Error::Address)?, ..Self::default() })
    }

    /// Says what is wrong, before anything is bound.
    ///
    /// # Errors
    /// [`Error`] with the first setting that cannot work.
    pub fn check(&self) -> Result<(), Error> {
        match self.fault() {
            Some(reason) => Err(Error::Config(reason)),
            None => check_origins(&self.allowed_origins),
        }
    }

    /// The first setting that cannot work, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let checks = [
            (self.connections_max > 0, "connections_max must not be 0"),
            (self.password_jobs > 0, "password_jobs must not be 0"),
            (
                self.head_timeout_ms > 0 && self.request_timeout_ms > 0 && self.write_timeout_ms > 0,
                "a timeout must not be 0",
            ),
            (
                self.access_token_s > 0 && self.access_token_s <= tokens::VALID_MAX.as_secs(),
                "access_token_s: 1 s to 30 days",
            ),
            (self.refresh_token_s > self.access_token_s, "refresh_token_s must be above access_token_s"),
            ((1..=TICKET_LASTS_S_MAX).contains(&self.ticket_s), "ticket_s: 1 to 30 s"),
            (self.body_bytes_max >= 32 * 1024, "body_bytes_max must let the longest message through, 32 KiB"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason).or_else(|| self.limits.fault())
    }
}
