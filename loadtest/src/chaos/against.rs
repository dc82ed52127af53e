//! A deployment that is not ours to kill: load and judging, after it was said that this is meant.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::Trust;
use tokens::TokenKeys;
use tokio::time::{Instant, sleep};

use super::cast::Entry;
use super::report::Report;
use super::verdict::Verdict;
use super::{CHAOS, Load, MINUTES, RESTS_WITHIN, with_progress};

const TOKENS_VALID_FOR: Duration = Duration::from_secs(3_600);

/// What only such a run needs.
#[derive(Debug, clap::Args)]
pub(super) struct Stranger {
    /// PEM file with the key that signs the deployment's tokens.
    #[arg(long, value_name = "FILE", requires = "against")]
    token_key: Option<PathBuf>,
    /// Address of its HTTP API, without TLS.
    #[arg(long, value_name = "ADDRESS", requires = "against")]
    api: Option<SocketAddr>,
    /// PEM file of the only authorities that may vouch for it.
    #[arg(long, value_name = "FILE", requires = "against")]
    trusted_authority: Option<PathBuf>,
    /// Does not ask whether this is meant.
    #[arg(long, requires = "against")]
    yes: bool,
}

pub(super) async fn run(url: &str, options: &super::Options, seed: u64) -> Result<Report> {
    let stranger = &options.stranger;
    let file = stranger.token_key.as_ref().context("--against needs --token-key: who writes must sign in")?;
    let minutes = options.minutes.unwrap_or(MINUTES);
    if !stranger.yes && !is_meant(url, options.rate, minutes)? {
        bail!("nothing was done");
    }
    let keys = TokenKeys::from_pem(&fs::read_to_string(file).with_context(|| format!("{}", file.display()))?)?;
    let signs = Arc::new(move |user| Ok(keys.mint(user, TOKENS_VALID_FOR)?));
    let trust = stranger.trusted_authority.clone().map_or(Trust::Platform, Trust::File);
    // Nobody's names: the chats of an earlier run are not judged with those of this one.
    let entry =
        Entry { urls: vec![url.to_owned()], signs, trust, run: format!("chaos {:08x} ", rand::random::<u32>()) };
    let mut load = Load::begin(entry, stranger.api, options.rate, seed).await?;
    let since = Instant::now();
    with_progress(&load, since, sleep(Duration::from_secs_f64(minutes * 60.0))).await;
    let (seconds, mut verdict) = (since.elapsed().as_secs_f64(), Verdict::default());
    let answers = load.judge(stranger.api, RESTS_WITHIN, &mut verdict).await?;
    Ok(Report {
        command: format!("{CHAOS} --against {url} --minutes {minutes}"),
        deployment: format!("{url}, which is not ours: no faults by us"),
        seed,
        seconds,
        drain_seconds: since.elapsed().as_secs_f64() - seconds,
        ..load.report(verdict, &answers)
    })
}

fn is_meant(url: &str, rate: f64, minutes: f64) -> Result<bool> {
    print!(
        "This signs seven made-up users in at {url}, who write {rate} messages a second into five chats for {minutes} minutes. \
         What they write stays there. Go on? [yes/no] "
    );
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
