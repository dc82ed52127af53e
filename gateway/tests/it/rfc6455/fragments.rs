//! Group 5: fragments are joined, control frames pass between them, and what continues nothing is refused.

use super::table::{Case, Cut, GO_ON, LAST, PING, PONG, PROTOCOL_ERROR, Script, TEXT, TEXT_BEGIN};
use crate::socket::peer::frame;

const FIN: u8 = 0x80;
/// The ways in which a stream is cut, and how a case says so.
const CUTS: [(Cut, &str); 3] =
    [(Cut::None, "in one write"), (Cut::Frames, "frame by frame"), (Cut::Bytes, "byte by byte")];

pub(super) fn add(table: &mut Vec<Case>) {
    for (id, what, first) in [("5.1", "a ping", PING), ("5.2", "a pong", PONG)] {
        table.push(Case::text(id, &format!("{what} in two fragments is refused"), move || {
            let frames = [frame(first & !FIN, b"first"), frame(LAST, b"second")];
            Script::new().send(&frames).refused(PROTOCOL_ERROR)
        }));
    }
    for (at, (cut, how)) in CUTS.into_iter().enumerate() {
        table.push(Case::text(&format!("5.{}", 3 + at), &format!("text in two fragments, {how}"), move || {
            let frames = [frame(TEXT_BEGIN, b"first "), frame(LAST, b"second")];
            Script::new().send_cut(cut, &frames).text("first second").closes()
        }));
    }
    for (at, (cut, how)) in CUTS.into_iter().enumerate() {
        let about = format!("a ping between two fragments is answered before the text, {how}");
        table.push(Case::text(&format!("5.{}", 6 + at), &about, move || {
            let frames = [frame(TEXT_BEGIN, b"first "), frame(PING, b"between"), frame(LAST, b"second")];
            Script::new().send_cut(cut, &frames).pong("between").text("first second").closes()
        }));
    }
    for (from, what, first) in [(9, "a last fragment", LAST), (12, "a fragment", GO_ON)] {
        for (at, (cut, how)) in CUTS.into_iter().enumerate() {
            let about = format!("{what} of nothing is refused though text follows, {how}");
            table.push(Case::text(&format!("5.{}", from + at), &about, move || {
                let frames = [frame(first, b"of nothing"), frame(TEXT, b"behind")];
                Script::new().send_cut(cut, &frames).refused(PROTOCOL_ERROR)
            }));
        }
    }
    table.push(Case::text("5.15", "a fragment behind a whole fragmented text is refused, the text comes back", || {
        let whole = [frame(TEXT_BEGIN, b"first "), frame(LAST, b"second")].concat();
        let frames = [whole, frame(GO_ON, b"of nothing"), frame(TEXT, b"behind")];
        Script::new().send(&frames).text("first second").refused(PROTOCOL_ERROR)
    }));
    for (id, what, first) in [("5.16", "a fragment", GO_ON), ("5.17", "a last fragment", LAST)] {
        table.push(Case::text(id, &format!("{what} of nothing before a fragmented text, twice"), move || {
            let frames = [frame(first, b"of nothing"), frame(TEXT_BEGIN, b"first "), frame(LAST, b"second")].concat();
            Script::new().send(&[frames.repeat(2)]).refused(PROTOCOL_ERROR)
        }));
    }
    table.push(Case::text("5.18", "a second fragment that says text is refused", || {
        Script::new().send(&[frame(TEXT_BEGIN, b"first "), frame(TEXT, b"second")]).refused(PROTOCOL_ERROR)
    }));
    for (id, cut, how) in [("5.19", Cut::None, "in one write"), ("5.20", Cut::Bytes, "byte by byte")] {
        let about = format!("a ping inside a message is answered before the message goes on, {how}");
        table.push(Case::text(id, &about, move || {
            let begin = [frame(TEXT_BEGIN, b"1"), frame(GO_ON, b"2"), frame(PING, b"first ping")];
            let rest = [frame(GO_ON, b"3"), frame(GO_ON, b"4"), frame(PING, b"second ping"), frame(LAST, b"5")];
            let script = Script::new().send_cut(cut, &begin).pong("first ping");
            script.send_cut(cut, &rest).pong("second ping").text("12345").closes()
        }));
    }
}
