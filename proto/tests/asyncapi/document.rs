//! The socket as `AsyncAPI` 3 describes it (<https://www.asyncapi.com/docs/reference/specification/v3.0.0>), from the types.

use serde_json::{Map, Value, json};

use crate::schemas::Types;

/// Each request, and the frames that answer it.
const REPLIES: &[(&str, &[&str])] = &[
    ("authenticate", &["welcome", "renewed", "error"]),
    ("command", &["accepted", "outcome", "error"]),
    ("readHistory", &["history", "error"]),
    ("received", &[]),
    ("seen", &[]),
];
/// What comes without having been asked for.
const PUSHES: &[&str] = &["hello", "ready", "heads", "pushed", "watermark", "closing"];

/// The whole document.
pub(crate) fn document(types: &Types<'_>) -> Value {
    let (requests, answers) = (types.arms("ClientFrame"), types.arms("ServerFrame"));
    check(&requests, &answers);
    let mut messages = Map::new();
    for (frame, arms) in [("ClientFrame", &requests), ("ServerFrame", &answers)] {
        for (arm, says) in arms {
            messages.insert((*arm).to_owned(), message(frame, arm, says.as_deref()));
        }
    }
    let mut operations = Map::new();
    for (request, replies) in REPLIES {
        let mut operation = operation("receive", request);
        if !replies.is_empty() {
            operation["reply"] = json!({ "channel": channel(), "messages": in_channel(replies) });
        }
        operations.insert((*request).to_owned(), operation);
    }
    for push in PUSHES {
        operations.insert((*push).to_owned(), operation("send", push));
    }
    let in_socket: Map<_, _> = messages.keys().map(|name| (name.clone(), reference("messages", name))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Heliograph: the socket",
            "version": "1",
            "description": "Frames of the sub-protocol `heliograph.v1.json`; `heliograph.v1.proto` carries the same as protobuf. \
                A request has an id that its replies repeat, a push has none. Unknown fields are passed over, and 64-bit numbers \
                may also be sent as numbers. States, limits, close codes and what a client does at each: docs/protocol.md.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:7070",
                "protocol": "ws",
                "description": "`heliograph up` on this machine; `wss` wherever it leaves one.",
            },
        },
        "channels": {
            "socket": {
                "address": "/v1/socket",
                "description": "One JSON object a text message, both ways. No token in the URL: the first frame signs in.",
                "messages": in_socket,
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "headers": {
                            "type": "object",
                            "properties": { "Sec-WebSocket-Protocol": { "type": "string", "const": "heliograph.v1.json" } },
                            "required": ["Sec-WebSocket-Protocol"],
                        },
                        "bindingVersion": "0.1.0",
                    },
                },
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": types.schemas() },
    })
}

/// Each frame has its place, and no other: a new one must be put somewhere here.
fn check(requests: &[(&str, Option<String>)], answers: &[(&str, Option<String>)]) {
    for (request, _) in requests {
        assert!(REPLIES.iter().any(|(known, _)| known == request), "{request}: what answers it?");
    }
    let known = |answer: &str| PUSHES.contains(&answer) || REPLIES.iter().any(|(_, replies)| replies.contains(&answer));
    for (answer, _) in answers {
        assert!(known(answer), "{answer}: a push, or a reply to what?");
    }
}

fn message(frame: &str, arm: &str, says: Option<&str>) -> Value {
    let mut message = json!({
        "name": arm,
        "payload": { "allOf": [reference("schemas", frame), { "required": [arm] }] },
    });
    if let Some(says) = says {
        message["summary"] = says.into();
    }
    message
}

/// As the server sees it: it receives requests and sends pushes.
fn operation(action: &str, arm: &str) -> Value {
    json!({ "action": action, "channel": channel(), "messages": in_channel(&[arm]) })
}

fn in_channel(arms: &[&str]) -> Vec<Value> {
    arms.iter().map(|arm| json!({ "$ref": format!("#/channels/socket/messages/{arm}") })).collect()
}

fn channel() -> Value {
    json!({ "$ref": "#/channels/socket" })
}

fn reference(of: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{of}/{name}") })
}
