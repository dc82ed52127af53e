//! The handle that callers hold: takes commands into the outbox at once, whether there is a socket or not.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proto::v1::{self, command};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::machine::{Endpoint, EndpointAction, Identity, Kept, Micros, Progress, SendId, Settlement};
use crate::shared::Shared;
use crate::{ChatId, Error, Events, Options, UserId, link};

/// Largest body until a server says otherwise.
pub(crate) const BODY_BYTES: usize = 16 * 1024;

/// A device of one user; cheap to clone. The last one dropped ends it.
#[derive(Clone)]
pub struct Client {
    desk: Arc<Desk>,
    _guard: Arc<DropGuard>,
}

/// What the handles and the socket's task share.
pub(crate) struct Desk {
    pub(crate) options: Options,
    pub(crate) shared: Mutex<Shared>,
    pub(crate) wake: Notify,
    /// An event waits for the caller, or none will follow.
    pub(crate) told: Notify,
    /// The caller took events, so that there may be room again.
    pub(crate) room: Notify,
    pub(crate) ended: CancellationToken,
    birth: Instant,
}

/// A command in the outbox.
#[derive(Debug)]
pub struct Sent {
    /// Names it in events.
    pub id: SendId,
    /// What the server knows it by.
    pub identity: Identity,
    /// Resolves when the server has it in its log, or when it settles without that being said.
    pub accepted: Answer<()>,
    /// Resolves when it settles. A correction from rejected to stored comes as an event only (M13).
    pub outcome: Answer<Settlement>,
}

/// Something that will be answered.
#[derive(Debug)]
pub struct Answer<T>(pub(crate) oneshot::Receiver<T>);

impl<T> Future for Answer<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map_err(|_gone| Error::Ended)
    }
}

impl Desk {
    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.birth.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the endpoint wants done.
    pub(crate) fn act(&self, shared: &mut Shared, actions: Vec<EndpointAction>) {
        shared.act(actions);
        self.told.notify_one();
    }
}

impl Client {
    /// Starts a client: its task connects, and reconnects, until it is closed or told not to come back.
    ///
    /// Must be called within a tokio runtime. Sends may be made at once.
    pub fn connect(options: Options) -> (Self, Events) {
        let mut timeline = options.timeline;
        timeline.receipts = options.receipts;
        let (progress, kept) = (options.progress.clone(), options.kept.clone());
        let bounds = (options.outbox, timeline);
        let endpoint = Endpoint::new(options.rules, bounds, progress, kept, rand::random());
        let ended = CancellationToken::new();
        let desk = Arc::new(Desk {
            shared: Mutex::new(Shared::new(endpoint, options.observer.clone())),
            options,
            wake: Notify::new(),
            told: Notify::new(),
            room: Notify::new(),
            ended: ended.clone(),
            birth: Instant::now(),
        });
        tokio::spawn(link::run(Arc::clone(&desk)));
        let events = Events(Arc::clone(&desk));
        (Self { desk, _guard: Arc::new(ended.drop_guard()) }, events)
    }

    /// Who the server said this is; none before the first welcome.
    pub fn user(&self) -> Option<UserId> {
        self.desk.lock().endpoint.me()
    }

    /// Creates a chat under a fresh id, which the returned identity names.
    ///
    /// `members` are without the creator, who becomes the owner.
    pub fn create_chat(&self, kind: v1::ChatKind, members: Vec<v1::Member>) -> Result<Sent, Error> {
        let partitions = self.desk.lock().endpoint.partitions();
        let partition = u16::try_from(partitions).unwrap_or(4096).min(4096);
        if partition == 0 {
            return Err(Error::NotSignedIn);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or_default();
        let chat = ChatId::draw(rand::random_range(0..partition), unix_ms, rand::random());
        self.create_chat_as(chat, kind, members)
    }

    /// Creates a chat under an id that the caller drew.
    pub fn create_chat_as(&self, chat: ChatId, kind: v1::ChatKind, members: Vec<v1::Member>) -> Result<Sent, Error> {
        self.submit(chat, command::Action::CreateChat(v1::CreateChat { kind: kind.into(), members }))
    }

    /// Sends a message; it is in the outbox when this returns.
    pub fn send(&self, chat: ChatId, body: impl Into<Bytes>) -> Result<Sent, Error> {
        self.send_message(chat, v1::SendMessage { body: body.into(), ..v1::SendMessage::default() })
    }

    /// Sends a message that answers another one, or names users; as [`Client::send`].
    pub fn send_message(&self, chat: ChatId, message: v1::SendMessage) -> Result<Sent, Error> {
        self.fits(&message.body)?;
        self.submit(chat, command::Action::SendMessage(message))
    }

    /// Says something else in the place of the own message at `seq`.
    pub fn edit(&self, chat: ChatId, seq: u64, body: impl Into<Bytes>) -> Result<Sent, Error> {
        let body = body.into();
        self.fits(&body)?;
        self.submit(chat, command::Action::EditMessage(v1::EditMessage { seq, body }))
    }

    /// Takes the message at `seq` back: an own one, or any where this user is an owner or admin.
    pub fn delete(&self, chat: ChatId, seq: u64) -> Result<Sent, Error> {
        self.submit(chat, command::Action::DeleteMessage(v1::DeleteMessage { seq }))
    }

    /// Sets this user's reaction to the message at `seq`; an empty one takes it away.
    pub fn react(&self, chat: ChatId, seq: u64, reaction: impl Into<String>) -> Result<Sent, Error> {
        self.submit(chat, command::Action::React(v1::React { seq, reaction: reaction.into() }))
    }

    /// Pins the message at `seq` for everybody.
    pub fn pin(&self, chat: ChatId, seq: u64) -> Result<Sent, Error> {
        self.submit(chat, command::Action::PinMessage(v1::PinMessage { seq, unpin: false }))
    }

    /// Takes the pin of the message at `seq` away.
    pub fn unpin(&self, chat: ChatId, seq: u64) -> Result<Sent, Error> {
        self.submit(chat, command::Action::PinMessage(v1::PinMessage { seq, unpin: true }))
    }

    fn fits(&self, body: &Bytes) -> Result<(), Error> {
        let (bytes, limit) = (body.len(), self.desk.lock().body_bytes);
        if bytes > limit { Err(Error::BodyTooLarge { bytes, limit }) } else { Ok(()) }
    }

    /// Adds a member.
    pub fn add_member(&self, chat: ChatId, user: UserId, role: v1::Role) -> Result<Sent, Error> {
        let member = Some(v1::Member { user: user.to_wire(), role: role.into() });
        self.submit(chat, command::Action::AddMember(v1::AddMember { member }))
    }

    /// Removes a member.
    pub fn remove_member(&self, chat: ChatId, user: UserId) -> Result<Sent, Error> {
        self.submit(chat, command::Action::RemoveMember(v1::RemoveMember { user: user.to_wire() }))
    }

    /// Gives a member another role.
    pub fn set_role(&self, chat: ChatId, user: UserId, role: v1::Role) -> Result<Sent, Error> {
        self.submit(chat, command::Action::SetRole(v1::SetRole { user: user.to_wire(), role: role.into() }))
    }

    /// Gives the chat another name; an empty one takes it away.
    pub fn rename_chat(&self, chat: ChatId, name: impl Into<String>) -> Result<Sent, Error> {
        self.submit(chat, command::Action::RenameChat(v1::RenameChat { name: name.into() }))
    }

    /// Changes what holds in the chat; what is not set in `change` stays.
    pub fn set_policy(&self, chat: ChatId, change: v1::ChatPolicy) -> Result<Sent, Error> {
        self.submit(chat, command::Action::SetChatPolicy(v1::SetChatPolicy { change: Some(change) }))
    }

    /// Makes another member an owner in this user's place, who is an admin from then on.
    pub fn transfer_ownership(&self, chat: ChatId, user: UserId) -> Result<Sent, Error> {
        self.submit(chat, command::Action::TransferOwnership(v1::TransferOwnership { user: user.to_wire() }))
    }

    /// Leaves the chat.
    pub fn leave(&self, chat: ChatId) -> Result<Sent, Error> {
        self.submit(chat, command::Action::LeaveChat(v1::LeaveChat {}))
    }

    /// The user read the chat up to here.
    pub fn seen(&self, chat: ChatId, through: u64) {
        self.with_endpoint(|endpoint, now, actions| endpoint.seen(now, chat, through, actions));
    }

    /// Everything up to here reached the device; needed only where receipts are not automatic.
    pub fn received(&self, chat: ChatId, through: u64) {
        self.with_endpoint(|endpoint, now, actions| endpoint.received(now, chat, through, actions));
    }

    /// Reads a page of history; fails when there is no socket or it ends.
    pub async fn history(&self, chat: ChatId, after: u64, limit: u32, at_least: u64) -> Result<v1::History, Error> {
        let (answer, answered) = oneshot::channel();
        {
            let mut shared = self.desk.lock();
            if self.desk.ended.is_cancelled() {
                return Err(Error::Ended);
            }
            if !shared.signed_in {
                return Err(Error::Disconnected);
            }
            let mut actions = Vec::new();
            let id = shared.endpoint.read_history(chat, after, limit, at_least, &mut actions);
            shared.readers.insert(id, answer);
            self.desk.act(&mut shared, actions);
        }
        self.desk.wake.notify_one();
        answered.await.map_err(|_gone| Error::Disconnected)?.map_err(Error::Refused)
    }

    /// The seq up to which the chat is known without a hole.
    pub fn known(&self, chat: ChatId) -> u64 {
        self.desk.lock().endpoint.timeline.known(chat)
    }

    /// How many commands are unsettled.
    pub fn unsettled(&self) -> usize {
        self.desk.lock().endpoint.outbox.len()
    }

    /// Where this client stands, for the next run; an older state serves as well, for that run is told more again.
    ///
    /// Counts only those entries that were taken from [`Events`].
    pub fn state(&self) -> (Progress, Kept) {
        let shared = self.desk.lock();
        (shared.progress(), shared.endpoint.outbox.kept())
    }

    /// Cuts the socket as a lost network does; the client comes back on its own.
    pub fn cut(&self) {
        self.desk.lock().cut = true;
        self.desk.wake.notify_one();
    }

    /// Ends the client; what is unsettled stays in [`Client::state`], what was told in [`Events`].
    pub fn close(&self) {
        self.desk.ended.cancel();
    }

    fn submit(&self, chat: ChatId, action: command::Action) -> Result<Sent, Error> {
        let sent = {
            let now = self.desk.now();
            let mut shared = self.desk.lock();
            if self.desk.ended.is_cancelled() {
                return Err(Error::Ended);
            }
            let mut actions = Vec::new();
            let (id, identity) = shared.endpoint.submit(now, chat, action, &mut actions)?;
            let sent = shared.wait_for(id, identity);
            self.desk.act(&mut shared, actions);
            sent
        };
        self.desk.wake.notify_one();
        Ok(sent)
    }

    fn with_endpoint(&self, call: impl FnOnce(&mut Endpoint, Micros, &mut Vec<EndpointAction>)) {
        {
            let now = self.desk.now();
            let mut shared = self.desk.lock();
            let mut actions = Vec::new();
            call(&mut shared.endpoint, now, &mut actions);
            self.desk.act(&mut shared, actions);
        }
        self.desk.wake.notify_one();
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("options", &self.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.desk.options).finish_non_exhaustive()
    }
}
