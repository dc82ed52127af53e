//! `schema`: makes and checks the tables of a CQL store. Roles never do: they refuse a keyspace that is not theirs.

use std::io::{Write, stdout};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use store::{CqlConfig, Dialect, KeyspaceOptions, SchemaState, schema};

/// Makes and checks the tables of a CQL store.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
    /// The store: `cql://host:port,host:port/keyspace`.
    #[arg(long, env = "HELIOGRAPH_STORE", global = true)]
    store: Option<String>,
    /// Name to sign in to the cluster with.
    #[arg(long, env = "HELIOGRAPH_STORE_USER", global = true, requires = "password")]
    user: Option<String>,
    /// Its password; better said in the environment, where other users of the machine do not see it.
    #[arg(long, env = "HELIOGRAPH_STORE_PASSWORD", hide_env_values = true, global = true)]
    password: Option<String>,
    /// Prints JSON: a line a file.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Makes the keyspace if there is none, and applies the files that it lacks.
    Apply {
        /// Replicas of a new keyspace by data centre, `dc1=3,dc2=3`; without it, 3 in each there is.
        #[arg(long, value_name = "DC=N", value_delimiter = ',', value_parser = replicas)]
        replicas: Vec<(String, u16)>,
        /// Whose dialect the statement of a new keyspace is in.
        #[arg(long, value_enum, default_value_t = Cluster::Cassandra)]
        dialect: Cluster,
    },
    /// Shows which files are applied; fails when the keyspace is not that of this version.
    Status,
}

/// Whose dialect.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cluster {
    /// Apache Cassandra 5.
    Cassandra,
    /// ScyllaDB.
    Scylla,
}

fn replicas(text: &str) -> Result<(String, u16), String> {
    let (data_centre, count) = text.split_once('=').ok_or("say `data centre=replicas`")?;
    let count = count.parse().ok().filter(|count| *count > 0).ok_or("the number of replicas is 1 or more")?;
    if data_centre.is_empty() {
        Err("a data centre has a name".to_owned())
    } else {
        Ok((data_centre.to_owned(), count))
    }
}

impl SchemaArgs {
    /// Asks the cluster and prints.
    ///
    /// # Errors
    /// What the cluster says; for `status` also a keyspace of another kind or with files that are not applied.
    pub(crate) async fn run(self) -> Result<()> {
        let address = self.store.context("say where the store is: --store cql://host:port/keyspace")?;
        let config = CqlConfig { user: self.user, password: self.password, ..CqlConfig::at(&address)? };
        match self.command {
            SchemaCommand::Apply { replicas, dialect } => {
                let dialect = match dialect {
                    Cluster::Cassandra => Dialect::Cassandra,
                    Cluster::Scylla => Dialect::Scylla,
                };
                let options = KeyspaceOptions { replicas: replicas.into_iter().collect(), dialect };
                apply(&config, &options, self.json).await
            }
            SchemaCommand::Status => status(&config, self.json).await,
        }
    }
}

async fn apply(config: &CqlConfig, options: &KeyspaceOptions, is_json: bool) -> Result<()> {
    let applied = schema::apply(config, options).await?;
    let mut output = stdout().lock();
    for name in &applied {
        if is_json {
            writeln!(output, "{}", json!({ "applied": name }))?;
        } else {
            writeln!(output, "{name}: applied")?;
        }
    }
    if applied.is_empty() && !is_json {
        writeln!(output, "keyspace {} is up to date", config.keyspace)?;
    }
    Ok(output.flush()?)
}

async fn status(config: &CqlConfig, is_json: bool) -> Result<()> {
    let files = schema::status(config).await?;
    let mut output = stdout().lock();
    for file in &files {
        if is_json {
            writeln!(output, "{}", serde_json::to_string(file)?)?;
            continue;
        }
        let state = match file.state {
            SchemaState::Applied => "applied",
            SchemaState::Pending => "pending",
            SchemaState::Foreign => "applied with another text",
            SchemaState::Newer => "applied by a newer version",
        };
        writeln!(output, "{}: {state} ({})", file.name, file.checksum)?;
    }
    output.flush()?;
    let strange = files.iter().filter(|file| file.state != SchemaState::Applied).count();
    if strange > 0 {
        bail!("{strange} of {} files of keyspace {} are not as this version has them", files.len(), config.keyspace);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_said_by_data_centre() {
        assert_eq!(replicas("dc1=3"), Ok(("dc1".to_owned(), 3)));
        for wrong in ["dc1", "dc1=", "dc1=0", "=3", "dc1=many"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
    }
}
