//! A high watermark that was told is never taken back, whatever ends the node: what is below it is durable, or,
//! where durability is relaxed, the power stays.

use std::collections::BTreeMap;

use dohle_protocol::messages::FetchResponse;
use dohle_types::TopicId;

#[derive(Debug, Default)]
pub(super) struct HighWatermarkStays {
    told: BTreeMap<(TopicId, i32), i64>,
}

impl HighWatermarkStays {
    pub(super) fn check(&mut self, response: &FetchResponse) -> Result<(), String> {
        for topic in &response.responses {
            for partition in topic.partitions.iter().filter(|partition| partition.error_code == 0) {
                let key = (TopicId(topic.topic_id), partition.partition_index);
                let told = self.told.entry(key).or_default();
                let now = partition.high_watermark;
                if now < *told {
                    return Err(format!(
                        "topic {} partition {}: the high watermark went from {told} to {now}",
                        key.0, key.1
                    ));
                }
                *told = now;
            }
        }
        Ok(())
    }
}
