use std::io::Write as _;

use super::*;

const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
const BOB: &str = "00000000-0000-4000-8000-00000000000b";
const CAROL: &str = "00000000-0000-4000-8000-00000000000c";
/// 2026-09-21T14:13:20Z
const NOW: Micros = 1_790_000_000_000_000;

fn group() -> String {
    format!(
        r#"{{"kind":"group","members":[{{"user":"{BOB}"}},{{"user":"{ALICE}","role":"owner"}}],"former":["{CAROL}"]}}"#
    )
}

fn said(sender: &str, time: &str, rest: &str) -> String {
    format!(r#"{{"sender":"{sender}","time":"{time}",{rest}}}"#)
}

fn all(lines: &[String]) -> Result<(ImportedChat, Vec<ImportedMessage>, Whole), Error> {
    let mut kept = tempfile::NamedTempFile::new().unwrap();
    kept.write_all(lines.join("\n").as_bytes()).unwrap();
    let (mut file, chat) = ImportFile::open(kept.path(), NOW)?;
    let mut messages = Vec::new();
    while let Some(message) = file.next()? {
        messages.push(message);
    }
    Ok((chat, messages, file.whole()))
}

#[test]
fn times_stay_and_one_that_stands_there_twice_grows_by_a_microsecond() {
    let times =
        ["2011-03-13T07:06:40Z", "2011-03-13T07:06:40Z", "2011-03-13T08:06:40.000001+01:00", "2011-03-13T07:06:41Z"];
    let mut lines = vec![group()];
    lines.extend(times.iter().map(|time| said(CAROL, time, r#""text":"hé""#)));
    let (chat, messages, whole) = all(&lines).unwrap();
    let then = 1_300_000_000_000_000;
    let kept: Vec<_> = messages.iter().map(|message| message.time).collect();
    assert_eq!(kept, [then, then + 1, then + 2, then + 1_000_000]);
    assert_eq!((whole.opened, whole.last), (then - 1, 5), "line k is seq k");
    assert_eq!((chat.opener.as_str(), messages[0].body.as_slice()), (ALICE, "hé".as_bytes()));
    // A line feed behind the last line is no line; any other byte makes it another import.
    lines.push(String::new());
    let ended = all(&lines).unwrap();
    assert_eq!((ended.2.last, ended.1), (5, messages));
    assert_ne!(ended.2.import, whole.import);
    assert_eq!(all(&lines).unwrap().2, ended.2);
}

#[test]
fn the_chat_may_say_when_it_was_opened_and_a_body_need_not_be_text() {
    let opened = group().replace(r#","former""#, r#","time":"2011-03-13T07:06:40Z","former""#);
    let lines = [opened, said(BOB, "2011-03-13T07:06:40Z", r#""body":"/w==""#)];
    let (_, messages, whole) = all(&lines).unwrap();
    assert_eq!((whole.opened, messages[0].time), (1_300_000_000_000_000, 1_300_000_000_000_001));
    assert_eq!(messages[0].body, [0xff]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let good = said(ALICE, "2011-03-13T07:06:40Z", r#""text":"a""#);
    let one = |line: String| vec![group(), good.clone(), line];
    let head = |line: &str| vec![line.to_owned(), good.clone()];
    let long = format!(r#""text":"{}""#, "x".repeat(BODY_BYTES_MAX + 1));
    let many: Vec<_> = (0..=MEMBERS_MAX).map(|n| format!(r#"{{"user":"00000000-0000-4000-8000-{n:012}"}}"#)).collect();
    let cases: Vec<(Vec<String>, &str)> = vec![
        (vec![], "line 1: the file is empty"),
        (vec![group()], "line 2: there is no message"),
        (head("{"), "line 1: EOF"),
        (head("[]"), "line 1: "),
        (head(r#"{"kind":"club","members":[]}"#), "line 1: unknown variant `club`"),
        (head(r#"{"kind":"group","members":[],"name":"x"}"#), "line 1: unknown field `name`"),
        (head(r#"{"kind":"group","members":[]}"#), "line 1: no member is its owner"),
        (head(&group().replace("owner", "member")), "line 1: no member is its owner"),
        (head(&group().replace("owner", "boss")), "line 1: unknown variant `boss`"),
        (head(&group().replace(BOB, ALICE)), "line 1: a member stands there twice"),
        (head(&group().replace(BOB, "bob")), r#"line 1: "bob" is no id of a user"#),
        (head(&group().replace(CAROL, "carol")), r#"line 1: "carol" is no id of a user"#),
        (head(&format!(r#"{{"kind":"group","members":[{}]}}"#, many.join(","))), "line 1: more than 1000 members"),
        (head(&group().replace("group", "direct")), "line 1: both of a direct chat are plain members"),
        (
            head(&format!(r#"{{"kind":"direct","members":[{{"user":"{BOB}"}}]}}"#)),
            "line 1: a direct chat has two members",
        ),
        (
            head(&group().replace(r#","former""#, r#","time":"2031-01-01T00:00:00Z","former""#)),
            "line 1: `time` lies in the future",
        ),
        (
            head(&group().replace(r#","former""#, r#","time":"2012-01-01T00:00:00Z","former""#)),
            "line 2: `time` is earlier",
        ),
        (one(String::from(" ")), "line 3: empty"),
        (one("x".repeat(LINE_BYTES_MAX + 1)), "line 3: longer than 262144 bytes"),
        (
            one(said("00000000-0000-4000-8000-00000000000d", "2011-03-13T07:06:40Z", r#""text":"a""#)),
            "is neither a member nor a former one",
        ),
        (one(said("dave", "2011-03-13T07:06:40Z", r#""text":"a""#)), r#"line 3: "dave" is no id of a user"#),
        (one(said(BOB, "2011-03-13T07:06:39Z", r#""text":"a""#)), "line 3: `time` is earlier than in the line before"),
        (one(said(BOB, "2026-09-21T14:13:21Z", r#""text":"a""#)), "line 3: `time` lies in the future"),
        (one(said(BOB, "yesterday", r#""text":"a""#)), "line 3: `time` is no RFC 3339 time"),
        (one(said(BOB, "2011-03-13T07:06:40Z", r#""text":"a","body":"YQ==""#)), "line 3: either `text` or `body`"),
        (one(said(BOB, "2011-03-13T07:06:40Z", r#""body":"?""#)), "line 3: `body` is no base64"),
        (one(said(BOB, "2011-03-13T07:06:40Z", &long)), "line 3: a body of 16385 bytes, and 16384 is the most"),
        (one(said(BOB, "2011-03-13T07:06:40Z", r#""text":"a","seq":3"#)), "line 3: unknown field `seq`"),
        (one(r#"{"sender":"a"}"#.to_owned()), "line 3: missing field `time`"),
    ];
    for (lines, reason) in cases {
        let error = all(&lines).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert!(all(&one(good.clone())).is_ok(), "the control");
    let folder = tempfile::tempdir().unwrap();
    assert!(ImportFile::open(&folder.path().join("none"), NOW).err().unwrap().to_string().contains("No such file"));
    assert!(ImportFile::open(folder.path(), NOW).is_err());
}
