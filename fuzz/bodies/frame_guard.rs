//! Any client bytes in any split through the frame guard: no panic, bounded memory, one result.
//!
//! Input: a byte that chooses the limits, a byte that says how many cuts there are, two bytes for each cut, and
//! what the client sends.

use gateway::socket::frame_guard::{CONTROL_BYTES, Event, Fault, FrameGuard, Kind, Limits};

/// From so tight that most inputs meet them to those of a signed-in client.
const LIMITS: [Limits; 4] = [
    Limits { message_bytes: 1, fragments: 1 },
    Limits { message_bytes: 64, fragments: 3 },
    Limits { message_bytes: 1_024, fragments: 16 },
    Limits { message_bytes: 65_536, fragments: 128 },
];
const CUTS_MAX: usize = 16;
/// An allocation is never smaller.
const ALLOCATION_BYTES: usize = 64;

type Outcome = (Vec<Event>, Option<Fault>);

pub(crate) fn run(data: &[u8]) {
    let [limits, cuts, data @ ..] = data else { return };
    let limits = LIMITS[usize::from(*limits) % LIMITS.len()];
    let cut_bytes = (usize::from(*cuts) % CUTS_MAX * 2).min(data.len() & !1);
    let (cuts, sent) = data.split_at(cut_bytes);
    let mut cuts: Vec<usize> =
        cuts.chunks_exact(2).map(|cut| usize::from(u16::from_be_bytes([cut[0], cut[1]])) % (sent.len() + 1)).collect();
    cuts.extend([0, sent.len()]);
    cuts.sort_unstable();

    let whole = guarded(limits, [sent]);
    check(limits, sent, &whole);
    assert_eq!(guarded(limits, cuts.windows(2).map(|pair| &sent[pair[0]..pair[1]])), whole, "cut at {cuts:?}");
    assert_eq!(guarded(limits, sent.chunks(1)), whole, "byte by byte");
}

/// What comes out of these reads up to the first fault, with the guard's own promises checked on the way.
fn guarded<'a>(limits: Limits, reads: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut guard = FrameGuard::new(limits);
    let (mut events, mut fault) = (Vec::new(), None);
    let mut received = 0;
    // A frame and the message that it belongs to, each in a buffer that doubles.
    let bound = 4 * (limits.message_bytes as usize + CONTROL_BYTES) + 2 * ALLOCATION_BYTES;
    for mut read in reads {
        while !read.is_empty() {
            let before = read.len();
            let next = guard.next(&mut read);
            received += before - read.len();
            let held = guard.held_bytes();
            assert!(held <= bound, "{held} bytes held with {limits:?}");
            assert!(held <= 2 * ALLOCATION_BYTES + 4 * received, "{held} bytes held of {received}");
            let ended = matches!(next, Err(_) | Ok(Some(Event::Close(_))));
            match next {
                Ok(Some(event)) => events.push(event),
                Ok(None) => assert!(read.is_empty(), "bytes left without an event"),
                Err(refused) => assert_eq!(fault.replace(refused), None, "a fault after a fault"),
            }
            if ended {
                assert!(guard.is_done() && guard.is_idle() && held == 0, "something is held after the end");
            }
        }
    }
    (events, fault)
}

/// What passed is what may pass, and no more than was sent.
fn check(limits: Limits, sent: &[u8], (events, fault): &Outcome) {
    let mut bytes = 0;
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Message(message) => {
                assert!(message.payload.len() <= limits.message_bytes as usize);
                assert!(message.kind == Kind::Binary || str::from_utf8(&message.payload).is_ok());
                bytes += message.payload.len();
            }
            Event::Ping(payload) => {
                assert!(payload.len() <= CONTROL_BYTES);
                bytes += payload.len();
            }
            Event::Pong => {}
            Event::Close(close) => {
                assert!(close.reason.len() <= CONTROL_BYTES - 2);
                assert!(close.code.is_some() || close.reason.is_empty());
                assert!(at + 1 == events.len() && fault.is_none(), "something passed behind a close frame");
                bytes += close.reason.len();
            }
        }
        // Two bytes of header and four of mask at least.
        bytes += 6;
    }
    assert!(bytes <= sent.len(), "more came out than went in");
}
