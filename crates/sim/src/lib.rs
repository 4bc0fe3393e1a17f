//! The imagined world: the node of `dohle-broker` under a host of virtual time, with faults from one seed.
//!
//! What it is not: it knows nothing of the node's insides. It hands inputs in, carries effects out, and looks at
//! what crosses that border; its clients are the machines of `dohle-client` and go through the real codec.
//!
//! Input: a seed. Output: a [`Report`]. A seed decides everything: the configs, the topics, what clients do, how
//! long things take, what breaks when ([`plan`]). First there are faults: the process is killed or the power goes
//! at any moment, in the middle of a write too; what was not synced is lost in part; syncs are slow or fail, as reads
//! and writes do; bits flip; connections stall and break; clients are killed. Then all heals, and everything that was begun has to end.
//! Then the node ends once more, and what is left is read and checked.
//!
//! What must hold:
//! 1. `dohle-checker` finds no anomaly in what the clients did and saw.
//! 2. Each invariant in `invariants/` holds at every step.
//! 3. Once all is healed, whatever was begun ends within some minutes of virtual time.
//! 4. The same seed gives the same trace.
//! 5. Over a set of seeds, every [`Mark`] is reached.
//!
//! A seed that failed is run again, with the story of its last events, by
//! `cargo run -p dohle-sim --example soak -- --seed 42`; long runs are
//! `cargo run --release -p dohle-sim --example soak -- --seeds 10000`. The test runs `DOHLE_SIM_SEEDS` seeds from
//! `DOHLE_SIM_FIRST_SEED` on.
//!
//! Start reading at [`run`], then `world.rs`, then `process.rs`.

#![expect(clippy::indexing_slicing, reason = "a simulation that contradicts itself should stop at once")]

pub mod clients;
mod commits;
mod flips;
pub mod invariants;
pub mod marks;
pub mod network;
pub mod plan;
mod process;
pub mod trace;
mod world;

use std::fmt;

pub use marks::{Mark, Marks};
use trace::Trace;
use world::World;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of everything that happened.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How often the node was started.
    pub lives: u32,
    /// How many records were acknowledged.
    pub acknowledged: usize,
    /// What was reached.
    pub marks: Marks,
    /// What is wrong.
    pub failures: Vec<String>,
    /// The plan and the last events, where [`replay`] ran it.
    pub story: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} failed:", self.seed)?;
        for failure in &self.failures {
            writeln!(f, "  {failure}")?;
        }
        write!(f, "to see it again: cargo run -p dohle-sim --example soak -- --seed {}", self.seed)
    }
}

/// Runs the world of a seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64) -> Report {
    finish(seed, World::new(seed, Trace::default()))
}

/// As [`run`], with the plan and the last events as text.
#[must_use]
pub fn replay(seed: u64) -> Report {
    let world = World::new(seed, Trace::readable());
    let plan = format!("{:#?}", world.plan);
    let mut report = finish(seed, world);
    report.story.insert(0, plan);
    report
}

/// As [`run`], on a disk whose syncs do nothing: a simulator that finds nothing wrong there finds nothing.
#[must_use]
pub fn run_on_lying_disk(seed: u64) -> Report {
    let mut world = World::new(seed, Trace::default());
    world.disk.lies = true;
    finish(seed, world)
}

fn finish(seed: u64, mut world: World) -> Report {
    world.run();
    let mut failures = world.invariants.violations().to_vec();
    failures.append(&mut world.shared.violations);
    // What was cut short has no last look to check.
    if failures.is_empty() {
        failures.extend(world.shared.history.check().iter().map(ToString::to_string));
    }
    Report {
        seed,
        trace_hash: world.trace.hash(),
        events: world.trace.events(),
        lives: world.life,
        acknowledged: world.shared.history.acknowledged(),
        marks: world.shared.marks,
        failures,
        story: world.trace.lines(),
    }
}
