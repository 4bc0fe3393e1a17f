//! TxnOffsetCommit (key 28, versions 0-5): a transaction remembers how far a group has come (KIP-98, KIP-447).
//!
//! The host gives the records of one request to the log as one batch of the producer's transaction, and replays them
//! with the producer; they count when its marker comes (`pending.rs`).
//!
//! Who names neither member nor generation is not asked for them, for clients before KIP-447 have none to tell. A member
//! may commit while its group rebalances: what it has read it has read.

use dohle_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use dohle_types::Now;

use crate::consumer::OffsetsError;
use crate::offsets_commit::{CommitError, refused};
use crate::{GroupLedger, Record};

/// The version of OffsetCommit whose rules apply to members.
const AS_VERSION: i16 = 9;

impl GroupLedger {
    /// The records of the offsets that a transaction may commit, and what became of each.
    #[must_use]
    pub fn commit_offsets_in_transaction(
        &self,
        now: Now,
        request: &OffsetCommitRequest,
    ) -> (Vec<Record>, OffsetCommitResponse) {
        if let Err(error) = self.validate_in_transaction(request) {
            return (Vec::new(), refused(request, error));
        }
        let (records, topics) = self.commit_records(now, request);
        if records.iter().map(Record::size).sum::<usize>() > self.config.batch_bytes_max {
            return (Vec::new(), refused(request, CommitError::TooLarge));
        }
        if self.state.pending.len() + records.len() > self.config.offsets_per_group_max {
            return (Vec::new(), refused(request, CommitError::TooManyPending));
        }
        (records, OffsetCommitResponse { topics, ..OffsetCommitResponse::default() })
    }

    fn validate_in_transaction(&self, request: &OffsetCommitRequest) -> Result<(), CommitError> {
        let is_anonymous = request.member_id.is_empty()
            && request.group_instance_id.is_none()
            && request.generation_id_or_member_epoch < 0;
        let is_classic = self.groups.contains_key(&request.group_id);
        if is_anonymous && is_classic {
            return Ok(());
        }
        match self.validate_commit(AS_VERSION, request) {
            Err(CommitError::RebalanceInProgress) => Ok(()),
            // Producers know of no other error for a member that is late.
            Err(CommitError::GroupIdNotFound | CommitError::Consumer(OffsetsError::StaleMemberEpoch)) => {
                Err(CommitError::IllegalGeneration)
            }
            validated => validated,
        }
    }
}
