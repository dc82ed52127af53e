//! `projections`: how far the read models are, whether they are what the logs say, and writing them anew.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{Ask, encoded};
use super::print::{Column, List, said};

const STATUS: &[Column] = &[
    ("PARTITION", "partition"),
    ("STREAM", "stream"),
    ("LAST", "last"),
    ("FOLDED", "position"),
    ("LAG", "lag"),
    ("OLDEST, S", "oldest_age_s"),
    ("NEEDS REBUILD", "needs_rebuild"),
];

/// The read models: chat lists, names, reactions, watermarks.
#[derive(Debug, Args)]
pub(crate) struct ProjectionsArgs {
    #[command(subcommand)]
    command: ProjectionsCommand,
    /// Prints JSON: a line a stream or partition.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ProjectionsCommand {
    /// Shows for each partition how far its models are, and whether they need a rebuild.
    Status,
    /// Compares the models of each chat with its log, and names the first that differs.
    Verify {
        /// Only this one: `chat_summaries`, `chats_by_user`, `chat_names`, `chat_facts`, `reactions` or `watermarks`.
        #[arg(value_name = "MODEL")]
        model: Option<String>,
        /// Only in this partition.
        #[arg(long, value_name = "PARTITION")]
        partition: Option<u16>,
    },
    /// Writes the models of each chat anew from its log, while all goes on; halted projections go on then.
    Rebuild {
        /// Only in this partition.
        #[arg(long, value_name = "PARTITION")]
        partition: Option<u16>,
    },
}

impl ProjectionsArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// What `up` says, or that none runs; of `verify`, also that a chat differs.
    pub(crate) async fn run(self, folder: &Path) -> Result<()> {
        let ask = Ask::of(folder);
        match self.command {
            ProjectionsCommand::Status => status(&ask, self.json).await,
            ProjectionsCommand::Verify { model, partition } => {
                for partition in partitions(&ask, partition).await? {
                    verify(&ask, partition, model.as_deref(), self.json).await?;
                }
                Ok(())
            }
            ProjectionsCommand::Rebuild { partition } => {
                for partition in partitions(&ask, partition).await? {
                    rebuild(&ask, partition, self.json).await?;
                }
                Ok(())
            }
        }
    }
}

/// The one that is named, or all.
async fn partitions(ask: &Ask, only: Option<u16>) -> Result<Vec<u64>> {
    if let Some(only) = only {
        return Ok(vec![only.into()]);
    }
    let status = ask.get("/partitions").await?;
    let all = status["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(all.iter().filter_map(|one| one["partition"].as_u64()).collect())
}

async fn status(ask: &Ask, is_json: bool) -> Result<()> {
    let status = ask.get("/partitions").await?;
    let partitions = status["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    let mut list = List::new(stdout().lock(), is_json, STATUS);
    for partition in partitions {
        rows(partition).iter().try_for_each(|row| list.item(row))?;
    }
    list.end(partitions.is_empty(), "no partitions")
}

/// A row for each stream that is folded.
fn rows(partition: &Value) -> Vec<Value> {
    let items = |field: &str| partition[field].as_array().cloned().unwrap_or_default();
    let streams = items("streams");
    let row = |mut row: Value| {
        let held = streams.iter().find(|held| held["stream"] == row["stream"]);
        let first = held.and_then(|held| held["first"].as_u64()).unwrap_or_default();
        // Statuses that are gone cost nothing. Of another epoch all is folded again.
        let due = if row["same_epoch"] == true { row["position"].as_u64().unwrap_or_default() + 1 } else { 1 };
        row["needs_rebuild"] = json!(row["stream"] == "events" && due < first);
        row["partition"] = partition["partition"].clone();
        row["last"] = held.map_or(Value::Null, |held| held["last"].clone());
        row
    };
    items("progress").into_iter().filter(|row| row["done"] == "projected").map(row).collect()
}

async fn verify(ask: &Ask, partition: u64, model: Option<&str>, is_json: bool) -> Result<()> {
    let (mut equal, mut changing) = (0, Vec::new());
    let mut after = String::new();
    loop {
        let mut asked = format!("/projections/{partition}/verify?");
        if let Some(model) = model {
            asked += &format!("model={}&", encoded(model));
        }
        if !after.is_empty() {
            asked += &format!("after={}", encoded(&after));
        }
        let page = ask.get(&asked).await?;
        equal += page["equal"].as_u64().unwrap_or_default();
        changing.extend(page["changing"].as_array().into_iter().flatten().cloned());
        let differs = &page["differs"];
        if !differs.is_null() {
            if is_json {
                writeln!(stdout().lock(), "{}", json!({ "partition": partition, "equal": equal, "differs": differs }))?;
            }
            bail!(
                "{} of chat {} differs from its log\n  stored: {}\n  by its log: {}",
                said(differs, "model"),
                said(differs, "chat"),
                said(differs, "stored"),
                said(differs, "folded")
            );
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let mut output = stdout().lock();
    if is_json {
        writeln!(output, "{}", json!({ "partition": partition, "equal": equal, "changing": changing }))?;
    } else if changing.is_empty() {
        writeln!(output, "partition {partition}: the models of {equal} chats are what their logs say")?;
    } else {
        let restless = changing.len();
        writeln!(output, "partition {partition}: of {equal} chats they are; {restless} never stood still")?;
    }
    Ok(output.flush()?)
}

async fn rebuild(ask: &Ask, partition: u64, is_json: bool) -> Result<()> {
    let (mut chats, mut progress) = (0, Value::Null);
    let last = loop {
        let page = ask.post(&format!("/projections/{partition}/rebuild"), Some(progress)).await?;
        chats += page["chats"].as_u64().unwrap_or_default();
        if page["next"].is_null() {
            break page;
        }
        progress = json!({ "after": page["next"], "epoch": page["epoch"], "events": page["events"] });
    };
    let mut output = stdout().lock();
    if is_json {
        let done = json!({ "partition": partition, "chats": chats, "events": last["events"] });
        writeln!(output, "{done}")?;
    } else {
        let events = last["events"].as_u64().unwrap_or_default();
        writeln!(output, "partition {partition}: {chats} chats rebuilt, from event {events} on projections go on")?;
    }
    Ok(output.flush()?)
}
