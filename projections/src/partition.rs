//! One partition: reads all that waits in both streams, folds it, writes once, says `written`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, Epoch, Seq, UserId, crash_point};
use event_log::{Lease, OrderedReader, ReadError, Record, Stream, Subject, Tenure};
use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use prost::Message as _;
use proto::relay::Written;
use store::{Checkpoint, FactRow, NameRow, Projection, ReactionRow, Reader, Store, SummaryRow, UserChatRow};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::machine::{Action, Fact, Fold, Input, Name, Preview, Projected, Raw, Reaction, Stay, Summary};
use crate::{Config, Error};

/// Between two tries to acquire.
const ACQUIRE_PAUSE: Duration = Duration::from_millis(50);
const ACQUIRE_PAUSE_MAX: Duration = Duration::from_secs(2);

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
                        self.store.project(self.projection(projected)).await?;
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
        let summaries = found.into_iter().flatten().map(|row| (row.chat, summary(row))).collect();
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

    fn projection(&self, projected: Projected) -> Projection {
        let user_chat = |(user, chat, stay): (UserId, ChatId, Stay)| UserChatRow {
            user,
            chat,
            joined_seq: stay.joined_seq,
            left_seq: stay.left_seq,
        };
        let policies = projected.policies.into_iter().map(|(chat, fact)| fact_row(chat, fact, store::Fact::Policy));
        let pins = projected.pins.into_iter().map(|(chat, fact)| fact_row(chat, fact, store::Fact::Pins));
        Projection {
            reader: Reader::Projections,
            partition: self.tenure.partition(),
            user_chats: projected.stays.into_iter().map(user_chat).collect(),
            summaries: projected.summaries.into_iter().map(|(chat, summary)| row(chat, summary)).collect(),
            names: projected.names.into_iter().map(name).collect(),
            facts: policies.chain(pins).collect(),
            reactions: projected.reactions.into_iter().map(reaction).collect(),
            deleted: projected.deleted,
            watermarks: projected.watermarks,
            checkpoint: Checkpoint {
                epoch: self.tenure.epoch(),
                events: projected.events,
                statuses: projected.statuses,
            },
        }
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
fn predecessor(chat: ChatId) -> Option<ChatId> {
    let below = u128::from_be_bytes(*chat.as_bytes()).checked_sub(1)?;
    Some(ChatId::new(below.to_be_bytes()))
}

fn summary(row: SummaryRow) -> Summary {
    Summary {
        head: row.head,
        ordinal: row.ordinal,
        first_seq: row.first_seq,
        preview: row.preview.map(|store::Preview { seq, sender, time, length, body, deleted }| Preview {
            seq,
            sender,
            time,
            length,
            body,
            deleted,
        }),
        activity: row.activity,
        kind: row.kind,
    }
}

fn name((chat, Name { seq, text }): (ChatId, Name)) -> NameRow {
    NameRow { chat, seq, name: text }
}

fn fact_row<T>(chat: ChatId, Fact { seq, is }: Fact<T>, kind: fn(T) -> store::Fact) -> FactRow {
    FactRow { chat, seq, fact: kind(is) }
}

fn reaction(((chat, seq, user), Reaction { text, by }): ((ChatId, Seq, UserId), Reaction)) -> ReactionRow {
    ReactionRow { chat, seq, user, reaction: text, by }
}

fn row(chat: ChatId, summary: Summary) -> SummaryRow {
    SummaryRow {
        chat,
        head: summary.head,
        ordinal: summary.ordinal,
        first_seq: summary.first_seq,
        preview: summary.preview.map(|Preview { seq, sender, time, length, body, deleted }| store::Preview {
            seq,
            sender,
            time,
            length,
            body,
            deleted,
        }),
        activity: summary.activity,
        kind: summary.kind,
    }
}
