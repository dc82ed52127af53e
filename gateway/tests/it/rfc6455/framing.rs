//! Groups 1 and 10: a message of every kind of length comes back as it was.

use super::table::{BINARY, Case, Script, TEXT, fragments};
use crate::socket::peer::frame;

/// The lengths around which the header changes its form.
const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];
/// The cut that falls on no boundary.
const CHOP_BYTES: usize = 997;
const FRAGMENT_BYTES: usize = 1_300;

pub(super) fn add(table: &mut Vec<Case>) {
    for (group, first) in [(1, TEXT), (2, BINARY)] {
        for (at, length) in LENGTHS.into_iter().enumerate() {
            let script = move || {
                let payload = vec![b'*'; length];
                Script::new().send(&[frame(first, &payload)]).message(first, payload).closes()
            };
            let id = format!("1.{group}.{}", at + 1);
            table.push(Case::of(first, &id, &format!("{length} bytes come back"), script));
        }
        let script = move || {
            let payload = vec![b'*'; 65_536];
            Script::new().send_chopped(CHOP_BYTES, &[frame(first, &payload)]).message(first, payload).closes()
        };
        let id = format!("1.{group}.8");
        table.push(Case::of(first, &id, "65536 bytes come back though they come in odd pieces", script));
    }
    table.push(Case::text("10.1.1", "a message cut into frames of 1300 bytes comes back whole", || {
        let payload = vec![b'*'; 65_536];
        Script::new().send_each(&fragments(TEXT, &payload, FRAGMENT_BYTES)).text(payload).closes()
    }));
}
