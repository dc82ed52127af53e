//! Heads of users with many chats: whole over several frames, at the reader's pace, never older than they say.

use gateway::socket::SubProtocol;
use std::collections::BTreeSet;
use std::time::Duration;

use domain::{ChatKind, Seq};
use prost::Message as _;
use proto::v1::server_frame::Frame;
use proto::v1::{ClientFrame, Heads};
use store::{Checkpoint, Projection, Reader, SummaryRow, UserChatRow};
use tokio::time::timeout;

use super::client::{Client, authenticate, decoded, encoded};
use super::owner::Owner;
use super::setup::{Deployment, P0, chat, user};
use crate::socket::peer::{RawClient, frame};

over_each_sub_protocol! {
    a_long_list_comes_whole_over_several_frames,
    an_older_list_never_goes_on_behind_a_newer_ready,
    readers_that_do_not_read_keep_nobody_from_their_heads,
}

/// User `n` has this many chats, as of event `events`.
async fn listed(deployment: &Deployment, n: u8, chats: u64, events: Seq) {
    let row = |at| UserChatRow { user: user(n), chat: chat(at), joined_seq: 1, left_seq: None };
    let summary = |at| SummaryRow {
        chat: chat(at),
        head: 7,
        ordinal: 6,
        first_seq: 1,
        preview: None,
        activity: 1,
        kind: ChatKind::Group,
    };
    let checkpoint = Checkpoint { epoch: deployment.epoch, events, statuses: 0 };
    let projection = Projection {
        user_chats: (1..=chats).map(row).collect(),
        summaries: (1..=chats).map(summary).collect(),
        ..Projection::bare(Reader::Projections, P0, checkpoint)
    };
    deployment.store.project(projection).await.unwrap();
}

async fn heads(client: &mut Client) -> Heads {
    client.until(|_, frame| if let Frame::Heads(heads) = frame { Some(heads) } else { None }).await
}

/// User 1, signed in, who reads nothing unless told to.
async fn slow(deployment: &Deployment, over: SubProtocol) -> RawClient {
    let mut slow = RawClient::connect_narrow(deployment.address).await;
    slow.upgrade_to(over).await;
    let sign_in = ClientFrame { id: 1, frame: Some(authenticate(&deployment.token(1))) };
    slow.send(&frame(0x80 | opcode(over), &encoded(over, &sign_in))).await;
    slow
}

const fn opcode(over: SubProtocol) -> u8 {
    match over {
        SubProtocol::Proto => 2,
        SubProtocol::Json => 1,
    }
}

async fn a_long_list_comes_whole_over_several_frames(over: SubProtocol) {
    let deployment = Deployment::start(over).await;
    let lists = match over {
        SubProtocol::Proto => [(49, 1), (499, 1), (500, 2), (1_700, 4)],
        SubProtocol::Json => [(49, 1), (249, 1), (250, 2), (850, 4)],
    };
    for (chats, frames) in lists {
        let n = u8::try_from(frames * 10 + chats % 7).unwrap();
        listed(&deployment, n, chats, 9).await;
        let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
        let mut client = deployment.client(n).await;
        owner.mirrors(&[client.session]).await;
        owner.ack(owner.version, 4).await;
        let mut told = BTreeSet::new();
        for at in 1..=frames {
            let heads = heads(&mut client).await;
            assert_eq!((heads.last, heads.current), (at == frames, true), "{chats} chats, frame {at}");
            let bytes = match over {
                SubProtocol::Proto => heads.encoded_len(),
                SubProtocol::Json => serde_json::to_vec(&heads).unwrap().len(),
            };
            assert!(bytes < 64 << 10, "{bytes}");
            told.extend(heads.heads.into_iter().map(|head| head.chat));
        }
        assert_eq!(told.len() as u64, chats);
        client.leave().await;
        owner.mirrors(&[]).await;
    }
    deployment.stop().await;
}

async fn an_older_list_never_goes_on_behind_a_newer_ready(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| {
        config.socket.send_buffer_bytes = 4_096;
        // However long it does not read: that alone is what this is about.
        config.socket.heartbeat_timeout_ms = 600_000;
    })
    .await;
    listed(&deployment, 1, 4_000, 4).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    // This one does not read for now: most of its list waits.
    let mut slow = slow(&deployment, over).await;
    owner.until("the slow one to be announced", |owner| owner.sessions.len() == 1).await;
    let mut healthy = deployment.client(2).await;
    owner.until("the healthy one to be announced", |owner| owner.sessions.len() == 2).await;
    owner.ack(owner.version, 4).await;
    assert!(heads(&mut healthy).await.current);
    // What it was told is out of date before it read it: a push was lost.
    let before = owner.version;
    owner.lose_a_batch();
    owner.through().await;
    owner.until("a new announcement", |owner| owner.version > before).await;
    owner.ack(owner.version, 9).await;
    let told_both = healthy.until(|_, frame| if let Frame::Ready(ready) = frame { Some(ready.as_of) } else { None });
    assert_eq!(told_both.await, 9);

    let (mut as_of, mut before_newer, mut told) = (0, 0, BTreeSet::new());
    loop {
        let frame = slow.frame().await.expect("the socket stays open");
        if frame.opcode != opcode(over) {
            continue;
        }
        match decoded(over, &frame.payload).frame.unwrap() {
            Frame::Ready(ready) => as_of = ready.as_of,
            Frame::Heads(heads) if as_of == 9 => {
                assert!(!heads.current, "this list is as of 4");
                told.extend(heads.heads.into_iter().map(|head| head.chat));
                if heads.last {
                    break;
                }
            }
            Frame::Heads(heads) => {
                assert!(!heads.last, "the whole list was told at once: this test tests nothing");
                before_newer += 1;
            }
            other => assert!(!matches!(other, Frame::Error(_)), "{other:?}"),
        }
    }
    assert_eq!(told.len(), 4_000, "after {before_newer} frames of the older list");
    deployment.stop().await;
}

async fn readers_that_do_not_read_keep_nobody_from_their_heads(over: SubProtocol) {
    let deployment = Deployment::start_with(over, |config, _| {
        config.socket.send_buffer_bytes = 4_096;
        config.heads_reads_max = 1;
    })
    .await;
    listed(&deployment, 1, 4_000, 4).await;
    let mut owner = Owner::start(&deployment.log, deployment.epoch, 5).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        stuck.push(slow(&deployment, over).await);
    }
    owner.until("the stuck ones to be announced", |owner| owner.sessions.len() == 3).await;
    owner.ack(owner.version, 4).await;
    let mut healthy = deployment.client(2).await;
    owner.until("the healthy one to be announced", |owner| owner.sessions.len() == 4).await;
    owner.ack(owner.version, 4).await;
    // Long before the heartbeat gives the stuck ones up, which would free whatever they hold.
    let told = timeout(Duration::from_secs(15), heads(&mut healthy)).await;
    assert!(told.expect("heads in time").current);
    drop(stuck);
    deployment.stop().await;
}
