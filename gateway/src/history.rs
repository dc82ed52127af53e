//! History over the socket: what the reader's membership shows, and through where it is whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::{ChatId, Code, Seq, limits};
use futures_util::future::BoxFuture;
use proto::v1::{History, ReadHistory};
use store::{Asked, ReadError};
use tokio::time::Instant;

use crate::edge::Edge;
use crate::frames;
use crate::session::{Session, refuse};
use crate::socket::{Class, PushError, SubProtocol};

/// Bytes of the entries of one answer: a frame that leaves room in a queue of 64 KiB, whatever its encoding adds.
const fn answer_bytes_max(sub_protocol: SubProtocol) -> usize {
    match sub_protocol {
        SubProtocol::Proto => 48 * 1024,
        // JSON makes up to three and a half times as much of them.
        SubProtocol::Json => 18 * 1024,
    }
}

/// History requests of one session that may wait (N9); beyond it the client hears `busy`.
const READINGS_MAX: usize = 64;

/// One request, apart from the frame that it came in.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: u64,
    chat: ChatId,
    after: Seq,
    limit: u32,
    at_least: Seq,
}

/// The history requests of one session, answered one after the other.
#[derive(Default)]
pub(crate) struct Readings {
    waiting: VecDeque<Request>,
    /// Boxed: a session that reads no history has no room for it.
    running: Option<BoxFuture<'static, ()>>,
}

impl Readings {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// Takes a request.
    ///
    /// # Errors
    /// What the client hears instead of an answer.
    pub(crate) fn put(&mut self, id: u64, wire: &ReadHistory) -> Result<(), Code> {
        let chat = ChatId::try_from(&wire.chat[..]).map_err(|_fault| Code::BadRequest)?;
        if self.waiting.len() >= READINGS_MAX {
            return Err(Code::Busy);
        }
        let limit = match wire.limit {
            0 => limits::HISTORY_ENTRIES_MAX,
            limit => limit.min(limits::HISTORY_ENTRIES_MAX),
        };
        self.waiting.push_back(Request { id, chat, after: wire.after, limit, at_least: wire.at_least });
        Ok(())
    }

    /// Answers the next request. Dropped and called again, it goes on where it was.
    pub(crate) async fn go_on(&mut self, edge: &Arc<Edge>, session: &Session) {
        if self.running.is_none() {
            let Some(request) = self.waiting.pop_front() else { return };
            self.running = Some(Box::pin(answer(Arc::clone(edge), session.clone(), request)));
        }
        if let Some(running) = &mut self.running {
            running.await;
            self.running = None;
        }
        if self.waiting.is_empty() {
            // An idle session holds no buffer.
            self.waiting = VecDeque::new();
        }
    }
}

async fn answer(edge: Arc<Edge>, session: Session, request: Request) {
    if let Err(code) = read(&edge, &session, request).await {
        refuse(&session, request.id, code);
    }
}

async fn read(edge: &Edge, session: &Session, request: Request) -> Result<(), Code> {
    let Request { id, chat, after, limit, at_least } = request;
    let epoch = *edge.epochs.get(usize::from(chat.partition().0)).ok_or(Code::UnknownChat)?;
    let sub_protocol = session.outbound.sub_protocol();
    // Before the store is asked: a client that does not read holds no answer in memory.
    session.outbound.drained().await;
    let end = Instant::now() + Duration::from_millis(edge.config.history_wait_ms);
    metrics::counter!("gateway_history_reads_total").increment(1);
    let asked = Asked { after, entries: limit as usize, bytes: answer_bytes_max(sub_protocol), at_least };
    let page = edge.store.history_of(chat, session.user, asked, end).await.map_err(code)?;
    let rows: Vec<_> = page.rows.iter().collect();
    let head = History {
        chat: chat.to_wire(),
        epoch: epoch.0,
        entries: Vec::new(),
        through: page.through,
        first_seq: page.first_seq,
    };
    let Ok(frame) = frames::history(sub_protocol, id, head, &rows) else {
        frames::give_up(&session.outbound);
        return Ok(());
    };
    loop {
        match session.outbound.push(frame.clone(), Class::History) {
            Err(PushError::NotEmpty) => session.outbound.drained().await,
            // Taken, or the socket is closing.
            Ok(()) | Err(PushError::Closed | PushError::Slow | PushError::Dropped) => return Ok(()),
        }
    }
}

fn code(error: ReadError) -> Code {
    let error = match error {
        ReadError::UnknownChat => return Code::UnknownChat,
        ReadError::NotAMember => return Code::NotAMember,
        ReadError::OutOfRange => return Code::OutOfRange,
        ReadError::Store(store::Error::NotYet { .. }) => return Code::NotYet,
        ReadError::Store(error) => error,
    };
    tracing::warn!(error = &error as &dyn std::error::Error, "history cannot be read");
    // A store that takes nothing more ends the process, and the next one answers.
    if error.is_retryable() || error.is_final() { Code::Unavailable } else { Code::Internal }
}
