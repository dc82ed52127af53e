//! Any message of a client through the decoding that a session does: no panic, bounded memory, one meaning.

use std::sync::OnceLock;

use bytes::Bytes;
use domain::{ChatId, Command, UserId};
use prost::Message as _;
use proto::v1::{self, client_frame::Frame, command::Action};
use tokens::TokenKeys;

/// The guard lets nothing longer through.
const MESSAGE_BYTES: usize = 65_536;
/// How much memory a client's byte may take at most (X27).
const AMPLIFICATION_MAX: usize = 64;

static KEY: OnceLock<TokenKeys> = OnceLock::new();

pub(crate) fn run(data: &[u8]) {
    if data.len() > MESSAGE_BYTES {
        return;
    }
    let Ok(decoded) = v1::ClientFrame::decode(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(v1::ClientFrame::decode(&decoded.encode_to_vec()[..]).as_ref(), Ok(&decoded), "another after encoding");
    match decoded.frame {
        Some(Frame::Authenticate(authenticate)) => {
            let key = KEY.get_or_init(|| TokenKeys::from_pem(&TokenKeys::generate().unwrap()).unwrap());
            assert!(key.check(&authenticate.token).is_err(), "nobody signed this token");
        }
        Some(Frame::Command(command)) => check_command(data.len(), command),
        Some(Frame::ReadHistory(v1::ReadHistory { chat, .. }))
        | Some(Frame::Received(v1::Received { chat, .. }))
        | Some(Frame::Seen(v1::Seen { chat, .. })) => check_chat(&chat),
        None => {}
    }
}

fn check_chat(bytes: &[u8]) {
    match ChatId::try_from(bytes) {
        Ok(chat) => assert_eq!(chat.to_wire(), bytes),
        Err(_) => assert_ne!(bytes.len(), 16),
    }
}

fn check_command(sent: usize, wire: v1::Command) {
    // The session keeps the wire's form and checks a copy.
    let held = members_bytes(&wire) + members_bytes(&wire.clone());
    assert!(held <= AMPLIFICATION_MAX * sent, "{held} bytes for {sent}");
    let sender = UserId::new([7; 16]);
    if let Ok(command) = Command::from_wire(sender, wire) {
        assert!(command.chat.is_well_formed());
        assert_eq!(Command::from_wire(sender, command.to_wire()).as_ref(), Ok(&command), "another after encoding");
    }
}

/// The memory of the one field that repeats; all others are slices of the message.
fn members_bytes(wire: &v1::Command) -> usize {
    match &wire.action {
        Some(Action::CreateChat(create)) => create.members.capacity() * size_of::<v1::Member>(),
        _ => 0,
    }
}
