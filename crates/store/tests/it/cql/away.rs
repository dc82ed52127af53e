//! The cluster goes away and comes back: errors that say so, nothing half made, nothing lost that was answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use store::{CqlConfig, Error, Store, schema};
use testkit::{Cassandra, wait};

use super::{new_keyspace, one_replica};
use crate::rows::{append, at, message, new_chat, new_partition, new_text, new_user, rows, seqs, user_row};

/// A node of the test's own, and an engine that gives up soon.
async fn own() -> (Cassandra, CqlConfig, Store) {
    let node = Cassandra::start().await.unwrap();
    let config = new_keyspace(node.address());
    schema::apply(&config, &one_replica()).await.unwrap();
    let config = CqlConfig { request_timeout_ms: 1_000, retry_limit_ms: 1_500, ..config };
    let store = Store::open(config.clone()).await.unwrap();
    (node, config, store)
}

fn is_away<T: std::fmt::Debug>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(error @ (Error::Unavailable(_) | Error::Stalled { .. })) if error.is_retryable() && !error.is_final())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_node_killed_under_a_writer_loses_nothing_that_was_answered() {
    let (node, _, store) = own().await;
    let (user, partition) = (new_user(), new_partition());
    let chat = new_chat(partition);
    let answered = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (store, answered) = (store.clone(), Arc::clone(&answered));
        async move {
            // As ingest does: the same append again until it is answered, then the next.
            for seq in 1..=1_200 {
                let write = append(chat, at(1, seq), vec![message(chat, user, seq, format!("body {seq}").as_bytes())]);
                while let Err(error) = store.append(write.clone()).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
                answered.store(seq, Ordering::SeqCst);
            }
        }
    });
    for goal in [200, 500] {
        wait::until(Duration::from_secs(120), "some appends", async || answered.load(Ordering::SeqCst) >= goal).await;
        node.kill().unwrap();
        let before = answered.load(Ordering::SeqCst);
        node.restart().await.unwrap();
        wait::until(Duration::from_secs(60), "the engine to find the node again", async || {
            store.history(chat, before, 1, 1).await.is_ok()
        })
        .await;
        let there = store.history(chat, u64::MAX, 1, 1).await.unwrap().through;
        assert!(there >= before, "{there} of {before} that were answered");
    }
    writer.await.unwrap();
    let mut told = Vec::new();
    while let page = store.history(chat, told.len() as u64, 1_000, 1 << 20).await.unwrap()
        && !page.rows.is_empty()
    {
        told.extend(seqs(&page.rows));
    }
    assert_eq!(told, (1..=1_200).collect::<Vec<_>>(), "each once, in order, without a hole");
    assert_eq!(store.position(chat.partition()).await.unwrap(), Some(at(1, 1_200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn while_the_cluster_is_away_answers_say_so_and_nothing_is_half_made() {
    let (node, config, store) = own().await;
    let (user, partition) = (new_user(), new_partition());
    let chat = new_chat(partition);
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=2))).await.unwrap();
    let (handle, next) = (new_text("h"), append(chat, at(1, 2), rows(chat, user, 3..=4)));
    // Once standing still with open sockets, once gone.
    for is_paused in [true, false] {
        if is_paused {
            node.pause().unwrap()
        } else {
            node.kill().unwrap()
        }
        let wrote = store.append(next.clone()).await;
        assert!(is_away(&wrote), "{wrote:?}");
        let read = store.history(chat, 0, 9, 1 << 20).await;
        assert!(is_away(&read), "{read:?}");
        let (put, claimed) = tokio::join!(store.put_user(user_row(user, "n"), 0), store.claim_handle(&handle, user));
        assert!(is_away(&put) && is_away(&claimed), "{put:?} {claimed:?}");
        if is_paused {
            node.resume().unwrap()
        } else {
            node.restart().await.unwrap()
        }
        wait::until(Duration::from_secs(60), "the engine to find the node again", async || {
            store.history(chat, 0, 9, 1 << 20).await.is_ok()
        })
        .await;
        // A write that was in doubt may have landed, whole: position and rows never disagree.
        let page = store.history(chat, 0, 9, 1 << 20).await.unwrap();
        let position = store.position(chat.partition()).await.unwrap().unwrap().events.sequence;
        assert!(
            page.through >= 2 * position,
            "position {position} stands for rows that are not there: {}",
            page.through
        );
        assert_eq!(page.rows, rows(chat, user, 1..=page.through));
    }
    store.append(next).await.unwrap();
    assert_eq!(store.history(chat, 0, 9, 1 << 20).await.unwrap().through, 4);
    assert_eq!(store.claim_handle(&handle, user).await.unwrap(), user);
    // Landed while it was in doubt, or free: never both, and never half.
    let landed = store.user(user).await.unwrap().is_some();
    assert_eq!(store.put_user(user_row(user, "n"), 0).await.unwrap(), !landed);
    node.kill().unwrap();
    let opened = Store::open(config).await;
    assert!(is_away(&opened), "{opened:?}");
}
