//! Receipts: ticks at once, a status in the log, an echo once it stands in the table.

use bytes::Bytes;
use event_log::{Role, Stream, Subject};
use prost::Message as _;
use proto::log::StatusBatch;
use proto::relay::Written;
use store::{Checkpoint, Reader};

use crate::gateway::Gateway;
use crate::setup::{Chat, Deployment, P0, user};

#[tokio::test]
async fn a_receipt_ticks_its_sender_and_is_echoed_after_it_is_written() {
    let deployment = Deployment::start().await;
    let delivery = deployment.deliver();
    let mut writer = deployment.writer().await;
    let (mut one, mut two) = (Gateway::start(&deployment.log, 1).await, Gateway::start(&deployment.log, 2).await);
    one.online([1]).await;
    two.online([2]).await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    writer.write(chat.message(1)).await;
    writer.write(chat.message(1)).await;
    two.until("the messages", |g| g.seqs(2, chat.id) == [1, 2, 3]).await;

    two.receipt(chat.id, 2, 3, 2).await;
    one.until("a tick at the sender", |g| g.watermarks(1) == [(user(2), 3, 2)]).await;
    let reader = deployment.log.acquire(Role::Projections, P0).await.unwrap();
    let mut statuses = reader.reader(Stream::Statuses, 1).await.unwrap();
    let record = statuses.next().await.unwrap().remove(0);
    let batch = StatusBatch::decode(record.payload).unwrap();
    assert_eq!(batch.statuses.len(), 1);
    let status = &batch.statuses[0];
    assert_eq!((status.delivered, status.seen, status.seen_ordinal), (3, 2, 1));
    assert_eq!(batch.epoch, reader.epoch().0);

    // A later push shows that no echo came before.
    writer.write(chat.message(1)).await;
    two.until("the next message", |g| g.seqs(2, chat.id).len() == 4).await;
    assert!(two.watermarks(2).is_empty(), "not in the table yet (M20)");
    let written = Written { partition: 0, epoch: batch.epoch, statuses: record.sequence };
    deployment.log.send(&Subject::Written(P0), Bytes::from(written.encode_to_vec())).await.unwrap();
    two.until("the echo", |g| g.watermarks(2) == [(user(2), 3, 2)]).await;

    // Asserted again, as after a lost echo.
    two.receipt(chat.id, 2, 3, 2).await;
    two.until("the echo again", |g| g.watermarks(2).len() == 2).await;
    delivery.stop().await;
}

#[tokio::test]
async fn a_receipt_for_a_chat_that_nothing_happens_in_is_merged_from_the_store() {
    let deployment = Deployment::start().await;
    let mut writer = deployment.writer().await;
    let mut chat = Chat::new(1);
    writer.write(chat.created([1, 2])).await;
    writer.write(chat.message(1)).await;
    let epoch = deployment.log.open_streams().await.unwrap()[0];
    let checkpoint = Checkpoint { epoch, events: 2, statuses: 0 };
    deployment.store.save_checkpoint(Reader::Delivery, P0, checkpoint).await.unwrap();
    let delivery = deployment.deliver();
    let mut gateway = Gateway::start(&deployment.log, 1).await;
    gateway.online([1, 2]).await;
    gateway.receipt(chat.id, 2, 2, 2).await;
    gateway.until("a tick at the sender", |g| g.watermarks(1) == [(user(2), 2, 2)]).await;
    let reader = deployment.log.acquire(Role::Projections, P0).await.unwrap();
    let record = reader.reader(Stream::Statuses, 1).await.unwrap().next().await.unwrap().remove(0);
    let batch = StatusBatch::decode(record.payload).unwrap();
    assert_eq!(batch.statuses[0].seen_ordinal, 1, "from the row");
    delivery.stop().await;
}
