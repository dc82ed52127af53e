//! `chats`: which chats there are and who is in them, never what is said; and the import of old ones. `chat` is the terminal client.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::{Ask, encoded};
use super::import::ImportArgs;
use super::print::{Column, List, one, said};

const CHATS: &[Column] = &[
    ("CHAT", "chat"),
    ("KIND", "kind"),
    ("PARTITION", "partition"),
    ("HEAD", "head"),
    ("MESSAGES", "messages"),
    ("LAST ACTIVITY", "last_activity"),
];
const MEMBERS: &[Column] =
    &[("MEMBER", "user"), ("ROLE", "role"), ("JOINED AT", "joined_seq"), ("LEFT AT", "left_seq")];

/// Which chats there are and who is in them, and the import of old ones.
#[derive(Debug, Args)]
pub(crate) struct ChatsArgs {
    #[command(subcommand)]
    command: ChatsCommand,
    /// Prints JSON: one document, or a line an item of a list.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ChatsCommand {
    /// Lists chats.
    List {
        /// Only those that this user is or was in: a handle or an id.
        #[arg(long)]
        user: Option<String>,
    },
    /// Shows a chat with its members.
    Show {
        /// The chat's id.
        chat: String,
    },
    /// Brings a chat in with its history, at the times that it has; run again, it goes on where it stopped.
    Import(ImportArgs),
}

impl ChatsArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let Self { command, json } = self;
        let ask = Ask::of(folder);
        match command {
            ChatsCommand::List { user } => {
                let path = user.map_or_else(|| "/chats".to_owned(), |user| format!("/chats?user={}", encoded(&user)));
                let mut list = List::new(stdout().lock(), json, CHATS);
                let mut is_empty = true;
                ask.each(&path, ("chats", "after"), |chat| {
                    is_empty = false;
                    list.item(chat)
                })
                .await?;
                list.end(is_empty, "no chats")
            }
            ChatsCommand::Import(import) => import.run(&ask, json).await,
            ChatsCommand::Show { chat } => show(&ask.get(&format!("/chats/{}", encoded(&chat))).await?, json),
        }
    }
}

fn show(chat: &Value, is_json: bool) -> Result<()> {
    if is_json {
        return one(stdout().lock(), true, chat, String::new);
    }
    let mut output = stdout().lock();
    for (head, field) in [
        ("chat", "chat"),
        ("kind", "summary.kind"),
        ("partition", "partition"),
        ("stored", "stored"),
        ("importing", "importing"),
        ("messages", "summary.messages"),
        ("first kept", "summary.first_seq"),
        ("activity", "summary.last_activity"),
    ] {
        writeln!(output, "{head:12}{}", said(chat, field))?;
    }
    writeln!(output)?;
    let mut list = List::new(output, false, MEMBERS);
    for stay in chat["members"].as_array().map_or(&[][..], Vec::as_slice) {
        list.item(stay)?;
    }
    list.end(false, "")
}
