//! Packs commands into the log's records, and tells their senders that they are in it.
//!
//! Records go out in rounds: those of all partitions at once, and the next ones when these are answered. A round wakes
//! the broker, and what follows it, once instead of once a partition; what arrives meanwhile waits for the next. A
//! partition whose record takes long holds up its own commands and, for a moment only, those of the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::{Epoch, GatewayId, Partition, Rules, SessionId, crash_point};
use event_log::{Log, PublishError};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use metrics::counter;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::machine::{Packer, PackerAction, PackerInput, Waiting};

/// Commands between their senders and the packers; what waits longer waits in its packer.
const INBOX: usize = 32_768;
/// The same in bytes (N9).
const INBOX_BYTES: usize = 32 << 20;
/// Commands taken at a time.
const TAKEN_MAX: usize = 4_096;
/// How long a record that is not answered holds up those of other partitions: several syncs of a slow disk.
const ROUND_MAX: Duration = Duration::from_millis(20);
/// How long a process that leaves goes on publishing what it was given; the rest is asked again elsewhere.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Who gave commands, and hears what became of them. Called from the task that packs: it must not wait.
pub trait Senders: Send + Sync + 'static {
    /// The command of this request is in the log: its outcome follows, as a rule at once.
    fn accepted(&self, session: SessionId, request: u64);

    /// The log has no room now: nothing of the command is in it.
    fn busy(&self, session: SessionId, request: u64);
}

/// The way into the log.
#[derive(Clone, Debug)]
pub struct Pack {
    inbox: mpsc::Sender<(Partition, Waiting)>,
    bytes: Arc<AtomicUsize>,
}

impl Pack {
    /// Hands a command over; false: there is no room, its sender must come back later.
    pub fn put(&self, partition: Partition, command: Waiting) -> bool {
        let bytes = command.bytes.len();
        let had_room = self.bytes.fetch_add(bytes, Ordering::Relaxed) < INBOX_BYTES;
        let is_taken = had_room && self.inbox.try_send((partition, command)).is_ok();
        if !is_taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}

/// The way in, and the task that serves it until shut down; partition p has `epochs[p]`.
///
/// `sender` names this process in the records' message ids: drawn anew at each start, never used by two at a time.
/// `rules` are all on but in tests.
pub fn pack<S: Senders>(
    sender: GatewayId,
    epochs: &[Epoch],
    log: Log,
    senders: Arc<S>,
    rules: Rules,
    shutdown: CancellationToken,
) -> (Pack, impl Future<Output = ()> + use<S>) {
    let (inbox, commands) = mpsc::channel(INBOX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let packing = Packing {
        sender,
        log,
        senders,
        packers: epochs.iter().map(|epoch| Packer::with_rules(*epoch, rules)).collect(),
        stored: vec![0; epochs.len()],
        wanting: BTreeSet::new(),
        publishing: FuturesUnordered::new(),
        round: Round { number: 0, unanswered: 0 },
    };
    (Pack { inbox, bytes: Arc::clone(&bytes) }, packing.serve(commands, bytes, shutdown))
}

/// The records that went out together last.
struct Round {
    number: u64,
    unanswered: usize,
}

/// What became of a record.
struct Answered {
    partition: Partition,
    round: u64,
    /// Its sequence in COMMANDS-p, if it is stored there.
    stored: Option<u64>,
    input: PackerInput,
}

struct Packing<S> {
    sender: GatewayId,
    log: Log,
    senders: Arc<S>,
    /// By partition.
    packers: Vec<Packer>,
    /// The last record of each partition that went into COMMANDS-p.
    stored: Vec<u64>,
    /// Partitions in which a command may wait.
    wanting: BTreeSet<Partition>,
    publishing: FuturesUnordered<BoxFuture<'static, Answered>>,
    round: Round,
}

impl<S: Senders> Packing<S> {
    async fn serve(
        mut self,
        mut commands: mpsc::Receiver<(Partition, Waiting)>,
        bytes: Arc<AtomicUsize>,
        shutdown: CancellationToken,
    ) {
        let mut arrived = Vec::with_capacity(TAKEN_MAX);
        // Who gives commands is gone first; what it gave still goes into the log.
        let leave = async {
            shutdown.cancelled().await;
            sleep(LEAVE_WITHIN).await;
        };
        tokio::pin!(leave);
        let overdue = sleep(Duration::ZERO);
        tokio::pin!(overdue);
        let mut open = true;
        while open || !self.wanting.is_empty() || !self.publishing.is_empty() {
            tokio::select! {
                count = commands.recv_many(&mut arrived, TAKEN_MAX), if open => {
                    open = count > 0;
                    for (partition, command) in arrived.drain(..) {
                        bytes.fetch_sub(command.bytes.len(), Ordering::Relaxed);
                        self.wanting.insert(partition);
                        self.handle(partition, PackerInput::Command(command));
                    }
                }
                Some(answered) = self.publishing.next() => {
                    self.answered(answered);
                    // What came with it ends the round with it.
                    while let Some(Some(answered)) = self.publishing.next().now_or_never() {
                        self.answered(answered);
                    }
                }
                () = &mut overdue, if self.round.unanswered > 0 && !self.wanting.is_empty() => self.round.unanswered = 0,
                () = &mut leave => return,
            }
            if self.round.unanswered == 0 && self.begin_round() {
                overdue.set(sleep(ROUND_MAX));
            }
        }
    }

    /// Publishes what waits, one record a partition that has none in flight; false: there was nothing.
    fn begin_round(&mut self) -> bool {
        self.round.number += 1;
        let mut wanting = std::mem::take(&mut self.wanting);
        for partition in &wanting {
            self.handle(*partition, PackerInput::Go);
        }
        wanting.retain(|partition| self.packer(*partition).is_some_and(|packer| packer.waits()));
        self.wanting = wanting;
        self.round.unanswered > 0
    }

    fn answered(&mut self, Answered { partition, round, stored, input }: Answered) {
        if let (Some(last), Some(stored)) = (self.stored.get_mut(usize::from(partition.0)), stored) {
            *last = stored;
        }
        if round == self.round.number {
            self.round.unanswered = self.round.unanswered.saturating_sub(1);
        }
        self.handle(partition, input);
    }

    fn packer(&mut self, partition: Partition) -> Option<&mut Packer> {
        self.packers.get_mut(usize::from(partition.0))
    }

    fn handle(&mut self, partition: Partition, input: PackerInput) {
        let mut actions = Vec::new();
        if let Some(packer) = self.packer(partition) {
            packer.handle(input, &mut actions);
        }
        for action in actions {
            match action {
                PackerAction::Publish { number, payload } => {
                    crash_point("gateway.before_publish");
                    self.round.unanswered += 1;
                    let message_id = format!("{}-{partition}-{number}", self.sender);
                    let after = self.stored.get(usize::from(partition.0)).copied().unwrap_or_default();
                    let (log, round) = (self.log.clone(), self.round.number);
                    let publishing = async move {
                        let (stored, input) = publish(&log, partition, payload, after, &message_id).await;
                        Answered { partition, round, stored, input }
                    };
                    self.publishing.push(publishing.boxed());
                }
                PackerAction::Accepted(asked) => {
                    for (session, request) in asked {
                        self.senders.accepted(SessionId(session), request);
                    }
                }
                PackerAction::Busy(asked) => {
                    counter!("commands_busy_total").increment(asked.len() as u64);
                    for (session, request) in asked {
                        self.senders.busy(SessionId(session), request);
                    }
                }
            }
        }
    }
}

/// To the owner in this process, else into COMMANDS-p: its sequence there, and what the packer is told.
async fn publish(
    log: &Log,
    partition: Partition,
    payload: Bytes,
    after: u64,
    message_id: &str,
) -> (Option<u64>, PackerInput) {
    if log.hand_over_commands(partition, payload.clone(), after).await {
        crash_point("gateway.handed_over");
        return (None, PackerInput::Acknowledged);
    }
    match log.publish_commands(partition, payload, message_id).await {
        Ok(sequence) => {
            crash_point("gateway.published");
            (Some(sequence), PackerInput::Acknowledged)
        }
        Err(PublishError::Timeout { .. } | PublishError::Lost) => (None, PackerInput::InDoubt),
        Err(PublishError::Full | PublishError::TooLarge { .. }) => (None, PackerInput::Refused),
    }
}
