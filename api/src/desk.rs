//! Commands on their way to the log and their outcomes on the way back.
//!
//! An answer over the broker may be lost: then the same command goes out again, and the fold knows it (N2).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, Code, Command, GatewayId, Micros, Origin, Seq, SessionId, UserId};
use event_log::{Received, Subscription};
use metrics::counter;
use packer::{Pack, Senders, Waiting};
use prost::Message as _;
use proto::relay::AnswerBatch;
use proto::v1::outcome::Result as Decided;
use proto::{log, v1};
use store::Store;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::problem::{Kind, Problem};

/// How long an answer is waited for before the same command goes out again.
const ASK_AGAIN: Duration = Duration::from_millis(1_500);
/// Rows of one page of a search for an own entry.
const SEARCH_ROWS: usize = 1_024;

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// In the chat for good.
    Stored { chat: ChatId, seq: Seq, time: Micros },
    /// The chat decided against it, for now, or no chat would take it.
    Rejected(Code),
    /// Nobody knows yet; asked again, it is told.
    Pending,
}

/// What an entry is known by whoever sent its command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Own {
    pub(crate) sender: UserId,
    pub(crate) origin: u64,
    pub(crate) n: u64,
}

/// Where an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) seq: Seq,
    pub(crate) time: Micros,
}

/// What a request hears.
#[derive(Debug)]
enum Reply {
    Busy,
    Outcome(v1::Outcome),
}

/// The requests that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: Mutex<HashMap<u64, mpsc::UnboundedSender<Reply>>>,
}

impl Asked {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::UnboundedSender<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, request: u64, reply: Reply) {
        // At most two for each copy. Who asked may be gone.
        let _ = self.waiting().get(&request).map(|waiting| waiting.send(reply));
    }
}

impl Senders for Asked {
    fn accepted(&self, _session: SessionId, _request: u64) {}

    fn busy(&self, _session: SessionId, request: u64) {
        self.reply(request, Reply::Busy);
    }
}

/// Sends commands and waits for their outcomes.
#[derive(Debug)]
pub(crate) struct Desk {
    id: GatewayId,
    session: SessionId,
    pack: Pack,
    asked: Arc<Asked>,
    next: AtomicU64,
    wait: Duration,
    store: Store,
}

/// No longer waited for, however its request ends.
struct Wait<'a>(&'a Desk, u64);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.asked.waiting().remove(&self.1);
    }
}

impl Desk {
    pub(crate) fn new(id: GatewayId, pack: Pack, asked: Arc<Asked>, wait: Duration, store: Store) -> Self {
        Self { id, session: SessionId(rand::random()), pack, asked, next: AtomicU64::new(1), wait, store }
    }

    /// Sends a command until there is an outcome or a request's time is over; one that is sent again is the same.
    ///
    /// # Errors
    /// [`Kind::Busy`] where no copy went out.
    pub(crate) async fn send(&self, sender: UserId, wire: v1::Command) -> Result<Outcome, Problem> {
        self.send_within(sender, wire, self.wait).await
    }

    /// As [`Self::send`], with another time.
    pub(crate) async fn send_within(
        &self,
        sender: UserId,
        mut wire: v1::Command,
        wait: Duration,
    ) -> Result<Outcome, Problem> {
        let command = match Command::from_wire(sender, wire.clone()) {
            Ok(command) => command,
            Err(code) => return Ok(Outcome::Rejected(code)),
        };
        let own = Own { sender, origin: wire.origin, n: wire.n };
        let deadline = Instant::now() + wait;
        loop {
            let Some(outcome) = self.decided(command.chat, sender, &wire, deadline).await? else {
                return Ok(Outcome::Pending);
            };
            let chat = ChatId::try_from(&outcome.chat[..]).unwrap_or(command.chat);
            let rejected = match outcome.result {
                Some(Decided::Stored(v1::Stored { seq, time_us })) => {
                    return Ok(Outcome::Stored { chat, seq, time: time_us });
                }
                Some(Decided::Rejected(rejected)) => rejected,
                None => return Err(Kind::Internal.into()),
            };
            let code = Code::try_from(rejected.code).unwrap_or(Code::Internal);
            if code != Code::OriginUnknown || rejected.head <= wire.basis {
                return Ok(Outcome::Rejected(code));
            }
            // The chat forgot this outbox (M14): what an earlier copy may have left is in the chat, or nowhere.
            let mut after = wire.basis;
            match self.find(command.chat, own, &mut after, rejected.head, deadline).await {
                Ok(Some(Place { seq, time })) => return Ok(Outcome::Stored { chat: command.chat, seq, time }),
                Ok(None) => wire.basis = rejected.head,
                Err(error) => {
                    tracing::debug!(?error, "an own entry is not found in time");
                    return Ok(Outcome::Pending);
                }
            }
        }
    }

    /// What the chat decides; copies go out until it is told. None: not in time, though one may stand in the log.
    async fn decided(
        &self,
        chat: ChatId,
        sender: UserId,
        wire: &v1::Command,
        deadline: Instant,
    ) -> Result<Option<v1::Outcome>, Problem> {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, mut replies) = mpsc::unbounded_channel();
        self.asked.waiting().insert(request, reply);
        // Of any copy: they all have the same number.
        let _wait = Wait(self, request);
        let packed = log::Command {
            route: Some(log::Route { gateway: self.id.0, session: self.session.0, request }),
            sender: sender.to_wire(),
            command: Some(wire.clone()),
            import: None,
        };
        let bytes: Bytes = packed.encode_to_vec().into();
        let mut copies = 0;
        while Instant::now() < deadline {
            let waiting = Waiting { session: self.session.0, request, bytes: bytes.clone() };
            if self.pack.put(chat.partition(), waiting) {
                copies += 1;
            } else if copies == 0 {
                return Err(Kind::Busy.into());
            }
            let again = deadline.min(Instant::now() + ASK_AGAIN);
            while let Ok(Some(reply)) = timeout_at(again, replies.recv()).await {
                match reply {
                    Reply::Outcome(outcome) => return Ok(Some(outcome)),
                    Reply::Busy if copies == 1 => return Err(Kind::Busy.into()),
                    // A later copy found no room, and an earlier one may stand in the log: no reason to hurry the next.
                    Reply::Busy => {}
                }
            }
        }
        Ok(None)
    }

    /// A command's own entry in the chat, above `after` and through `head`; `after` becomes how far it was looked for.
    ///
    /// # Errors
    /// [`Kind::NotYet`] at the deadline, where the way through the chat is too long for it.
    pub(crate) async fn find(
        &self,
        chat: ChatId,
        own: Own,
        after: &mut Seq,
        head: Seq,
        deadline: Instant,
    ) -> Result<Option<Place>, Problem> {
        while *after < head {
            if Instant::now() >= deadline {
                return Err(Kind::NotYet.into());
            }
            let page = self
                .store
                .history_at_least(chat, *after, SEARCH_ROWS, store::HISTORY_BYTES_MAX, head, deadline)
                .await?;
            counter!("api_search_rows_total").increment(page.rows.len() as u64);
            let found = page
                .rows
                .iter()
                .map(|row| &row.entry)
                .find(|entry| entry.sender == own.sender && entry.origin == Origin(own.origin) && entry.n == own.n);
            if let Some(found) = found {
                return Ok(Some(Place { seq: found.seq, time: found.time }));
            }
            if page.through <= *after {
                break;
            }
            *after = page.through;
        }
        Ok(None)
    }
}

/// Hands out the answers that come, until stopped.
pub(crate) async fn answers(
    mut answers: Subscription,
    asked: Arc<Asked>,
    stop: CancellationToken,
) -> Result<(), Error> {
    loop {
        let received = tokio::select! {
            received = answers.next() => received,
            () = stop.cancelled() => return Ok(()),
        };
        match received {
            Some(Received::Message(message)) => {
                let Ok(batch) = AnswerBatch::decode(message.payload) else {
                    counter!("api_answers_undecodable_total").increment(1);
                    continue;
                };
                for answer in batch.answers {
                    if let Some(outcome) = answer.outcome {
                        asked.reply(answer.request, Reply::Outcome(outcome));
                    }
                }
            }
            // Who waits asks again.
            Some(Received::Lagged) => counter!("api_answers_lagged_total").increment(1),
            None => return Err(Error::Stopped("the subscription of answers")),
        }
    }
}
