//! Settings, epoch and partition count.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use event_log::{Error, Log, LogConfig, Stream};

use crate::broker::{Broker, P0, bytes, open, owner};

#[tokio::test]
async fn streams_have_the_settings_that_the_log_rests_on() {
    let broker = Broker::start().await;
    broker.log().await;
    let context = broker.beside().await;
    let names = ["COMMANDS-0", "COMMANDS-1", "EVENTS-0", "EVENTS-1", "STATUS-0", "STATUS-1", "CONTROL"];
    for name in names {
        let stream = context.get_stream(name).await.unwrap();
        let config = &stream.cached_info().config;
        let lossy = name.starts_with("STATUS");
        assert_eq!(config.storage, StorageType::File, "{name}");
        assert_eq!(config.retention, RetentionPolicy::Limits, "{name}");
        assert_eq!(config.discard, if lossy { DiscardPolicy::Old } else { DiscardPolicy::New }, "{name}");
        assert!(config.deny_delete && !config.deny_purge, "{name}");
        assert!(config.max_bytes > 0 && config.max_messages <= 0 && config.subjects.len() == 1, "{name}");
        assert_eq!(config.max_age.is_zero(), !lossy && name != "CONTROL", "{name}");
        assert!(config.duplicate_window > Duration::from_secs(60), "{name}");
    }
}

#[tokio::test]
async fn opening_again_keeps_the_epoch() {
    let broker = Broker::start().await;
    let first = broker.log().await.open_streams().await.unwrap();
    broker.server.restart().await.unwrap();
    let log = broker.log().await;
    assert_eq!(log.open_streams().await.unwrap(), first);
    assert_eq!(owner(&log).await.epoch(), first[0]);
}

#[tokio::test]
async fn processes_that_open_at_once_agree_on_the_epoch() {
    let broker = Broker::start().await;
    let logs = [
        Log::connect(broker.config()).await.unwrap(),
        Log::connect(broker.config()).await.unwrap(),
        Log::connect(broker.config()).await.unwrap(),
    ];
    let (a, b, c) = tokio::join!(logs[0].open_streams(), logs[1].open_streams(), logs[2].open_streams());
    let epochs = a.unwrap();
    assert_eq!(epochs.len(), 2);
    assert_eq!(b.unwrap(), epochs);
    assert_eq!(c.unwrap(), epochs);
}

#[tokio::test]
async fn a_differing_partition_count_is_refused() {
    let broker = Broker::start().await;
    broker.log().await;
    let more = Log::connect(LogConfig { partitions: 3, ..broker.config() }).await.unwrap();
    assert!(matches!(more.open_streams().await, Err(Error::Partitions { stored: 2, configured: 3 })));
    // Nothing was made before the refusal.
    assert!(broker.beside().await.get_stream("COMMANDS-2").await.is_err());
}

#[tokio::test]
async fn a_stream_that_may_lose_records_is_refused() {
    let broker = Broker::start().await;
    let foreign = Config {
        name: "EVENTS-1".to_owned(),
        subjects: vec!["evt.1".to_owned()],
        discard: DiscardPolicy::Old,
        deny_delete: true,
        ..Config::default()
    };
    broker.beside().await.create_stream(foreign).await.unwrap();
    let log = Log::connect(broker.config()).await.unwrap();
    let error = log.open_streams().await.unwrap_err();
    assert!(matches!(&error, Error::Settings { stream, what } if stream == "EVENTS-1" && what == "discard"), "{error}");
}

#[tokio::test]
async fn a_stream_that_was_made_anew_under_the_log_is_refused() {
    let broker = Broker::start().await;
    let log = broker.log().await;
    let context = broker.beside().await;
    let mut config = context.get_stream("EVENTS-0").await.unwrap().cached_info().config.clone();
    context.delete_stream("EVENTS-0").await.unwrap();
    config.metadata.insert("heliograph.epoch".to_owned(), "17".to_owned());
    context.create_stream(config).await.unwrap();
    assert!(matches!(log.open_streams().await, Err(Error::Settings { .. })));
    assert!(matches!(log.acquire(event_log::Role::Ingest, P0).await, Err(Error::Settings { .. })));
}

#[tokio::test]
async fn changed_bounds_reach_the_streams() {
    let broker = Broker::start().await;
    let epochs = broker.log().await.open_streams().await.unwrap();
    let wider = LogConfig { commands_bytes_max: 1 << 30, ..broker.config() };
    assert_eq!(open(wider).await.open_streams().await.unwrap(), epochs);
    let stream = broker.beside().await.get_stream("COMMANDS-0").await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, 1 << 30);
}

#[tokio::test]
async fn deployments_with_prefixes_share_a_broker() {
    let broker = Broker::start().await;
    let one = open(LogConfig { prefix: "one".to_owned(), ..broker.config() }).await;
    let two = open(LogConfig { prefix: "two".to_owned(), partitions: 1, ..broker.config() }).await;
    one.publish_commands(P0, bytes("a"), "1").await.unwrap();
    one.publish_commands(P0, bytes("b"), "2").await.unwrap();
    two.publish_commands(P0, bytes("c"), "1").await.unwrap();
    assert_eq!(owner(&one).await.bounds(Stream::Commands).await.unwrap().last, 2);
    assert_eq!(owner(&two).await.bounds(Stream::Commands).await.unwrap().last, 1);
}
