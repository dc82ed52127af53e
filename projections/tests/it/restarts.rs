//! Restarts, trimmed streams and a broker that goes away.

use domain::{Event, Member, Role, Watermark};
use event_log::Stream;
use testkit::wait::until;

use crate::setup::{Chat, Deployment, P0, P1, SOON, Writer, rows, until_folded, user};

/// A few chats with messages, joins, leavings and receipts, `rounds` times.
async fn live(writer: &mut Writer, chats: &mut [Chat], rounds: u64) -> u64 {
    let mut statuses = 0;
    for round in 0..rounds {
        for chat in chats.iter_mut() {
            let mut entries = Vec::new();
            if chat.seq == 0 {
                entries.push(chat.created([1, 2, 3]));
            }
            entries.push(chat.message(1, &format!("round {round}")));
            if round % 3 == 1 {
                entries.push(chat.entry(1, Event::MemberRemoved { user: user(3) }));
                entries.push(chat.message(2, "without 3"));
                let member = Member { user: user(3), role: Role::Member };
                entries.push(chat.entry(1, Event::MemberAdded { member }));
            }
            writer.write(&entries).await;
            let mark = Watermark { delivered: chat.seq, seen: chat.seq / 2, seen_ordinal: chat.seq / 4 };
            statuses = writer.status(chat.id, 2, mark).await;
        }
    }
    statuses
}

#[tokio::test]
async fn kills_and_restarts_give_the_same_rows_as_one_run() {
    let deployment = Deployment::start().await;
    let killed = deployment.store("killed").await;
    let mut writer = deployment.writer(P0).await;
    let mut chats: Vec<Chat> = (0..3).map(|n| Chat::new(P0, n)).collect();
    let mut statuses = 0;
    for _ in 0..4 {
        let projections = deployment.project(&killed);
        statuses = live(&mut writer, &mut chats, 5).await;
        // Somewhere in the middle of it.
        until_folded(&killed, P0, writer.last - 8, 0).await;
        projections.kill().await;
    }
    let projections = deployment.project(&killed);
    until_folded(&killed, P0, writer.last, statuses).await;
    projections.stop().await;

    let whole = deployment.store("whole").await;
    let projections = deployment.project(&whole);
    until_folded(&whole, P0, writer.last, statuses).await;
    projections.stop().await;
    let ids: Vec<_> = chats.iter().map(|chat| chat.id).collect();
    assert_eq!(rows(&killed, P0, 3, &ids).await, rows(&whole, P0, 3, &ids).await);
}

#[tokio::test]
async fn events_trimmed_above_the_checkpoint_halt_the_partition_and_no_other() {
    let deployment = Deployment::start().await;
    deployment.watch.allow("projections halted").allow("needs_rebuild=true");
    let store = deployment.store("store").await;
    let mut writer = deployment.writer(P0).await;
    let mut chat = Chat::new(P0, 1);
    writer.write(&[chat.created([1, 2])]).await;
    writer.write(&[chat.message(1, "a")]).await;
    writer.write(&[chat.message(1, "b")]).await;
    until(SOON, "a trimmed stream", async || writer.tenure.trim(Stream::Events, 3).await.unwrap() == 3).await;
    let projections = deployment.project(&store);
    let mut other = deployment.writer(P1).await;
    let mut fine = Chat::new(P1, 1);
    other.write(&[fine.created([1, 2])]).await;
    until_folded(&store, P1, 1, 0).await;
    until(SOON, "a loud halt", async || {
        deployment.watch.lines().iter().any(|line| line.contains("needs_rebuild=true") && line.contains("partition=0"))
    })
    .await;
    assert_eq!(store.summaries(&[chat.id]).await.unwrap(), [None], "no model with a hole");
    projections.stop().await;
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back_is_read_on() {
    let deployment = Deployment::start().await;
    let store = deployment.store("store").await;
    let projections = deployment.project(&store);
    let mut writer = deployment.writer(P0).await;
    let mut chats = [Chat::new(P0, 1)];
    live(&mut writer, &mut chats, 2).await;
    until_folded(&store, P0, writer.last, 0).await;
    deployment.server.kill().unwrap();
    deployment.server.restart().await.unwrap();
    let last = writer.last;
    let mut writer = Writer { last, ..deployment.writer(P0).await };
    let statuses = live(&mut writer, &mut chats, 2).await;
    until_folded(&store, P0, writer.last, statuses).await;
    projections.stop().await;
}
