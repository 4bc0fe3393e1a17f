//! Idempotent producers and transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_metrics::Page;
use dohle_metrics::table::transactions as table;
use dohle_transactions::TxnStats;
use dohle_transactions::state::{Status, TxnResult};
use dohle_types::{ProducerId, Str, Timestamp};

use crate::node::Node;
use crate::partition::Partition;

/// From when on it is told which transaction holds back a last stable offset.
const HELD_BACK_MIN: Duration = Duration::from_secs(10);

impl Node {
    pub(super) fn write_producer_metrics(&self, page: &mut Page) {
        page.value(table::PRODUCERS, self.partitions.producers());
        page.value(table::PRODUCERS_LIMIT, self.producer_limit.max());
        page.value(table::PRODUCERS_FORGOTTEN, self.producer_limit.forgotten());
    }

    pub(super) fn write_transaction_metrics(&self, page: &mut Page) {
        let results = [TxnResult::Commit, TxnResult::Abort];
        let ended =
            results.into_iter().flat_map(|result| [Status::Prepare(result), Status::Complete(result)]);
        let all = [Status::Empty, Status::Ongoing].into_iter().chain(ended);
        let mut states: BTreeMap<&str, u64> = all.map(|status| (status.name(), 0)).collect();
        let (mut ids, mut total) = (0, TxnStats::default());
        for (_, ledger) in self.txns.loaded() {
            ids += ledger.state().len();
            for (_, transaction) in ledger.state().transactions() {
                *states.entry(transaction.status.name()).or_default() += 1;
            }
            let TxnStats { committed, aborted, timed_out } = ledger.stats();
            total.committed += committed;
            total.aborted += aborted;
            total.timed_out += timed_out;
        }
        page.value(table::TRANSACTIONAL_IDS, ids);
        let mut family = page.family(table::TRANSACTIONS);
        states.iter().for_each(|(state, &count)| family.sample(&[state], count));
        let mut family = page.family(table::COMPLETED);
        family.sample(&["commit"], total.committed);
        family.sample(&["abort"], total.aborted);
        page.value(table::TIMED_OUT, total.timed_out);
        self.write_held_back(page);
    }

    /// Partitions whose last stable offset is held back, and by whom.
    fn write_held_back(&self, page: &mut Page) {
        let lag = |partition: &Partition| partition.high_watermark().0 - partition.last_stable_offset().0;
        let held: Vec<&Partition> = self.partitions.iter().filter(|partition| lag(partition) > 0).collect();
        let mut family = page.family(table::STABLE_LAG);
        for partition in &held {
            family.sample(&[&partition.name.topic, &partition.name.partition.0.to_string()], lag(partition));
        }
        let open = if held.is_empty() { BTreeMap::new() } else { self.open_transactions() };
        let mut family = page.family(table::OLDEST_OPEN);
        for partition in held {
            let oldest = partition.log().and_then(|log| log.oldest_open_transaction());
            let Some((producer_id, state)) = oldest else { continue };
            let (transactional_id, since) =
                open.get(&producer_id).map_or(("", state.last_timestamp), |(id, since)| (id, *since));
            let age_ms = u64::try_from(self.now.wall.0.saturating_sub(since.0)).unwrap_or_default();
            let age = Duration::from_millis(age_ms);
            if age >= HELD_BACK_MIN {
                let (topic, place) = (&partition.name.topic, partition.name.partition.0.to_string());
                family.sample(&[topic, &place, &producer_id.0.to_string(), transactional_id], age);
            }
        }
    }

    /// Transactions that are not over, by their producers: the transactional id, and when they began.
    fn open_transactions(&self) -> BTreeMap<ProducerId, (&Str, Timestamp)> {
        let all = self.txns.loaded().flat_map(|(_, ledger)| ledger.state().transactions());
        let open = all.filter(|(_, transaction)| match transaction.status {
            Status::Ongoing | Status::Prepare(_) => true,
            Status::Empty | Status::Complete(_) => false,
        });
        open.map(|(id, transaction)| (transaction.producer_id, (id, transaction.started))).collect()
    }
}
