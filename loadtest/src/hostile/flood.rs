//! Signed-in sockets that send more than they may, read what they are told, and go on until they are closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use client::Options;
use domain::UserId;
use gateway::socket::CloseCode;
use proto::v1::{self, client_frame, command};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::tally::Tally;
use super::{COMES_BACK_AFTER, Kind, turn, until_closed};
use crate::stuck::open_group;
use crate::target::Door;
use crate::wire::{self, Place, Way};

/// Between two writes of a socket; one that is late sends no more for it.
const EVERY: Duration = Duration::from_millis(20);
/// One less than a message may have.
const FRAGMENTS_A_MESSAGE: u32 = 127;

/// So many messages as a few users' sockets send: twice what they are closed for, eight times what they may.
pub(super) const MESSAGES: Flood = Flood {
    kind: Kind::Messages,
    users: 2,
    sockets_each: 3,
    at_once: 16,
    what: What::Message { body_bytes: 32 },
    ends_with: CloseCode::RateLimited,
};

/// Large messages, of which fewer come than frames are allowed.
pub(super) const BYTES: Flood = Flood {
    kind: Kind::Bytes,
    users: 1,
    sockets_each: 2,
    at_once: 3,
    what: What::Message { body_bytes: 15_000 },
    ends_with: CloseCode::RateLimited,
};

/// Control frames.
pub(super) const PINGS: Flood = Flood {
    kind: Kind::Pings,
    users: 8,
    sockets_each: 1,
    at_once: 2,
    what: What::Ping,
    ends_with: CloseCode::PolicyViolation,
};

/// Fragments of messages none of which has too many.
pub(super) const FRAGMENTS: Flood = Flood { kind: Kind::Fragments, what: What::Fragment, ..PINGS };

/// One kind of flood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    kind: Kind,
    users: usize,
    sockets_each: usize,
    /// What is sent every [`EVERY`].
    at_once: u32,
    what: What,
    ends_with: CloseCode,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A message to a group of the sender's own, which is stored if it is let through.
    Message {
        body_bytes: usize,
    },
    Ping,
    Fragment,
}

impl Flood {
    pub(super) fn start(&self, door: &Door, tally: &Arc<Tally>, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        for number in 0..self.users {
            let token = door.token(UserId::new(rand::random()))?;
            let (flood, address, tally) = (*self, door.address, Arc::clone(tally));
            tasks.spawn(async move {
                let chat = match flood.what {
                    What::Message { .. } => group(address, &token).await?,
                    What::Ping | What::Fragment => Bytes::new(),
                };
                let (token, chat, tally) = (&token, &chat, &tally);
                let of_user = (0..flood.sockets_each).map(async |socket| {
                    let of_all = number * flood.sockets_each + socket;
                    turn(of_all, flood.users * flood.sockets_each).await;
                    let device = format!("flood {socket}");
                    loop {
                        let closed = flood.pour(address, number, token, &device, chat).await;
                        if closed.is_ok_and(|code| code == flood.ends_with.number()) {
                            tally.met(flood.kind);
                        }
                        sleep(COMES_BACK_AFTER).await;
                    }
                });
                futures_util::future::join_all(of_user).await;
                Ok(())
            });
        }
        Ok(())
    }

    /// Floods one socket until it is closed; its close code.
    async fn pour(&self, address: SocketAddr, user: usize, token: &str, device: &str, chat: &Bytes) -> Result<u16> {
        let way: Way = self.kind.way(user);
        let (mut stream, read) = way.connect(address).await?;
        let mut out = Vec::new();
        wire::put_authenticate(token.to_owned(), device, None, &mut out);
        stream.write_all(&out).await?;
        let (mut input, mut output) = stream.split();
        let source = Source { what: self.what, chat: chat.clone(), origin: rand::random::<u64>() | 1, number: 0 };
        tokio::select! {
            code = until_closed(&mut input, read) => code,
            () = send(source, self.at_once, &mut output) => std::future::pending().await,
        }
    }
}

/// Sends for as long as the socket takes it.
async fn send(mut source: Source, at_once: u32, output: &mut (impl AsyncWrite + Unpin)) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = Vec::new();
    loop {
        ticks.tick().await;
        out.clear();
        (0..at_once).for_each(|_| source.put(&mut out));
        if output.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// A group of one's own; whoever opens it comes from nowhere in particular.
async fn group(address: SocketAddr, token: &str) -> Result<Bytes> {
    let options = Options::new(format!("ws://{address}/v1/socket"), token.to_owned(), "opens a group");
    let (_client, _events, chat) = open_group(options, None).await?;
    Ok(Bytes::copy_from_slice(&chat.0))
}

/// What one socket sends next.
struct Source {
    what: What,
    chat: Bytes,
    origin: u64,
    /// Of what was sent last.
    number: u64,
}

impl Source {
    fn put(&mut self, out: &mut Vec<u8>) {
        self.number += 1;
        match self.what {
            What::Ping => wire::put_ping(out),
            What::Fragment => wire::put_fragment(self.place(), out),
            What::Message { body_bytes } => {
                // Says that nothing is unsettled and all is known, so that whatever is let through is stored.
                let wire = v1::Command {
                    chat: self.chat.clone(),
                    origin: self.origin,
                    n: self.number,
                    after: 0,
                    basis: u64::MAX,
                    action: Some(command::Action::SendMessage(v1::SendMessage {
                        body: vec![7; body_bytes].into(),
                        ..v1::SendMessage::default()
                    })),
                };
                let frame = client_frame::Frame::Command(wire);
                wire::put_binary(&v1::ClientFrame { id: self.number + 1, frame: Some(frame) }, out);
            }
        }
    }

    fn place(&self) -> Place {
        match self.number % u64::from(FRAGMENTS_A_MESSAGE) {
            1 => Place::First,
            0 => Place::Last,
            _ => Place::Between,
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway::limits::{ClientLimits, Rate};

    use super::*;

    /// What a socket sends in a second.
    fn per_s(flood: &Flood) -> u32 {
        flood.at_once * (1_000 / EVERY.as_millis() as u32)
    }

    fn bytes_per_s(flood: &Flood) -> u32 {
        let mut out = Vec::new();
        source(flood.what).put(&mut out);
        per_s(flood) * out.len() as u32
    }

    fn source(what: What) -> Source {
        Source { what, chat: vec![0; 16].into(), origin: 1, number: 0 }
    }

    fn is_a_few_times(sent: u32, limit: Rate, times: u32) -> bool {
        (2 * times * limit.per_s..=5 * times * limit.per_s).contains(&sent)
    }

    #[test]
    fn each_flood_is_a_few_times_over_the_limit_that_it_is_there_for_and_over_no_other() {
        let limits = ClientLimits::default();
        let ends_at = limits.flood_factor;
        assert!(is_a_few_times(per_s(&MESSAGES), limits.socket_frames, ends_at));
        assert!(bytes_per_s(&MESSAGES) < limits.socket_bytes.per_s);
        assert!(is_a_few_times(bytes_per_s(&BYTES), limits.socket_bytes, ends_at));
        for flood in [PINGS, FRAGMENTS] {
            assert!(is_a_few_times(per_s(&flood), limits.socket_extra_frames, 1));
        }
        // It is closed for its bytes before it has sent as many messages as it may.
        let bytes = limits.socket_bytes;
        let seconds = f64::from(ends_at * bytes.burst) / f64::from(bytes_per_s(&BYTES) - ends_at * bytes.per_s);
        assert!(seconds * f64::from(per_s(&BYTES)) < f64::from(limits.socket_frames.burst), "{seconds}");
    }

    #[test]
    fn fragments_make_whole_messages() {
        let mut source = source(What::Fragment);
        let mut out = Vec::new();
        (0..2 * FRAGMENTS_A_MESSAGE).for_each(|_| source.put(&mut out));
        let kinds: Vec<u8> = out.chunks(6).map(|frame| frame[0]).collect();
        let message = [vec![0x02], vec![0x00; 125], vec![0x80]].concat();
        assert_eq!(kinds, [message.clone(), message].concat());
    }
}
