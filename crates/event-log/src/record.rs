//! One record of a stream, as a reader gets it.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Info, LastRawMessageError, LastRawMessageErrorKind, Stream};
use bytes::Bytes;

use crate::Error;

/// One record of a stream.
///
/// A command record's fingerprint is (`time_ns`, `message_id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the stream: 1, 2, 3 …
    pub sequence: u64,
    /// The broker's time for it, ns since 1970 UTC; 0 for an event that did not come over the broker.
    pub time_ns: i64,
    /// Its publisher's id for it; empty if it gave none.
    pub message_id: String,
    /// What was published.
    pub payload: Bytes,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sequence of the first record left; `last + 1` if none is.
    pub first: u64,
    /// Sequence of the last record ever stored; 0: none yet.
    pub last: u64,
    /// How many records are left.
    pub records: u64,
    /// What they take.
    pub bytes: u64,
}

impl Bounds {
    pub(crate) fn of(info: &Info) -> Self {
        let state = &info.state;
        // An empty stream that never held anything says 0.
        Self {
            first: state.first_sequence.max(1),
            last: state.last_sequence,
            records: state.messages,
            bytes: state.bytes,
        }
    }
}

/// The message id in a record's headers.
pub(crate) fn message_id(headers: Option<&async_nats::HeaderMap>) -> String {
    headers
        .and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID))
        .map(|id| id.as_str().to_owned())
        .unwrap_or_default()
}

/// The broker's time as ns; 64 bits hold it until the year 2262.
pub(crate) fn time_ns(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// One record of the stream of a name, from its leader; none where there is none.
pub(crate) async fn read_named(context: &Context, name: &str, sequence: u64) -> Result<Option<Record>, Error> {
    let what = || format!("read record {sequence} of {name}");
    let stream = context.get_stream_no_info(name).await.map_err(|error| Error::broker(what(), error))?;
    read(&stream, sequence).await.map_err(|error| Error::broker(what(), error))
}

/// One record of a stream, from its leader; none where there is none.
pub(crate) async fn read(stream: &Stream<()>, sequence: u64) -> Result<Option<Record>, LastRawMessageError> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(Some(Record {
            sequence: message.sequence,
            time_ns: time_ns(message.time.unix_timestamp_nanos()),
            message_id: message_id(Some(&message.headers)),
            payload: message.payload,
        })),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}
