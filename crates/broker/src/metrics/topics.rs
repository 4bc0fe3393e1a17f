//! What goes into topics and out of them.

use std::collections::BTreeMap;

use dohle_metrics::Page;
use dohle_metrics::row::Row;
use dohle_metrics::table::topics as table;

use crate::node::Node;

/// What was appended to a partition, and given to consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of batches that were appended.
    pub appended_bytes: u64,
    /// Records in them.
    pub appended_records: u64,
    /// Bytes of batches in answers to consumers.
    pub fetched_bytes: u64,
}

type OfTraffic = fn(&Traffic) -> u64;

impl Node {
    pub(super) fn write_topic_metrics(&self, page: &mut Page) {
        let mut by_topic: BTreeMap<&str, Traffic> = BTreeMap::new();
        for partition in self.partitions.iter() {
            if partition.traffic == Traffic::default() {
                continue;
            }
            let traffic = by_topic.entry(&partition.name.topic).or_default();
            traffic.appended_bytes += partition.traffic.appended_bytes;
            traffic.appended_records += partition.traffic.appended_records;
            traffic.fetched_bytes += partition.traffic.fetched_bytes;
        }
        let rows: [Row<OfTraffic>; 3] = [
            (table::TOPIC_APPENDED_BYTES, |traffic| traffic.appended_bytes),
            (table::TOPIC_APPENDED_RECORDS, |traffic| traffic.appended_records),
            (table::TOPIC_FETCHED_BYTES, |traffic| traffic.fetched_bytes),
        ];
        for (metric, value) in rows {
            let mut family = page.family(metric);
            by_topic.iter().for_each(|(topic, traffic)| family.sample(&[topic], value(traffic)));
        }
    }
}
