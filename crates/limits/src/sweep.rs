//! When tables are swept.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often clients are forgotten that have nothing to tell any more.
const EVERY: Duration = Duration::from_secs(2);

/// Sweeps now and then, until stopped.
pub async fn sweep_until(stop: CancellationToken, mut sweep: impl FnMut()) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        sweep();
    }
}
