//! Canonical protobuf JSON, the messages of the text sub-protocol.
//!
//! How it maps is generated with the wire types; here is only what bounds it.

use bytes::Bytes;
use proto::v1::{ClientFrame, ServerFrame};

use crate::frames::Unencodable;

/// How deep a client's brackets may nest: today's deepest frame has five, the rest is for newer clients.
const DEPTH_MAX: usize = 16;

/// Reads a client's frame; `None` for what is none.
pub(crate) fn decode(text: &[u8]) -> Option<ClientFrame> {
    // Looked at before the parser, which would take a stack frame for each level.
    if nests_deeper_than(DEPTH_MAX, text) { None } else { serde_json::from_slice(text).ok() }
}

/// Writes a frame for a client.
pub(crate) fn encode(frame: &ServerFrame) -> Result<Bytes, Unencodable> {
    serde_json::to_vec(frame).map(Bytes::from).map_err(|_fault| Unencodable)
}

/// Counts open brackets outside of strings; whether they match is the parser's business.
fn nests_deeper_than(max: usize, text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::v1;
    use proto::v1::client_frame::Frame;
    use proto::v1::command::Action;

    use super::*;
    use crate::frames::decode as decode_as;
    use crate::socket::SubProtocol;

    fn frames() -> Vec<ClientFrame> {
        let chat = || Bytes::from(vec![1; 16]);
        let member = || v1::Member { user: vec![0xff; 16].into(), role: v1::Role::Admin.into() };
        let command =
            |action| Frame::Command(v1::Command { chat: chat(), origin: u64::MAX, n: 3, after: 2, basis: 1, action });
        let create = v1::CreateChat { kind: v1::ChatKind::Group.into(), members: vec![member(), member()] };
        let send = v1::SendMessage { body: (0..=255).collect::<Vec<u8>>().into(), ..v1::SendMessage::default() };
        let reply =
            v1::SendMessage { reply_to: u64::MAX, mentions: vec![chat(), chat()], mention_all: true, ..send.clone() };
        let kinds = [
            Frame::Authenticate(v1::Authenticate {
                token: "to\"{[ken".to_owned(),
                device: "\u{1f4f1}".to_owned(),
                resume: None,
                ticket: String::new(),
            }),
            command(Some(Action::CreateChat(create))),
            command(Some(Action::AddMember(v1::AddMember { member: Some(member()) }))),
            command(Some(Action::RemoveMember(v1::RemoveMember { user: chat() }))),
            command(Some(Action::LeaveChat(v1::LeaveChat {}))),
            command(Some(Action::SetRole(v1::SetRole { user: chat(), role: v1::Role::Admin.into() }))),
            command(Some(Action::RenameChat(v1::RenameChat { name: "the \"café\" \u{1f600}".to_owned() }))),
            command(Some(Action::TransferOwnership(v1::TransferOwnership { user: chat() }))),
            command(Some(Action::EditMessage(v1::EditMessage { seq: u64::MAX, body: send.body.clone() }))),
            command(Some(Action::DeleteMessage(v1::DeleteMessage { seq: 1 << 53 }))),
            command(Some(Action::React(v1::React { seq: 1 << 53, reaction: "\u{1f44d}\u{1f3fd}\"\\".to_owned() }))),
            command(Some(Action::SetChatPolicy(v1::SetChatPolicy {
                change: Some(v1::ChatPolicy { members_add: Some(false), slow_mode_s: Some(u32::MAX) }),
            }))),
            command(Some(Action::SetChatPolicy(v1::SetChatPolicy { change: Some(v1::ChatPolicy::default()) }))),
            command(Some(Action::PinMessage(v1::PinMessage { seq: 1 << 53, unpin: true }))),
            command(Some(Action::SendMessage(send))),
            command(Some(Action::SendMessage(reply))),
            command(None),
            Frame::ReadHistory(v1::ReadHistory { chat: chat(), after: u64::MAX, limit: 9, at_least: 1 << 53 }),
            Frame::Received(v1::Received { chat: chat(), through: 7 }),
            Frame::Seen(v1::Seen { chat: chat(), through: 0 }),
        ];
        let frames = kinds.into_iter().enumerate().map(|(at, kind)| ClientFrame { id: at as u64, frame: Some(kind) });
        frames.chain([ClientFrame::default()]).collect()
    }

    #[test]
    fn each_kind_of_frame_means_the_same_in_both_sub_protocols() {
        for frame in frames() {
            let binary = decode_as(SubProtocol::Proto, frame.encode_to_vec().into());
            let text = decode_as(SubProtocol::Json, serde_json::to_vec(&frame).unwrap().into());
            assert_eq!((&binary, &text), (&Ok(frame.clone()), &Ok(frame)));
        }
    }

    #[test]
    fn what_is_no_json_of_a_frame_is_refused() {
        let cases = [
            "",
            "null",
            "[]",
            "\"frame\"",
            "{",
            "{}{}",
            r#"{"id":-1}"#,
            r#"{"id":"1.5"}"#,
            r#"{"id":1,"id":2}"#,
            r#"{"id":18446744073709551616}"#,
            r#"{"received":{"chat":"*"}}"#,
            r#"{"received":{},"seen":{}}"#,
            r#"{"authenticate":{"token":7}}"#,
            r#"{"authenticate":{"token":"\ud800"}}"#,
        ];
        for text in cases {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn brackets_nest_to_the_bound_and_no_deeper() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!(r#"{{"id":"7","later":{open}"{{{{{{\\\"[[["{close}}}"#)
        };
        let at_bound = nested(DEPTH_MAX);
        assert_eq!(decode(at_bound.as_bytes()).map(|frame| frame.id), Some(7), "{at_bound}");
        assert_eq!(decode(nested(DEPTH_MAX + 1).as_bytes()), None);
        assert_eq!(decode("[".repeat(65_536).as_bytes()), None);
    }
}
