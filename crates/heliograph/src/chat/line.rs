//! What a typed line asks for.

/// A typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Nothing,
    Say(&'a str),
    Help,
    New(Vec<&'a str>),
    To(&'a str),
    Chats,
    Open(usize),
    Add(&'a str),
    Leave,
    History(u32),
    Who,
    Quit,
    Unknown(&'a str),
}

/// Lines of help, command and meaning.
pub(super) const HELP: &[(&str, &str)] = &[
    ("/to NAME", "talk with NAME alone"),
    ("/new NAME…", "start a group with these people"),
    ("/chats", "list your chats"),
    ("/open N", "go to chat N of the list"),
    ("/add NAME", "add NAME to this group"),
    ("/leave", "leave this group"),
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
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let rest: Vec<_> = words.collect();
        match (command, rest.as_slice()) {
            ("/help", _) => Self::Help,
            ("/new", [_, ..]) => Self::New(rest),
            ("/to", [name]) => Self::To(name),
            ("/chats", []) => Self::Chats,
            ("/open", [number]) => number.parse().map_or(Self::Unknown(line), Self::Open),
            ("/add", [name]) => Self::Add(name),
            ("/leave", []) => Self::Leave,
            ("/history", []) => Self::History(20),
            ("/history", [count]) => count.parse().map_or(Self::Unknown(line), Self::History),
            ("/who", []) => Self::Who,
            ("/quit" | "/exit", _) => Self::Quit,
            _ => Self::Unknown(line),
        }
    }
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
        assert_eq!(Line::parse("/add"), Line::Unknown("/add"));
        assert_eq!(Line::parse("/open x"), Line::Unknown("/open x"));
    }
}
