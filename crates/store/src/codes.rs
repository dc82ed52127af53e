//! The numbers that stand in rows of every engine for what has a name in code.

use domain::{ChatKind, Policy, Role};
use prost::{DecodeError, Message as _};
use proto::{log, v1};

use crate::{Error, Fact, Reader, UserState};

/// The stored number of a chat's kind: the wire's.
pub(crate) fn kind_code(kind: ChatKind) -> u8 {
    match kind {
        ChatKind::Direct => 1,
        ChatKind::Group => 2,
        ChatKind::Channel => 3,
    }
}

/// The kind with this number.
pub(crate) fn kind_of(table: &'static str, code: u8) -> Result<ChatKind, Error> {
    match code {
        1 => Ok(ChatKind::Direct),
        2 => Ok(ChatKind::Group),
        3 => Ok(ChatKind::Channel),
        other => Err(Error::corrupt(table, format!("chat kind {other} is not known"))),
    }
}

/// The stored number of a role.
pub(crate) fn role_code(role: Role) -> u8 {
    match role {
        Role::Owner => 1,
        Role::Admin => 2,
        Role::Member => 3,
        Role::Reader => 4,
    }
}

/// The role with this number.
pub(crate) fn role_of(table: &'static str, code: u8) -> Result<Role, Error> {
    match code {
        1 => Ok(Role::Owner),
        2 => Ok(Role::Admin),
        3 => Ok(Role::Member),
        4 => Ok(Role::Reader),
        other => Err(Error::corrupt(table, format!("role {other} is not known"))),
    }
}

/// The stored number of a fact's kind, and its bytes: of the wire's message for it.
pub(crate) fn put_fact(fact: &Fact) -> (u8, Vec<u8>) {
    match fact {
        Fact::Policy(policy) => (1, policy.to_wire().encode_to_vec()),
        Fact::Pins(pins) => (2, log::ChatPins { pins: pins.clone() }.encode_to_vec()),
    }
}

/// The fact of this kind and with these bytes; none: of a kind that a newer version writes.
pub(crate) fn fact_of(table: &'static str, code: u8, bytes: &[u8]) -> Result<Option<Fact>, Error> {
    let fault = |error: DecodeError| Error::corrupt(table, error.to_string());
    match code {
        1 => Ok(Some(Fact::Policy(Policy::from_wire(v1::ChatPolicy::decode(bytes).map_err(fault)?)))),
        2 => Ok(Some(Fact::Pins(log::ChatPins::decode(bytes).map_err(fault)?.pins))),
        _ => Ok(None),
    }
}

/// The stored number of a user's state.
pub(crate) fn state_code(state: UserState) -> u8 {
    match state {
        UserState::Active => 1,
        UserState::Banned => 2,
        UserState::Deleted => 3,
        UserState::Leaving => 4,
    }
}

/// The state with this number.
pub(crate) fn state_of(table: &'static str, code: u8) -> Result<UserState, Error> {
    match code {
        1 => Ok(UserState::Active),
        2 => Ok(UserState::Banned),
        3 => Ok(UserState::Deleted),
        4 => Ok(UserState::Leaving),
        other => Err(Error::corrupt(table, format!("user state {other} is not known"))),
    }
}

/// The stored number of a reader.
pub(crate) fn reader_code(reader: Reader) -> u8 {
    match reader {
        Reader::Projections => 1,
        Reader::Delivery => 2,
        Reader::Push => 3,
    }
}
