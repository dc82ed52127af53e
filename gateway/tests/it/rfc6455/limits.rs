//! Group 9: large messages, many fragments, small pieces and many messages.

use super::table::{BINARY, Case, Script, TEXT, fragments};
use crate::socket::peer::frame;

/// The limit that both servers run with: the largest message here.
pub(super) const MESSAGE_BYTES: u32 = 16 * MIB as u32;

/// The gateway's limit of fragments: what 4 MiB in frames of 64 bytes need.
pub(super) const FRAGMENTS_MAX: u32 = 65_536;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SIZES: [usize; 6] = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
const FRAGMENTED_BYTES: usize = 4 * MIB;
const FRAGMENTS: [usize; 9] = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
const CHOPPED_BYTES: usize = MIB;
const CHOPS: [usize; 6] = [64, 128, 256, 512, KIB, 2 * KIB];
const ROUND_TRIPS: usize = 1_000;
const ROUND_TRIP_SIZES: [usize; 6] = [0, 16, 64, 256, KIB, 4 * KIB];

pub(super) fn add(table: &mut Vec<Case>) {
    // Odd groups are text, the even ones behind them the same in binary.
    both(table, 1, "{} bytes come back", SIZES, |first, size| {
        let payload = vec![b'*'; size];
        Script::new().send(&[frame(first, &payload)]).message(first, payload)
    });
    both(table, 3, "4 MiB in fragments of {} bytes come back", FRAGMENTS, |first, size| {
        let payload = vec![b'*'; FRAGMENTED_BYTES];
        Script::new().send(&fragments(first, &payload, size)).message(first, payload)
    });
    both(table, 5, "1 MiB in pieces of {} bytes comes back", CHOPS, |first, size| {
        let payload = vec![b'*'; CHOPPED_BYTES];
        Script::new().send_chopped(size, &[frame(first, &payload)]).message(first, payload)
    });
    both(table, 7, "1000 messages of {} bytes come back one by one", ROUND_TRIP_SIZES, |first, size| {
        Script::new().round_trips(ROUND_TRIPS, first, vec![b'*'; size])
    });
}

fn both<const N: usize>(
    table: &mut Vec<Case>,
    group: usize,
    about: &str,
    sizes: [usize; N],
    script: fn(u8, usize) -> Script,
) {
    for (at, size) in sizes.into_iter().enumerate() {
        let about = about.replace("{}", &size.to_string());
        for (group, first) in [(group, TEXT), (group + 1, BINARY)] {
            let id = format!("9.{group}.{}", at + 1);
            table.push(Case::of(first, &id, &about, move || script(first, size).closes()));
        }
    }
}
