//! Commands, chats and the log that deciding makes.

use std::collections::BTreeMap;

use domain::{
    Action, Chat, ChatId, ChatKind, Code, Command, Decision, Entry, LoggedEntry, Member, MemberState, Message, Micros,
    Origin, Partition, Role, Rules, Seq, Target, UserId, decide,
};
use prost::Message as _;
use proto::log::ChatSnapshot;

pub(crate) const STAMP: Micros = 1_700_000_000_000_000;

pub(crate) fn chat_id() -> ChatId {
    ChatId::draw(Partition(3), 1, 2)
}

pub(crate) fn user(n: u16) -> UserId {
    let mut bytes = [7; 16];
    bytes[14..].copy_from_slice(&n.to_be_bytes());
    UserId::new(bytes)
}

pub(crate) fn member(n: u16, role: Role) -> Member {
    Member { user: user(n), role }
}

pub(crate) fn say(body: impl Into<String>) -> Action {
    Action::SendMessage(Message::plain(body.into()))
}

/// A command of origin 1 with `n` and nothing unsettled, made now.
pub(crate) fn command(sender: u16, n: u64, action: Action) -> Command {
    Command { chat: chat_id(), sender: user(sender), origin: Origin(1), n, after: 0, basis: Seq::MAX, action }
}

pub(crate) fn create(kind: ChatKind, members: &[(u16, Role)]) -> Command {
    let members = members.iter().map(|(n, role)| member(*n, *role)).collect();
    Command { origin: Origin(0), n: 0, ..command(1, 0, Action::CreateChat { kind, members }) }
}

/// One chat and the entries that made it.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) chat: Option<Chat>,
    pub(crate) log: Vec<Entry>,
    /// Each entry in its newest version.
    pub(crate) rows: Vec<Entry>,
}

impl World {
    pub(crate) fn with(kind: ChatKind, members: &[(u16, Role)]) -> Self {
        let mut world = Self::default();
        assert!(matches!(world.decide(&create(kind, members)), Decision::Append(_)));
        world
    }

    pub(crate) fn chat(&self) -> &Chat {
        self.chat.as_ref().unwrap()
    }

    pub(crate) fn decide(&mut self, command: &Command) -> Decision {
        self.decide_at(command, STAMP)
    }

    /// Decides, and folds what was decided as a reader of its encoded bytes would.
    pub(crate) fn decide_at(&mut self, command: &Command, stamp: Micros) -> Decision {
        let decision = decide(self.chat.as_ref(), command, self.target(command), stamp, &Rules::ALL);
        if let Decision::Append(entry) = &decision {
            let entry = Entry::decode(&LoggedEntry::encode(entry.clone()).bytes).unwrap();
            match &mut self.chat {
                Some(chat) => chat.apply(&entry),
                None => self.chat = Chat::create(&entry),
            }
            for row in &mut self.rows {
                *row = row.changed_by(&entry).unwrap_or_else(|| row.clone());
            }
            self.rows.push(entry.clone());
            self.log.push(entry);
        }
        decision
    }

    fn target(&self, command: &Command) -> Target {
        let place = command.target().and_then(|seq| usize::try_from(seq.checked_sub(1)?).ok());
        place.and_then(|place| self.rows.get(place)).map_or(Target::Missing, Target::of)
    }

    pub(crate) fn stored(&mut self, command: &Command) -> Seq {
        match self.decide(command) {
            Decision::Append(entry) => entry.seq,
            other @ (Decision::Repeat { .. } | Decision::Reject { .. }) => panic!("{command:?}: {other:?}"),
        }
    }

    pub(crate) fn refused(&mut self, command: &Command) -> (Code, Seq) {
        match self.decide(command) {
            Decision::Reject { code, head } => (code, head),
            other @ (Decision::Append(_) | Decision::Repeat { .. }) => panic!("{command:?}: {other:?}"),
        }
    }

    /// The chat as it comes back from a row: its snapshot through bytes, its members as of the snapshot's head.
    pub(crate) fn restored(&self) -> Option<Chat> {
        let chat = self.chat.as_ref()?;
        let snapshot = ChatSnapshot::decode(&chat.snapshot().encode_to_vec()[..]).unwrap();
        let members: BTreeMap<UserId, MemberState> = chat.members().clone();
        Some(Chat::restore(chat.id(), &snapshot, members).unwrap())
    }
}
