//! Killed at each named point of the path, under load, and started again on the broker that lived on.

use std::time::Duration;

use crate::kills::Talk;
use crate::process::Up;

/// Where the ack path may be cut, and how often the point is passed before.
const POINTS: [(&str, u32); 10] = [
    ("gateway.before_publish", 7),
    ("gateway.published", 7),
    ("ingest.decided", 7),
    ("ingest.published", 7),
    ("ingest.appended", 7),
    ("ingest.answered", 7),
    ("delivery.expanded", 7),
    ("delivery.pushed", 7),
    ("delivery.status_published", 3),
    ("projections.written", 3),
];
const CRASHES_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_point_of_the_path_costs_nothing() {
    let mut up = Up::new();
    up.start().await;
    let mut talk = Talk::begin(up.cast(), 1).await;
    let broker = up.broker().expect("a broker");
    for (point, countdown) in POINTS {
        up.kill();
        up.start_to_crash(point, countdown).await;
        let mut running = up.running.take().expect("it runs");
        let status = running.wait_for_end(CRASHES_WITHIN).await.unwrap_or_else(|error| panic!("{point}: {error}"));
        assert!(!status.success(), "{point}: {status}");
        up.start().await;
        assert_eq!(up.broker(), Some(broker), "{point}: the orphan is adopted");
        talk.goes_on(20, point).await;
    }
    let said = talk.end().await;
    let report = talk.cast.verdict().await;
    assert!(report.counts.entries >= said, "{report}");
}
