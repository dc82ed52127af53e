//! P12: a group whose members all read what is said, and what their receipts come to in the log.
//!
//! The clients are those that people have: each claims what it gets, and says that it has read it as soon as it has. Every
//! message is accounted for at every member.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use client::{ChatId, Client, Event, Events, Options, Settlement};
use domain::UserId;
use futures_util::future::try_join_all;
use proto::v1::{self, ChatKind, entry};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::rows::{Row, row};
use crate::target::Target;

/// Members of the group.
const MEMBERS: usize = 100;
/// Of them, who writes; all read.
const WRITERS: usize = 10;
/// Messages a second of the whole group: a busy one, at which the load is no matter.
const RATE: f64 = 100.0;
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Longer than statuses rest before they are published.
const STATUSES_REST: Duration = Duration::from_secs(1);
/// What the owner of a partition puts into its log: one for each chat and user whose watermarks moved.
const STATUSES: &str = "delivery_statuses_total";

/// Somebody in the group.
struct Member {
    client: Client,
    /// Messages of others that came, each once and in order.
    got: Arc<AtomicU64>,
}

/// Statuses in the log ÷ (messages × members who did not write them).
///
/// # Errors
/// When a message was lost, doubled or reordered for somebody.
pub(crate) async fn p12(partitions: u16, rate: Option<f64>, time: Duration, runs: usize) -> Result<Row> {
    let target = Target::start(partitions).await?;
    let mut reading = JoinSet::new();
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let user = UserId::new((0x12ea_0000_u128 + number as u128).to_be_bytes());
        let url = format!("ws://{}/v1/socket", target.gateway());
        let (client, events) = Client::connect(Options::new(url, target.token(user)?, "reader"));
        let got = Arc::new(AtomicU64::new(0));
        reading.spawn(read(client.clone(), events, Arc::clone(&got)));
        members.push(Member { client, got });
    }
    let chat = open(&members).await?;
    let rate = rate.unwrap_or(RATE);
    let (mut statuses, mut receipts) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let before = target.counter(STATUSES).await?;
        let messages = write(&members, chat, rate, time).await?;
        until("everybody has all of it", || {
            let all = members.iter().map(|member| member.got.load(Ordering::Relaxed)).sum::<u64>();
            all == messages * (MEMBERS as u64 - 1)
        })
        .await?;
        for member in &members {
            member.got.store(0, Ordering::Relaxed);
        }
        sleep(STATUSES_REST).await;
        let said = target.counter(STATUSES).await? - before;
        let could = (messages * (MEMBERS as u64 - 1)) as f64;
        eprintln!("run {run}: {messages} messages at {rate}/s, {said} statuses for {could} receipts");
        statuses.push(said);
        receipts.push(could);
        if let Some(ended) = reading.try_join_next() {
            ended?.context("a reader")?;
        }
    }
    reading.shutdown().await;
    target.check_quiet()?;
    target.stop().await?;
    Ok(Row { id: "P12", unit: "statuses", target: 0.05, at_least: false, ..row(&statuses, &receipts) })
}

/// Counts what others say, in the order of the chat, and has read it at once.
async fn read(client: Client, mut events: Events, got: Arc<AtomicU64>) -> Result<()> {
    let mut last = 0;
    while let Some(event) = events.next().await {
        let Event::Entry { entry, .. } = event else { continue };
        ensure!(entry.entry.seq > last, "seq {} came behind {last}", entry.entry.seq);
        last = entry.entry.seq;
        let is_own = client::UserId::from_wire(&entry.entry.sender) == client.user();
        if matches!(entry.entry.event, Some(entry::Event::MessageSent(_))) && !is_own {
            got.fetch_add(1, Ordering::Relaxed);
        }
        client.seen(entry.chat, last);
    }
    bail!("a client ended")
}

/// The group with all of them in it.
async fn open(members: &[Member]) -> Result<ChatId> {
    until("all are signed in", || members.iter().all(|member| member.client.user().is_some())).await?;
    let (first, others) = members.split_first().context("nobody")?;
    let others = others.iter().filter_map(|member| member.client.user());
    let others = others.map(|user| v1::Member { user: user.to_wire(), role: v1::Role::Member.into() }).collect();
    let created = first.client.create_chat(ChatKind::Group, others)?;
    let chat = created.identity.chat;
    timeout(SETTLES_WITHIN, created.outcome).await.context("the group is not made")??;
    until("all know the group", || members.iter().all(|member| member.client.known(chat) >= 1)).await?;
    Ok(chat)
}

/// Writes on a schedule, writers in turn; how many messages that were, all of them stored.
async fn write(members: &[Member], chat: ChatId, rate: f64, time: Duration) -> Result<u64> {
    let (begun, count) = (Instant::now(), (time.as_secs_f64() * rate) as u64);
    let mut sent = Vec::new();
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / rate);
        sleep(due.saturating_sub(begun.elapsed())).await;
        let at = usize::try_from(number)? % WRITERS;
        let writer = members.get(at).context("no such writer")?;
        sent.push(writer.client.send(chat, Bytes::from_static(&[7; 128]))?.outcome);
    }
    let settled = timeout(SETTLES_WITHIN, try_join_all(sent)).await.context("not all is stored")??;
    ensure!(settled.iter().all(|it| matches!(it, Settlement::Stored { .. })), "a message was refused");
    Ok(count)
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + SETTLES_WITHIN;
    while !holds() {
        ensure!(Instant::now() < end, "not in {SETTLES_WITHIN:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
