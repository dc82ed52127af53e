//! A fleet that talks at a fixed rate, for what it costs it that others are there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::fleet::Fleet;
use crate::target::Target;

/// What is loaded, how much and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) partitions: u16,
    pub(crate) sockets: usize,
    pub(crate) chats: usize,
    /// Messages a second of the fleet.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    pub(crate) runs: usize,
}

impl Beside {
    /// A target of its own, which trusts these proxies, and a fleet that has talked once.
    pub(crate) async fn open(&self, proxies: &str) -> Result<(Target, Arc<Fleet>)> {
        let target = Target::start_with(self.partitions, &["--trusted-proxy", proxies]).await?;
        let fleet = Fleet::open(&target, self.sockets, self.chats, self.partitions).await?;
        // Caches, files and connections are warm in the runs that count.
        fleet.pace(self.rate, Duration::ZERO, self.time).await?;
        Ok((target, fleet))
    }
}
