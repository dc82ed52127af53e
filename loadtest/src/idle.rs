//! P8: what a signed-in connection costs in memory while nothing happens on it.

use std::time::{Duration, Instant};

use anyhow::Result;
use domain::UserId;
use tokio::time::sleep;

use crate::bare::{Bare, Kind};
use crate::herd::{Herd, Opening};
use crate::rows::{Row, row};
use crate::target::{Target, rss_of};

/// Connections that are there before the first look: pools, tables and the allocator's own are filled by then.
const WARM: usize = 1_000;
/// What a burst of openings needed is given back by then, or never.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of resident memory a connection: ours signed in, the control's a task that echoes.
pub(crate) async fn p8(partitions: u16, connections: usize, runs: usize) -> Result<Row> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let server = Bare::start(Kind::Echo).await?;
        bare.push(of_each(server.pid(), Herd::new(server.address, Opening::Tcp), connections).await?);
        drop(server);
        let target = Target::start(partitions).await?;
        let opening = Opening::sign_in(tokens(&target, connections)?, partitions);
        ours.push(of_each(target.pid(), Herd::new(target.gateway(), opening), connections).await?);
        target.check_quiet()?;
        target.stop().await?;
        eprintln!("run {run}: {:.0} bytes a connection, a bare task {:.0}", ours[run], bare[run]);
    }
    Ok(Row { id: "P8", unit: "bytes", target: 2.5, at_least: false, ..row(&ours, &bare) })
}

/// Tokens of as many users.
pub(crate) fn tokens(target: &Target, count: usize) -> Result<Vec<String>> {
    (0..count).map(|number| target.token(UserId::new((0x4e6d_0000_u128 + number as u128).to_be_bytes()))).collect()
}

async fn of_each(pid: u32, mut herd: Herd, connections: usize) -> Result<f64> {
    herd.grow(WARM).await?;
    let before = settled(pid).await?;
    herd.grow(connections).await?;
    let after = settled(pid).await?;
    herd.cut().await;
    Ok((after - before) / (connections - WARM) as f64)
}

/// Resident bytes once they stay as they are.
async fn settled(pid: u32) -> Result<f64> {
    let begun = Instant::now();
    let (mut bytes, mut since) = (rss_of(pid)?, Instant::now());
    while since.elapsed() < SETTLED_AFTER && begun.elapsed() < SETTLES_WITHIN {
        sleep(SETTLED_AFTER / 20).await;
        let now = rss_of(pid)?;
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(bytes)
}
