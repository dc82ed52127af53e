//! Runs the owner of one partition: its actions become calls to log and store, their results its inputs.
//!
//! One task, one loop. Nothing here decides; what the machine did not ask for is not done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use domain::{Chat, ChatId, Micros, Partition, Rules, Seq, Target, WriterId, crash_point};
use event_log::{FencedError, Grant, Handed, Inlet, Lease, OrderedReader, Stream, Subject, Tenure};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use metrics::counter;
use prost::Message as _;
use proto::relay::AnswerBatch;
use store::{Append, ChatAppend, MemberRow, RoleRow, Store};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::machine::{Action, ChatRows, HandedRecord, Input, NewRole, Owner};
use crate::{Config, Dependencies, Error, read, takeover};

/// How long an owner that gives its partition back waits for what is published to be appended.
const LAST_APPEND_WAIT: Duration = Duration::from_secs(2);
/// How far rows come behind their position where that rule is off: what a busy cluster may take.
const ROWS_LATE_BY: Duration = Duration::from_millis(50);
/// Most bytes of one message of answers, well below what the log takes.
const ANSWERS_PER_MESSAGE: usize = 1_024;

/// Owns the partition whenever it is ours: takes over, runs, and takes over again whenever the tenure is lost (M6).
pub(crate) async fn own(lease: Lease, config: Arc<Config>, dependencies: Dependencies) -> Result<(), Error> {
    let partition = lease.partition();
    while let Some(grant) = lease.granted().await {
        let ended = one_tenure(&grant, &config, &dependencies).await;
        let Err(error) = grant.end(ended).await else { continue };
        if !error.is_passing() {
            return Err(error);
        }
        counter!("ingest_step_downs_total").increment(1);
        tracing::info!(partition = partition.0, error = &error as &dyn std::error::Error, "stepped down");
        lease.rests(Duration::from_millis(rand::random_range(1..=2 * config.takeover_again_ms.max(1)))).await;
    }
    Ok(())
}

async fn one_tenure(grant: &Grant, config: &Config, dependencies: &Dependencies) -> Result<(), Error> {
    let (store, partition) = (&dependencies.store, grant.partition());
    let tenure = tokio::select! {
        tenure = grant.acquire() => tenure?,
        () = grant.recalled().cancelled() => return Ok(()),
    };
    let plan = takeover::take_over(&tenure, store, partition).await?;
    tracing::info!(
        partition = partition.0,
        expected = plan.expected,
        tail = plan.tail.len(),
        read_from = plan.read_from,
        "took over"
    );
    let reader = tenure.reader(Stream::Commands, plan.read_from).await?;
    let inlet = tenure.inlet();
    // Random: a number that the broker counts would come again after it lost its tail (M3).
    let owner = Owner::new(plan, WriterId(rand::random()), config.settings(), config.rules);
    let shell = Shell {
        partition,
        tenure,
        store: store.clone(),
        rules: config.rules,
        running: FuturesUnordered::new(),
        handed: BTreeMap::new(),
        tickets: 0,
        ended: None,
    };
    shell.tenure.serves();
    shell.run(owner, reader, inlet, config, grant.recalled()).await
}

/// What the actions of one tenure run on.
struct Shell {
    partition: Partition,
    tenure: Tenure,
    store: Store,
    rules: Rules,
    running: FuturesUnordered<BoxFuture<'static, Result<Option<Input>, Error>>>,
    /// What gateways handed over and is not published, by ticket; it goes into COMMANDS-p when it is dropped.
    handed: BTreeMap<u64, Handed>,
    tickets: u64,
    ended: Option<Error>,
}

impl Shell {
    async fn run(
        mut self,
        mut owner: Owner,
        mut reader: OrderedReader,
        mut inlet: Inlet,
        config: &Config,
        recalled: &CancellationToken,
    ) -> Result<(), Error> {
        let mut ticks = interval(Duration::from_millis(config.tick_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trims = interval(Duration::from_millis(config.trim_ms));
        trims.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tenure = self.tenure.clone();
        let mut lost = std::pin::pin!(tenure.lost());
        let mut actions = Vec::new();
        owner.handle(Input::Tick, &mut actions);
        loop {
            for action in actions.drain(..) {
                self.start(action);
            }
            if let Some(ended) = self.ended {
                return Err(ended);
            }
            let input = tokio::select! {
                Some(done) = self.running.next() => done?,
                records = reader.next(), if owner.wants_commands() => Some(self.decode(records?)?),
                handed = inlet.next(), if owner.wants_commands() => {
                    for one in handed {
                        if let Some(record) = self.take(one, &owner, &reader) {
                            owner.handle(Input::Handed(record), &mut actions);
                        }
                    }
                    None
                }
                _ = ticks.tick() => Some(Input::Tick),
                _ = trims.tick() => {
                    self.look_for_trimming();
                    None
                }
                () = &mut lost => return Err(Error::TenureLost),
                () = recalled.cancelled() => break,
            };
            if let Some(input) = input {
                owner.handle(input, &mut actions);
            }
        }
        // What is published is true without us; appending and answering it now spares the next owner the tail.
        let finish = async {
            while let Some(done) = self.running.next().await {
                if let Some(input) = done? {
                    owner.handle(input, &mut actions);
                }
                for action in actions.drain(..) {
                    if matches!(action, Action::Append { .. } | Action::Answer(..) | Action::Taken(_)) {
                        self.start(action);
                    }
                }
            }
            Ok(())
        };
        timeout(LAST_APPEND_WAIT, finish).await.unwrap_or(Ok(()))
    }

    fn decode(&self, records: Vec<event_log::Record>) -> Result<Input, Error> {
        let mut decoded = Vec::with_capacity(records.len());
        for record in records {
            let mut record = read::commands(record, self.tenure.epoch())?;
            read::refuse_strangers(&mut record.items, |chat| chat.partition() == self.partition);
            decoded.push(record);
        }
        Ok(Input::Commands(decoded))
    }

    /// What a gateway handed over, unless it must wait, for the store or for what the gateway published before.
    fn take(&mut self, handed: Handed, owner: &Owner, reader: &OrderedReader) -> Option<HandedRecord> {
        if handed.after >= reader.due() {
            return None;
        }
        self.tickets += 1;
        let mut record = read::handed(handed.payload.clone(), self.tenure.epoch(), self.tickets, wall_clock_us())?;
        read::refuse_strangers(&mut record.items, |chat| chat.partition() == self.partition);
        if !owner.may_take(&record) {
            return None;
        }
        self.handed.insert(self.tickets, handed);
        Some(record)
    }

    fn start(&mut self, action: Action) {
        let (tenure, store, partition) = (self.tenure.clone(), self.store.clone(), self.partition);
        match action {
            Action::Load(chat) => self.running.push(Box::pin(load(store, chat))),
            Action::LoadTarget(chat, seq) => self.running.push(Box::pin(load_target(store, chat, seq))),
            Action::Publish { payload, expected } => {
                crash_point("ingest.decided");
                self.running.push(Box::pin(publish(tenure, payload, expected, self.rules)));
            }
            Action::Append { position, chats } => {
                let chats = chats.into_iter().map(rows).collect();
                self.running.push(Box::pin(append(store, Append { partition, position, chats }, self.rules)));
            }
            Action::Answer(gateway, answers) => {
                self.running.push(Box::pin(async move {
                    for part in answers.chunks(ANSWERS_PER_MESSAGE) {
                        let batch = AnswerBatch { partition: u32::from(partition.0), answers: part.to_vec() };
                        // A lost answer costs nothing: the client asks again.
                        if tenure.send(&Subject::Answers(gateway), batch.encode_to_vec().into()).await.is_err() {
                            counter!("ingest_answers_dropped_total").increment(part.len() as u64);
                        }
                    }
                    crash_point("ingest.answered");
                    Ok(None)
                }));
            }
            Action::Taken(tickets) => {
                for ticket in tickets {
                    if let Some(handed) = self.handed.remove(&ticket) {
                        handed.taken();
                    }
                }
            }
            Action::Trim { commands_below, events_below } => {
                self.running.push(Box::pin(async move {
                    tenure.trim(Stream::Commands, commands_below).await?;
                    tenure.trim(Stream::Events, events_below).await?;
                    Ok(None)
                }));
            }
            Action::StepDown => self.ended = Some(Error::TenureLost),
            Action::Halt(halt) => self.ended = Some(halt.into()),
        }
    }

    /// M9: what is on disk for sure, and what the required readers still need.
    fn look_for_trimming(&self) {
        let (store, partition) = (self.store.clone(), self.partition);
        self.running.push(Box::pin(async move {
            match trimmable(&store, partition).await {
                // Looked for again at the next turn; meanwhile nothing is trimmed.
                Err(error) if error.is_retryable() => Ok(None),
                found => Ok(found?),
            }
        }));
    }
}

async fn trimmable(store: &Store, partition: Partition) -> Result<Option<Input>, store::Error> {
    let Some(position) = store.synced_position(partition).await? else { return Ok(None) };
    let mut events_needed = u64::MAX;
    for reader in takeover::REQUIRED_READERS {
        let checkpoint = store.checkpoint(reader, partition).await?;
        let read = checkpoint.filter(|at| at.epoch == position.epoch).map_or(0, |at| at.events);
        events_needed = events_needed.min(read);
    }
    Ok(Some(Input::Synced { position, events_needed }))
}

fn wall_clock_us() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

async fn load(store: Store, id: ChatId) -> Result<Option<Input>, Error> {
    Ok(Some(match store.load_chat(id).await {
        Ok(chat) => Input::Loaded(id, chat.map(Box::<Chat>::new)),
        Err(error) if error.is_retryable() => Input::LoadFailed(id),
        Err(error) => return Err(error.into()),
    }))
}

async fn load_target(store: Store, id: ChatId, seq: Seq) -> Result<Option<Input>, Error> {
    Ok(Some(match store.entry(id, seq).await {
        Ok(row) => Input::TargetLoaded(id, seq, row.map_or(Target::Missing, |row| Target::of(&row.entry))),
        Err(error) if error.is_retryable() => Input::TargetFailed(id, seq),
        Err(error) => return Err(error.into()),
    }))
}

async fn publish(tenure: Tenure, payload: Bytes, expected: u64, rules: Rules) -> Result<Option<Input>, Error> {
    let mut published = tenure.publish_events(payload.clone(), expected).await;
    // Without the fence a record goes behind whatever stands there.
    while let (false, Err(FencedError::Refused { last: Some(last) })) = (rules.fence, &published) {
        published = tenure.publish_events(payload.clone(), *last).await;
    }
    Ok(Some(match published {
        Ok(sequence) => {
            crash_point("ingest.published");
            Input::Published(sequence)
        }
        Err(FencedError::InDoubt { .. }) => Input::PublishInDoubt,
        Err(FencedError::Full) => {
            counter!("ingest_events_full_total").increment(1);
            Input::PublishFull
        }
        Err(FencedError::Refused { .. }) => {
            let last = tenure.bounds(Stream::Events).await?.last;
            let tail = match tenure.read(Stream::Events, last).await? {
                Some(record) => {
                    let (writer, batch) = read::fingerprint(record)?;
                    Some((writer, batch, last))
                }
                None => None,
            };
            Input::PublishRefused(tail)
        }
        Err(FencedError::Lost | FencedError::TooLarge { .. }) => return Err(Error::TenureLost),
    }))
}

async fn append(store: Store, append: Append, rules: Rules) -> Result<Option<Input>, Error> {
    if !rules.rows_first {
        let position = Append { chats: Vec::new(), ..append.clone() };
        store.append(position).await?;
        tokio::time::sleep(ROWS_LATE_BY).await;
    }
    Ok(Some(match store.append(append).await {
        Ok(()) => {
            crash_point("ingest.appended");
            Input::Appended
        }
        Err(error) if error.is_retryable() => {
            counter!("ingest_appends_failed_total").increment(1);
            Input::AppendFailed
        }
        Err(error) => return Err(error.into()),
    }))
}

fn rows(rows: ChatRows) -> ChatAppend {
    let ChatRows { chat, stays, roles, rows, snapshot } = rows;
    let members = stays
        .into_iter()
        .map(|stay| MemberRow {
            chat,
            user: stay.user,
            joined_seq: stay.joined_seq,
            role: stay.role,
            left_seq: stay.left_seq,
        })
        .collect();
    let roles = roles
        .into_iter()
        .map(|NewRole { user, joined_seq, role, seq }| RoleRow { user, joined_seq, role, seq })
        .collect();
    ChatAppend { chat, members, roles, rows, snapshot }
}
