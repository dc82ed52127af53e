//! Clients that mean harm, all at once, each kind at a fixed rate of a few times the limit that it is there to meet.
//!
//! They are a child process of its own, so that their memory, descriptors and event loop are not the load generator's;
//! [`Crowd`] is the parent's side of it. They get what CPU time nobody else wants, as if they had machines of their own:
//! what they cost the healthy is then what the server does for them. All come through a proxy that the gateway trusts, so that limits hold for them.
//!
//! ```text
//! half_sent  5,000 requests that never end, a byte in 10 s each       → dropped after the time for a handshake
//! connects   4 addresses, 60 connects a second each                   → 429
//! flood      messages: 2 users of 3 sockets, 800/s a socket           → rate_limited, then closed with 4006
//!            bytes: a user of 2 sockets, 150/s of 15 kB a socket      → the same
//!            pings, fragments: 8 sockets each, 100/s a socket         → closed with 1008
//! silent     mute: 40 sockets that read and answer no ping            → closed with 4003, after 35 s
//!            strangers: 100 sockets that do not sign in               → closed with 4401
//! stuck      (of P14) recipients that do not read                     → closed with 4000
//! ```

mod connects;
mod flood;
mod half_sent;
mod silent;
mod tally;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::BytesMut;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use testkit::Running;
#[cfg(target_os = "linux")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::stuck::Others;
use crate::target::{Door, Target, cpu_of};
use crate::wire::{self, Incoming, Proxied, Way};
pub(crate) use half_sent::COUNT as HALF_SENT;
pub(crate) use tally::Report;
use tally::Tally;

/// Where the hostile clients connect from, as proxies that are trusted.
pub(crate) const PROXIES: &str = "127.7.0.0/16";
/// Over this time they come: as long as a half-sent request lives, so that these end evenly too.
const COME_OVER: Duration = Duration::from_secs(10);
/// Then each has met its limit, but for those that answer no ping.
const IN_PLACE_AFTER: Duration = Duration::from_secs(14);
const IN_PLACE_WITHIN: Duration = Duration::from_secs(30);
/// Before one comes back whom the gateway has let go.
const COMES_BACK_AFTER: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_millis(250);
const IN_PLACE: &str = "in place";
const REPORTS: &str = "reports ";

/// What a hostile client does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    /// Never ends its request.
    HalfSent,
    /// Connects again and again.
    Connects,
    /// Sends too many messages.
    Messages,
    /// Sends too many bytes.
    Bytes,
    /// Sends too many control frames.
    Pings,
    /// Sends too many fragments.
    Fragments,
    /// Does not read.
    Stuck,
    /// Reads, and answers no ping.
    Mute,
    /// Does not sign in.
    Strangers,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::HalfSent,
        Self::Connects,
        Self::Messages,
        Self::Bytes,
        Self::Pings,
        Self::Fragments,
        Self::Stuck,
        Self::Mute,
        Self::Strangers,
    ];

    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How the one of this number comes: no two kinds share an address.
    fn way(self, number: usize) -> Way {
        let (kind, number) = (self as u8, u8::try_from(number % 250).unwrap_or(0));
        let proxy = Ipv4Addr::new(127, 7, kind + 1, number + 1);
        // A network for documentation.
        let client = Ipv4Addr::new(203, 0, 113, kind * 25 + number % 25 + 1);
        Way { proxied: Some(Proxied { proxy, client }), ..Way::default() }
    }
}

/// What the child is told.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder of the `heliograph up` that is beset.
    #[arg(long)]
    data: PathBuf,
    /// Recipients that do not read.
    #[arg(long)]
    stuck: usize,
    /// It ends by itself after this.
    #[arg(long)]
    seconds: u64,
    /// Kinds that stay away.
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Kind>,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Crowd {
    process: Running,
    begun: Instant,
}

impl Crowd {
    /// Starts one that lasts for so long once it is in place, and returns when it is.
    pub(crate) async fn start(target: &Target, stuck: usize, lasts: Duration, without: &[Kind]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["hostile", "--stuck", &stuck.to_string(), "--data"]).arg(target.data());
        command.args(["--seconds", &(IN_PLACE_WITHIN + lasts).as_secs().to_string()]);
        if !without.is_empty() {
            command.args(["--without", &without.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")]);
        }
        let begun = Instant::now();
        let mut process = Running::start("hostile clients", command)?;
        process.wait_for_line(IN_PLACE_WITHIN, IN_PLACE).await?;
        Ok(Self { process, begun })
    }

    /// What it has met so far, as it sees it; not older than a moment.
    pub(crate) fn report(&mut self) -> Result<Report> {
        if let Some(status) = self.process.try_status()? {
            bail!("the hostile clients ended ({status}):\n{}", self.process.tail());
        }
        let lines = self.process.lines();
        let latest = lines.iter().rev().find_map(|line| line.strip_prefix(REPORTS)).context("no report")?;
        Ok(serde_json::from_str(latest)?)
    }

    /// How long ago its first clients came.
    pub(crate) fn stands_for(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Its CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu_of(self.process.pid())
    }
}

/// Takes only the time that no other thread wants: the crowd is to cost the server's work, not its own beside it.
///
/// Niceness would not do: a nice thread keeps its core until its slice is over, and a recipient waits as long.
#[cfg(target_os = "linux")]
fn stand_behind() -> Result<()> {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
        .map_err(|error| anyhow!("cannot stand behind other threads: {error:?}"))
}

#[cfg(not(target_os = "linux"))]
fn stand_behind() -> Result<()> {
    bail!("only the scheduler of Linux lets the crowd stand behind other threads")
}

/// Besets until its time is over, or nobody hears its reports any more.
///
/// # Errors
/// Where no such server is, or a kind cannot do what it means to.
pub fn serve(options: &Options) -> Result<()> {
    // Before there are other threads: it holds for this one and for those that it starts.
    stand_behind()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let door = Door::of(&options.data)?;
        let tally = Arc::new(Tally::default());
        let comes = |kind: &Kind| !options.without.contains(kind);
        let mut tasks = JoinSet::new();
        let stuck =
            comes(&Kind::Stuck).then(|| Others::start(&door, options.stuck, Kind::Stuck.way(0), false)).transpose()?;
        for kind in Kind::ALL.into_iter().filter(comes) {
            match kind {
                Kind::HalfSent => half_sent::start(&door, &tally, &mut tasks),
                Kind::Connects => connects::start(&door, &tally, &mut tasks),
                Kind::Messages => flood::MESSAGES.start(&door, &tally, &mut tasks)?,
                Kind::Bytes => flood::BYTES.start(&door, &tally, &mut tasks)?,
                Kind::Pings => flood::PINGS.start(&door, &tally, &mut tasks)?,
                Kind::Fragments => flood::FRAGMENTS.start(&door, &tally, &mut tasks)?,
                Kind::Mute => silent::start_mute(&door, &tally, &mut tasks)?,
                Kind::Strangers => silent::start_strangers(&door, &tally, &mut tasks),
                Kind::Stuck => {}
            }
        }
        report(&tally, stuck.as_ref(), &mut tasks, Duration::from_secs(options.seconds)).await
    })
}

/// Says now and then what was met, for so long.
async fn report(tally: &Tally, stuck: Option<&Others>, tasks: &mut JoinSet<Result<()>>, lasts: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut in_place = false;
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while begun.elapsed() < lasts {
        ticks.tick().await;
        while let Some(ended) = tasks.try_join_next() {
            ended?.context("a hostile client")?;
        }
        let report = tally.report(stuck.map_or(0, Others::let_go));
        // A parent that is gone has closed the pipe: that ends it.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{REPORTS}{}", serde_json::to_string(&report)?)?;
        if !in_place && begun.elapsed() > IN_PLACE_AFTER {
            in_place = true;
            writeln!(out, "{IN_PLACE}")?;
        }
    }
    Ok(())
}

/// Waits for the turn of this one of so many, who come evenly.
async fn turn(number: usize, of: usize) {
    sleep(COME_OVER.mul_f64(number as f64 / of.max(1) as f64)).await;
}

/// Reads all away; the code of the close frame.
async fn until_closed(input: &mut (impl AsyncRead + Unpin), mut read: BytesMut) -> Result<u16> {
    loop {
        while let Some(incoming) = wire::next(&mut read)? {
            if let Incoming::Close(code) = incoming {
                return Ok(code);
            }
        }
        if input.read_buf(&mut read).await? == 0 {
            bail!("closed without a word");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_share_no_address_and_all_come_through_the_proxies() {
        let (mut proxies, mut clients) = (BTreeSet::new(), BTreeSet::new());
        let network: gateway::limits::Network = PROXIES.parse().unwrap();
        for kind in Kind::ALL {
            for number in 0..25 {
                let Proxied { proxy, client } = kind.way(number).proxied.unwrap();
                assert!(network.contains(proxy.into()), "{proxy}");
                assert!(proxies.insert(proxy) && clients.insert(client), "{kind:?} {number}");
            }
        }
    }
}
