//! What an operator may set about sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;
use super::frame_guard::Limits;
use super::queue::{PONG_BYTES_MAX, PONGS_MAX};
use super::tls::Tls;
use crate::limits::{ClientLimits, Rate};

/// Settings of the socket layer; every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address that sockets are accepted on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS in this process; without it a proxy ends TLS, or nobody does.
    pub tls: Option<TlsConfig>,
    /// Exact `Origin` values that may connect; a client without the header (no browser) always may.
    pub allowed_origins: Vec<String>,
    /// Most sockets at once; a further one is refused with 503.
    pub max_connections: usize,
    /// Connections that are let in, whoever they are from; a further one is refused with 503 and told when to come again.
    pub admissions: Rate,
    /// Most connections that have not finished their HTTP upgrade; a further one takes the place of the oldest, or is
    /// refused with 503 while that one is younger than a second.
    pub max_handshakes: usize,
    /// Most sockets that are not authenticated; a further one takes the place of the oldest, or is closed with 4005 while
    /// that one is younger than a second.
    pub max_unauthenticated: usize,
    /// Time for the whole HTTP upgrade, from accept on; then the connection is dropped.
    pub handshake_timeout_ms: u64,
    /// Time from the upgrade to authentication; then the socket is closed.
    pub authenticate_timeout_ms: u64,
    /// Longest client message, its fragments summed.
    pub max_message_bytes: u32,
    /// Longest client message before authentication.
    pub max_unauthenticated_message_bytes: u32,
    /// Most frames that one client message may come in.
    pub max_fragments: u32,
    /// A frame is admitted to a socket's queue while fewer bytes than this wait.
    pub queue_bytes: usize,
    /// A frame is admitted to a socket's queue while fewer frames than this wait.
    pub queue_frames: usize,
    /// The kernel's send buffer of a socket in bytes, of which the kernel takes twice as much; 0 leaves it to the kernel,
    /// which grows it to megabytes for a client that does not read.
    pub send_buffer_bytes: u32,
    /// Time between pings; the first comes after a random part of it.
    pub heartbeat_interval_ms: u64,
    /// A socket from which no byte came for this long is closed.
    pub heartbeat_timeout_ms: u64,
    /// Time for the peer to take our close frame and to answer it; then the socket is dropped.
    pub close_timeout_ms: u64,
    /// Time over which a leaving gateway spreads the closing of its sockets.
    pub drain_ms: u64,
    /// What one socket and one client address may take.
    pub limits: ClientLimits,
}

/// The certificate of a gateway that speaks TLS itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the certificate chain, the gateway's own certificate first.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// How often both files are looked at, so that a new certificate is taken into use.
    #[serde(default = "reload_interval_ms")]
    pub reload_interval_ms: u64,
}

/// A certificate is replaced days before it expires.
const fn reload_interval_ms() -> u64 {
    60_000
}

impl TlsConfig {
    /// The defaults for these files.
    #[must_use]
    pub const fn of_files(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, reload_interval_ms: reload_interval_ms() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            tls: None,
            allowed_origins: Vec::new(),
            max_connections: 65_536,
            // After a restart everybody is back within ten seconds.
            admissions: Rate { per_s: 5_000, burst: 20_000 },
            max_handshakes: 8_192,
            max_unauthenticated: 8_192,
            handshake_timeout_ms: 10_000,
            authenticate_timeout_ms: 10_000,
            max_message_bytes: 65_536,
            max_unauthenticated_message_bytes: 4_096,
            max_fragments: 128,
            queue_bytes: 65_536,
            queue_frames: 256,
            send_buffer_bytes: 128 * 1_024,
            heartbeat_interval_ms: 25_000,
            heartbeat_timeout_ms: 35_000,
            close_timeout_ms: 2_000,
            drain_ms: 5_000,
            limits: ClientLimits::default(),
        }
    }
}

impl Config {
    /// As [`Config::validate`], and reads the files of the certificate.
    ///
    /// # Errors
    /// Names the first setting, or the file, that cannot work.
    pub fn check(&self) -> Result<(), Error> {
        self.validate()?;
        self.tls.as_ref().map(Tls::open).transpose()?;
        Ok(())
    }

    /// Checks what the types cannot; done before a port is bound.
    ///
    /// # Errors
    /// Names the first setting that cannot work.
    pub fn validate(&self) -> Result<(), Error> {
        let checks = [
            (self.tls.as_ref().is_none_or(|tls| tls.reload_interval_ms > 0), "tls.reload_interval_ms must not be 0"),
            (self.max_connections > 0, "max_connections must not be 0"),
            (self.admissions.is_valid(), "admissions must let something through"),
            (self.max_handshakes > 0, "max_handshakes must not be 0"),
            (self.max_unauthenticated > 0, "max_unauthenticated must not be 0"),
            (self.handshake_timeout_ms > 0, "handshake_timeout_ms must not be 0"),
            (self.authenticate_timeout_ms > 0, "authenticate_timeout_ms must not be 0"),
            (self.max_unauthenticated_message_bytes > 0, "max_unauthenticated_message_bytes must not be 0"),
            (
                self.max_message_bytes >= self.max_unauthenticated_message_bytes,
                "max_message_bytes must not be below max_unauthenticated_message_bytes",
            ),
            (self.max_fragments > 0, "max_fragments must not be 0"),
            (self.queue_bytes > PONG_BYTES_MAX, "queue_bytes must be over 2032, which pongs may take"),
            (self.queue_frames > PONGS_MAX + 1, "queue_frames must be over 17, which pongs and a ping may take"),
            (self.heartbeat_interval_ms > 0, "heartbeat_interval_ms must not be 0"),
            (
                self.heartbeat_timeout_ms > self.heartbeat_interval_ms,
                "heartbeat_timeout_ms must be over heartbeat_interval_ms",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(Error::Config(reason)),
            None => match self.limits.fault(self.max_message_bytes, self.max_fragments) {
                Some(reason) => Err(Error::Config(reason)),
                None => Ok(()),
            },
        }
    }

    pub(super) const fn limits(&self, authenticated: bool) -> Limits {
        let message_bytes = if authenticated { self.max_message_bytes } else { self.max_unauthenticated_message_bytes };
        Limits { message_bytes, fragments: self.max_fragments }
    }

    pub(super) const fn close_timeout(&self) -> Duration {
        Duration::from_millis(self.close_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn a_timeout_within_the_ping_interval_is_refused() {
        let config = Config { heartbeat_timeout_ms: 25_000, ..Config::default() };
        assert!(matches!(config.validate(), Err(Error::Config(reason)) if reason.contains("heartbeat_timeout_ms")));
    }
}
