//! `h.…`: what the suite does not ask. Most of it is known to be wrong in the crate that the gateway stands on.
//!
//! A ping stands behind what must be refused: a server that lets it pass answers that at once and is found out.

use super::limits::{FRAGMENTS_MAX, MESSAGE_BYTES};
use super::table::{
    BINARY, BINARY_BEGIN, Case, GO_ON, INVALID_TEXT, LAST, NORMAL, PING, POLICY_VIOLATION, PONG, PROTOCOL_ERROR,
    Script, TEXT, TEXT_BEGIN, TOO_BIG, close,
};
use crate::socket::peer::{MASK, frame};

pub(super) fn add(table: &mut Vec<Case>) {
    let mut refused = |id, about, code, frames: fn() -> Vec<Vec<u8>>| {
        table.push(Case::binary(id, about, move || {
            let mut frames = frames();
            frames.push(frame(PING, b"behind"));
            Script::new().send(&frames).refused(code)
        }));
    };
    refused("h.1", "a message without a mask", PROTOCOL_ERROR, || vec![vec![BINARY, 1, b'x']]);
    refused("h.2", "a ping without a mask", PROTOCOL_ERROR, || vec![vec![PING, 1, b'x']]);
    refused("h.3", "a pong of 126 bytes", PROTOCOL_ERROR, || vec![frame(PONG, &[0; 126])]);
    refused("h.4", "a short length in two bytes", PROTOCOL_ERROR, || vec![long_head(&[0xfe, 0, 1], b"x")]);
    refused("h.5", "a short length in eight bytes", PROTOCOL_ERROR, || {
        vec![long_head(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1], b"x")]
    });
    refused("h.6", "a length over 63 bits", PROTOCOL_ERROR, || {
        vec![long_head(&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], b"")]
    });
    refused("h.7", "a header that says more than the limit", TOO_BIG, || {
        vec![long_head(&[&[0xff][..], &(u64::from(MESSAGE_BYTES) + 1).to_be_bytes()].concat(), b"")]
    });
    refused("h.8", "fragments that are over the limit only together", TOO_BIG, || {
        let half = vec![b'*'; MESSAGE_BYTES as usize / 2];
        vec![frame(BINARY_BEGIN, &half), frame(GO_ON, &half), frame(LAST, b"x")]
    });
    refused("h.9", "a flood of empty fragments", POLICY_VIOLATION, || {
        vec![frame(BINARY_BEGIN, b""), frame(GO_ON, b"").repeat(FRAGMENTS_MAX as usize), frame(LAST, b"")]
    });
    refused("h.10", "a new fragmented message inside another", PROTOCOL_ERROR, || {
        vec![frame(BINARY_BEGIN, b"lost "), frame(BINARY_BEGIN, b"first "), frame(LAST, b"second")]
    });
    table.push(Case::text("h.11", "a fragmented text that ends inside a character", || {
        Script::new().send(&[frame(TEXT_BEGIN, b"5 \xe2\x82"), frame(LAST, b"")]).refused(INVALID_TEXT)
    }));
    table.push(Case::text("h.12", "code 1014, which was registered after the RFC, is answered", || {
        Script::new().send(&[close(1014)]).answered(Some(1014))
    }));
    table.push(Case::text("h.13", "of many close frames only the first is answered", || {
        Script::new().send(&[close(NORMAL), close(1001), close(999), frame(0x88, b"x")]).answered(Some(NORMAL))
    }));
    table.push(Case::text("h.14", "garbage behind a close frame is ignored", || {
        Script::new()
            .send(&[frame(TEXT, b"before"), close(NORMAL), vec![0xff; 300]])
            .text("before")
            .answered(Some(NORMAL))
    }));
}

/// A binary frame with these bytes of length.
fn long_head(length: &[u8], payload: &[u8]) -> Vec<u8> {
    let masked: Vec<_> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    [&[BINARY][..], length, &MASK, &masked].concat()
}
