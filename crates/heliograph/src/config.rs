//! Settings of `up` and `run`: all that can be set, from where each value comes, and how they are written down.
//!
//! ```text
//! flag > environment > file > default ─▶ layers ─▶ Config::check ─▶ up      settings: names, comments, secrets, from the types
//! ```

mod layers;
mod settings;
mod text;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use event_log::{Durability, LogConfig};
use issuers::Issuers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use layers::{Given, Layers};
pub(crate) use text::{default_text, effective_text};

/// Bytes of one partition's commands on one machine: the broker reserves what is said here.
const COMMANDS_BYTES_MAX: u64 = 128 << 20;
/// Bytes of one partition's events on one machine.
const EVENTS_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one partition's statuses on one machine.
const STATUSES_BYTES_MAX: u64 = 32 << 20;
/// Bytes of each stream that trimming leaves on one machine.
const WINDOW_BYTES: u64 = 16 << 20;

/// Settings of `heliograph up` and of `heliograph run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder that holds everything that is kept.
    pub data: PathBuf,
    /// What is logged, such as `info` or `ingest=debug`.
    pub log: String,
    /// How many partitions the log has; fixed at the first start, by default one for two cores and at most 8.
    pub partitions: Option<u16>,
    /// Address that answers `/livez`, `/readyz`, `/metrics` and `/version`; without it, only the socket in the folder.
    pub admin: Option<String>,
    /// File that who did what to accounts and chats is appended to, or `off`; by default `audit.log` in the data folder.
    pub audit_log: Option<PathBuf>,
    /// TOML file that names other issuers whose tokens are good here too.
    pub external_issuers: Option<PathBuf>,
    /// Sockets, and the sessions on them.
    pub gateway: gateway::Config,
    /// Accounts, chats and history over HTTP.
    pub api: api::Config,
    /// From commands to events.
    pub ingest: ingest::Config,
    /// From events to sockets.
    pub delivery: delivery::Config,
    /// From events to read models.
    pub projections: projections::Config,
    /// The streams on the broker.
    pub event_log: LogConfig,
    /// The embedded store.
    pub store: store::Config,
}

/// The command that settings are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum For {
    /// It runs the broker, which nobody else uses, and says where the store is.
    Up,
    /// It is told where the broker is; its store is not the embedded one.
    Run,
}

impl For {
    /// What the command sees to itself, as paths of settings.
    const fn hidden(self) -> &'static [&'static str] {
        match self {
            Self::Up => {
                &["event_log.servers", "event_log.login", "event_log.partitions", "event_log.worker", "store.folder"]
            }
            Self::Run => &["event_log.partitions", "store"],
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("heliograph-data"),
            log: "warn".to_owned(),
            partitions: None,
            admin: None,
            audit_log: None,
            external_issuers: None,
            gateway: gateway::Config::default(),
            api: api::Config::default(),
            ingest: ingest::Config::default(),
            delivery: delivery::Config::default(),
            projections: projections::Config::default(),
            event_log: LogConfig {
                commands_bytes_max: COMMANDS_BYTES_MAX,
                events_bytes_max: EVENTS_BYTES_MAX,
                statuses_bytes_max: STATUSES_BYTES_MAX,
                window_bytes: WINDOW_BYTES,
                ..LogConfig::default()
            },
            store: store::Config::default(),
        }
    }
}

impl Config {
    /// Checks all that can be checked before anything is bound or written, files that are named included.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<()> {
        self.gateway.check().context("gateway")?;
        self.api.check().context("api")?;
        let faults = [
            ("ingest", self.ingest.fault()),
            ("delivery", self.delivery.fault()),
            ("projections", self.projections.fault()),
            ("store", self.store.fault()),
        ];
        for (role, fault) in faults {
            ensure!(fault.is_none(), "{role}: {}", fault.unwrap_or_default());
        }
        LogConfig { partitions: self.partitions.unwrap_or(1), ..self.event_log.clone() }
            .check()
            .context("event_log")?;
        self.admin.as_deref().map(parse_address).transpose().context("admin")?;
        self.issuers()?;
        Ok(())
    }

    /// Checks what only `up` rules out, and all else.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check_up(&self) -> Result<()> {
        self.check()?;
        let is_alone = self.event_log.durability != Durability::Replicated;
        ensure!(is_alone, "event_log.durability: `up` runs one broker, which has nobody to replicate to");
        Ok(())
    }

    /// The issuers in the file, which is read once.
    ///
    /// # Errors
    /// A file that cannot be read, or settings in it that cannot work.
    pub(crate) fn issuers(&self) -> Result<Issuers> {
        let Some(file) = &self.external_issuers else { return Ok(Issuers::default()) };
        let read = || -> Result<Issuers> {
            let config = issuers::Config::parse(&fs::read_to_string(file)?)?;
            Ok(Issuers::new(&config, issuers::Setup::default())?)
        };
        read().with_context(|| format!("--external-issuers {}", file.display()))
    }

    /// What works but is seldom meant, in words.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let socket = &self.gateway.socket;
        let open = [("--listen", socket.listen, socket.tls.is_some()), ("--api", self.api.listen, false)];
        let faces_network =
            |(_, address, has_tls): &(_, SocketAddr, bool)| !has_tls && !address.ip().to_canonical().is_loopback();
        let said = |(flag, address, _)| {
            format!(
                "{flag} {address} faces a network without TLS: passwords and tokens pass in the clear unless a proxy ends TLS"
            )
        };
        open.into_iter().filter(faces_network).map(said).collect()
    }
}

fn parse_address(address: &str) -> Result<SocketAddr> {
    address.parse().with_context(|| format!("{address} is no address of the form 127.0.0.1:7071"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works_and_each_role_refuses_what_cannot() {
        Config::default().check_up().unwrap();
        assert!(Config::default().warnings().is_empty());
        type Spoil = fn(&mut Config);
        let spoils: [(&str, Spoil); 9] = [
            ("gateway", |config| config.gateway.socket.max_connections = 0),
            ("api", |config| config.api.password_jobs = 0),
            ("ingest", |config| config.ingest.tick_ms = 0),
            ("delivery", |config| config.delivery.loads_max = 0),
            ("projections", |config| config.projections.records_max = 0),
            ("store", |config| config.store.journal_bytes = 1),
            ("event_log", |config| config.event_log.window_bytes = u64::MAX),
            ("event_log", |config| config.partitions = Some(0)),
            ("event_log.durability", |config| config.event_log.durability = Durability::Replicated),
        ];
        for (role, spoil) in spoils {
            let mut config = Config::default();
            spoil(&mut config);
            let said = format!("{:#}", config.check_up().unwrap_err());
            assert!(said.starts_with(&format!("{role}:")), "{role}: {said}");
        }
    }

    #[test]
    fn an_address_of_a_network_without_tls_is_warned_of() {
        let listening = |address: &str| {
            let mut config = Config::default();
            config.gateway.socket.listen = address.parse().unwrap();
            config
        };
        for (address, warnings) in [
            ("127.0.0.9:1", 0),
            ("[::1]:1", 0),
            ("[::ffff:127.0.0.1]:1", 0),
            ("0.0.0.0:1", 1),
            ("[::]:1", 1),
            ("10.0.0.7:1", 1),
        ] {
            assert_eq!(listening(address).warnings().len(), warnings, "{address}");
        }
        let mut config = listening("10.0.0.7:1");
        config.gateway.socket.tls = Some(gateway::socket::TlsConfig::of_files("a".into(), "b".into()));
        assert!(config.warnings().is_empty());
        config.api.listen = "10.0.0.7:2".parse().unwrap();
        assert!(config.warnings()[0].contains("--api 10.0.0.7:2"));
    }
}
