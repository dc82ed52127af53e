//! The guard's cases: what passes, what is refused with which code, and that the split never matters.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { message_bytes: 65_536, fragments: 8 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client frame with its shortest length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

fn text(payload: &'static [u8]) -> Event {
    Event::Message(Message { kind: Kind::Text, payload: Bytes::from_static(payload) })
}

fn binary(payload: Vec<u8>) -> Event {
    Event::Message(Message { kind: Kind::Binary, payload: payload.into() })
}

/// Everything that comes out of these reads, up to the first fault.
fn run<'a>(limits: Limits, reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Fault>) {
    let mut guard = FrameGuard::new(limits);
    let mut events = Vec::new();
    for mut read in reads {
        loop {
            match guard.next(&mut read) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(fault) => return (events, Some(fault)),
            }
        }
        assert!(read.is_empty());
    }
    (events, None)
}

fn whole(bytes: &[u8]) -> (Vec<Event>, Option<Fault>) {
    run(LIMITS, [bytes])
}

#[test]
fn valid_frames_pass() {
    let longest = vec![7; 65_536];
    let cases: Vec<(&str, Vec<u8>, Vec<Event>)> = vec![
        ("empty text", frame(0x81, b""), vec![text(b"")]),
        ("text", frame(0x81, "κόσμε".as_bytes()), vec![text("κόσμε".as_bytes())]),
        ("binary of 125", frame(0x82, &[1; 125]), vec![binary(vec![1; 125])]),
        ("binary of 126", frame(0x82, &[1; 126]), vec![binary(vec![1; 126])]),
        ("binary of 65535", frame(0x82, &longest[1..]), vec![binary(longest[1..].to_vec())]),
        ("binary at the limit", frame(0x82, &longest), vec![binary(longest.clone())]),
        ("ping", frame(0x89, &[9; 125]), vec![Event::Ping(vec![9; 125].into())]),
        ("pong", frame(0x8a, b""), vec![Event::Pong]),
        (
            "fragments with a ping between",
            [frame(0x01, b"one "), frame(0x89, b"?"), frame(0x00, b"two "), frame(0x80, b"three")].concat(),
            vec![Event::Ping(Bytes::from_static(b"?")), text(b"one two three")],
        ),
        (
            "a character split over fragments",
            [frame(0x01, &[0xce]), frame(0x00, b""), frame(0x80, &[0xba])].concat(),
            vec![text("κ".as_bytes())],
        ),
        ("empty fragments", [frame(0x02, b""), frame(0x80, b"")].concat(), vec![binary(vec![])]),
        (
            "two messages in one read",
            [frame(0x82, b"a"), frame(0x82, b"b")].concat(),
            vec![binary(b"a".to_vec()), binary(b"b".to_vec())],
        ),
        ("empty close", frame(0x88, b""), vec![Event::Close(PeerClose::default())]),
        (
            "close with reason, then nothing more is accepted",
            [close(1000, b"bye"), frame(0x82, b"late"), vec![0xff; 9]].concat(),
            vec![Event::Close(PeerClose { code: Some(1000), reason: "bye".into() })],
        ),
    ];
    for (name, bytes, events) in cases {
        assert_eq!(whole(&bytes), (events, None), "{name}");
    }
}

#[test]
fn each_invalid_frame_has_its_fault_and_close_code() {
    let raw = |bytes: &[u8]| [bytes, &MASK].concat();
    let cases: Vec<(&str, Vec<u8>, Fault, u16)> = vec![
        ("RSV1", frame(0xc1, b"x"), Fault::ReservedBits, 1002),
        ("RSV2", frame(0xa1, b"x"), Fault::ReservedBits, 1002),
        ("RSV3 on a ping", frame(0x99, b"x"), Fault::ReservedBits, 1002),
        ("opcode 3", frame(0x83, b"x"), Fault::ReservedOpcode, 1002),
        ("opcode 7", frame(0x87, b"x"), Fault::ReservedOpcode, 1002),
        ("opcode 11", frame(0x8b, b"x"), Fault::ReservedOpcode, 1002),
        ("opcode 15", frame(0x8f, b"x"), Fault::ReservedOpcode, 1002),
        ("unmasked text", vec![0x81, 0x01, b'x'], Fault::Unmasked, 1002),
        ("unmasked empty ping", vec![0x89, 0x00], Fault::Unmasked, 1002),
        ("fragmented ping", frame(0x09, b""), Fault::ControlFragmented, 1002),
        ("fragmented close", frame(0x08, b""), Fault::ControlFragmented, 1002),
        ("ping of 126", frame(0x89, &[0; 126]), Fault::ControlTooLong, 1002),
        ("pong of 126", frame(0x8a, &[0; 126]), Fault::ControlTooLong, 1002),
        ("close of 65536", frame(0x88, &[0; 65_536]), Fault::ControlTooLong, 1002),
        ("125 in two bytes", raw(&[0x82, 0xfe, 0, 125]), Fault::LengthNotMinimal, 1002),
        ("65535 in eight bytes", raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Fault::LengthNotMinimal, 1002),
        ("64-bit length", raw(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Fault::LengthOver63Bits, 1002),
        ("63-bit length", raw(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Fault::TooBig, 1009),
        ("one over the limit", raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1]), Fault::TooBig, 1009),
        (
            "fragments summed over the limit",
            [frame(0x02, &[0; 40_000]), frame(0x80, &[0; 25_537])].concat(),
            Fault::TooBig,
            1009,
        ),
        (
            "one fragment too many",
            [frame(0x02, b""), frame(0x00, b"").repeat(7), frame(0x80, b"")].concat(),
            Fault::TooManyFragments,
            1008,
        ),
        ("continuation of nothing", frame(0x80, b"x"), Fault::UnexpectedContinuation, 1002),
        (
            "continuation after the end",
            [frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat(),
            Fault::UnexpectedContinuation,
            1002,
        ),
        (
            "text inside a fragmented text",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            Fault::MessageInterrupted,
            1002,
        ),
        (
            "binary start inside a fragmented text",
            [frame(0x01, b"a"), frame(0x02, b"b")].concat(),
            Fault::MessageInterrupted,
            1002,
        ),
        ("text not UTF-8", frame(0x81, &[0xff]), Fault::TextNotUtf8, 1007),
        ("surrogate", frame(0x81, &[0xed, 0xa0, 0x80]), Fault::TextNotUtf8, 1007),
        ("overlong slash", frame(0x81, &[0xc0, 0xaf]), Fault::TextNotUtf8, 1007),
        ("character left open at the end", frame(0x81, &[0xce]), Fault::TextNotUtf8, 1007),
        (
            "character left open over fragments",
            [frame(0x01, &[0xce]), frame(0x80, b"")].concat(),
            Fault::TextNotUtf8,
            1007,
        ),
        ("bad first fragment fails at once", frame(0x01, &[b'a', 0xff]), Fault::TextNotUtf8, 1007),
        ("close of one byte", frame(0x88, &[3]), Fault::CloseTooShort, 1002),
        ("close 1005", close(1005, b""), Fault::CloseCodeInvalid, 1002),
        ("close 2999", close(2999, b""), Fault::CloseCodeInvalid, 1002),
        ("close reason not UTF-8", close(1000, &[0xff]), Fault::CloseReasonNotUtf8, 1007),
    ];
    for (name, bytes, fault, code) in cases {
        let (_, found) = whole(&bytes);
        assert_eq!(found, Some(fault), "{name}");
        assert_eq!(fault.close_code().number(), code, "{name}");
        let mut guard = FrameGuard::new(LIMITS);
        let mut input = &bytes[..];
        while guard.next(&mut input).is_ok() {}
        let again = frame(0x82, b"after the fault");
        assert_eq!(guard.next(&mut &again[..]), Ok(None), "{name}: nothing passes after a fault");
        assert!(guard.is_idle(), "{name}: nothing is held after a fault");
    }
}

#[test]
fn a_header_that_claims_much_allocates_only_for_what_came() {
    let mut guard = FrameGuard::new(LIMITS);
    let mut input: &[u8] = &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
    assert_eq!(guard.next(&mut input), Ok(None));
    assert_eq!(guard.held_bytes(), 0);
    for sent in 1..=3_000_usize {
        assert_eq!(guard.next(&mut &[0_u8][..]), Ok(None));
        assert!(guard.held_bytes() <= 64.max(2 * sent), "{} held after {sent}", guard.held_bytes());
    }
}

#[test]
fn smaller_limits_hold_until_they_are_raised() {
    let small = Limits { message_bytes: 4, fragments: 1 };
    assert_eq!(run(small, [&frame(0x82, b"12345")[..]]).1, Some(Fault::TooBig));
    assert_eq!(run(small, [&frame(0x02, b"1")[..], &frame(0x80, b"2")]).1, Some(Fault::TooManyFragments));
    let mut guard = FrameGuard::new(small);
    assert!(matches!(guard.next(&mut &frame(0x82, b"1234")[..]), Ok(Some(_))));
    guard.set_limits(LIMITS);
    assert!(matches!(guard.next(&mut &frame(0x82, b"12345")[..]), Ok(Some(_))));
    assert!(guard.is_idle());
}

/// Client frames, most of them valid, some broken by a flipped byte.
fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        6 => ("[a-zé€𝄞]{0,40}", prop::sample::select(vec![0x81_u8, 0x01, 0x00, 0x80]))
            .prop_map(|(text, first)| frame(first, text.as_bytes())),
        4 => (prop::collection::vec(any::<u8>(), 0..300), prop::sample::select(vec![0x82_u8, 0x02, 0x80]))
            .prop_map(|(bytes, first)| frame(first, &bytes)),
        3 => (prop::collection::vec(any::<u8>(), 0..20), prop::sample::select(vec![0x89_u8, 0x8a]))
            .prop_map(|(bytes, first)| frame(first, &bytes)),
        1 => (900..5100_u16).prop_map(|code| close(code, b"bye")),
    ];
    (prop::collection::vec(one, 0..12), prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())))
        .prop_map(|(frames, flip)| {
            let mut bytes = frames.concat();
            if let Some((at, by)) = flip
                && !bytes.is_empty()
            {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            bytes
        })
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_result(
        bytes in client_bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let at_once = whole(&bytes);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let reads = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(run(LIMITS, reads), at_once.clone());
        prop_assert_eq!(run(LIMITS, bytes.chunks(1)), at_once);
    }

    #[test]
    fn any_bytes_hold_no_more_than_their_limit(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let limits = Limits { message_bytes: 512, fragments: 4 };
        let mut guard = FrameGuard::new(limits);
        let mut input = &bytes[..];
        while !input.is_empty() {
            if guard.next(&mut input).is_err() {
                break;
            }
            prop_assert!(guard.held_bytes() <= 4 * 512);
        }
    }
}
