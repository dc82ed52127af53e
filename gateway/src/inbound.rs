//! A client's command on its way to the log: checked for shape and limits, never for what the fold decides.

use domain::{Action, ChatKind, Code, Command};
use prost::Message as _;
use proto::{log, v1};

use crate::edge::Edge;
use crate::machine::Waiting;
use crate::session::Session;

/// Hands a command to its partition's packer.
///
/// # Errors
/// What the client hears instead of `accepted`.
pub(crate) async fn command(edge: &Edge, session: &Session, id: u64, wire: v1::Command) -> Result<(), Code> {
    let mut command = Command::from_wire(session.user, wire.clone())?;
    if usize::from(command.chat.partition().0) >= edge.packs.len() {
        return Err(if matches!(command.action, Action::CreateChat { .. }) {
            Code::BadRequest
        } else {
            Code::UnknownChat
        });
    }
    let mut wire = wire;
    if let Action::CreateChat { kind: ChatKind::Direct, members } = &command.action {
        // Two people have one direct chat, whoever asks first and however often.
        let other = members.first().ok_or(Code::BadRequest)?.user;
        let claimed = edge.store.claim_direct(session.user, other, command.chat).await;
        command.chat = claimed.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a direct chat cannot be claimed");
            Code::Unavailable
        })?;
        wire.chat = command.chat.to_wire();
    }
    let packed = log::Command {
        route: Some(log::Route { gateway: edge.id.0, session: session.id.0, request: id }),
        sender: session.user.to_wire(),
        command: Some(wire),
    };
    let waiting = Waiting { session: session.id.0, request: id, bytes: packed.encode_to_vec().into() };
    let pack = edge.packs.get(usize::from(command.chat.partition().0)).ok_or(Code::UnknownChat)?;
    if pack.put(waiting) { Ok(()) } else { Err(Code::Busy) }
}
