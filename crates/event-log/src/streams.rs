//! The streams' settings, their creation, their epoch and the number of partitions.
//!
//! Creation is safe from several processes at once: the first one wins and the others take what it wrote.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use domain::{Epoch, Partition};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::names::Names;
use crate::subject::Subject;
use crate::{Error, LogConfig, RECORD_BYTES_MAX};

/// Room for a record's headers beside its payload.
const HEADER_BYTES_MAX: usize = 4 * 1024;
/// A publish repeated with its message id within this time is stored once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Of the bucket of tenures, which holds little.
const TENURES_BYTES_MAX: i64 = 16 << 20;
/// Elections take seconds; whatever takes longer is worth an error.
const LED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// In an EVENTS or COMMANDS stream's metadata: µs since 1970 at which the partition was opened.
const EPOCH: &str = "heliograph.epoch";
/// In the CONTROL stream's metadata: how many partitions the log has.
const PARTITIONS: &str = "heliograph.partitions";

/// What every gateway must learn, on the broker and as a label.
pub(crate) const CONTROL: &str = "CONTROL";

/// A partition's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// COMMANDS-P: what clients asked, many writers.
    Commands,
    /// EVENTS-P: what happened, one fenced writer.
    Events,
    /// STATUS-P: advanced watermarks; losing some is harmless.
    Statuses,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commands => "COMMANDS",
            Self::Events => "EVENTS",
            Self::Statuses => "STATUS",
        }
    }

    /// The subject that the stream stores.
    pub fn subject(self, partition: Partition) -> Subject {
        match self {
            Self::Commands => Subject::Commands(partition),
            Self::Events => Subject::Events(partition),
            Self::Statuses => Subject::Statuses(partition),
        }
    }

    /// Whether readers may meet holes: the oldest records go first.
    pub fn is_lossy(self) -> bool {
        self == Self::Statuses
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// As [`open_now`], again for a while where a cluster has streams without a leader: just made, or between two.
pub(crate) async fn open(context: &Context, config: &LogConfig, names: &Names) -> Result<Vec<Epoch>, Error> {
    let deadline = Instant::now() + LED_WITHIN;
    loop {
        match open_now(context, config, names).await {
            Err(error @ Error::Broker { .. }) if config.replicas() > 1 && Instant::now() < deadline => {
                tracing::info!(%error, "the streams are not there yet");
                sleep(LOOK_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

/// Creates what is missing and checks what is there; returns each partition's epoch.
async fn open_now(context: &Context, config: &LogConfig, names: &Names) -> Result<Vec<Epoch>, Error> {
    // First of all: a process that counts otherwise must not make a single stream.
    let control = ensure(context, control(config, names)).await?;
    let stored = metadata(&control, PARTITIONS)?;
    if stored != config.partitions {
        return Err(Error::Partitions { stored, configured: config.partitions });
    }
    tenures(context, config, names).await?;
    try_join_all((0..config.partitions).map(|number| open_partition(context, config, names, Partition(number)))).await
}

async fn open_partition(
    context: &Context,
    config: &LogConfig,
    names: &Names,
    partition: Partition,
) -> Result<Epoch, Error> {
    no_renewal(context, names, partition).await?;
    // COMMANDS comes first and says which epoch the others belong to.
    let commands = ensure(context, settings(Stream::Commands, partition, now(), config, names)).await?;
    let epoch = epoch_of(&commands)?;
    for stream in [Stream::Events, Stream::Statuses] {
        let info = ensure(context, settings(stream, partition, epoch, config, names)).await?;
        same_epoch(epoch, &info)?;
    }
    Ok(epoch)
}

/// The epoch that the partition's streams carry now.
pub(crate) async fn epoch(context: &Context, names: &Names, partition: Partition) -> Result<Epoch, Error> {
    no_renewal(context, names, partition).await?;
    let commands = info(context, &names.stream(Stream::Commands, partition)).await?;
    let epoch = epoch_of(&commands)?;
    same_epoch(epoch, &info(context, &names.stream(Stream::Events, partition)).await?)?;
    Ok(epoch)
}

/// What of a partition waits for its new epoch must be in its streams before anybody works on them.
async fn no_renewal(context: &Context, names: &Names, partition: Partition) -> Result<(), Error> {
    match find(context, &names.waiting(partition)).await? {
        Some(_) => Err(Error::Renewing { partition: partition.0 }),
        None => Ok(()),
    }
}

pub(crate) fn epoch_of(info: &Info) -> Result<Epoch, Error> {
    metadata(info, EPOCH).map(Epoch)
}

fn same_epoch(epoch: Epoch, info: &Info) -> Result<(), Error> {
    if epoch_of(info)? == epoch {
        return Ok(());
    }
    Err(different(&info.config.name, "its epoch is not that of the partition's commands"))
}

pub(crate) fn now() -> Epoch {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Epoch(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

pub(crate) fn metadata<T: std::str::FromStr>(info: &Info, key: &str) -> Result<T, Error> {
    info.config
        .metadata
        .get(key)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| different(&info.config.name, &format!("its metadata lacks `{key}`")))
}

/// What every stream has in common: unfiltered, on file, kept until trimmed, refusing when full.
fn base(name: String, subject: String, bytes_max: i64, config: &LogConfig) -> Config {
    Config {
        name,
        subjects: vec![subject],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: bytes_max,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: i32::try_from(RECORD_BYTES_MAX + HEADER_BYTES_MAX).unwrap_or(i32::MAX),
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: config.replicas(),
        deny_delete: true,
        // Trimming is a purge, so purges stay allowed.
        deny_purge: false,
        ..Config::default()
    }
}

pub(crate) fn settings(
    stream: Stream,
    partition: Partition,
    epoch: Epoch,
    config: &LogConfig,
    names: &Names,
) -> Config {
    let bytes_max = match stream {
        Stream::Commands => config.commands_bytes_max,
        Stream::Events => config.events_bytes_max,
        Stream::Statuses => config.statuses_bytes_max,
    };
    let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    let subject = names.subject(&stream.subject(partition));
    let mut settings = base(names.stream(stream, partition), subject, bytes_max, config);
    settings.metadata = HashMap::from([(EPOCH.to_owned(), epoch.0.to_string())]);
    if stream.is_lossy() {
        settings.discard = DiscardPolicy::Old;
        // M9: no max age on the other two.
        settings.max_age = Duration::from_secs(config.statuses_age_max_s);
    }
    settings
}

fn control(config: &LogConfig, names: &Names) -> Config {
    let bytes_max = i64::try_from(config.control_bytes_max).unwrap_or(i64::MAX);
    let mut settings = base(names.control(), names.subject(&Subject::Control), bytes_max, config);
    settings.max_age = Duration::from_secs(config.control_age_max_s);
    settings.metadata = HashMap::from([(PARTITIONS.to_owned(), config.partitions.to_string())]);
    settings
}

/// The bucket whose revisions are tenure ids.
///
/// Should it be lost, the next one's revisions begin above all that it had: ids grow for ever (M15). So it is made as the
/// stream that a bucket is, whose first sequence can be chosen.
pub(crate) async fn tenures(context: &Context, config: &LogConfig, names: &Names) -> Result<(), Error> {
    let bucket = names.tenures();
    if context.get_key_value(&bucket).await.is_ok() {
        return Ok(());
    }
    let settings = Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        max_bytes: TENURES_BYTES_MAX,
        storage: StorageType::File,
        num_replicas: config.replicas(),
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        first_sequence: Some(now().0),
        ..Config::default()
    };
    // Another process may have been faster, with a first sequence of its own.
    if let Err(error) = context.create_stream(settings).await
        && context.get_key_value(&bucket).await.is_err()
    {
        return Err(Error::broker(format!("create bucket {bucket}"), error));
    }
    Ok(())
}

/// The stream as wanted, made if it is not there.
pub(crate) async fn ensure(context: &Context, wanted: Config) -> Result<Info, Error> {
    if let Some(found) = find(context, &wanted.name).await? {
        return adapt(context, found, &wanted).await;
    }
    let name = wanted.name.clone();
    match context.create_stream(wanted.clone()).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        // Another process was faster; its epoch stands.
        Err(error) if is_taken(&error.kind()) => {
            let found = find(context, &name).await?.ok_or_else(|| Error::broker(format!("create {name}"), error))?;
            adapt(context, found, &wanted).await
        }
        Err(error) => Err(Error::broker(format!("create stream {name}"), error)),
    }
}

fn is_taken(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

pub(crate) async fn find(context: &Context, name: &str) -> Result<Option<Info>, Error> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::InvalidStreamName => Err(Error::broker(format!("look at stream {name}"), error)),
        },
    }
}

/// The stream as the broker has it now.
pub(crate) async fn info(context: &Context, name: &str) -> Result<Info, Error> {
    find(context, name).await?.ok_or_else(|| Error::broker(format!("look at stream {name}"), "it does not exist"))
}

/// Refuses what the log cannot rest on, and brings bounds and replicas up to the configuration.
async fn adapt(context: &Context, found: Info, wanted: &Config) -> Result<Info, Error> {
    let has = &found.config;
    let firm = [
        ("subjects", has.subjects == wanted.subjects),
        ("storage", has.storage == wanted.storage),
        ("retention", has.retention == wanted.retention),
        ("discard", has.discard == wanted.discard),
        ("deny_delete", has.deny_delete == wanted.deny_delete),
        ("deny_purge", has.deny_purge == wanted.deny_purge),
        // What was kept for ever may be kept for a while from now on, but never the other way: it has holes.
        ("max_age", has.max_age.is_zero() || !wanted.max_age.is_zero()),
        ("max_msgs", has.max_messages <= 0),
    ];
    if let Some((what, _)) = firm.into_iter().find(|(_, same)| !same) {
        return Err(different(&has.name, what));
    }
    let mut updated = has.clone();
    updated.max_bytes = wanted.max_bytes;
    updated.max_message_size = wanted.max_message_size;
    updated.max_age = wanted.max_age;
    updated.duplicate_window = wanted.duplicate_window;
    updated.num_replicas = wanted.num_replicas;
    if updated == *has {
        return Ok(found);
    }
    let name = updated.name.clone();
    tracing::info!(stream = %name, "stream settings follow the configuration");
    context.update_stream(updated).await.map_err(|error| Error::broker(format!("update stream {name}"), error))
}

fn different(stream: &str, what: &str) -> Error {
    Error::Settings { stream: stream.to_owned(), what: what.to_owned() }
}
