//! One socket from its first frame to its last: sign-in, then requests in the order in which they come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{ChatId, Code, SessionId, UserId, limits};
use metrics::counter;
use proto::v1;
use proto::v1::client_frame::Frame as Asked;
use proto::v1::server_frame::Frame;
use tokens::{Grant, TokenError};

use crate::clock::since_1970;
use crate::edge::Edge;
use crate::history::Readings;
use crate::inbound::Later;
use crate::limits::Allowance;
use crate::pace::{self, Pace};
use crate::socket::{Class, CloseCode, Closed, Connection, Outbound, Reader};
use crate::{frames, inbound, ticket};

/// What a client hears that signs in while its user has too many sockets: until one of them may have gone.
const TOO_MANY_SOCKETS_WAIT: Duration = Duration::from_secs(10);

/// A signed-in socket.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    pub(crate) outbound: Outbound,
    pub(crate) pace: Arc<Pace>,
}

/// Serves one socket until it closes.
pub(crate) async fn serve(edge: Arc<Edge>, connection: Connection) {
    let Connection { mut reader, outbound, allowance, .. } = connection;
    // Boxed: it is over soon, and would take room for as long as the session lasts.
    let signed_in = Box::pin(sign_in(&edge, &mut reader, outbound, allowance)).await;
    let Some((session, mut listed)) = signed_in else { return };
    // History waits beside the frames that follow it, never in front of them.
    let mut readings = Readings::default();
    loop {
        let message = tokio::select! {
            message = reader.next_message() => message,
            () = readings.go_on(&edge, &session), if !readings.is_empty() => continue,
        };
        let message = match message {
            Ok(message) => message,
            Err(closed) => {
                listed.may_come_back = may_come_back(&closed);
                break;
            }
        };
        if !session.pace.admits(&message.payload, &session.outbound) {
            continue;
        }
        match asked(&edge, &session, &mut readings, message.payload) {
            Ok(None) => {}
            Ok(Some((id, later))) => {
                if let Err(code) = later.await {
                    refuse(&session, id, code);
                }
            }
            Err(code) => {
                counter!("gateway_frames_undecodable_total").increment(1);
                session.outbound.close(code);
                // Reading on ends the close handshake.
            }
        }
    }
}

/// On the lists of this gateway until dropped, and for a while longer if its client may come back.
struct Listed {
    edge: Arc<Edge>,
    session: SessionId,
    socket: u64,
    /// False unless somebody says so: however the socket ends, a panic too.
    may_come_back: bool,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.edge.registry.leave(self.session, self.socket, self.may_come_back);
    }
}

/// Whether the session outlives its socket: neither side meant to end it.
const fn may_come_back(closed: &Closed) -> bool {
    match closed {
        Closed::Lost => true,
        Closed::ByServer(code) => {
            matches!(code, CloseCode::Slow | CloseCode::HeartbeatTimeout | CloseCode::TokenExpired)
        }
        Closed::ByPeer(_) => false,
    }
}

/// A good token and a place among the sockets of its user, or the end.
async fn sign_in(
    edge: &Arc<Edge>,
    reader: &mut Reader,
    outbound: Outbound,
    allowance: Option<Arc<Allowance>>,
) -> Option<(Session, Listed)> {
    let (grant, request, authenticate) = authenticate(edge, reader, &outbound).await?;
    let (place, replaced) = edge.users.sign_in(grant.user, &authenticate.device, &outbound, allowance.is_some());
    let signed_in = place.map(|place| {
        reader.authenticated();
        let pace = Arc::new(Pace::new(allowance, place));
        let id = begin(edge, &grant, &authenticate, request, &outbound);
        let listed = Listed { edge: Arc::clone(edge), session: id, socket: outbound.id(), may_come_back: false };
        hold(edge, &outbound, &grant);
        (Session { id, user: grant.user, outbound: outbound.clone(), pace }, listed)
    });
    // Only now: the session that it may have had goes on over this socket.
    if let Some(replaced) = replaced {
        replaced.close(CloseCode::Replaced);
    }
    if signed_in.is_some() {
        return signed_in;
    }
    pace::refuse(&outbound, request, TOO_MANY_SOCKETS_WAIT);
    outbound.close(CloseCode::TooManySockets);
    // Reading on ends the close handshake.
    while reader.next_message().await.is_ok() {}
    None
}

/// Goes on with the session that the client names, or puts a new one on the lists; tells the client which.
fn begin(edge: &Edge, grant: &Grant, authenticate: &v1::Authenticate, request: u64, outbound: &Outbound) -> SessionId {
    let welcome = |session: SessionId, resumed| {
        let welcome = v1::Welcome {
            session: session.0,
            user: grant.user.to_wire(),
            partitions: u32::try_from(edge.epochs.len()).unwrap_or(u32::MAX),
            expires_us: grant.expires_s * 1_000_000,
            resumed,
        };
        frames::frame(request, Frame::Welcome(welcome))
    };
    let owner = (grant, &*authenticate.device);
    if let Some(v1::Resume { session, pushes }) = authenticate.resume {
        let session = SessionId(session);
        let resumed = |pushes| welcome(session, Some(v1::Resumed { pushes }));
        if edge.registry.go_on(session, pushes, owner, outbound, resumed) {
            return session;
        }
    }
    let session = SessionId(rand::random());
    edge.registry.add(session, owner, outbound.clone());
    let _ = welcome(session, None).push(outbound, Class::Ordinary);
    // Announced only now: whatever is pushed comes behind the welcome.
    edge.changes.up(session, grant.user);
    session
}

/// Hello, then one frame: a token that is good, or the end. The time for it is the socket layer's.
async fn authenticate(edge: &Edge, reader: &mut Reader, outbound: &Outbound) -> Option<(Grant, u64, v1::Authenticate)> {
    let limits = v1::Limits {
        frame_bytes: edge.config.socket.max_message_bytes,
        body_bytes: u32::try_from(limits::BODY_BYTES_MAX).unwrap_or(u32::MAX),
        history_entries: limits::HISTORY_ENTRIES_MAX,
        outbox_span: u32::try_from(limits::OUTBOX_SPAN).unwrap_or(u32::MAX),
        authenticate_within_ms: u32::try_from(edge.config.socket.authenticate_timeout_ms).unwrap_or(u32::MAX),
    };
    let hello = v1::Hello {
        heartbeat_ms: u32::try_from(edge.config.socket.heartbeat_interval_ms).unwrap_or(u32::MAX),
        time_us: u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX),
        limits: Some(limits),
    };
    frames::frame(0, Frame::Hello(hello)).push(outbound, Class::Ordinary).ok()?;
    let message = reader.next_message().await.ok()?;
    let (id, refusal) = match frames::decode(outbound.sub_protocol(), message.payload) {
        Ok(v1::ClientFrame { id, frame: Some(Asked::Authenticate(authenticate)) }) => {
            match granted_first(edge, &authenticate).await {
                Ok(grant) => return Some((grant, id, authenticate)),
                Err(refusal) => (id, refusal),
            }
        }
        Ok(frame) => (frame.id, (Code::NotAuthenticatedYet, CloseCode::Unauthenticated)),
        Err(_) => (0, (Code::BadRequest, CloseCode::BadFrame)),
    };
    counter!("gateway_sign_ins_refused_total").increment(1);
    let _ = frames::error(id, refusal.0).push(outbound, Class::Ordinary);
    outbound.close(refusal.1);
    // Reading on ends the close handshake.
    while reader.next_message().await.is_ok() {}
    None
}

/// What the first frame's token or ticket grants, or with which codes the socket ends.
async fn granted_first(edge: &Edge, authenticate: &v1::Authenticate) -> Result<Grant, (Code, CloseCode)> {
    if authenticate.ticket.is_empty() {
        let checked = edge.issuers.check(&edge.keys, &authenticate.token).await;
        return granted(edge, authenticate, checked);
    }
    if !authenticate.token.is_empty() {
        return Err((Code::BadRequest, CloseCode::BadFrame));
    }
    let grant = ticket::take(&edge.store, &authenticate.ticket).await?;
    allowed(edge, authenticate, grant).map_err(refused)
}

/// What the token grants for this device, or with which codes the socket ends.
fn granted(
    edge: &Edge,
    authenticate: &v1::Authenticate,
    checked: Result<Grant, TokenError>,
) -> Result<Grant, (Code, CloseCode)> {
    match checked {
        Ok(grant) => allowed(edge, authenticate, grant).map_err(refused),
        Err(TokenError::Expired) => Err(refused(CloseCode::TokenExpired)),
        // Nobody can tell, and a client that heard otherwise would throw a good token away.
        Err(TokenError::NoKeys) => Err((Code::Unavailable, CloseCode::InternalError)),
        Err(TokenError::Invalid | TokenError::Key | TokenError::TooLong) => Err(refused(CloseCode::Unauthenticated)),
    }
}

const fn refused(code: CloseCode) -> (Code, CloseCode) {
    (Code::Unauthenticated, code)
}

/// Whether it is still good, and good for this device.
fn allowed(edge: &Edge, authenticate: &v1::Authenticate, grant: Grant) -> Result<Grant, CloseCode> {
    if edge.revocations.cover(&grant) {
        Err(CloseCode::Revoked)
    } else if !grant.device.is_empty() && *grant.device != *authenticate.device {
        Err(CloseCode::Unauthenticated)
    } else {
        Ok(grant)
    }
}

/// The socket lasts as long as the token that the registry has for it, and a grace.
fn hold(edge: &Edge, outbound: &Outbound, grant: &Grant) {
    let left = Duration::from_secs(grant.expires_s).saturating_sub(since_1970());
    outbound.expire_in(left + Duration::from_millis(edge.config.renewal_grace_ms));
    // Asked behind the registry: a revocation that came in between was looked for there before, or is seen here.
    if edge.revocations.cover(grant) {
        outbound.close(CloseCode::Revoked);
    }
}

/// A new token for the same socket. One that is not good ends it: its client has been told so by whoever issues them.
fn renew(
    edge: &Edge,
    session: &Session,
    id: u64,
    authenticate: &v1::Authenticate,
    checked: Result<Grant, TokenError>,
) -> Result<(), CloseCode> {
    let renewed = granted(edge, authenticate, checked).and_then(|grant| {
        let is_same = grant.user == session.user && edge.registry.is_on_device(session.id, &grant.device);
        if is_same { Ok(grant) } else { Err(refused(CloseCode::Unauthenticated)) }
    });
    let grant = match renewed {
        Ok(grant) => grant,
        Err((said, code)) => {
            refuse(session, id, said);
            // Nobody can tell whether it is good: the token before holds, as long as it does.
            return if said == Code::Unavailable { Ok(()) } else { Err(code) };
        }
    };
    let expires_us = grant.expires_s * 1_000_000;
    edge.registry.renew(session.id, grant.clone());
    hold(edge, &session.outbound, &grant);
    let _ = frames::frame(id, Frame::Renewed(v1::Renewed { expires_us })).push(&session.outbound, Class::Ordinary);
    Ok(())
}

/// As [`renew`], once the issuer of the token was asked for its key.
fn renew_later(edge: &Arc<Edge>, session: &Session, id: u64, authenticate: v1::Authenticate) -> Later {
    let (edge, session) = (Arc::clone(edge), session.clone());
    Box::pin(async move {
        let checked = edge.issuers.check(&edge.keys, &authenticate.token).await;
        if let Err(code) = renew(&edge, &session, id, &authenticate, checked) {
            session.outbound.close(code);
        }
        Ok(())
    })
}

/// One frame, and what of it is still to be waited for before the next one is looked at.
///
/// An error closes the socket: the client does not speak the protocol.
fn asked(
    edge: &Arc<Edge>,
    session: &Session,
    readings: &mut Readings,
    payload: Bytes,
) -> Result<Option<(u64, Later)>, CloseCode> {
    let decoded = frames::decode(session.outbound.sub_protocol(), payload);
    let v1::ClientFrame { id, frame } = decoded.map_err(|_fault| CloseCode::BadFrame)?;
    let done = match frame {
        // Its replies would look like pushes.
        Some(Asked::Command(_) | Asked::ReadHistory(_)) if id == 0 => Err(Code::BadRequest),
        Some(Asked::Command(command))
            if is_creation(&command)
                && let Err(wait) = session.pace.take_chat() =>
        {
            pace::refuse(&session.outbound, id, wait);
            return Ok(None);
        }
        Some(Asked::Command(command)) => match inbound::command(edge, session, id, command) {
            Ok(Some(later)) => return Ok(Some((id, later))),
            done => done.map(|_nothing| ()),
        },
        Some(Asked::ReadHistory(request)) => readings.put(id, &request),
        Some(Asked::Received(receipt)) => receipt_of(edge, session, &receipt.chat, receipt.through, 0),
        Some(Asked::Seen(receipt)) => receipt_of(edge, session, &receipt.chat, receipt.through, receipt.through),
        // The session goes on already, and a ticket opens a socket.
        Some(Asked::Authenticate(authenticate)) if authenticate.resume.is_some() || !authenticate.ticket.is_empty() => {
            Err(Code::BadRequest)
        }
        Some(Asked::Authenticate(authenticate)) => {
            return match edge.issuers.check_now(&edge.keys, &authenticate.token) {
                Some(checked) => renew(edge, session, id, &authenticate, checked).map(|()| None),
                None => Ok(Some((id, renew_later(edge, session, id, authenticate)))),
            };
        }
        // A newer client's frame: said, not guessed at.
        None => Err(Code::BadRequest),
    };
    if let Err(code) = done {
        refuse(session, id, code);
    }
    Ok(None)
}

const fn is_creation(command: &v1::Command) -> bool {
    matches!(command.action, Some(v1::command::Action::CreateChat(_)))
}

/// Tells the client why request `id` comes to nothing.
pub(crate) fn refuse(session: &Session, id: u64, code: Code) {
    counter!("gateway_requests_refused_total").increment(1);
    let _ = frames::error(id, code).push(&session.outbound, Class::Ordinary);
}

fn receipt_of(edge: &Edge, session: &Session, chat: &[u8], delivered: u64, seen: u64) -> Result<(), Code> {
    let chat = ChatId::try_from(chat).map_err(|_fault| Code::BadRequest)?;
    let receipts = edge.receipts.get(usize::from(chat.partition().0)).ok_or(Code::UnknownChat)?;
    receipts.put(chat, session.user, delivered, seen);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_serve: impl FnOnce(Arc<Edge>, Connection) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_an_idle_session_is_small() {
        // Of 2.5 kB for a whole idle session; what is large and rare is boxed where it is awaited.
        let bytes = size_of_future(serve);
        assert!(bytes <= 1_024, "{bytes}");
    }
}
