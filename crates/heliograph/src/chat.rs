//! `heliograph chat`: a terminal client, so that a newcomer sees the path of a message work.
//!
//! Reads lines, prints what the client tells. It keeps nothing: the next run reads its chats from the server.

mod chats;
mod given;
mod input;
mod line;
mod names;
mod terminal;
mod waiting;
mod words;

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use client::{Client, Options, Token, Trust};
use tokio::io::{AsyncBufRead, BufReader};
use tokio::time::{Instant, sleep_until};

pub use given::{GivenToken, Source};
use input::{Lines, Typed};
use terminal::{Next, Terminal};

/// How long the end waits for the next answer to what was typed.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// What a chat needs to know.
#[derive(Clone)]
pub struct ChatArgs {
    /// Address of the gateway, such as `127.0.0.1:7070`, or `wss://chat.example` over TLS.
    pub address: String,
    /// Who may vouch for it.
    pub trust: Trust,
    /// Says who signs in, at each connection; must be of the user that `name` stands for.
    pub token: Token,
    /// The device that signs in; none: one of this terminal's own.
    pub device: Option<String>,
    /// Own name; none: whoever the token is of.
    pub name: Option<String>,
    /// Whom to talk with; without it, the latest chat is opened.
    pub to: Option<String>,
}

impl std::fmt::Debug for ChatArgs {
    // Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatArgs").field("address", &self.address).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Chats on standard input and output until `/quit`, the end of input, or the server says not to come back.
///
/// A thread may stay in a read of standard input when this returns: end the process, do not wait for the runtime.
pub async fn run(args: ChatArgs) -> Result<()> {
    run_on(args, BufReader::new(tokio::io::stdin()), std::io::stdout()).await
}

/// Chats on any input and output.
///
/// # Errors
/// What the server ends the session with, and how much of what was typed has no answer by then.
pub async fn run_on(args: ChatArgs, input: impl AsyncBufRead + Unpin, output: impl Write) -> Result<()> {
    let scheme = if args.address.contains("://") { "" } else { "ws://" };
    let url = format!("{scheme}{}/v1/socket", args.address.trim_end_matches('/'));
    // Two terminals of one name are two devices: else the newer one would take the older one's place.
    let own = || format!("terminal {} of {}", std::process::id(), args.name.as_deref().unwrap_or("somebody"));
    let device = args.device.unwrap_or_else(own);
    let (client, mut events) = Client::connect(Options { trust: args.trust, ..Options::new(url, args.token, device) });
    let mut terminal = Terminal::new(client.clone(), output, (&args.address, args.name.as_deref(), args.to.as_deref()));
    let mut lines = Lines::new(input);
    // Set once nothing more is read; each answer that comes moves it on.
    let mut until = None;
    let mut left = 0;
    // Who has nothing to say still hears what there is.
    let mut hears = false;
    let ended = loop {
        let next = tokio::select! {
            event = events.next() => match event {
                Some(event) => terminal.event(&event).await?,
                None => Next::Ended("the client has ended"),
            },
            line = lines.next(), if until.is_none() && terminal.takes_lines() => match line? {
                Some(Typed::Line(line)) => terminal.line(&line).await?,
                Some(Typed::TooLong) => {
                    terminal.too_long()?;
                    Next::Stay
                }
                // Piped input ends; what was sent has yet to settle.
                None => {
                    hears = true;
                    Next::Quit
                }
            },
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break None,
        };
        match next {
            Next::Stay => {}
            Next::Quit => until = Some(Instant::now() + SETTLES_WITHIN),
            Next::Ended(why) => break Some(why),
        }
        if until.is_some() {
            let now = terminal.unsettled() + usize::from(hears && !terminal.has_heard());
            match now {
                0 => break None,
                now if now != left => until = Some(Instant::now() + SETTLES_WITHIN),
                _ => {}
            }
            left = now;
        }
    };
    client.close();
    match (ended, terminal.left()) {
        (Some(why), None) => bail!("the server says not to come back: {why}"),
        (Some(why), Some(left)) => bail!("the server says not to come back: {why}; {left}"),
        (None, None) if hears && !terminal.has_heard() => bail!("nothing was heard from {}", args.address),
        (None, None) => Ok(()),
        (None, Some(left)) => bail!("{left}"),
    }
}
