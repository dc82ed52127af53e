//! One partition: reads all that waits in both streams, folds it, writes once, says `written`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, Epoch, Partition, Seq, UserId, crash_point};
use event_log::{Lease, OrderedReader, ReadError, Record, Stream, Subject, Tenure};
use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use prost::Message as _;
use proto::relay::Written;
use store::{Reader, Store};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::machine::{Action, Fold, Input, Raw, Stay};
use crate::{Config, Error, rows};

/// Between two tries to acquire.
const ACQUIRE_PAUSE: Duration = Duration::from_millis(50);
const ACQUIRE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between two looks at whether the models were rebuilt.
const REBUILT_PAUSE: Duration = Duration::from_secs(5);

/// Projects the partition whenever it is ours, over as many tenures as it takes.
pub(crate) async fn project(lease: Lease, config: Config, store: Store) -> Result<(), Error> {
    let mut pause = ACQUIRE_PAUSE;
    while let Some(grant) = lease.granted().await {
        let tried = Instant::now();
        let ended = async {
            let tenure = grant.acquire().await?;
            tracing::info!(
                partition = lease.partition().0,
                tenure = tenure.id().0,
                "partition acquired for projections"
            );
            let mut tenancy = Tenancy::start(&config, &store, tenure).await?;
            tenancy.tenure.serves();
            tenancy.work(grant.recalled()).await
        };
        let ended = ended.await;
        let Err(error) = grant.end(ended).await else { continue };
        if error.needs_rebuild() {
            // Nothing but a rebuild moves the checkpoint on: it is looked for now and then.
            halted(lease.partition(), &error);
            lease.rests(REBUILT_PAUSE).await;
            continue;
        }
        if !error.is_passing() {
            return Err(error);
        }
        tracing::info!(partition = lease.partition().0, %error, "projections step down and acquire anew");
        counter!("projections_tenures_lost_total").increment(1);
        if tried.elapsed() > ACQUIRE_PAUSE_MAX {
            pause = ACQUIRE_PAUSE;
        }
        lease.rests(pause).await;
        pause = (pause * 2).min(ACQUIRE_PAUSE_MAX);
    }
    Ok(())
}

/// Loud, and again at each look.
fn halted(partition: Partition, error: &Error) {
    counter!("projections_needs_rebuild_total").increment(1);
    let error = error as &dyn std::error::Error;
    tracing::error!(partition = partition.0, needs_rebuild = true, error, "projections halted until they are rebuilt");
}

/// Bytes of records of one stream after which no more are added to a write.
const BYTES_MAX: usize = 4 << 20;

/// One tenure of one partition.
struct Tenancy<'a> {
    config: &'a Config,
    store: &'a Store,
    tenure: Tenure,
    events: OrderedReader,
    statuses: OrderedReader,
    machine: Fold,
}

impl<'a> Tenancy<'a> {
    async fn start(config: &'a Config, store: &'a Store, tenure: Tenure) -> Result<Self, Error> {
        let (partition, epoch) = (tenure.partition(), tenure.epoch());
        let kept = store.checkpoint(Reader::Projections, partition).await?;
        let kept = kept.filter(|checkpoint| checkpoint.epoch == epoch);
        let (events, statuses) = kept.map_or((0, 0), |checkpoint| (checkpoint.events, checkpoint.statuses));
        let first = tenure.bounds(Stream::Events).await?.first;
        if events + 1 < first {
            return Err(Error::NeedsRebuild { expected: events + 1, found: first });
        }
        // A stream of statuses that lost its tail costs nothing: it goes on from where it ends now.
        let statuses = statuses.min(tenure.bounds(Stream::Statuses).await?.last);
        let event_reader = tenure.reader(Stream::Events, events + 1).await.map_err(read_error)?;
        let status_reader = tenure.reader(Stream::Statuses, statuses + 1).await?;
        let mut machine = Fold::new(config.summaries_max);
        machine.handle(Input::Took { epoch, events, statuses }, &mut Vec::new());
        Ok(Self { config, store, tenure, events: event_reader, statuses: status_reader, machine })
    }

    async fn work(&mut self, recalled: &CancellationToken) -> Result<(), Error> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (mut events, mut statuses) = (Vec::new(), Vec::new());
            tokio::select! {
                records = self.events.next() => events = records.map_err(read_error)?,
                records = self.statuses.next() => statuses = records?,
                _ = ticks.tick() => {
                    gauge!("projections_event_position", "partition" => self.tenure.partition().0.to_string())
                        .set(self.machine.events() as f64);
                    self.feed(Input::Tick).await?;
                    continue;
                }
                () = recalled.cancelled() => return Ok(()),
            }
            take_waiting(&mut self.events, &mut events, self.config.records_max).map_err(read_error)?;
            take_waiting(&mut self.statuses, &mut statuses, self.config.records_max)?;
            let raw = |record: Record| Raw { sequence: record.sequence, payload: record.payload };
            let events = events.into_iter().map(raw).collect();
            let statuses = statuses.into_iter().map(raw).collect();
            self.feed(Input::Read { events, statuses }).await?;
            tokio::select! {
                () = sleep(Duration::from_millis(self.config.rest_ms)) => {}
                () = recalled.cancelled() => return Ok(()),
            }
        }
    }

    /// Feeds the machine until it wants nothing more.
    async fn feed(&mut self, input: Input) -> Result<(), Error> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            self.machine.handle(input, &mut actions);
            for action in actions {
                match action {
                    Action::Load { summaries, stays } => next = Some(self.load(summaries, stays).await?),
                    Action::Project(projected) => {
                        let (partition, epoch) = (self.tenure.partition(), self.tenure.epoch());
                        self.store.project(rows::projection(projected, partition, epoch)).await?;
                        crash_point("projections.written");
                        next = Some(Input::Stored);
                    }
                    Action::Written { epoch, statuses } => self.say_written(epoch, statuses).await,
                    Action::StatusesSkipped => counter!("projections_statuses_skipped_total").increment(1),
                    Action::Halt(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn load(
        &mut self,
        chats: BTreeSet<ChatId>,
        wanted_stays: BTreeSet<(UserId, ChatId)>,
    ) -> Result<Input, Error> {
        let chats: Vec<ChatId> = chats.into_iter().collect();
        let found = self.store.summaries(&chats).await?;
        let summaries = found.into_iter().flatten().map(|row| (row.chat, rows::summary(row))).collect();
        let mut stays = BTreeMap::new();
        for (user, chat) in wanted_stays {
            let after = predecessor(chat);
            let line = self.store.chats_of(user, Some(self.tenure.partition()), after, 1).await?;
            if let Some(row) = line.first().filter(|row| row.chat == chat) {
                stays.insert((user, chat), Stay { joined_seq: row.joined_seq, left_seq: row.left_seq });
            }
        }
        Ok(Input::Loaded { summaries, stays })
    }

    /// Lost ones are made good by the next; it is said once a second too.
    async fn say_written(&mut self, epoch: Epoch, statuses: Seq) {
        let partition = self.tenure.partition();
        let written = Written { partition: u32::from(partition.0), epoch: epoch.0, statuses };
        let payload = Bytes::from(written.encode_to_vec());
        if self.tenure.send(&Subject::Written(partition), payload).await.is_err() {
            counter!("projections_written_unsent_total").increment(1);
        }
    }
}

/// Adds what a reader has at hand, without waiting.
fn take_waiting(reader: &mut OrderedReader, records: &mut Vec<Record>, records_max: usize) -> Result<(), ReadError> {
    let bytes = |records: &[Record]| records.iter().map(|record| record.payload.len()).sum::<usize>();
    while records.len() < records_max && bytes(records) < BYTES_MAX {
        match reader.next().now_or_never() {
            Some(more) => records.extend(more?),
            None => break,
        }
    }
    Ok(())
}

fn read_error(error: ReadError) -> Error {
    match error {
        ReadError::Gap { expected, found, .. } => Error::NeedsRebuild { expected, found },
        ReadError::LostTail { .. } | ReadError::Lost | ReadError::Broker(_) => error.into(),
    }
}

/// The id just below, to read one chat out of a list by its order.
pub(crate) fn predecessor(chat: ChatId) -> Option<ChatId> {
    let below = u128::from_be_bytes(*chat.as_bytes()).checked_sub(1)?;
    Some(ChatId::new(below.to_be_bytes()))
}
