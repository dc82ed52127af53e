//! The watch on log lines, each kind of line planted once.
//!
//! All of this binary's lines meet in one list, so these tests take turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use testkit::logs;

static TURN: Mutex<()> = Mutex::new(());

fn panic_text(action: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(action)).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn an_unlisted_warn_or_error_fails_at_the_end_of_the_watch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = logs::watch();
    tracing::warn!(session.id = 7, "queue full");
    tracing::error!("planted error");
    let text = panic_text(|| drop(watch)).unwrap();
    assert!(text.contains("WARN it::logs: queue full session.id=7"), "{text}");
    assert!(text.contains("ERROR it::logs: planted error"), "{text}");
    let watch = logs::watch();
    std::thread::spawn(|| tracing::warn!("from another thread")).join().unwrap();
    assert!(panic_text(|| watch.finish()).unwrap().contains("from another thread"));
}

#[test]
fn allowed_lines_and_lower_levels_pass() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = logs::watch();
    watch.allow("broker went away").allow("attempt=3");
    tracing::warn!("broker went away for 3 s");
    tracing::warn!(attempt = 3, "again");
    tracing::info!("fine");
    assert_eq!(watch.lines().len(), 2);
    watch.finish();
}

#[test]
fn lines_before_the_watch_do_not_count() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = logs::watch();
    tracing::warn!("planted before");
    let watch = logs::watch();
    watch.finish();
    assert!(panic_text(|| drop(earlier)).is_some());
}

#[test]
fn a_test_that_fails_keeps_its_own_reason() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = panic_text(|| {
        let _watch = logs::watch();
        tracing::warn!("planted beside a failure");
        panic!("{}", "the reason");
    });
    assert_eq!(text.as_deref(), Some("the reason"));
}
