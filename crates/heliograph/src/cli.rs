//! The commands that people type: `up`, `revoke`, `chat`, and those of operators.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::path::PathBuf;
use std::process::exit;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use client::{Token, Trust};
use domain::UserId;
use uuid::Uuid;

use crate::chat::{GivenToken, Source};
use crate::epoch::EpochArgs;
use crate::operate::{
    ChatsArgs, ConfigArgs, DeviceArgs, Mint, PartitionArgs, ProjectionsArgs, TokenArgs, UpArgs, UserArgs,
};
use crate::run::RunArgs;
use crate::schema::SchemaArgs;
use crate::{chat, folder, identity, revoke, up};

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
    /// Runs some roles, over a broker and a store that other processes use too.
    Run(Box<RunArgs>),
    /// Checks and shows what `up` would be told, or prints a file with all of it.
    Config(ConfigArgs),
    /// Makes tokens of a user worthless and closes the sockets that they signed in.
    Revoke(RevokeArgs),
    /// Chats in this terminal.
    Chat(ChatArgs),
    /// Lists, shows, bans, exports and erases users.
    User(Operate<UserArgs>),
    /// Lists, shows and imports chats; `chat` is the client.
    Chats(Operate<ChatsArgs>),
    /// Lists and revokes devices of a user.
    Device(Operate<DeviceArgs>),
    /// Shows how far each partition is.
    Partition(Operate<PartitionArgs>),
    /// Shows, checks and rebuilds the read models.
    Projections(Operate<ProjectionsArgs>),
    /// Makes tokens, and lists and rotates the keys that sign them.
    Token(Operate<TokenArgs>),
    /// Makes and checks the tables of a CQL store.
    Schema(SchemaArgs),
    /// Opens new epochs of partitions whose streams lost something.
    Epoch(EpochArgs),
}

/// An operator's command, and the folder of the `up` that it asks.
#[derive(Debug, Args)]
struct Operate<T: Args> {
    /// Folder of the `up` that is asked.
    #[arg(long = "data", env = "HELIOGRAPH_DATA", default_value = "heliograph-data", global = true)]
    folder: PathBuf,
    #[command(flatten)]
    args: T,
}

#[derive(Debug, Args)]
struct Data {
    /// Folder that holds everything that is kept.
    #[arg(long = "data", env = "HELIOGRAPH_DATA", default_value = "heliograph-data")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    whose: Whose,
    /// Only those for this device; without it, all.
    #[arg(long, default_value = "")]
    device: String,
    /// The issuer that knows the user as `--subject`.
    #[arg(long, requires = "subject", conflicts_with_all = ["name", "id"])]
    issuer: Option<String>,
}

/// Whose tokens: those that were issued until now.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Of whoever has this name.
    #[arg(long = "user", value_parser = name)]
    name: Option<String>,
    /// Of the user with this id.
    #[arg(long)]
    id: Option<Uuid>,
    /// Of the user whom another issuer calls so.
    #[arg(long, requires = "issuer")]
    subject: Option<String>,
}

impl Whose {
    /// How the user is called here, and its id.
    fn user(&self, issuer: &str) -> (String, UserId) {
        match (&self.name, self.id, &self.subject) {
            (Some(name), ..) => (name.clone(), UserId::new(identity::user_id(name).into_bytes())),
            (None, Some(id), _) => (id.to_string(), UserId::new(id.into_bytes())),
            (None, None, subject) => {
                let id = issuers::user_id(issuer, subject.as_deref().unwrap_or_default());
                (id.to_string(), id)
            }
        }
    }
}

#[derive(Debug, Args)]
struct ChatArgs {
    #[command(flatten)]
    data: Data,
    /// Own name: a token is made for it with the folder's key.
    #[arg(long = "as", value_parser = name, conflicts_with = "token_file")]
    name: Option<String>,
    /// File with an access token, read again at each connection; `-`: the first line of the input. Without it and
    /// `--as`, the environment has `HELIOGRAPH_TOKEN_FILE` or the token itself in `HELIOGRAPH_TOKEN`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Whom to talk with, a name or a user's id; without it, the latest chat is opened.
    #[arg(long, value_parser = name)]
    to: Option<String>,
    /// Where to connect, such as `wss://chat.example`; without it, to the `up` that runs on the folder.
    #[arg(long, env = "HELIOGRAPH_ADDRESS")]
    address: Option<String>,
    /// PEM file of the only authorities that may vouch for the gateway; without it, those that this machine trusts.
    #[arg(long, env = "HELIOGRAPH_TRUSTED_AUTHORITY", value_name = "FILE")]
    trusted_authority: Option<PathBuf>,
}

/// Parses the arguments and runs the command.
///
/// # Errors
/// What the command says; the caller prints it.
pub fn run() -> Result<()> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).and_then(Cli::checked);
    let command = cli.unwrap_or_else(|error| error.exit()).command;
    let of_command = matches.subcommand().map_or(&matches, |(_, of_command)| of_command);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Up(args) => runtime.block_on(up::run(args.layers(of_command)?.config()?)),
        Command::Run(args) => runtime.block_on(Box::pin(args.run(of_command))),
        Command::Config(args) => args.run(of_command),
        Command::Revoke(args) => {
            let (called, user) = args.whose.user(args.issuer.as_deref().unwrap_or_default());
            runtime.block_on(revoke::run(&args.data.folder, user, &args.device))?;
            println!("{called}: the tokens issued until now are revoked");
            Ok(())
        }
        Command::Chat(args) => {
            let GivenToken { token, device } = args.token()?;
            let done = runtime.block_on(chat::run(chat::ChatArgs {
                address: args.address.map_or_else(|| folder::address(&args.data.folder), Ok)?,
                trust: args.trusted_authority.map_or(Trust::Platform, Trust::File),
                token,
                device,
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
        Command::User(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Chats(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Device(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Partition(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Projections(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Token(Operate { folder, args }) => runtime.block_on(args.run(&folder)),
        Command::Schema(args) => runtime.block_on(args.run()),
        Command::Epoch(args) => runtime.block_on(args.run()),
    }
}

impl Cli {
    /// What no single argument shows.
    fn checked(self) -> Result<Self, clap::Error> {
        let Command::Chat(args) = &self.command else { return Ok(self) };
        if args.name.is_none() && args.given().is_none() {
            let text = "say who you are: --as NAME, --token-file FILE, or HELIOGRAPH_TOKEN in the environment";
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, text));
        }
        if let (Some(name), Some(to)) = (&args.name, &args.to)
            && identity::user_id(name) == identity::user_id(to)
        {
            let text = format!("--to {to} is --as {name}: nobody talks with oneself");
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(self)
    }
}

impl ChatArgs {
    /// Where the token is that somebody was given.
    fn given(&self) -> Option<Source> {
        Source::find(self.token_file.as_deref(), |name| std::env::var_os(name))
    }

    /// One that is made here for a name, else the one that was given.
    fn token(&self) -> Result<GivenToken> {
        if let Some(name) = &self.name {
            let mint = Mint::of(&self.data.folder, name, 1);
            // What is wrong with the folder is said now, not at the first connection.
            mint.token()?;
            return Ok(GivenToken { token: Token::made_by(move || Ok(mint.token()?)), device: None });
        }
        self.given().context("there is no token")?.open()
    }
}

/// A name that somebody can be called by.
pub(crate) fn name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() { Err("a name must not be empty") } else { Ok(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_come_together_or_not_at_all() {
        let parse = |args: &str| Cli::try_parse_from(["heliograph", "up"].into_iter().chain(args.split_whitespace()));
        assert!(parse("--tls-certificate a --tls-key b").is_ok() && parse("").is_ok());
        for alone in ["--tls-certificate a", "--tls-key b"] {
            assert_eq!(parse(alone).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
        }
    }

    #[test]
    fn whose_tokens_are_revoked_is_said_in_one_way() {
        let user = |args: &str| {
            let args = ["heliograph", "revoke"].into_iter().chain(args.split_whitespace());
            let Command::Revoke(args) = Cli::try_parse_from(args)?.command else { panic!("another command") };
            Ok::<_, clap::Error>(args.whose.user(args.issuer.as_deref().unwrap_or_default()).1)
        };
        let alice = UserId::new(identity::user_id("alice").into_bytes());
        assert_eq!((user("--user alice").unwrap(), user(&format!("--id {alice}")).unwrap()), (alice, alice));
        assert_eq!(
            user("--issuer https://id.example --subject 42").unwrap(),
            issuers::user_id("https://id.example", "42")
        );
        for bad in ["", "--issuer a", "--subject 42", "--user a --issuer b", "--user a --issuer b --subject c"] {
            assert!(user(bad).is_err(), "{bad}");
        }
        assert!(user("--user alice --id 0ad2898e-93e3-52c1-8c2e-4d452ccbad88").is_err());
    }

    #[test]
    fn names_that_nobody_has_are_refused_in_words() {
        let refused = |args: &str| {
            let args = ["heliograph"].into_iter().chain(args.split(' '));
            let args = args.map(|arg| if arg == "''" { "" } else { arg });
            Cli::try_parse_from(args).and_then(Cli::checked).map(|_| ()).unwrap_err().to_string()
        };
        for args in ["chat --as ''", "chat --as alice --to ''", "token issue --user ''"] {
            assert!(refused(args).contains("a name must not be empty"), "{args}: {}", refused(args));
        }
        assert!(refused("chat --as alice --token-file f").contains("cannot be used with"));
        assert!(refused("chat --as alice --to Alice").contains("nobody talks with oneself"));
    }
}
