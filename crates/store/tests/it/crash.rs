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
use store::{Append, ChatAppend, Config, SEND_CLAIM_KEPT_US, Store, TicketRow, UserChatRow};
use testkit::{Running, Scratch};
use tokio::time::timeout;

use crate::rows::{at, family, message, projection, send_claim, snapshot, soon, stay, summary, ticket, user_row};

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
            roles: Vec::new(),
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

/// Users that each have families of their own.
const USERS: u64 = 5;

fn account(number: u64) -> UserId {
    UserId::new((u128::from(number) << 64 | 9).to_be_bytes())
}

fn family_id(turn: u64) -> [u8; 16] {
    u128::from(turn).to_be_bytes()
}

fn ticket_of(turn: u64) -> TicketRow {
    let mut hash = [3; 32];
    hash[..8].copy_from_slice(&turn.to_be_bytes());
    TicketRow { hash, ..ticket(account(turn % USERS), 100) }
}

/// Writes accounts beside appends until it is killed; says each turn that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_accounts_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let store = Store::open(config(folder, 100)).await.unwrap();
    let appends = tokio::spawn({
        let store = store.clone();
        async move {
            let first = position(&store, 0).await + 1;
            for sequence in first.. {
                store.append(append(0, sequence, 100)).await.unwrap();
            }
        }
    });
    let first = store.user(account(0)).await.unwrap().map_or(0, |row| row.version);
    for turn in first.. {
        let user = account(turn % USERS);
        assert_eq!(store.claim_handle(&format!("turn-{turn}"), user).await.unwrap(), user);
        store.put_refresh_family(family(user, family_id(turn)), 0).await.unwrap();
        store.claim_send(send_claim(user, &format!("turn-{turn}"), SEND_CLAIM_KEPT_US)).await.unwrap();
        store.put_ticket(ticket_of(turn)).await.unwrap();
        if turn % 2 == 1 {
            store.take_ticket(ticket_of(turn).hash, 1).await.unwrap();
        }
        if turn >= 10 {
            store.remove_refresh_family(family_id(turn - 10)).await.unwrap();
        }
        // Last, so that a turn which the kill cut short is done anew.
        assert!(store.put_user(user_row(account(0), "a"), turn).await.unwrap());
        eprintln!("answered turn {turn}.");
    }
    appends.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_writes_to_accounts_every_answered_one_is_there() {
    let scratch = Scratch::new("crash").unwrap();
    let folder = scratch.join("store");
    let mut turns = 0;
    for round in 0..4 {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "crash::child_writes_accounts_until_it_is_killed", "--nocapture"])
            .env(FOLDER, &folder);
        let mut child = Running::start("the writing child", command).unwrap();
        let awaited = format!("answered turn {}.", turns + 20 + 3 * round);
        child.wait_for_line(Duration::from_secs(120), &awaited).await.unwrap();
        child.kill().unwrap();
        let turn_of = |line: &String| line.strip_prefix("answered turn ")?.strip_suffix('.')?.parse::<u64>().ok();
        let answered = child.lines().iter().filter_map(turn_of).max().unwrap() + 1;
        let store = timeout(Duration::from_secs(60), Store::open(config(&folder, 100))).await.unwrap().unwrap();
        turns = store.user(account(0)).await.unwrap().unwrap().version;
        assert!(turns >= answered, "{answered} were answered, {turns} are stored");
        let mut listed = Vec::new();
        for number in 0..USERS {
            // An index row without its family is an error.
            let families = store.refresh_families_of(account(number)).await.unwrap();
            assert!(families.iter().all(|row| row.user == account(number)));
            listed.extend(families.iter().map(|row| row.family));
        }
        for turn in 0..=turns {
            let user = account(turn % USERS);
            let family = store.refresh_family(family_id(turn)).await.unwrap();
            assert_eq!(listed.contains(&family_id(turn)), family.is_some(), "row and index row of turn {turn}");
            // The turn that the kill fell on may have begun, and have removed one family more.
            if turn == turns {
                continue;
            }
            if turn + 10 != turns {
                assert_eq!(family.is_some(), turn + 10 > turns, "family of turn {turn} of {turns}");
            }
            assert_eq!(store.user_of_handle(&format!("turn-{turn}")).await.unwrap(), Some(user));
            let claim = send_claim(user, &format!("turn-{turn}"), SEND_CLAIM_KEPT_US);
            let again = store::SendClaim { n: 99, ..claim.clone() };
            assert_eq!(store.claim_send(again).await.unwrap(), claim);
            if turn % 2 == 1 {
                assert_eq!(store.take_ticket(ticket_of(turn).hash, 1).await.unwrap(), None, "ticket of turn {turn}");
            }
        }
    }
}
