//! What must hold at every step, as far as it can be seen at the border between the node and its host. One file
//! for each; `exchange.rs` decodes what they have in common.

mod acknowledged_is_synced;
mod below_high_watermark;
mod commits_advance;
pub(crate) mod describe;
mod exchange;
mod high_watermark_stays;
mod one_owner;
mod opens_after_crash;
mod refused_is_damaged;
mod wakes_for_work;

use bytes::Bytes;
use dohle_broker::Node;
use dohle_broker::host::{ConnectionId, JobOutput};
use dohle_broker::partition::PartitionKey;
use dohle_storage::SyncWork;
use dohle_types::Offset;
use dohle_types::time::Instant;

use crate::marks::Marks;
use exchange::{Answer, Exchanges};

/// All invariants, and what they remember.
#[derive(Debug, Default)]
pub struct Invariants {
    exchanges: Exchanges,
    acknowledged_is_synced: acknowledged_is_synced::AcknowledgedIsSynced,
    commits_advance: commits_advance::CommitsAdvance,
    high_watermark_stays: high_watermark_stays::HighWatermarkStays,
    one_owner: one_owner::OneOwner,
    refused_is_damaged: refused_is_damaged::RefusedIsDamaged,
    wakes_for_work: wakes_for_work::WakesForWork,
    violations: Vec<String>,
}

impl Invariants {
    /// The node starts anew; `durable` says whether its acknowledgements outlive power loss.
    pub fn on_start(&mut self, durable: bool) {
        self.exchanges = Exchanges::default();
        self.acknowledged_is_synced.on_start(durable);
        self.wakes_for_work = wakes_for_work::WakesForWork::default();
    }

    /// The node receives a request.
    pub fn on_received(&mut self, now: Instant, connection: ConnectionId, frame: &Bytes) {
        self.exchanges.on_request(now, connection, frame);
    }

    /// The node sends a response; what it is, as text.
    pub fn on_sent(
        &mut self,
        now: Instant,
        node: &Node,
        connection: ConnectionId,
        frame: &Bytes,
        marks: &mut Marks,
    ) -> impl FnOnce() -> String {
        let answered = self.exchanges.on_response(now, connection, frame, marks);
        let result = match &answered {
            Ok(Answer::Produce(asked, response)) => self.acknowledged_is_synced.check(node, asked, response),
            Ok(Answer::Fetch(response)) => below_high_watermark::check(response)
                .and_then(|()| self.high_watermark_stays.check(response))
                .and_then(|()| self.refused_is_damaged.check(node, response, marks)),
            Ok(Answer::Beat(asked, response)) => self.one_owner.on_beat(node, asked, response, marks),
            Ok(Answer::Sync(asked, response)) => self.one_owner.on_synced(node, asked, response, marks),
            Ok(Answer::Commit(asked, response)) => self.commits_advance.check(asked, response, marks),
            Ok(Answer::Other(..)) => Ok(()),
            Err(violation) => Err(violation.clone()),
        };
        self.violations.extend(result.err());
        move || match answered {
            Ok(Answer::Produce(_, response)) => format!("Produce {}", describe::produced(&response)),
            Ok(Answer::Fetch(response)) => format!("Fetch {}", describe::fetched(&response)),
            Ok(Answer::Beat(asked, response)) => describe::beaten(&asked, &response),
            Ok(Answer::Sync(_, response)) => format!("SyncGroup errors [{}]", response.error_code),
            Ok(Answer::Commit(_, response)) => describe::committed(&response),
            Ok(Answer::Other(key, version, body)) => describe::other(key, version, &body),
            Err(violation) => violation,
        }
    }

    /// The node asks for a sync.
    pub fn on_sync(&mut self, partition: PartitionKey, work: &SyncWork) {
        self.acknowledged_is_synced.on_sync(partition, work);
    }

    /// A sync is done.
    pub fn on_synced(&mut self, partition: PartitionKey, up_to: Offset) {
        self.acknowledged_is_synced.on_synced(partition, up_to);
    }

    /// A job is done.
    pub fn on_job_done(&mut self, output: &JobOutput) {
        if let JobOutput::Open(opened) = output {
            self.acknowledged_is_synced.on_opened(opened);
            let is_damaged = |directory: &str| self.refused_is_damaged.is_damaged(directory);
            self.violations.extend(opens_after_crash::check(opened, is_damaged).err());
        }
    }

    /// A bit of a partition's log flipped; the directory that it is in.
    pub fn on_flipped(&mut self, directory: &str) {
        self.refused_is_damaged.on_flipped(directory);
    }

    /// All files are as they were written again, and the node has ended.
    pub fn on_restored(&mut self) {
        self.refused_is_damaged.on_restored();
    }

    /// The node was woken, and says when it wants to be woken next.
    pub fn on_tick(&mut self, now: Instant, next: Option<Instant>) {
        self.violations.extend(self.wakes_for_work.check(now, next).err());
    }

    /// Adds what was noticed elsewhere.
    pub fn violate(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// What did not hold, so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}
