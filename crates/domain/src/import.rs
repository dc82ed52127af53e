//! Imports: an operator brings in a chat with a history that was written elsewhere, at the times that it has.
//!
//! ```text
//! begin (seq 1) → message (2, 3 …) → end: the members come in
//! ```
//! Each step names the seq of the entry that it makes, so a step that is repeated makes nothing, and one that is lost
//! leaves no hole. No client can send one: these are no [`Command`](crate::Command)s, and no frame has room for them.

use bytes::Bytes;
use proto::log;

use crate::chat::Decision;
use crate::limits::{BODY_BYTES_MAX, MEMBERS_MAX};
use crate::{Chat, ChatId, ChatKind, Code, Entry, Event, ImportId, Member, Message, Micros, Origin, Role, Seq, UserId};

/// One step of an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// The chat that it makes.
    pub chat: ChatId,
    /// Which import; all steps of a chat name the same.
    pub import: ImportId,
    /// Whose entry it makes: who opened the chat, or said this.
    pub sender: UserId,
    /// The seq of the entry that it makes.
    pub seq: Seq,
    /// What the entry holds.
    pub step: Step,
}

/// What an import's entry holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The chat, seen by nobody.
    Begin {
        /// Direct, group or channel.
        kind: ChatKind,
        /// When it was opened.
        time: Micros,
    },
    /// What somebody said.
    Message {
        /// When: above the time of the entry before.
        time: Micros,
        /// Opaque bytes.
        body: Bytes,
    },
    /// Its members come in.
    End {
        /// In ascending order of user.
        members: Vec<Member>,
    },
}

/// What a chat knows of the import that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Imported {
    pub(crate) import: ImportId,
    /// The entry that ended it, and its time; none: it goes on.
    pub(crate) ended: Option<(Seq, Micros)>,
}

impl Import {
    /// Checks a step for shape and limits.
    ///
    /// # Errors
    /// As [`Command::from_wire`](crate::Command::from_wire).
    pub fn from_wire(sender: UserId, wire: log::Import) -> Result<Self, Code> {
        use log::import::Step as Wire;
        let step = match wire.step.ok_or(Code::BadRequest)? {
            Wire::Begin(begin) => Step::Begin {
                kind: ChatKind::from_wire(begin.kind).map_err(|_fault| Code::BadRequest)?,
                time: begin.time_us,
            },
            Wire::Message(message) if message.body.len() > BODY_BYTES_MAX => return Err(Code::BodyTooLarge),
            Wire::Message(message) => Step::Message { time: message.time_us, body: message.body },
            Wire::End(end) if end.members.len() > MEMBERS_MAX => return Err(Code::TooManyMembers),
            Wire::End(end) => {
                let members = end.members.iter().map(Member::from_wire).collect::<Result<_, _>>();
                Step::End { members: members.map_err(|_fault| Code::BadRequest)? }
            }
        };
        let id = |bytes: &[u8]| ChatId::try_from(bytes).ok().filter(|chat| chat.is_well_formed());
        let chat = id(&wire.chat).ok_or(Code::BadRequest)?;
        let import = ImportId::try_from(&wire.import[..]).map_err(|_fault| Code::BadRequest)?;
        let import = Self { chat, import, sender, seq: wire.seq, step };
        if import.is_well_formed() { Ok(import) } else { Err(Code::BadRequest) }
    }

    fn is_well_formed(&self) -> bool {
        let first = matches!(self.step, Step::Begin { .. });
        let placed = if first { self.seq == 1 } else { self.seq > 1 };
        let ordered = match &self.step {
            Step::End { members } => !members.is_empty() && members.is_sorted_by(|a, b| a.user < b.user),
            Step::Begin { .. } | Step::Message { .. } => true,
        };
        placed && ordered
    }

    /// The step as it stands in a record.
    pub fn to_wire(&self) -> log::Import {
        use log::import::Step as Wire;
        let step = match &self.step {
            Step::Begin { kind, time } => Wire::Begin(log::BeginImport { kind: kind.to_wire().into(), time_us: *time }),
            Step::Message { time, body } => Wire::Message(log::ImportMessage { time_us: *time, body: body.clone() }),
            Step::End { members } => {
                Wire::End(log::EndImport { members: members.iter().map(|member| member.to_wire()).collect() })
            }
        };
        log::Import { chat: self.chat.to_wire(), import: self.import.to_wire(), seq: self.seq, step: Some(step) }
    }

    fn event(&self) -> Event {
        match &self.step {
            Step::Begin { kind, .. } => Event::ImportBegun { kind: *kind, import: self.import },
            Step::Message { body, .. } => Event::MessageSent(Message::plain(body.clone())),
            Step::End { members } => Event::ImportEnded { members: members.clone() },
        }
    }

    /// The time that it brings along; the end has none.
    fn own_time(&self) -> Option<Micros> {
        match self.step {
            Step::Begin { time, .. } | Step::Message { time, .. } => Some(time),
            Step::End { .. } => None,
        }
    }

    fn entry(&self, ordinal: u64, time: Micros) -> Entry {
        let event = self.event();
        Entry {
            chat: self.chat,
            seq: self.seq,
            ordinal: ordinal + u64::from(event.is_message()),
            sender: self.sender,
            // No outbox has this one, so (origin, n) names nothing else.
            origin: Origin(0),
            n: self.seq,
            time,
            event,
        }
    }
}

/// Decides one step of an import. `stamp` is the log's time for its record, in µs.
///
/// A step that has its entry gets the first answer again. It needs no memory of the entry: the import says what
/// stands at which seq, and a time that an entry would not keep is refused.
pub fn decide_import(chat: Option<&Chat>, asked: &Import, stamp: Micros) -> Decision {
    let reject = |code| Decision::Reject { code, head: chat.map_or(0, Chat::head) };
    let own_time = asked.own_time();
    // The chat's later entries could not be at their own time.
    let is_ahead = own_time.is_some_and(|time| time > stamp);
    let Some(chat) = chat else {
        return match (&asked.step, own_time) {
            (Step::Begin { .. }, _) if is_ahead => reject(Code::BadRequest),
            (Step::Begin { .. }, Some(time)) => Decision::Append(asked.entry(0, time)),
            _ => reject(Code::PredecessorMissing),
        };
    };
    let Some(imported) = chat.imported().filter(|imported| imported.import == asked.import) else {
        return reject(Code::Conflict);
    };
    if asked.seq <= chat.head() {
        let first = match (&asked.step, imported.ended) {
            (Step::End { .. }, Some((seq, time))) if asked.seq == seq => Some(time),
            (Step::Begin { .. } | Step::Message { .. }, None) => own_time,
            (Step::Begin { .. } | Step::Message { .. }, Some((seq, _))) if asked.seq < seq => own_time,
            _ => None,
        };
        return first.map_or_else(|| reject(Code::Conflict), |time| Decision::Repeat { seq: asked.seq, time });
    }
    let last = chat.last_time();
    match own_time {
        _ if imported.ended.is_some() => reject(Code::Conflict),
        _ if asked.seq > chat.head() + 1 => reject(Code::PredecessorMissing),
        Some(time) if time <= last || is_ahead => reject(Code::BadRequest),
        Some(time) => Decision::Append(asked.entry(chat.ordinal(), time)),
        None if asked.is_refused_by(chat.kind()) => reject(Code::BadRequest),
        None => Decision::Append(asked.entry(chat.ordinal(), stamp.max(last + 1))),
    }
}

impl Import {
    /// Whether a chat of this kind has no such members.
    fn is_refused_by(&self, kind: ChatKind) -> bool {
        let Step::End { members } = &self.step else { return false };
        match kind {
            ChatKind::Direct => members.len() != 2 || members.iter().any(|member| member.role != Role::Member),
            ChatKind::Group | ChatKind::Channel => members.iter().all(|member| member.role != Role::Owner),
        }
    }
}

#[cfg(test)]
mod tests;
