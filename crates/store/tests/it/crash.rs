//! kill -9 in the middle of many appends: the folder opens again, what was answered is there, and writing goes on.
//!
//! The child is this test program itself, told by the environment what to do.

use std::{
    env,
    path::PathBuf,
    process::{self, Command},
    time::Duration,
};

use domain::{ChatId, Partition, Seq, UserId};
use store::{Append, ChatAppend, Config, Store, UserChatRow};
use testkit::{Running, Scratch};
use tokio::time::timeout;

use crate::rows::{at, message, projection, snapshot, soon, stay, summary};

/// Where the child writes; without it the child's test does nothing.
const FOLDER: &str = "HELIOGRAPH_STORE_CRASH_FOLDER";
/// How many bytes a message has in the child: with 16 KiB a journal of 64 MB is full after 4,000 messages, so that a
/// kill also falls on sealed journals and memtables (the engine's issue 257 was about starting again with these).
const BODY: &str = "HELIOGRAPH_STORE_CRASH_BODY";
const PARTITIONS: u16 = 4;
const CHATS: u64 = 3;

fn config(folder: impl Into<PathBuf>, bytes: usize) -> Config {
    // Small memtables: a kill then falls on sealing, flushing and merging too.
    let memtable_bytes = 256 * bytes as u64;
    Config { sync_interval_ms: 50, memtable_bytes, journal_bytes: 64 << 20, ..Config::in_folder(folder) }
}

fn chat(partition: u16, number: u64) -> ChatId {
    ChatId::draw(Partition(partition), 1_000 + number, 77)
}

fn user() -> UserId {
    UserId::new([5; 16])
}

/// The body says which row it is in, so that a row in a wrong place is seen; noise, so that the journal cannot shrink it.
fn body(partition: u16, seq: Seq, bytes: usize) -> Vec<u8> {
    let mut state = (seq << 16) | u64::from(partition) | 1 << 63;
    let mut noise = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| noise()).take(bytes).collect()
}

/// The append that event `sequence` stands for: row `sequence` of each chat, with member row and snapshot.
fn append(partition: u16, sequence: Seq, bytes: usize) -> Append {
    let part = |number| {
        let chat = chat(partition, number);
        ChatAppend {
            chat,
            members: vec![stay(chat, user(), sequence, None)],
            rows: vec![message(chat, user(), sequence, &body(partition, sequence, bytes))],
            snapshot: sequence.is_multiple_of(16).then(|| snapshot(sequence, 1)),
        }
    };
    Append { partition: Partition(partition), position: at(1, sequence), chats: (0..CHATS).map(part).collect() }
}

async fn position(store: &Store, partition: u16) -> Seq {
    store.position(Partition(partition)).await.unwrap().map_or(0, |position| position.events.sequence)
}

/// Writes until it is killed; says each answered append, and its projection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let bytes: usize = env::var(BODY).unwrap().parse().unwrap();
    let store = Store::open(config(folder, bytes)).await.unwrap();
    let mut writers = Vec::new();
    for partition in 0..PARTITIONS {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            let first = position(&store, partition).await + 1;
            for sequence in first.. {
                store.append(append(partition, sequence, bytes)).await.unwrap();
                let chat = chat(partition, 0);
                let mut write = projection(partition, 1, sequence, 0);
                write.summaries.push(summary(chat, sequence));
                write.user_chats.push(UserChatRow { user: user(), chat, joined_seq: sequence, left_seq: None });
                store.project(write).await.unwrap();
                eprintln!("answered {partition} {sequence}.");
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    process::exit(1);
}

/// What the child's lines say was answered, by partition.
fn answered(lines: &[String]) -> Vec<Seq> {
    let mut highest = vec![0; usize::from(PARTITIONS)];
    for line in lines {
        // A line that the kill cut has no full stop.
        let Some(rest) = line.strip_prefix("answered ").and_then(|rest| rest.strip_suffix('.')) else { continue };
        let (partition, sequence) = rest.split_once(' ').unwrap();
        let partition: usize = partition.parse().unwrap();
        highest[partition] = highest[partition].max(sequence.parse().unwrap());
    }
    highest
}

/// Everything that a position stands for is there, and nothing above it.
async fn check(store: &Store, partition: u16, answered: Seq, bytes: usize) -> Seq {
    let position = position(store, partition).await;
    assert!(position >= answered, "partition {partition}: {answered} was answered, {position} is stored");
    for number in 0..CHATS {
        let chat = chat(partition, number);
        let mut through = 0;
        loop {
            let page = store.history(chat, through, 1_000, 1 << 20).await.unwrap();
            if page.rows.is_empty() {
                break;
            }
            for row in &page.rows {
                assert_eq!(*row, message(chat, user(), row.entry.seq, &body(partition, row.entry.seq, bytes)));
            }
            through = page.through;
        }
        assert_eq!(through, position, "partition {partition} chat {number}: rows and position differ");
        let stays = store.members(chat, position, soon()).await.unwrap();
        assert_eq!(stays.len() as u64, position, "a stay a row");
        if let Some(state) = store.snapshot(chat).await.unwrap() {
            assert_eq!(state, snapshot(position - position % 16, 1));
        }
    }
    // The projection is as atomic: its checkpoint, summary and list say the same.
    let projected = store.checkpoint(store::Reader::Projections, Partition(partition)).await.unwrap();
    let projected = projected.map_or(0, |checkpoint| checkpoint.events);
    assert!((answered..=position).contains(&projected));
    let heads = store.heads(user(), Partition(partition), None, 9).await.unwrap();
    assert!(heads.iter().all(|head| (head.head, head.joined_seq) == (projected, projected)), "{heads:?}");
    position
}

/// Kills a child `rounds` times after about `appends` answers of one partition, and checks the folder each time.
async fn kill_rounds(rounds: u64, appends: u64, bytes: usize) {
    let scratch = Scratch::new("crash").unwrap();
    let folder = scratch.join("store");
    let mut reached = vec![0; usize::from(PARTITIONS)];
    for round in 0..rounds {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "crash::child_writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, &folder)
            .env(BODY, bytes.to_string());
        let mut child = Running::start("the writing child", command).unwrap();
        // The moment of the kill differs a little each time: the child goes on while its line comes here.
        let awaited = format!("answered 0 {}.", reached[0] + appends + 7 * round);
        child.wait_for_line(Duration::from_secs(120), &awaited).await.unwrap();
        child.kill().unwrap();
        let answered = answered(&child.lines());
        let store = timeout(Duration::from_secs(60), Store::open(config(&folder, bytes))).await.unwrap().unwrap();
        for partition in 0..PARTITIONS {
            let number = usize::from(partition);
            let position = check(&store, partition, answered[number].max(reached[number]), bytes).await;
            // Writing goes on at once: a start with sealed memtables does not halt it.
            store.append(append(partition, position + 1, bytes)).await.unwrap();
            reached[number] = position + 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_small_appends_the_store_is_a_prefix() {
    kill_rounds(6, 150, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_among_sealed_journals_the_store_opens_and_goes_on() {
    kill_rounds(3, 450, 16_000).await;
}
