//! Group 6: text is UTF-8 (RFC 3629), however it is cut, and nothing else is text.
//!
//! A row says by itself what is valid: a decoder that is asked what to expect of it would agree with itself.

use super::table::{Case, INVALID_TEXT, LAST, PING, Script, TEXT, TEXT_BEGIN, fragments};
use crate::socket::peer::frame;

/// Characters of one, two and three bytes.
const MIXED: &str = "Grüße aus Köln, 5 µm für 3 €!";
/// A word whose characters differ in length: the accent is one of three bytes.
const WORD: &str = "κ\u{1f79}σμε";
/// The prefixes of the word, by their bytes, that do not end inside a character.
const WHOLE_PREFIXES: [usize; 5] = [2, 5, 7, 9, 11];

/// The pattern of UTF-8 without its rules: any number up to 31 bits in any sufficient count of 2 to 6 bytes.
fn pattern(number: u32, bytes: u32) -> Vec<u8> {
    let lead = !(0xff_u8 >> bytes);
    let digit = |place: u32| (number >> (6 * place) & 0x3f) as u8;
    let first = lead | (number >> (6 * (bytes - 1))) as u8;
    std::iter::once(first).chain((0..bytes - 1).rev().map(|place| 0x80 | digit(place))).collect()
}

/// The greatest number that the pattern holds in so many bytes.
fn greatest(bytes: u32) -> u32 {
    match bytes {
        1 => 0x7f,
        _ => (1 << (5 * bytes + 1)) - 1,
    }
}

fn characters(all: impl IntoIterator<Item = u32>) -> Vec<(bool, Vec<u8>)> {
    let encoded = |number| char::from_u32(number).unwrap().to_string().into_bytes();
    all.into_iter().map(|number| (true, encoded(number))).collect()
}

fn invalid(all: impl IntoIterator<Item = Vec<u8>>) -> Vec<(bool, Vec<u8>)> {
    all.into_iter().map(|bytes| (false, bytes)).collect()
}

/// A group's number, what it is about, and its texts in order: whether it is one, and its bytes.
type Row = (u32, &'static str, Vec<(bool, Vec<u8>)>);

fn rows() -> Vec<Row> {
    let inside = |text: &str| (true, format!("hello{text}world").into_bytes());
    let prefix = |bytes| (WHOLE_PREFIXES.contains(&bytes), WORD.as_bytes()[..bytes].to_vec());
    let unfinished: Vec<_> = (2..=6)
        .map(|bytes| pattern(0, bytes))
        .chain((2..=6).map(|bytes| pattern(greatest(bytes), bytes)))
        .map(|mut whole| {
            whole.pop();
            whole
        })
        .collect();
    let surrogates = |all: &[u32]| all.iter().map(|number| pattern(*number, 3)).collect::<Vec<_>>();
    let pairs = surrogates(&[0xd800, 0xdb7f, 0xdb80, 0xdbff])
        .into_iter()
        .flat_map(|high| surrogates(&[0xdc00, 0xdfff]).into_iter().map(move |low| [high.clone(), low].concat()));
    let continuations = [0x80, 0xbf].repeat(3);
    let lonely = |leads: std::ops::RangeInclusive<u8>| leads.flat_map(|lead| [lead, b' ']).collect::<Vec<_>>();
    let valid = [inside("$"), inside("¢"), inside("€"), inside("\u{24b62}"), (true, WORD.into())];
    let mut boundaries = characters([0xd7ff, 0xe000, 0xfffd, 0x10_ffff]);
    boundaries.push((false, pattern(0x11_0000, 4)));
    vec![
        (5, "characters of every length", valid.to_vec()),
        (6, "each prefix of a word, whole characters or not", (1..=WORD.len()).map(prefix).collect()),
        (7, "the first character of each length", characters([0, 0x80, 0x800, 0x1_0000])),
        (8, "the first number of 5 and 6 bytes", invalid([pattern(0x20_0000, 5), pattern(0x400_0000, 6)])),
        (9, "the last character of each length", characters([0x7f, 0x7ff, 0xffff, 0x10_ffff])),
        (10, "the last number of 4, 5 and 6 bytes", invalid((4..=6).map(|bytes| pattern(greatest(bytes), bytes)))),
        (11, "beside the surrogates and at the end of Unicode", boundaries),
        (
            12,
            "continuation bytes alone",
            invalid(
                [vec![0x80], vec![0xbf]]
                    .into_iter()
                    .chain((2..=6).map(|count| continuations[..count].to_vec()))
                    .chain([(0x80..=0xbf).collect()]),
            ),
        ),
        (
            13,
            "first bytes alone",
            invalid([0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd].map(lonely)),
        ),
        (14, "characters without their last byte", invalid(unfinished.clone())),
        (15, "all of those in a row", invalid([unfinished.concat()])),
        (16, "bytes that never occur", invalid([vec![0xfe], vec![0xff], vec![0xfe, 0xfe, 0xff, 0xff]])),
        (17, "a slash in too many bytes", invalid((2..=6).map(|bytes| pattern(0x2f, bytes)))),
        (
            18,
            "the last number that is too short for its bytes",
            invalid((2..=6).map(|bytes| pattern(greatest(bytes - 1), bytes))),
        ),
        (19, "zero in too many bytes", invalid((2..=6).map(|bytes| pattern(0, bytes)))),
        (20, "a surrogate", invalid(surrogates(&[0xd800, 0xdb7f, 0xdb80, 0xdbff, 0xdc00, 0xdf80, 0xdfff]))),
        (21, "a pair of surrogates", invalid(pairs)),
        (
            22,
            "a code point that is no character",
            characters((0..=16).flat_map(|plane| [0xfffe, 0xffff].map(|low| plane << 16 | low))),
        ),
        (23, "a special code point", characters(0xfff9..=0xffff)),
    ]
}

pub(super) fn add(table: &mut Vec<Case>) {
    // 6.1 and 6.2: valid text, cut in every way.
    let mut comes_back = |id, about, frames: fn() -> Vec<Vec<u8>>, payload: &'static str| {
        table.push(Case::text(id, about, move || Script::new().send(&frames()).text(payload).closes()));
    };
    comes_back("6.1.1", "empty text", || vec![frame(TEXT, b"")], "");
    comes_back("6.1.2", "text of three empty fragments", || three(b"", b"", b""), "");
    comes_back("6.1.3", "text of three fragments, the middle one not empty", || three(b"", b"middle", b""), "middle");
    comes_back("6.2.1", "text with characters of several lengths", || vec![frame(TEXT, MIXED.as_bytes())], MIXED);
    comes_back(
        "6.2.2",
        "the same, cut between characters",
        || {
            let (begin, rest) = MIXED.split_at(MIXED.find("aus").unwrap());
            vec![frame(TEXT_BEGIN, begin.as_bytes()), frame(LAST, rest.as_bytes())]
        },
        MIXED,
    );
    comes_back("6.2.3", "the same in fragments of a byte", || fragments(TEXT, MIXED.as_bytes(), 1), MIXED);
    comes_back("6.2.4", "a word in fragments of a byte", || fragments(TEXT, WORD.as_bytes(), 1), WORD);

    // 6.3: the same with a surrogate in it.
    let broken = || [WORD.as_bytes(), &pattern(0xd800, 3), b"edited"].concat();
    table.push(Case::text("6.3.1", "text with a surrogate is refused", move || {
        Script::new().send(&[frame(TEXT, &broken())]).refused(INVALID_TEXT)
    }));
    table.push(Case::text("6.3.2", "so it is in fragments of a byte", move || {
        Script::new().send(&fragments(TEXT, &broken(), 1)).refused(INVALID_TEXT)
    }));

    // 6.4: how soon. We promise by the end of the frame: a fragment is refused though the message goes on; a frame is
    // looked at when it is whole, which the suite calls non-strict.
    let beyond = || pattern(0x11_0000, 4);
    for (id, about, cut) in [
        ("6.4.1", "a fragment with a number above Unicode is refused before the message ends", 4),
        ("6.4.2", "so is one that ends where it becomes certain", 1),
    ] {
        table.push(Case::text(id, about, move || {
            let beyond = beyond();
            // All of it behind the word, or its first byte before the cut and the one that decides behind it.
            let (begin, next) = if cut == 4 { (&[][..], &beyond[..]) } else { beyond[..2].split_at(1) };
            let begin = [WORD.as_bytes(), begin].concat();
            let script = Script::new().send(&[frame(TEXT_BEGIN, &begin), frame(PING, b"so far?")]).pong("so far?");
            script.send(&[frame(0, next)]).refused(INVALID_TEXT)
        }));
    }
    for (id, about, cut) in [
        ("6.4.3", "a frame with a number above Unicode that comes in three pieces is refused by its end", 4),
        ("6.4.4", "so is one whose pieces end inside it", 1),
    ] {
        table.push(Case::text(id, about, move || {
            let whole = frame(TEXT, &[WORD.as_bytes(), &beyond(), b"edited"].concat());
            let first = whole.len() - b"edited".len() - if cut == 4 { 4 } else { 3 };
            let (begin, rest) = whole.split_at(first);
            let (next, rest) = rest.split_at(cut);
            Script::new().send_each(&[begin.to_vec(), next.to_vec(), rest.to_vec()]).refused(INVALID_TEXT)
        }));
    }

    // 6.5 to 6.23: a text each.
    for (group, about, texts) in rows() {
        for (at, (is_text, bytes)) in texts.into_iter().enumerate() {
            let (id, end) = (format!("6.{group}.{}", at + 1), if is_text { "comes back" } else { "is refused" });
            table.push(Case::text(&id, &format!("{about}: {} {end}", bytes.escape_ascii()), move || {
                let script = Script::new().send(&[frame(TEXT, &bytes)]);
                if is_text { script.text(bytes.clone()).closes() } else { script.refused(INVALID_TEXT) }
            }));
        }
    }
}

fn three(first: &[u8], second: &[u8], third: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(TEXT_BEGIN, first), frame(0, second), frame(LAST, third)]
}
