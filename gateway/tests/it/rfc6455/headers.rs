//! Groups 3 and 4: reserved bits and reserved opcodes end the connection, and nothing behind them counts.

use super::table::{BINARY, CLOSE, Case, Cut, PING, PROTOCOL_ERROR, Script, TEXT};
use crate::socket::peer::frame;

const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const FIN: u8 = 0x80;

pub(super) fn add(table: &mut Vec<Case>) {
    let mut alone = |id: &'static str, about: &str, first: u8, payload: &'static [u8]| {
        let script = move || Script::new().send(&[frame(first, payload)]).refused(PROTOCOL_ERROR);
        table.push(Case::of(first, id, about, script));
    };
    alone("3.1", "text with the third reserved bit", TEXT | RSV3, b"hello");
    alone("3.5", "binary with the first and third reserved bits", BINARY | RSV1 | RSV3, &[0, 1, 2, 3]);
    alone("3.6", "a ping with the first and second reserved bits", PING | RSV1 | RSV2, b"hello");
    alone("3.7", "a close frame with all reserved bits", CLOSE | RSV1 | RSV2 | RSV3, &[0x03, 0xe8]);
    alone("4.1.1", "opcode 3 without a payload", FIN | 3, b"");
    alone("4.1.2", "opcode 4 with a payload", FIN | 4, b"reserved");
    alone("4.2.1", "opcode 11 without a payload", FIN | 11, b"");
    alone("4.2.2", "opcode 12 with a payload", FIN | 12, b"reserved");

    let mut between = |id, about, first: u8, payload: &'static [u8], cut| {
        table.push(Case::text(id, about, move || {
            let frames = [frame(TEXT, b"before"), frame(first, payload), frame(PING, b"behind")];
            // The ping behind it gets no answer.
            Script::new().send_cut(cut, &frames).text("before").refused(PROTOCOL_ERROR)
        }));
    };
    between("3.2", "the second reserved bit between text and a ping", TEXT | RSV2, b"hello", Cut::None);
    between(
        "3.3",
        "two reserved bits between text and a ping, frame by frame",
        TEXT | RSV2 | RSV3,
        b"hello",
        Cut::Frames,
    );
    between("3.4", "the first reserved bit between text and a ping, byte by byte", TEXT | RSV1, b"hello", Cut::Bytes);
    between("4.1.3", "opcode 5 between text and a ping", FIN | 5, b"", Cut::None);
    between("4.1.4", "opcode 6 with a payload between text and a ping", FIN | 6, b"reserved", Cut::None);
    between("4.1.5", "opcode 7 with a payload between text and a ping, byte by byte", FIN | 7, b"reserved", Cut::Bytes);
    between("4.2.3", "opcode 13 between text and a ping", FIN | 13, b"", Cut::None);
    between("4.2.4", "opcode 14 with a payload between text and a ping", FIN | 14, b"reserved", Cut::None);
    between(
        "4.2.5",
        "opcode 15 with a payload between text and a ping, byte by byte",
        FIN | 15,
        b"reserved",
        Cut::Bytes,
    );
}
