//! The close codes of a socket, and what a peer may put into a close frame.
//!
//! Two ranges say what a client does without knowing the code: 4000–4499 reconnect, 4500–4999 do not.
//! This module never touches a socket.

use std::fmt;

/// The first code of the range after which a client reconnects.
pub const RECONNECT_FROM: u16 = 4000;
/// The first code of the range after which a client does not reconnect.
pub const DO_NOT_RECONNECT_FROM: u16 = 4500;
/// The first code above both ranges.
pub const RANGES_END: u16 = 5000;

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal;)+) => {
        /// Why the server closes a socket: each line says what a client does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CloseCode {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl CloseCode {
            /// Every code, in ascending order.
            pub const ALL: &[CloseCode] = &[$(CloseCode::$name,)+];

            /// The name that stands as reason in the close frame and as label on counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(CloseCode::$name => $text,)+ }
            }

            /// The code of this number, if the server has one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($code => Some(CloseCode::$name),)+ _ => None }
            }
        }
    };
}

close_codes! {
    /// Done. The client reconnects when it next has something to do.
    Normal = 1000, "normal";
    /// The server ends. The client reconnects after a random part of its back-off.
    GoingAway = 1001, "going_away";
    /// The bytes were no WebSocket. The client has a defect: do not reconnect, report it.
    ProtocolError = 1002, "protocol_error";
    /// Text on the binary sub-protocol or binary on the text one: a defect, do not reconnect.
    UnsupportedData = 1003, "unsupported_data";
    /// A text message was not UTF-8: a defect, do not reconnect.
    InvalidText = 1007, "invalid_text";
    /// A bound other than size was passed, as fragments or control frames: do not reconnect.
    PolicyViolation = 1008, "policy_violation";
    /// A message was over the limit that `hello` names: do not send it again; reconnect.
    TooBig = 1009, "too_big";
    /// The server failed. The client reconnects with back-off.
    InternalError = 1011, "internal_error";

    /// The client reads too slowly. Reconnect and resume: nothing is lost.
    Slow = 4000, "slow";
    /// The server may have missed pushes for this session. Reconnect at once and catch up.
    Resync = 4001, "resync";
    /// The gateway is leaving. Reconnect at once: leaving is already spread over time.
    Draining = 4002, "draining";
    /// No byte came within the heartbeat timeout. Reconnect.
    HeartbeatTimeout = 4003, "heartbeat_timeout";
    /// The owner of a partition cannot be reached. Reconnect with back-off.
    OwnerLost = 4004, "owner_lost";
    /// The gateway has no room. Reconnect with back-off.
    Overloaded = 4005, "overloaded";
    /// The client went on sending too fast though it was told to wait. Reconnect with back-off.
    RateLimited = 4006, "rate_limited";
    /// The user has as many sockets as it may have. Reconnect with back-off, or leave another one.
    TooManySockets = 4007, "too_many_sockets";
    /// `authenticate` did not come in time. Reconnect with back-off.
    AuthenticateTimeout = 4401, "authenticate_timeout";

    /// A message was no frame of the protocol: a defect, do not reconnect.
    BadFrame = 4500, "bad_frame";
    /// The token is not valid here. Do not reconnect with it: sign in again.
    Unauthenticated = 4501, "unauthenticated";
    /// The token has expired, or the ticket is spent. Do not reconnect with it: get a fresh one first.
    TokenExpired = 4502, "token_expired";
    /// A frame came out of turn or of an unknown version: a defect, do not reconnect.
    WrongProtocol = 4503, "wrong_protocol";
    /// The same device opened a newer socket, which goes on: do not reconnect this one.
    Replaced = 4504, "replaced";
    /// The session was revoked: signed out, banned or its device removed. Sign in again.
    Revoked = 4505, "revoked";
}

impl CloseCode {
    /// The number in the close frame.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether a client that knows only the table's ranges opens a new socket.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        match self {
            Self::Normal | Self::GoingAway | Self::TooBig | Self::InternalError => true,
            Self::ProtocolError | Self::UnsupportedData | Self::InvalidText | Self::PolicyViolation => false,
            Self::Slow
            | Self::Resync
            | Self::Draining
            | Self::HeartbeatTimeout
            | Self::OwnerLost
            | Self::Overloaded
            | Self::RateLimited
            | Self::TooManySockets
            | Self::AuthenticateTimeout => true,
            Self::BadFrame
            | Self::Unauthenticated
            | Self::TokenExpired
            | Self::WrongProtocol
            | Self::Replaced
            | Self::Revoked => false,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

/// What a peer said in its close frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerClose {
    /// The peer's code; none if its close frame was empty.
    pub code: Option<u16>,
    /// The peer's reason, at most 123 bytes. Never to be logged above debug.
    pub reason: Box<str>,
}

/// Whether a peer may send this code (RFC 6455 §7.4, and the later registrations 1012–1014).
#[must_use]
pub const fn may_be_received(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ascending_and_stand_in_the_range_that_tells_what_to_do() {
        for pair in CloseCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
        }
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number()), Some(*code));
            assert!(may_be_received(code.number()));
            match code.number() {
                RECONNECT_FROM..DO_NOT_RECONNECT_FROM => assert!(code.reconnect(), "{code}"),
                DO_NOT_RECONNECT_FROM..RANGES_END => assert!(!code.reconnect(), "{code}"),
                other => assert!((1000..1015).contains(&other), "{code}"),
            }
        }
    }

    #[test]
    fn reserved_codes_may_not_be_received() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert!(!may_be_received(code), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
            assert!(may_be_received(code), "{code}");
        }
    }
}
