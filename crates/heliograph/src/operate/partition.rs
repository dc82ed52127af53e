//! `partition`: how far each partition is, and how old what waits in it is; and who is to have it.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ask::{Ask, encoded};
use super::print::{Column, List, said};

const PROGRESS: &[Column] = &[
    ("PARTITION", "partition"),
    ("STREAM", "stream"),
    ("LAST", "last"),
    ("DONE", "done"),
    ("POSITION", "position"),
    ("LAG", "lag"),
    ("OLDEST, S", "oldest_age_s"),
    ("EPOCH IS SAME", "same_epoch"),
    ("OWNER", "owner"),
];
/// Who moves each position.
const MOVED_BY: [(&str, &str); 4] =
    [("decided", "ingest"), ("appended", "ingest"), ("delivered", "delivery"), ("projected", "projections")];
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its top.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// How far each partition is.
#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    #[command(subcommand)]
    command: PartitionCommand,
    /// Prints JSON: a line a partition.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum PartitionCommand {
    /// Shows for each partition what was accepted, published, appended, delivered and projected, and by whom.
    Status {
        /// Again each second, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Lets nobody have a partition: what comes in waits in the log until `resume`.
    Pause {
        #[command(flatten)]
        whose: Whose,
    },
    /// Gives a partition to a worker, as long as that one takes part.
    Move {
        #[command(flatten)]
        whose: Whose,
        /// The worker's name.
        #[arg(long, value_name = "WORKER")]
        to: String,
    },
    /// Takes back a pause or a move: the workers share the partition again.
    Resume {
        #[command(flatten)]
        whose: Whose,
    },
}

/// A partition, and of which role.
#[derive(Debug, Args)]
struct Whose {
    /// The partition's number.
    #[arg(value_name = "PARTITION")]
    partition: u16,
    /// The role whose owner is meant: `ingest`, `delivery` or `projections`.
    #[arg(long, value_name = "ROLE", default_value = "ingest")]
    role: String,
}

impl PartitionArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let ask = Ask::of(folder);
        let (whose, order, body) = match self.command {
            PartitionCommand::Status { watch } => return status(&ask, self.json, watch).await,
            PartitionCommand::Pause { whose } => (whose, "pause", None),
            PartitionCommand::Move { whose, to } => (whose, "move", Some(json!({ "to": to }))),
            PartitionCommand::Resume { whose } => (whose, "resume", None),
        };
        let Whose { partition, role } = whose;
        let ordered = ask.post(&format!("/partitions/{partition}/{}/{order}", encoded(&role)), body).await?;
        let mut output = stdout().lock();
        if self.json {
            writeln!(output, "{ordered}")?;
        } else {
            writeln!(output, "{}", followed(&ordered))?;
        }
        Ok(output.flush()?)
    }
}

/// Who has it now, and whether that is what was wanted.
fn followed(ordered: &Value) -> String {
    let owner = ordered["owner"].as_str().map_or_else(|| "nobody has it".to_owned(), |name| format!("{name} has it"));
    let yet = if ordered["followed"] == true { "" } else { " still; the order stands" };
    format!("{} of partition {}: {owner}{yet}", said(ordered, "role"), ordered["partition"])
}

async fn status(ask: &Ask, is_json: bool, watch: bool) -> Result<()> {
    loop {
        let status = ask.get("/partitions").await?;
        print(&status, is_json, watch)?;
        if !watch {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

fn print(status: &Value, is_json: bool, watches: bool) -> Result<()> {
    let mut output = stdout().lock();
    let partitions = status["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    if is_json {
        for partition in partitions {
            writeln!(output, "{partition}")?;
        }
        return Ok(output.flush()?);
    }
    if watches && output.is_terminal() {
        write!(output, "{CLEAR}")?;
    }
    let mut list = List::new(output, false, PROGRESS);
    for partition in partitions {
        rows(partition).iter().try_for_each(|row| list.item(row))?;
    }
    list.end(partitions.is_empty(), "no partitions")
}

/// A row for each position, with the end of its stream and who moves it.
fn rows(partition: &Value) -> Vec<Value> {
    let items = |field: &str| partition[field].as_array().cloned().unwrap_or_default();
    let (owners, orders, streams) = (items("owners"), items("orders"), items("streams"));
    let row = |mut row: Value| {
        let by = MOVED_BY.iter().find(|(done, _)| row["done"] == *done).map_or("", |(_, role)| role);
        let owner = owners.iter().find(|owner| owner["role"] == by);
        let owner = owner.map(|owner| format!("{} ({})", said(owner, "name"), said(owner, "tenure")));
        let order = orders.iter().find(|order| order["role"] == by).map(|order| &order["order"]);
        let owner = match order {
            Some(order) if *order == "pause" => Some(format!("{} [paused]", owner.unwrap_or_else(|| "-".to_owned()))),
            Some(order) => {
                Some(format!("{} [to {}]", owner.unwrap_or_else(|| "-".to_owned()), said(&order["move"], "to")))
            }
            None => owner,
        };
        let held = streams.iter().find(|held| held["stream"] == row["stream"]);
        row["partition"] = partition["partition"].clone();
        row["last"] = held.map_or(Value::Null, |held| held["last"].clone());
        row["owner"] = json!(owner);
        row
    };
    items("progress").into_iter().map(row).collect()
}
