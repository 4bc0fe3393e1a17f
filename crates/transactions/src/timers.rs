//! Transactions that are open for too long, markers that are to be written again, and transactional ids that nobody
//! uses any more.

use std::time::Duration;

use dohle_types::time::Instant;
use dohle_types::{Now, Str};

use crate::effects::Progress;
use crate::state::Status;
use crate::{TransactionLedger, Turn, records};

impl TransactionLedger {
    /// When to call [`Self::on_timeout`]: at the next deadline, or before it. May be now.
    ///
    /// Differs from Kafka: a transaction is aborted at its timeout, and not up to
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms` later.
    #[must_use]
    pub fn next_timeout(&self, now: Now) -> Option<Instant> {
        let deadline = self.state.next_deadline().map(|(deadline, _)| {
            let left_ms = deadline.0.saturating_sub(now.wall.0);
            now.after(Duration::from_millis(u64::try_from(left_ms).unwrap_or_default()))
        });
        deadline.into_iter().chain(self.retries.first().map(|&(at, _)| at)).min()
    }

    /// Does what is due by now, as far as one batch goes.
    pub fn on_timeout(&mut self, turn: &mut Turn<'_>) -> Progress {
        self.retry_markers(turn.now, turn);
        let mut bytes_left = self.config.batch_bytes_max;
        let mut batch: Vec<Str> = Vec::new();
        let mut progress = Progress::Done;
        for (_, transactional_id) in self.state.due(turn.now.wall) {
            let Some(present) = self.state.transaction(transactional_id) else { continue };
            // In memory it takes up more than its record does.
            let bytes = present.bytes(transactional_id);
            if !batch.is_empty() && bytes > bytes_left {
                progress = Progress::More;
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            batch.push(transactional_id.clone());
        }
        for transactional_id in &batch {
            if let Some(present) = self.state.transaction(transactional_id).cloned() {
                self.fence(transactional_id, &present, turn);
                self.stats.timed_out += 1;
            }
        }
        progress
    }

    /// Forgets transactional ids that were not used for `transactional.id.expiration.ms`, as far as one batch goes. To
    /// be called every `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub fn expire(&mut self, turn: &mut Turn<'_>) -> Progress {
        let mut bytes_left = self.config.batch_bytes_max;
        for (transactional_id, transaction) in self.state.transactions() {
            let is_unused = match transaction.status {
                Status::Empty | Status::Complete(_) => {
                    turn.now.wall >= transaction.updated.plus(self.config.transactional_id_expiration)
                }
                Status::Ongoing | Status::Prepare(_) => false,
            };
            if !is_unused {
                continue;
            }
            let tombstone = records::tombstone(transactional_id);
            match bytes_left.checked_sub(tombstone.size()) {
                Some(left) => bytes_left = left,
                None if turn.effects.records.is_empty() => bytes_left = 0,
                None => return Progress::More,
            }
            self.bumps.remove(transactional_id);
            turn.effects.records.push(tombstone);
        }
        Progress::Done
    }
}
