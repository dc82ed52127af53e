//! One attempt to publish a record, and what its answer means.
//!
//! Every attempt waits for its acknowledgement or its deadline; none is let go in flight. Who tries again, and with what,
//! is decided by the caller: commands with the same message id, events with the same bytes and expectation (M3).

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Client, HeaderMap, Request, RequestErrorKind, header};
use bytes::Bytes;
use tokio::time::timeout;

/// Marks an entry of a bucket as deleted, as all clients of the broker write and read it.
const KV_OPERATION: &str = "KV-Operation";
const KV_OPERATION_DELETE: &str = "DEL";

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is stored, now or by an earlier attempt with the same message id.
    Stored(u64),
    /// Not stored: the stream's last sequence is another one.
    WrongLast(Option<u64>),
    /// Not stored: the stream or the disk is full.
    Full,
    /// Not stored: nobody is there to store it, as during an election.
    Unavailable(String),
    /// Perhaps stored: no answer, or one that does not say.
    Unknown(String),
}

/// What an attempt carries beside its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    None,
    MessageId(&'a str),
    ExpectedLast(u64),
    /// To a bucket: the key's last revision is this one; 0: there is none.
    Revision(u64),
    /// To a bucket: the key is deleted, if its last revision is this one where one is named.
    Delete(Option<u64>),
}

impl Mark<'_> {
    fn headers(self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        match self {
            Self::None => return None,
            Self::MessageId(id) => headers.insert(header::NATS_MESSAGE_ID, id),
            Self::Revision(last) => expect_revision(&mut headers, last),
            Self::Delete(last) => {
                headers.insert(KV_OPERATION, KV_OPERATION_DELETE);
                if let Some(last) = last {
                    expect_revision(&mut headers, last);
                }
            }
            Self::ExpectedLast(last) => headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string().as_str()),
        }
        Some(headers)
    }
}

fn expect_revision(headers: &mut HeaderMap, last: u64) {
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string().as_str());
}

/// Publishes once, and waits for the answer no longer than `deadline`.
pub(crate) async fn attempt(
    client: &Client,
    subject: String,
    payload: Bytes,
    mark: Mark<'_>,
    deadline: Duration,
) -> Attempt {
    let mut request = Request::new().payload(payload).timeout(Some(deadline));
    if let Some(headers) = mark.headers() {
        request = request.headers(headers);
    }
    // The client's own deadline begins after the request has found room in its channel; this one before.
    match timeout(deadline, client.send_request(subject, request)).await {
        Ok(Ok(message)) => answer(&message.payload),
        Ok(Err(error)) => match error.kind() {
            RequestErrorKind::NoResponders => Attempt::Unavailable("nobody listens for the stream".to_owned()),
            RequestErrorKind::TimedOut
            | RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => Attempt::Unknown(error.to_string()),
        },
        Err(_) => Attempt::Unknown("no acknowledgement in time".to_owned()),
    }
}

fn answer(payload: &[u8]) -> Attempt {
    let response: Response<PublishAck> = match serde_json::from_slice(payload) {
        Ok(response) => response,
        Err(error) => return Attempt::Unknown(format!("acknowledgement cannot be read: {error}")),
    };
    let error = match response {
        Response::Ok(ack) => return Attempt::Stored(ack.sequence),
        Response::Err { error } => error,
    };
    let text = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Attempt::WrongLast(last_named(&text))
        }
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED => Attempt::Full,
        ErrorCode::STREAM_STORE_FAILED if is_full(&text) => Attempt::Full,
        ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::CLUSTER_NOT_LEADER | ErrorCode::STREAM_NOT_FOUND => {
            Attempt::Unavailable(text)
        }
        _ => Attempt::Unknown(text),
    }
}

/// The broker wraps its store's errors into one code; these say that nothing was written for want of room.
fn is_full(text: &str) -> bool {
    ["maximum bytes exceeded", "maximum messages exceeded", "no space left", "insufficient"]
        .iter()
        .any(|reason| text.contains(reason))
}

/// The number in `wrong last sequence: 17`.
fn last_named(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("wrong last sequence: ")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u32, number: u32, text: &str) -> Attempt {
        let json = format!(r#"{{"error":{{"code":{code},"err_code":{number},"description":"{text}"}}}}"#);
        answer(json.as_bytes())
    }

    #[test]
    fn each_answer_has_its_meaning() {
        assert_eq!(answer(br#"{"stream":"COMMANDS-0","seq":7}"#), Attempt::Stored(7));
        assert_eq!(answer(br#"{"stream":"COMMANDS-0","seq":7,"duplicate":true}"#), Attempt::Stored(7));
        assert_eq!(refused(400, 10071, "wrong last sequence: 17"), Attempt::WrongLast(Some(17)));
        assert_eq!(refused(400, 10164, "wrong last sequence"), Attempt::WrongLast(None));
        assert_eq!(refused(503, 10077, "maximum bytes exceeded"), Attempt::Full);
        assert_eq!(refused(500, 10047, "insufficient storage resources available"), Attempt::Full);
        assert!(matches!(refused(503, 10008, "JetStream system temporarily unavailable"), Attempt::Unavailable(_)));
        // A store that failed for another reason may have written; so may one whose words are new to us.
        assert!(matches!(refused(503, 10077, "write error"), Attempt::Unknown(_)));
        assert!(matches!(refused(500, 19999, "something new"), Attempt::Unknown(_)));
        assert!(matches!(answer(b"not json"), Attempt::Unknown(_)));
    }
}
