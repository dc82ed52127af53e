//! The session with the cluster: every statement passes here, is counted and timed, and repeated while that may help.
//!
//! The driver itself repeats nothing: it does not know which write may be repeated, and its pauses have no bound.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    deserialize::row::DeserializeRow,
    errors::{DbError, ExecutionError, PrepareError, RequestAttemptError},
    policies::{load_balancing::DefaultPolicy, retry::FallthroughRetryPolicy},
    response::{PagingState, PagingStateResponse, query_result::QueryResult},
    serialize::row::SerializeRow,
    statement::{
        Consistency, SerialConsistency, Statement as Text,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::Row,
};
use tokio::time::{Instant, sleep};

use super::{
    config::CqlConfig,
    statements::{Kind, STATEMENTS, Statement, qualified},
};
use crate::{Error, error::Cause};

/// The pause before a first repetition; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Rows that one answer of the cluster carries.
const PAGE_ROWS: i32 = 1_000;
/// The same of the chat log, whose rows may have some 16 KiB each.
const PAGE_ENTRIES: i32 = 256;
/// Statements that are prepared together at the start.
const PREPARED_TOGETHER: usize = 16;

/// Values of one statement of a batch.
pub(super) type Values = Box<dyn SerializeRow + Send + Sync>;

/// An open session, and the statements of this version.
pub(super) struct Cluster {
    session: Session,
    prepared: Vec<PreparedStatement>,
    retry_limit: Duration,
    /// Writes of the fold and of projections since the start, each one statement or one batch.
    writes: AtomicU64,
    /// All statements since the start, a batch being one.
    statements: AtomicU64,
}

/// What became of a statement that did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// No node took it: nothing was done.
    NotTaken,
    /// A node took it, and whether it did it is open.
    InDoubt,
    /// Asking again does not help.
    Final,
}

/// A session without statements: what the schema is applied with.
pub(super) async fn connect(config: &CqlConfig) -> Result<Session, Error> {
    let mut balancing = DefaultPolicy::builder();
    if let Some(data_centre) = &config.data_centre {
        balancing = balancing.prefer_datacenter(data_centre.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(config.request_timeout()))
        .retry_policy(Arc::new(FallthroughRetryPolicy))
        .load_balancing_policy(balancing.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(config.request_timeout())
        .default_execution_profile_handle(profile.into_handle())
        // Where the replicas of our keyspace are, for the way to them; not what tables there are.
        .keyspaces_to_fetch([&config.keyspace])
        .fetch_full_schema_metadata(false);
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        builder = builder.user(user, password);
    }
    builder.build().await.map_err(|error| Error::Unavailable(Arc::new(error)))
}

impl Cluster {
    /// Prepares every statement: a table that is missing is found here.
    pub(super) async fn open(config: &CqlConfig, session: Session) -> Result<Self, Error> {
        let mut prepared = Vec::with_capacity(STATEMENTS.len());
        for some in STATEMENTS.chunks(PREPARED_TOGETHER) {
            let some = some.iter().map(|(kind, table, text)| {
                let text = qualified(text, table, &config.keyspace);
                let session = &session;
                async move { prepare(session, *kind, &text).await }
            });
            for statement in futures_util::future::join_all(some).await {
                prepared.push(statement?);
            }
        }
        Ok(Self {
            session,
            prepared,
            retry_limit: config.retry_limit(),
            writes: AtomicU64::new(0),
            statements: AtomicU64::new(0),
        })
    }

    /// Writes of the fold and of projections since the start.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// All statements since the start, a batch being one.
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// A write that may be repeated.
    pub(super) async fn write(&self, statement: Statement, values: impl SerializeRow) -> Result<(), Error> {
        let prepared = self.prepared(statement);
        self.repeated("write", || self.session.execute_unpaged(prepared, &values)).await?;
        Ok(())
    }

    /// Writes of one CQL partition that may be repeated, applied together.
    pub(super) async fn write_together(&self, parts: Vec<(Statement, Values)>) -> Result<(), Error> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if let [(statement, values)] = &parts[..] {
            return self.write(*statement, values).await;
        }
        let (batch, values) = self.batch(parts, true);
        self.repeated("batch", || self.session.batch(&batch, &values)).await?;
        Ok(())
    }

    /// A conditional write; whether it was done.
    ///
    /// Not repeated once a node has it: [`Error::Stalled`] says that it may have been done.
    pub(super) async fn write_if(&self, statement: Statement, values: impl SerializeRow) -> Result<bool, Error> {
        let prepared = self.prepared(statement);
        let answer = self.once("conditional", || self.session.execute_unpaged(prepared, &values)).await?;
        is_applied(answer)
    }

    /// Conditional writes of one CQL partition, all or none; as [`Self::write_if`].
    pub(super) async fn write_together_if(&self, parts: Vec<(Statement, Values)>) -> Result<bool, Error> {
        let (batch, values) = self.batch(parts, false);
        let answer = self.once("conditional", || self.session.batch(&batch, &values)).await?;
        is_applied(answer)
    }

    /// At most `limit` rows, page by page.
    pub(super) async fn rows<R>(
        &self,
        statement: Statement,
        values: impl SerializeRow,
        limit: usize,
    ) -> Result<Vec<R>, Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut rows = Vec::new();
        let mut at = PagingState::start();
        loop {
            let (page, next) = self.page(statement, &values, at).await?;
            for row in page {
                rows.push(row);
                if rows.len() == limit {
                    return Ok(rows);
                }
            }
            match next {
                Some(next) => at = next,
                None => return Ok(rows),
            }
        }
    }

    /// The rows of one page, and where the next one begins.
    pub(super) async fn page<R>(
        &self,
        statement: Statement,
        values: &impl SerializeRow,
        at: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let prepared = self.prepared(statement);
        let asked = || self.session.execute_single_page(prepared, values, at.clone());
        let (answer, next) = self.repeated("read", asked).await?;
        let table = statement.table();
        let corrupt = |reason: String| Error::Corrupt { table, reason };
        let answer = answer.into_rows_result().map_err(|error| corrupt(error.to_string()))?;
        let rows = answer.rows::<R>().map_err(|error| corrupt(error.to_string()))?;
        let rows = rows.collect::<Result<_, _>>().map_err(|error| corrupt(error.to_string()))?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((rows, next))
    }

    /// The one row under a key.
    pub(super) async fn row<R>(&self, statement: Statement, values: impl SerializeRow) -> Result<Option<R>, Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        Ok(self.rows(statement, values, 1).await?.pop())
    }

    fn prepared(&self, statement: Statement) -> &PreparedStatement {
        &self.prepared[statement as usize]
    }

    fn batch(&self, parts: Vec<(Statement, Values)>, is_idempotent: bool) -> (Batch, Vec<Values>) {
        // Of one CQL partition, so that a node applies it as one write, without the log that batches across need.
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(is_idempotent);
        let mut values = Vec::with_capacity(parts.len());
        for (statement, row) in parts {
            batch.append_statement(self.prepared(statement).clone());
            values.push(row);
        }
        (batch, values)
    }

    /// Asks until it succeeds, fails for good, or the limit is over.
    async fn repeated<T, F>(&self, kind: &'static str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ExecutionError>>,
    {
        self.until_limit(kind, ask, |fault| fault != Fault::Final).await
    }

    /// Asks again only while no node took it.
    async fn once<T, F>(&self, kind: &'static str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ExecutionError>>,
    {
        self.until_limit(kind, ask, |fault| fault == Fault::NotTaken).await
    }

    async fn until_limit<T, F>(
        &self,
        kind: &'static str,
        ask: impl Fn() -> F,
        may_repeat: impl Fn(Fault) -> bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ExecutionError>>,
    {
        let begun = Instant::now();
        let mut pause = PAUSE;
        loop {
            let asked = Instant::now();
            let answer = ask().await;
            self.statements.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("store_cql_statements_total", "kind" => kind).increment(1);
            metrics::histogram!("store_cql_seconds", "kind" => kind).record(asked.elapsed().as_secs_f64());
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            metrics::counter!("store_cql_errors_total", "kind" => kind).increment(1);
            let fault = fault(&error);
            if !may_repeat(fault) || begun.elapsed() + pause > self.retry_limit {
                let cause: Cause = Arc::new(error);
                return Err(match fault {
                    Fault::Final => Error::Refused(cause),
                    Fault::InDoubt if kind == "conditional" => Error::Stalled { waited: begun.elapsed() },
                    Fault::InDoubt | Fault::NotTaken => Error::Unavailable(cause),
                });
            }
            metrics::counter!("store_cql_repeats_total", "kind" => kind).increment(1);
            // Not all at the same moment: those who failed together come back apart.
            sleep(pause.mul_f64(0.5 + scatter() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("writes", &self.writes).finish_non_exhaustive()
    }
}

async fn prepare(session: &Session, kind: Kind, text: &str) -> Result<PreparedStatement, Error> {
    let mut statement = Text::new(text);
    statement.set_page_size(if text.contains(" entry FROM ") { PAGE_ENTRIES } else { PAGE_ROWS });
    let mut prepared = session.prepare(statement).await.map_err(|error| {
        let is_refused = matches!(
            &error,
            PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(DbError::Invalid, _) }
        );
        let cause: Cause = Arc::new(error);
        if is_refused { Error::Refused(cause) } else { Error::Unavailable(cause) }
    })?;
    prepared.set_is_idempotent(kind != Kind::Conditional);
    if kind == Kind::Serial {
        // Sees, and ends, a conditional write that was broken off.
        prepared.set_consistency(Consistency::LocalSerial);
    }
    Ok(prepared)
}

/// A number from 0 to 1, another one each time.
fn scatter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    f64::from((RandomState::new().hash_one(0_u8) >> 48) as u16) / f64::from(u16::MAX)
}

/// Whether a conditional write was done: its first column. The others differ between engines.
fn is_applied(answer: QueryResult) -> Result<bool, Error> {
    let corrupt = |reason: String| Error::Corrupt { table: "the answer to a conditional write", reason };
    let answer = answer.into_rows_result().map_err(|error| corrupt(error.to_string()))?;
    let row: Row = answer.first_row().map_err(|error| corrupt(error.to_string()))?;
    let applied = row.columns.first().and_then(|column| column.as_ref()?.as_boolean());
    applied.ok_or_else(|| corrupt("its first column is no boolean".to_owned()))
}

/// What is neither listed as not taken nor as in doubt is final: also what a later driver may say.
fn fault(error: &ExecutionError) -> Fault {
    use ExecutionError::{ConnectionPoolError, EmptyPlan, LastAttemptError, RequestTimeout};
    if matches!(error, EmptyPlan | ConnectionPoolError(_)) {
        return Fault::NotTaken;
    }
    if matches!(error, RequestTimeout(_)) {
        return Fault::InDoubt;
    }
    if let LastAttemptError(error) = error { attempt_fault(error) } else { Fault::Final }
}

fn attempt_fault(error: &RequestAttemptError) -> Fault {
    if matches!(error, RequestAttemptError::UnableToAllocStreamId) {
        return Fault::NotTaken;
    }
    if matches!(error, RequestAttemptError::BrokenConnectionError(_)) {
        return Fault::InDoubt;
    }
    let RequestAttemptError::DbError(error, _) = error else { return Fault::Final };
    if matches!(error, DbError::Unavailable { .. } | DbError::Overloaded | DbError::IsBootstrapping) {
        return Fault::NotTaken;
    }
    let is_in_doubt = matches!(
        error,
        DbError::ReadTimeout { .. }
            | DbError::WriteTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::ServerError
            | DbError::RateLimitReached { .. }
            | DbError::TruncateError
    );
    if is_in_doubt { Fault::InDoubt } else { Fault::Final }
}

#[cfg(test)]
mod tests {
    use scylla::errors::WriteType;

    use super::*;

    #[test]
    fn what_no_node_took_is_told_from_what_is_in_doubt() {
        let db = |error| ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()));
        let consistency = Consistency::LocalQuorum;
        let unavailable = DbError::Unavailable { consistency, required: 2, alive: 1 };
        assert_eq!(fault(&db(unavailable)), Fault::NotTaken);
        let timeout = DbError::WriteTimeout { consistency, received: 1, required: 2, write_type: WriteType::Cas };
        assert_eq!(fault(&db(timeout)), Fault::InDoubt);
        assert_eq!(fault(&ExecutionError::RequestTimeout(Duration::ZERO)), Fault::InDoubt);
        assert_eq!(fault(&db(DbError::Unauthorized)), Fault::Final);
        assert_eq!(fault(&db(DbError::Invalid)), Fault::Final);
    }

    #[test]
    fn pauses_are_scattered() {
        let drawn: Vec<_> = (0..100).map(|_| scatter()).collect();
        assert!(drawn.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(drawn.iter().any(|number| *number < 0.4) && drawn.iter().any(|number| *number > 0.6), "{drawn:?}");
    }
}
