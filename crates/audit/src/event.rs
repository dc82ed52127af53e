//! What stands in a line.

use std::net::IpAddr;

use serde::Serialize;

/// What was done or tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An account was asked for.
    Register,
    /// A device was to be signed in with a password.
    SignIn,
    /// A spent refresh token was used: theft, and the end of its sign-in.
    RefreshReuse,
    /// A device signed out.
    SignOut,
    /// All devices of a user were signed out.
    SignOutEverywhere,
    /// A password was to be changed.
    PasswordChange,
    /// A device was to be put out by its user.
    DeviceRemove,
    /// An account was to be deleted by its user.
    AccountDelete,
    /// A chat was made.
    ChatCreate,
    /// A chat was given another name.
    ChatRename,
    /// What holds in a chat was to be changed.
    ChatPolicySet,
    /// A member of a chat was given another role.
    RoleSet,
    /// An owner put another member in its own place.
    OwnershipTransfer,
    /// Somebody was let into a chat.
    MemberAdd,
    /// Somebody was put out of a chat, or left it.
    MemberRemove,
    /// A message of somebody else was to be deleted.
    MessageDelete,
    /// A message was to be pinned for everybody, or its pin taken away.
    MessagePin,
    /// A link was made that lets into a chat.
    InviteCreate,
    /// Such a link was ended.
    InviteRevoke,
    /// An operator did something; `detail` says what.
    Admin,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was refused; `detail` says why.
    Refused,
    /// Nobody knows yet: it was handed on and not answered in time.
    Pending,
}

/// One event; what is not known of it is left out of its line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// What was done or tried.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// Who did it, a user's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Which operator did it, the system's user id of who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<u32>,
    /// The handle that was named, where it is an account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The device that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The signing key that it was done to, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The chat that it was done to, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// The user that it was done to, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The partition that it was done to, behind its role: `ingest 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The request by its id, as its caller has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Further words, of a closed list of the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
}

impl Event {
    /// An event of which nothing else is known.
    #[must_use]
    pub const fn new(action: Action, outcome: Outcome) -> Self {
        Self {
            action,
            outcome,
            user: None,
            operator: None,
            handle: None,
            device: None,
            key: None,
            chat: None,
            subject: None,
            partition: None,
            address: None,
            request_id: None,
            detail: None,
        }
    }
}
