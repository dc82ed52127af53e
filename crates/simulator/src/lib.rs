//! Runs the real state machines over a model broker and store, seed by seed.
//!
//! One seed is one run: a few users, chats and devices, some commands, some faults, then quiet; single-threaded, with no
//! clock but its own, so that a seed always means the same. The machines of all roles and of the client are the real
//! ones; their shells, the broker and the store are models, which lose, repeat, delay, stop, crash, evict and trim.
//!
//! ```text
//! scene ▶ faults ▶ devices ▶ gateways ▶ broker or handing ▶ owners ▶ store ▶ projectors
//!                     ▲         ▲─────────────── deliverers ◀───────┘
//!                     └ record ▶ checker ◀ judge
//! ```

mod broker;
mod deliverers;
mod devices;
mod faults;
mod gateways;
mod handing;
mod imports;
mod judge;
mod owners;
mod projectors;
mod random;
mod record;
mod scene;
mod store;
mod sweep;
mod switches;
mod truth;
mod world;

pub use sweep::{Sweep, sweep};
pub use switches::Switches;

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong; nothing of a good run.
    pub faults: Vec<String>,
    /// The steps in plain words, where asked for.
    pub steps: Vec<String>,
    /// Tasks run.
    pub happened: u64,
    /// Entries published.
    pub entries: u64,
    /// The partition stopped, as it must after a lost tail.
    pub halted: bool,
}

/// Runs one seed. A machine that panics is a fault of the seed.
pub fn run(seed: u64, switches: Switches, verbose: bool) -> Outcome {
    let mut world = world::World::new(seed, switches, verbose);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        faults::start(&mut world);
        faults::plan(&mut world);
        let until = world.scene.active;
        world.run_until(until);
        if world.scene.lone {
            faults::lone_message(&mut world);
        }
        judge::finish(&mut world);
    }));
    if let Err(panic) = ended {
        let texts = (panic.downcast_ref::<String>().cloned(), panic.downcast_ref::<&str>());
        let text = texts.0.or_else(|| texts.1.map(|text| (*text).to_owned())).unwrap_or_default();
        world.fault(format!("a machine panics: {text}"));
    }
    let entries = world.truth.chats().map(|(_, entries)| entries.len() as u64).sum();
    Outcome {
        seed,
        steps: world.take_steps(),
        happened: world.happened,
        entries,
        halted: world.halted.is_some(),
        faults: world.faults,
    }
}
