//! Consumers see records below the high watermark only (invariant 3 of `dohle-broker`).

use dohle_protocol::messages::FetchResponse;
use dohle_records::Batches;

pub(super) fn check(response: &FetchResponse) -> Result<(), String> {
    for topic in &response.responses {
        for partition in &topic.partitions {
            let records = partition.records.clone().unwrap_or_default().into_bytes();
            for batch in Batches::new(records).flatten() {
                let end = batch.header().next_offset();
                if end.0 > partition.high_watermark {
                    return Err(format!(
                        "topic {} partition {}: records up to {end} are shown, and the high watermark is {}",
                        topic.topic_id, partition.partition_index, partition.high_watermark
                    ));
                }
            }
        }
    }
    Ok(())
}
