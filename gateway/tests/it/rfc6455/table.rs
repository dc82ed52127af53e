//! What a case is: what is sent, in which pieces, and what must come back.

use bytes::Bytes;
use gateway::socket::SubProtocol;

use crate::socket::peer::frame;

/// First bytes of frames: FIN and opcode.
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const TEXT_BEGIN: u8 = 0x01;
pub(super) const BINARY_BEGIN: u8 = 0x02;
pub(super) const GO_ON: u8 = 0x00;
pub(super) const LAST: u8 = 0x80;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;

pub(super) const NORMAL: u16 = 1000;
pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const INVALID_TEXT: u16 = 1007;
pub(super) const POLICY_VIOLATION: u16 = 1008;
pub(super) const TOO_BIG: u16 = 1009;

/// One thing that the client does or that must come next from the server.
pub(super) enum Step {
    /// Sent in pieces of this size.
    Send(Bytes, usize),
    /// The next frame, whole and with this first byte and payload.
    Frame(u8, Bytes),
    /// The answer to our close frame, with its code, and nothing behind it.
    Answer(Option<u16>),
    /// The server's own close frame with this code, and nothing behind it.
    Refused(u16),
}

/// A case's steps, in order.
#[derive(Default)]
pub(super) struct Script(Vec<Step>);

/// One row of the table.
pub(super) struct Case {
    pub(super) id: String,
    pub(super) about: String,
    /// Text needs the one, binary the other; control frames are the same on both.
    pub(super) sub_protocol: SubProtocol,
    /// Made when it runs: all large messages at once would be hundreds of megabytes.
    script: Box<dyn Fn() -> Script + Send + Sync>,
}

impl Case {
    pub(super) fn text(id: &str, about: &str, script: impl Fn() -> Script + Send + Sync + 'static) -> Self {
        Self::of(TEXT, id, about, script)
    }

    pub(super) fn binary(id: &str, about: &str, script: impl Fn() -> Script + Send + Sync + 'static) -> Self {
        Self::of(BINARY, id, about, script)
    }

    /// A case that sends messages of the kind that `first` says.
    pub(super) fn of(first: u8, id: &str, about: &str, script: impl Fn() -> Script + Send + Sync + 'static) -> Self {
        let sub_protocol = if first & OPCODE == BINARY & OPCODE { SubProtocol::Proto } else { SubProtocol::Json };
        Self { id: id.to_owned(), about: about.to_owned(), sub_protocol, script: Box::new(script) }
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        (self.script)().0
    }
}

impl Script {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// These frames in one write.
    pub(super) fn send(self, frames: &[Vec<u8>]) -> Self {
        self.send_chopped(usize::MAX, frames)
    }

    /// Each frame in a write of its own.
    pub(super) fn send_each(self, frames: &[Vec<u8>]) -> Self {
        frames.iter().fold(self, |script, frame| script.send(std::slice::from_ref(frame)))
    }

    /// These frames in writes of `size` bytes.
    pub(super) fn send_chopped(self, size: usize, frames: &[Vec<u8>]) -> Self {
        self.then(Step::Send(frames.concat().into(), size))
    }

    /// The three ways in which a stream is cut; what comes back never depends on it.
    pub(super) fn send_cut(self, cut: Cut, frames: &[Vec<u8>]) -> Self {
        match cut {
            Cut::None => self.send(frames),
            Cut::Frames => self.send_each(frames),
            Cut::Bytes => self.send_chopped(1, frames),
        }
    }

    pub(super) fn text(self, payload: impl Into<Bytes>) -> Self {
        self.then(Step::Frame(TEXT, payload.into()))
    }

    pub(super) fn message(self, first: u8, payload: impl Into<Bytes>) -> Self {
        self.then(Step::Frame(first, payload.into()))
    }

    pub(super) fn pong(self, payload: impl Into<Bytes>) -> Self {
        self.then(Step::Frame(PONG, payload.into()))
    }

    /// We close, and nothing but the answer comes back.
    pub(super) fn closes(self) -> Self {
        self.send(&[close(NORMAL)]).answered(Some(NORMAL))
    }

    pub(super) fn answered(self, code: Option<u16>) -> Self {
        self.then(Step::Answer(code))
    }

    pub(super) fn refused(self, code: u16) -> Self {
        self.then(Step::Refused(code))
    }

    /// `count` times the same message, each sent when the one before has come back.
    pub(super) fn round_trips(self, count: usize, first: u8, payload: Vec<u8>) -> Self {
        let (sent, payload) = (Bytes::from(frame(first, &payload)), Bytes::from(payload));
        (0..count).fold(self, |script, _| {
            script.then(Step::Send(sent.clone(), usize::MAX)).then(Step::Frame(first, payload.clone()))
        })
    }
}

/// How a stream is cut into writes.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    None,
    Frames,
    Bytes,
}

pub(super) fn close(code: u16) -> Vec<u8> {
    close_with(code, b"")
}

pub(super) fn close_with(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A message in fragments of `size` bytes; `first` is the first byte of an unfragmented one.
pub(super) fn fragments(first: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size).max(1);
    let parts = (0..count).map(|at| &payload[at * size..payload.len().min((at + 1) * size)]);
    let opcode = |at| if at == 0 { first & OPCODE } else { GO_ON };
    parts.enumerate().map(|(at, part)| frame(opcode(at) | if at + 1 == count { FIN } else { 0 }, part)).collect()
}
