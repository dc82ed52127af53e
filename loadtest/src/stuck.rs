//! P14: what it costs the others that a hundredth of the recipients do not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use client::{ChatId, Client, Event, Events, Options, Settlement, UserId as ClientUser};
use domain::UserId;
use proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::fleet::Fleet;
use crate::rows::{Row, row};
use crate::target::{Door, Target};
use crate::wire::{self, Way};

/// Messages that are sent to each of the stuck ones, and how large they are.
const EVERY: Duration = Duration::from_millis(50);
const BODY_BYTES: usize = 12 << 10;
const SIGNED_IN_WITHIN: Duration = Duration::from_secs(10);
/// The kernel's receive buffer of a stuck one: it is the server that has to hold what is not read.
const RECEIVE_BYTES: u32 = 4 << 10;
/// Between two looks whether the server has let go of a stuck one.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// p99 of the healthy recipients in µs while others do not read; the control's while the same others read the same.
pub(crate) async fn p14(target: &Target, fleet: &Arc<Fleet>, rate: f64, time: Duration, runs: usize) -> Result<Row> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let count = fleet.sockets().div_ceil(100);
    for run in 0..runs {
        let others = Others::start(target.door(), count, Way::default(), true)?;
        let control = fleet.pace(rate, time / 5, time).await?.received_p99();
        drop(others);
        let closed_before = target.counter("gateway_sockets_closed_total{code=\"slow\"}").await?;
        let others = Others::start(target.door(), count, Way::default(), false)?;
        let ours = fleet.pace(rate, time / 5, time).await?.received_p99();
        let closed = target.counter("gateway_sockets_closed_total{code=\"slow\"}").await? - closed_before;
        drop(others);
        ensure!(closed > 0.0, "nobody was too slow: this measured nothing");
        eprintln!("run {run}: p99 {ours:.0} µs, {control:.0} µs while all read; {closed} were closed as slow");
        with.push(ours);
        without.push(control);
    }
    Ok(Row { id: "P14", unit: "µs", target: 1.1, at_least: false, ..row(&with, &without) })
}

/// Recipients beside the fleet, and whoever writes to them.
#[derive(Debug)]
pub(crate) struct Others {
    _tasks: JoinSet<Result<()>>,
    let_go: Arc<AtomicU64>,
}

impl Others {
    /// Starts `count` of them, who come by this way; their writers come from nowhere in particular.
    pub(crate) fn start(door: &Door, count: usize, way: Way, read: bool) -> Result<Self> {
        let way = Way { receive_bytes: (!read).then_some(RECEIVE_BYTES), ..way };
        let let_go = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (reader, writer) = (UserId::new(rand::random()), UserId::new(rand::random()));
            let (token, address) = (door.token(reader)?, door.address);
            let options = Options::new(format!("ws://{address}/v1/socket"), door.token(writer)?, "writer");
            tasks.spawn(write(options, ClientUser(*reader.as_bytes())));
            let let_go = Arc::clone(&let_go);
            tasks.spawn(async move {
                loop {
                    sit(address, token.clone(), way, read).await?;
                    let_go.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Ok(Self { _tasks: tasks, let_go })
    }

    /// How often the server has let go of one of them.
    pub(crate) fn let_go(&self) -> u64 {
        self.let_go.load(Ordering::Relaxed)
    }
}

/// Writes to somebody who does not read.
async fn write(options: Options, to: ClientUser) -> Result<()> {
    let (client, mut events, chat) = open_group(options, Some(to)).await?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                // A full outbox is no fault here: what it holds is being sent.
                let _sent = client.send(chat, vec![7; BODY_BYTES]);
            }
            event = events.next() => drop(event.context("the writer's client ended")?),
        }
    }
}

/// A client that is signed in, and a new group of its own with one other member or none.
pub(crate) async fn open_group(options: Options, with: Option<ClientUser>) -> Result<(Client, Events, ChatId)> {
    let (client, mut events) = Client::connect(options);
    let connected = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::Connected { .. }) {
                break;
            }
        }
    };
    timeout(SIGNED_IN_WITHIN, connected).await?;
    let member = with.map(|user| v1::Member { user: user.0.to_vec().into(), role: v1::Role::Member.into() });
    let created = client.create_chat(v1::ChatKind::Group, member.into_iter().collect())?;
    let Settlement::Stored { chat, .. } = created.outcome.await? else { bail!("a group of one's own was refused") };
    Ok((client, events, chat))
}

/// Signs in, reads all away or nothing, and returns once the server has let go.
async fn sit(address: SocketAddr, token: String, way: Way, read: bool) -> Result<()> {
    let (mut stream, mut input) = way.connect(address).await?;
    let mut out = Vec::new();
    wire::put_authenticate(token, "stuck", None, &mut out);
    stream.write_all(&out).await?;
    out.clear();
    wire::put_pong(&[], &mut out);
    // It answers no ping, but is not silent: only its queue may end it.
    while stream.write_all(&out).await.is_ok() {
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            taken = stream.read_buf(&mut input), if read => {
                taken?;
                input.clear();
            }
        }
    }
    Ok(())
}
