//! One partition: reads its events, feeds the machine, runs what it wants done.
//!
//! read → recipients → route → push, and receipts beside it. Each tenure starts from the stored checkpoint with a
//! machine of its own; the partition is acquired anew, with a new id, whenever its connection is lost (M6, M15).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Rules, Seq, crash_point};
use event_log::{Lease, OrderedReader, Received, Record, Stream, Subject, Subscription, Tenure};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use metrics::{counter, gauge};
use prost::Message as _;
use proto::relay::{ReceiptBatch, Written};
use store::{Checkpoint, Reader, Store};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::machine::{Action, EventRecord, Expansion, Input, Membership, Patience};
use crate::outgoing::Outgoing;
use crate::roster::Roster;
use crate::{Config, Dependencies, Error};

/// Between two tries to acquire.
const ACQUIRE_PAUSE: Duration = Duration::from_millis(50);
const ACQUIRE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How much longer statuses rest for each that the last record had: where there are more than 250 a second, the rest grows
/// until a record has all that come again and again, each once.
const REST_PER_STATUS: Duration = Duration::from_millis(4);
const REST_MAX: Duration = Duration::from_secs(1);
/// Receipt messages taken at a time; what waits beyond is taken after the next event.
const RECEIPT_MESSAGES_MAX: usize = 256;

/// Delivers the partition whenever it is ours, over as many tenures as it takes.
pub(crate) async fn deliver(
    lease: Lease,
    config: Arc<Config>,
    dependencies: Dependencies,
    roster: Arc<Roster>,
    rules: Rules,
) -> Result<(), Error> {
    let Dependencies { log, store } = &dependencies;
    let partition = lease.partition();
    let mut pause = ACQUIRE_PAUSE;
    while let Some(grant) = lease.granted().await {
        let tried = Instant::now();
        let ended = async {
            // Before the tenure: what is sent to the owner from its first moment on is heard.
            let mut receipts = log.subscribe(Subject::Receipts(partition)).await?;
            let mut written = log.subscribe(Subject::Written(partition)).await?;
            let tenure = grant.acquire().await?;
            tracing::info!(partition = partition.0, tenure = tenure.id().0, "partition acquired for delivery");
            let mut tenancy = Tenancy::start(&config, store, tenure, &roster, rules).await?;
            tenancy.tenure.serves();
            tenancy.work(&mut receipts, &mut written, grant.recalled()).await
        };
        let ended = ended.await;
        let Err(error) = grant.end(ended).await else { continue };
        if !error.is_passing() {
            return Err(error);
        }
        tracing::info!(partition = partition.0, %error, "delivery steps down and acquires anew");
        counter!("delivery_tenures_lost_total").increment(1);
        if tried.elapsed() > ACQUIRE_PAUSE_MAX {
            pause = ACQUIRE_PAUSE;
        }
        lease.rests(pause).await;
        pause = (pause * 2).min(ACQUIRE_PAUSE_MAX);
    }
    Ok(())
}

enum Reply {
    Input(Input),
    Done,
}

/// One tenure of one partition.
struct Tenancy<'a> {
    config: &'a Config,
    store: &'a Store,
    tenure: Tenure,
    roster: &'a Roster,
    reader: OrderedReader,
    machine: Expansion,
    outgoing: Outgoing,
    replies: FuturesUnordered<BoxFuture<'static, Reply>>,
    loads: Arc<Semaphore>,
    brief_loads: Arc<Semaphore>,
}

impl<'a> Tenancy<'a> {
    async fn start(
        config: &'a Config,
        store: &'a Store,
        tenure: Tenure,
        roster: &'a Roster,
        rules: Rules,
    ) -> Result<Self, Error> {
        let partition = tenure.partition();
        let epoch = tenure.epoch();
        let kept = store.checkpoint(Reader::Delivery, partition).await?;
        let kept = kept.filter(|checkpoint| checkpoint.epoch == epoch).map(|checkpoint| checkpoint.events);
        let first = tenure.bounds(Stream::Events).await?.first;
        let after = kept.unwrap_or_default().max(first.saturating_sub(1));
        if kept.is_some_and(|kept| kept < after) {
            // Not lost: the new owner's id makes every gateway resync, and heads tell what is missing.
            tracing::warn!(partition = partition.0, first, "the events after the checkpoint are trimmed");
        }
        let reader = tenure.reader(Stream::Events, after + 1).await?;
        let outgoing = Outgoing::open(tenure.clone(), config.outgoing_messages_max, config.outgoing_bytes_max);
        let machine = Expansion::new(partition, rules, config.settings());
        let loads = Arc::new(Semaphore::new(config.loads_max.max(1)));
        let brief_loads = Arc::new(Semaphore::new(config.loads_max.max(1)));
        let replies = FuturesUnordered::new();
        let mut tenancy =
            Self { config, store, tenure, roster, reader, machine, outgoing, replies, loads, brief_loads };
        tenancy.feed(Input::Took { owner: tenancy.tenure.id(), epoch, after });
        Ok(tenancy)
    }

    async fn work(
        &mut self,
        receipts: &mut Subscription,
        written: &mut Subscription,
        recalled: &CancellationToken,
    ) -> Result<(), Error> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let roster = self.roster;
        let Some(board) = roster.board(self.tenure.partition()) else { return Ok(()) };
        let tenure = self.tenure.clone();
        let mut lost = std::pin::pin!(tenure.lost());
        loop {
            tokio::select! {
                records = self.reader.next(), if self.machine.wants_events() => {
                    let records = self.decode(records?)?;
                    self.feed(Input::Events(records));
                    crash_point("delivery.expanded");
                }
                Some(reply) = self.replies.next() => {
                    if let Reply::Input(input) = reply {
                        self.feed(input);
                    }
                }
                () = board.posted() => {
                    for (gateway, notice) in board.take() {
                        if notice.forgotten {
                            self.feed(Input::Forgotten(gateway));
                        }
                        if let Some(version) = notice.held {
                            self.feed(Input::Announced { gateway, version });
                        }
                    }
                }
                received = receipts.next() => self.receipts(received, receipts)?,
                received = written.next() => self.written(received)?,
                _ = ticks.tick() => {
                    gauge!("delivery_hot_bytes", "partition" => self.tenure.partition().0.to_string())
                        .set(self.machine.hot().bytes() as f64);
                    self.feed(Input::Tick);
                }
                () = &mut lost => return Err(event_log::Error::Lost.into()),
                () = recalled.cancelled() => {
                    let saving = self.saving(self.machine.through());
                    saving.await;
                    return Ok(());
                }
            }
        }
    }

    fn decode(&self, records: Vec<Record>) -> Result<Vec<EventRecord>, Error> {
        let mut decoded = Vec::with_capacity(records.len());
        for Record { sequence, payload, .. } in records {
            let (epoch, record) = EventRecord::decode(sequence, payload)?;
            if epoch != self.tenure.epoch() {
                return Err(Error::Epoch { sequence });
            }
            decoded.push(record);
        }
        Ok(decoded)
    }

    fn receipts(&mut self, first: Option<Received>, more: &mut Subscription) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut next = Some(first.ok_or(event_log::Error::Lost)?);
        let mut taken = 0;
        while let Some(received) = next.take() {
            // What was lost is asserted again by its client; the log counts it.
            if let Received::Message(message) = received {
                match ReceiptBatch::decode(message.payload) {
                    Ok(receipts) => batch.extend(receipts.receipts),
                    Err(_) => counter!("delivery_dropped_total", "what" => "undecodable").increment(1),
                }
            }
            taken += 1;
            if taken < RECEIPT_MESSAGES_MAX {
                next = more.try_next();
            }
        }
        self.feed(Input::Receipts(batch));
        Ok(())
    }

    fn written(&mut self, received: Option<Received>) -> Result<(), Error> {
        if let Received::Message(message) = received.ok_or(event_log::Error::Lost)? {
            match Written::decode(message.payload) {
                Ok(written) => {
                    let epoch = domain::Epoch(written.epoch);
                    self.feed(Input::Written { epoch, statuses: written.statuses });
                }
                Err(_) => counter!("delivery_dropped_total", "what" => "undecodable").increment(1),
            }
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.machine.handle(self.roster.now(), input, &self.roster.mirror(), &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { gateway, message } => self.outgoing.send(gateway, &message),
            Action::LoadMembers { chat, at_least, patience } => {
                let store = self.store.clone();
                let (turns, wait) = match patience {
                    Patience::Long => (Arc::clone(&self.loads), Duration::from_millis(self.config.row_wait_ms)),
                    Patience::None => (Arc::clone(&self.brief_loads), Duration::ZERO),
                };
                let load = async move {
                    let _turn = turns.acquire_owned().await;
                    let rows = match store.members(chat, at_least, Instant::now() + wait).await {
                        Ok(rows) => Some(rows.iter().map(membership).collect()),
                        Err(error) => {
                            not_loaded(&error);
                            None
                        }
                    };
                    Reply::Input(Input::Members { chat, at_least, patience, rows })
                };
                self.replies.push(load.boxed());
            }
            Action::ReadOrdinal { chat, seq } => {
                let store = self.store.clone();
                let turns = Arc::clone(&self.brief_loads);
                let read = async move {
                    let _turn = turns.acquire_owned().await;
                    let page = store.history(chat, seq.saturating_sub(1), 1, 1).await;
                    let ordinal = match page {
                        Ok(page) => page
                            .rows
                            .first()
                            .map(|row| &row.entry)
                            .filter(|entry| entry.seq == seq)
                            .map(|entry| entry.ordinal),
                        Err(error) => {
                            not_loaded(&error);
                            None
                        }
                    };
                    Reply::Input(Input::Ordinal { chat, seq, ordinal })
                };
                self.replies.push(read.boxed());
            }
            Action::PublishStatuses(batch) => {
                let tenure = self.tenure.clone();
                let rest = rest_after(self.config.statuses_rest_ms, batch.statuses.len());
                counter!("delivery_statuses_total").increment(batch.statuses.len() as u64);
                let publish = async move {
                    let published = tenure.publish_statuses(Bytes::from(batch.encode_to_vec())).await;
                    if let Err(error) = &published {
                        tracing::debug!(%error, "statuses not published");
                        counter!("delivery_status_publishes_failed_total").increment(1);
                    }
                    crash_point("delivery.status_published");
                    // The next record goes once this one is told; what comes meanwhile is merged into it.
                    sleep(rest).await;
                    Reply::Input(Input::StatusesPublished(published.ok()))
                };
                self.replies.push(publish.boxed());
            }
            Action::Checkpoint { events } => {
                let save = self.saving(events);
                self.replies.push(save.map(|()| Reply::Done).boxed());
            }
            Action::Dropped(what) => counter!("delivery_dropped_total", "what" => what.label()).increment(1),
        }
    }

    fn saving(&self, events: Seq) -> impl Future<Output = ()> + Send + 'static {
        let (store, partition) = (self.store.clone(), self.tenure.partition());
        let checkpoint = Checkpoint { epoch: self.tenure.epoch(), events, statuses: 0 };
        async move {
            // A checkpoint that is not kept costs a longer repeat, no more.
            if let Err(error) = store.save_checkpoint(Reader::Delivery, partition, checkpoint).await {
                tracing::warn!(partition = partition.0, %error, "delivery's checkpoint is not kept");
            }
        }
    }
}

fn membership(row: &store::MemberRow) -> Membership {
    Membership { user: row.user, joined_seq: row.joined_seq, left_seq: row.left_seq }
}

fn not_loaded(error: &store::Error) {
    if error.is_retryable() {
        counter!("delivery_loads_not_yet_total").increment(1);
    } else {
        tracing::warn!(%error, "delivery cannot read the store");
    }
}

/// The rest behind a record of so many statuses.
fn rest_after(least_ms: u64, statuses: usize) -> Duration {
    let least = Duration::from_millis(least_ms);
    let more = REST_PER_STATUS.saturating_mul(u32::try_from(statuses).unwrap_or(u32::MAX));
    (least + more).min(REST_MAX.max(least))
}
