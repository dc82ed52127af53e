//! Settings of the gateway.

use std::net::SocketAddr;

use domain::Rules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::UserLimits;
use crate::{Error, socket};

/// Settings of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sockets: where they are accepted and what bounds them.
    pub socket: socket::Config,
    /// Receipts that wait for one partition; beyond it they are dropped, and clients assert them again.
    pub receipts_max: usize,
    /// How long the receipts of a partition rest between two messages, in ms, so that one carries what came meanwhile.
    pub receipts_rest_ms: u64,
    /// Lists of heads that are read from the store at a time.
    pub heads_reads_max: usize,
    /// How often the read models are asked how far they are while someone waits for it, in ms.
    pub heads_poll_ms: u64,
    /// How long a socket goes on after its token has expired, in ms, unless a new one comes.
    pub renewal_grace_ms: u64,
    /// How long a history request waits for `at_least`, in ms.
    pub history_wait_ms: u64,
    /// What one user may take, over all its sockets on this gateway.
    pub users: UserLimits,
    /// Sessions whose socket was lost.
    pub resume: Resume,
    /// Switches for tests that show what each is needed for; all on, and no file can say otherwise.
    #[serde(skip)]
    pub rules: Rules,
}

/// How long and how much of a session is kept for a client that lost its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resume {
    /// How long a session without a socket is kept, and how old a push is at least when it is forgotten, in ms. 0: no
    /// session outlives its socket.
    pub within_ms: u64,
    /// Sessions without a socket; beyond it the one that lost its socket first ends.
    pub sessions_max: usize,
    /// Latest pushes kept of each session, with a socket or without.
    pub pushes_max: usize,
    /// Bytes of them.
    pub pushes_bytes_max: usize,
}

impl Default for Resume {
    fn default() -> Self {
        Self { within_ms: 60_000, sessions_max: 65_536, pushes_max: 64, pushes_bytes_max: 8 * 1024 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: socket::Config::default(),
            receipts_max: 65_536,
            receipts_rest_ms: 5,
            heads_reads_max: 64,
            heads_poll_ms: 20,
            renewal_grace_ms: 10_000,
            history_wait_ms: 2_000,
            users: UserLimits::default(),
            resume: Resume::default(),
            rules: Rules::ALL,
        }
    }
}

impl Config {
    /// Says what is wrong, before anything is bound, the files of the certificate included.
    ///
    /// # Errors
    /// [`Error::Socket`] with the first setting that cannot work.
    pub fn check(&self) -> Result<(), Error> {
        self.socket.check()?;
        match self.users.fault(self.socket.max_message_bytes) {
            Some(reason) => Err(Error::Socket(socket::Error::Config(reason))),
            None => Ok(()),
        }
    }

    /// The defaults, listening on this address.
    ///
    /// # Errors
    /// [`Error::Address`] if it is none.
    pub fn listening_on(address: &str) -> Result<Self, Error> {
        let listen: SocketAddr = address.parse().map_err(Error::Address)?;
        Ok(Self { socket: socket::Config { listen, ..socket::Config::default() }, ..Self::default() })
    }
}
