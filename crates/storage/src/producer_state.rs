//! What the log knows of its idempotent and transactional producers (Kafka's `ProducerStateManager`,
//! `ProducerStateEntry` and `ProducerAppendInfo`; KIP-98, KIP-360).
//!
//! A producer numbers its records per partition. The log keeps the last few batches of each, so that one sent
//! twice is answered with the offset it already has, and one that skips ahead is refused. For transactions it
//! keeps where the open one of each producer began, from which follows the last stable offset.
//!
//! As in Kafka since KIP-360 a producer that the log does not know (any more) may begin with any sequence;
//! UNKNOWN_PRODUCER_ID is never answered.
//!
//! Differs from Kafka: their number is bounded, by log and over all logs of a node (`dohle.producers.max`), so that a
//! client that takes a new producer id for every batch cannot fill the memory within `producer.id.expiration.ms`.

use std::collections::{BTreeMap, VecDeque};

use dohle_records::BatchHeader;
use dohle_types::{FastMap, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Batches per producer that a repeated send is recognised by: the most that a client has in flight.
const BATCHES_KEPT: usize = 5;
/// Producers that a log knows at most. Beyond that it forgets those that have been silent for longest.
const PRODUCERS_MAX: usize = 100_000;

/// A batch that a producer appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The sequence of its last record.
    pub last_sequence: Sequence,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its last offset less its first.
    pub offset_delta: i32,
    /// Its greatest timestamp.
    pub timestamp: Timestamp,
}

impl ProducerBatch {
    /// The sequence of its first record.
    #[must_use]
    pub const fn first_sequence(&self) -> Sequence {
        let first = self.last_sequence.0.wrapping_sub(self.offset_delta);
        // Sequences wrap from the greatest to 0, so that one below 0 lies before the wrap.
        Sequence(if first < 0 && self.last_sequence.0 >= 0 { first.wrapping_sub(i32::MIN) } else { first })
    }

    /// The offset of its first record.
    #[must_use]
    pub const fn first_offset(&self) -> Offset {
        self.last_offset.plus(-(self.offset_delta as i64))
    }
}

/// What the log knows of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the transaction coordinator that wrote its last marker, -1 where there was none.
    pub coordinator_epoch: i32,
    /// The timestamp of its last append.
    pub last_timestamp: Timestamp,
    /// Where its open transaction began.
    pub transaction_start: Option<Offset>,
    /// Its last batches in its present epoch, oldest first, at most five.
    batches: VecDeque<ProducerBatch>,
}

impl ProducerState {
    /// A state as a snapshot file has it.
    #[must_use]
    pub fn new(
        epoch: ProducerEpoch,
        coordinator_epoch: i32,
        last_timestamp: Timestamp,
        transaction_start: Option<Offset>,
        last_batch: Option<ProducerBatch>,
    ) -> Self {
        let batches = last_batch.into_iter().collect();
        Self { epoch, coordinator_epoch, last_timestamp, transaction_start, batches }
    }

    fn unknown() -> Self {
        Self::new(ProducerEpoch::NONE, -1, Timestamp::NONE, None, None)
    }

    /// The batches before the last one, as far as they are remembered.
    pub(crate) fn earlier_batches(&self) -> impl Iterator<Item = &ProducerBatch> {
        self.batches.iter().take(self.batches.len().saturating_sub(1))
    }

    /// Becomes what `later`, a later state of the same producer, says, and remembers the batches of both.
    pub(crate) fn succeed_by(&mut self, later: Self) {
        let mut batches =
            if later.epoch == self.epoch { std::mem::take(&mut self.batches) } else { VecDeque::new() };
        batches.extend(&later.batches);
        batches.drain(..batches.len().saturating_sub(BATCHES_KEPT));
        *self = Self { batches, ..later };
    }

    /// The last batch of its present epoch.
    #[must_use]
    pub fn last_batch(&self) -> Option<&ProducerBatch> {
        self.batches.back()
    }

    fn last_sequence(&self) -> Sequence {
        self.last_batch().map_or(Sequence(-1), |batch| batch.last_sequence)
    }

    fn duplicate_of(&self, batch: &BatchHeader) -> Option<&ProducerBatch> {
        if batch.producer_epoch != self.epoch {
            return None;
        }
        self.batches.iter().find(|known| {
            known.first_sequence() == batch.base_sequence && known.last_sequence == batch.last_sequence()
        })
    }

    fn adopt_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }

    fn push(&mut self, batch: ProducerBatch) {
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
        self.last_timestamp = batch.timestamp;
    }
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A newer instance of the producer has written already.
    #[error(
        "producer {producer_id} sent epoch {epoch}, but epoch {current} has written: another instance took over"
    )]
    InvalidProducerEpoch {
        /// Who.
        producer_id: ProducerId,
        /// The epoch it sent.
        epoch: ProducerEpoch,
        /// The epoch the log knows.
        current: ProducerEpoch,
    },
    /// Records before these are missing.
    #[error("producer {producer_id} sent sequence {sequence} after {last}: batches in between are missing")]
    OutOfOrderSequence {
        /// Who.
        producer_id: ProducerId,
        /// The first sequence it sent.
        sequence: Sequence,
        /// The last sequence the log has, -1 for none in this epoch.
        last: Sequence,
    },
    /// A batch outside of a transaction while one is open.
    #[error("producer {producer_id} sent a batch outside of its open transaction")]
    InvalidTransactionState {
        /// Who.
        producer_id: ProducerId,
    },
    /// A marker from a transaction coordinator that was superseded.
    #[error("a marker for producer {producer_id} has coordinator epoch {epoch}, but {current} is known")]
    CoordinatorFenced {
        /// Whose transaction.
        producer_id: ProducerId,
        /// The epoch in the marker.
        epoch: i32,
        /// The epoch the log knows.
        current: i32,
    },
}

/// How far a producer's batch is checked before it is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceCheck {
    /// All checks, for what clients send.
    Full,
    /// The epoch alone, for what coordinators write on behalf of a producer.
    EpochOnly,
    /// None: the batch is in the log, or in its leader's.
    None,
}

/// What the check of a batch comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It may be appended.
    New,
    /// It is in the log already.
    Duplicate(ProducerBatch),
}

/// What the check of a marker comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerCheck {
    /// It may be appended.
    New,
    /// It, or one that says the same, is in the log already, with this time.
    Repeated { written_at: Timestamp },
}

/// A transaction that its marker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedTxn {
    /// Its first record.
    pub(crate) first_offset: Offset,
    /// Where the first of the transactions began that are open still.
    pub(crate) first_open: Option<Offset>,
}

/// A producer, and how long ago it was heard of.
#[derive(Debug)]
struct Known {
    state: ProducerState,
    /// The offset of its last batch or marker, as far as that is known: unlike its timestamps no client can choose it.
    heard_at: Offset,
}

impl Known {
    fn is_idle(&self) -> bool {
        self.state.transaction_start.is_none()
    }
}

/// All producers of a log.
#[derive(Debug, Default)]
pub(crate) struct ProducerStates {
    producers: FastMap<ProducerId, Known>,
    /// First offsets of open transactions.
    open: BTreeMap<Offset, ProducerId>,
    /// Transactions that ended, but whose marker the high watermark may not have passed: the marker's offset,
    /// ascending, and the first offset.
    decided: VecDeque<(Offset, Offset)>,
}

impl ProducerStates {
    pub(crate) fn from_snapshot(states: impl IntoIterator<Item = (ProducerId, ProducerState)>) -> Self {
        let mut all = Self::default();
        for (producer_id, state) in states {
            if let Some(start) = state.transaction_start {
                all.open.insert(start, producer_id);
            }
            let heard_at = state.last_batch().map_or(Offset(-1), |batch| batch.last_offset);
            all.producers.insert(producer_id, Known { state, heard_at });
        }
        all
    }

    /// Judges a batch that is about to be appended. Its base offset does not matter yet.
    pub(crate) fn check(&self, batch: &BatchHeader, check: SequenceCheck) -> Result<Checked, ProducerError> {
        let producer_id = batch.producer_id;
        if !batch.has_producer_id() || check == SequenceCheck::None {
            return Ok(Checked::New);
        }
        let Some(known) = self.state(producer_id) else { return Ok(Checked::New) };
        let is_data = !batch.attributes.is_control();
        if check == SequenceCheck::Full
            && let Some(duplicate) = known.duplicate_of(batch)
        {
            return Ok(Checked::Duplicate(*duplicate));
        }
        if batch.producer_epoch < known.epoch {
            let (epoch, current) = (batch.producer_epoch, known.epoch);
            return Err(ProducerError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if is_data && check == SequenceCheck::Full && known.epoch != ProducerEpoch::NONE {
            let last = if batch.producer_epoch == known.epoch { known.last_sequence() } else { Sequence(-1) };
            if batch.base_sequence != last.plus(1) {
                let sequence = batch.base_sequence;
                return Err(ProducerError::OutOfOrderSequence { producer_id, sequence, last });
            }
        }
        if is_data && known.transaction_start.is_some() && !batch.attributes.is_transactional() {
            return Err(ProducerError::InvalidTransactionState { producer_id });
        }
        Ok(Checked::New)
    }

    /// Judges a transaction marker that is about to be appended.
    pub(crate) fn check_marker(
        &self,
        batch: &BatchHeader,
        coordinator_epoch: i32,
        is_v2: bool,
    ) -> Result<MarkerCheck, ProducerError> {
        let producer_id = batch.producer_id;
        let Some(known) = self.state(producer_id) else { return Ok(MarkerCheck::New) };
        if coordinator_epoch < known.coordinator_epoch {
            let (epoch, current) = (coordinator_epoch, known.coordinator_epoch);
            return Err(ProducerError::CoordinatorFenced { producer_id, epoch, current });
        }
        // What the producer writes after a marker of transactions v2 has the marker's epoch: one that comes late must
        // not end that.
        match (is_v2 && batch.producer_epoch == known.epoch, known.transaction_start) {
            (false, _) => Ok(MarkerCheck::New),
            (true, None) => Ok(MarkerCheck::Repeated { written_at: known.last_timestamp }),
            (true, Some(_)) => Err(ProducerError::InvalidProducerEpoch {
                producer_id,
                epoch: batch.producer_epoch,
                current: known.epoch,
            }),
        }
    }

    /// Whether a producer has a transaction open, in this epoch.
    pub(crate) fn has_open_transaction(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        let known = self.state(producer_id);
        known.is_some_and(|known| known.transaction_start.is_some() && known.epoch == epoch)
    }

    /// Takes note of a data batch that was appended.
    pub(crate) fn note_data(&mut self, batch: &BatchHeader) {
        if !batch.has_producer_id() {
            return;
        }
        let state = self.heard_of(batch);
        state.adopt_epoch(batch.producer_epoch);
        state.push(ProducerBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
        if batch.attributes.is_transactional() && state.transaction_start.is_none() {
            state.transaction_start = Some(batch.base_offset);
            self.open.insert(batch.base_offset, batch.producer_id);
        }
    }

    /// Takes note of a transaction marker that was appended: it ends the producer's open transaction, if there is
    /// one.
    pub(crate) fn note_marker(&mut self, batch: &BatchHeader, coordinator_epoch: i32) -> Option<EndedTxn> {
        let state = self.heard_of(batch);
        state.adopt_epoch(batch.producer_epoch);
        state.coordinator_epoch = coordinator_epoch;
        state.last_timestamp = batch.max_timestamp;
        let first_offset = state.transaction_start.take()?;
        self.open.remove(&first_offset);
        self.decided.push_back((batch.base_offset, first_offset));
        let first_open = self.open.first_key_value().map(|(&start, _)| start);
        Some(EndedTxn { first_offset, first_open })
    }

    /// The first offset that belongs to a transaction which is open, or whose end is not below
    /// `high_watermark`.
    pub(crate) fn first_unstable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(&start, _)| start);
        let decided = self.decided.iter().rev().take_while(|(marker, _)| *marker >= high_watermark);
        open.into_iter().chain(decided.map(|&(_, start)| start)).min()
    }

    /// The open transaction that began first: whose it is, and what is known of the producer.
    pub(crate) fn oldest_open(&self) -> Option<(ProducerId, &ProducerState)> {
        let (_, &producer_id) = self.open.first_key_value()?;
        Some((producer_id, self.state(producer_id)?))
    }

    /// Forgets ended transactions whose marker is below `high_watermark`: they are committed.
    pub(crate) fn forget_decided(&mut self, high_watermark: Offset) {
        let committed = self.decided.partition_point(|&(marker, _)| marker < high_watermark);
        self.decided.drain(..committed);
    }

    /// Forgets producers that have written nothing for `expiration_ms` and have no open transaction.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, known| {
            !known.is_idle() || now.0.saturating_sub(known.state.last_timestamp.0) < expiration_ms
        });
    }

    /// Forgets what producers have sent, but for the transactions that are open.
    pub(crate) fn forget_batches(&mut self) {
        self.decided.clear();
        self.producers.retain(|_, known| {
            known.state.batches.clear();
            !known.is_idle()
        });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// Forgets producers without an open transaction, those first of which nothing was heard for longest, until `left`
    /// remain. How many it has forgotten.
    pub(crate) fn forget_silent(&mut self, left: usize) -> usize {
        let excess = self.len().saturating_sub(left);
        let idle = self.producers.iter().filter(|(_, known)| known.is_idle());
        let mut idle: Vec<_> = idle.map(|(&producer_id, known)| (known.heard_at, producer_id)).collect();
        idle.sort_unstable();
        idle.truncate(excess);
        for (_, producer_id) in &idle {
            self.producers.remove(producer_id);
        }
        idle.len()
    }

    fn state(&self, producer_id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&producer_id).map(|known| &known.state)
    }

    /// What is known of the producer of a batch; where that is nothing, room is made for it.
    fn heard_of(&mut self, batch: &BatchHeader) -> &mut ProducerState {
        let producer_id = batch.producer_id;
        if self.len() >= PRODUCERS_MAX && !self.producers.contains_key(&producer_id) {
            self.forget_silent(PRODUCERS_MAX / 10 * 9);
        }
        let unknown = || Known { state: ProducerState::unknown(), heard_at: batch.base_offset };
        let known = self.producers.entry(producer_id).or_insert_with(unknown);
        known.heard_at = batch.base_offset;
        &mut known.state
    }

    /// All producers, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        let mut all: Vec<_> =
            self.producers.iter().map(|(&producer_id, known)| (producer_id, &known.state)).collect();
        all.sort_unstable_by_key(|&(producer_id, _)| producer_id);
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use dohle_records::Attributes;
    use dohle_types::LeaderEpoch;

    use super::*;

    fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base_offset),
            batch_length: 100,
            partition_leader_epoch: LeaderEpoch(0),
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: count - 1,
            base_timestamp: Timestamp(1000),
            max_timestamp: Timestamp(1000 + base_offset),
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(base_sequence),
            record_count: count,
        }
    }

    fn transactional(mut header: BatchHeader) -> BatchHeader {
        header.attributes = header.attributes.with_transactional(true);
        header
    }

    fn marker(epoch: i16, offset: i64) -> BatchHeader {
        let mut header = transactional(batch(epoch, -1, 1, offset));
        header.attributes = header.attributes.with_control(true);
        header
    }

    /// Sequences 0..60 in six batches of ten at offsets 100..160, epoch 3.
    fn six_batches() -> ProducerStates {
        let mut states = ProducerStates::default();
        for index in 0..6 {
            states.note_data(&batch(3, index * 10, 10, 100 + i64::from(index) * 10));
        }
        states
    }

    #[test]
    fn sequences_and_epochs_are_judged_as_kafka_judges_them() {
        let states = six_batches();
        let check = |header: BatchHeader, expected: &str| {
            let outcome = match states.check(&header, SequenceCheck::Full) {
                Ok(Checked::New) => "new".to_owned(),
                Ok(Checked::Duplicate(batch)) => format!("duplicate at {}", batch.first_offset()),
                Err(ProducerError::InvalidProducerEpoch { .. }) => "fenced".to_owned(),
                Err(ProducerError::OutOfOrderSequence { last, .. }) => format!("out of order after {last}"),
                Err(other) => format!("{other}"),
            };
            assert_eq!(outcome, expected, "{header:?}");
        };
        check(batch(3, 60, 5, 0), "new");
        check(batch(3, 61, 5, 0), "out of order after 59");
        check(batch(3, 50, 10, 0), "duplicate at 150");
        check(batch(3, 10, 10, 0), "duplicate at 110");
        check(batch(3, 0, 10, 0), "out of order after 59");
        check(batch(3, 50, 9, 0), "out of order after 59");
        check(batch(2, 60, 5, 0), "fenced");
        check(batch(4, 0, 5, 0), "new");
        check(batch(4, 60, 5, 0), "out of order after -1");
        let mut unknown = batch(0, 1234, 5, 0);
        unknown.producer_id = ProducerId(8);
        check(unknown, "new");
    }

    #[test]
    fn sequences_wrap_from_the_greatest_to_zero() {
        let mut states = ProducerStates::default();
        let across = batch(0, i32::MAX - 4, 10, 0);
        states.note_data(&across);
        let duplicate = states.check(&across, SequenceCheck::Full).expect("known");
        assert!(
            matches!(duplicate, Checked::Duplicate(batch) if batch.first_sequence() == Sequence(i32::MAX - 4))
        );
        assert_eq!(states.check(&batch(0, 5, 1, 10), SequenceCheck::Full), Ok(Checked::New));
        let mut states = ProducerStates::default();
        states.note_data(&batch(0, i32::MAX, 1, 0));
        assert_eq!(states.check(&batch(0, 0, 1, 1), SequenceCheck::Full), Ok(Checked::New));
    }

    #[test]
    fn coordinators_are_held_to_the_epoch_alone_and_replicas_to_nothing() {
        let states = six_batches();
        assert_eq!(states.check(&batch(3, -1, 1, 0), SequenceCheck::EpochOnly), Ok(Checked::New));
        assert!(states.check(&batch(2, -1, 1, 0), SequenceCheck::EpochOnly).is_err());
        assert_eq!(states.check(&batch(2, 9, 1, 0), SequenceCheck::None), Ok(Checked::New));
    }

    #[test]
    fn the_last_stable_offset_waits_for_the_marker_to_be_committed() {
        let mut states = ProducerStates::default();
        states.note_data(&transactional(batch(0, 0, 10, 100)));
        states.note_data(&transactional(batch(0, 10, 10, 110)));
        assert_eq!(states.first_unstable_offset(Offset(120)), Some(Offset(100)));
        let outside = states.check(&batch(0, 20, 1, 0), SequenceCheck::Full);
        assert_eq!(outside, Err(ProducerError::InvalidTransactionState { producer_id: ProducerId(7) }));
        states.note_marker(&marker(0, 120), 5);
        assert_eq!(states.first_unstable_offset(Offset(120)), Some(Offset(100)));
        assert_eq!(states.first_unstable_offset(Offset(121)), None);
        states.forget_decided(Offset(121));
        assert_eq!(states.first_unstable_offset(Offset(120)), None);
        assert_eq!(states.check(&batch(0, 20, 1, 0), SequenceCheck::Full), Ok(Checked::New));
        assert!(states.check_marker(&marker(0, 130), 4, false).is_err());
        assert_eq!(states.check_marker(&marker(0, 130), 5, false), Ok(MarkerCheck::New));
        // A marker of a higher epoch starts the sequences anew.
        states.note_marker(&marker(1, 121), 5);
        assert_eq!(states.check(&batch(1, 0, 1, 0), SequenceCheck::Full), Ok(Checked::New));
        assert!(states.check(&batch(1, 20, 1, 0), SequenceCheck::Full).is_err());
    }

    #[test]
    fn a_marker_of_transactions_v2_ends_only_what_has_a_lower_epoch() {
        let mut states = ProducerStates::default();
        assert_eq!(
            states.check_marker(&marker(1, 0), 5, true),
            Ok(MarkerCheck::New),
            "nothing is known of it"
        );
        states.note_data(&transactional(batch(0, 0, 10, 100)));
        let fenced =
            |states: &ProducerStates, epoch| states.check_marker(&marker(epoch, 110), 5, true).is_err();
        assert!(fenced(&states, 0), "it is not greater");
        assert_eq!(
            states.check_marker(&marker(0, 110), 5, false),
            Ok(MarkerCheck::New),
            "before v2 it need not be"
        );
        assert_eq!(states.check_marker(&marker(1, 110), 5, true), Ok(MarkerCheck::New));
        states.note_marker(&marker(1, 110), 5);
        // The answer was lost, and the coordinator sends it again; another one may do so after a restart.
        let repeated = Ok(MarkerCheck::Repeated { written_at: Timestamp(1110) });
        assert_eq!(states.check_marker(&marker(1, 111), 5, true), repeated);
        assert_eq!(states.check_marker(&marker(1, 111), 6, true), repeated);
        assert!(states.check_marker(&marker(1, 111), 4, true).is_err());
        // By then the producer may have begun its next transaction.
        states.note_data(&transactional(batch(1, 0, 10, 111)));
        assert!(fenced(&states, 1), "it would end the next one");
        assert_eq!(states.check_marker(&marker(2, 121), 5, true), Ok(MarkerCheck::New));
    }

    #[test]
    fn the_most_silent_producers_are_forgotten_when_there_are_too_many() {
        let mut states = ProducerStates::default();
        for id in 0..=i64::try_from(PRODUCERS_MAX).expect("small") {
            let mut header = batch(0, 0, 1, id);
            header.producer_id = ProducerId(id);
            states.note_data(&if id == 5 { transactional(header) } else { header });
        }
        let known: Vec<i64> = states.iter().map(|(id, _)| id.0).collect();
        assert_eq!(known.len(), PRODUCERS_MAX / 10 * 9 + 1);
        assert_eq!(known[..3], [5, 10_001, 10_002], "the one with an open transaction stays");
    }

    #[test]
    fn who_is_silent_is_told_by_the_log_and_not_by_timestamps_that_clients_choose() {
        let mut states = ProducerStates::default();
        for (id, timestamp, offset) in
            [(1, i64::MAX, 0), (2, 5, 10), (3, 4, 20), (1, i64::MAX, 30), (4, 3, 40)]
        {
            let mut header = batch(0, 0, 1, offset);
            (header.producer_id, header.max_timestamp) = (ProducerId(id), Timestamp(timestamp));
            states.note_data(&header);
        }
        let mut left = |left| {
            let forgotten = states.forget_silent(left);
            (forgotten, states.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        };
        assert_eq!(left(4), (0, vec![1, 2, 3, 4]));
        assert_eq!(left(2), (2, vec![1, 4]));
        assert_eq!(left(1), (1, vec![4]));
    }

    #[test]
    fn producers_expire_unless_a_transaction_is_open() {
        let mut states = six_batches();
        let mut other = transactional(batch(0, 0, 1, 200));
        other.producer_id = ProducerId(9);
        states.note_data(&other);
        states.expire(Timestamp(1150 + 99), 100);
        assert_eq!(states.iter().count(), 2);
        states.expire(Timestamp(9_999_999), 100);
        assert_eq!(states.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ProducerId(9)]);
    }
}
