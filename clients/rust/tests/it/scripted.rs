//! A WebSocket server whose every frame the test decides.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{ChatId, UserId};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::v1::{self, client_frame, server_frame};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

/// No wait in these tests is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const ME: UserId = UserId([1; 16]);

pub(crate) fn chat() -> ChatId {
    ChatId::draw(0, 1_790_000_000_000, 5)
}

pub(crate) struct Server {
    listener: TcpListener,
}

pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub(crate) token: String,
    pub(crate) resume: Option<v1::Resume>,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        Ok(Self { listener: TcpListener::bind("127.0.0.1:0").await? })
    }

    pub(crate) fn url(&self) -> Result<String> {
        Ok(format!("ws://{}/v1/socket", self.listener.local_addr()?))
    }

    /// Takes the next socket and says hello.
    pub(crate) async fn accept(&self) -> Result<Peer> {
        let (stream, _) = timeout(DEADLINE, self.listener.accept()).await.context("nobody connected")??;
        let (request, socket) = ServerBuilder::new().accept(stream).await?;
        let asked = request.headers().get("sec-websocket-protocol").context("no sub-protocol")?;
        anyhow::ensure!(asked == "heliograph.v1.proto", "asked for {asked:?}");
        let mut peer = Peer { socket, token: String::new(), resume: None };
        let limits = v1::Limits { body_bytes: 64, ..v1::Limits::default() };
        let hello = v1::Hello { heartbeat_ms: 25_000, time_us: 1, limits: Some(limits) };
        peer.say(0, server_frame::Frame::Hello(hello)).await?;
        Ok(peer)
    }

    /// Takes the next socket and signs it in.
    pub(crate) async fn sign_in(&self) -> Result<Peer> {
        self.sign_in_until(0).await
    }

    /// Takes the next socket and signs it in with a token that expires then.
    pub(crate) async fn sign_in_until(&self, expires_us: u64) -> Result<Peer> {
        self.welcome(v1::Welcome { session: 7, expires_us, ..v1::Welcome::default() }).await
    }

    /// Takes the next socket and answers its sign-in with this.
    pub(crate) async fn welcome(&self, welcome: v1::Welcome) -> Result<Peer> {
        let mut peer = self.accept().await?;
        let (id, frame) = peer.hear().await?;
        let client_frame::Frame::Authenticate(authenticate) = frame else { bail!("{frame:?} before authenticate") };
        (peer.token, peer.resume) = (authenticate.token, authenticate.resume);
        let welcome = v1::Welcome { user: ME.to_wire(), partitions: 1, ..welcome };
        peer.say(id, server_frame::Frame::Welcome(welcome)).await?;
        Ok(peer)
    }
}

impl Peer {
    pub(crate) async fn say(&mut self, id: u64, frame: server_frame::Frame) -> Result<()> {
        let frame = v1::ServerFrame { id, frame: Some(frame) };
        Ok(self.socket.send(Message::binary(frame.encode_to_vec())).await?)
    }

    pub(crate) async fn hear(&mut self) -> Result<(u64, client_frame::Frame)> {
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await.context("nothing heard")?.context("closed")??;
            if message.is_binary() {
                let frame = v1::ClientFrame::decode(bytes::Bytes::from(message.into_payload()))?;
                return Ok((frame.id, frame.frame.context("an empty frame")?));
            }
        }
    }

    /// The next command; receipts and history requests in between are left unanswered.
    pub(crate) async fn hear_command(&mut self) -> Result<(u64, v1::Command)> {
        loop {
            if let (id, client_frame::Frame::Command(command)) = self.hear().await? {
                return Ok((id, command));
            }
        }
    }

    pub(crate) async fn hear_history(&mut self) -> Result<(u64, v1::ReadHistory)> {
        loop {
            if let (id, client_frame::Frame::ReadHistory(read)) = self.hear().await? {
                return Ok((id, read));
            }
        }
    }

    pub(crate) async fn store(&mut self, id: u64, command: &v1::Command, seq: u64) -> Result<()> {
        let result = Some(v1::outcome::Result::Stored(v1::Stored { seq, time_us: seq }));
        let outcome = v1::Outcome { chat: command.chat.clone(), origin: command.origin, n: command.n, result };
        self.say(id, server_frame::Frame::Outcome(outcome)).await
    }

    pub(crate) async fn ready(&mut self, head: u64) -> Result<()> {
        self.say(0, server_frame::Frame::Ready(v1::Ready { partition: 0, epoch: 1, as_of: 0 })).await?;
        let heads = vec![v1::Head { chat: chat().to_wire(), head, ..v1::Head::default() }];
        let heads = v1::Heads { partition: 0, heads, last: true, current: true };
        self.say(0, server_frame::Frame::Heads(heads)).await
    }

    pub(crate) async fn push(&mut self, entry: v1::Entry) -> Result<()> {
        self.say(0, server_frame::Frame::Pushed(v1::Pushed { epoch: 1, entry: Some(entry) })).await
    }

    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.socket.send(Message::ping("?")).await?;
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await.context("no pong")?.context("closed")??;
            if message.is_pong() {
                return Ok(());
            }
        }
    }

    pub(crate) async fn close(mut self, code: u16) -> Result<()> {
        Ok(self.socket.send(Message::close(Some(CloseCode::try_from(code)?), "")).await?)
    }
}

pub(crate) fn entry(seq: u64, origin: u64, n: u64) -> v1::Entry {
    let event = v1::entry::Event::MessageSent(v1::MessageSent {
        body: format!("message {seq}").into(),
        ..v1::MessageSent::default()
    });
    let (chat, sender) = (chat().to_wire(), ME.to_wire());
    v1::Entry { chat, seq, ordinal: seq, sender, origin, n, time_us: seq, schema: 1, event: Some(event) }
}
