//! Readers that stand still: what is sealed for them and not with the kernel counts as waiting.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gateway::socket::{Class, CloseCode, Closed, Config, PushError};

use super::peer::Secured;
use crate::socket::peer::{Behaviour, config, within};

const FRAME_BYTES: usize = 1_000;
/// What the bound is over by at most: a frame is admitted while less than the bound waits.
const OVER: usize = FRAME_BYTES + 4;

fn narrow() -> Config {
    Config { send_buffer_bytes: 4_096, close_timeout_ms: 100, ..config() }
}

fn numbered(n: u32) -> Bytes {
    n.to_be_bytes().repeat(FRAME_BYTES / 4).into()
}

fn is_drained(outbound: &gateway::socket::Outbound) -> bool {
    let drained = std::pin::pin!(outbound.drained());
    matches!(drained.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_reader_holds_its_bound_then_is_closed_as_slow_and_others_get_all() {
    let mut secured = Secured::start_with(narrow(), Behaviour::Trust);
    let (_stuck, mut slow) = secured.open_narrow().await;
    let (mut client, healthy) = secured.open().await;
    let (mut held, mut n) = (0, 0);
    loop {
        let pushed = slow.outbound.push(numbered(n), Class::Ordinary);
        held = held.max(slow.outbound.queued_bytes());
        healthy.outbound.push(numbered(n), Class::Ordinary).unwrap();
        assert_eq!(client.frame().await.unwrap().payload, numbered(n));
        n += 1;
        if pushed == Err(PushError::Slow) {
            break;
        }
        pushed.unwrap();
        assert!(n < 5_000, "never slow");
    }
    let bound = Config::default().queue_bytes;
    assert!(held < bound + OVER, "{held} bytes");
    assert!(held > bound / 2, "the bound was reached: {held} bytes");
    assert_eq!(slow.closed().await, Closed::ByServer(CloseCode::Slow));
    assert_eq!(healthy.outbound.closed(), None);
}

#[tokio::test]
async fn nothing_is_drained_before_the_kernel_has_the_last_of_its_records() {
    let mut secured = Secured::start_with(narrow(), Behaviour::Trust);
    let (mut client, opened) = secured.open_narrow().await;
    assert!(is_drained(&opened.outbound));
    // As much as the kernel takes, in steps that TLS takes whole.
    let mut n = 0;
    loop {
        opened.outbound.push(numbered(n), Class::Ordinary).unwrap();
        n += 1;
        // Whoever writes has had a turn.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        if opened.outbound.queued_frames() == 0 && opened.outbound.queued_bytes() > 0 {
            break;
        }
        assert!(is_drained(&opened.outbound), "frames wait although nothing is sealed");
    }
    assert!(!is_drained(&opened.outbound), "drained with {} bytes to write", opened.outbound.queued_bytes());
    assert_eq!(opened.outbound.push(numbered(n), Class::History), Err(PushError::NotEmpty));
    for n in 0..n {
        assert_eq!(client.frame().await.unwrap().payload, numbered(n));
    }
    within(opened.outbound.drained()).await;
    assert_eq!(opened.outbound.push(numbered(n), Class::History), Ok(()));
    assert_eq!(client.frame().await.unwrap().payload, numbered(n));
}

#[tokio::test]
async fn what_is_sealed_is_finished_before_an_urgent_close() {
    let mut secured = Secured::start_with(Config { close_timeout_ms: 5_000, ..narrow() }, Behaviour::Trust);
    let (mut client, opened) = secured.open_narrow().await;
    let mut n = 0;
    while opened.outbound.push(numbered(n), Class::Ordinary).is_ok() {
        n += 1;
    }
    assert_eq!(opened.outbound.closed(), Some(Closed::ByServer(CloseCode::Slow)));
    let mut got = 0;
    loop {
        let frame = client.frame().await.expect("a close frame before the end");
        if frame.opcode == 8 {
            break;
        }
        assert_eq!(frame.payload, numbered(got), "in order, whole");
        got += 1;
    }
    assert!(0 < got && got < n, "{got} of {n}");
}
