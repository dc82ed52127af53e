//! Killed at each named point of the path, under load, and started again on the broker that lived on.

use crate::kills::Talk;
use crate::process::Up;

/// Where the ack path may be cut, and how often the point is passed before.
const POINTS: [(&str, u32); 11] = [
    ("gateway.before_publish", 7),
    ("gateway.handed_over", 7),
    (THROUGH_THE_BROKER, 7),
    ("ingest.decided", 7),
    ("ingest.published", 7),
    ("ingest.appended", 7),
    ("ingest.answered", 7),
    ("delivery.expanded", 7),
    ("delivery.pushed", 7),
    ("delivery.status_published", 3),
    ("projections.written", 3),
];

/// Passed only by commands that are not handed to an owner in the same process.
const THROUGH_THE_BROKER: &str = "gateway.published";

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_point_of_the_path_costs_nothing() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    let broker = up.broker().expect("a broker");
    for (point, countdown) in POINTS {
        up.kill();
        eprintln!("crash point {point}");
        up.hands_over = point != THROUGH_THE_BROKER;
        up.start_to_crash(point, countdown).await;
        up.crashed().await;
        up.start().await;
        assert_eq!(up.broker(), Some(broker), "{point}: the orphan is adopted");
        talk.goes_on(20, point).await;
    }
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert!(report.counts.entries >= said, "{report}");
}
