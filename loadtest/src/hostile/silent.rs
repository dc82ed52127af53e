//! Sockets that take room and say nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use domain::UserId;
use gateway::socket::CloseCode;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::tally::Tally;
use super::{COMES_BACK_AFTER, Kind, turn, until_closed};
use crate::target::Door;
use crate::wire::{self, Way};

const MUTE: usize = 40;
const STRANGERS: usize = 100;
/// Strangers of one address, of which so many at most may wait at a time: it is their own time that ends them.
const AN_ADDRESS: usize = 50;

/// Those that sign in, read all, and answer no ping.
pub(super) fn start_mute(door: &Door, tally: &Arc<Tally>, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    for number in 0..MUTE {
        let token = door.token(UserId::new(rand::random()))?;
        let (address, tally, way) = (door.address, Arc::clone(tally), Kind::Mute.way(0));
        tasks.spawn(async move {
            turn(number, MUTE).await;
            loop {
                let closed = sit(address, way, Some(token.clone())).await;
                if closed.is_ok_and(|code| code == CloseCode::HeartbeatTimeout.number()) {
                    tally.met(Kind::Mute);
                }
                sleep(COMES_BACK_AFTER).await;
            }
        });
    }
    Ok(())
}

/// Those that never sign in.
pub(super) fn start_strangers(door: &Door, tally: &Arc<Tally>, tasks: &mut JoinSet<Result<()>>) {
    for number in 0..STRANGERS {
        let (address, tally, way) = (door.address, Arc::clone(tally), Kind::Strangers.way(number / AN_ADDRESS));
        tasks.spawn(async move {
            turn(number, STRANGERS).await;
            loop {
                let closed = sit(address, way, None).await;
                if closed.is_ok_and(|code| code == CloseCode::AuthenticateTimeout.number()) {
                    tally.met(Kind::Strangers);
                }
                sleep(COMES_BACK_AFTER).await;
            }
        });
    }
}

/// Opens a socket, signs in or not, and waits for its close.
async fn sit(address: SocketAddr, way: Way, token: Option<String>) -> Result<u16> {
    let (mut stream, read) = way.connect(address).await?;
    if let Some(token) = token {
        let mut out = Vec::new();
        wire::put_authenticate(token, "mute", None, &mut out);
        stream.write_all(&out).await?;
    }
    until_closed(&mut stream, read).await
}
