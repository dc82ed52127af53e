//! `chats import`: reads a file whole before anything is sent, then sends it, some lines at a time.
//!
//! Whatever is broken off, the same command goes on where it stopped: the file says which import it is, and `up` how far
//! it got.

use std::io::stdout;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use domain::Micros;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::ask::{Ask, encoded};
use super::print::one;
use crate::import::file::{ImportFile, ImportedChat, ImportedMessage, Whole};
use crate::import::wire::{BODIES_BYTES_MAX, Begin, Begun, End, MESSAGES_MAX, Message, Messages, Stored};

/// What is imported.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// File of JSON lines: the chat, then a message a line.
    file: PathBuf,
}

impl ImportArgs {
    pub(super) async fn run(self, ask: &Ask, is_json: bool) -> Result<()> {
        let Self { file } = self;
        let now = api::now_us();
        let (chat, checked) = check(&file, now).with_context(|| format!("{}: nothing was sent", file.display()))?;
        let whole = checked.whole;
        let importing = Importing { ask, import: whole.import.to_string(), chat };
        let begun = importing.begin(whole.opened).await?;
        if !begun.ended {
            importing.send(&file, now, &checked, &begun).await.with_context(|| {
                format!("the import into chat {} is not done; the same command goes on with it", begun.chat)
            })?;
        }
        let messages = whole.last - 1;
        let before = begun.stored.min(whole.last).saturating_sub(1);
        let done = json!({
            "chat": begun.chat, "import": importing.import, "messages": messages, "imported_before": before,
        });
        one(stdout().lock(), is_json, &done, || match (begun.ended, before) {
            (true, _) => format!("chat {} was imported already, with its {messages} messages", begun.chat),
            (false, 0) => format!("chat {}: {messages} messages are imported, its members are in", begun.chat),
            (false, before) => format!(
                "chat {}: {messages} messages are imported, {before} of them before; its members are in",
                begun.chat
            ),
        })
    }
}

/// Messages that are read before some of them are sent.
const GROUP: usize = 256;

/// What a file held when it was checked.
struct Checked {
    whole: Whole,
    /// Names the file through each group of messages.
    groups: Vec<[u8; 8]>,
}

/// Reads all of it and sends nothing.
fn check(path: &Path, now: Micros) -> Result<(ImportedChat, Checked)> {
    let (mut file, chat) = ImportFile::open(path, now)?;
    let (mut groups, mut in_group) = (Vec::new(), 0);
    while file.next()?.is_some() {
        in_group += 1;
        if in_group == GROUP {
            groups.push(file.so_far());
            in_group = 0;
        }
    }
    if in_group > 0 {
        groups.push(file.so_far());
    }
    Ok((chat, Checked { whole: file.whole(), groups }))
}

struct Importing<'a> {
    ask: &'a Ask,
    import: String,
    chat: ImportedChat,
}

impl Importing<'_> {
    async fn begin(&self, opened: Micros) -> Result<Begun> {
        let ImportedChat { kind, members, opener } = self.chat.clone();
        let begin = Begin { import: self.import.clone(), kind, time_us: opened, opener, members };
        self.post("/imports", &begin).await
    }

    /// Sends what is not stored; of a file that was changed since it was checked, nothing that was changed.
    async fn send(&self, path: &Path, now: Micros, checked: &Checked, begun: &Begun) -> Result<()> {
        let (mut file, _) = ImportFile::open(path, now)?;
        let mut seq = 1;
        for name in &checked.groups {
            let mut group = Vec::new();
            while group.len() < GROUP
                && let Some(message) = file.next()?
            {
                group.push(message);
            }
            if file.so_far() != *name {
                bail!("{} was changed since it was checked", path.display());
            }
            let first = seq + 1;
            seq += group.len() as u64;
            let is_stored = usize::try_from(begun.stored.saturating_sub(first - 1)).unwrap_or(usize::MAX);
            let rest = group.split_off(is_stored.min(group.len()));
            self.group(&begun.chat, seq + 1 - rest.len() as u64, rest).await?;
        }
        let ImportedChat { members, opener, .. } = self.chat.clone();
        let end = End { import: self.import.clone(), seq: checked.whole.last + 1, opener, members };
        let Stored { .. } = self.post(&format!("/imports/{}/end", encoded(&begun.chat)), &end).await?;
        Ok(())
    }

    async fn group(&self, chat: &str, mut first_seq: u64, group: Vec<ImportedMessage>) -> Result<()> {
        let mut group = group.into_iter().peekable();
        while group.peek().is_some() {
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while let Some(message) = group.next_if(|next| {
                messages.is_empty() || messages.len() < MESSAGES_MAX && bytes + next.body.len() <= BODIES_BYTES_MAX
            }) {
                bytes += message.body.len();
                let ImportedMessage { sender, time, body } = message;
                messages.push(Message { sender, time_us: time, body: STANDARD.encode(body) });
            }
            let sent = messages.len() as u64;
            self.messages(chat, first_seq, messages).await?;
            first_seq += sent;
        }
        Ok(())
    }

    async fn messages(&self, chat: &str, first_seq: u64, messages: Vec<Message>) -> Result<()> {
        let messages = Messages { import: self.import.clone(), first_seq, messages };
        let Stored { .. } = self.post(&format!("/imports/{}/messages", encoded(chat)), &messages).await?;
        Ok(())
    }

    async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A> {
        let answer = self.ask.post(path, Some(serde_json::to_value(body)?)).await?;
        serde_json::from_value(answer).context("an answer of another version of `up`")
    }
}
