//! The final answer to a command.

use proto::v1;

use crate::{ChatId, Micros, Origin, Seq};

/// Why something was refused: the wire's closed list.
pub use proto::v1::ErrorCode as Code;

/// The final answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// In the history of every member at that seq, exactly once.
    Stored {
        /// Where.
        seq: Seq,
        /// When.
        time: Micros,
    },
    /// Changed nothing.
    Rejected {
        /// Why.
        code: Code,
        /// The chat's head, or 0 where the sender must not learn it.
        head: Seq,
    },
}

impl Outcome {
    /// The answer as a client sees it.
    pub fn to_wire(self, chat: ChatId, origin: Origin, n: u64) -> v1::Outcome {
        let result = match self {
            Self::Stored { seq, time } => v1::outcome::Result::Stored(v1::Stored { seq, time_us: time }),
            Self::Rejected { code, head } => {
                v1::outcome::Result::Rejected(v1::Rejected { code: code.into(), text: text(code).to_owned(), head })
            }
        };
        v1::Outcome { chat: chat.to_wire(), origin: origin.0, n, result: Some(result) }
    }
}

/// What a person may read of a code. Not part of the API.
pub const fn text(code: Code) -> &'static str {
    match code {
        Code::Unspecified => "unspecified",
        Code::BadRequest => "a field is missing or out of its range",
        Code::BodyTooLarge => "the body is too large",
        Code::Unauthenticated => "the token is not valid",
        Code::NotAuthenticatedYet => "authenticate first",
        Code::OutOfRange => "the range is not in the chat",
        Code::UnknownChat => "no such chat",
        Code::NotAMember => "not a member of this chat",
        Code::Forbidden => "the role does not allow it",
        Code::Conflict => "the same identity with other content",
        Code::Superseded => "a later command of this origin is stored",
        Code::PredecessorMissing => "the command before it is not stored",
        Code::OriginUnknown => "the origin may have been forgotten",
        Code::AlreadyAMember => "already a member",
        Code::NoSuchMember => "no such member",
        Code::TooManyMembers => "the chat is full",
        Code::DirectChatIsFixed => "a direct chat has two members for ever",
        Code::LastOwner => "the last owner cannot cease to be one",
        Code::NoSuchMessage => "no such message in this chat",
        Code::NoChange => "it is so already",
        Code::TooManyPins => "too many messages are pinned",
        Code::SlowMode => "the chat is in slow mode",
        Code::Undecodable => "the command could not be read",
        Code::Busy => "slow down",
        Code::Unavailable => "try again",
        Code::NotYet => "not stored yet",
        Code::RateLimited => "too many requests",
        Code::Internal => "an internal error",
    }
}
