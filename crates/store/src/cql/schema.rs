//! Applies `schemas/cql/` to a keyspace: in order, once each, by one at a time.
//!
//! ```text
//! keyspace ─▶ schema_lock, schema_migrations ─▶ lock (lease, owner) ─▶ each file that is not there yet:
//!             its statements, one by one ─▶ all nodes agree ─▶ its row (number, name, checksum) ─▶ unlock
//! ```
//! Statements of a file say `IF NOT EXISTS`, so a file that was broken off is applied again from its beginning. A keyspace
//! with another checksum under a number, or with a number that this version does not know, is left alone.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use scylla::{
    client::session::Session,
    errors::ExecutionError,
    statement::{Consistency, Statement},
    value::Row,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    cluster::connect,
    config::{CqlConfig, KeyspaceOptions},
};
use crate::{Error, error::Cause};

/// One file of `schemas/cql/`, as it was when this version was built.
#[derive(Clone, Copy, Debug)]
struct Migration {
    number: i32,
    name: &'static str,
    text: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal,)*) => {
        &[$(Migration {
            number: $number,
            name: $name,
            text: include_str!(concat!("../../../../schemas/cql/", $name, ".cql")),
        },)*]
    };
}

const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_chats",
    2 "0002_read_models",
    3 "0003_accounts",
    4 "0004_invites_by_maker",
    5 "0005_names",
    6 "0006_facts_and_reactions",
};

/// A lock whose holder died is free after so long; a holder renews it before each statement.
const LEASE: Duration = Duration::from_secs(60);
/// How long one waits for another's lock.
const LOCK_WITHIN: Duration = Duration::from_secs(300);
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// A change of the schema takes longer than a write: all nodes come to agree on it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a keyspace is not that of this version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// There is no such keyspace, or nothing was ever applied to it.
    #[error("keyspace {keyspace} has no schema yet; `heliograph schema apply` makes it")]
    Absent {
        /// The keyspace.
        keyspace: String,
    },
    /// A file of this version was not applied.
    #[error("keyspace {keyspace} lacks {name}; `heliograph schema apply` brings it")]
    Lacking {
        /// The keyspace.
        keyspace: String,
        /// The file.
        name: String,
    },
    /// A file was applied whose text was another one.
    #[error("keyspace {keyspace} has another {name} than this version: {found}, not {expected}")]
    Foreign {
        /// The keyspace.
        keyspace: String,
        /// The file's name here, or there if it differs.
        name: String,
        /// The checksum that is there.
        found: String,
        /// The checksum of this version's file.
        expected: String,
    },
    /// A file was applied that this version does not know.
    #[error("keyspace {keyspace} has {name}, which is newer than this version")]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// The file.
        name: String,
    },
    /// Another one applies the schema, and takes long.
    #[error("another process applies the schema of keyspace {keyspace}: {owner}")]
    Locked {
        /// The keyspace.
        keyspace: String,
        /// How it calls itself.
        owner: String,
    },
    /// The lock was lost while a file was applied: the process stood still for longer than its lease.
    #[error("the lock of keyspace {keyspace} was lost; apply the schema again")]
    LockLost {
        /// The keyspace.
        keyspace: String,
    },
}

/// What is known of one file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SchemaFile {
    /// Its number.
    pub number: i32,
    /// Its name, without the ending.
    pub name: String,
    /// Whether it was applied.
    pub state: SchemaState,
    /// Checksum of the applied one, else of this version's.
    pub checksum: String,
    /// When it was applied, in ms since 1970.
    pub applied_at_ms: Option<i64>,
}

/// Whether a file was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaState {
    /// As it is here.
    Applied,
    /// Not yet.
    Pending,
    /// With another text.
    Foreign,
    /// By a newer version.
    Newer,
}

/// A row of `schema_migrations`.
#[derive(Clone, Debug)]
struct Applied {
    number: i32,
    name: String,
    checksum: String,
    at_ms: i64,
}

/// The files that are in the keyspace or in this version, by number.
///
/// # Errors
/// Those of the cluster; a keyspace that is not there has none of them applied.
pub async fn status(config: &CqlConfig) -> Result<Vec<SchemaFile>, Error> {
    let session = connect(config).await?;
    let applied = applied(&session, &config.keyspace).await?;
    let mut files: Vec<_> = MIGRATIONS.iter().map(|file| file.beside(&applied)).collect();
    files.extend(applied.iter().filter(|row| find(row.number).is_none()).map(|row| SchemaFile {
        number: row.number,
        name: row.name.clone(),
        state: SchemaState::Newer,
        checksum: row.checksum.clone(),
        applied_at_ms: Some(row.at_ms),
    }));
    Ok(files)
}

/// Makes the keyspace if there is none and applies what it lacks; the names of what was applied.
///
/// Several may try at once: one does it, the others wait and find it done.
///
/// # Errors
/// [`Error::Schema`] for a keyspace of another kind, of which nothing is touched, and those of the cluster.
pub async fn apply(config: &CqlConfig, options: &KeyspaceOptions) -> Result<Vec<String>, Error> {
    let session = connect(config).await?;
    let keyspace = &config.keyspace;
    if !has_table(&session, keyspace, "schema_migrations").await? {
        let tables = [
            options.statement(keyspace),
            format!("CREATE TABLE IF NOT EXISTS {keyspace}.schema_lock (id int PRIMARY KEY, owner text)"),
            format!(
                "CREATE TABLE IF NOT EXISTS {keyspace}.schema_migrations (id int, number int, name text, checksum text, applied_at_ms bigint, PRIMARY KEY (id, number))"
            ),
        ];
        for table in tables {
            change(&session, &table).await?;
        }
    }
    let lock = Lock::take(&session, keyspace).await?;
    let done = apply_all(&session, keyspace, &lock).await;
    // Also after a failure; and should this fail, the lease ends.
    let unlocked = lock.free().await;
    let done = done?;
    unlocked?;
    Ok(done)
}

/// Whether the keyspace has all files of this version, and no other.
pub(super) async fn check(session: &Session, keyspace: &str) -> Result<(), Error> {
    let applied = applied(session, keyspace).await?;
    if applied.is_empty() {
        return Err(SchemaError::Absent { keyspace: keyspace.to_owned() }.into());
    }
    refuse_strangers(keyspace, &applied)?;
    match MIGRATIONS.iter().find(|file| applied.iter().all(|row| row.number != file.number)) {
        Some(file) => Err(SchemaError::Lacking { keyspace: keyspace.to_owned(), name: file.name.to_owned() }.into()),
        None => Ok(()),
    }
}

async fn apply_all(session: &Session, keyspace: &str, lock: &Lock<'_>) -> Result<Vec<String>, Error> {
    // Read under the lock: what was there before may be another's half.
    let applied = applied(session, keyspace).await?;
    refuse_strangers(keyspace, &applied)?;
    let mut done = Vec::new();
    for file in MIGRATIONS.iter().filter(|file| applied.iter().all(|row| row.number != file.number)) {
        for statement in statements(file.text, keyspace) {
            lock.renew().await?;
            change(session, &statement).await?;
        }
        lock.renew().await?;
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let row = (file.number, file.name, file.checksum(), i64::try_from(at_ms).unwrap_or(i64::MAX));
        let columns = "(id, number, name, checksum, applied_at_ms) VALUES (0, ?, ?, ?, ?)";
        let text = format!("INSERT INTO {keyspace}.schema_migrations {columns}");
        session.query_unpaged(statement(&text), row).await.map_err(failed)?;
        tracing::info!(keyspace, file = file.name, "schema applied");
        done.push(file.name.to_owned());
    }
    Ok(done)
}

fn refuse_strangers(keyspace: &str, applied: &[Applied]) -> Result<(), SchemaError> {
    for row in applied {
        let Some(file) = find(row.number) else {
            return Err(SchemaError::Newer { keyspace: keyspace.to_owned(), name: row.name.clone() });
        };
        if file.checksum() != row.checksum || file.name != row.name {
            return Err(SchemaError::Foreign {
                keyspace: keyspace.to_owned(),
                name: row.name.clone(),
                found: row.checksum.clone(),
                expected: file.checksum(),
            });
        }
    }
    Ok(())
}

fn find(number: i32) -> Option<&'static Migration> {
    MIGRATIONS.iter().find(|file| file.number == number)
}

impl Migration {
    fn checksum(&self) -> String {
        format!("{:032x}", xxh3_128(self.text.as_bytes()))
    }

    fn beside(&self, applied: &[Applied]) -> SchemaFile {
        let row = applied.iter().find(|row| row.number == self.number);
        let state = match row {
            None => SchemaState::Pending,
            Some(row) if row.checksum == self.checksum() && row.name == self.name => SchemaState::Applied,
            Some(_) => SchemaState::Foreign,
        };
        SchemaFile {
            number: self.number,
            name: row.map_or_else(|| self.name.to_owned(), |row| row.name.clone()),
            state,
            checksum: row.map_or_else(|| self.checksum(), |row| row.checksum.clone()),
            applied_at_ms: row.map(|row| row.at_ms),
        }
    }
}

/// The statements of a file, without its comments, on tables of the keyspace.
fn statements(text: &str, keyspace: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join("\n").replace("IF NOT EXISTS ", &format!("IF NOT EXISTS {keyspace}."));
    text.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

fn statement(text: &str) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(CHANGE_TIMEOUT));
    statement
}

fn failed(error: ExecutionError) -> Error {
    let cause: Cause = Arc::new(error);
    Error::Unavailable(cause)
}

/// Changes the schema, and waits until all nodes agree on it.
async fn change(session: &Session, text: &str) -> Result<(), Error> {
    session.query_unpaged(statement(text), ()).await.map_err(|error| Error::Refused(Arc::new(error)))?;
    session.await_schema_agreement().await.map_err(|error| Error::Unavailable(Arc::new(error)))?;
    Ok(())
}

async fn has_table(session: &Session, keyspace: &str, table: &str) -> Result<bool, Error> {
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let found = session.query_unpaged(statement(text), (keyspace, table)).await.map_err(failed)?;
    Ok(found.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0))
}

/// What was applied, by number.
async fn applied(session: &Session, keyspace: &str) -> Result<Vec<Applied>, Error> {
    if !has_table(session, keyspace, "schema_migrations").await? {
        return Ok(Vec::new());
    }
    // Few rows: a file each.
    let text = format!(
        "SELECT number, name, checksum, applied_at_ms FROM {keyspace}.schema_migrations WHERE id = 0 LIMIT 1000"
    );
    let corrupt = |reason: String| Error::Corrupt { table: "schema_migrations", reason };
    let rows = session.query_unpaged(statement(&text), ()).await.map_err(failed)?;
    let rows = rows.into_rows_result().map_err(|error| corrupt(error.to_string()))?;
    let rows = rows.rows::<(i32, String, String, i64)>().map_err(|error| corrupt(error.to_string()))?;
    rows.map(|row| {
        let (number, name, checksum, at_ms) = row.map_err(|error| corrupt(error.to_string()))?;
        Ok(Applied { number, name, checksum, at_ms })
    })
    .collect()
}

/// The right to change the schema: a row that ends by itself.
struct Lock<'a> {
    session: &'a Session,
    keyspace: &'a str,
    owner: String,
}

impl<'a> Lock<'a> {
    async fn take(session: &'a Session, keyspace: &'a str) -> Result<Self, Error> {
        // Drawn by the driver anew for each session.
        let owner = format!("process {} session {}", std::process::id(), session.session_id());
        let lock = Self { session, keyspace, owner };
        let until = Instant::now() + LOCK_WITHIN;
        loop {
            let text = format!(
                "INSERT INTO {keyspace}.schema_lock (id, owner) VALUES (0, ?) IF NOT EXISTS USING TTL {}",
                LEASE.as_secs()
            );
            if lock.is_done(&text, (&lock.owner,)).await? {
                return Ok(lock);
            }
            let owner = lock.holder().await?;
            // A write that timed out may have been ours.
            if owner.as_deref() == Some(&lock.owner) {
                return Ok(lock);
            }
            if Instant::now() >= until {
                let owner = owner.unwrap_or_default();
                return Err(SchemaError::Locked { keyspace: keyspace.to_owned(), owner }.into());
            }
            sleep(LOCK_PAUSE).await;
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        let (keyspace, lease) = (self.keyspace, LEASE.as_secs());
        let text = format!("UPDATE {keyspace}.schema_lock USING TTL {lease} SET owner = ? WHERE id = 0 IF owner = ?");
        if self.is_done(&text, (&self.owner, &self.owner)).await? {
            return Ok(());
        }
        Err(SchemaError::LockLost { keyspace: self.keyspace.to_owned() }.into())
    }

    async fn free(&self) -> Result<(), Error> {
        let text = format!("DELETE FROM {}.schema_lock WHERE id = 0 IF owner = ?", self.keyspace);
        self.is_done(&text, (&self.owner,)).await?;
        Ok(())
    }

    async fn is_done(&self, text: &str, values: impl scylla::serialize::row::SerializeRow) -> Result<bool, Error> {
        let answer = self.session.query_unpaged(statement(text), values).await.map_err(failed)?;
        let rows = answer.into_rows_result().map_err(|error| Error::Refused(Arc::new(error)))?;
        let row: Row = rows.first_row().map_err(|error| Error::Refused(Arc::new(error)))?;
        Ok(row.columns.first().and_then(|column| column.as_ref()?.as_boolean()).unwrap_or_default())
    }

    async fn holder(&self) -> Result<Option<String>, Error> {
        let mut text = statement(&format!("SELECT owner FROM {}.schema_lock WHERE id = 0", self.keyspace));
        text.set_consistency(Consistency::LocalSerial);
        let answer = self.session.query_unpaged(text, ()).await.map_err(failed)?;
        let rows = answer.into_rows_result().map_err(|error| Error::Refused(Arc::new(error)))?;
        let row = rows.maybe_first_row::<(Option<String>,)>().map_err(|error| Error::Refused(Arc::new(error)))?;
        Ok(row.and_then(|(owner,)| owner))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn row(number: i32, name: &str, checksum: &str) -> Applied {
        Applied { number, name: name.to_owned(), checksum: checksum.to_owned(), at_ms: 5 }
    }

    #[test]
    fn every_file_of_the_folder_is_in_its_place() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/cql");
        let files: BTreeSet<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let known: BTreeSet<_> = MIGRATIONS.iter().map(|file| format!("{}.cql", file.name)).collect();
        assert_eq!(files, known);
        for (place, file) in MIGRATIONS.iter().enumerate() {
            assert_eq!(file.number as usize, place + 1);
            assert!(file.name.starts_with(&format!("{:04}_", file.number)), "{}", file.name);
        }
    }

    #[test]
    fn each_statement_can_be_applied_twice() {
        for file in MIGRATIONS {
            let statements = statements(file.text, "ks");
            assert!(!statements.is_empty());
            for statement in statements {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS ks."), "{statement}");
            }
        }
    }

    #[test]
    fn comments_are_no_statements() {
        assert_eq!(statements("-- a; b\nCREATE x (\n  y -- z;\n);\n\n-- end\n", "ks"), ["CREATE x (\n  y \n)"]);
    }

    #[test]
    fn another_checksum_or_a_newer_number_is_refused_by_name() {
        let (first, sum) = (MIGRATIONS[0].name, MIGRATIONS[0].checksum());
        assert_eq!(refuse_strangers("k", &[row(1, first, &sum)]), Ok(()));
        let foreign = refuse_strangers("k", &[row(1, first, "77")]).unwrap_err();
        assert!(matches!(&foreign, SchemaError::Foreign { name, .. } if name == first), "{foreign}");
        let renamed = refuse_strangers("k", &[row(1, "0001_other", &sum)]).unwrap_err();
        assert!(renamed.to_string().contains("0001_other"), "{renamed}");
        let newer = refuse_strangers("k", &[row(99, "0099_later", "77")]).unwrap_err();
        assert!(newer.to_string().contains("0099_later, which is newer"), "{newer}");
    }

    #[test]
    fn a_file_is_pending_applied_or_foreign() {
        let file = MIGRATIONS[1];
        let state = |rows: &[Applied]| file.beside(rows).state;
        assert_eq!(state(&[]), SchemaState::Pending);
        assert_eq!(state(&[row(2, file.name, &file.checksum())]), SchemaState::Applied);
        assert_eq!(state(&[row(2, file.name, "77")]), SchemaState::Foreign);
    }
}
