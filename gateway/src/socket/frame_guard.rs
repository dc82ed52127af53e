//! The frame guard: sees every byte of a client first and lets only whole, valid frames through.
//!
//! It owns framing: it checks each header (RFC 6455 §5), bounds a frame before anything is allocated for it,
//! joins fragments and checks text. It never reads a socket: bytes go in as they come, in any split, and
//! messages and control frames come out. It holds memory only while a frame or a fragmented message is
//! in flight.
//!
//! fastwebsockets does the handshake and carries each admitted frame: the payload moves, without a copy, into
//! its `Frame`, which unmasks it in place. Its reader is not used: `WebSocket::read_frame` over a cursor
//! would cost an 8 KiB buffer and a second copy for each frame.

use bytes::{Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload};

use super::close::{CloseCode, PeerClose, may_be_received};

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;
/// Two bytes, eight of length, four of mask.
const HEAD_BYTES: usize = 14;

/// What one client message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes, its fragments summed.
    pub message_bytes: u32,
    /// Most frames that one message may come in.
    pub fragments: u32,
}

/// What a message was sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, already checked.
    Text,
    /// Any bytes.
    Binary,
}

/// One whole message, its fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Text or binary.
    pub kind: Kind,
    /// The unmasked payload.
    pub payload: Bytes,
}

/// What the guard let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message(Message),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The peer's close frame: nothing is accepted after it.
    Close(PeerClose),
}

/// Why the guard refused a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A reserved bit is set though no extension was negotiated.
    #[error("reserved bits set")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client frame without a mask.
    #[error("frame not masked")]
    Unmasked,
    /// A control frame without FIN.
    #[error("control frame fragmented")]
    ControlFragmented,
    /// A control frame over 125 bytes.
    #[error("control frame too long")]
    ControlTooLong,
    /// A length in more bytes than it needs.
    #[error("length not minimal")]
    LengthNotMinimal,
    /// A length with its highest bit set.
    #[error("length over 63 bits")]
    LengthOver63Bits,
    /// A continuation without a message to continue.
    #[error("continuation of nothing")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one.
    #[error("new message inside a fragmented one")]
    MessageInterrupted,
    /// A message over the limit.
    #[error("message too big")]
    TooBig,
    /// A message in more frames than allowed.
    #[error("too many fragments")]
    TooManyFragments,
    /// A text message that is not UTF-8.
    #[error("text is not utf-8")]
    TextNotUtf8,
    /// A close payload of one byte.
    #[error("close frame of one byte")]
    CloseTooShort,
    /// A close code that may not be sent.
    #[error("close code not allowed")]
    CloseCodeInvalid,
    /// A close reason that is not UTF-8.
    #[error("close reason is not utf-8")]
    CloseReasonNotUtf8,
}

impl Fault {
    /// The code that the server closes with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::TooBig => CloseCode::TooBig,
            Self::TooManyFragments => CloseCode::PolicyViolation,
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => CloseCode::InvalidText,
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthOver63Bits
            | Self::UnexpectedContinuation
            | Self::MessageInterrupted
            | Self::CloseTooShort
            | Self::CloseCodeInvalid => CloseCode::ProtocolError,
        }
    }

    /// The label on the counter of refused frames.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthOver63Bits => "length_over_63_bits",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::MessageInterrupted => "message_interrupted",
            Self::TooBig => "too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::TextNotUtf8 => "text_not_utf8",
            Self::CloseTooShort => "close_too_short",
            Self::CloseCodeInvalid => "close_code_invalid",
            Self::CloseReasonNotUtf8 => "close_reason_not_utf8",
        }
    }
}

/// The frame being received: its header is checked, its payload is not whole.
struct Incoming {
    fin: bool,
    opcode: OpCode,
    mask: [u8; MASK_BYTES],
    bytes: usize,
    payload: BytesMut,
}

/// The fragmented message being joined.
struct Joined {
    kind: Kind,
    frames: u32,
    payload: BytesMut,
    /// How much of a text payload is known to be UTF-8.
    checked: usize,
}

/// Checks and joins the frames of one client.
pub struct FrameGuard {
    limits: Limits,
    head: [u8; HEAD_BYTES],
    head_len: u8,
    incoming: Option<Incoming>,
    joined: Option<Box<Joined>>,
    extra_frames: u32,
    done: bool,
}

impl std::fmt::Debug for FrameGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameGuard").field("limits", &self.limits).field("done", &self.done).finish_non_exhaustive()
    }
}

impl FrameGuard {
    /// A guard at the first byte after the handshake.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, head: [0; HEAD_BYTES], head_len: 0, incoming: None, joined: None, extra_frames: 0, done: false }
    }

    /// Sets the limits for every header that is not checked yet.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether no frame and no message is in flight, so that the guard holds no memory.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.head_len == 0 && self.incoming.is_none() && self.joined.is_none()
    }

    /// Whether a fault or the peer's close frame was seen: nothing will pass any more.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Frames since the last call that were no whole message: control frames and fragments.
    pub const fn take_extra_frames(&mut self) -> u32 {
        std::mem::replace(&mut self.extra_frames, 0)
    }

    /// Bytes that the guard holds for what is in flight.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.incoming.as_ref().map_or(0, |frame| frame.payload.capacity())
            + self.joined.as_ref().map_or(0, |message| message.payload.capacity())
    }

    /// Takes bytes off `input` up to the next event; `None` means that all were taken.
    ///
    /// After a fault or the peer's close frame all further bytes are discarded.
    ///
    /// # Errors
    /// The fault of the first frame that may not pass.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Fault> {
        if self.done {
            *input = &[];
            return Ok(None);
        }
        let step = self.step(input);
        if matches!(step, Err(_) | Ok(Some(Event::Close(_)))) {
            self.done = true;
            self.head_len = 0;
            self.incoming = None;
            self.joined = None;
        }
        step
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Fault> {
        loop {
            if self.incoming.is_none() {
                match self.take_head(input)? {
                    Some(incoming) => self.incoming = Some(incoming),
                    None => return Ok(None),
                }
            }
            if let Some(frame) = self.take_payload(input)
                && let Some(event) = self.admit(frame)?
            {
                return Ok(Some(event));
            } else if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Takes header bytes one stage at a time, so that a fault does not depend on how the bytes were split.
    fn take_head(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Fault> {
        if !self.fill_head(input, 2) {
            return Ok(None);
        }
        let (first, second) = (self.head[0], self.head[1]);
        let fin = first & FIN != 0;
        let opcode = self.check_start(first, second)?;
        let length_bytes = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.fill_head(input, 2 + length_bytes) {
            return Ok(None);
        }
        let length = self.length(length_bytes)?;
        let bytes = self.check_size(opcode, length)?;
        if !self.fill_head(input, 2 + length_bytes + MASK_BYTES) {
            return Ok(None);
        }
        let mut mask = [0; MASK_BYTES];
        mask.copy_from_slice(&self.head[2 + length_bytes..][..MASK_BYTES]);
        self.head_len = 0;
        Ok(Some(Incoming { fin, opcode, mask, bytes, payload: BytesMut::new() }))
    }

    fn fill_head(&mut self, input: &mut &[u8], upto: usize) -> bool {
        let have = usize::from(self.head_len);
        if have >= upto {
            return true;
        }
        let taken = (upto - have).min(input.len());
        let (now, later) = input.split_at(taken);
        self.head[have..have + taken].copy_from_slice(now);
        *input = later;
        self.head_len += taken as u8;
        have + taken == upto
    }

    fn check_start(&self, first: u8, second: u8) -> Result<OpCode, Fault> {
        if first & RESERVED != 0 {
            return Err(Fault::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0x0 => OpCode::Continuation,
            0x1 => OpCode::Text,
            0x2 => OpCode::Binary,
            0x8 => OpCode::Close,
            0x9 => OpCode::Ping,
            0xa => OpCode::Pong,
            _ => return Err(Fault::ReservedOpcode),
        };
        if second & MASKED == 0 {
            return Err(Fault::Unmasked);
        }
        match opcode {
            OpCode::Close | OpCode::Ping | OpCode::Pong => {
                if first & FIN == 0 {
                    return Err(Fault::ControlFragmented);
                }
                if usize::from(second & !MASKED) > CONTROL_BYTES {
                    return Err(Fault::ControlTooLong);
                }
            }
            OpCode::Continuation => match &self.joined {
                None => return Err(Fault::UnexpectedContinuation),
                Some(message) if message.frames >= self.limits.fragments => {
                    return Err(Fault::TooManyFragments);
                }
                Some(_) => {}
            },
            OpCode::Text | OpCode::Binary => {
                if self.joined.is_some() {
                    return Err(Fault::MessageInterrupted);
                }
            }
        }
        Ok(opcode)
    }

    fn length(&self, length_bytes: usize) -> Result<u64, Fault> {
        let mut length = 0;
        for byte in &self.head[2..2 + length_bytes] {
            length = length << 8 | u64::from(*byte);
        }
        match length_bytes {
            0 => Ok(u64::from(self.head[1] & !MASKED)),
            2 if length < 126 => Err(Fault::LengthNotMinimal),
            8 if length >> 63 != 0 => Err(Fault::LengthOver63Bits),
            8 if length <= u64::from(u16::MAX) => Err(Fault::LengthNotMinimal),
            _ => Ok(length),
        }
    }

    /// Bounds the frame, and the message that it belongs to, before anything is allocated (X14).
    fn check_size(&self, opcode: OpCode, length: u64) -> Result<usize, Fault> {
        let joined = match opcode {
            OpCode::Continuation => self.joined.as_ref().map_or(0, |message| message.payload.len()),
            OpCode::Text | OpCode::Binary | OpCode::Close | OpCode::Ping | OpCode::Pong => 0,
        };
        let is_data = matches!(opcode, OpCode::Continuation | OpCode::Text | OpCode::Binary);
        if is_data && length.saturating_add(joined as u64) > u64::from(self.limits.message_bytes) {
            return Err(Fault::TooBig);
        }
        usize::try_from(length).map_err(|_too_big| Fault::TooBig)
    }

    /// Takes payload bytes; the frame once it is whole.
    fn take_payload(&mut self, input: &mut &[u8]) -> Option<Incoming> {
        let incoming = self.incoming.as_mut()?;
        let missing = incoming.bytes - incoming.payload.len();
        let taken = missing.min(input.len());
        if incoming.payload.capacity() - incoming.payload.len() < taken {
            // Memory follows what has come, never what a header claims: at most twice the received bytes.
            incoming.payload.reserve(taken.max(incoming.payload.len()).min(missing));
        }
        let (now, later) = input.split_at(taken);
        incoming.payload.extend_from_slice(now);
        *input = later;
        if taken == missing { self.incoming.take() } else { None }
    }

    /// Hands the whole frame to the crate to unmask, then joins or emits it.
    fn admit(&mut self, incoming: Incoming) -> Result<Option<Event>, Fault> {
        let Incoming { fin, opcode, mask, payload, .. } = incoming;
        let payload = unmask(fin, opcode, mask, payload);
        if !(fin && matches!(opcode, OpCode::Text | OpCode::Binary)) {
            self.extra_frames = self.extra_frames.saturating_add(1);
        }
        match opcode {
            OpCode::Ping => Ok(Some(Event::Ping(payload.freeze()))),
            OpCode::Pong => Ok(Some(Event::Pong)),
            OpCode::Close => close_event(&payload).map(Some),
            OpCode::Text => self.start(Kind::Text, fin, payload),
            OpCode::Binary => self.start(Kind::Binary, fin, payload),
            OpCode::Continuation => self.go_on(fin, &payload),
        }
    }

    fn start(&mut self, kind: Kind, fin: bool, payload: BytesMut) -> Result<Option<Event>, Fault> {
        let mut message = Joined { kind, frames: 1, payload, checked: 0 };
        message.check_text(fin)?;
        if fin {
            return Ok(Some(message.into_event()));
        }
        self.joined = Some(Box::new(message));
        Ok(None)
    }

    fn go_on(&mut self, fin: bool, payload: &[u8]) -> Result<Option<Event>, Fault> {
        let Some(message) = self.joined.as_mut() else {
            return Err(Fault::UnexpectedContinuation);
        };
        message.frames += 1;
        message.payload.extend_from_slice(payload);
        message.check_text(fin)?;
        if !fin {
            return Ok(None);
        }
        Ok(self.joined.take().map(|message| message.into_event()))
    }
}

impl Joined {
    /// Checks what has not been checked yet; a character may still be open unless this is the end.
    fn check_text(&mut self, end: bool) -> Result<(), Fault> {
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(open) if open.error_len().is_none() && !end => self.checked += open.valid_up_to(),
            Err(_) => return Err(Fault::TextNotUtf8),
        }
        Ok(())
    }

    fn into_event(self) -> Event {
        Event::Message(Message { kind: self.kind, payload: self.payload.freeze() })
    }
}

fn unmask(fin: bool, opcode: OpCode, mask: [u8; MASK_BYTES], payload: BytesMut) -> BytesMut {
    let mut frame = Frame::new(fin, opcode, Some(mask), Payload::Bytes(payload));
    frame.unmask();
    match frame.payload {
        Payload::Bytes(payload) => payload,
        // The crate gives back the variant that it got; anything else would only cost a copy.
        other @ (Payload::Borrowed(_) | Payload::BorrowedMut(_) | Payload::Owned(_)) => BytesMut::from(&other[..]),
    }
}

fn close_event(payload: &[u8]) -> Result<Event, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(Event::Close(PeerClose::default())),
        [_] => return Err(Fault::CloseTooShort),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !may_be_received(code) {
        return Err(Fault::CloseCodeInvalid);
    }
    let Ok(reason) = std::str::from_utf8(reason) else {
        return Err(Fault::CloseReasonNotUtf8);
    };
    Ok(Event::Close(PeerClose { code: Some(code), reason: reason.into() }))
}

#[cfg(test)]
#[path = "frame_guard_tests.rs"]
mod tests;
