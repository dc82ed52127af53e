//! `heliograph up`: every role in one process.
//!
//! ```text
//! folder → store → broker → log → roles ; on a signal or an error: roles, store, broker
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use clap::ValueEnum as _;
use event_log::{Durability, LogConfig};
use store::Store;
use telemetry::LogConfig as Logging;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, Sync};
use crate::config::Config;
use crate::ground::Ground;
use crate::key_file::KeyFile;
use crate::roles::{self, Addresses, Parts, Role};

/// Once the broker is gone for good, before they are dropped: as by a kill, which costs nothing that was promised.
const ROLES_END_WITHIN: Duration = Duration::from_secs(20);

/// More can be asked for; on one machine they would only make records smaller.
const PARTITIONS_BY_DEFAULT_MAX: u16 = 8;

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// What stands in the way of a start, or a role that ended. The broker is stopped then too.
pub async fn run(config: Config) -> Result<()> {
    telemetry::init_logs(&Logging { filter: config.log.clone(), ..Logging::default() })?;
    config.check_up()?;
    let stop = roles::stop_signal()?;
    let (folder, ground) = Ground::lay(&config)?;
    let keys = KeyFile::open(folder.token_keys())?;
    let store = Store::open(store::Config { folder: folder.store(), ..config.store.clone() }).await?;
    let partitions = partitions(&store, config.partitions).await?;

    let broker = Broker::start(&folder.broker(), sync(&config)).await?;
    let access = broker.access();
    let (servers, login) = (vec![access.url], Some(access.login));
    let log = LogConfig { servers, login, partitions, ..config.event_log.clone() };
    // The broker goes last, whatever ends the rest.
    let (under_all, broker_gone) = (CancellationToken::new(), CancellationToken::new());
    let supervising = tokio::spawn({
        let (shutdown, gone) = (under_all.clone(), broker_gone.clone().drop_guard());
        async move {
            let _gone = gone;
            broker.supervise(shutdown).await
        }
    });
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = broker_gone.cancelled() => {}
        }
    };
    let roles = Role::value_variants().iter().copied().collect();
    let begun = |addresses: &Addresses| say_what_next(addresses, &config.data);
    let parts = Parts { folder: &folder, ground, log, store, keys };
    let serving = roles::serve(&config, &roles, parts, begun, stop);
    let served = tokio::select! {
        served = serving => served,
        () = without_broker(&broker_gone) => Err(anyhow!("without a broker the roles did not end within {ROLES_END_WITHIN:?}")),
    };
    under_all.cancel();
    let supervised = supervising.await.context("the broker's task").flatten();
    supervised.and(served)
}

/// Returns some time after the broker is gone for good: a role that waits for the log may wait for ever.
async fn without_broker(gone: &CancellationToken) {
    gone.cancelled().await;
    sleep(ROLES_END_WITHIN).await;
}

/// How the broker writes, so that the log rests on what it says.
const fn sync(config: &Config) -> Sync {
    match config.event_log.durability {
        Durability::Lazy => Sync::Lazy,
        Durability::Synced | Durability::Replicated => Sync::Always,
    }
}

/// One for two cores, up to a bound.
///
/// Each costs a record and its wake-ups whenever something is said in it, and one owner, with the broker and the store's
/// writer beside it, keeps two cores busy.
pub fn partitions_by_default() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
    (cores / 2).clamp(1, PARTITIONS_BY_DEFAULT_MAX)
}

/// How many partitions the store has, or gets at its first start.
///
/// A chat's partition is part of its id: another count would look for chats where they are not.
pub(crate) async fn partitions(store: &Store, wanted: Option<u16>) -> Result<u16> {
    let proposed = wanted.unwrap_or_else(partitions_by_default);
    let fixed = store.claim_meta("partitions", Bytes::copy_from_slice(&proposed.to_be_bytes())).await?;
    let found = <[u8; 2]>::try_from(&fixed[..]).map_or(0, u16::from_be_bytes);
    if wanted.is_some_and(|wanted| wanted != found) {
        bail!("this store has {found} partitions; start with --partitions {found}");
    }
    Ok(found)
}

#[expect(clippy::print_stdout, reason = "a command-line program")]
fn say_what_next(addresses: &Addresses, data: &Path) {
    let [address, http] = [&addresses.gateway, &addresses.api].map(|address| address.as_deref().unwrap_or_default());
    let program = std::env::args().next().unwrap_or_else(|| "heliograph".to_owned());
    let named =
        if data.as_os_str() == "heliograph-data" { String::new() } else { format!(" --data {}", data.display()) };
    println!("Heliograph listens on {address}. In two more terminals:\n");
    println!("  {program} chat{named} --as alice --to bob");
    println!("  {program} chat{named} --as bob --to alice\n");
    println!("HTTP API: http://{http}/v1, described at /docs.");
    println!("Ctrl-C stops it; what was said stays in {}.", data.display());
}
