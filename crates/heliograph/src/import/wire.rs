//! What goes over the admin socket, both ways.

use serde::{Deserialize, Serialize};

/// Messages of one request at most.
pub(crate) const MESSAGES_MAX: usize = 256;
/// Bytes of a request's body: bodies of messages in base64, or a thousand members.
pub(crate) const REQUEST_BYTES_MAX: usize = 512 * 1024;
/// Bytes of all bodies of one request, but for a single one: with base64 and what stands around them they fit.
pub(crate) const BODIES_BYTES_MAX: usize = 256 * 1024;

/// Direct, group or channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Direct,
    Group,
    Channel,
}

impl From<Kind> for domain::ChatKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct,
            Kind::Group => Self::Group,
            Kind::Channel => Self::Channel,
        }
    }
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Owner,
    Admin,
    #[default]
    Member,
    Reader,
}

impl From<Role> for domain::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Admin => Self::Admin,
            Role::Member => Self::Member,
            Role::Reader => Self::Reader,
        }
    }
}

/// A user with a role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// The user's id.
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) role: Role,
}

/// Begins an import, or goes on with it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// Which import, as a UUID.
    pub(crate) import: String,
    pub(crate) kind: Kind,
    /// When the chat was opened, µs since 1970.
    pub(crate) time_us: u64,
    /// The id of who opened it.
    pub(crate) opener: String,
    pub(crate) members: Vec<Member>,
}

/// How far it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// The chat's id.
    pub(crate) chat: String,
    /// Through which seq it is stored.
    pub(crate) stored: u64,
    /// Its members are in.
    pub(crate) ended: bool,
}

/// A message as it was said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) sender: String,
    pub(crate) time_us: u64,
    /// In base64.
    pub(crate) body: String,
}

/// Messages that follow each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Messages {
    pub(crate) import: String,
    /// The seq of the first.
    pub(crate) first_seq: u64,
    pub(crate) messages: Vec<Message>,
}

/// Through which seq all of it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) stored: u64,
}

/// Lets the members in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) import: String,
    pub(crate) seq: u64,
    pub(crate) opener: String,
    pub(crate) members: Vec<Member>,
}
