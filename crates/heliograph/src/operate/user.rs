//! `user`: who there is, and what an operator does to somebody.

use std::io::{BufWriter, Write as _, stdout};
use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{Ask, encoded};
use super::print::{Column, List, one, said};

const USERS: &[Column] =
    &[("HANDLE", "handle"), ("STATE", "state"), ("ID", "id"), ("CREATED", "created_at"), ("NAME", "display_name")];
const DEVICES: &[Column] = &[("DEVICE", "device"), ("NAME", "name"), ("SEEN", "seen_at")];
const SIGN_INS: &[Column] = &[("SIGNED IN ON", "device"), ("SINCE", "created_at"), ("UNTIL", "expires_at")];

/// Who there is, and what is done to somebody.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
    /// Prints JSON: one document, or a line an item of a list.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Args)]
struct Who {
    /// A handle or a user's id.
    #[arg(value_name = "USER")]
    who: String,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Lists users by handle.
    List {
        /// Only those whose handle begins so.
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Shows a user with devices and sign-ins.
    Show(Who),
    /// Signs a user out everywhere for good: sockets close, and no sign-in is taken until `unban`.
    Ban(Who),
    /// Lets a banned user sign in again.
    Unban(Who),
    /// Prints all that is kept of a user, a line of JSON a record; the last one is of kind `end`.
    Export(Who),
    /// Takes away all that is kept of a user outside the chats, and signs it out everywhere. For ever.
    Erase {
        #[command(flatten)]
        who: Who,
        /// Says that it is meant.
        #[arg(long, required = true)]
        yes: bool,
    },
}

impl UserArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let Self { command, json } = self;
        let ask = Ask::of(folder);
        let of = |Who { who }: &Who, what: &str| format!("/users/{}{what}", encoded(who));
        match command {
            UserCommand::List { prefix } => {
                let path = format!("/users?prefix={}", encoded(&prefix));
                let mut list = List::new(stdout().lock(), json, USERS);
                let mut is_empty = true;
                ask.each(&path, ("users", "after"), |user| {
                    is_empty = false;
                    list.item(user)
                })
                .await?;
                list.end(is_empty, "nobody")
            }
            UserCommand::Show(who) => show(&ask.get(&of(&who, "")).await?, json),
            UserCommand::Ban(who) => {
                let changed = ask.post(&of(&who, "/ban"), None).await?;
                one(stdout().lock(), json, &changed, || {
                    let before = if changed["changed"] == true { "is banned" } else { "was banned already" };
                    format!("{} {before}; its sign-ins are ended", name(&changed))
                })
            }
            UserCommand::Unban(who) => {
                let changed = ask.post(&of(&who, "/unban"), None).await?;
                one(stdout().lock(), json, &changed, || {
                    let before = if changed["changed"] == true { "may sign in again" } else { "was not banned" };
                    format!("{} {before}", name(&changed))
                })
            }
            UserCommand::Erase { who, yes: _ } => {
                let changed = ask.post(&of(&who, "/erase"), None).await?;
                one(stdout().lock(), json, &changed, || {
                    let before = match (changed["changed"] == true, &changed["state"] == "erased") {
                        (true, _) => "is being erased, and signs in no more",
                        (false, false) => "is being erased already",
                        (false, true) => "was erased already",
                    };
                    format!("{} {before}; what it said stays in the chats", said(&changed, "id"))
                })
            }
            UserCommand::Export(who) => export(&ask, &of(&who, "/export")).await,
        }
    }
}

/// The last line says that it is whole: who finds none has a part of it.
async fn export(ask: &Ask, path: &str) -> Result<()> {
    let mut output = BufWriter::new(stdout().lock());
    let mut records = 0_u64;
    ask.each(path, ("records", "cursor"), |record| {
        records += 1;
        Ok(writeln!(output, "{record}")?)
    })
    .await?;
    writeln!(output, "{}", json!({ "kind": "end", "records": records }))?;
    Ok(output.flush()?)
}

fn show(user: &Value, is_json: bool) -> Result<()> {
    if is_json {
        return one(stdout().lock(), true, user, String::new);
    }
    let mut output = stdout().lock();
    for (head, field) in USERS {
        writeln!(output, "{:10}{}", head.to_lowercase(), said(user, field))?;
    }
    for (columns, field) in [(DEVICES, "devices"), (SIGN_INS, "sign_ins")] {
        let items = user[field].as_array().map_or(&[][..], Vec::as_slice);
        if !items.is_empty() {
            writeln!(output)?;
            let mut list = List::new(&mut output, false, columns);
            items.iter().try_for_each(|item| list.item(item))?;
            list.end(false, "")?;
        }
    }
    Ok(())
}

fn name(user: &Value) -> String {
    format!("{} ({})", said(user, "handle"), said(user, "id"))
}
