//! Set-up of logs and metrics, as the binary does it. Both are one a process, so each has one test.

use telemetry::{Error, LogConfig, Metrics, init_logs};

#[test]
fn what_was_recorded_is_rendered_and_a_second_set_up_sees_the_same() {
    let first = Metrics::install().unwrap();
    metrics::counter!("gateway_frames_total", "kind" => "send").increment(3);
    metrics::histogram!("ingest_batch_seconds").record(0.003);
    let second = Metrics::install().unwrap();
    second.fold_samples();
    for text in [first.render(), second.render()] {
        assert!(text.contains("gateway_frames_total{kind=\"send\"} 3"), "{text}");
        assert!(text.contains("ingest_batch_seconds_bucket{le=\"0.004\"} 1"), "{text}");
        assert!(text.contains("ingest_batch_seconds_bucket{le=\"0.002\"} 0"), "{text}");
    }
}

#[test]
fn logs_are_set_up_once_and_a_bad_filter_installs_nothing() {
    let bad = LogConfig { filter: "a=b=c".to_owned(), ..LogConfig::default() };
    assert!(matches!(init_logs(&bad), Err(Error::Filter { .. })));
    init_logs(&LogConfig::default()).unwrap();
    assert!(matches!(init_logs(&LogConfig::default()), Err(Error::LogsInstalled)));
}
