//! What an operator sees of a partition.

use domain::Partition;
use event_log::{Role, Stream};

use crate::broker::{Broker, P0, bytes, owner, publish_events};

#[tokio::test]
async fn streams_owners_and_times_of_records_are_seen_and_what_is_not_there_is_none() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    assert_eq!(log.owner(Role::Ingest, P0).await.unwrap(), None);
    let tenure = owner(&log).await;
    publish_events(&tenure, 1, 3).await;
    log.publish_commands(P0, bytes("a"), "g-1").await.unwrap();
    assert_eq!(log.epoch(P0).await.unwrap(), tenure.epoch());
    let last = async |stream| log.bounds(stream, P0).await.unwrap().last;
    assert_eq!((last(Stream::Events).await, last(Stream::Commands).await, last(Stream::Statuses).await), (3, 1, 0));
    let seen = log.owner(Role::Ingest, P0).await.unwrap().unwrap();
    assert_eq!((seen.tenure, seen.worker), (tenure.id(), format!("process-{}", std::process::id())));
    let at = async |sequence| log.stored_at_ns(Stream::Events, P0, sequence).await.unwrap();
    assert!(seen.since_ns < at(1).await.unwrap() && at(1).await < at(3).await);
    assert_eq!(at(4).await, None);
    assert!(log.epoch(Partition(2)).await.is_err());
}
