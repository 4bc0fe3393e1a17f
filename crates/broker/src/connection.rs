//! What the node knows of one connection: who it is, and which responses it still waits for.
//!
//! Requests of a connection are pipelined: each gets a [`Slot`] when it arrives, may be answered at any
//! time, and its response leaves when those of all earlier requests have left.

use std::collections::VecDeque;

use bytes::Bytes;
use dohle_protocol::{ApiKey, Frame};
use dohle_types::Str;
use dohle_types::time::Instant;

use crate::host::ConnectionId;

/// Requests of one connection that may wait for their answers at the same time. A client that pipelines
/// more is not read from until half of them are answered (Kafka reads one request at a time).
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Bytes of unanswered requests, and of answers that wait for an earlier one, beyond which a client is not read from
/// until half of them are gone: parked requests and finished answers are memory.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// The place of a request in its connection's order.
pub type Slot = u64;

/// A request that has been received and must be answered once, with [`crate::Node::reply`] or by leaving its
/// slot empty.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it came from.
    pub connection: ConnectionId,
    /// Its place in that connection's order.
    pub slot: Slot,
    /// What it asks for.
    pub key: ApiKey,
    /// In which version.
    pub version: i16,
    /// The client's number for it.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Str,
    /// Its place in the table of APIs.
    pub api: usize,
    /// When it came.
    pub received: Instant,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The client's address without its port.
    pub client_host: Str,
    /// The address and port the client called.
    pub local: (Str, u16),
    /// Requests that wait for logs to be opened, in their order.
    pub waiting: VecDeque<(Call, Bytes)>,
    first_slot: Slot,
    responses: VecDeque<Response>,
    held_bytes: usize,
    paused: bool,
}

#[derive(Debug)]
enum Response {
    /// To a request of so many bytes.
    Awaited(usize),
    Ready(Frame),
    /// The request wants no answer (acks=0).
    Silent,
}

/// What a connection's reading should do after a change.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Flow {
    /// Nothing changes.
    Unchanged,
    /// Too many requests wait: stop reading.
    Pause,
    /// Enough of them were answered: read again.
    Resume,
}

impl Connection {
    /// A connection without requests.
    #[must_use]
    pub fn new(client_host: Str, local: (Str, u16)) -> Self {
        Self {
            client_host,
            local,
            waiting: VecDeque::new(),
            first_slot: 0,
            responses: VecDeque::new(),
            held_bytes: 0,
            paused: false,
        }
    }

    /// Gives a request of this size its place.
    pub fn begin(&mut self, request_bytes: usize) -> (Slot, Flow) {
        self.responses.push_back(Response::Awaited(request_bytes));
        self.held_bytes += request_bytes;
        let is_enough = self.responses.len() >= REQUESTS_IN_FLIGHT_MAX || self.held_bytes >= HELD_BYTES_MAX;
        let flow = if !self.paused && is_enough {
            self.paused = true;
            Flow::Pause
        } else {
            Flow::Unchanged
        };
        (self.first_slot + self.responses.len() as u64 - 1, flow)
    }

    /// Fills `slot`, with `None` where the request wants no answer, and hands all responses whose turn has
    /// come to `send`. The size of the request, which is not held any more, and what reading should do.
    pub fn complete(
        &mut self,
        slot: Slot,
        frame: Option<Frame>,
        mut send: impl FnMut(Frame),
    ) -> (usize, Flow) {
        let index = slot.checked_sub(self.first_slot).and_then(|index| usize::try_from(index).ok());
        let response = index.and_then(|index| self.responses.get_mut(index));
        let Some(response) = response else { unreachable!("a request is answered once") };
        let Response::Awaited(request_bytes) = *response else { unreachable!("a request is answered once") };
        self.held_bytes -= request_bytes;
        self.held_bytes += frame.as_ref().map_or(0, Frame::len);
        *response = frame.map_or(Response::Silent, Response::Ready);
        while let Some(front) = self.responses.pop_front() {
            match front {
                Response::Awaited(_) => {
                    self.responses.push_front(front);
                    break;
                }
                Response::Ready(frame) => {
                    self.held_bytes -= frame.len();
                    send(frame);
                }
                Response::Silent => {}
            }
            self.first_slot += 1;
        }
        let is_little =
            self.responses.len() <= REQUESTS_IN_FLIGHT_MAX / 2 && self.held_bytes <= HELD_BYTES_MAX / 2;
        let flow = if self.paused && is_little {
            self.paused = false;
            Flow::Resume
        } else {
            Flow::Unchanged
        };
        (request_bytes, flow)
    }

    /// How many of its requests are not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unanswered().count()
    }

    /// The sizes of its requests that are not answered.
    pub fn unanswered(&self) -> impl Iterator<Item = usize> {
        self.responses.iter().filter_map(|response| match response {
            Response::Awaited(bytes) => Some(*bytes),
            Response::Ready(_) | Response::Silent => None,
        })
    }

    /// Bytes of the answers that wait for an earlier one.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        let bytes = |response: &Response| match response {
            Response::Ready(frame) => frame.len(),
            Response::Awaited(_) | Response::Silent => 0,
        };
        self.responses.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use dohle_protocol::Writer;

    use super::*;

    fn connection() -> Connection {
        Connection::new(Str::from("10.0.0.1"), (Str::from("10.0.0.2"), 9092))
    }

    fn complete(connection: &mut Connection, slot: Slot, sent: &mut Vec<usize>) -> Flow {
        let mut writer = Writer::new();
        (0..=slot).for_each(|_| writer.bool(true));
        connection.complete(slot, Some(writer.finish().unwrap()), |frame| sent.push(frame.len())).1
    }

    #[test]
    fn responses_leave_in_the_order_of_their_requests() {
        let mut connection = connection();
        for slot in 0..4 {
            assert_eq!(connection.begin(10), (slot, Flow::Unchanged));
        }
        let mut sent = Vec::new();
        complete(&mut connection, 2, &mut sent);
        complete(&mut connection, 1, &mut sent);
        assert!(sent.is_empty());
        // The first wants no answer, and the two that waited for it follow.
        connection.complete(0, None, |frame| sent.push(frame.len()));
        assert_eq!(sent, [2, 3]);
    }

    #[test]
    fn a_client_that_pipelines_too_much_is_not_read_from_until_half_is_answered() {
        let mut connection = connection();
        for slot in 0..REQUESTS_IN_FLIGHT_MAX as u64 {
            let last = slot + 1 == REQUESTS_IN_FLIGHT_MAX as u64;
            assert_eq!(connection.begin(10), (slot, if last { Flow::Pause } else { Flow::Unchanged }));
        }
        let mut sent = Vec::new();
        let half = REQUESTS_IN_FLIGHT_MAX as u64 / 2;
        for slot in 0..half {
            let expected = if slot + 1 == half { Flow::Resume } else { Flow::Unchanged };
            assert_eq!(complete(&mut connection, slot, &mut sent), expected);
        }
    }

    #[test]
    fn a_client_is_not_read_from_while_much_is_held_for_it() {
        let mut connection = connection();
        let mut sent = Vec::new();
        assert_eq!(connection.begin(10), (0, Flow::Unchanged));
        assert_eq!(connection.begin(HELD_BYTES_MAX), (1, Flow::Pause));
        // The answer of the second waits for the first.
        assert_eq!(complete(&mut connection, 1, &mut sent), Flow::Resume);
        assert!(sent.is_empty());
        assert_eq!((connection.unanswered().collect::<Vec<_>>(), connection.unsent_bytes()), (vec![10], 2));
        assert_eq!(connection.begin(HELD_BYTES_MAX), (2, Flow::Pause));
        assert_eq!(complete(&mut connection, 0, &mut sent), Flow::Unchanged);
        assert_eq!(complete(&mut connection, 2, &mut sent), Flow::Resume);
        assert_eq!((sent.len(), connection.held_bytes), (3, 0));
    }
}
