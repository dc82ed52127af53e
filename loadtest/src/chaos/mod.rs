//! Faults drawn by a seed while people write; then everything comes to rest, and the checker judges what they saw.
//!
//! ```text
//! plan (fault) ─▶ strike ─▶ deployment (up, disk), gates, clients
//! cast ◀─ talk, http: the load            cast ─▶ verdict (checker) , models ─▶ report
//! control: the same over roles that lack a rule         against: no faults, a deployment that is not ours
//! ```
//! It ends by itself, reaches loopback only (but `--against`), and ends only processes that it started.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod against;
mod cast;
mod control;
mod deployment;
mod disk;
mod fault;
mod http;
mod models;
mod plan;
mod report;
pub mod roles;
mod strike;
mod talk;
mod up;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::Trust;
use testkit::Gate;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use control::Control;

use cast::{Cast, Entry};
use deployment::{Deployment, Host};
use fault::Kind;
use http::Answers;
use report::Report;
use strike::{Striker, Struck};
use talk::Talk;
use up::{Program, Up};
use verdict::{Histories, Verdict};

/// How long the deployment may take to be at rest once nothing is wrong any more.
const RESTS_WITHIN: Duration = Duration::from_secs(90);
/// The same of a control, which may never be.
const CONTROL_RESTS_WITHIN: Duration = Duration::from_secs(10);
/// What was typed: a debug build is another program.
const CHAOS: &str =
    if cfg!(debug_assertions) { "cargo run -p loadtest -- chaos" } else { "cargo run --release -p loadtest -- chaos" };
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// A run of a control.
const CONTROL_MINUTES: f64 = 0.4;
/// A run.
const MINUTES: f64 = 10.0;

/// What `chaos` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Draws the faults; drawn itself, and printed, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults happen, in minutes; the drain comes on top [default: 10, of a control 0.4].
    #[arg(long)]
    minutes: Option<f64>,
    /// Messages a second that are sent over all sockets together.
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// File for the summary, `.md`; the same for machines goes beside it, as `.json`.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Only these kinds of faults.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Prints the schedule and does nothing.
    #[arg(long)]
    plan: bool,
    /// The roles with one rule left out, which must be caught; `none`: with every rule, which must be clean.
    #[arg(long, value_enum)]
    control: Option<Control>,
    /// A deployment that is not ours, such as `wss://chat.example/v1/socket`: load and judging only.
    #[arg(long, value_name = "URL", conflicts_with_all = ["control", "plan", "only"])]
    against: Option<String>,
    #[command(flatten)]
    stranger: against::Stranger,
}

fn kind(name: &str) -> Result<Kind, String> {
    let known = || Kind::all().map(Kind::name).collect::<Vec<_>>().join(", ");
    Kind::named(name).ok_or_else(|| format!("the kinds are {}", known()))
}

/// Runs, and says by its code whether all was as it should be.
///
/// # Errors
/// What kept the run from being carried out at all.
pub fn run(options: &Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // What was started and mounted goes with the run.
        bail!("stopped by a signal")
    };
    let run = async {
        tokio::select! {
            report = Box::pin(carry_out(options)) => report,
            stopped = stopped => stopped,
        }
    };
    let Some(report) = runtime.block_on(run)? else { return Ok(ExitCode::SUCCESS) };
    println!("{}", report.markdown());
    if let Some(file) = &options.report {
        report.save(file)?;
    }
    println!("{}", report.verdict());
    if report.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("to repeat it: {}", report.command);
    Ok(ExitCode::FAILURE)
}

async fn carry_out(options: &Options) -> Result<Option<Report>> {
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    if let Some(url) = &options.against {
        return against::run(url, options, seed).await.map(Some);
    }
    let minutes = options.minutes.unwrap_or_else(|| if options.control.is_some() { CONTROL_MINUTES } else { MINUTES });
    let time = Duration::from_secs_f64(minutes * 60.0);
    let program = match options.control {
        Some(control) => Program::Roles { without: control.without() },
        None => Program::Product,
    };
    let mut up = Up::new(program)?;
    let wanted = options.control.map_or_else(|| Kind::all().collect(), Control::menu);
    let wanted: Vec<_> =
        wanted.into_iter().filter(|kind| options.only.is_empty() || options.only.contains(kind)).collect();
    let (menu, not_drawn): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|kind| up.can(*kind));
    let plan = plan::draw(seed, time, &menu);
    if options.plan {
        for planned in &plan {
            println!("after {:4} ms  {}", planned.rest.as_millis(), planned.fault);
        }
        return Ok(None);
    }
    let command = command(options, seed, minutes);
    println!("{command}\n{} faults are planned", plan.len());

    let begun = Instant::now();
    up.start(Host::Process(0)).await?;
    let door = up.door()?;
    let mut gates = Vec::new();
    for gateway in up.gateways() {
        gates.push(Gate::before(gateway.port()).await?);
    }
    let urls = gates.iter().map(|gate| format!("ws://127.0.0.1:{}/v1/socket", gate.port())).collect();
    let signs = Arc::new(move |user| door.token(user));
    let entry = Entry { urls, signs, trust: Trust::default(), run: String::new() };
    let mut load = Load::begin(entry, up.api(), options.rate, seed).await?;
    let say = |line: &str| println!("{line}");
    let since = Instant::now();
    let mut verdict = Verdict::default();
    let (api, cast, tally) = (up.api(), Arc::clone(&load.talk.cast), Arc::clone(&load.talk.tally));
    let mut striker = Striker::new(&mut up, &gates, &cast, &tally, &say);
    let struck = with_progress(&load, since, Box::pin(striker.strike(&plan, time))).await;
    let mut struck = struck.unwrap_or_else(|error| {
        verdict.add("Rest", format!("a fault cannot be carried out or mended: {error:#}"), Vec::new());
        Struck::default()
    });
    let seconds = since.elapsed().as_secs_f64();
    let within = if options.control.is_some_and(|control| control.without().is_some()) {
        CONTROL_RESTS_WITHIN
    } else {
        RESTS_WITHIN
    };
    let answers = tokio::select! {
        answers = load.judge(api, within, &mut verdict) => answers?,
        never = striker.keep(&mut struck) => match never {},
    };
    for end in &struck.unexplained_ends {
        verdict.add("Rest", end.clone(), Vec::new());
    }
    // What it says while it ends counts too.
    if let Err(error) = up.stop(Host::Process(0)).await {
        verdict.add("Rest", format!("it does not end in order: {error:#}"), Vec::new());
    }
    let said = up.said().clone();
    for (line, _) in said.lines.iter().filter(|(line, _)| line.contains("panicked") || line.contains("halted")) {
        verdict.add("Rest", format!("a process said: {line}"), Vec::new());
    }
    let caught = options
        .control
        .filter(|control| control.without().is_some())
        .map(|control| control.breaks().iter().any(|invariant| verdict.totals.contains_key(*invariant)));
    let deployment = match options.control {
        Some(control) => format!("The roles in one process with two workers of ingest, control `{}`", control.name()),
        None => "`heliograph up` with its broker, synced, 2 partitions".to_owned(),
    };
    let mut report = load.report(verdict, &answers);
    report.command = command;
    report.deployment = deployment;
    report.seed = seed;
    report.planned_seconds = time.as_secs();
    report.seconds = seconds;
    report.drain_seconds = begun.elapsed().as_secs_f64() - seconds;
    report.faults = struck.by_kind.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    report.struck = struck.faults.iter().map(|(at, fault)| (*at, fault.to_string())).collect();
    report.not_drawn = not_drawn.iter().map(|kind| kind.name().to_owned()).collect();
    report.starts = said.starts;
    report.ends_explained = struck.explained_ends;
    report.said = said.lines;
    report.caught = caught;
    Ok(Some(report))
}

/// What repeats the run, as far as a machine's timing allows.
fn command(options: &Options, seed: u64, minutes: f64) -> String {
    let mut command = format!("{CHAOS} --seed {seed} --minutes {minutes}");
    if let Some(control) = options.control {
        command += &format!(" --control {}", control.name());
    }
    if !options.only.is_empty() {
        command += &format!(" --only {}", options.only.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","));
    }
    command
}

/// Everybody who uses the deployment.
struct Load {
    talk: Talk,
    http: Option<JoinHandle<Answers>>,
    stop_http: CancellationToken,
    give_up_http: CancellationToken,
}

impl Load {
    async fn begin(entry: Entry, api: Option<std::net::SocketAddr>, rate: f64, seed: u64) -> Result<Self> {
        if !(rate.is_finite() && rate > 0.0) {
            bail!("--rate must be above 0");
        }
        let cast = Arc::new(Cast::new(entry));
        let talk = Talk::begin(Arc::clone(&cast), rate, seed).await?;
        if !talk::all_signed_in(&cast).await {
            bail!("not everybody can sign in");
        }
        let (stop_http, give_up_http) = (CancellationToken::new(), CancellationToken::new());
        // It is a member, whether it sends or not.
        cast.knows(http::SENDER);
        let http =
            api.map(|api| tokio::spawn(http::send(cast, api, talk.group, stop_http.clone(), give_up_http.clone())));
        Ok(Self { talk, http, stop_http, give_up_http })
    }

    /// Comes to rest and judges everything.
    async fn judge(
        &mut self,
        api: Option<std::net::SocketAddr>,
        within: Duration,
        verdict: &mut Verdict,
    ) -> Result<Answers> {
        println!("no more faults; waiting for rest");
        self.stop_http.cancel();
        if !self.talk.end(within).await? {
            verdict.add("Rest", format!("somebody still waits for an answer after {within:?}"), Vec::new());
        }
        let cast = Arc::clone(&self.talk.cast);
        cast.wake();
        verdict::rest(&cast, within, verdict).await;
        let mut answers = Answers::default();
        if let Some(mut http) = self.http.take() {
            answers = match timeout(within, &mut http).await {
                Ok(answers) => answers.context("HTTP sends")?,
                Err(_late) => {
                    self.give_up_http.cancel();
                    http.await.context("HTTP sends")?
                }
            };
        }
        println!("reading every chat as everybody");
        let histories: Histories = verdict::read_all(&cast, within, verdict).await;
        verdict::delivered(&cast, &histories, within / 2, verdict).await;
        if let Some(api) = api {
            verdict::judge_http(&answers, &histories, self.talk.group, verdict);
            models::judge(&cast, api, &histories, within / 2, verdict).await;
        }
        println!("judging");
        verdict::judge(&cast, verdict);
        Ok(answers)
    }

    /// What was sent and judged.
    fn report(&self, verdict: Verdict, answers: &Answers) -> Report {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (tally, counts) = (&self.talk.tally, verdict.counts);
        let looked_at = [
            ("clients", counts.clients),
            ("chats", counts.chats),
            ("entries", counts.entries),
            ("final histories", counts.final_histories),
            ("sends, each copy", counts.sends),
            ("`accepted` frames", counts.accepted),
            ("`stored` outcomes", counts.stored),
            ("`rejected` outcomes", counts.rejected),
            ("entries pushed", counts.pushed),
            ("entries read", counts.read),
            ("entries shown", counts.shown),
            ("times caught up", counts.caught_up),
            ("watermarks", counts.watermarks),
            ("HTTP sends", verdict.http),
            ("lines of chat lists (N10)", verdict.lines),
            ("own watermarks at the end (N8)", verdict.marks),
        ];
        Report {
            stored: count(&tally.stored),
            rejected: count(&tally.rejected),
            abandoned: count(&tally.abandoned),
            joins: count(&tally.joins),
            http_stored: answers.stored.len() as u64,
            http_requests: answers.requests,
            looked_at: looked_at.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            totals: verdict.totals,
            violations: verdict.violations,
            ..Report::default()
        }
    }
}

/// Prints how it goes while something else goes on.
async fn with_progress<T>(load: &Load, since: Instant, going: impl Future<Output = T>) -> T {
    let mut ticks = interval(PROGRESS_EVERY);
    let tally = &load.talk.tally;
    let mut going = std::pin::pin!(going);
    loop {
        tokio::select! {
            done = &mut going => return done,
            _ = ticks.tick() => println!(
                "        {:4} s: {} stored, {} rejected, {} joins",
                since.elapsed().as_secs(),
                tally.stored.load(Ordering::Relaxed),
                tally.rejected.load(Ordering::Relaxed),
                tally.joins.load(Ordering::Relaxed),
            ),
        }
    }
}
