//! The clients: the machines of `dohle-client`, and what their owners do with them.

mod admin;
mod churner;
mod forker;
mod member;
mod producer;
mod reader;

use std::collections::BTreeMap;

use dohle_checker::History;
use dohle_client::{Effects, Endpoint, Input};
use dohle_types::time::Instant;
use dohle_types::{Now, Offset, Rng, Str, TopicId, TopicPartition};

pub use admin::{OffsetReader, TopicCreator};
pub use churner::{Churner, Promises};
pub(crate) use forker::FORK;
pub use forker::Forker;
pub use member::Member;
pub use producer::Sender;
pub use reader::{Reader, Record};

use crate::marks::Marks;

/// Where all clients begin.
#[must_use]
pub fn bootstrap() -> Vec<Endpoint> {
    vec![Endpoint::new("broker.sim", 9092)]
}

/// What the owners of clients share.
#[derive(Debug)]
pub struct Shared {
    /// What they did and saw.
    pub history: History,
    /// What was reached.
    pub marks: Marks,
    /// Draws what they do.
    pub rng: Rng,
    /// What no client should ever be told.
    pub violations: Vec<String>,
    /// Whether nothing new is begun any more.
    pub quiet: bool,
    /// Where the partitions end, once they do not grow any more.
    pub ends: BTreeMap<TopicPartition, Offset>,
    /// What groups have committed, and were told so.
    pub committed: BTreeMap<(Str, TopicPartition), Offset>,
    /// Where logs began when they were last opened, by directory: of one of which nothing was durable, a power loss
    /// may take the first segment and leave the next.
    pub beginnings: BTreeMap<String, Offset>,
    /// Names of topics, by id.
    pub topic_names: BTreeMap<TopicId, Str>,
    next_reader: u32,
}

impl Shared {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self {
            history: History::default(),
            marks: Marks::default(),
            rng,
            violations: Vec::new(),
            quiet: false,
            ends: BTreeMap::new(),
            committed: BTreeMap::new(),
            beginnings: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            next_reader: 0,
        }
    }

    /// A number for something that reads or writes from now on.
    pub const fn next_id(&mut self) -> u32 {
        self.next_reader += 1;
        self.next_reader
    }
}

/// A client with its owner.
pub trait Actor {
    /// Takes in what happened, does what is to be done, and says what the host is to do.
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects);

    /// When it wants to be called if nothing happens before.
    fn next_timeout(&self) -> Option<Instant>;

    /// What it still waits for; `None` where everything it has to do is done.
    fn waits_for(&self, shared: &Shared) -> Option<String>;
}
