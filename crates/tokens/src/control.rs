//! CONTROL: revocations on their way to every process that takes tokens.
//!
//! Read whole before the first token is taken. Who signs in while one comes is told of it by [`Control::follow`], if it is
//! on the caller's lists by then, or finds it by its own look at the revocations behind that.

use std::sync::Arc;
use std::time::Duration;

use domain::UserId;
use event_log::{ControlReader, Log, PublishError, Record};
use metrics::counter;
use prost::Message as _;
use proto::log;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::grant::{LEEWAY_S, now_s};
use crate::{Revocations, VALID_MAX};

/// Between two looks for what has expired by itself.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Learns what is revoked.
#[derive(Debug)]
pub struct Control {
    reader: ControlReader,
    revocations: Arc<Revocations>,
}

impl Control {
    /// Reads all that stands there.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn open(mut reader: ControlReader, revocations: Arc<Revocations>) -> Result<Self, event_log::Error> {
        loop {
            let records = reader.waiting().await?;
            if records.is_empty() {
                return Ok(Self { reader, revocations });
            }
            learn(&revocations, &records);
        }
    }

    /// Follows until shut down; `learnt` is called behind each change.
    pub async fn follow(mut self, mut learnt: impl FnMut(), shutdown: CancellationToken) {
        let mut forgets = interval(FORGET_EVERY);
        forgets.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                records = self.reader.next() => {
                    learn(&self.revocations, &records);
                    learnt();
                }
                _ = forgets.tick() => self.revocations.forget(now_s()),
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// Makes what was issued to `user` until now worthless; of it only what is for `device` or from `sign_in`, unless empty.
///
/// None of those tokens is good for longer than `longest` from its issue. `id` names the revocation: repeated under it, it
/// is one.
///
/// # Errors
/// The log did not store it, or nobody knows whether it did.
pub async fn revoke(
    log: &Log,
    user: UserId,
    (device, sign_in): (&str, &str),
    longest: Duration,
    id: &str,
) -> Result<(), PublishError> {
    let now_s = now_s();
    // A sign-in that has ended gets no further tokens, so its last one may come from a clock that is ahead of ours.
    let ahead_s = if sign_in.is_empty() { 0 } else { LEEWAY_S };
    let revocation = log::Revocation {
        user: user.to_wire(),
        issued_through_s: now_s + ahead_s,
        device: device.to_owned(),
        sign_in: sign_in.to_owned(),
        forget_after_s: now_s + ahead_s + longest.as_secs() + LEEWAY_S,
    };
    let what = Some(log::control::What::Revocation(revocation));
    log.publish_control(log::Control { schema: 1, what }.encode_to_vec().into(), id).await?;
    Ok(())
}

/// Makes every token that this key signed worthless, and every ticket that may stand for one.
///
/// `id` names the revocation: repeated under it, it is one.
///
/// # Errors
/// The log did not store it, or nobody knows whether it did.
pub async fn revoke_key(log: &Log, kid: &str, id: &str) -> Result<(), PublishError> {
    let at_s = now_s();
    let forget_after_s = at_s + VALID_MAX.as_secs() + LEEWAY_S;
    let what =
        Some(log::control::What::KeyRevocation(log::KeyRevocation { kid: kid.to_owned(), at_s, forget_after_s }));
    log.publish_control(log::Control { schema: 1, what }.encode_to_vec().into(), id).await?;
    Ok(())
}

fn learn(revocations: &Revocations, records: &[Record]) {
    let now_s = now_s();
    for record in records {
        let is_learnt = match log::Control::decode(record.payload.clone()) {
            Ok(log::Control { what: Some(log::control::What::Revocation(revocation)), .. }) => {
                revocations.learn(revocation, now_s)
            }
            Ok(log::Control { what: Some(log::control::What::KeyRevocation(revocation)), .. }) => {
                revocations.learn_key(&revocation, now_s)
            }
            Ok(log::Control { what: None, .. }) | Err(_) => false,
        };
        if !is_learnt {
            // A newer build's, or damaged: somebody has to look, for it may have been meant to close sockets.
            counter!("gateway_control_undecodable_total").increment(1);
            tracing::error!(sequence = record.sequence, "a control record cannot be read and is passed over");
        }
    }
}
