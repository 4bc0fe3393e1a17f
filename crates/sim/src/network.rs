//! The network: connections as streams of bytes, each in order, with delays, stalls and breaks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dohle_broker::host::ConnectionId;
use dohle_client::Peer;
use dohle_types::Rng;
use dohle_types::time::Instant;

use crate::plan::NetworkPlan;

/// Who holds one end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The node.
    Node,
    /// A client.
    Client,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    /// Whose it is.
    pub client: usize,
    /// What that client calls it.
    pub peer: Peer,
    /// Whether the node has it.
    pub node_open: bool,
    /// Whether the client has it.
    pub client_open: bool,
    /// Nothing under way arrives any more.
    pub cut: bool,
    /// The node does not read from it.
    pub paused: bool,
    /// What the node received and has not taken.
    pub node_buffer: BytesMut,
    /// What the client received and is not a whole frame.
    pub client_buffer: BytesMut,
    /// When what was last sent to the node arrives.
    node_arrival: Instant,
    client_arrival: Instant,
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    plan: NetworkPlan,
    rng: Rng,
    links: BTreeMap<ConnectionId, Link>,
    next: u64,
    /// Whether nothing goes wrong any more.
    pub healed: bool,
    stalled_until: Instant,
}

/// What becomes of bytes that are sent.
#[derive(Debug)]
pub enum Transit {
    /// They arrive, in pieces.
    Arrives(Vec<(Instant, Bytes)>),
    /// The connection breaks under them; each end notices at its time.
    Breaks {
        /// When the node notices.
        node: Instant,
        /// When the client does.
        client: Instant,
    },
}

impl Network {
    /// A network without connections.
    #[must_use]
    pub const fn new(plan: NetworkPlan, rng: Rng) -> Self {
        Self { plan, rng, links: BTreeMap::new(), next: 1, healed: false, stalled_until: Duration::ZERO }
    }

    /// A client wants a connection.
    pub fn connect(&mut self, client: usize, peer: Peer) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        let link = Link {
            client,
            peer,
            node_open: false,
            client_open: true,
            cut: false,
            paused: false,
            node_buffer: BytesMut::new(),
            client_buffer: BytesMut::new(),
            node_arrival: Duration::ZERO,
            client_arrival: Duration::ZERO,
        };
        self.links.insert(id, link);
        id
    }

    /// A connection, unless both ends have forgotten it.
    pub fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// The connections that the node has.
    pub fn of_node(&self) -> Vec<ConnectionId> {
        self.links.iter().filter(|(_, link)| link.node_open).map(|(&id, _)| id).collect()
    }

    /// The connections that a client has.
    pub fn of_client(&self, client: usize) -> Vec<ConnectionId> {
        let of_client = self.links.iter().filter(|(_, link)| link.client == client && link.client_open);
        of_client.map(|(&id, _)| id).collect()
    }

    /// Forgets a connection that neither end has.
    pub fn forget_closed(&mut self, id: ConnectionId) {
        if self.links.get(&id).is_some_and(|link| !link.node_open && !link.client_open) {
            self.links.remove(&id);
        }
    }

    /// Nothing arrives before this time.
    pub fn stall(&mut self, until: Instant) {
        self.stalled_until = until;
    }

    /// When something that is sent now, and is no part of a stream, arrives.
    pub fn arrival(&mut self, now: Instant) -> Instant {
        let delay = self.delay();
        (now + delay).max(if self.healed { Duration::ZERO } else { self.stalled_until })
    }

    /// When something that is sent to an end of a connection now arrives, behind everything before it.
    pub fn arrival_at(&mut self, now: Instant, id: ConnectionId, to: End) -> Instant {
        let drawn = self.arrival(now);
        let Some(link) = self.links.get_mut(&id) else { return drawn };
        let last = match to {
            End::Node => &mut link.node_arrival,
            End::Client => &mut link.client_arrival,
        };
        *last = drawn.max(*last);
        *last
    }

    /// Sends bytes to one end of a connection.
    pub fn send(&mut self, now: Instant, id: ConnectionId, to: End, mut bytes: Bytes) -> Transit {
        if !self.healed && self.rng.chance(self.plan.breaks, 10_000) {
            let notices = |rng: &mut Rng| match rng.below(3) {
                0 => now + Duration::from_millis(rng.below(10_000)),
                _ => now + Duration::from_millis(rng.below(50)),
            };
            return Transit::Breaks { node: notices(&mut self.rng), client: notices(&mut self.rng) };
        }
        let mut pieces = Vec::new();
        while bytes.len() > 1 && self.rng.chance(self.plan.pieces, 100) {
            let length = 1 + usize::try_from(self.rng.below(bytes.len() as u64 - 1)).unwrap_or(0);
            let piece = bytes.split_to(length);
            pieces.push((self.arrival_at(now, id, to), piece));
        }
        pieces.push((self.arrival_at(now, id, to), bytes));
        Transit::Arrives(pieces)
    }

    fn delay(&mut self) -> Duration {
        let quanta = 1 + self.rng.below(self.plan.delay_max);
        let usual = self.plan.quantum * u32::try_from(quanta).unwrap_or(1);
        if self.healed || !self.rng.chance(self.plan.stalls, 10_000) {
            return usual;
        }
        usual + self.plan.stall_max.mul_f64(self.rng.below(1000) as f64 / 1000.0)
    }
}
