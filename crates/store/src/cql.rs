//! The CQL engine: rows in a ScyllaDB or Cassandra cluster, over the scylla driver.
//!
//! ```text
//! append ──▶ lane of the partition ──▶ compare ──▶ members ▸ log ▸ snapshot of each chat ──▶ answers, waiters
//!            (what arrives meanwhile joins the next write)                                    └▶ trail ──30 s──▶ position
//! project ──▶ lists, summaries, watermarks ──▶ checkpoint
//! accounts ──▶ conditional writes, those of one row in turns
//! reads ──▶ equal ones together ──▶ a quorum
//! ```
//! No write is atomic beyond one CQL partition, so each operation has an order in which its steps may be cut: a position
//! and a checkpoint are last. What the log can replay moves forward only (M8) by its timestamps: a cell is written with
//! one that grows as its value does, so the cluster's rule, the later timestamp wins, keeps the maximum. Nothing is read
//! to be merged, and a write that comes late, twice or from a stale owner changes nothing.

mod accounts;
mod append;
mod checks;
mod cluster;
mod coalesce;
mod config;
mod models;
mod numbers;
mod positions;
mod read;
pub mod schema;
mod statements;
mod turns;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use domain::{ChatId, Seq, UserId};
use tokio::task::AbortHandle;

pub use config::{AddressError, CqlConfig, Dialect, KeyspaceOptions};
pub use schema::{SchemaError, SchemaFile, SchemaState};

use append::Lanes;
use checks::Heads;
use cluster::Cluster;
use coalesce::Coalesced;
use positions::Positions;
use statements::Statement;
use turns::Turns;

use crate::{Error, HistoryPage, MemberRow, waiters::Waiters};

/// Conditional writes that others may have come before are tried so often.
const TRIES_MAX: usize = 64;

/// The CQL engine; clones share it.
#[derive(Clone)]
pub struct Cql {
    shared: Arc<Shared>,
    _ticking: Arc<Ticking>,
}

impl fmt::Debug for Cql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cql").field("cluster", &self.shared.cluster).finish_non_exhaustive()
    }
}

/// What a page of history is told by: chat, after, entries, bytes.
type HistoryKey = (ChatId, Seq, usize, usize);

struct Shared {
    config: CqlConfig,
    cluster: Cluster,
    lanes: Lanes,
    positions: Positions,
    heads: Heads,
    waiters: Waiters,
    turns: Turns,
    histories: Coalesced<HistoryKey, HistoryPage>,
    members: Coalesced<ChatId, Arc<Vec<MemberRow>>>,
    rows: Coalesced<(ChatId, Seq), bool>,
    /// The last timestamp that this process took from its clock.
    clock_us: AtomicI64,
}

/// Ends the writer of positions with the last handle.
struct Ticking(AbortHandle);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cql {
    /// Connects and checks the schema; [`Error::Schema`] for a keyspace that is not of this version.
    pub(crate) async fn open(config: CqlConfig) -> Result<Self, Error> {
        let session = cluster::connect(&config).await?;
        schema::check(&session, &config.keyspace).await?;
        let cluster = Cluster::open(&config, session).await?;
        let shared = Arc::new(Shared {
            lanes: Lanes::new(&config),
            positions: Positions::new(config.position_lag()),
            heads: Heads::default(),
            waiters: Waiters::default(),
            turns: Turns::default(),
            histories: Coalesced::default(),
            members: Coalesced::default(),
            rows: Coalesced::default(),
            clock_us: AtomicI64::new(0),
            cluster,
            config,
        });
        let ticking = tokio::spawn(positions::write_those_due(Arc::downgrade(&shared)));
        Ok(Self { shared, _ticking: Arc::new(Ticking(ticking.abort_handle())) })
    }

    /// How many writes the fold and projections made: one statement or one batch each.
    pub(crate) fn commits(&self) -> u64 {
        self.shared.cluster.writes()
    }

    /// How many statements were sent since the start, a batch being one and a repetition another.
    pub fn statements(&self) -> u64 {
        self.shared.cluster.statements()
    }

    pub(crate) async fn direct(&self, a: UserId, b: UserId) -> Result<Option<ChatId>, Error> {
        let key = (*a.min(b).as_bytes(), *a.max(b).as_bytes());
        let row = self.shared.cluster.row::<(Vec<u8>,)>(Statement::Direct, key).await?;
        row.map(|(chat,)| numbers::chat("direct_chats", &chat)).transpose()
    }

    pub(crate) async fn claim_direct(&self, a: UserId, b: UserId, proposed: ChatId) -> Result<ChatId, Error> {
        if let Some(chat) = self.direct(a, b).await? {
            return Ok(chat);
        }
        let (lower, higher) = (*a.min(b).as_bytes(), *a.max(b).as_bytes());
        let _turn = self.shared.turns.take("direct_chats", &[lower, higher].concat()).await;
        let values = (lower, higher, *proposed.as_bytes());
        let first = self.claim(Statement::ClaimDirect, values, Statement::DirectSerial, (lower, higher)).await?;
        first.map_or(Ok(proposed), |chat| numbers::chat("direct_chats", &chat))
    }

    pub(crate) async fn claim_meta(&self, name: &str, value: Bytes) -> Result<Bytes, Error> {
        let _turn = self.shared.turns.take("meta", name.as_bytes()).await;
        let first = self.claim(Statement::ClaimMeta, (name, &value[..]), Statement::MetaSerial, (name,)).await?;
        Ok(first.map_or(value, Bytes::from))
    }

    /// Claims a row whose one column says whose it is: what stands there if it was claimed before.
    ///
    /// After a doubt the row is looked at: whatever stands there is the answer, also if it is this one's own.
    async fn claim(
        &self,
        claim: Statement,
        values: impl scylla::serialize::row::SerializeRow,
        look: Statement,
        key: impl scylla::serialize::row::SerializeRow,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut doubt = None;
        for _ in 0..TRIES_MAX {
            if let Some((first,)) = self.shared.cluster.row::<(Vec<u8>,)>(look, &key).await? {
                return Ok(Some(first));
            }
            match self.shared.cluster.write_if(claim, &values).await {
                Ok(true) => return Ok(None),
                // Another was first, or it was given up between the two.
                Ok(false) => {}
                Err(error @ Error::Stalled { .. }) if doubt.is_none() => doubt = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(doubt.unwrap_or(Error::Contended { table: claim.table() }))
    }
}

impl Shared {
    /// The timestamp of a row that grows with `number`.
    fn stamp(&self, number: u64) -> i64 {
        if self.config.clock_timestamps { self.now() } else { numbers::stamp(number) }
    }

    /// The clock's time in µs, later than any that this process was told before.
    fn now(&self) -> i64 {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = i64::try_from(clock.as_micros()).unwrap_or(i64::MAX);
        let before = self.clock_us.fetch_max(clock, Ordering::Relaxed);
        if before < clock { clock } else { self.clock_us.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

/// Seconds for which a row is kept that is needed for `needed`, and a day beyond: clocks and requests may be late.
fn kept_for(needed: Duration) -> i32 {
    // Of Cassandra; a row whose need is longer than that is written again before.
    const SECONDS_MAX: u64 = 20 * 365 * 24 * 60 * 60;
    i32::try_from((needed.as_secs() + 24 * 60 * 60).min(SECONDS_MAX)).unwrap_or(i32::MAX)
}
