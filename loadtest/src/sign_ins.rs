//! What it costs the path that strangers try to sign in: each attempt hashes a password for as long as a real one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::beside::Beside;
use crate::rows::{Row, row};
use crate::wire::{Answer, Proxied, Way};

/// Attempts in a second; an open loop, so that slow answers make it no fewer.
const PER_S: u32 = 50;
/// Where they come from, as a proxy that is trusted; each is of a client of its own.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 8, 0, 1);
const PROXIES: &str = "127.8.0.0/16";
const UNAUTHORIZED: u16 = 401;
const BUSY: u16 = 503;

/// p99 of the recipients in µs while others try to sign in; the control's while nobody does.
pub(crate) async fn measure(beside: &Beside) -> Result<Row> {
    let Beside { rate, time, runs, .. } = *beside;
    let (target, fleet) = beside.open(PROXIES).await?;
    let api = target.api()?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let control = fleet.pace(rate, time / 5, time).await?.received_p99();
        let (tally, before) = (Arc::new(Tally::default()), target.cpu()?.0);
        let (since, mut attempts) = (Instant::now(), start(api, &tally));
        let ours = fleet.pace(rate, time / 5, time).await?.received_p99();
        if let Some(ended) = attempts.try_join_next() {
            ended??;
        }
        drop(attempts);
        let a_second = |count: f64| count / since.elapsed().as_secs_f64();
        let [begun, wrong, busy] =
            [&tally.begun, &tally.wrong, &tally.busy].map(|met| a_second(met.load(Ordering::Relaxed) as f64));
        let cpu = a_second(target.cpu()?.0 - before);
        eprintln!(
            "run {run}: p99 {ours:.0} µs, {control:.0} µs without attempts; a second: {begun:.1} attempts, {wrong:.1} wrong \
             passwords, {busy:.1} too many, {cpu:.2} s of our CPU"
        );
        ensure!(begun > f64::from(PER_S) * 0.9, "the attempts fell behind");
        // The rest waits for a thread: no more than the server has room for.
        ensure!(wrong > 1.0 && wrong + busy > begun * 0.5, "too few attempts were answered for a figure");
        with.push(ours);
        without.push(control);
    }
    target.check_quiet()?;
    target.stop().await?;
    Ok(Row { id: "sign-ins", unit: "µs", target: 1.5, at_least: false, ..row(&with, &without) })
}

/// What became of the attempts.
#[derive(Debug, Default)]
struct Tally {
    begun: AtomicU64,
    wrong: AtomicU64,
    busy: AtomicU64,
}

/// Begins one attempt after the other, until dropped.
fn start(api: SocketAddr, tally: &Arc<Tally>) -> JoinSet<Result<()>> {
    let (mut tasks, tally) = (JoinSet::new(), Arc::clone(tally));
    tasks.spawn(async move {
        let mut attempts = JoinSet::new();
        let mut ticks = interval(Duration::from_secs(1) / PER_S);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0_u32.. {
            ticks.tick().await;
            tally.begun.fetch_add(1, Ordering::Relaxed);
            attempts.spawn(attempt(api, number, Arc::clone(&tally)));
            while let Some(ended) = attempts.try_join_next() {
                ended??;
            }
        }
        Ok(())
    });
    tasks
}

async fn attempt(api: SocketAddr, number: u32, tally: Arc<Tally>) -> Result<()> {
    // A network for tests between machines (RFC 2544).
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number % (1 << 17));
    let proxied = Proxied { proxy: PROXY, client };
    let body = format!(r#"{{"handle":"nobody-{number}","password":"correct horse","device":"phone"}}"#);
    let request = format!(
        "POST /v1/sign-ins HTTP/1.1\r\nhost: {api}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        proxied.header(),
        body.len(),
    );
    let met = match (Way { proxied: Some(proxied), ..Way::default() }).exchange(api, &request).await? {
        Answer::Refused(UNAUTHORIZED, _) => &tally.wrong,
        Answer::Refused(BUSY, _) => &tally.busy,
        Answer::Refused(_, head) => bail!("an attempt was answered with {head}"),
        Answer::Upgraded(..) => bail!("an attempt became a socket"),
    };
    met.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
