//! What stands on the screen for an entry, a chat, a code: one sentence each.

use client::machine::Entry;
use client::{Error, UserId};
use proto::v1::{self, ErrorCode, entry};

use super::chats::Chat;
use super::names::Names;

/// Why a command was refused.
pub(super) const fn refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unspecified => "the server refused, for a reason that this version does not know",
        ErrorCode::BadRequest => "the server could not make sense of it",
        ErrorCode::BodyTooLarge => "it is too long",
        ErrorCode::Unauthenticated => "the token is not valid here",
        ErrorCode::NotAuthenticatedYet => "not signed in yet",
        ErrorCode::OutOfRange => "a number in it is out of range",
        ErrorCode::UnknownChat => "there is no such chat",
        ErrorCode::NotAMember => "you are not in this chat",
        ErrorCode::Forbidden => "you may not do that here",
        ErrorCode::Conflict => "something else was sent in its place before",
        ErrorCode::Superseded => "later ones were stored before it",
        ErrorCode::PredecessorMissing => "the one before it is missing",
        ErrorCode::OriginUnknown => "the server cannot tell whether it was stored before",
        ErrorCode::AlreadyAMember => "already in this chat",
        ErrorCode::NoSuchMember => "nobody of that name is in this chat",
        ErrorCode::TooManyMembers => "the chat would have too many members",
        ErrorCode::DirectChatIsFixed => "a chat of two stays a chat of these two; /new NAME… starts a group",
        ErrorCode::LastOwner => "you are the only owner, and a chat is never without one",
        ErrorCode::NoChange => "it is so already",
        ErrorCode::TooManyPins => "too many messages are pinned; /unpin N makes room",
        ErrorCode::SlowMode => "this chat is in slow mode; try again later",
        ErrorCode::NoSuchMessage => "there is no such message in this chat",
        ErrorCode::Undecodable => "the server could not read it",
        ErrorCode::Busy | ErrorCode::RateLimited => "the server is busy; try again in a moment",
        ErrorCode::Unavailable => "that part of the server is not available; try again in a moment",
        ErrorCode::NotYet => "not stored yet; try again in a moment",
        ErrorCode::Internal => "the server failed; try again in a moment",
    }
}

/// Why the server says not to come back.
pub(super) const fn ending(code: u16) -> &'static str {
    match code {
        4500 => "it could not read what this client sent: the two do not fit together",
        4501 => "the token is not valid here: it is for another server, or of another data folder",
        4502 => "the token has expired",
        4503 | 1002 | 1003 | 1007 | 1008 => "it speaks another version of the protocol",
        4504 => "a newer connection took the place of this one",
        4505 => "the session was revoked",
        _ => "for a reason that this version does not know",
    }
}

/// Why a call failed.
pub(super) fn failure(error: &Error) -> String {
    match error {
        Error::Refused(error) => refusal(error.code()).to_owned(),
        Error::Disconnected => "not connected".to_owned(),
        Error::Full(_)
        | Error::BodyTooLarge { .. }
        | Error::NotSignedIn
        | Error::Ended
        | Error::Address(_)
        | Error::Token(_)
        | Error::Trust(_)
        | Error::Closed(_)
        | Error::SignInTimeout
        | Error::Silent
        | Error::Frame(_)
        | Error::Socket(_) => error.to_string(),
    }
}

/// One line for an entry.
pub(super) fn line_of(entry: &Entry, names: &Names) -> String {
    let (seq, sender) = (entry.entry.seq, names.on_wire(&entry.entry.sender));
    match &entry.entry.event {
        Some(entry::Event::MessageSent(message)) => {
            let body = match message.deleted_seq {
                0 => plain(&message.body),
                _ => "deleted".to_owned(),
            };
            let edited = if message.edited_seq > 0 { " (edited)" } else { "" };
            match message.reply_to {
                0 => format!("#{seq} {sender}: {body}{edited}"),
                answered => format!("#{seq} {sender}, to #{answered}: {body}{edited}"),
            }
        }
        Some(entry::Event::MessageEdited(edited)) if edited.erased => {
            format!("#{seq} · {sender} edited #{}, since deleted", edited.seq)
        }
        Some(entry::Event::MessageEdited(edited)) => {
            format!("#{seq} · {sender} edited #{}: {}", edited.seq, plain(&edited.body))
        }
        Some(entry::Event::MessageDeleted(deleted)) => format!("#{seq} · {sender} deleted #{}", deleted.seq),
        Some(entry::Event::MessageReacted(reacted)) if reacted.reaction.is_empty() => {
            format!("#{seq} · {sender} has no reaction to #{} any more", reacted.seq)
        }
        Some(entry::Event::MessageReacted(reacted)) => {
            format!("#{seq} · {sender} to #{}: {}", reacted.seq, shown(&reacted.reaction))
        }
        Some(entry::Event::MessagePinned(pinned)) => {
            let what = if pinned.unpinned { "unpinned" } else { "pinned" };
            format!("#{seq} · {sender} {what} #{}", pinned.seq)
        }
        Some(entry::Event::ChatPolicySet(set)) => {
            let v1::ChatPolicy { members_add, slow_mode_s } = set.policy.unwrap_or_default();
            let who = if members_add.unwrap_or_default() { "members add" } else { "owners and admins add" };
            let pace = match slow_mode_s.unwrap_or_default() {
                0 => "no slow mode".to_owned(),
                seconds => format!("one entry in {seconds} s"),
            };
            format!("#{seq} · {sender} set the chat: {who}; {pace}")
        }
        Some(entry::Event::ChatCreated(created)) => {
            let members: Vec<_> = created.members.iter().map(|member| names.on_wire(&member.user)).collect();
            format!("#{seq} · {sender} opened the chat: {}", members.join(", "))
        }
        Some(entry::Event::MemberAdded(added)) => {
            let added = added.member.as_ref().map(|member| names.on_wire(&member.user)).unwrap_or_default();
            format!("#{seq} · {sender} added {added}")
        }
        Some(entry::Event::MemberRemoved(removed)) => {
            format!("#{seq} · {sender} removed {}", names.on_wire(&removed.user))
        }
        Some(entry::Event::MemberLeft(_)) => format!("#{seq} · {sender} left"),
        Some(entry::Event::RoleSet(set)) => {
            format!("#{seq} · {sender} made {} {}", names.on_wire(&set.user), with_article(set.role()))
        }
        Some(entry::Event::ChatRenamed(renamed)) if renamed.name.is_empty() => {
            format!("#{seq} · {sender} took the chat's name away")
        }
        Some(entry::Event::ChatRenamed(renamed)) => {
            format!("#{seq} · {sender} calls the chat {}", shown(&renamed.name))
        }
        Some(entry::Event::OwnershipTransferred(transferred)) => {
            format!("#{seq} · {sender} made {} the owner", names.on_wire(&transferred.user))
        }
        Some(entry::Event::ImportBegun(_)) => format!("#{seq} · {sender} opened the chat, elsewhere"),
        Some(entry::Event::ImportEnded(ended)) => {
            let members: Vec<_> = ended.members.iter().map(|member| names.on_wire(&member.user)).collect();
            format!("#{seq} · what is above was brought in for {}", members.join(", "))
        }
        None => format!("#{seq} · something this version does not know"),
    }
}

/// A body may hold anything: no control character reaches the terminal.
fn plain(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).collect()
}

/// Whether a message says that it is meant for this user.
pub(super) fn is_for(entry: &Entry, user: UserId) -> bool {
    let Some(entry::Event::MessageSent(message)) = &entry.entry.event else { return false };
    message.mention_all || message.mentions.iter().any(|mention| UserId::from_wire(mention) == Some(user))
}

/// What a chat is called: by its name, else by who is in it.
pub(super) fn title(chat: &Chat, me: UserId, names: &Names) -> String {
    let others: Vec<_> = chat.members.keys().filter(|user| **user != me).map(|user| names.of(*user)).collect();
    let others = others.join(", ");
    if !chat.name.is_empty() {
        return shown(&chat.name);
    }
    match chat.kind {
        v1::ChatKind::Direct => format!("the chat with {others}"),
        v1::ChatKind::Channel => format!("the channel with {others}"),
        v1::ChatKind::Group | v1::ChatKind::Unspecified if others.is_empty() => "a group of your own".to_owned(),
        v1::ChatKind::Group | v1::ChatKind::Unspecified => format!("the group with {others}"),
    }
}

/// What a role is called.
pub(super) fn role_name(role: v1::Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// The same, as what somebody is made.
pub(super) fn with_article(role: v1::Role) -> String {
    let article = if matches!(role, v1::Role::Owner | v1::Role::Admin) { "an" } else { "a" };
    format!("{article} {}", role_name(role))
}

/// A chat's name: whatever a server sends, no control character reaches the terminal.
fn shown(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    format!("\u{201c}{name}\u{201d}")
}

/// A line as it is named later, quoted.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(24).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("\u{201c}{short}\u{201d}")
}

#[cfg(test)]
mod tests {
    use gateway::socket::CloseCode;

    use super::*;

    #[test]
    fn every_code_after_which_a_client_stays_away_has_its_words() {
        for code in CloseCode::ALL.iter().filter(|code| !code.reconnect()) {
            assert_ne!(ending(code.number()), ending(0), "{code}");
        }
    }

    #[test]
    fn no_refusal_is_told_by_its_raw_name() {
        for code in 0..64 {
            let Ok(code) = ErrorCode::try_from(code) else { continue };
            assert!(!refusal(code).contains("ERROR_CODE"));
            assert!(
                !failure(&Error::Refused(v1::Error { code: code.into(), ..v1::Error::default() }))
                    .contains("refused: ")
            );
        }
    }
}
