//! A client's command on its way to the log: checked for shape and limits, never for what the fold decides.

use std::sync::Arc;

use domain::{Action, ChatId, ChatKind, Code, Command, UserId};
use futures_util::future::BoxFuture;
use metrics::counter;
use packer::Waiting;
use prost::Message as _;
use proto::{log, v1};

use crate::admission::Admission;
use crate::edge::Edge;
use crate::session::Session;

/// What is still to be waited for. Rare, and boxed, so that it takes no room in the task of every session.
pub(crate) type Later = BoxFuture<'static, Result<(), Code>>;

/// Hands a command to its partition's packer, at once or after what is to be waited for.
///
/// # Errors
/// What the client hears instead of `accepted`.
pub(crate) fn command(edge: &Arc<Edge>, session: &Session, id: u64, wire: v1::Command) -> Result<Option<Later>, Code> {
    let Some(first) = checked(edge, session, &wire)? else {
        return put(edge, session, id, wire).map(|()| None);
    };
    let (edge, session) = (Arc::clone(edge), session.clone());
    Ok(Some(Box::pin(async move {
        match first {
            First::Direct(other, proposed) => create_direct(&edge, &session, id, wire, other, proposed).await,
            First::Admission(admission) => admit(&edge, &session, id, wire, admission).await,
        }
    })))
}

/// What a command waits for on its way.
enum First {
    /// A direct chat is to be created: with whom, and which one is proposed.
    Direct(UserId, ChatId),
    /// Users are to come into a chat.
    Admission(Admission),
}

/// What is to be waited for, if the command is in order.
fn checked(edge: &Edge, session: &Session, wire: &v1::Command) -> Result<Option<First>, Code> {
    let command = Command::from_wire(session.user, wire.clone())?;
    if usize::from(command.chat.partition().0) >= edge.epochs.len() {
        return Err(if matches!(command.action, Action::CreateChat { .. }) {
            Code::BadRequest
        } else {
            Code::UnknownChat
        });
    }
    match &command.action {
        Action::CreateChat { kind: ChatKind::Direct, members } => {
            let other = members.first().ok_or(Code::BadRequest)?.user;
            Ok(Some(First::Direct(other, command.chat)))
        }
        Action::CreateChat { members, .. } => {
            // Its maker too: an account that has ended makes no chats while its tokens still pass.
            let users = members.iter().map(|member| member.user).chain([session.user]).collect();
            Ok(Some(First::Admission(Admission { chat: command.chat, users, is_new: true, basis: 0 })))
        }
        Action::AddMember { member } => {
            let (chat, users, basis) = (command.chat, vec![member.user], wire.basis);
            Ok(Some(First::Admission(Admission { chat, users, is_new: false, basis })))
        }
        Action::RemoveMember { .. }
        | Action::LeaveChat
        | Action::SendMessage { .. }
        | Action::SetRole { .. }
        | Action::RenameChat { .. }
        | Action::TransferOwnership { .. }
        | Action::EditMessage { .. }
        | Action::DeleteMessage { .. }
        | Action::React { .. }
        | Action::SetChatPolicy(_)
        | Action::PinMessage { .. } => Ok(None),
    }
}

/// Two people have one direct chat, whoever asks first and however often.
async fn create_direct(
    edge: &Edge,
    session: &Session,
    id: u64,
    wire: v1::Command,
    other: UserId,
    proposed: ChatId,
) -> Result<(), Code> {
    let chat = claim_direct(edge, session.user, other, proposed).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "a direct chat cannot be claimed");
        Code::Unavailable
    })?;
    let chat = chat.ok_or(Code::Forbidden)?;
    put(edge, session, id, v1::Command { chat: chat.to_wire(), ..wire })
}

/// Nobody is brought into a chat who is not to be reached by who does it.
async fn admit(edge: &Edge, session: &Session, id: u64, wire: v1::Command, admission: Admission) -> Result<(), Code> {
    let is_given = admission.is_given(edge, session.user).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "whom a command brings in cannot be looked up");
        Code::Unavailable
    })?;
    if !is_given {
        counter!("gateway_admissions_refused_total").increment(1);
        return Err(Code::Forbidden);
    }
    put(edge, session, id, wire)
}

/// The chat of the two, if there is one or one may begin.
///
/// One that is there stays theirs: a creation that is sent again has the same answer.
async fn claim_direct(
    edge: &Edge,
    user: UserId,
    other: UserId,
    proposed: ChatId,
) -> Result<Option<ChatId>, store::Error> {
    if let Some(chat) = edge.store.direct(user, other).await? {
        return Ok(Some(chat));
    }
    // One's own account may have ended, while its tokens still pass.
    if edge.store.turns_away(other, user).await? || edge.store.turns_away(user, user).await? {
        return Ok(None);
    }
    edge.store.claim_direct(user, other, proposed).await.map(Some)
}

fn put(edge: &Edge, session: &Session, id: u64, wire: v1::Command) -> Result<(), Code> {
    let chat = ChatId::try_from(&wire.chat[..]).map_err(|_fault| Code::BadRequest)?;
    let packed = log::Command {
        route: Some(log::Route { gateway: edge.id.0, session: session.id.0, request: id }),
        sender: session.user.to_wire(),
        command: Some(wire),
        import: None,
    };
    let waiting = Waiting { session: session.id.0, request: id, bytes: packed.encode_to_vec().into() };
    if edge.pack.put(chat.partition(), waiting) { Ok(()) } else { Err(Code::Busy) }
}
