//! What a run was and found, for machines and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::verdict::Violation;

/// A run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) deployment: String,
    pub(crate) seed: u64,
    pub(crate) planned_seconds: u64,
    /// From the first fault to the last, without the drain.
    pub(crate) seconds: f64,
    pub(crate) drain_seconds: f64,
    /// Faults by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Each fault: ms since the begin, and what it was.
    pub(crate) struck: Vec<(u64, String)>,
    /// Kinds that this machine or deployment cannot suffer.
    pub(crate) not_drawn: Vec<String>,
    pub(crate) stored: u64,
    pub(crate) rejected: u64,
    pub(crate) abandoned: u64,
    pub(crate) joins: u64,
    pub(crate) http_stored: u64,
    pub(crate) http_requests: u64,
    pub(crate) starts: u64,
    pub(crate) ends_explained: u64,
    /// What the checker looked at.
    pub(crate) looked_at: BTreeMap<String, u64>,
    /// Lines of level WARN and ERROR of the processes, with their numbers.
    pub(crate) said: BTreeMap<String, u64>,
    /// By invariant, kept or not.
    pub(crate) totals: BTreeMap<String, u64>,
    pub(crate) violations: Vec<Violation>,
    /// Of a control: whether it broke what it must break.
    pub(crate) caught: Option<bool>,
}

impl Report {
    /// How many faults there were.
    pub(crate) fn count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// One line.
    pub(crate) fn verdict(&self) -> String {
        match (self.caught, self.totals.is_empty()) {
            (Some(true), _) => format!("caught, as it must be: {:?}", self.totals),
            (Some(false), _) => "NOT caught: what must fail did not".to_owned(),
            (None, true) => "no violation".to_owned(),
            (None, false) => format!("VIOLATED: {:?}", self.totals),
        }
    }

    /// Whether the run is as it should be.
    pub(crate) fn is_good(&self) -> bool {
        self.caught.unwrap_or(self.totals.is_empty())
    }

    /// The page for people.
    pub(crate) fn markdown(&self) -> String {
        let mut page = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "# Chaos, seed {}: {}\n", self.seed, self.verdict())?;
        writeln!(page, "```\n{}\n```\n", self.command)?;
        writeln!(
            page,
            "{}. {} faults in {:.0} s, then {:.0} s until all was at rest, read and judged.\n",
            self.deployment,
            self.count(),
            self.seconds,
            self.drain_seconds
        )?;
        writeln!(page, "| fault | times |\n| --- | ---: |")?;
        for (kind, count) in &self.faults {
            writeln!(page, "| {kind} | {count} |")?;
        }
        if !self.not_drawn.is_empty() {
            writeln!(page, "\nNot drawn, for it cannot be had here: {}.", self.not_drawn.join(", "))?;
        }
        writeln!(page, "\n| sends | |\n| --- | ---: |")?;
        for (name, count) in [
            ("stored", self.stored),
            ("rejected", self.rejected),
            ("taken along by a killed client", self.abandoned),
            ("joins of the member who comes and goes", self.joins),
            ("stored over HTTP", self.http_stored),
            ("HTTP requests for that", self.http_requests),
            ("starts of the process", self.starts),
            ("ends of it that a full disk explains", self.ends_explained),
        ] {
            writeln!(page, "| {name} | {count} |")?;
        }
        writeln!(page, "\n| judged | |\n| --- | ---: |")?;
        for (name, count) in &self.looked_at {
            writeln!(page, "| {name} | {count} |")?;
        }
        if !self.said.is_empty() {
            writeln!(page, "\nWhat the processes said at WARN and ERROR:\n\n```")?;
            for (line, count) in &self.said {
                writeln!(page, "{count:5} × {}", line.chars().take(220).collect::<String>())?;
            }
            writeln!(page, "```")?;
        }
        if !self.violations.is_empty() {
            writeln!(page, "\n## Violations: {:?}\n", self.totals)?;
            for Violation { invariant, what, evidence } in self.violations.iter().take(20) {
                writeln!(page, "- **{invariant}** {what}")?;
                for line in evidence {
                    writeln!(page, "  - {line}")?;
                }
            }
        }
        Ok(())
    }

    /// Writes the page to `file`, and the same for machines beside it.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let write = || -> Result<()> {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(file, self.markdown())?;
            std::fs::write(file.with_extension("json"), serde_json::to_vec_pretty(self)?)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }
}
