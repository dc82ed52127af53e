//! What a typed line asks for.

use proto::v1;

/// A typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Nothing,
    Say(&'a str),
    Reply(u64, &'a str),
    Edit(u64, &'a str),
    Delete(u64),
    React(u64, &'a str),
    Pin(u64),
    Unpin(u64),
    Slow(u32),
    MembersAdd(bool),
    Help,
    New(Vec<&'a str>),
    To(&'a str),
    Chats,
    Open(usize),
    Add(&'a str),
    Leave,
    Role(&'a str, v1::Role),
    Name(&'a str),
    Transfer(&'a str),
    History(u32),
    Who,
    Quit,
    Unknown(&'a str),
}

/// Lines of help, command and meaning.
pub(super) const HELP: &[(&str, &str)] = &[
    ("/to NAME", "talk with NAME alone"),
    ("/new NAME…", "start a group with these people"),
    ("/reply N TEXT", "answer entry #N; @NAME or @all in a text says whom it is meant for"),
    ("/edit N TEXT", "say TEXT in the place of your message #N"),
    ("/delete N", "take message #N back"),
    ("/react N [SIGN]", "react to message #N, or no more"),
    ("/pin N", "pin message #N for everybody; /unpin N takes the pin away"),
    ("/chats", "list your chats"),
    ("/open N", "go to chat N of the list"),
    ("/add NAME", "add NAME to this group"),
    ("/leave", "leave this group"),
    ("/role NAME ROLE", "make NAME an owner, admin, member or reader of this group"),
    ("/name [TEXT]", "call this group so, or nothing"),
    ("/transfer NAME", "make NAME the owner in your place"),
    ("/slow SECONDS", "let members write once in so many seconds; 0: as they like"),
    ("/adding WHO", "let members or admins add to this group"),
    ("/history [N]", "read the last N entries again (20)"),
    ("/who", "who is here, and how far they have read"),
    ("/quit", "end"),
];

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        if !line.starts_with('/') {
            return Self::Say(line);
        }
        let (command, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest: Vec<_> = text.split_whitespace().collect();
        match (command, rest.as_slice()) {
            ("/help", _) => Self::Help,
            ("/new", [_, ..]) => Self::New(rest),
            ("/to", [name]) => Self::To(name),
            ("/reply", [_, _, ..]) => numbered(text).map_or(Self::Unknown(line), |(seq, text)| Self::Reply(seq, text)),
            ("/edit", [_, _, ..]) => numbered(text).map_or(Self::Unknown(line), |(seq, text)| Self::Edit(seq, text)),
            ("/delete", [number]) => seq(number).map_or(Self::Unknown(line), Self::Delete),
            ("/react", [number]) => seq(number).map_or(Self::Unknown(line), |seq| Self::React(seq, "")),
            ("/react", [number, sign]) => seq(number).map_or(Self::Unknown(line), |seq| Self::React(seq, sign)),
            ("/pin", [number]) => seq(number).map_or(Self::Unknown(line), Self::Pin),
            ("/unpin", [number]) => seq(number).map_or(Self::Unknown(line), Self::Unpin),
            ("/slow", [seconds]) => seconds.parse().map_or(Self::Unknown(line), Self::Slow),
            ("/adding", ["members"]) => Self::MembersAdd(true),
            ("/adding", ["admins"]) => Self::MembersAdd(false),
            ("/chats", []) => Self::Chats,
            ("/open", [number]) => number.parse().map_or(Self::Unknown(line), Self::Open),
            ("/add", [name]) => Self::Add(name),
            ("/leave", []) => Self::Leave,
            ("/role", [name, role]) => role_called(role).map_or(Self::Unknown(line), |role| Self::Role(name, role)),
            ("/name", _) => Self::Name(text.trim_start()),
            ("/transfer", [name]) => Self::Transfer(name),
            ("/history", []) => Self::History(20),
            ("/history", [count]) => count.parse().map_or(Self::Unknown(line), Self::History),
            ("/who", []) => Self::Who,
            ("/quit" | "/exit", _) => Self::Quit,
            _ => Self::Unknown(line),
        }
    }
}

fn role_called(name: &str) -> Option<v1::Role> {
    let role = v1::Role::from_str_name(&format!("ROLE_{}", name.to_uppercase()))?;
    (role != v1::Role::Unspecified).then_some(role)
}

/// A number, with or without its #, and the words behind it.
fn numbered(text: &str) -> Option<(u64, &str)> {
    let (number, text) = text.trim_start().split_once(char::is_whitespace)?;
    Some((seq(number)?, text.trim_start()))
}

fn seq(number: &str) -> Option<u64> {
    number.trim_start_matches('#').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_unless_it_starts_with_a_slash() {
        assert_eq!(Line::parse("  hello /who "), Line::Say("hello /who"));
        assert_eq!(Line::parse("   "), Line::Nothing);
        assert_eq!(Line::parse("/new bob carol"), Line::New(vec!["bob", "carol"]));
        assert_eq!(Line::parse("/history"), Line::History(20));
        assert_eq!(Line::parse("/history 5"), Line::History(5));
        assert_eq!(Line::parse("/reply #5  so  be it "), Line::Reply(5, "so  be it"));
        assert_eq!(Line::parse("/reply 5"), Line::Unknown("/reply 5"));
        assert_eq!(Line::parse("/reply it is"), Line::Unknown("/reply it is"));
        assert_eq!(Line::parse("/edit #5  so  be it "), Line::Edit(5, "so  be it"));
        assert_eq!(Line::parse("/edit 5"), Line::Unknown("/edit 5"));
        assert_eq!(Line::parse("/delete #5"), Line::Delete(5));
        assert_eq!(Line::parse("/delete it"), Line::Unknown("/delete it"));
        assert_eq!(Line::parse("/react #5 👍"), Line::React(5, "👍"));
        assert_eq!(Line::parse("/react 5"), Line::React(5, ""));
        assert_eq!(Line::parse("/react it 👍"), Line::Unknown("/react it 👍"));
        assert_eq!((Line::parse("/pin #5"), Line::parse("/unpin 5")), (Line::Pin(5), Line::Unpin(5)));
        assert_eq!((Line::parse("/slow 30"), Line::parse("/slow -1")), (Line::Slow(30), Line::Unknown("/slow -1")));
        assert_eq!(Line::parse("/adding members"), Line::MembersAdd(true));
        assert_eq!(Line::parse("/adding nobody"), Line::Unknown("/adding nobody"));
        assert_eq!(Line::parse("/role bob admin"), Line::Role("bob", v1::Role::Admin));
        assert_eq!(Line::parse("/role bob unspecified"), Line::Unknown("/role bob unspecified"));
        assert_eq!(Line::parse("/name  on  tuesdays"), Line::Name("on  tuesdays"));
        assert_eq!(Line::parse("/name"), Line::Name(""));
        assert_eq!(Line::parse("/transfer bob"), Line::Transfer("bob"));
        assert_eq!(Line::parse("/add"), Line::Unknown("/add"));
        assert_eq!(Line::parse("/open x"), Line::Unknown("/open x"));
    }
}
