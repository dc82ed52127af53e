//! Does what was planned: one fault after the other, and the deployment whole again after each.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use testkit::{Direction, Gate, children};
use tokio::time::{Instant, sleep, sleep_until};

use super::cast::{Cast, Seat};
use super::deployment::{Deployment, Host};
use super::fault::{Fault, Kind};
use super::plan::Planned;
use super::talk::Tally;

/// A process that died of a fault may need more than one start while the fault lasts.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a deployment may take until it stores again after its disk was full: its process may have to end in order,
/// which drains sockets, and start.
const STORES_WITHIN: Duration = Duration::from_secs(90);
/// So many more are stored then.
const STORES: u64 = 20;
/// What the end of a process whose store failed it says, sooner or later after the disk was full.
const STORE_FAILED: &str = "storage engine failed";
/// Between two looks at what ended on its own, while nothing is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Struck {
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
    /// Each with its time since the begin of the run, in ms.
    pub(crate) faults: Vec<(u64, Fault)>,
    /// Faults of the plan for which there was no time.
    pub(crate) left: usize,
    /// Ends of processes that a fault explains.
    pub(crate) explained_ends: u64,
    /// The others.
    pub(crate) unexplained_ends: Vec<String>,
}

/// Hits the deployment.
pub(crate) struct Striker<'a, D> {
    pub(crate) deployment: &'a mut D,
    pub(crate) gates: &'a [Gate],
    pub(crate) cast: &'a Cast,
    pub(crate) tally: &'a Tally,
    pub(crate) say: &'a dyn Fn(&str),
    ends: usize,
    disk_was_full: bool,
}

impl<'a, D: Deployment> Striker<'a, D> {
    pub(crate) fn new(
        deployment: &'a mut D,
        gates: &'a [Gate],
        cast: &'a Cast,
        tally: &'a Tally,
        say: &'a dyn Fn(&str),
    ) -> Self {
        let ends = deployment.said().ends.len();
        Self { deployment, gates, cast, tally, say, ends, disk_was_full: false }
    }

    /// Keeps everything running, for as long as it is asked to: what a supervisor of services does.
    pub(crate) async fn keep(&mut self, struck: &mut Struck) -> Infallible {
        loop {
            self.note_ends(struck);
            if let Err(error) = self.make_whole().await {
                struck.unexplained_ends.push(format!("it cannot be made whole again: {error:#}"));
            }
            self.cast.wake();
            sleep(LOOK_EVERY).await;
        }
    }

    /// Carries the plan out for this long; then everything is whole and open.
    pub(crate) async fn strike(&mut self, plan: &[Planned], time: Duration) -> Result<Struck> {
        let (begun, mut struck) = (Instant::now(), Struck::default());
        let end = begun + time;
        for (done, Planned { rest, fault }) in plan.iter().enumerate() {
            self.rest(rest.min(&end.saturating_duration_since(Instant::now())).to_owned()).await;
            self.note_ends(&mut struck);
            if Instant::now() >= end {
                struck.left = plan.len() - done;
                break;
            }
            let at = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            (self.say)(&format!("{:4} s  {fault}", at / 1_000));
            self.hit(fault).await.with_context(|| format!("fault {done}: {fault}"))?;
            self.make_whole().await.with_context(|| format!("after fault {done}: {fault}"))?;
            self.note_ends(&mut struck);
            *struck.by_kind.entry(fault.kind.name()).or_default() += 1;
            struck.faults.push((at, *fault));
        }
        self.rest(end.saturating_duration_since(Instant::now())).await;
        self.note_ends(&mut struck);
        self.make_whole().await?;
        Ok(struck)
    }

    /// A full disk may end a process in order; nothing else may.
    fn note_ends(&mut self, struck: &mut Struck) {
        self.deployment.look();
        let ends = &self.deployment.said().ends;
        for end in ends.get(self.ends..).unwrap_or_default() {
            if self.disk_was_full && end.contains(STORE_FAILED) {
                struck.explained_ends += 1;
            } else {
                struck.unexplained_ends.push(end.clone());
            }
        }
        self.ends = ends.len();
    }

    async fn rest(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.cast.wake();
            let now = Instant::now();
            if now >= end {
                return;
            }
            sleep_until(end.min(now + LOOK_EVERY)).await;
        }
    }

    /// Everything runs and every way is open.
    async fn make_whole(&mut self) -> Result<()> {
        for gate in self.gates {
            gate.let_go(Direction::ToServer);
            gate.let_go(Direction::ToClients);
            gate.delay(Duration::ZERO);
        }
        for process in 0..self.deployment.processes() {
            self.start(Host::Process(process)).await?;
        }
        for broker in 0..self.deployment.brokers() {
            self.deployment.start(Host::Broker(broker)).await?;
        }
        Ok(())
    }

    /// Starts it, again and again where it ends: what a supervisor of services does.
    async fn start(&mut self, host: Host) -> Result<()> {
        let end = Instant::now() + STARTS_WITHIN;
        loop {
            match self.deployment.start(host).await {
                Err(error) if Instant::now() < end => {
                    (self.say)(&format!("        it does not start yet: {error:#}"));
                    sleep(AGAIN_AFTER).await;
                }
                started => return started,
            }
        }
    }

    async fn hit(&mut self, fault: &Fault) -> Result<()> {
        let target = fault.target as usize;
        let process = Host::Process(target % self.deployment.processes().max(1));
        let broker = Host::Broker(target % self.deployment.brokers().max(1));
        match fault.kind {
            Kind::KillProcess => {
                self.deployment.kill(process)?;
                sleep(fault.time()).await;
            }
            Kind::KillAll => {
                for process in 0..self.deployment.processes() {
                    self.deployment.kill(Host::Process(process))?;
                }
                for broker in 0..self.deployment.brokers() {
                    self.deployment.kill(Host::Broker(broker))?;
                }
                sleep(fault.time()).await;
            }
            Kind::RestartProcess => {
                self.deployment.stop(process).await?;
                sleep(fault.time()).await;
            }
            Kind::PauseProcess | Kind::FreezeProcess => self.stand_still(process, fault.time()).await?,
            Kind::PauseBroker | Kind::FreezeBroker => self.stand_still(broker, fault.time()).await?,
            Kind::KillBroker => self.deployment.kill(broker)?,
            Kind::RestartBroker => self.deployment.stop(broker).await?,
            Kind::KillBehindBroker => self.kill_behind(broker, process, fault, false).await?,
            Kind::ForgetBehindBroker => self.kill_behind(broker, process, fault, true).await?,
            Kind::CutLinks => self.gates.iter().for_each(Gate::cut),
            Kind::HoldLinks => {
                let direction = if fault.by_ms.is_multiple_of(2) { Direction::ToServer } else { Direction::ToClients };
                self.gates.iter().for_each(|gate| gate.hold(direction));
                sleep(fault.time()).await;
                // Half of them never get what was held.
                if fault.by_ms % 4 < 2 {
                    self.gates.iter().for_each(Gate::cut);
                }
            }
            Kind::SlowLinks => {
                self.gates.iter().for_each(|gate| gate.delay(fault.by()));
                sleep(fault.time()).await;
            }
            Kind::RestartClient | Kind::ForgetClient => {
                let keeps = fault.kind == Kind::RestartClient;
                // Who is ever killed without its outbox never is with it: what it had under way would be more than one.
                let seats: Vec<_> = self.cast.seats().into_iter().filter(|seat| keeps != seat.is_forgetful).collect();
                if let Some(seat) = seats.get(target % seats.len().max(1)) {
                    self.cast.restart(seat, keeps, fault.time()).await?;
                }
            }
            Kind::FillDisk => self.fill_disk(fault.time()).await?,
            Kind::HoldWorker => {
                if let Some(pid) = self.deployment.pid(process) {
                    kill(pid, Signal::SIGUSR1)?;
                    sleep(fault.time()).await;
                    kill(pid, Signal::SIGUSR2)?;
                }
            }
        }
        Ok(())
    }

    /// Full for a while, then free again; and it must store again, after a new start where it takes one.
    async fn fill_disk(&mut self, time: Duration) -> Result<()> {
        self.disk_was_full = true;
        if let Some(disk) = self.deployment.disk() {
            // Gigabytes, while the clients go on.
            tokio::task::block_in_place(|| disk.fill())?;
        }
        sleep(time).await;
        if let Some(disk) = self.deployment.disk() {
            disk.free()?;
        }
        let tally = self.tally;
        let stored = || tally.stored.load(Ordering::Relaxed);
        let (before, end) = (stored(), Instant::now() + STORES_WITHIN);
        while stored() < before + STORES {
            if Instant::now() > end {
                bail!("it has stored next to nothing for {STORES_WITHIN:?} since its disk has room again");
            }
            self.make_whole().await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn stand_still(&mut self, host: Host, time: Duration) -> Result<()> {
        let Some(pid) = self.deployment.pid(host) else { return Ok(()) };
        children::pause(pid)?;
        sleep(time).await;
        kill(pid, Signal::SIGCONT).context("it does not go on")
    }

    /// The broker takes in and answers nothing; what waits for it dies with the process.
    async fn kill_behind(&mut self, broker: Host, process: Host, fault: &Fault, forgets: bool) -> Result<()> {
        let Some(pid) = self.deployment.pid(broker) else { return Ok(()) };
        children::pause(pid)?;
        sleep(fault.time()).await;
        let forgetful: Vec<_> = self.cast.seats().into_iter().filter(|seat| forgets && seat.is_forgetful).collect();
        let restarts = forgetful.iter().map(|seat: &std::sync::Arc<Seat>| self.cast.restart(seat, false, fault.by()));
        futures_util::future::try_join_all(restarts).await?;
        self.deployment.kill(process)?;
        if fault.by_ms.is_multiple_of(2) {
            // What it had not read yet dies with it.
            return self.deployment.kill(broker);
        }
        kill(pid, Signal::SIGCONT).context("the broker does not go on")
    }
}
