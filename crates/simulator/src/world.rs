//! The world: one clock, one queue of what happens next, processes that stop and go on, and links that lose.
//!
//! Everything is a task due at a time; equal times keep the order in which the tasks were made, so a seed means one
//! run. The roles' shells are modelled in modules of their own; the protocols are the real machines.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;

use domain::{Micros, Seq};
use ingest::machine::Halt;

use crate::broker::Broker;
use crate::deliverers::{Tenancy, Worker};
use crate::devices::Device;
use crate::gateways::Gateway;
use crate::handing::Handing;
use crate::imports::Importer;
use crate::owners::Ownership;
use crate::projectors::Projector;
use crate::random::Random;
use crate::scene::Scene;
use crate::store::{Store, Write};
use crate::switches::Switches;
use crate::truth::Truth;

/// Something that is due.
pub(crate) type Task = Box<dyn FnOnce(&mut World)>;

struct Due {
    at: Micros,
    order: u64,
    task: Task,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap gives the greatest first; the earliest is wanted.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Names one run of a program; a restarted one is another.
pub(crate) type ProcessId = usize;

/// One run of a program.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    waiting: VecDeque<Task>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    queue: BinaryHeap<Due>,
    order: u64,
    pub(crate) happened: u64,
    pub(crate) switches: Switches,
    pub(crate) scene: Scene,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) processes: Vec<Process>,
    links: BTreeMap<(ProcessId, ProcessId), Micros>,
    /// Ingest: which process should own, and every tenure that thinks it does.
    pub(crate) ingest: Vec<ProcessId>,
    pub(crate) ingest_turn: usize,
    pub(crate) owners: BTreeMap<u64, Ownership>,
    pub(crate) handing: Handing,
    pub(crate) importer: Option<Importer>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) delivery_turn: usize,
    pub(crate) tenancies: BTreeMap<u64, Tenancy>,
    pub(crate) projector: ProcessId,
    pub(crate) projectors: BTreeMap<u64, Projector>,
    /// The gateway of each place, by process.
    pub(crate) places: Vec<ProcessId>,
    pub(crate) gateways: BTreeMap<ProcessId, Gateway>,
    pub(crate) devices: Vec<Device>,
    pub(crate) truth: Truth,
    pub(crate) recorder: checker::Recorder,
    /// No further fault happens and nothing is lost.
    pub(crate) calm: bool,
    pub(crate) halted: Option<Halt>,
    /// A tail was lost for which the partition has to stop.
    pub(crate) expects_halt: bool,
    /// Where the events end since they lost their tail; none: they did not, or another one has been published since.
    pub(crate) events_cut: Option<Seq>,
    /// A tail was lost which nothing has to show: stopping is right, and so is going on if nobody ever sees it.
    pub(crate) may_halt: bool,
    /// What is wrong, beyond what the checker judges.
    pub(crate) faults: Vec<String>,
    steps: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, switches: Switches, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let scene = Scene::draw(&mut random, seed);
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            happened: 0,
            switches,
            broker: Broker::new(scene.window),
            store: Store::new(switches.server.m8),
            processes: Vec::new(),
            links: BTreeMap::new(),
            ingest: Vec::new(),
            ingest_turn: 0,
            owners: BTreeMap::new(),
            handing: Handing::default(),
            importer: None,
            workers: Vec::new(),
            delivery_turn: 0,
            tenancies: BTreeMap::new(),
            projector: 0,
            projectors: BTreeMap::new(),
            places: Vec::new(),
            gateways: BTreeMap::new(),
            devices: Vec::new(),
            truth: Truth::default(),
            recorder: checker::Recorder::new(),
            calm: false,
            halted: None,
            expects_halt: false,
            events_cut: None,
            may_halt: false,
            faults: Vec::new(),
            steps: verbose.then(Vec::new),
            random,
            scene,
        }
    }

    /// Notes a step in plain words, where somebody reads them.
    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(format!("{:>10.3} ms  {}", self.now as f64 / 1_000.0, words()));
        }
    }

    pub(crate) fn take_steps(&mut self) -> Vec<String> {
        self.steps.take().unwrap_or_default()
    }

    pub(crate) fn fault(&mut self, what: String) {
        self.say(|| format!("FAULT: {what}"));
        if self.faults.len() < 20 {
            self.faults.push(what);
        }
    }

    /// Runs a task after a while, whatever processes do.
    pub(crate) fn after(&mut self, delay: Micros, task: impl FnOnce(&mut Self) + 'static) {
        self.order += 1;
        self.queue.push(Due { at: self.now + delay, order: self.order, task: Box::new(task) });
    }

    /// Runs a task in a process: never if it has ended, later if it stands still.
    pub(crate) fn within(&mut self, process: ProcessId, delay: Micros, task: impl FnOnce(&mut Self) + 'static) {
        self.after(delay, move |world| world.run_in(process, Box::new(task)));
    }

    fn run_in(&mut self, id: ProcessId, task: Task) {
        let Some(process) = self.processes.get_mut(id) else { return };
        if process.paused {
            process.waiting.push_back(task);
        } else if process.alive {
            task(self);
        }
    }

    /// How long something takes on its way: mostly short, now and then long.
    pub(crate) fn latency(&mut self) -> Micros {
        match self.random.below(64) {
            0 if !self.calm => self.random.between(20_000, 600_000),
            0..8 => self.random.between(1_000, 20_000),
            _ => self.random.between(50, 1_000),
        }
    }

    /// Sends over one connection: in order, never lost while both ends live.
    pub(crate) fn link(&mut self, from: ProcessId, to: ProcessId, task: impl FnOnce(&mut Self) + 'static) {
        let due = self.now + self.latency();
        let last = self.links.entry((from, to)).or_default();
        *last = due.max(*last);
        let delay = *last - self.now;
        self.within(to, delay, task);
    }

    /// Sends a core message: in order between two, lost now and then; whether it is on its way.
    pub(crate) fn core(&mut self, from: ProcessId, to: ProcessId, task: impl FnOnce(&mut Self) + 'static) -> bool {
        if self.lost() {
            return false;
        }
        self.link(from, to, task);
        true
    }

    /// Whether a message is lost now.
    pub(crate) fn lost(&mut self) -> bool {
        !self.calm && self.random.one_in(self.scene.loss)
    }

    pub(crate) fn start(&mut self, name: String) -> ProcessId {
        self.processes.push(Process { name, alive: true, paused: false, waiting: VecDeque::new() });
        self.processes.len() - 1
    }

    pub(crate) fn lives(&self, process: ProcessId) -> bool {
        self.processes.get(process).is_some_and(|process| process.alive)
    }

    pub(crate) fn name(&self, process: ProcessId) -> String {
        self.processes.get(process).map_or_else(String::new, |process| process.name.clone())
    }

    /// Ends a process at once, as kill -9 does.
    pub(crate) fn kill(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get_mut(id) {
            process.alive = false;
            process.paused = false;
            process.waiting.clear();
        }
    }

    pub(crate) fn pause(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get_mut(id) {
            process.paused = process.alive;
        }
    }

    pub(crate) fn resume(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(id) else { return };
        process.paused = false;
        // What waited is taken in its order, before anything that comes now.
        for task in std::mem::take(&mut process.waiting) {
            self.run_in(id, task);
        }
    }

    /// Writes what was sent to the store when it had seen `cuts` power cuts.
    pub(crate) fn store_write(&mut self, cuts: u64, write: Rc<Write>) {
        if cuts == self.store.cuts {
            self.store.write(write);
        }
        if let Some((chat, seq)) = self.store.differing.pop() {
            self.fault(format!("N3: two different rows were written for seq {seq} of chat {chat}"));
        }
    }

    /// From now on the partition has to stop.
    pub(crate) const fn must_halt(&mut self) {
        self.expects_halt = true;
    }

    /// Runs what is due until this time, or until nothing is.
    pub(crate) fn run_until(&mut self, until: Micros) {
        while let Some(due) = self.queue.peek()
            && due.at <= until
        {
            let Some(due) = self.queue.pop() else { return };
            self.now = due.at;
            self.happened += 1;
            (due.task)(self);
            if self.halted.is_some() {
                return;
            }
        }
        self.now = self.now.max(until);
    }
}
