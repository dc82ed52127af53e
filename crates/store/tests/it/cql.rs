//! What only the CQL engine promises, on a real Cassandra: its schema, its order of writes, its cluster coming and going.

mod away;
mod own;
mod processes;
mod schemas;

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use scylla::client::{session::Session, session_builder::SessionBuilder};
use store::{CqlConfig, KeyspaceOptions, Store, schema};
use testkit::cassandra;
use tokio::sync::OnceCell;

/// One replica: most clusters of tests are one node.
pub(crate) fn one_replica() -> KeyspaceOptions {
    KeyspaceOptions { replicas: [("datacenter1".to_owned(), 1)].into(), ..KeyspaceOptions::default() }
}

/// A keyspace at `node` that no other test and no other run knows; nothing is in it yet.
pub(crate) fn new_keyspace(node: &str) -> CqlConfig {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let keyspace = format!("heliograph_{now}_{}_{}", process::id(), DRAWN.fetch_add(1, Ordering::Relaxed));
    CqlConfig {
        // The node may be busy with another test's schema.
        request_timeout_ms: 20_000,
        retry_limit_ms: 30_000,
        // What is appended is the position: the lag has tests of its own.
        position_lag_ms: 0,
        ..CqlConfig::at(&format!("cql://{node}/{keyspace}")).unwrap()
    }
}

/// The keyspace that tests share which use chats and users of their own.
pub(crate) async fn shared_keyspace() -> CqlConfig {
    static KEYSPACE: OnceCell<CqlConfig> = OnceCell::const_new();
    let made = KEYSPACE.get_or_init(|| async {
        let config = new_keyspace(&cassandra::shared().await.unwrap());
        schema::apply(&config, &one_replica()).await.unwrap();
        config
    });
    made.await.clone()
}

/// An engine of its own over the shared keyspace, for the suite.
pub(crate) async fn open() -> (Store, ()) {
    (Store::open(shared_keyspace().await).await.unwrap(), ())
}

/// A session beside the engine, to look into its tables.
pub(crate) async fn session(config: &CqlConfig) -> Session {
    let session = SessionBuilder::new().known_nodes(&config.nodes).build().await.unwrap();
    let _ = session.use_keyspace(&config.keyspace, false).await;
    session
}
