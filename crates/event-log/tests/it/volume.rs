//! Many records through the whole path at once: none lost, none twice, none out of order.

use std::collections::BTreeMap;

use bytes::Bytes;
use event_log::Stream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::broker::{Broker, P0, owner, read, sequences};

const PUBLISHERS: usize = 16;
const RECORDS: usize = 500;

#[tokio::test]
async fn many_publishers_at_once_are_read_once_and_in_each_ones_order() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let tenure = owner(&log).await;
    let mut reader = tenure.reader(Stream::Commands, 1).await.unwrap();
    let started = Instant::now();
    let mut publishing = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let log = log.clone();
        publishing.spawn(async move {
            for number in 0..RECORDS {
                let mut payload = vec![0; 1024];
                payload[..2].copy_from_slice(&[u8::try_from(publisher).unwrap(), u8::try_from(number % 256).unwrap()]);
                log.publish_commands(P0, Bytes::from(payload), &format!("{publisher}-{number}")).await.unwrap();
            }
        });
    }
    // In a task of its own, as its owner would.
    let reading = tokio::spawn(async move { read(&mut reader, PUBLISHERS * RECORDS).await });
    let records = reading.await.unwrap();
    let taken = started.elapsed();
    publishing.join_all().await;
    tracing::info!(records = records.len(), ?taken, "published and read");
    assert_eq!(sequences(&records), (1..=u64::try_from(PUBLISHERS * RECORDS).unwrap()).collect::<Vec<_>>());
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for record in &records {
        let (publisher, number) = record.message_id.split_once('-').unwrap();
        let due = next.entry(publisher.to_owned()).or_default();
        assert_eq!(number, due.to_string());
        *due += 1;
    }
}
