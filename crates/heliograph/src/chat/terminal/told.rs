//! What the terminal does with events.

use std::io::Write;

use anyhow::Result;
use client::machine::Entry;
use client::{ChatId, Event, SendId, Settlement, UserId};

use super::super::chats::Tick;
use super::super::words::{ending, failure, is_for, quoted, refusal};
use super::{Next, Terminal};

impl<W: Write> Terminal<W> {
    pub(in crate::chat) async fn event(&mut self, event: &Event) -> Result<Next> {
        match event {
            Event::Connected { user, .. } => {
                self.me = *user;
                self.connected = true;
                writeln!(self.output, "· connected as {}", self.names.of(*user))?;
                if let Some(name) = self.want.take()
                    && let Err(error) = self.open_direct(&name)
                {
                    writeln!(self.output, "  ✗ opening the chat with {name}: {}", failure(&error))?;
                }
            }
            Event::Disconnected { .. } => {
                self.caught_up.clear();
                self.print("· connection lost; what you say is kept and sent later")?;
            }
            Event::Unreachable { .. } => {
                let address = &self.address;
                writeln!(self.output, "· cannot reach {address}, trying again; is `heliograph up` running?")?;
            }
            Event::Fatal { code } => return Ok(Next::Ended(ending(*code))),
            Event::CaughtUp { partition, all, .. } => {
                self.caught_up.insert(*partition);
                self.heard |= *all;
                if *all
                    && self.opens_first
                    && let Some(chat) = self.chats.latest()
                {
                    self.go_to(chat);
                }
                self.show()?;
            }
            Event::Accepted { id } => {
                if let Some(what) = self.said.get(id) {
                    writeln!(self.output, "  ✓ {what} accepted")?;
                }
            }
            Event::Settled { id, settlement, corrected, .. } => self.settled(*id, *settlement, *corrected)?,
            Event::Entry { entry, .. } => self.entry(entry)?,
            Event::Watermark { chat, user, delivered, seen } => self.mark(*chat, *user, *delivered, *seen)?,
            Event::Closing { .. } => self.print("· the server is going; coming back in a moment")?,
            Event::Error(error) => writeln!(self.output, "· the server says: {}", refusal(error.code()))?,
            Event::Heads(_)
            | Event::Ready(_)
            | Event::Sent { .. }
            | Event::Answered { .. }
            | Event::Arrived { .. }
            | Event::History { .. } => {}
        }
        self.run().await?;
        self.output.flush()?;
        Ok(Next::Stay)
    }

    fn settled(&mut self, id: SendId, settlement: Settlement, corrected: bool) -> Result<()> {
        self.full = false;
        if let Some((_, what)) = self.opening.take_if(|(opening, _)| *opening == id) {
            match settlement {
                Settlement::Stored { chat, .. } => self.go_to(chat),
                Settlement::Rejected { code, .. } => self.not_opened(&what, refusal(code))?,
            }
            return Ok(());
        }
        let what = self.said.remove(&id);
        match (what, settlement) {
            (Some(what), Settlement::Stored { seq, .. }) => {
                writeln!(self.output, "  ✓✓ {what} stored as #{seq}")?;
            }
            (Some(what), Settlement::Rejected { code, .. }) => {
                writeln!(self.output, "  ✗ {what}: {}", refusal(code))?;
            }
            (None, Settlement::Stored { seq, .. }) if corrected => {
                writeln!(self.output, "  ✓✓ what had been refused is stored as #{seq} after all")?;
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// What was meant for the chat goes nowhere, and nor does what is typed before the next one is open.
    fn not_opened(&mut self, what: &str, why: &str) -> Result<()> {
        writeln!(self.output, "  ✗ opening {what}: {why}")?;
        let lost: Vec<_> = self.waiting.drop_meant().iter().map(|line| quoted(line)).collect();
        if !lost.is_empty() {
            writeln!(self.output, "  ✗ not sent: {}", lost.join(", "))?;
        }
        self.here = None;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let id = entry.chat;
        self.chats.entry(entry, self.me);
        if !self.caught_up.contains(&id.partition()) {
            return Ok(());
        }
        if self.opens_first {
            self.go_to(id);
        }
        if let Some(here) = self.here.as_mut().filter(|here| here.chat == id) {
            // One that replaces another is printed again.
            here.printed = here.printed.min(entry.entry.seq.saturating_sub(1));
            return self.show();
        }
        if UserId::from_wire(&entry.entry.sender) != Some(self.me) {
            let number = self.chats.number(id);
            let for_you = if is_for(entry, self.me) { ", for you" } else { "" };
            writeln!(self.output, "  (in chat {number}, {}{for_you}: /open {number})", self.title(id))?;
        }
        Ok(())
    }

    fn mark(&mut self, id: ChatId, user: UserId, delivered: u64, seen: u64) -> Result<()> {
        let tick = self.chats.mark(id, user, delivered, seen);
        if user == self.me || self.here.is_none_or(|here| here.chat != id) {
            return Ok(());
        }
        let name = self.names.of(user);
        match tick {
            Some(Tick::Seen(seq)) => writeln!(self.output, "  ✓✓ #{seq} seen by {name}")?,
            Some(Tick::Delivered(seq)) => writeln!(self.output, "  ✓✓ #{seq} delivered to {name}")?,
            None => {}
        }
        Ok(())
    }
}
