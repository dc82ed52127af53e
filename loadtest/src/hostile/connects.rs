//! Addresses that connect and connect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Kind;
use super::tally::Tally;
use crate::target::Door;
use crate::wire::Answer;

const ADDRESSES: usize = 4;
/// Of each address.
const PER_S: u32 = 60;

pub(super) fn start(door: &Door, tally: &Arc<Tally>, tasks: &mut JoinSet<Result<()>>) {
    for number in 0..ADDRESSES {
        let (address, tally, way) = (door.address, Arc::clone(tally), Kind::Connects.way(number));
        tasks.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / PER_S);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // One that is let in leaves at once.
                if let Ok(Answer::Refused(429, _)) = way.ask(address).await {
                    tally.met(Kind::Connects);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use gateway::limits::ClientLimits;

    use super::super::IN_PLACE_AFTER;
    use super::*;

    #[test]
    fn an_address_is_over_its_limit_once_the_crowd_is_in_place() {
        let limit = ClientLimits::default().address_connects;
        assert!((2 * limit.per_s..=5 * limit.per_s).contains(&PER_S));
        assert!(u64::from(PER_S - limit.per_s) * IN_PLACE_AFTER.as_secs() > u64::from(limit.burst));
    }
}
