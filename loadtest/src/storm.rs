//! P13: all connections are cut at once and all clients come back at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::bare::{Bare, Kind};
use crate::herd::{Herd, Opening};
use crate::idle::tokens;
use crate::rows::{Row, row};
use crate::target::Target;

/// A fleet that is cut has been there for a while: what the gateway lets in at once has come back by then.
const STEADY_AFTER: Duration = Duration::from_secs(4);
/// Reads of the store that the gateway makes for clients.
const READS: [&str; 2] = ["gateway_heads_reads_total", "gateway_history_reads_total"];

/// Seconds from the cut until everybody is signed in and caught up; the control's until everybody has done the handshake.
///
/// # Errors
/// Also when the store was read for somebody who came back: all are back within the hot window.
pub(crate) async fn p13(partitions: u16, connections: usize, runs: usize) -> Result<Row> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut read_for_them = 0.0;
    let server = Bare::start(Kind::Handshake).await?;
    let target = Target::start(partitions).await?;
    let tokens = tokens(&target, connections)?;
    for run in 0..runs {
        // One after the other: both together are more descriptors than a process may have.
        let mut herd = Herd::new(server.address, Opening::Handshake);
        herd.grow(connections).await?;
        let raw = come_back(&mut herd, connections).await?;
        herd.cut().await;
        let mut herd = Herd::new(target.gateway(), Opening::sign_in(tokens.clone(), partitions));
        let first = herd.grow(connections).await?.as_secs_f64();
        let reads_before = reads(&target).await?;
        let cpu_before = target.cpu()?;
        let back = come_back(&mut herd, connections).await?;
        let cpu = target.cpu()?;
        let reads = reads(&target).await? - reads_before;
        herd.cut().await;
        read_for_them += reads;
        eprintln!(
            "run {run}: back after {back:.2} s (first {first:.2} s), bare handshakes {raw:.2} s; {reads} reads of the store; \
             CPU µs each: heliograph {:.0}, nats-server {:.0}",
            (cpu.0 - cpu_before.0) * 1e6 / connections as f64,
            (cpu.1 - cpu_before.1) * 1e6 / connections as f64,
        );
        ours.push(back);
        bare.push(raw);
    }
    ensure!(read_for_them == 0.0, "the store was read {read_for_them} times for those who came back");
    target.check_quiet()?;
    target.stop().await?;
    Ok(Row { id: "P13", unit: "s", target: 2.0, at_least: false, ..row(&ours, &bare) })
}

/// Seconds from a cut until all are back.
async fn come_back(herd: &mut Herd, connections: usize) -> Result<f64> {
    sleep(STEADY_AFTER).await;
    herd.cut().await;
    Ok(herd.grow(connections).await?.as_secs_f64())
}

async fn reads(target: &Target) -> Result<f64> {
    let mut sum = 0.0;
    for name in READS {
        sum += target.counter(name).await?;
    }
    Ok(sum)
}
