//! The terminal's picture of its chats, and the lines that it prints.
//!
//! Never prints an entry before its partition is caught up: what was missed comes as one block, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;

use anyhow::Result;
use client::machine::Entry;
use client::{ChatId, Client, Event, SendId, Settlement, UserId};
use proto::v1::{self, entry};

use super::line::{HELP, Line};
use crate::identity::user_id;

/// Entries of a chat that are printed when it is opened.
const SHOWN_AT_OPEN: usize = 10;

/// What follows a line or an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Quit,
}

#[derive(Default)]
struct Chat {
    kind: v1::ChatKind,
    members: BTreeMap<UserId, v1::Role>,
    // (delivered, seen)
    marks: BTreeMap<UserId, (u64, u64)>,
    last: VecDeque<Entry>,
    own: BTreeSet<u64>,
}

pub(super) struct Terminal<W> {
    client: Client,
    output: W,
    me: UserId,
    names: BTreeMap<UserId, String>,
    chats: BTreeMap<ChatId, Chat>,
    order: Vec<ChatId>,
    here: Option<ChatId>,
    // `here`, while none of its entries has come.
    unopened: Option<ChatId>,
    caught_up: BTreeSet<u32>,
    said: BTreeMap<SendId, String>,
    opening: BTreeSet<SendId>,
    want: Option<String>,
}

impl<W: Write> Terminal<W> {
    pub(super) fn new(client: Client, output: W, name: &str, to: Option<&str>) -> Self {
        let mut terminal = Self {
            client,
            output,
            me: id_of(name),
            names: BTreeMap::new(),
            chats: BTreeMap::new(),
            order: Vec::new(),
            here: None,
            unopened: None,
            caught_up: BTreeSet::new(),
            said: BTreeMap::new(),
            opening: BTreeSet::new(),
            want: to.map(str::to_owned),
        };
        terminal.learn(name);
        terminal
    }

    /// Whether everything that was said has settled.
    pub(super) fn is_quiet(&self) -> bool {
        self.said.is_empty() && self.opening.is_empty() && self.want.is_none()
    }

    pub(super) async fn line(&mut self, line: &str) -> Result<Next> {
        match Line::parse(line) {
            Line::Nothing => {}
            Line::Quit => return Ok(Next::Quit),
            Line::Help => {
                for (command, meaning) in HELP {
                    writeln!(self.output, "  {command:14} {meaning}")?;
                }
            }
            Line::Unknown(line) => {
                writeln!(self.output, "  cannot make sense of {line}; /help lists what can be done")?
            }
            Line::To(name) => self.open_direct(name)?,
            Line::New(names) => {
                let members = names.iter().map(|name| self.member(name)).collect();
                self.create(v1::ChatKind::Group, members)?;
            }
            Line::Chats => self.list()?,
            Line::Open(number) => match number.checked_sub(1).and_then(|place| self.order.get(place)) {
                Some(chat) => self.open(*chat)?,
                None => writeln!(self.output, "  no chat {number}; /chats lists them")?,
            },
            Line::Say(_) | Line::Add(_) | Line::Leave | Line::History(_) | Line::Who => {
                let Some(chat) = self.here else {
                    writeln!(self.output, "  not in a chat yet: /to NAME or /new NAME…")?;
                    return Ok(Next::Stay);
                };
                self.line_here(chat, Line::parse(line)).await?;
            }
        }
        self.output.flush()?;
        Ok(Next::Stay)
    }

    async fn line_here(&mut self, chat: ChatId, line: Line<'_>) -> Result<()> {
        let sent = match line {
            Line::Say(text) => (self.client.send(chat, text.to_owned()), format!("\u{201c}{}\u{201d}", short(text))),
            Line::Add(name) => {
                self.learn(name);
                (self.client.add_member(chat, id_of(name), v1::Role::Member), format!("adding {name}"))
            }
            Line::Leave => (self.client.leave(chat), "leaving".to_owned()),
            Line::History(count) => {
                let after = self.client.known(chat).saturating_sub(count.into());
                match self.client.history(chat, after, count, 0).await {
                    Ok(history) => {
                        for entry in history.entries.into_iter().filter_map(Entry::new) {
                            self.print(&entry)?;
                        }
                        writeln!(self.output, "  whole through #{}", history.through)?;
                    }
                    Err(error) => writeln!(self.output, "  {error}")?,
                }
                return Ok(());
            }
            Line::Who => return self.who(chat),
            Line::Nothing
            | Line::Help
            | Line::New(_)
            | Line::To(_)
            | Line::Chats
            | Line::Open(_)
            | Line::Quit
            | Line::Unknown(_) => return Ok(()),
        };
        match sent {
            (Ok(sent), what) => {
                self.said.insert(sent.id, what);
            }
            (Err(error), what) => writeln!(self.output, "  ✗ {what}: {error}")?,
        }
        Ok(())
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<Next> {
        match event {
            Event::Connected { user, .. } => {
                writeln!(self.output, "· connected as {}", self.name(*user))?;
                self.me = *user;
                if let Some(name) = self.want.take() {
                    self.open_direct(&name)?;
                }
            }
            Event::Disconnected { .. } => {
                self.caught_up.clear();
                writeln!(self.output, "· connection lost; what you say is kept and sent later")?;
            }
            Event::Fatal { code } => {
                writeln!(self.output, "· the server says not to come back (code {code})")?;
                self.output.flush()?;
                return Ok(Next::Quit);
            }
            Event::CaughtUp { partition, .. } => {
                self.caught_up.insert(*partition);
                if let Some(here) = self.here.filter(|here| here.partition() == *partition) {
                    self.read(here);
                }
            }
            Event::Accepted { id } => {
                if let Some(what) = self.said.get(id) {
                    writeln!(self.output, "  ✓ {what} accepted")?;
                }
            }
            Event::Settled { id, settlement, corrected, .. } => self.settled(*id, *settlement, *corrected)?,
            Event::Entry { entry, .. } => self.entry(entry)?,
            Event::Watermark { chat, user, delivered, seen } => self.mark(*chat, *user, *delivered, *seen)?,
            Event::Closing { .. } => writeln!(self.output, "· the server is going; coming back in a moment")?,
            Event::Error(error) => writeln!(self.output, "· the server says {:?} {}", error.code(), error.text)?,
            Event::Heads(_)
            | Event::Ready(_)
            | Event::Sent { .. }
            | Event::Answered { .. }
            | Event::Arrived { .. }
            | Event::History { .. }
            | Event::Unreachable { .. } => {}
        }
        self.output.flush()?;
        Ok(Next::Stay)
    }

    fn settled(&mut self, id: SendId, settlement: Settlement, corrected: bool) -> Result<()> {
        let opening = self.opening.remove(&id);
        let what = self.said.remove(&id);
        match settlement {
            Settlement::Stored { chat, .. } if opening && self.chats.contains_key(&chat) => self.open(chat)?,
            Settlement::Stored { chat, .. } if opening => {
                // Its first entry is on the way and says whose chat it is; what is typed meanwhile goes there already.
                self.here = Some(chat);
                self.unopened = Some(chat);
            }
            Settlement::Stored { seq, .. } => {
                if let Some(what) = what {
                    writeln!(self.output, "  ✓✓ {what} stored as #{seq}")?;
                } else if corrected {
                    writeln!(self.output, "  ✓✓ what had been refused is stored as #{seq} after all")?;
                }
            }
            Settlement::Rejected { code, .. } => {
                let what = what.unwrap_or_else(|| "opening the chat".to_owned());
                writeln!(self.output, "  ✗ {what}: {}", code.as_str_name())?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let id = entry.chat;
        if !self.chats.contains_key(&id) {
            self.order.push(id);
        }
        let sender = UserId::from_wire(&entry.entry.sender).unwrap_or_default();
        let chat = self.chats.entry(id).or_default();
        match &entry.entry.event {
            Some(entry::Event::ChatCreated(created)) => {
                chat.kind = created.kind();
                for member in &created.members {
                    chat.members.extend(UserId::from_wire(&member.user).map(|user| (user, member.role())));
                }
            }
            Some(entry::Event::MemberAdded(v1::MemberAdded { member: Some(member) })) => {
                chat.members.extend(UserId::from_wire(&member.user).map(|user| (user, member.role())));
            }
            Some(entry::Event::MemberRemoved(removed)) => {
                UserId::from_wire(&removed.user).map(|user| chat.members.remove(&user));
            }
            Some(entry::Event::MemberLeft(_)) => {
                chat.members.remove(&sender);
            }
            Some(entry::Event::MessageSent(_)) if sender == self.me => {
                chat.own.insert(entry.entry.seq);
            }
            Some(entry::Event::MessageSent(_) | entry::Event::MemberAdded(_)) | None => {}
        }
        chat.last.push_back(entry.clone());
        if chat.last.len() > SHOWN_AT_OPEN {
            chat.last.pop_front();
        }
        let is_first = self.here.is_none() && self.want.is_none() && self.opening.is_empty();
        if is_first || self.unopened == Some(id) {
            return self.open(id);
        }
        if self.here == Some(id) {
            self.print(entry)?;
            self.read(id);
        } else if sender != self.me && self.caught_up.contains(&id.partition()) {
            let number = self.order.iter().position(|chat| *chat == id).unwrap_or_default() + 1;
            writeln!(self.output, "  (in chat {number}, {}: /open {number})", self.title(id))?;
        }
        Ok(())
    }

    /// What is on the screen has been read.
    fn read(&self, chat: ChatId) {
        if self.caught_up.contains(&chat.partition()) {
            self.client.seen(chat, self.client.known(chat));
        }
    }

    fn mark(&mut self, id: ChatId, user: UserId, delivered: u64, seen: u64) -> Result<()> {
        let name = self.name(user);
        let chat = self.chats.entry(id).or_default();
        let before = chat.marks.get(&user).copied().unwrap_or_default();
        let after = (before.0.max(delivered).max(seen), before.1.max(seen));
        chat.marks.insert(user, after);
        // A tick is about one's own messages: the last of them that the mark newly covers.
        let covered =
            |from: u64, to: u64| (from < to).then(|| chat.own.range(from + 1..=to).next_back().copied()).flatten();
        let ticks = (covered(before.0, after.0), covered(before.1, after.1));
        if user == self.me || self.here != Some(id) {
            return Ok(());
        }
        match ticks {
            (_, Some(seq)) => writeln!(self.output, "  ✓✓ #{seq} seen by {name}")?,
            (Some(seq), None) => writeln!(self.output, "  ✓✓ #{seq} delivered to {name}")?,
            (None, None) => {}
        }
        Ok(())
    }

    fn print(&mut self, entry: &Entry) -> Result<()> {
        let sender = self.name(UserId::from_wire(&entry.entry.sender).unwrap_or_default());
        let seq = entry.entry.seq;
        let user = |bytes: &[u8]| self.name(UserId::from_wire(bytes).unwrap_or_default());
        let text = match &entry.entry.event {
            Some(entry::Event::MessageSent(message)) => {
                // A body may hold anything: no control character reaches the terminal.
                let body: String = String::from_utf8_lossy(&message.body).chars().filter(|c| !c.is_control()).collect();
                format!("#{seq} {sender}: {body}")
            }
            Some(entry::Event::ChatCreated(created)) => {
                let names: Vec<_> = created.members.iter().map(|member| user(&member.user)).collect();
                format!("#{seq} · {sender} opened the chat: {}", names.join(", "))
            }
            Some(entry::Event::MemberAdded(added)) => {
                let added = added.member.as_ref().map(|member| user(&member.user)).unwrap_or_default();
                format!("#{seq} · {sender} added {added}")
            }
            Some(entry::Event::MemberRemoved(removed)) => {
                format!("#{seq} · {sender} removed {}", user(&removed.user))
            }
            Some(entry::Event::MemberLeft(_)) => format!("#{seq} · {sender} left"),
            None => format!("#{seq} · something this version does not know"),
        };
        writeln!(self.output, "{text}")?;
        Ok(())
    }

    fn open(&mut self, chat: ChatId) -> Result<()> {
        self.here = Some(chat);
        self.unopened = None;
        writeln!(self.output, "· in {}", self.title(chat))?;
        let last: Vec<_> = self.chats.entry(chat).or_default().last.iter().cloned().collect();
        for entry in &last {
            self.print(entry)?;
        }
        self.read(chat);
        Ok(())
    }

    fn open_direct(&mut self, name: &str) -> Result<()> {
        let member = self.member(name);
        self.create(v1::ChatKind::Direct, vec![member])
    }

    fn create(&mut self, kind: v1::ChatKind, members: Vec<v1::Member>) -> Result<()> {
        match self.client.create_chat(kind, members) {
            Ok(sent) => {
                self.opening.insert(sent.id);
            }
            Err(error) => writeln!(self.output, "  ✗ {error}")?,
        }
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        for (place, chat) in self.order.iter().enumerate() {
            let mark = if self.here == Some(*chat) { '*' } else { ' ' };
            let (title, known) = (self.title(*chat), self.client.known(*chat));
            writeln!(self.output, " {mark} {:3} {title} (#{known})", place + 1)?;
        }
        Ok(())
    }

    fn who(&mut self, id: ChatId) -> Result<()> {
        let Some(chat) = self.chats.get(&id) else { return Ok(()) };
        for (user, role) in &chat.members {
            let (delivered, seen) = chat.marks.get(user).copied().unwrap_or_default();
            let role = role.as_str_name().trim_start_matches("ROLE_").to_lowercase();
            let name = self.name(*user);
            if *user == self.me {
                writeln!(self.output, "  {name} ({role}), you")?;
            } else {
                writeln!(self.output, "  {name} ({role}), delivered #{delivered}, seen #{seen}")?;
            }
        }
        Ok(())
    }

    fn title(&self, id: ChatId) -> String {
        let others = |chat: &Chat| {
            let names: Vec<_> =
                chat.members.keys().filter(|user| **user != self.me).map(|user| self.name(*user)).collect();
            names.join(", ")
        };
        match self.chats.get(&id) {
            Some(chat) if !chat.members.is_empty() => match chat.kind {
                v1::ChatKind::Direct => format!("the chat with {}", others(chat)),
                v1::ChatKind::Channel => format!("the channel with {}", others(chat)),
                v1::ChatKind::Group | v1::ChatKind::Unspecified => format!("the group with {}", others(chat)),
            },
            Some(_) | None => format!("chat {id}"),
        }
    }

    fn member(&mut self, name: &str) -> v1::Member {
        self.learn(name);
        v1::Member { user: id_of(name).to_wire(), role: v1::Role::Member.into() }
    }

    fn learn(&mut self, name: &str) {
        self.names.insert(id_of(name), name.trim().to_owned());
    }

    /// The name, where it was typed here; else the first digits of the id.
    fn name(&self, user: UserId) -> String {
        self.names.get(&user).cloned().unwrap_or_else(|| user.to_string().chars().take(8).collect())
    }
}

fn id_of(name: &str) -> UserId {
    UserId(user_id(name).into_bytes())
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(24).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
