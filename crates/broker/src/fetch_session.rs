//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a client fetches and what it
//! last told about each, so that a request names only changes and a response only news.

use std::collections::BTreeMap;

use dohle_protocol::messages::FetchRequest;
use dohle_protocol::messages::fetch_request::FetchPartition;
use dohle_types::{ErrorCode, FastMap, Rng, Str, TopicId};

/// A partition as a fetch request names it: by id from version 13 on, by name before.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FetchKey {
    /// Zero where the topic is named.
    pub topic_id: TopicId,
    /// Empty where the topic is given by id.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
}

/// What a client wants of a partition and what it was last told of it.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Which partition.
    pub key: FetchKey,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The most bytes wanted.
    pub max_bytes: i32,
    /// The leader epoch the client believes in, -1 where it does not say.
    pub current_leader_epoch: i32,
    /// The epoch of the last record the client has (KIP-595), -1 where it does not say.
    pub last_fetched_epoch: i32,
    told: Option<Told>,
}

/// What the last response said of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Its high watermark.
    pub high_watermark: i64,
    /// Its first offset.
    pub log_start_offset: i64,
}

impl FetchedPartition {
    fn new(key: FetchKey, wanted: &FetchPartition) -> Self {
        let mut partition = Self {
            key,
            fetch_offset: 0,
            max_bytes: 0,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            told: None,
        };
        partition.update(wanted);
        partition
    }

    fn update(&mut self, wanted: &FetchPartition) {
        self.fetch_offset = wanted.fetch_offset;
        self.max_bytes = wanted.partition_max_bytes;
        self.current_leader_epoch = wanted.current_leader_epoch;
        self.last_fetched_epoch = wanted.last_fetched_epoch;
    }
}

/// Where a fetch finds its partitions.
#[derive(Clone, Debug)]
pub enum FetchContext {
    /// The request named all of them; the response names all of them.
    Full {
        /// In the order of the request.
        partitions: Vec<FetchedPartition>,
        /// The session that was opened for them, 0 where there is none.
        session_id: i32,
    },
    /// The session knows them; the response names those with news.
    Incremental {
        /// The session.
        session_id: i32,
    },
}

/// A session of one client.
#[derive(Debug)]
struct Session {
    /// The epoch the next request must carry; wraps from `i32::MAX` to 1.
    next_epoch: i32,
    /// The partitions in the order in which they are served: those that gave data go to the end, so that no
    /// busy partition starves the others.
    by_turn: BTreeMap<u64, FetchedPartition>,
    turn_of: BTreeMap<FetchKey, u64>,
    next_turn: u64,
    last_used: u64,
}

impl Session {
    fn insert(&mut self, partition: FetchedPartition) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turn_of.insert(partition.key.clone(), turn);
        self.by_turn.insert(turn, partition);
    }

    fn remove(&mut self, key: &FetchKey) -> Option<FetchedPartition> {
        let turn = self.turn_of.remove(key)?;
        self.by_turn.remove(&turn)
    }
}

/// All sessions of a node, at most `max.incremental.fetch.session.cache.slots`, and no more than their share of the
/// memory has room for; the one unused for longest makes room.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: FastMap<i32, Session>,
    by_use: BTreeMap<u64, i32>,
    next_use: u64,
    slots: usize,
    /// Partitions of all sessions, and the most that they may be.
    partitions: usize,
    partitions_max: usize,
}

/// What a partition takes in a session: its entries in both maps, and the maps' own share.
const PARTITION_BYTES: usize = 256;

impl FetchSessions {
    /// No sessions yet, and room for `slots` in so many bytes.
    #[must_use]
    pub fn new(slots: usize, bytes_max: usize) -> Self {
        Self {
            sessions: FastMap::default(),
            by_use: BTreeMap::new(),
            next_use: 0,
            slots,
            partitions: 0,
            partitions_max: bytes_max / PARTITION_BYTES,
        }
    }

    /// Bytes that they take, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.partitions * PARTITION_BYTES
    }

    /// Finds, opens, changes or closes the session that `request` speaks of.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND` and `INVALID_FETCH_SESSION_EPOCH`: the client opens a new one.
    pub fn begin(&mut self, rng: &mut Rng, request: &FetchRequest) -> Result<FetchContext, ErrorCode> {
        const FINAL_EPOCH: i32 = -1;
        const INITIAL_EPOCH: i32 = 0;
        let session_id = request.session_id;
        match request.session_epoch {
            FINAL_EPOCH => {
                self.close(session_id);
                Ok(FetchContext::Full { partitions: wanted(request).collect(), session_id: 0 })
            }
            INITIAL_EPOCH => {
                self.close(session_id);
                let partitions: Vec<_> = wanted(request).collect();
                let session_id = self.open(rng, &partitions);
                Ok(FetchContext::Full { partitions, session_id })
            }
            epoch => {
                self.continue_session(session_id, epoch, request)?;
                Ok(FetchContext::Incremental { session_id })
            }
        }
    }

    /// The partitions of an open session, in the order in which they are to be served; none where it was
    /// closed meanwhile.
    pub fn partitions(&self, session_id: i32) -> impl Iterator<Item = &FetchedPartition> {
        self.sessions.get(&session_id).into_iter().flat_map(|session| session.by_turn.values())
    }

    /// Whether what would be said of a partition differs from what was last said of it.
    #[must_use]
    pub fn is_news(&self, session_id: i32, key: &FetchKey, now: Told) -> bool {
        let known = self.sessions.get(&session_id).and_then(|session| {
            let turn = session.turn_of.get(key)?;
            session.by_turn.get(turn)?.told
        });
        known != Some(now)
    }

    /// Remembers what a response says of a partition, and sends one that gave data to the end of the row.
    pub fn tell(&mut self, session_id: i32, key: &FetchKey, told: Told, gave_data: bool) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if gave_data {
            if let Some(mut partition) = session.remove(key) {
                partition.told = Some(told);
                session.insert(partition);
            }
        } else if let Some(partition) =
            session.turn_of.get(key).and_then(|turn| session.by_turn.get_mut(turn))
        {
            partition.told = Some(told);
        }
    }

    /// Forgets what was said of a partition, so that the next response names it again (after an error).
    pub fn forget_told(&mut self, session_id: i32, key: &FetchKey) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if let Some(partition) = session.turn_of.get(key).and_then(|turn| session.by_turn.get_mut(turn)) {
            partition.told = None;
        }
    }

    /// Sessions that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn open(&mut self, rng: &mut Rng, partitions: &[FetchedPartition]) -> i32 {
        if self.slots == 0 || partitions.is_empty() {
            return 0;
        }
        // One that would displace most of the others is served without a session.
        if partitions.len() > self.partitions_max / 2 {
            return 0;
        }
        while self.sessions.len() >= self.slots || self.partitions + partitions.len() > self.partitions_max {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            self.close(oldest);
        }
        let session_id = loop {
            let candidate = i32::try_from(rng.below(i32::MAX as u64 - 1) + 1).unwrap_or(1);
            if !self.sessions.contains_key(&candidate) {
                break candidate;
            }
        };
        let mut session = Session {
            next_epoch: 1,
            by_turn: BTreeMap::new(),
            turn_of: BTreeMap::new(),
            next_turn: 0,
            last_used: self.next_use,
        };
        partitions.iter().for_each(|partition| {
            session.remove(&partition.key);
            session.insert(partition.clone());
        });
        self.partitions += session.by_turn.len();
        self.by_use.insert(self.next_use, session_id);
        self.next_use += 1;
        self.sessions.insert(session_id, session);
        session_id
    }

    fn close(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.by_use.remove(&session.last_used);
            self.partitions -= session.by_turn.len();
        }
    }

    fn continue_session(
        &mut self,
        session_id: i32,
        epoch: i32,
        request: &FetchRequest,
    ) -> Result<(), ErrorCode> {
        let session = self.sessions.get_mut(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        self.by_use.remove(&session.last_used);
        session.last_used = self.next_use;
        self.by_use.insert(self.next_use, session_id);
        self.next_use += 1;

        for topic in &request.forgotten_topics_data {
            for &partition in &topic.partitions {
                let key =
                    FetchKey { topic_id: TopicId(topic.topic_id), topic: topic.topic.clone(), partition };
                self.partitions -= usize::from(session.remove(&key).is_some());
            }
        }
        for topic in &request.topics {
            for wanted in &topic.partitions {
                let key = FetchKey {
                    topic_id: TopicId(topic.topic_id),
                    topic: topic.topic.clone(),
                    partition: wanted.partition,
                };
                let has_room =
                    self.partitions < self.partitions_max && session.by_turn.len() < self.partitions_max / 2;
                let known = session.turn_of.get(&key).and_then(|turn| session.by_turn.get_mut(turn));
                match known {
                    Some(partition) => partition.update(wanted),
                    None if has_room => {
                        session.insert(FetchedPartition::new(key, wanted));
                        self.partitions += 1;
                    }
                    None => return Err(ErrorCode::FetchSessionIdNotFound),
                }
            }
        }
        Ok(())
    }
}

fn wanted(request: &FetchRequest) -> impl Iterator<Item = FetchedPartition> + '_ {
    request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| {
            let key = FetchKey {
                topic_id: TopicId(topic.topic_id),
                topic: topic.topic.clone(),
                partition: wanted.partition,
            };
            FetchedPartition::new(key, wanted)
        })
    })
}

#[cfg(test)]
mod tests {
    use dohle_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};

    use super::*;

    fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            ..FetchPartition::default()
        });
        let topic =
            FetchTopic { topic: Str::from("t"), partitions: partitions.collect(), ..FetchTopic::default() };
        FetchRequest { session_id, session_epoch, topics: vec![topic], ..FetchRequest::default() }
    }

    fn served(sessions: &FetchSessions, id: i32) -> Vec<(i32, i64)> {
        sessions.partitions(id).map(|p| (p.key.partition, p.fetch_offset)).collect()
    }

    fn open(sessions: &mut FetchSessions, partitions: &[(i32, i64)]) -> i32 {
        let mut rng = Rng::from_seed(sessions.next_use);
        match sessions.begin(&mut rng, &request(0, 0, partitions)) {
            Ok(FetchContext::Full { session_id, .. }) => session_id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_remembers_changes_and_forgets_what_it_is_told_to() {
        let mut sessions = FetchSessions::new(10, 1 << 20);
        let mut rng = Rng::from_seed(1);
        let id = open(&mut sessions, &[(0, 0), (1, 0)]);
        let mut next = request(id, 1, &[(1, 7), (2, 3)]);
        next.forgotten_topics_data =
            vec![ForgottenTopic { topic: Str::from("t"), partitions: vec![0], ..ForgottenTopic::default() }];
        sessions.begin(&mut rng, &next).unwrap();
        assert_eq!(served(&sessions, id), [(1, 7), (2, 3)]);
        assert_eq!(
            sessions.begin(&mut rng, &request(id, 1, &[])).unwrap_err(),
            ErrorCode::InvalidFetchSessionEpoch
        );
        sessions.begin(&mut rng, &request(id, -1, &[])).unwrap();
        assert_eq!(
            sessions.begin(&mut rng, &request(id, 2, &[])).unwrap_err(),
            ErrorCode::FetchSessionIdNotFound
        );
    }

    #[test]
    fn a_partition_that_gave_data_waits_for_its_next_turn_and_only_news_is_told() {
        let mut sessions = FetchSessions::new(10, 1 << 20);
        let id = open(&mut sessions, &[(0, 0), (1, 0)]);
        let key = sessions.partitions(id).next().unwrap().key.clone();
        let told = Told { high_watermark: 5, log_start_offset: 0 };
        assert!(sessions.is_news(id, &key, told));
        sessions.tell(id, &key, told, true);
        assert_eq!(served(&sessions, id), [(1, 0), (0, 0)]);
        assert!(!sessions.is_news(id, &key, told));
        assert!(sessions.is_news(id, &key, Told { high_watermark: 6, ..told }));
    }

    #[test]
    fn the_session_unused_for_longest_makes_room() {
        let mut sessions = FetchSessions::new(2, 1 << 20);
        let mut rng = Rng::from_seed(1);
        let first = open(&mut sessions, &[(0, 0)]);
        let second = open(&mut sessions, &[(0, 0)]);
        sessions.begin(&mut rng, &request(first, 1, &[])).unwrap();
        let third = open(&mut sessions, &[(0, 0)]);
        assert_eq!(sessions.len(), 2);
        assert!(sessions.begin(&mut rng, &request(second, 1, &[])).is_err());
        assert!(sessions.begin(&mut rng, &request(first, 2, &[])).is_ok());
        assert!(sessions.begin(&mut rng, &request(third, 1, &[])).is_ok());
    }

    #[test]
    fn sessions_make_room_for_each_other_in_their_share_of_the_memory() {
        let mut sessions = FetchSessions::new(100, 10 * PARTITION_BYTES);
        let mut rng = Rng::from_seed(1);
        let partitions = |count: i32| (0..count).map(|partition| (partition, 0)).collect::<Vec<_>>();
        assert_eq!(open(&mut sessions, &partitions(6)), 0, "more than half of it is for none");
        let [first, second, third] = [4, 4, 3].map(|count| open(&mut sessions, &partitions(count)));
        assert_eq!((sessions.len(), sessions.bytes()), (2, 7 * PARTITION_BYTES));
        assert!(sessions.begin(&mut rng, &request(first, 1, &[])).is_err());
        sessions.begin(&mut rng, &request(third, 1, &[(7, 0), (8, 0)])).unwrap();
        assert!(sessions.begin(&mut rng, &request(third, 2, &[(9, 0)])).is_err(), "it has become too large");
        let mut forgetful = request(second, 1, &[]);
        forgetful.forgotten_topics_data = vec![ForgottenTopic {
            topic: Str::from("t"),
            partitions: vec![0, 1, 77],
            ..ForgottenTopic::default()
        }];
        sessions.begin(&mut rng, &forgetful).unwrap();
        assert_eq!(sessions.bytes(), 7 * PARTITION_BYTES);
        for id in [second, third] {
            sessions.begin(&mut rng, &request(id, -1, &[])).unwrap();
        }
        assert_eq!(sessions.bytes(), 0);
    }
}
