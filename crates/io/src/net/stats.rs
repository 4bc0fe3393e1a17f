//! What is counted of connections and of the loop's rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_metrics::table::network as table;
use dohle_metrics::{Histogram, Page};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// The client closed it, or it broke.
    Peer,
    /// The node had it closed.
    Broker,
    /// It sent what is no frame.
    Frame,
    /// It was silent for too long.
    Idle,
    /// Others waited for the memory that it held.
    Stalled,
}

impl Ended {
    const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Broker => "broker",
            Self::Frame => "frame",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
        }
    }
}

/// Counts since the process was started.
#[derive(Debug, Default)]
pub struct NetworkStats {
    /// Connections that were taken.
    pub opened: u64,
    /// Connections that were not.
    pub refused: u64,
    /// Bytes of frames that were received.
    pub received_bytes: u64,
    /// Bytes of frames that the system has taken.
    pub sent_bytes: u64,
    ended: BTreeMap<Ended, u64>,
    rounds: Histogram,
}

impl NetworkStats {
    /// A connection has ended.
    pub fn note_ended(&mut self, why: Ended) {
        *self.ended.entry(why).or_default() += 1;
    }

    /// A round of the loop is over.
    pub fn note_round(&mut self, took: Duration) {
        self.rounds.note(took);
    }

    /// Writes them to a page.
    pub fn write_metrics(&self, page: &mut Page) {
        page.value(table::CONNECTIONS_OPENED, self.opened);
        page.value(table::CONNECTIONS_REFUSED, self.refused);
        let mut family = page.family(table::CONNECTIONS_CLOSED);
        self.ended.iter().for_each(|(why, &count)| family.sample(&[why.name()], count));
        page.value(table::RECEIVED_BYTES, self.received_bytes);
        page.value(table::SENT_BYTES, self.sent_bytes);
        page.family(table::LOOP_SECONDS).histogram(&[], &self.rounds);
    }
}
