//! What stands in a command record: a client's command, or a step of an operator's import.

use domain::{
    Chat, ChatId, Code, Command, Decision, Import, Micros, Outcome, Rules, Seq, Target, UserId, decide, decide_import,
};
use proto::{log, v1};

use super::Refused;

/// What is to be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// By a client.
    Command(Command),
    /// By an operator, through the admin socket.
    Import(Import),
}

impl Asked {
    /// Checks what a record holds for shape and limits.
    ///
    /// # Errors
    /// [`Code::Undecodable`] without a sender, else what the command's or the import's own check says.
    pub fn from_wire(
        sender: &[u8],
        command: Option<v1::Command>,
        import: Option<log::Import>,
    ) -> Result<Self, Refused> {
        let sender = UserId::try_from(sender).map_err(|_fault| Code::Undecodable);
        if let Some(import) = import {
            let named = v1::Outcome { chat: import.chat.clone(), origin: 0, n: import.seq, result: None };
            let import = sender.and_then(|sender| Import::from_wire(sender, import));
            return import.map(Self::Import).map_err(|code| Refused { code, named });
        }
        let command = command.unwrap_or_default();
        let named = v1::Outcome { chat: command.chat.clone(), origin: command.origin, n: command.n, result: None };
        let command = sender.and_then(|sender| Command::from_wire(sender, command));
        command.map(Self::Command).map_err(|code| Refused { code, named })
    }

    /// The chat that decides it.
    pub const fn chat(&self) -> ChatId {
        match self {
            Self::Command(command) => command.chat,
            Self::Import(import) => import.chat,
        }
    }

    /// What its outcome names.
    pub fn named(&self) -> v1::Outcome {
        let (origin, n) = self.identity();
        v1::Outcome { chat: self.chat().to_wire(), origin, n, result: None }
    }

    fn identity(&self) -> (u64, u64) {
        match self {
            Self::Command(command) => (command.origin.0, command.n),
            Self::Import(import) => (0, import.seq),
        }
    }

    /// The message that it is about, where what it is must be known to decide: of a chat that has an entry there, and by
    /// one of its members. Nobody else makes the store read.
    pub(super) fn target(&self, chat: Option<&Chat>) -> Option<Seq> {
        let Self::Command(command) = self else { return None };
        let chat = chat.filter(|chat| chat.members().contains_key(&command.sender))?;
        command.target().filter(|seq| chat.has(*seq))
    }

    pub(super) fn decide(&self, chat: Option<&Chat>, target: Target, stamp: Micros, rules: &Rules) -> Decision {
        match self {
            Self::Command(command) => decide(chat, command, target, stamp, rules),
            Self::Import(import) => decide_import(chat, import, stamp),
        }
    }

    pub(super) fn answered(&self, outcome: Outcome) -> v1::Outcome {
        let (origin, n) = self.identity();
        outcome.to_wire(self.chat(), domain::Origin(origin), n)
    }
}
