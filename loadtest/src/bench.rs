//! `bench`: starts the target and the controls, runs the rows that were asked for, prints the table.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use heliograph::up;
use testkit::nats::Sync;

use crate::abuse::Siege;
use crate::beside::Beside;
use crate::control::Control;
use crate::fleet::Fleet;
use crate::rows::{Bench, Row};
use crate::target::Target;
use crate::{hostile, idle, readers, sign_ins, storm, stuck};

/// A row of the design's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Id {
    /// Durable end-to-end messages/s ÷ raw JetStream publish/s.
    P1,
    /// The same where each is on disk before it is acknowledged.
    P2,
    /// End-to-end p50 at 10 % load ÷ the sum of the hops' medians.
    P4,
    /// Resident memory of an idle signed-in connection ÷ that of a bare task.
    P8,
    /// Statuses in the log ÷ (messages × recipients) in a group of 100 who all read.
    P12,
    /// All connections cut at once: time until all are back ÷ bare handshakes.
    P13,
    /// p99 of healthy recipients with a hundredth of stuck ones ÷ without.
    P14,
    /// p99 of healthy recipients beside hostile clients of every kind ÷ without them.
    Abuse,
    /// p99 of recipients while strangers try to sign in, 50 a second ÷ without them.
    SignIns,
    /// Embedded store commits ÷ messages at saturation.
    P19b,
}

/// What is measured, and for how long.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Rows; without any, all.
    #[arg(value_enum)]
    rows: Vec<Id>,
    /// Writes the table as JSON too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// How long each measurement loads.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measurements of which the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Direct chats, one writer each.
    #[arg(long, default_value_t = 1_000)]
    chats: usize,
    /// Sockets that the chats lie between, each of a user of its own.
    #[arg(long, default_value_t = 200)]
    sockets: usize,
    /// Messages that each chat keeps under way at saturation; at most 31.
    #[arg(long, default_value_t = 8)]
    window: u64,
    /// Messages a second of P4, P14, sign-ins and abuse, instead of a tenth of saturation; of P12 instead of 100.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections of P8; with a hundred to spare, both of its sides need as many descriptors.
    #[arg(long, default_value_t = 18_000)]
    idle: usize,
    /// Connections of P13.
    #[arg(long, default_value_t = 15_000)]
    storm: usize,
    /// Kinds of hostile clients that stay away; abuse gives no figure then, which shows that it looks.
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<hostile::Kind>,
    /// Partitions of the log; by default what `heliograph up` takes.
    #[arg(long)]
    partitions: Option<u16>,
}

impl Options {
    fn wants(&self, id: Id) -> bool {
        self.rows.is_empty() || self.rows.contains(&id)
    }
}

/// Runs the rows.
///
/// # Errors
/// When a message was lost, doubled or refused, or a process did not do what it should; then there are no figures.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.sockets >= 2 && options.chats >= 1, "at least two sockets and one chat");
    ensure!(options.chats / options.sockets < options.sockets / 2, "two people have one direct chat: more sockets");
    ensure!((1..=31).contains(&options.window), "a window of 1 to 31");
    ensure!(options.partitions != Some(0), "at least one partition");
    // One thread: what the load does not take is left to those whom it loads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let wanted = |id| options.wants(id);
    let partitions = options.partitions.unwrap_or_else(up::partitions_by_default);
    let runs = options.runs.max(1);
    let mut rows = Vec::new();
    let mut rate = options.rate;
    let beset = [Id::SignIns, Id::Abuse].into_iter().any(wanted);
    if [Id::P1, Id::P4, Id::P14, Id::P19b].into_iter().any(wanted) || (beset && rate.is_none()) {
        rows.extend(of_fleet(options, &mut rate, partitions, runs).await?);
    }
    if wanted(Id::P2) {
        rows.push(synced(options, partitions, runs).await?);
    }
    let (sockets, chats, time) = (options.sockets, options.chats, Duration::from_secs_f64(options.seconds));
    // Each a target of its own: what it trusts changes nothing for the other rows.
    if let Some(rate) = rate.filter(|_| wanted(Id::SignIns)) {
        let beside = Beside { partitions, sockets, chats, rate, time, runs };
        rows.push(sign_ins::measure(&beside).await?);
    }
    if let Some(rate) = rate.filter(|_| wanted(Id::Abuse)) {
        let beside = Beside { partitions, sockets, chats, rate, time, runs };
        rows.push(Siege { beside, without: &options.without }.measure().await?);
    }
    if wanted(Id::P8) {
        rows.push(idle::p8(partitions, options.idle, runs).await?);
    }
    if wanted(Id::P12) {
        rows.push(readers::p12(partitions, options.rate, time, runs).await?);
    }
    if wanted(Id::P13) {
        rows.push(storm::p13(partitions, options.storm, runs).await?);
    }
    print(&rows);
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

/// The rows that a fleet which talks gives; a rate that nobody asked for becomes a tenth of saturation.
async fn of_fleet(options: &Options, rate: &mut Option<f64>, partitions: u16, runs: usize) -> Result<Vec<Row>> {
    let wanted = |id| options.wants(id);
    let target = Target::start(partitions).await?;
    let fleet = Fleet::open(&target, options.sockets, options.chats, partitions).await?;
    let control = Control::start(Sync::Lazy).await?;
    let (window, time) = (options.window, Duration::from_secs_f64(options.seconds));
    let bench = Bench { target, fleet, control, window, time, runs };
    let mut rows = Vec::new();
    if wanted(Id::P1) || wanted(Id::P19b) || rate.is_none() {
        let saturated = bench.saturate().await?;
        rate.get_or_insert(saturated.rate / 10.0);
        rows.extend(wanted(Id::P1).then_some(saturated.p1));
        rows.extend(wanted(Id::P19b).then_some(saturated.p19b));
    }
    if let Some(rate) = rate.filter(|_| wanted(Id::P4)) {
        rows.push(bench.latency(rate).await?);
    }
    if let Some(rate) = rate.filter(|_| wanted(Id::P14)) {
        rows.push(stuck::p14(&bench.target, &bench.fleet, rate, time, runs).await?);
        bench.target.check_quiet()?;
    }
    bench.target.stop().await?;
    Ok(rows)
}

/// P2: target and control anew, for both sync otherwise.
async fn synced(options: &Options, partitions: u16, runs: usize) -> Result<Row> {
    let target = Target::start_synced(partitions).await?;
    let fleet = Fleet::open(&target, options.sockets, options.chats, partitions).await?;
    let control = Control::start(Sync::Always).await?;
    let (window, time) = (options.window, Duration::from_secs_f64(options.seconds));
    let bench = Bench { target, fleet, control, window, time, runs };
    let row = bench.synced().await?;
    bench.target.stop().await?;
    Ok(row)
}

fn print(rows: &[Row]) {
    println!("{:<9}{:>14}{:>14}  {:<12}{:>8}{:>10}", "row", "value", "control", "unit", "ratio", "target");
    for row in rows {
        let sign = if row.at_least { '≥' } else { '≤' };
        let verdict = if row.holds() { "" } else { "  missed" };
        println!(
            "{:<9}{:>14.1}{:>14.1}  {:<12}{:>8.4}{:>10}{verdict}",
            row.id,
            row.value,
            row.control,
            row.unit,
            row.ratio,
            format!("{sign} {}", row.target),
        );
    }
}
