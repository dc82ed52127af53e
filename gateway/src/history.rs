//! History over the socket: what the reader's membership shows, and through where it is whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::{ChatId, Code, LoggedEntry, Seq, limits};
use futures_util::future::BoxFuture;
use proto::v1::{History, ReadHistory};
use store::MemberRow;
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
    let stays = match own_stays(edge, session, chat, 0, end).await {
        // Pushes run ahead of the store: that which lets the reader in may not be stored yet (M18).
        Err(Code::UnknownChat | Code::NotAMember) if at_least > 0 => {
            own_stays(edge, session, chat, at_least, end).await?
        }
        stays => stays?,
    };
    let page = edge
        .store
        .history_at_least(chat, after, limit as usize, answer_bytes_max(sub_protocol), at_least, end)
        .await
        .map_err(|error| code(&error))?;
    // The page may hold the entry that lets the reader in, or out: membership as of the page (M18).
    let stays = if page.rows.is_empty() { stays } else { own_stays(edge, session, chat, page.through, end).await? };
    // What goes on in the chat after the reader's last stay is not told, not even that it does.
    let left = stays.iter().max_by_key(|stay| stay.joined_seq).and_then(|stay| stay.left_seq);
    let through = page.through.min(left.unwrap_or(Seq::MAX));
    if after > through {
        return Err(Code::OutOfRange);
    }
    let is_shown = |row: &&LoggedEntry| {
        stays
            .iter()
            .any(|stay| stay.joined_seq <= row.entry.seq && stay.left_seq.is_none_or(|left| row.entry.seq <= left))
    };
    let rows: Vec<_> = page.rows.iter().filter(is_shown).collect();
    let head =
        History { chat: chat.to_wire(), epoch: epoch.0, entries: Vec::new(), through, first_seq: page.first_seq };
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

async fn own_stays(
    edge: &Edge,
    session: &Session,
    chat: ChatId,
    at_least: Seq,
    deadline: Instant,
) -> Result<Vec<MemberRow>, Code> {
    let members = edge.store.members(chat, at_least, deadline).await.map_err(|error| code(&error))?;
    if members.is_empty() {
        return Err(Code::UnknownChat);
    }
    let own: Vec<_> = members.into_iter().filter(|row| row.user == session.user).collect();
    if own.is_empty() { Err(Code::NotAMember) } else { Ok(own) }
}

fn code(error: &store::Error) -> Code {
    if matches!(error, store::Error::NotYet { .. }) {
        return Code::NotYet;
    }
    tracing::warn!(error = error as &dyn std::error::Error, "history cannot be read");
    if error.is_retryable() { Code::Unavailable } else { Code::Internal }
}
