//! Follows the gateways' announcements into the worker's mirror.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log::{Log, Received, Subject, Subscription};
use metrics::{counter, gauge};
use prost::Message as _;
use proto::relay::{AnnounceRequest, Announcement};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::machine::{MirrorAction, MirrorInput};
use crate::roster::Roster;

/// Runs until shut down; all gateways are asked at the start and after each loss.
pub(crate) async fn follow(
    log: Log,
    mut announced: Subscription,
    roster: Arc<Roster>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unasked = run(&log, roster.feed(MirrorInput::Missed)).await;
    loop {
        let input = tokio::select! {
            received = announced.next() => match received {
                Some(Received::Message(message)) => match Announcement::decode(message.payload) {
                    Ok(announcement) => MirrorInput::Announced(announcement),
                    Err(_) => {
                        counter!("delivery_announcements_refused_total").increment(1);
                        continue;
                    }
                },
                Some(Received::Lagged) => MirrorInput::Missed,
                None if shutdown.is_cancelled() => return Ok(()),
                None => return Err(Error::MirrorStopped),
            },
            _ = ticks.tick() => {
                gauge!("delivery_sessions_mirrored").set(roster.mirror().session_count() as f64);
                // A request that found no broker is made again.
                if unasked { MirrorInput::Missed } else { MirrorInput::Tick }
            }
            () = shutdown.cancelled() => return Ok(()),
        };
        let asks_all = matches!(input, MirrorInput::Missed);
        let failed = run(&log, roster.feed(input)).await;
        unasked = if asks_all { failed } else { unasked };
    }
}

/// Sends what the mirror asks for; whether some of it could not be sent.
async fn run(log: &Log, actions: Vec<MirrorAction>) -> bool {
    let mut failed = false;
    for action in actions {
        match action {
            MirrorAction::Ask(gateway) => {
                let request = AnnounceRequest { gateway: gateway.map_or(0, |gateway| gateway.0) };
                let payload = Bytes::from(request.encode_to_vec());
                failed |= log.send(&Subject::AnnounceRequests, payload).await.is_err();
            }
            MirrorAction::Refused => counter!("delivery_announcements_refused_total").increment(1),
            MirrorAction::Held { .. } | MirrorAction::Forgotten(_) => {}
        }
    }
    failed
}
