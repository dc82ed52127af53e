//! What all requests share.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::{ChatId, Code, Micros, Partition};
use event_log::Log;
use issuers::Issuers;
use store::Store;
use tokens::{Revocations, TokenKeys};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::desk::Desk;
use crate::edge::Allowances;
use crate::messages::searched::Searched;
use crate::passwords::Passwords;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) keys: TokenKeys,
    pub(crate) issuers: Issuers,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) allowances: Arc<Allowances>,
    pub(crate) audit: audit::Log,
    pub(crate) passwords: Passwords,
    pub(crate) desk: Desk,
    pub(crate) partitions: u16,
    /// Places for commands that are followed past their requests.
    pub(crate) followed: Arc<Semaphore>,
    /// Places for looks into the log for a message's flight.
    pub(crate) flights: Semaphore,
    /// How far chats were looked through for what commands became.
    pub(crate) searched: Searched,
    /// Cancelled when the process leaves: what outlives its request ends then.
    pub(crate) leaving: CancellationToken,
    /// Rung when an account is marked to be deleted.
    pub(crate) leaving_users: Notify,
}

/// As handlers get it.
pub(crate) type State = axum::extract::State<Arc<Shared>>;

impl Shared {
    /// Until when a read may wait.
    pub(crate) fn read_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.config.read_timeout_ms)
    }

    /// A chat id in one of the partitions, drawn evenly.
    pub(crate) fn draw_chat(&self) -> ChatId {
        let partition = Partition(rand::random_range(0..self.partitions.max(1)));
        ChatId::draw(partition, now_us() / 1_000, rand::random())
    }

    /// Whether there can be such a chat.
    pub(crate) fn check_chat(&self, chat: ChatId) -> Result<(), Code> {
        if chat.is_well_formed() && chat.partition().0 < self.partitions { Ok(()) } else { Err(Code::UnknownChat) }
    }
}

/// µs since 1970 UTC.
pub fn now_us() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
