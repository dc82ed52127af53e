//! The rows of the design's table: what is measured, and by what it is divided.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::control::Control;
use crate::fleet::Fleet;
use crate::target::{Target, cpu_of};

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    /// Ours, in `unit`.
    pub(crate) value: f64,
    /// What it is divided by, in the same run.
    pub(crate) control: f64,
    /// The median of the runs' own ratios, not the ratio of medians.
    pub(crate) ratio: f64,
    pub(crate) target: f64,
    /// Whether more is better.
    #[serde(skip)]
    pub(crate) at_least: bool,
    #[serde(skip)]
    pub(crate) unit: &'static str,
}

impl Row {
    pub(crate) fn holds(&self) -> bool {
        if self.at_least { self.ratio >= self.target } else { self.ratio <= self.target }
    }
}

/// What is loaded: the target, its sockets and chats, and the controls.
pub(crate) struct Bench {
    pub(crate) target: Target,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) control: Control,
    pub(crate) window: u64,
    pub(crate) time: Duration,
    pub(crate) runs: usize,
}

/// Saturating runs beside the raw broker, one value a run.
#[derive(Debug, Default)]
struct Runs {
    /// Messages a second, ours and the broker's alone.
    ours: Vec<f64>,
    raw: Vec<f64>,
    /// Of the store.
    commits: Vec<f64>,
    messages: Vec<f64>,
}

/// What saturating runs gave.
#[derive(Debug)]
pub(crate) struct Saturated {
    pub(crate) p1: Row,
    pub(crate) p19b: Row,
    /// Messages a second at saturation.
    pub(crate) rate: f64,
}

impl Bench {
    /// P1 and P19b.
    pub(crate) async fn saturate(&self) -> Result<Saturated> {
        let Runs { ours, raw, commits, messages } = self.beside_raw().await?;
        let rate = median(&ours);
        Ok(Saturated {
            p1: Row { id: "P1", unit: "messages/s", target: 0.5, at_least: true, ..row(&ours, &raw) },
            p19b: Row { id: "P19b", unit: "commits", target: 0.02, at_least: false, ..row(&commits, &messages) },
            rate,
        })
    }

    /// P2, where target and control sync each write before they acknowledge it.
    pub(crate) async fn synced(&self) -> Result<Row> {
        let Runs { ours, raw, .. } = self.beside_raw().await?;
        Ok(Row { id: "P2", unit: "messages/s", target: 20.0, at_least: true, ..row(&ours, &raw) })
    }

    /// A run of the raw broker, then one of ours, and again.
    async fn beside_raw(&self) -> Result<Runs> {
        let mut runs = Runs::default();
        // One of each that does not count: caches, files and connections are warm in those that do.
        for run in 0..=self.runs {
            let control = self.control.publishes(self.time).await?;
            let commits_before = self.target.counter("store_commits_total").await?;
            let (cpu_before, own_before) = (self.target.cpu()?, cpu_of(std::process::id())?);
            let done = self.fleet.saturate(self.window, self.time).await?;
            let (cpu, own) = (self.target.cpu()?, cpu_of(std::process::id())?);
            let commits_made = self.target.counter("store_commits_total").await? - commits_before;
            let rate = done.messages as f64 / done.seconds;
            let cost = |seconds: f64| seconds * 1e6 / done.messages as f64;
            eprintln!(
                "run {run}: {rate:.0} messages/s, raw {control:.0}/s, ratio {:.3}; CPU µs a message: heliograph {:.1}, \
                 nats-server {:.1}, load {:.1}; {commits_made} commits",
                rate / control,
                cost(cpu.0 - cpu_before.0),
                cost(cpu.1 - cpu_before.1),
                cost(own - own_before),
            );
            if run > 0 {
                runs.ours.push(rate);
                runs.raw.push(control);
                runs.commits.push(commits_made);
                runs.messages.push(done.messages as f64);
            }
        }
        self.target.check_quiet()?;
        Ok(runs)
    }

    /// P4: end to end at `rate` messages a second, and the hops at the same rate.
    pub(crate) async fn latency(&self, rate: f64) -> Result<Row> {
        let (mut ours, mut hops) = (Vec::new(), Vec::new());
        for run in 0..self.runs {
            let control = self.control.hops(rate, self.time / 2).await?;
            let cpu_before = self.target.cpu()?;
            let paced = self.fleet.pace(rate, self.time / 5, self.time).await?;
            let cpu = self.target.cpu()?;
            let cost = |seconds: f64| seconds * 1e6 / (rate * self.time.as_secs_f64() * 1.2);
            let at =
                |histogram: &hdrhistogram::Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
            let received = at(&paced.received, 0.5);
            eprintln!(
                "run {run} at {rate:.0}/s: accepted p50 {:.0} p99 {:.0} µs, received p50 {received:.0} p99 {:.0} µs, stored p50 {:.0} p99 {:.0} µs, \
                 schedule late p50 {:.0} p99 {:.0} µs; hops: publish→pull {:.0}, core {:.0}, echo {:.0}, sum {:.0} µs; CPU µs a \
                 message: heliograph {:.1}, nats-server {:.1}",
                at(&paced.accepted, 0.5),
                at(&paced.accepted, 0.99),
                at(&paced.received, 0.99),
                at(&paced.stored, 0.5),
                at(&paced.stored, 0.99),
                at(&paced.lag, 0.5),
                at(&paced.lag, 0.99),
                control.publish_to_pull as f64 / 1e3,
                control.core as f64 / 1e3,
                control.echo as f64 / 1e3,
                control.sum() as f64 / 1e3,
                cost(cpu.0 - cpu_before.0),
                cost(cpu.1 - cpu_before.1),
            );
            ours.push(received);
            hops.push(control.sum() as f64 / 1e3);
        }
        self.target.check_quiet()?;
        Ok(Row { id: "P4", unit: "µs", target: 1.3, at_least: false, ..row(&ours, &hops) })
    }
}

pub(crate) fn row(ours: &[f64], controls: &[f64]) -> Row {
    let ratios: Vec<f64> = ours.iter().zip(controls).map(|(ours, control)| ours / control).collect();
    Row {
        id: "",
        value: median(ours),
        control: median(controls),
        ratio: median(&ratios),
        target: 0.0,
        at_least: true,
        unit: "",
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    // Of an even count, the mean of the middle two.
    (at(sorted.len() / 2) + at((sorted.len().saturating_sub(1)) / 2)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_runs_ratios() {
        let row = row(&[10.0, 30.0, 20.0], &[10.0, 10.0, 40.0]);
        assert_eq!((row.value, row.control, row.ratio), (20.0, 10.0, 1.0));
    }

    #[test]
    fn a_target_is_a_floor_or_a_ceiling() {
        let at = |ratio, at_least| Row { ratio, target: 0.5, at_least, ..row(&[1.0], &[1.0]) }.holds();
        assert!(at(0.6, true) && !at(0.4, true) && at(0.4, false) && !at(0.6, false));
    }
}
