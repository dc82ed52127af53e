//! Steps of imports on their way into the log, and their outcomes on the way back.
//!
//! ```text
//! imports ─ send ▶ packer ▶ the owner in this process, else COMMANDS-p ; answers ▶ send: those behind what is lost again
//! ```
//! The only place that makes such records. An answer may be lost, and so may a step: both go out again, since a step
//! that has its entry is told so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Code, Epoch, GatewayId, Import, Rules, Seq, SessionId, text};
use event_log::{Log, Received, Subject, Subscription};
use futures_util::future::BoxFuture;
use metrics::counter;
use packer::{Pack, Senders, Waiting, pack};
use prost::Message as _;
use proto::log;
use proto::relay::AnswerBatch;
use proto::v1::outcome::Result as Decided;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;

/// How long answers are waited for before the steps without one go out again.
const ASK_AGAIN: Duration = Duration::from_millis(1_500);
/// Where the log had no room, before the next try.
const PAUSE: Duration = Duration::from_millis(50);
/// For all steps of one call; below what a request of an operator may take.
const SENT_WITHIN: Duration = Duration::from_secs(20);

/// What became of one step.
#[derive(Debug)]
enum Reply {
    Stored(Seq),
    Rejected(Code),
}

/// The steps that wait for an answer; each gets one, and waits no more.
#[derive(Debug, Default)]
struct Asked {
    waiting: Mutex<HashMap<u64, mpsc::Sender<(u64, Reply)>>>,
}

impl Asked {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<(u64, Reply)>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, request: u64, reply: Reply) {
        if let Some(waiting) = self.waiting().remove(&request) {
            // It has room for one of each request; who asked may be gone.
            let _ = waiting.try_send((request, reply));
        }
    }
}

impl Senders for Asked {
    fn accepted(&self, _session: SessionId, _request: u64) {}

    fn busy(&self, _session: SessionId, request: u64) {
        self.reply(request, Reply::Rejected(Code::Busy));
    }
}

/// Sends steps and waits for their entries.
#[derive(Debug)]
pub(super) struct Steps {
    id: GatewayId,
    pack: Pack,
    asked: Arc<Asked>,
    next: AtomicU64,
}

/// The tasks that steps and answers need.
pub(super) struct Carrying {
    packing: BoxFuture<'static, ()>,
    answers: Subscription,
    asked: Arc<Asked>,
}

impl std::fmt::Debug for Carrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrying").finish_non_exhaustive()
    }
}

/// The way into the log, and what must run for it.
pub(super) async fn open(log: &Log, epochs: &[Epoch]) -> Result<(Steps, Carrying), event_log::Error> {
    let id = GatewayId(rand::random());
    let asked = Arc::new(Asked::default());
    // Subscribed before anything is asked: an answer that comes at once finds its reader.
    let answers = log.subscribe(Subject::Answers(id)).await?;
    // It ends with whoever carries it: what it has not sent by then is no entry, and the next run finds that.
    let (pack, packing) = pack(id, epochs, log.clone(), Arc::clone(&asked), Rules::ALL, CancellationToken::new());
    let steps = Steps { id, pack, asked: Arc::clone(&asked), next: AtomicU64::new(1) };
    Ok((steps, Carrying { packing: Box::pin(packing), answers, asked }))
}

impl Carrying {
    /// Runs for as long as it is polled.
    pub(super) async fn run(self) -> Infallible {
        let Self { packing, answers, asked } = self;
        let answering = async {
            hand_out(answers, &asked).await;
            tracing::error!("the subscription of answers to imports ended");
        };
        tokio::join!(packing, answering);
        pending().await
    }
}

async fn hand_out(mut answers: Subscription, asked: &Asked) {
    while let Some(received) = answers.next().await {
        let Received::Message(message) = received else {
            // Who waits asks again.
            counter!("admin_answers_lagged_total").increment(1);
            continue;
        };
        let Ok(batch) = AnswerBatch::decode(message.payload) else {
            counter!("admin_answers_undecodable_total").increment(1);
            continue;
        };
        for answer in batch.answers {
            match answer.outcome.and_then(|outcome| outcome.result) {
                Some(Decided::Stored(stored)) => asked.reply(answer.request, Reply::Stored(stored.seq)),
                Some(Decided::Rejected(rejected)) => {
                    let code = Code::try_from(rejected.code).unwrap_or(Code::Internal);
                    asked.reply(answer.request, Reply::Rejected(code));
                }
                None => {}
            }
        }
    }
}

/// No longer waited for, however the call ends.
struct Wait<'a> {
    asked: &'a Asked,
    requests: std::ops::Range<u64>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = self.asked.waiting();
        self.requests.clone().for_each(|request| drop(waiting.remove(&request)));
    }
}

impl Steps {
    /// Sends steps that follow each other, until all have their entries.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if not all are known to be stored in time: the same again; else why one is none.
    pub(super) async fn send(&self, mut steps: &[Import]) -> Result<(), Refusal> {
        let deadline = Instant::now() + SENT_WITHIN;
        while !steps.is_empty() {
            if Instant::now() >= deadline {
                let text = "the log did not take all of it in time; run the import again, it goes on where it stopped";
                return Err(Refusal::Unavailable(text.to_owned()));
            }
            let settled = self.once(steps, deadline).await?;
            if settled == 0 {
                sleep(PAUSE).await;
            }
            steps = steps.get(settled..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends all once; how many of the first have their entries.
    async fn once(&self, steps: &[Import], deadline: Instant) -> Result<usize, Refusal> {
        let count = steps.len() as u64;
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let (reply, mut replies) = mpsc::channel(steps.len());
        let wait = Wait { asked: &self.asked, requests: first..first + count };
        self.asked.waiting().extend(wait.requests.clone().map(|request| (request, reply.clone())));
        drop(reply);
        let mut sent = 0;
        for (step, request) in steps.iter().zip(wait.requests.clone()) {
            let packed = log::Command {
                route: Some(log::Route { gateway: self.id.0, session: 0, request }),
                sender: step.sender.to_wire(),
                command: None,
                import: Some(step.to_wire()),
            };
            let waiting = Waiting { session: 0, request, bytes: packed.encode_to_vec().into() };
            if !self.pack.put(step.chat.partition(), waiting) {
                break;
            }
            sent += 1;
        }
        let until = deadline.min(Instant::now() + ASK_AGAIN);
        let mut is_stored = vec![false; sent];
        for _ in 0..sent {
            let Ok(Some((request, reply))) = timeout_at(until, replies.recv()).await else { break };
            let place = usize::try_from(request - first).unwrap_or(usize::MAX);
            let (Some(step), Some(is_stored)) = (steps.get(place), is_stored.get_mut(place)) else { continue };
            match reply {
                Reply::Stored(seq) => *is_stored = seq == step.seq,
                // What comes before it is not stored yet, or there was no room: it goes out again.
                Reply::Rejected(Code::PredecessorMissing | Code::Busy | Code::Unavailable) => {}
                Reply::Rejected(code) => return Err(refusal(step, code)),
            }
        }
        Ok(is_stored.iter().take_while(|is_stored| **is_stored).count())
    }
}

fn refusal(step: &Import, code: Code) -> Refusal {
    if code == Code::Conflict {
        Refusal::Conflict(format!("chat {} holds something else than this import", step.chat))
    } else {
        Refusal::Bad(format!("seq {} of chat {} is refused: {}", step.seq, step.chat, text(code)))
    }
}
