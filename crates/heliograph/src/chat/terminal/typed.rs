//! What the terminal does with lines.
//!
//! Never gives a line to another chat than the one that its writer had asked for: while a chat is being opened, lines
//! wait.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use client::machine::Entry;
use client::{ChatId, Error, Sent, UserId};
use proto::v1;

use super::super::line::{HELP, Line};
use super::super::words::{failure, line_of, quoted, role_name, with_article};
use super::{Here, Next, Terminal};

/// As many as the server takes.
const MENTIONS: usize = 50;

/// The name that a word begins with.
fn name(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_punctuation())
}

impl<W: Write> Terminal<W> {
    pub(in crate::chat) async fn line(&mut self, text: &str) -> Result<Next> {
        match Line::parse(text) {
            Line::Nothing => {}
            Line::Quit => return Ok(Next::Quit),
            Line::Help => {
                for (command, meaning) in HELP {
                    writeln!(self.output, "  {command:14} {meaning}")?;
                }
            }
            Line::Unknown(line) => {
                writeln!(self.output, "  cannot make sense of {line}; /help lists what can be done")?;
            }
            Line::Chats => self.list()?,
            Line::Say(_)
            | Line::Reply(..)
            | Line::Edit(..)
            | Line::Delete(_)
            | Line::React(..)
            | Line::Pin(_)
            | Line::Unpin(_)
            | Line::Slow(_)
            | Line::MembersAdd(_)
            | Line::To(_)
            | Line::New(_)
            | Line::Open(_)
            | Line::Add(_)
            | Line::Leave
            | Line::Role(..)
            | Line::Name(_)
            | Line::Transfer(_)
            | Line::History(_)
            | Line::Who => {
                if let Some(until) = self.waits_until() {
                    writeln!(self.output, "  {} waits until {until}", quoted(text))?;
                }
                self.waiting.push(text);
                self.run().await?;
            }
        }
        self.output.flush()?;
        Ok(Next::Stay)
    }

    fn waits_until(&self) -> Option<String> {
        if let Some(name) = &self.want {
            Some(format!("the chat with {name} is open"))
        } else if !self.connected {
            Some("there is a connection".to_owned())
        } else {
            self.opening.as_ref().map(|(_, what)| format!("{what} is open"))
        }
    }

    /// Does what waited, up to the next line that opens a chat.
    pub(super) async fn run(&mut self) -> Result<()> {
        while !self.full
            && self.waits_until().is_none()
            && let Some(line) = self.waiting.pop()
        {
            let done = self.carry_out(Line::parse(&line)).await;
            if let Err(Error::Full(_)) = done {
                self.full = true;
                self.waiting.put_back(line);
            } else if let Err(error) = done {
                writeln!(self.output, "  ✗ {}: {}", quoted(&line), failure(&error))?;
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, line: Line<'_>) -> Result<(), Error> {
        match line {
            Line::To(name) => return self.open_direct(name),
            Line::New(names) => {
                let what = format!("the group with {}", names.join(", "));
                let members = names.iter().map(|name| self.names.member(name)).collect();
                return self.create(v1::ChatKind::Group, members, what);
            }
            Line::Open(number) => {
                match number.checked_sub(1).and_then(|place| self.chats.list().get(place)).copied() {
                    Some(chat) => self.go_to(chat),
                    None => self.tell(&format!("  no chat {number}; /chats lists them")),
                }
                return Ok(());
            }
            Line::Say(_)
            | Line::Reply(..)
            | Line::Edit(..)
            | Line::Delete(_)
            | Line::React(..)
            | Line::Pin(_)
            | Line::Unpin(_)
            | Line::Slow(_)
            | Line::MembersAdd(_)
            | Line::Add(_)
            | Line::Leave
            | Line::Role(..)
            | Line::Name(_)
            | Line::Transfer(_)
            | Line::History(_)
            | Line::Who => {}
            Line::Nothing | Line::Help | Line::Chats | Line::Quit | Line::Unknown(_) => return Ok(()),
        }
        let Some(Here { chat, .. }) = self.here else {
            let hint = if self.chats.list().is_empty() { "" } else { ", /open N" };
            self.tell(&format!("  not sent, for you are in no chat: /to NAME, /new NAME…{hint}"));
            return Ok(());
        };
        let (sent, what): (Sent, _) = match line {
            Line::Say(text) => (self.client.send_message(chat, self.message(chat, text))?, quoted(text)),
            Line::Reply(reply_to, text) => {
                let message = v1::SendMessage { reply_to, ..self.message(chat, text) };
                (self.client.send_message(chat, message)?, quoted(text))
            }
            Line::Edit(seq, text) => {
                (self.client.edit(chat, seq, text.to_owned())?, format!("{} in the place of #{seq}", quoted(text)))
            }
            Line::Delete(seq) => (self.client.delete(chat, seq)?, format!("taking #{seq} back")),
            Line::React(seq, "") => (self.client.react(chat, seq, "")?, format!("no reaction to #{seq}")),
            Line::React(seq, sign) => (self.client.react(chat, seq, sign)?, format!("{} to #{seq}", quoted(sign))),
            Line::Pin(seq) => (self.client.pin(chat, seq)?, format!("pinning #{seq}")),
            Line::Unpin(seq) => (self.client.unpin(chat, seq)?, format!("unpinning #{seq}")),
            Line::Slow(seconds) => {
                let change = v1::ChatPolicy { slow_mode_s: Some(seconds), ..v1::ChatPolicy::default() };
                (self.client.set_policy(chat, change)?, format!("slow mode of {seconds} s"))
            }
            Line::MembersAdd(members_add) => {
                let change = v1::ChatPolicy { members_add: Some(members_add), ..v1::ChatPolicy::default() };
                (self.client.set_policy(chat, change)?, "who adds".to_owned())
            }
            Line::Add(name) => {
                let user = self.names.learn(name);
                (self.client.add_member(chat, user, v1::Role::Member)?, format!("adding {name}"))
            }
            Line::Leave => (self.client.leave(chat)?, "leaving".to_owned()),
            Line::Role(name, role) => {
                let user = self.names.learn(name);
                (self.client.set_role(chat, user, role)?, format!("making {name} {}", with_article(role)))
            }
            Line::Name("") => (self.client.rename_chat(chat, "")?, "taking the name away".to_owned()),
            Line::Name(name) => (self.client.rename_chat(chat, name)?, format!("the name {}", quoted(name))),
            Line::Transfer(name) => {
                let user = self.names.learn(name);
                (self.client.transfer_ownership(chat, user)?, format!("making {name} the owner"))
            }
            Line::History(count) => return self.history(chat, count).await,
            Line::Who => {
                self.who(chat);
                return Ok(());
            }
            Line::Nothing
            | Line::Help
            | Line::New(_)
            | Line::To(_)
            | Line::Chats
            | Line::Open(_)
            | Line::Quit
            | Line::Unknown(_) => return Ok(()),
        };
        self.said.insert(sent.id, what);
        Ok(())
    }

    /// What a text says, and whom it names: members of the chat by `@NAME`, all of them by `@all`.
    fn message(&self, chat: ChatId, text: &str) -> v1::SendMessage {
        let named: BTreeSet<_> = text.split_whitespace().filter_map(|word| word.strip_prefix('@')).map(name).collect();
        let members = self.chats.get(chat).into_iter().flat_map(|chat| chat.members.keys());
        let mentions = members.filter(|user| named.contains(self.names.of(**user).as_str()));
        v1::SendMessage {
            body: text.to_owned().into(),
            mentions: mentions.take(MENTIONS).map(|user| user.to_wire()).collect(),
            mention_all: named.contains("all"),
            ..v1::SendMessage::default()
        }
    }

    pub(super) fn open_direct(&mut self, name: &str) -> Result<(), Error> {
        let member = self.names.member(name);
        if UserId::from_wire(&member.user) == Some(self.me) {
            self.tell("  that is you; /to NAME is for somebody else");
            return Ok(());
        }
        self.create(v1::ChatKind::Direct, vec![member], format!("the chat with {name}"))
    }

    fn create(&mut self, kind: v1::ChatKind, members: Vec<v1::Member>, what: String) -> Result<(), Error> {
        let sent = self.client.create_chat(kind, members)?;
        self.opening = Some((sent.id, what));
        self.opens_first = false;
        Ok(())
    }

    async fn history(&mut self, chat: ChatId, count: u32) -> Result<(), Error> {
        let after = self.client.known(chat).saturating_sub(count.into());
        let history = self.client.history(chat, after, count, 0).await?;
        for entry in history.entries.into_iter().filter_map(Entry::new) {
            let line = line_of(&entry, &self.names);
            self.tell(&line);
        }
        self.tell(&format!("  whole through #{}", history.through));
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        for (place, chat) in self.chats.list().iter().enumerate() {
            let mark = if self.here.is_some_and(|here| here.chat == *chat) { '*' } else { ' ' };
            let (title, known) = (self.title(*chat), self.client.known(*chat));
            writeln!(self.output, " {mark} {:3} {title} (#{known})", place + 1)?;
        }
        Ok(())
    }

    fn who(&mut self, id: ChatId) {
        let Some(chat) = self.chats.get(id) else { return };
        let line = |(user, role): (&UserId, &v1::Role)| {
            let (delivered, seen) = chat.got(*user);
            let role = role_name(*role);
            let name = self.names.of(*user);
            if *user == self.me {
                format!("  {name} ({role}), you")
            } else {
                format!("  {name} ({role}), delivered #{delivered}, seen #{seen}")
            }
        };
        let lines: Vec<_> = chat.members.iter().map(line).collect();
        self.tell(&lines.join("\n"));
    }
}
