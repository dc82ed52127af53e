//! One socket's turn: read all that came, account for it, send what became possible.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;
use proto::v1::entry::Event;
use proto::v1::outcome::Result as Decided;
use proto::v1::server_frame::Frame;
use proto::v1::{self, client_frame, command};
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;

use super::account::Account;
use super::{Fleet, body, lock, request};
use crate::wire::{self, Incoming};

/// Room for one read.
const READ_BYTES: usize = 32 << 10;

impl Fleet {
    /// Serves one socket until it ends, which is a failure.
    pub(super) async fn serve(&self, at: usize, mut input: OwnedReadHalf, mut read: BytesMut) -> Result<()> {
        let socket = self.socket(at)?;
        let mut touched = Vec::new();
        loop {
            while let Some(incoming) = wire::next(&mut read)? {
                match incoming {
                    Incoming::Binary(payload) => self.frame(at, payload, &mut touched)?,
                    Incoming::Ping(payload) => {
                        wire::put_pong(&payload, &mut lock(&socket.out));
                        touched.push(at);
                    }
                    Incoming::Close(code) => bail!("closed with {code}"),
                    Incoming::Pong => {}
                }
            }
            self.flush_all(&mut touched)?;
            read.reserve(READ_BYTES);
            tokio::select! {
                // A read that took all spares the one that would find nothing.
                count = input.read_buf(&mut read) => if count? == 0 { bail!("closed without a word") },
                () = socket.blocked.notified() => {
                    socket.stream.writable().await?;
                    self.flush(at)?;
                }
            }
        }
    }

    fn frame(&self, at: usize, payload: Bytes, touched: &mut Vec<usize>) -> Result<()> {
        let v1::ServerFrame { id, frame } = v1::ServerFrame::decode(payload)?;
        match frame.context("a frame of an unknown kind")? {
            Frame::Outcome(outcome) => self.outcome(id, &outcome, touched),
            Frame::Pushed(v1::Pushed { entry: Some(entry), .. }) => self.pushed(at, &entry, touched),
            Frame::Ready(_) => {
                self.socket(at)?.ready.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Frame::Error(error) => bail!("request {id:x} was refused: {} {}", error.code, error.text),
            Frame::Closing(_) => bail!("the gateway is closing"),
            Frame::Accepted(_) => self.accepted(id),
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Renewed(_)
            | Frame::History(_)
            | Frame::Heads(_)
            | Frame::Pushed(_)
            | Frame::Watermark(_) => Ok(()),
        }
    }

    fn accepted(&self, id: u64) -> Result<()> {
        let at = usize::try_from(id >> 32)?.checked_sub(1).context("accepted: nothing")?;
        let account = lock(&self.chats.get(at).context("accepted: of no chat")?.account);
        let n = id & u64::from(u32::MAX);
        // Its outcome may have come before.
        let place = n.checked_sub(account.stored + 1).and_then(|place| usize::try_from(place).ok());
        if let Some(due) = place.and_then(|place| account.under_way.get(place)) {
            self.progress.note_accepted(*due, self.now());
        }
        Ok(())
    }

    fn outcome(&self, id: u64, outcome: &v1::Outcome, touched: &mut Vec<usize>) -> Result<()> {
        let Some(Decided::Stored(stored)) = &outcome.result else { bail!("command {id:x} came to {outcome:?}") };
        let at = usize::try_from(id >> 32)?.checked_sub(1).context("an outcome of nothing")?;
        let chat = self.chats.get(at).context("an outcome of no chat")?;
        if chat.id != outcome.chat {
            bail!("chat {at} is another one already");
        }
        let mut account = lock(&chat.account);
        account.head = stored.seq;
        if outcome.n == 0 {
            self.progress.note_opened();
            return Ok(());
        }
        account.stored += 1;
        if outcome.n != account.stored || stored.seq != account.stored + 1 {
            bail!("message {} of chat {at} became {}, after {}", outcome.n, stored.seq, account.stored - 1);
        }
        let due = account.under_way.pop_front().context("stored and never sent")?;
        self.progress.note_stored(due, self.now());
        self.pump(at, &mut account, touched)
    }

    fn pushed(&self, at: usize, entry: &v1::Entry, touched: &mut Vec<usize>) -> Result<()> {
        let number = *self.by_id.get(&entry.chat).context("an entry of no chat")?;
        let chat = self.chats.get(number).context("an entry of no chat")?;
        if chat.recipient != at {
            return Ok(());
        }
        let mut account = lock(&chat.account);
        if entry.seq != account.recipient_seq + 1 {
            bail!("chat {number} went from {} to {}", account.recipient_seq, entry.seq);
        }
        account.recipient_seq = entry.seq;
        let Some(Event::MessageSent(message)) = &entry.event else { return Ok(()) };
        account.received += 1;
        let due = message.body.as_ref().try_get_u64()?;
        self.progress.note_received(due, self.now());
        self.pump(number, &mut account, touched)
    }

    /// Sends what the chat's window takes.
    pub(super) fn pump(&self, at: usize, account: &mut Account, touched: &mut Vec<usize>) -> Result<()> {
        let chat = self.chats.get(at).context("no such chat")?;
        let window = self.window.load(Ordering::Relaxed);
        while account.open() < window {
            let due = match account.backlog.pop_front() {
                Some(due) => due,
                None if self.greedy.load(Ordering::Relaxed) => self.now(),
                None => break,
            };
            let sender = self.socket(chat.sender)?;
            account.sent += 1;
            let n = account.sent;
            account.under_way.push_back(due);
            let wire = v1::Command {
                chat: chat.id.clone(),
                origin: sender.origin,
                n,
                // Outcomes come in the order of n: whatever is not stored ends right below this one.
                after: if account.stored + 1 < n { n - 1 } else { 0 },
                basis: account.head,
                action: Some(command::Action::SendMessage(v1::SendMessage {
                    body: body(due),
                    ..v1::SendMessage::default()
                })),
            };
            let frame = v1::ClientFrame { id: request(at, n), frame: Some(client_frame::Frame::Command(wire)) };
            wire::put_binary(&frame, &mut lock(&sender.out));
            self.progress.note_sent();
            if !touched.contains(&chat.sender) {
                touched.push(chat.sender);
            }
        }
        Ok(())
    }

    pub(super) fn flush_all(&self, touched: &mut Vec<usize>) -> Result<()> {
        touched.drain(..).try_for_each(|at| self.flush(at))
    }

    /// Gives the kernel what waits; the rest goes when it takes more.
    pub(super) fn flush(&self, at: usize) -> Result<()> {
        let socket = self.socket(at)?;
        let mut out = lock(&socket.out);
        while !out.is_empty() {
            match socket.stream.try_write(&out) {
                Ok(written) if written == out.len() => out.clear(),
                Ok(written) => {
                    out.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    socket.blocked.notify_one();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
