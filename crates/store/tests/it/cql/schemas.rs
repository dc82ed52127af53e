//! The schema: applied once by one, and never over one of another kind.

use std::time::Duration;

use store::{Error, SchemaError, SchemaState, Store, schema};
use testkit::cassandra;
use tokio::time::Instant;

use super::{new_keyspace, one_replica, session};

const FILES: &[&str] = &[
    "0001_chats",
    "0002_read_models",
    "0003_accounts",
    "0004_invites_by_maker",
    "0005_names",
    "0006_facts_and_reactions",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn of_several_who_apply_at_once_one_does_each_file_and_all_find_it_done() {
    let config = new_keyspace(&cassandra::shared().await.unwrap());
    let absent = Store::open(config.clone()).await;
    assert!(matches!(absent, Err(Error::Schema(SchemaError::Absent { .. }))), "{absent:?}");
    let states = schema::status(&config).await.unwrap();
    assert_eq!(states.iter().filter(|file| file.state == SchemaState::Pending).count(), FILES.len());
    let appliers: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            tokio::spawn(async move { schema::apply(&config, &one_replica()).await.unwrap() })
        })
        .collect();
    let mut applied = Vec::new();
    for applier in appliers {
        applied.extend(applier.await.unwrap());
    }
    applied.sort();
    assert_eq!(applied, FILES, "each of them once");
    let states = schema::status(&config).await.unwrap();
    assert!(states.len() == FILES.len() && states.iter().all(|file| file.state == SchemaState::Applied), "{states:?}");
    assert!(schema::apply(&config, &one_replica()).await.unwrap().is_empty(), "nothing is left to do");
    Store::open(config).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_schema_of_another_kind_is_refused_by_name_and_left_alone() {
    let config = new_keyspace(&cassandra::shared().await.unwrap());
    schema::apply(&config, &one_replica()).await.unwrap();
    let session = session(&config).await;
    let own = schema::status(&config).await.unwrap();
    let write = async |text: &str| session.query_unpaged(text, ()).await.unwrap();

    write("UPDATE schema_migrations SET checksum = '77' WHERE id = 0 AND number = 2").await;
    let refused = Store::open(config.clone()).await.unwrap_err();
    let expected = SchemaError::Foreign {
        keyspace: config.keyspace.clone(),
        name: "0002_read_models".to_owned(),
        found: "77".to_owned(),
        expected: own[1].checksum.clone(),
    };
    assert!(matches!(&refused, Error::Schema(error) if *error == expected), "{refused}");
    let refused = schema::apply(&config, &one_replica()).await.unwrap_err();
    assert!(matches!(&refused, Error::Schema(error) if *error == expected), "{refused}");
    assert_eq!(schema::status(&config).await.unwrap()[1].state, SchemaState::Foreign);

    write(&format!("UPDATE schema_migrations SET checksum = '{}' WHERE id = 0 AND number = 2", own[1].checksum)).await;
    Store::open(config.clone()).await.unwrap();
    write("INSERT INTO schema_migrations (id, number, name, checksum, applied_at_ms) VALUES (0, 99, '0099_later', 'x', 1)")
        .await;
    for refused in
        [Store::open(config.clone()).await.map(|_| ()), schema::apply(&config, &one_replica()).await.map(|_| ())]
    {
        let newer = |error: &SchemaError| matches!(error, SchemaError::Newer { name, .. } if name == "0099_later");
        assert!(matches!(&refused, Err(Error::Schema(error)) if newer(error)), "{refused:?}");
    }
    assert_eq!(schema::status(&config).await.unwrap()[FILES.len()].state, SchemaState::Newer);

    write("DELETE FROM schema_migrations WHERE id = 0 AND number = 99").await;
    write("DELETE FROM schema_migrations WHERE id = 0 AND number = 3").await;
    let lacking = Store::open(config.clone()).await.unwrap_err();
    assert!(lacking.to_string().contains("lacks 0003_accounts"), "{lacking}");
    // As after a kill between a file's statements and its row: it is applied again.
    assert_eq!(schema::apply(&config, &one_replica()).await.unwrap(), ["0003_accounts"]);
    Store::open(config).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn the_lock_of_one_who_died_ends_with_its_lease() {
    let config = new_keyspace(&cassandra::shared().await.unwrap());
    schema::apply(&config, &one_replica()).await.unwrap();
    let session = session(&config).await;
    let lock = "INSERT INTO schema_lock (id, owner) VALUES (0, 'somebody') IF NOT EXISTS USING TTL 3";
    session.query_unpaged(lock, ()).await.unwrap();
    let begun = Instant::now();
    schema::apply(&config, &one_replica()).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(1), "{waited:?}: it did not wait for the holder");
}
