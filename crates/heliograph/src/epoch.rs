//! `epoch renew`: a new epoch of partitions that stopped because streams and store no longer fit.

use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use domain::Partition;
use event_log::{Durability, Log, LogConfig};
use store::{CqlConfig, Store, StoreConfig};
use telemetry::LogConfig as Logging;

use crate::broker::Broker;
use crate::folder::DataFolder;
use crate::renew::{Renewed, Terms, renew};
use crate::run::StoreLogin;
use crate::up::partitions;

/// Opens new epochs of partitions.
#[derive(Debug, Args)]
pub(crate) struct EpochArgs {
    #[command(subcommand)]
    command: EpochCommand,
}

#[derive(Debug, Subcommand)]
enum EpochCommand {
    /// Makes the streams of partitions anew, with what the store and the old streams have. Nobody may work on them.
    Renew(RenewArgs),
}

/// Which partitions, and where they are.
#[derive(Debug, Args)]
struct RenewArgs {
    /// Folder of the `up` that is stopped.
    #[arg(long = "data", env = "HELIOGRAPH_DATA", default_value = "heliograph-data", conflicts_with_all = ["nats", "store"])]
    folder: PathBuf,
    /// A partition, repeated or with commas. Without it, all.
    #[arg(long = "partition", value_name = "PARTITION", value_delimiter = ',')]
    partitions: Vec<u16>,
    /// Leaves out old events that contradict the store or do not follow it.
    #[arg(long)]
    store_wins: bool,
    /// A nats-server of the cluster, `nats://HOST:PORT`; repeated or with commas.
    #[arg(long, env = "HELIOGRAPH_NATS", value_name = "URL", value_delimiter = ',', requires = "store")]
    nats: Vec<String>,
    /// Stands before all names on the broker, as `event_log.prefix` says.
    #[arg(long, default_value = "", requires = "store")]
    prefix: String,
    /// The store of the deployment, `cql://HOST:PORT,HOST:PORT/KEYSPACE`, whose processes leave the partitions alone.
    #[arg(long, env = "HELIOGRAPH_STORE", value_name = "ADDRESS", requires = "nats")]
    store: Option<String>,
    #[command(flatten)]
    login: StoreLogin,
    /// Prints JSON: a line a partition.
    #[arg(long)]
    json: bool,
}

impl EpochArgs {
    /// Renews and prints.
    ///
    /// # Errors
    /// What stands in the way; what was done till then is gone on from.
    pub(crate) async fn run(self) -> Result<()> {
        telemetry::init_logs(&Logging { filter: "warn".to_owned(), ..Logging::default() })?;
        let EpochCommand::Renew(args) = self.command;
        match &args.store {
            Some(address) => args.of_many_processes(address).await,
            None => args.of_up(&args.folder).await,
        }
    }
}

impl RenewArgs {
    async fn of_up(&self, folder: &Path) -> Result<()> {
        ensure!(folder.join("broker/state.json").exists(), "no `heliograph up` ever ran on {}", folder.display());
        let folder = DataFolder::open(folder)?;
        let store = Store::open(store::Config { folder: folder.store(), ..store::Config::default() }).await?;
        let broker = Broker::start_to_renew(&folder.broker()).await?;
        ensure!(
            self.partitions.is_empty() || !broker.may_have_lost_any(),
            "the machine went down while the broker ran with --lazy-sync: each partition may have lost something, so all are renewed"
        );
        let access = broker.access();
        let partitions = partitions(&store, None).await?;
        let log =
            LogConfig { servers: vec![access.url], login: Some(access.login), partitions, ..LogConfig::default() };
        let renewed = self.renew(log, &store, true).await;
        let synced = store.sync().await.context("the store");
        // Only then is what its mark says over.
        let ended = if renewed.is_ok() && synced.is_ok() { broker.stop().await } else { broker.leave().await };
        renewed.and(synced).and(ended)
    }

    async fn of_many_processes(&self, address: &str) -> Result<()> {
        let StoreConfig::Cql(config) = StoreConfig::at(address)? else {
            bail!("--store {address}: the store of an `up` is renewed with --data");
        };
        // M23 is about rows of a moment ago; here are none, and the process ends soon.
        let store =
            Store::open(CqlConfig { position_lag_ms: 0, ..self.login.of(config) }).await.context("the store")?;
        let partitions = partitions(&store, None).await?;
        let durability = if self.nats.len() > 1 { Durability::Replicated } else { Durability::Synced };
        let (servers, prefix) = (self.nats.clone(), self.prefix.clone());
        let log = LogConfig { servers, prefix, partitions, durability, ..LogConfig::default() };
        self.renew(log, &store, false).await
    }

    async fn renew(&self, log: LogConfig, store: &Store, alone: bool) -> Result<()> {
        let count = log.partitions;
        if let Some(unknown) = self.partitions.iter().find(|partition| **partition >= count) {
            bail!("no partition {unknown}; there are {count}");
        }
        let log = Log::connect(log).await?;
        let terms = Terms { store_wins: self.store_wins, alone };
        for partition in
            (0..count).filter(|partition| self.partitions.is_empty() || self.partitions.contains(partition))
        {
            let renewed = renew(&log, store, Partition(partition), terms).await;
            self.print(&renewed.with_context(|| format!("partition {partition}"))?)?;
        }
        Ok(())
    }

    fn print(&self, renewed: &Renewed) -> Result<()> {
        let mut output = stdout().lock();
        if self.json {
            writeln!(output, "{}", serde_json::to_string(renewed)?)?;
        } else {
            let Renewed { partition, epoch, emitted, unappended, carried } = renewed;
            writeln!(
                output,
                "partition {partition}: epoch {epoch}; {emitted} entries for the read models, {unappended} records for the \
                 store, {carried} records of commands carried over"
            )?;
        }
        Ok(output.flush()?)
    }
}
