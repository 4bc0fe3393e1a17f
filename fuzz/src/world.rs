//! The node under a host of virtual time, with a disk that never fails and one client.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dohle_broker::Node;
use dohle_broker::host::{ConnectionId, Effect, Input};
use dohle_types::{Now, Timestamp};

use crate::disk::Disk;
use crate::seeds::CONFIG;

/// A node and all that is around it.
pub struct World {
    /// The node.
    pub node: Node,
    /// Its disk.
    pub disk: Disk,
    now: Now,
    connection: u64,
    open: bool,
    /// Correlation ids of requests in the order in which they were sent on this connection.
    asked: VecDeque<i32>,
    next_correlation: i32,
    ready: bool,
    stopped: Option<Option<String>>,
}

/// Ticks that the node may ask for in a row at one point in time.
const TICKS_AT_ONCE_MAX: u32 = 100;

impl World {
    /// A node that boots from this disk.
    #[must_use]
    pub fn boot(disk: Disk) -> Self {
        let mut world = Self {
            node: Node::new(CONFIG.clone(), 1 << 30, 7),
            disk,
            now: Now { instant: Duration::from_secs(1), wall: Timestamp(1_800_000_000_000) },
            connection: 0,
            open: false,
            asked: VecDeque::new(),
            next_correlation: 0,
            ready: false,
            stopped: None,
        };
        world.give(Input::Boot);
        world
    }

    /// Whether it serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.ready && self.stopped.is_none()
    }

    /// Why the node stopped, where it did.
    #[must_use]
    pub fn stopped(&self) -> Option<&Option<String>> {
        self.stopped.as_ref()
    }

    /// Sends a request with this body and a right header.
    pub fn request(&mut self, key: i16, version: i16, header_is_flexible: bool, body: &[u8]) {
        let mut frame = Vec::with_capacity(body.len() + 16);
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&self.next_correlation.to_be_bytes());
        frame.extend_from_slice(b"\0\x04fuzz");
        if header_is_flexible {
            frame.push(0);
        }
        frame.extend_from_slice(body);
        self.frame(frame.into());
    }

    /// Sends a frame, on a new connection where the last one was closed.
    pub fn frame(&mut self, frame: Bytes) {
        if !self.open {
            self.connection += 1;
            self.open = true;
            self.asked.clear();
            let connection = ConnectionId(self.connection);
            self.give(Input::Opened {
                connection,
                client_host: "10.0.0.2".to_owned(),
                local: ("10.0.0.1".to_owned(), 9092),
            });
        }
        if let Some(correlation) = frame.get(4..8) {
            self.asked.push_back(i32::from_be_bytes(correlation.try_into().unwrap()));
        }
        self.next_correlation += 1;
        self.give(Input::Received { connection: ConnectionId(self.connection), frame });
    }

    /// The client goes away.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.give(Input::Closed { connection: ConnectionId(self.connection) });
        }
    }

    /// The operator ends the node.
    pub fn stop(&mut self) {
        self.give(Input::Stop);
    }

    /// Time passes, and the node is woken when it wants to be.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        let mut at_once = 0;
        while let Some(due) = self.node.next_timeout().filter(|due| *due <= end && self.stopped.is_none()) {
            at_once = if due > self.now.instant { 0 } else { at_once + 1 };
            assert!(at_once < TICKS_AT_ONCE_MAX, "the node asks to be woken again and again");
            self.set_time(due.max(self.now.instant));
            self.give(Input::Tick);
        }
        self.set_time(end);
    }

    fn set_time(&mut self, instant: Duration) {
        self.now.wall = self.now.wall.plus(instant.saturating_sub(self.now.instant));
        self.now.instant = instant;
    }

    fn give(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.node.handle(self.now, input, &mut effects);
            for effect in effects {
                self.carry_out(effect, &mut inputs);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Send { connection, frame } => {
                assert!(self.open && connection.0 == self.connection, "an answer to nobody");
                let bytes = frame.into_bytes();
                let (length, rest) = bytes.split_first_chunk::<4>().expect("a frame has a length");
                assert_eq!(usize::try_from(i32::from_be_bytes(*length)), Ok(rest.len()));
                let correlation = i32::from_be_bytes(rest[..4].try_into().unwrap());
                // Requests of acks=0 have no answer: those before this one's are never answered any more.
                let asked = self.asked.iter().position(|asked| *asked == correlation);
                let position = asked.expect("answers come once, in the order of the requests");
                self.asked.drain(..=position);
                inputs.push_back(Input::Sent { bytes: bytes.len() });
            }
            Effect::Close { connection } => {
                assert!(self.open && connection.0 == self.connection, "a connection is closed once");
                self.open = false;
                inputs.push_back(Input::Closed { connection });
            }
            // Nobody asks for metrics here.
            Effect::Pause { .. }
            | Effect::Resume { .. }
            | Effect::UseJournal { .. }
            | Effect::Scraped { .. } => {}
            Effect::Disk(op) => self.disk.apply(op),
            Effect::Written { partition, end } => inputs.push_back(Input::Written { partition, end }),
            Effect::Sync { partition, work, .. } => {
                inputs.push_back(Input::Flushed { partition, point: work.point });
            }
            Effect::Start { token, mut job, in_background: _ } => {
                inputs.push_back(Input::JobDone { token, output: self.disk.run(&mut job) });
            }
            Effect::Ready => self.ready = true,
            Effect::Stopped { error } => self.stopped = Some(error),
        }
    }
}
