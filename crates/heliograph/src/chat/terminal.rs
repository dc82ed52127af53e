//! One terminal: the chat on its screen, and what was typed and has no answer.
//!
//! Never prints an entry before its partition is caught up: what was missed comes as one block, in order.

mod told;
mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use client::{ChatId, Client, SendId, UserId};

use super::chats::{Chats, SHOWN_AT_OPEN};
use super::names::Names;
use super::waiting::Waiting;
use super::words::{line_of, title};

/// What follows a line or an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Quit,
    /// The server says not to come back.
    Ended(&'static str),
}

/// The chat on the screen.
#[derive(Clone, Copy, Debug)]
struct Here {
    chat: ChatId,
    announced: bool,
    // The last seq that stands on the screen.
    printed: u64,
}

pub(super) struct Terminal<W> {
    client: Client,
    address: String,
    output: W,
    me: UserId,
    names: Names,
    chats: Chats,
    here: Option<Here>,
    // Nobody was named and nothing was opened: the first chat that speaks is.
    opens_first: bool,
    connected: bool,
    caught_up: BTreeSet<u32>,
    // Everything that there was when it came has been told.
    heard: bool,
    said: BTreeMap<SendId, String>,
    // The chat that is being created, and what it is called.
    opening: Option<(SendId, String)>,
    want: Option<String>,
    waiting: Waiting,
    // The outbox took no more; the first of `waiting` is tried again when something settles.
    full: bool,
}

impl<W: Write> Terminal<W> {
    pub(super) fn new(client: Client, output: W, (address, name, to): (&str, Option<&str>, Option<&str>)) -> Self {
        let mut names = Names::default();
        Self {
            client,
            address: address.to_owned(),
            output,
            me: name.map(|name| names.learn(name)).unwrap_or_default(),
            names,
            chats: Chats::default(),
            here: None,
            opens_first: to.is_none(),
            connected: false,
            caught_up: BTreeSet::new(),
            heard: false,
            said: BTreeMap::new(),
            opening: None,
            want: to.map(str::to_owned),
            waiting: Waiting::default(),
            full: false,
        }
    }

    /// What was typed and has no final answer.
    pub(super) fn unsettled(&self) -> usize {
        let opening = self.want.is_some() || self.opening.is_some();
        self.said.len() + self.waiting.len() + usize::from(opening)
    }

    /// Whether everything that there was when it came has been told.
    pub(super) const fn has_heard(&self) -> bool {
        self.heard
    }

    /// What of it would be lost by an end now, in words.
    pub(super) fn left(&self) -> Option<String> {
        match (self.unsettled(), self.said.len() + self.waiting.len()) {
            (0, _) => None,
            (_, 0) => Some("the chat was not opened".to_owned()),
            (_, 1) => Some("1 line has no answer and may not have been sent".to_owned()),
            (_, lines) => Some(format!("{lines} lines have no answer and may not have been sent")),
        }
    }

    /// Whether one more line has a place to go; if not, it stays in the input.
    pub(super) fn takes_lines(&self) -> bool {
        !self.full && self.waiting.has_room()
    }

    /// A line too long to be one.
    pub(super) fn too_long(&mut self) -> Result<()> {
        self.print("  ✗ that line is too long and was not sent")
    }

    fn go_to(&mut self, chat: ChatId) {
        self.opens_first = false;
        self.here = Some(Here { chat, announced: false, printed: 0 });
        if let Err(error) = self.show() {
            tracing::debug!(%error, "nothing can be printed");
        }
    }

    /// Prints what of the chat is not on the screen, once it is whole; that has been read.
    fn show(&mut self) -> Result<()> {
        let Some(mut here) = self.here.filter(|here| self.caught_up.contains(&here.chat.partition())) else {
            return Ok(());
        };
        let Some(chat) = self.chats.get(here.chat) else { return Ok(()) };
        if !here.announced {
            writeln!(self.output, "· in {}", title(chat, self.me, &self.names))?;
        } else if let Some(first) = chat.last.front().map(|entry| entry.entry.seq).filter(|seq| *seq > here.printed + 1)
        {
            writeln!(
                self.output,
                "  (more before these: /history {})",
                first - here.printed - 1 + SHOWN_AT_OPEN as u64
            )?;
        }
        here.announced = true;
        for entry in chat.last.iter().filter(|entry| entry.entry.seq > here.printed) {
            writeln!(self.output, "{}", line_of(entry, &self.names))?;
        }
        here.printed = chat.last.back().map_or(0, |entry| entry.entry.seq);
        self.here = Some(here);
        self.client.seen(here.chat, here.printed);
        Ok(())
    }

    fn title(&self, id: ChatId) -> String {
        self.chats.get(id).map_or_else(|| format!("chat {id}"), |chat| title(chat, self.me, &self.names))
    }

    fn print(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.output, "{line}")?)
    }

    /// Prints where a failure of the screen changes nothing: the next flush says it.
    fn tell(&mut self, line: &str) {
        if let Err(error) = self.print(line) {
            tracing::debug!(%error, "nothing can be printed");
        }
    }
}

#[cfg(test)]
mod tests;
