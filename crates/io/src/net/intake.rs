//! Which requests may be received, so that all connections together keep to the memory that there is for requests.
//!
//! While there is plenty, everything is read as it comes. When the largest request would not fit any more, or many small
//! ones are unanswered, a connection is read from only as far as it is known what for:
//!
//! - A large request is admitted as a whole, before its first byte is read: what is admitted can always be finished.
//!   Those for which there is no room stand in line, where clients' addresses take turns, and all that is being received
//!   from one address is no more than half of what there is: one address with many connections that send nothing more
//!   does not keep out another.
//! - A small request is read when all of it has come; until then the kernel keeps it. Whoever sends half of one takes
//!   nothing from the others.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use dohle_broker::memory::{Budget, Share};

/// The connections that may not be read from for want of memory.
#[derive(Debug)]
pub struct Intake {
    /// The largest request there may be.
    request_bytes_max: usize,
    /// Large requests that wait, by the clients' addresses.
    large: BTreeMap<IpAddr, VecDeque<Waiting>>,
    /// The addresses in the order of their turns.
    turns: VecDeque<IpAddr>,
    /// Bytes of large requests that are admitted and not received as a whole, by address.
    arriving: BTreeMap<IpAddr, usize>,
    /// Connections with a small request that has come and that there was no room for.
    small: VecDeque<u64>,
}

#[derive(Debug)]
struct Waiting {
    stream: u64,
    bytes: usize,
}

impl Intake {
    /// Nobody waits. All requests have at most so many bytes.
    #[must_use]
    pub const fn new(request_bytes_max: usize) -> Self {
        Self {
            request_bytes_max,
            large: BTreeMap::new(),
            turns: VecDeque::new(),
            arriving: BTreeMap::new(),
            small: VecDeque::new(),
        }
    }

    /// Whether connections may be read from without asking what comes.
    #[must_use]
    pub fn is_open(&self, memory: &Budget) -> bool {
        self.turns.is_empty()
            && self.small.is_empty()
            && memory.room(Share::LargeRequests) >= self.request_bytes_max
            && memory.used(Share::SmallRequests) <= memory.limit(Share::SmallRequests) / 4
    }

    /// Takes the memory for a request of which not all has come. If there is none, it waits for its turn.
    pub fn admit(&mut self, memory: &mut Budget, stream: u64, peer: IpAddr, bytes: usize) -> bool {
        let share = Share::of_request(bytes);
        // Of a small one there are bytes already, which were read while there was plenty.
        if share == Share::SmallRequests {
            memory.take(share, bytes);
            return true;
        }
        let fits = self.turns.is_empty() && bytes <= memory.room(share) && self.has_part(memory, peer, bytes);
        if fits {
            self.take(memory, peer, bytes);
            return true;
        }
        memory.note_shortage(share);
        let of_peer = self.large.entry(peer).or_default();
        if of_peer.is_empty() {
            self.turns.push_back(peer);
        }
        of_peer.push_back(Waiting { stream, bytes });
        false
    }

    /// Whether there is room for a small request that has come as a whole. If not, its connection waits.
    pub fn lets_in_small(&mut self, memory: &mut Budget, stream: u64, bytes: usize) -> bool {
        let fits = bytes <= memory.room(Share::SmallRequests);
        if !fits {
            memory.note_shortage(Share::SmallRequests);
            self.small.push_back(stream);
        }
        fits
    }

    /// The connection whose turn it is with a large request, and the request's bytes, which are taken for it.
    pub fn next_large(&mut self, memory: &mut Budget) -> Option<(u64, usize)> {
        // Addresses that have their part already are passed over. But nobody passes one that only waits for room, or a
        // very large request would never get it.
        let may_take = |&peer: &IpAddr| {
            let first = self.large.get(&peer)?.front()?;
            self.has_part(memory, peer, first.bytes).then_some((peer, first.bytes))
        };
        let (place, (peer, bytes)) =
            self.turns.iter().enumerate().find_map(|(place, peer)| Some((place, may_take(peer)?)))?;
        if bytes > memory.room(Share::LargeRequests) {
            return None;
        }
        let of_peer = self.large.get_mut(&peer)?;
        let first = of_peer.pop_front()?;
        self.turns.remove(place);
        if of_peer.is_empty() {
            self.large.remove(&peer);
        } else {
            self.turns.push_back(peer);
        }
        self.take(memory, peer, bytes);
        Some((first.stream, bytes))
    }

    /// A request for which memory was taken is received as a whole, or never will be.
    pub fn give_back(&mut self, memory: &mut Budget, peer: IpAddr, bytes: usize) {
        let share = Share::of_request(bytes);
        memory.give_back(share, bytes);
        if share == Share::LargeRequests
            && let Some(arriving) = self.arriving.get_mut(&peer)
        {
            *arriving -= bytes;
            if *arriving == 0 {
                self.arriving.remove(&peer);
            }
        }
    }

    /// Whether so much more is within what one address may have; one request it always may.
    fn has_part(&self, memory: &Budget, peer: IpAddr, bytes: usize) -> bool {
        let arriving = self.arriving.get(&peer).copied().unwrap_or_default();
        arriving == 0 || arriving + bytes <= memory.limit(Share::LargeRequests) / 2
    }

    fn take(&mut self, memory: &mut Budget, peer: IpAddr, bytes: usize) {
        memory.take(Share::LargeRequests, bytes);
        *self.arriving.entry(peer).or_default() += bytes;
    }

    /// A connection that may look again whether there is room for its small request.
    pub fn next_small(&mut self, memory: &Budget) -> Option<u64> {
        let has_room = memory.used(Share::SmallRequests) <= memory.limit(Share::SmallRequests) / 2;
        if has_room { self.small.pop_front() } else { None }
    }

    /// How many connections wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.small.len() + self.large.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether a large request waits.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        !self.turns.is_empty()
    }

    /// A connection is gone.
    pub fn leave(&mut self, stream: u64, peer: IpAddr) {
        self.small.retain(|&waiting| waiting != stream);
        if let Some(of_peer) = self.large.get_mut(&peer) {
            of_peer.retain(|waiting| waiting.stream != stream);
            if of_peer.is_empty() {
                self.large.remove(&peer);
                self.turns.retain(|&other| other != peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dohle_broker::memory::LARGE_REQUEST_MIN;
    use dohle_configs::BrokerConfig;
    use dohle_types::Rng;

    use super::*;

    const LARGEST: usize = 100_000;

    /// 4 MiB for large requests, 2 MiB for small ones.
    fn memory() -> Budget {
        let settings = ["dohle.memory.max=16777216".to_owned()];
        Budget::new(&BrokerConfig::parse("", &settings).unwrap().0, 0)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn while_there_is_plenty_nobody_is_asked() {
        let (mut memory, mut intake) = (memory(), Intake::new(LARGEST));
        assert!(intake.is_open(&memory));
        let limit = memory.limit(Share::LargeRequests);
        memory.take(Share::LargeRequests, limit - LARGEST);
        assert!(intake.is_open(&memory));
        memory.take(Share::LargeRequests, 1);
        assert!(!intake.is_open(&memory));
        memory.give_back(Share::LargeRequests, limit - LARGEST + 1);
        memory.take(Share::SmallRequests, memory.limit(Share::SmallRequests) / 4 + 1);
        assert!(!intake.is_open(&memory));
        assert!(intake.lets_in_small(&mut memory, 1, 20_000), "one that has come is let in");
    }

    #[test]
    fn addresses_take_turns() {
        let (mut memory, mut intake) = (memory(), Intake::new(LARGEST));
        let limit = memory.limit(Share::LargeRequests);
        memory.take(Share::LargeRequests, limit);
        for stream in 1..=5 {
            assert!(!intake.admit(&mut memory, stream, address(1), LARGEST));
        }
        assert!(!intake.admit(&mut memory, 9, address(2), LARGEST));
        assert_eq!(intake.next_large(&mut memory), None);
        memory.give_back(Share::LargeRequests, limit);
        assert!(!intake.admit(&mut memory, 8, address(2), LARGEST), "nobody passes those who wait");
        let order: Vec<u64> =
            std::iter::from_fn(|| intake.next_large(&mut memory)).map(|(stream, _)| stream).collect();
        assert_eq!(order, [1, 9, 2, 8, 3, 4, 5]);
        assert!(!intake.is_waited_for());
    }

    #[test]
    fn one_address_gets_half_of_it_and_another_is_let_in_at_once() {
        let (mut memory, mut intake) = (memory(), Intake::new(LARGEST));
        let admitted =
            (0..100).filter(|&stream| intake.admit(&mut memory, stream, address(1), LARGEST)).count();
        assert_eq!(admitted, memory.limit(Share::LargeRequests) / 2 / LARGEST);
        assert!(!intake.admit(&mut memory, 200, address(2), LARGEST), "at the end of the line");
        assert_eq!(intake.next_large(&mut memory), Some((200, LARGEST)), "and yet the next");
        assert_eq!(intake.next_large(&mut memory), None);
        intake.give_back(&mut memory, address(1), LARGEST);
        assert_eq!(intake.next_large(&mut memory), Some((u64::try_from(admitted).unwrap(), LARGEST)));
    }

    #[test]
    fn who_leaves_the_line_holds_nobody_up() {
        let (mut memory, mut intake) = (memory(), Intake::new(LARGEST));
        let limit = memory.limit(Share::LargeRequests);
        memory.take(Share::LargeRequests, limit);
        for stream in 1..=3 {
            assert!(!intake.admit(&mut memory, stream, address(1), LARGEST));
        }
        intake.leave(1, address(1));
        memory.give_back(Share::LargeRequests, LARGEST);
        assert_eq!(intake.next_large(&mut memory), Some((2, LARGEST)));
        intake.leave(3, address(1));
        assert!(!intake.is_waited_for());
    }

    /// Clients send requests of all sizes, which are answered some time later.
    #[test]
    fn more_than_there_is_is_never_taken_and_everybody_gets_through() {
        const REQUESTS: u64 = 1000;
        for seed in 0..50 {
            let mut rng = Rng::from_seed(seed);
            let (mut memory, mut intake) = (memory(), Intake::new(LARGEST));
            let (mut waiting, mut unanswered, mut sent) = (BTreeMap::new(), Vec::new(), 0);
            while sent < REQUESTS || !unanswered.is_empty() {
                if sent < REQUESTS && rng.chance(2, 3) {
                    sent += 1;
                    let bytes = LARGE_REQUEST_MIN + usize::try_from(rng.below(60_000)).unwrap();
                    let peer = address(u8::try_from(rng.below(3)).unwrap());
                    if intake.admit(&mut memory, sent, peer, bytes) {
                        unanswered.push((peer, bytes));
                    } else {
                        waiting.insert(sent, peer);
                    }
                } else if !unanswered.is_empty() {
                    let index = usize::try_from(rng.below(unanswered.len() as u64)).unwrap();
                    let (peer, bytes) = unanswered.swap_remove(index);
                    intake.give_back(&mut memory, peer, bytes);
                }
                while let Some((stream, bytes)) = intake.next_large(&mut memory) {
                    unanswered.push((waiting.remove(&stream).unwrap(), bytes));
                }
                let used: usize = unanswered.iter().map(|&(_, bytes)| bytes).sum();
                assert_eq!(memory.used(Share::LargeRequests), used);
                assert!(used <= memory.limit(Share::LargeRequests), "seed {seed}");
            }
            assert!(waiting.is_empty() && !intake.is_waited_for(), "seed {seed}: stuck");
        }
    }
}
