//! `heliograph chat`: a terminal client, so that a newcomer sees the path of a message work.
//!
//! Reads lines, prints what the client tells. It keeps nothing: the next run reads its chats from the server.

mod line;
mod terminal;

use std::io::Write;

use anyhow::Result;
use client::{Client, Options};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use terminal::{Next, Terminal};

/// What a chat needs to know.
#[derive(Clone)]
pub struct ChatArgs {
    /// Address of the gateway, such as `ws://127.0.0.1:7070/v1/socket`.
    pub url: String,
    /// Says who signs in; must be of the user that `name` stands for.
    pub token: String,
    /// Own name.
    pub name: String,
    /// Whom to talk with; without it, whoever writes first.
    pub to: Option<String>,
}

impl std::fmt::Debug for ChatArgs {
    // Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatArgs").field("url", &self.url).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Chats on standard input and output until `/quit`, the end of input, or the server says not to come back.
///
/// A thread may stay in a read of standard input when this returns: end the process, do not wait for the runtime.
pub async fn run(args: ChatArgs) -> Result<()> {
    run_on(args, BufReader::new(tokio::io::stdin()), std::io::stdout()).await
}

/// Chats on any input and output.
pub async fn run_on(args: ChatArgs, input: impl AsyncBufRead + Unpin, output: impl Write) -> Result<()> {
    let options = Options::new(&args.url, args.token.as_str(), format!("terminal of {}", args.name));
    let (client, mut events) = Client::connect(options);
    let mut terminal = Terminal::new(client.clone(), output, &args.name, args.to.as_deref());
    let mut lines = input.lines();
    let mut reading = true;
    loop {
        let next = tokio::select! {
            event = events.next() => match event {
                Some(event) => terminal.event(&event)?,
                None => Next::Quit,
            },
            line = lines.next_line(), if reading => match line? {
                Some(line) => terminal.line(&line).await?,
                // Piped input ends; what was sent has yet to settle.
                None => {
                    reading = false;
                    Next::Stay
                }
            },
        };
        if matches!(next, Next::Quit) || (!reading && terminal.is_quiet()) {
            break;
        }
    }
    client.close();
    Ok(())
}
