//! Timestamps, positions and statements of the engine.

use std::time::Duration;

use domain::Partition;
use store::{Append, CqlConfig, SEND_CLAIM_KEPT_US, Store};
use testkit::wait;
use tokio::time::{Instant, sleep};

use super::{open, session, shared_keyspace};
use crate::conformance::versions;
use crate::rows::{
    append, at, family, invite, new_chat, new_family, new_partition, new_user, projection, rows, send_claim, seqs,
    snapshot, stay, summary, ticket,
};

/// What a stale owner writes late: whether anything that a newer one wrote is other than before.
async fn is_harmed_by_a_stale_owner(config: CqlConfig) -> bool {
    let (owner, stale) = (Store::open(config.clone()).await.unwrap(), Store::open(config).await.unwrap());
    let (partition, user, other) = (new_partition(), new_user(), new_user());
    let chat = new_chat(partition);
    let with = |sequence, head, member| {
        let mut write = append(chat, at(1, sequence), rows(chat, user, [sequence]));
        write.chats[0].snapshot = Some(snapshot(head, 1));
        write.chats[0].members.push(member);
        write
    };
    let early = with(1, 1, stay(chat, other, 1, None));
    let model = |head, reached| store::Projection {
        summaries: vec![summary(chat, head)],
        watermarks: vec![(chat, user, domain::Watermark { delivered: head, seen: head, seen_ordinal: head })],
        ..projection(partition, 1, reached, reached)
    };
    owner.append(early.clone()).await.unwrap();
    owner.append(with(2, 2, stay(chat, other, 1, Some(2)))).await.unwrap();
    owner.project(model(2, 2)).await.unwrap();
    let read = async || {
        let history = owner.history(chat, 0, 9, 1 << 20).await.unwrap();
        let models = (
            owner.summaries(&[chat]).await.unwrap(),
            owner.watermarks(chat, &[user]).await.unwrap(),
            owner.checkpoint(store::Reader::Projections, Partition(partition)).await.unwrap(),
        );
        let members = owner.members(chat, 0, Instant::now()).await.unwrap();
        (
            seqs(&history.rows),
            members,
            owner.snapshot(chat).await.unwrap(),
            owner.position(Partition(partition)).await.unwrap(),
            models,
        )
    };
    let before = read().await;
    stale.append(early).await.unwrap();
    stale.project(model(1, 1)).await.unwrap();
    let after = read().await;
    before != after
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_late_write_of_a_stale_owner_changes_nothing_unless_the_clock_stamps_it() {
    let config = shared_keyspace().await;
    assert!(!is_harmed_by_a_stale_owner(config.clone()).await);
    // The control: what the rule is for.
    assert!(is_harmed_by_a_stale_owner(CqlConfig { clock_timestamps: true, ..config }).await);
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn the_stored_position_is_one_that_was_reached_a_while_ago() {
    let lag = Duration::from_millis(1_500);
    let config = CqlConfig { position_lag_ms: 1_500, ..shared_keyspace().await };
    let (writer, reader) = (Store::open(config.clone()).await.unwrap(), Store::open(config).await.unwrap());
    let (partition, user) = (new_partition(), new_user());
    let chat = new_chat(partition);
    let mut appended = Vec::new();
    let mut highest = 0;
    let begun = Instant::now();
    for sequence in 1.. {
        writer.append(append(chat, at(1, sequence), rows(chat, user, [sequence]))).await.unwrap();
        appended.push(Instant::now());
        let asked = Instant::now();
        let stored = reader.position(Partition(partition)).await.unwrap().map_or(0, |stored| stored.events.sequence);
        let old_enough = appended.iter().filter(|at| **at + lag <= Instant::now()).count() as u64;
        assert!(stored <= old_enough, "{stored} is stored, {old_enough} are old enough {:?} on", asked - begun);
        assert!(stored >= highest);
        highest = stored;
        if highest > 0 && begun.elapsed() > lag * 3 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // And without further appends it comes to the last one.
    let last = appended.len() as u64;
    wait::until(lag * 10, "the last position", async || {
        reader.position(Partition(partition)).await.unwrap().map(|stored| stored.events.sequence) == Some(last)
    })
    .await;
    assert_eq!(reader.synced_position(Partition(partition)).await.unwrap(), Some(at(1, last)));
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn an_append_costs_one_statement_a_chat_and_bucket() {
    // With the lag that positions have by default none is written here.
    let config = CqlConfig { position_lag_ms: 30_000, ..shared_keyspace().await };
    let store = Store::open(config).await.unwrap();
    let Store::Cql(engine) = &store else { panic!("another engine") };
    let (partition, user) = (new_partition(), new_user());
    let chats: Vec<_> = (0..20).map(|_| new_chat(partition)).collect();
    for chat in &chats {
        // As an owner does before its first append.
        assert_eq!(store.load_chat(*chat).await.unwrap(), None);
    }
    let (rounds, before) = (30, engine.statements());
    for round in 0..rounds {
        let part = |chat| append(chat, at(1, round + 1), rows(chat, user, round * 3 + 1..=round * 3 + 3)).chats;
        let write = Append {
            partition: Partition(partition),
            position: at(1, round + 1),
            chats: chats.iter().flat_map(|chat| part(*chat)).collect(),
        };
        store.append(write).await.unwrap();
    }
    let ratio = (engine.statements() - before) as f64 / (rounds as usize * chats.len()) as f64;
    assert!((1.0..=1.1).contains(&ratio), "{ratio} statements a chat, bucket and append (P19a)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn what_arrives_meanwhile_joins_the_next_write() {
    let (store, ()) = open().await;
    let (partition, user) = (new_partition(), new_user());
    let chat = new_chat(partition);
    store.load_chat(chat).await.unwrap();
    let before = store.commits();
    let writes: Vec<_> = (1..=200)
        .map(|seq| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append(chat, at(1, seq), rows(chat, user, [seq]))).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let commits = store.commits() - before;
    assert_eq!(store.history(chat, 0, 1_000, 1 << 20).await.unwrap().through, 200);
    assert!(commits <= 100, "{commits} batches for 200 appends at once");
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn rows_that_nothing_sweeps_end_by_themselves() {
    let (store, ()) = open().await;
    let (user, day) = (new_user(), 24 * 60 * 60);
    store.claim_send(send_claim(user, "k", SEND_CLAIM_KEPT_US)).await.unwrap();
    let (ticket, invite) = (ticket(user, 5), invite(new_chat(1), user, 90, 2));
    store.put_ticket(ticket.clone()).await.unwrap();
    store.put_invite(invite.clone()).await.unwrap();
    store.use_invite(crate::rows::invite_use(&invite, user, 1)).await.unwrap().unwrap();
    let family = store::RefreshFamily { expires_us: 10 + 7 * 1_000_000 * day, ..family(user, new_family()) };
    store.put_refresh_family(family.clone(), 0).await.unwrap();
    store.put_refresh_family(family.clone(), 1).await.unwrap();
    let session = session(&shared_keyspace().await).await;
    let ttl = async |text: &str, key: Vec<u8>| {
        let rows = session.query_unpaged(text, (key,)).await.unwrap().into_rows_result().unwrap();
        let (ttl,) = rows.first_row::<(Option<i32>,)>().unwrap();
        u64::try_from(ttl.expect("it would stay for ever")).unwrap()
    };
    let id = user.as_bytes().to_vec();
    let cases = [
        (ttl("SELECT TTL(at_us) FROM send_claims WHERE user_id = ? AND name = 'k'", id.clone()).await, 2 * day),
        (ttl("SELECT TTL(device) FROM tickets WHERE hash = ?", ticket.hash.to_vec()).await, day),
        (ttl("SELECT TTL(uses) FROM invites WHERE hash = ?", invite.hash.to_vec()).await, day + 60 * 60),
        (ttl("SELECT TTL(at_us) FROM invites WHERE hash = ?", invite.hash.to_vec()).await, day + 60 * 60),
        (ttl("SELECT TTL(live) FROM refresh_families WHERE user_id = ?", id).await, 8 * day),
        (ttl("SELECT TTL(user_id) FROM refresh_family_users WHERE family = ?", family.family.to_vec()).await, 8 * day),
    ];
    for (number, (found, expected)) in cases.into_iter().enumerate() {
        assert!((expected - 600..=expected).contains(&found), "case {number}: {found} s for {expected} s");
    }
    assert_eq!(store.forget_tickets(u64::MAX, 9).await.unwrap(), 0);
    assert!(store.invites_ended_before(u64::MAX, 9).await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_crash_between_a_change_and_what_it_changes_is_made_good_by_the_next_append() {
    let (store, _beside) = open().await;
    let (user, chat) = (new_user(), new_chat(new_partition()));
    let (edit, deletion) = (versions::edit(chat, user, 3, 2, 0), versions::deletion(chat, user, 4, 2));
    // The rows of the changes stand there and what they change is as it was: planted by writing that last.
    store.append(append(chat, at(1, 1), vec![edit.clone(), deletion.clone()])).await.unwrap();
    store.append(append(chat, at(1, 1), rows(chat, user, 1..=2))).await.unwrap();
    let all = [rows(chat, user, 1..=2), vec![edit.clone(), deletion.clone()]].concat();
    assert_eq!(store.history(chat, 0, 9, 1 << 20).await.unwrap().rows, all, "so it is planted");
    store.append(append(chat, at(1, 1), vec![edit, deletion])).await.unwrap();
    assert_eq!(store.history(chat, 0, 9, 1 << 20).await.unwrap().rows, versions::folded(&all));
}

#[tokio::test]
#[ignore = "needs Cassandra: `cargo xtask test cql`"]
async fn a_late_write_of_what_was_said_first_does_not_bring_it_back() {
    let config = shared_keyspace().await;
    let (owner, stale) = (Store::open(config.clone()).await.unwrap(), Store::open(config).await.unwrap());
    let (user, chat) = (new_user(), new_chat(new_partition()));
    // A stale owner that knows of no row above the first one looks for none, and writes over what is there.
    stale.append(append(chat, at(1, 1), rows(chat, user, 1..=1))).await.unwrap();
    let changes = vec![versions::edit(chat, user, 3, 2, 0), versions::deletion(chat, user, 4, 2)];
    let all = [rows(chat, user, 1..=2), changes.clone()].concat();
    owner.append(append(chat, at(1, 2), [rows(chat, user, 2..=2), changes].concat())).await.unwrap();
    stale.append(append(chat, at(1, 2), rows(chat, user, 2..=2))).await.unwrap();
    assert_eq!(owner.history(chat, 0, 9, 1 << 20).await.unwrap().rows, versions::folded(&all));
}
