//! Group 7: a close frame is answered once, nothing behind it counts, and what it says is checked.

use super::table::{
    CLOSE, Case, INVALID_TEXT, LAST, NORMAL, PING, PROTOCOL_ERROR, Script, TEXT, TEXT_BEGIN, close, close_with,
};
use crate::socket::peer::frame;

/// Codes that a client may send, by RFC 6455 §7.4.
const VALID: [u16; 13] = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
/// Codes that no close frame may carry, or that nobody has defined.
const INVALID: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
/// Codes above all ranges: the RFC says nothing of them. We promise to refuse them.
const BEYOND: [u16; 2] = [5000, u16::MAX];
/// Longest reason: a control frame without the code.
const REASON_BYTES: usize = 123;

pub(super) fn add(table: &mut Vec<Case>) {
    // 7.1: what stands before the close frame counts, what stands behind it does not.
    table.push(Case::text("7.1.1", "text before a close frame comes back before the answer", || {
        Script::new().send(&[frame(TEXT, b"before"), close(NORMAL)]).text("before").answered(Some(NORMAL))
    }));
    for (id, about, behind) in [
        ("7.1.2", "a second close frame is ignored", close as fn(u16) -> Vec<u8>),
        ("7.1.3", "a ping behind a close frame is ignored", |_| frame(PING, b"behind")),
        ("7.1.4", "text behind a close frame is ignored", |_| frame(TEXT, b"behind")),
    ] {
        table.push(Case::text(id, about, move || {
            Script::new().send(&[close(NORMAL), behind(NORMAL)]).answered(Some(NORMAL))
        }));
    }
    table.push(Case::text("7.1.5", "a close frame between two fragments ends it, no text comes back", || {
        let frames = [frame(TEXT_BEGIN, b"first "), close(NORMAL), frame(LAST, b"second")];
        Script::new().send(&frames).answered(Some(NORMAL))
    }));
    // The suite only notes what comes here. We promise that all is said before the answer.
    table.push(Case::text("7.1.6", "256 KiB and text come back though a close frame stands right behind them", || {
        let payload = vec![b'*'; 256 * 1024];
        let frames = [frame(TEXT, &payload), frame(TEXT, b"and this"), close(NORMAL), frame(PING, b"behind")];
        Script::new().send(&frames).text(payload).text("and this").answered(Some(NORMAL))
    }));

    // 7.3 and 7.5: what a close frame carries.
    table.push(Case::text("7.3.1", "an empty close frame is answered with an empty one", || {
        Script::new().send(&[frame(CLOSE, b"")]).answered(None)
    }));
    table.push(Case::text("7.3.2", "a close frame of one byte is refused", || {
        Script::new().send(&[frame(CLOSE, b"x")]).refused(PROTOCOL_ERROR)
    }));
    table.push(Case::text("7.3.3", "a close frame with a code alone is answered", || {
        Script::new().send(&[close(NORMAL)]).answered(Some(NORMAL))
    }));
    table.push(Case::text("7.3.4", "so is one with a reason", || {
        Script::new().send(&[close_with(NORMAL, "genug für heute".as_bytes())]).answered(Some(NORMAL))
    }));
    table.push(Case::text("7.3.5", "so is one with the longest reason", || {
        Script::new().send(&[close_with(NORMAL, &[b'*'; REASON_BYTES])]).answered(Some(NORMAL))
    }));
    table.push(Case::text("7.3.6", "a reason of one byte more is refused", || {
        Script::new().send(&[close_with(NORMAL, &[b'*'; REASON_BYTES + 1])]).refused(PROTOCOL_ERROR)
    }));
    table.push(Case::text("7.5.1", "a reason that is not UTF-8 is refused", || {
        Script::new().send(&[close_with(NORMAL, b"\xce\xba\xed\xa0\x80edited")]).refused(INVALID_TEXT)
    }));

    // 7.7, 7.9 and 7.13: codes.
    for (at, code) in VALID.into_iter().enumerate() {
        table.push(Case::text(&format!("7.7.{}", at + 1), &format!("code {code} is answered"), move || {
            Script::new().send(&[close(code)]).answered(Some(code))
        }));
    }
    for (group, codes) in [(9, &INVALID[..]), (13, &BEYOND)] {
        for (at, code) in codes.iter().enumerate() {
            table.push(Case::text(&format!("7.{group}.{}", at + 1), &format!("code {code} is refused"), move || {
                Script::new().send(&[close(*code)]).refused(PROTOCOL_ERROR)
            }));
        }
    }
}
