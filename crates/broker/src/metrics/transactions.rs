//! Idempotent producers and transactions.

use dohle_metrics::Page;
use dohle_metrics::table::transactions as table;

use crate::node::Node;

impl Node {
    pub(super) fn write_producer_metrics(&self, page: &mut Page) {
        page.value(table::PRODUCERS, self.partitions.producers());
        page.value(table::PRODUCERS_LIMIT, self.producer_limit.max());
        page.value(table::PRODUCERS_FORGOTTEN, self.producer_limit.forgotten());
    }
}
