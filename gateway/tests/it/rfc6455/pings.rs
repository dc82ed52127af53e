//! Group 2: pings are answered with what they carry, pongs are not answered.

use super::table::{Case, PING, PONG, PROTOCOL_ERROR, Script};
use crate::socket::peer::frame;

/// Pings in a row.
const MANY: usize = 10;

pub(super) fn add(table: &mut Vec<Case>) {
    table.push(answered("2.1", "an empty ping is answered", b"", usize::MAX));
    table.push(answered("2.2", "a ping with text is answered with it", b"are you there?", usize::MAX));
    table.push(answered(
        "2.3",
        "a ping with bytes that are no text is answered with them",
        &[0x00, 0xff, 0xfe, 0xfd, 0x00],
        usize::MAX,
    ));
    table.push(answered("2.4", "a ping of the greatest length is answered", &[0xfe; 125], usize::MAX));
    table.push(Case::text("2.5", "a ping of one byte more is refused", || {
        Script::new().send(&[frame(PING, &[0xfe; 126])]).refused(PROTOCOL_ERROR)
    }));
    table.push(answered("2.6", "a ping that comes byte by byte is answered", &[0xfe; 125], 1));
    for (id, about, payload) in [
        ("2.7", "an empty pong that nobody asked for is ignored", &b""[..]),
        ("2.8", "so is one that carries something", b"nobody asked"),
    ] {
        table.push(Case::text(id, about, move || Script::new().send(&[frame(PONG, payload)]).closes()));
    }
    table.push(Case::text("2.9", "a pong that nobody asked for does not hide the ping behind it", || {
        Script::new().send(&[frame(PONG, b"nobody asked"), frame(PING, b"asked")]).pong("asked").closes()
    }));
    // The RFC would let us answer the last one alone (§5.5.3). We promise more: a client may have asked for a reason.
    for (id, about, chop) in [
        ("2.10", "of ten pings at once each is answered, in order", usize::MAX),
        ("2.11", "of ten pings that come byte by byte each is answered, in order", 1),
    ] {
        table.push(Case::text(id, about, move || {
            let payload = |n| format!("ping {n}").into_bytes();
            let pings: Vec<_> = (0..MANY).map(|n| frame(PING, &payload(n))).collect();
            (0..MANY).fold(Script::new().send_chopped(chop, &pings), |script, n| script.pong(payload(n))).closes()
        }));
    }
}

fn answered(id: &str, about: &str, payload: &'static [u8], chop: usize) -> Case {
    let script = move || Script::new().send_chopped(chop, &[frame(PING, payload)]).pong(payload).closes();
    Case::text(id, about, script)
}
