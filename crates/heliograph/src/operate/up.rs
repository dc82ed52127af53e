//! Flags of `up`, each the setting that it stands for.

use std::path::PathBuf;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use limits::Network;
use toml::Value;

use crate::config::{For, Given, Layers};

/// What `up` is told, besides what the environment says of settings in sections.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// TOML file with settings: `heliograph config default` prints one with all there are.
    #[arg(long, env = "HELIOGRAPH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that holds everything that is kept: `heliograph-data` if nothing says otherwise.
    #[arg(long, env = "HELIOGRAPH_DATA")]
    data: Option<PathBuf>,
    /// Address that clients connect to: 127.0.0.1:7070 if nothing says otherwise.
    #[arg(long, env = "HELIOGRAPH_LISTEN")]
    listen: Option<String>,
    /// PEM file of a certificate chain: clients connect over TLS. Without it a proxy ends TLS. Read again when it changes.
    #[arg(long, env = "HELIOGRAPH_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "HELIOGRAPH_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Address of the HTTP API: 127.0.0.1:7080 if nothing says otherwise.
    #[arg(long, env = "HELIOGRAPH_API")]
    api: Option<String>,
    /// An origin whose pages may connect and read the API's answers, as a browser sends it: `https://app.example`; repeated or with commas.
    #[arg(long, env = "HELIOGRAPH_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<String>,
    /// A network of proxies whose `X-Forwarded-For` says who a client is: `10.0.0.0/8`; repeated or with commas.
    #[arg(long, env = "HELIOGRAPH_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<Network>,
    /// How many partitions the log has; fixed at the first start, by default one for two cores and at most 8.
    #[arg(long, env = "HELIOGRAPH_PARTITIONS")]
    partitions: Option<u16>,
    /// Sends commands through the broker also to an owner in this process.
    #[arg(long, env = "HELIOGRAPH_NO_HAND_OVER")]
    no_hand_over: bool,
    /// Let the broker sync now and then instead of before each acknowledgement: a power cut may cost the last writes.
    #[arg(long)]
    lazy_sync: bool,
    /// Address that answers `/livez`, `/readyz`, `/metrics` and `/version`; without it, only the socket in the folder.
    #[arg(long, env = "HELIOGRAPH_ADMIN")]
    admin: Option<String>,
    /// File that who did what to accounts and chats is appended to, or `off`; by default `audit.log` in the data folder.
    #[arg(long, env = "HELIOGRAPH_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// TOML file that names other issuers whose tokens are good here too: docs/operating.md has its form.
    #[arg(long, env = "HELIOGRAPH_EXTERNAL_ISSUERS", value_name = "FILE")]
    external_issuers: Option<PathBuf>,
    /// What is logged, such as `info` or `ingest=debug`: `warn` if nothing says otherwise.
    #[arg(long, env = "HELIOGRAPH_LOG")]
    log: Option<String>,
}

impl UpArgs {
    /// What counts of all settings; `matches` are those of the command that has these flags.
    ///
    /// # Errors
    /// A file that cannot be read, and a setting that there is none of.
    pub(crate) fn layers(&self, matches: &ArgMatches) -> Result<Layers> {
        self.layers_for(For::Up, self.given(matches)?)
    }

    /// The same for a process of some roles, which is told more.
    ///
    /// # Errors
    /// As [`layers`](Self::layers).
    pub(crate) fn layers_of_run(&self, matches: &ArgMatches, more: Vec<Given>) -> Result<Layers> {
        let given = self.given(matches)?;
        self.layers_for(For::Run, given.into_iter().chain(more).collect())
    }

    fn layers_for(&self, command: For, given: Vec<Given>) -> Result<Layers> {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Layers::of(command, self.config.as_deref(), variables, given)
    }

    fn given(&self, matches: &ArgMatches) -> Result<Vec<Given>> {
        let mut given = Vec::new();
        let mut set = |id: &str, path: &'static str, value: Option<Value>| {
            let flag = id.replace('_', "-");
            let name = match matches.value_source(id) {
                Some(ValueSource::EnvVariable) => format!("HELIOGRAPH_{}", id.to_uppercase()),
                _ => format!("--{flag}"),
            };
            given.extend(value.map(|value| Given { path, value, name }));
        };
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let file = |file: &Option<PathBuf>| {
            let text = file.as_ref().map(|file| file.to_str().map(str::to_owned).ok_or_else(|| NotUtf8(file.clone())));
            text.transpose().map(|text| text.map(Value::String))
        };
        let list = |items: Vec<String>| {
            (!items.is_empty()).then(|| Value::Array(items.into_iter().map(Value::String).collect()))
        };
        set("data", "data", file(&self.data)?);
        set("listen", "gateway.socket.listen", text(&self.listen));
        set("tls_certificate", "gateway.socket.tls.certificate", file(&self.tls_certificate)?);
        set("tls_key", "gateway.socket.tls.key", file(&self.tls_key)?);
        set("api", "api.listen", text(&self.api));
        for path in ["gateway.socket.allowed_origins", "api.allowed_origins"] {
            set("allow_origin", path, list(self.allow_origin.clone()));
        }
        for path in ["gateway.socket.limits.trusted_proxies", "api.limits.trusted_proxies"] {
            set("trusted_proxy", path, list(self.trusted_proxy.iter().map(ToString::to_string).collect()));
        }
        set("partitions", "partitions", self.partitions.map(|partitions| Value::Integer(partitions.into())));
        set("no_hand_over", "event_log.hand_over_commands", self.no_hand_over.then_some(Value::Boolean(false)));
        set("lazy_sync", "event_log.durability", self.lazy_sync.then(|| Value::String("lazy".to_owned())));
        set("admin", "admin", text(&self.admin));
        set("audit_log", "audit_log", file(&self.audit_log)?);
        set("external_issuers", "external_issuers", file(&self.external_issuers)?);
        set("log", "log", text(&self.log));
        Ok(given)
    }
}

/// A path that no file of settings could hold either.
#[derive(Debug, thiserror::Error)]
#[error("{} is not UTF-8", .0.display())]
struct NotUtf8(PathBuf);
