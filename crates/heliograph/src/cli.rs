//! The commands that people type: `up`, `token`, `chat`.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use domain::UserId;
use gateway::TokenKey;

use crate::broker::Sync;
use crate::{chat, folder, identity, up};

/// A messaging platform in one binary.
#[derive(Debug, Parser)]
#[command(name = "heliograph", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every role on this machine, over the embedded store and a nats-server of its own.
    Up(UpArgs),
    /// Prints a token that signs NAME in.
    Token(TokenArgs),
    /// Chats in this terminal.
    Chat(ChatArgs),
}

#[derive(Debug, Args)]
struct Data {
    /// Folder that holds everything that is kept.
    #[arg(long = "data", env = "HELIOGRAPH_DATA", default_value = "heliograph-data")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    data: Data,
    /// Address that clients connect to.
    #[arg(long, env = "HELIOGRAPH_LISTEN", default_value = "127.0.0.1:7070")]
    listen: String,
    /// How many partitions the log has; fixed at the first start.
    #[arg(long, env = "HELIOGRAPH_PARTITIONS", default_value_t = 8)]
    partitions: u16,
    /// Let the broker sync now and then instead of before each acknowledgement: a power cut may cost the last writes.
    #[arg(long)]
    lazy_sync: bool,
    /// Address that answers `/livez` and `/metrics`; without it, none does.
    #[arg(long, env = "HELIOGRAPH_ADMIN")]
    admin: Option<String>,
    /// What is logged, such as `info` or `ingest=debug`.
    #[arg(long, env = "HELIOGRAPH_LOG", default_value = "warn")]
    log: String,
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(flatten)]
    data: Data,
    /// Whom it signs in; the same name is the same user everywhere.
    #[arg(long = "user")]
    name: String,
    /// How long it is valid, in hours.
    #[arg(long, default_value_t = 24)]
    hours: u32,
}

#[derive(Debug, Args)]
struct ChatArgs {
    #[command(flatten)]
    data: Data,
    /// Own name.
    #[arg(long = "as")]
    name: String,
    /// Whom to talk with.
    #[arg(long)]
    to: Option<String>,
}

/// Parses the arguments and runs the command.
///
/// # Errors
/// What the command says; the caller prints it.
pub fn run() -> Result<()> {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Up(args) => runtime.block_on(up::run(up::Options {
            data: args.data.folder,
            listen: args.listen,
            partitions: args.partitions,
            sync: if args.lazy_sync { Sync::Lazy } else { Sync::Always },
            admin: args.admin,
            log: args.log,
        })),
        Command::Token(args) => {
            println!("{}", token(&args.data, &args.name, args.hours)?);
            Ok(())
        }
        Command::Chat(args) => {
            let address = folder::address(&args.data.folder)?;
            let done = runtime.block_on(chat::run(chat::ChatArgs {
                url: format!("ws://{address}/v1/socket"),
                token: token(&args.data, &args.name, 24)?,
                name: args.name,
                to: args.to,
            }));
            if let Err(error) = done {
                eprintln!("{error:#}");
                exit(1);
            }
            // A thread may still sit in a read of standard input.
            exit(0)
        }
    }
}

fn token(data: &Data, name: &str, hours: u32) -> Result<String> {
    let key = TokenKey::from_pem(&folder::token_key(&data.folder)?).context("the token key is damaged")?;
    let user = UserId::new(identity::user_id(name).into_bytes());
    Ok(key.mint(user, Duration::from_secs(u64::from(hours) * 3_600))?)
}
