//! `heliograph run`: some roles in this process, over a broker and a store that other processes use too.
//!
//! ```text
//! folder → store → log → roles ; on a signal or an error: roles, store
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::{ArgMatches, Args, ValueEnum as _};
use event_log::LogConfig;
use store::{CqlConfig, Store, StoreConfig};
use telemetry::LogConfig as Logging;

use crate::config::{Given, Layers};
use crate::folder::DataFolder;
use crate::ground::Ground;
use crate::key_file::KeyFile;
use crate::operate::UpArgs;
use crate::roles::{self, Addresses, Parts, Role};
use crate::up::partitions;

/// Who signs in to a store that many processes use.
#[derive(Debug, Args)]
pub(crate) struct StoreLogin {
    /// Name to sign in to the store with.
    #[arg(long, env = "HELIOGRAPH_STORE_USER", requires = "store_password")]
    store_user: Option<String>,
    /// Its password; better said in the environment, where other users of the machine do not see it.
    #[arg(long, env = "HELIOGRAPH_STORE_PASSWORD", hide_env_values = true)]
    store_password: Option<String>,
}

impl StoreLogin {
    /// The store's settings with who signs in.
    pub(crate) fn of(&self, config: CqlConfig) -> CqlConfig {
        CqlConfig { user: self.store_user.clone(), password: self.store_password.clone(), ..config }
    }
}

/// What `run` is told, beside all that `up` is.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A role of this process; repeated or with commas. Without it, all.
    #[arg(long = "role", env = "HELIOGRAPH_ROLE", value_name = "ROLE", value_enum, value_delimiter = ',')]
    roles: Vec<Role>,
    /// A nats-server of the cluster, `nats://HOST:PORT`; repeated or with commas.
    #[arg(long, env = "HELIOGRAPH_NATS", value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// The store: `cql://HOST:PORT,HOST:PORT/KEYSPACE`.
    #[arg(long, env = "HELIOGRAPH_STORE", value_name = "ADDRESS")]
    store: String,
    #[command(flatten)]
    login: StoreLogin,
    /// This process's name among those that share the partitions. Without it, one that the data folder keeps.
    #[arg(long, env = "HELIOGRAPH_WORKER", value_name = "NAME")]
    worker: Option<String>,
    #[command(flatten)]
    settings: UpArgs,
}

impl RunArgs {
    /// Runs until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// What stands in the way of a start, or a role that ended.
    pub(crate) async fn run(self, matches: &ArgMatches) -> Result<()> {
        let config = self.layers(matches)?.config()?;
        telemetry::init_logs(&Logging { filter: config.log.clone(), ..Logging::default() })?;
        let roles: BTreeSet<Role> = if self.roles.is_empty() {
            Role::value_variants().iter().copied().collect()
        } else {
            self.roles.iter().copied().collect()
        };
        config.check()?;
        let store = self.store()?;
        let stop = roles::stop_signal()?;
        let (folder, ground) = Ground::lay(&config)?;
        let worker = match &config.event_log.worker {
            Some(worker) => worker.clone(),
            None => folder.worker()?,
        };
        let keys = token_keys(&folder, &roles)?;
        let store = Store::open(store).await.context("the store")?;
        let partitions = partitions(&store, config.partitions).await?;
        let log = LogConfig { partitions, worker: Some(worker), ..config.event_log.clone() };
        let begun = |addresses: &Addresses| say(&roles, addresses, &config.data);
        roles::serve(&config, &roles, Parts { folder: &folder, ground, log, store, keys }, begun, stop).await
    }

    fn layers(&self, matches: &ArgMatches) -> Result<Layers> {
        let text = |text: &str| toml::Value::String(text.to_owned());
        let mut given = Vec::new();
        let mut set = |path, value, flag: &str| given.push(Given { path, value, name: flag.to_owned() });
        if !self.nats.is_empty() {
            let servers = self.nats.iter().map(|server| text(server)).collect();
            set("event_log.servers", toml::Value::Array(servers), "--nats");
        }
        if let Some(worker) = &self.worker {
            set("event_log.worker", text(worker), "--worker");
        }
        self.settings.layers_of_run(matches, given)
    }

    fn store(&self) -> Result<StoreConfig> {
        let store = StoreConfig::at(&self.store)?;
        match store {
            StoreConfig::Cql(config) => Ok(self.login.of(config).into()),
            StoreConfig::Embedded(_) => anyhow::bail!(
                "--store {}: an embedded store has one process, which is `heliograph up`; say cql://host:port/keyspace",
                self.store
            ),
        }
    }
}

/// Those of the whole deployment: one process's own would be good nowhere else.
fn token_keys(folder: &DataFolder, roles: &BTreeSet<Role>) -> Result<KeyFile> {
    let file = folder.token_keys();
    let is_needed = roles.contains(&Role::Gateway) || roles.contains(&Role::Api);
    ensure!(
        !is_needed || file.exists(),
        "no {}: every process with a gateway or an API has the same keys; copy one that is there, or make the first with \
         `heliograph token generate`",
        file.display()
    );
    KeyFile::open(file)
}

#[expect(clippy::print_stdout, reason = "a command-line program")]
fn say(roles: &BTreeSet<Role>, addresses: &Addresses, data: &Path) {
    let names: Vec<_> = roles.iter().map(ToString::to_string).collect();
    println!("Heliograph runs {} on {}.", names.join(", "), data.display());
    for (what, address) in [("Sockets", &addresses.gateway), ("HTTP API", &addresses.api)] {
        if let Some(address) = address {
            println!("{what}: {address}");
        }
    }
}
