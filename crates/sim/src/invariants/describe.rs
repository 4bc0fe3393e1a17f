//! Requests and responses as text, for the story of a run.

use bytes::Bytes;
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FetchResponse, HeartbeatResponse,
    JoinGroupResponse, OffsetCommitResponse, ProduceRequest, ProduceResponse,
};
use dohle_protocol::{ApiKey, Message, Reader, decode_request_header};
use dohle_records::BatchHeader;

/// A request: who asks for what, and of a produce request each batch.
pub(crate) fn request(frame: &Bytes) -> String {
    let mut reader = Reader::new(frame);
    let Ok(header) = decode_request_header(&mut reader) else { return "nonsense".to_owned() };
    let key = ApiKey::from_code(header.request_api_key);
    let client = header.client_id.unwrap_or_default();
    let name = key.map_or("unknown", ApiKey::name);
    let mut text = format!("{client} {name} #{}", header.correlation_id);
    if key == Some(ApiKey::Produce)
        && let Ok(request) = ProduceRequest::decode(&mut reader, header.request_api_version)
    {
        for partition in request.topic_data.into_iter().flat_map(|topic| topic.partition_data) {
            let records = partition.records.unwrap_or_default().into_bytes();
            if let Ok(batch) = BatchHeader::parse(&records) {
                text.push_str(&format!(
                    " [{}: producer {} epoch {} sequence {} records {}]",
                    partition.index,
                    batch.producer_id,
                    batch.producer_epoch,
                    batch.base_sequence,
                    batch.record_count
                ));
            }
        }
    }
    text
}

/// A produce response: what became of each batch.
pub(super) fn produced(response: &ProduceResponse) -> String {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let told =
        |error: i16, offset: i64| if error == 0 { format!("at {offset}") } else { format!("error {error}") };
    partitions.map(|it| format!("[{}: {}]", it.index, told(it.error_code, it.base_offset))).collect()
}

/// A fetch response: how much of each partition.
pub(super) fn fetched(response: &FetchResponse) -> String {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let length =
        |records: &Option<dohle_protocol::Records>| records.as_ref().map_or(0, dohle_protocol::Records::len);
    let one = |it: &dohle_protocol::messages::fetch_response::PartitionData| {
        let (error, high_watermark) = (it.error_code, it.high_watermark);
        format!("[{}: error {error}, {} bytes, hw {high_watermark}]", it.partition_index, length(&it.records))
    };
    partitions.map(one).collect()
}

/// A heartbeat of the consumer protocol: which epoch it brought, and which partitions.
pub(super) fn beaten(
    asked: &ConsumerGroupHeartbeatRequest,
    response: &ConsumerGroupHeartbeatResponse,
) -> String {
    let assignment = response.assignment.as_ref().map(|assignment| {
        let topics = assignment.topic_partitions.iter();
        topics.map(|topic| format!("{}{:?}", topic.topic_id, topic.partitions)).collect::<String>()
    });
    let (error, epoch) = (response.error_code, response.member_epoch);
    let (group, member) = (&asked.group_id, &asked.member_id);
    format!("ConsumerGroupHeartbeat {group} {member}: error {error} epoch {epoch} {assignment:?}")
}

/// Any other response: of those about groups, the error.
pub(super) fn other(key: ApiKey, version: i16, body: &Bytes) -> String {
    let errors: Vec<i16> = if key == ApiKey::JoinGroup {
        vec![error_of::<JoinGroupResponse>(body, version, |it| it.error_code)]
    } else if key == ApiKey::Heartbeat {
        vec![error_of::<HeartbeatResponse>(body, version, |it| it.error_code)]
    } else {
        return key.name().to_owned();
    };
    format!("{} errors {errors:?}", key.name())
}

/// A commit of offsets.
pub(crate) fn committed(response: &OffsetCommitResponse) -> String {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let errors: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
    format!("OffsetCommit errors {errors:?}")
}

fn error_of<M: Message>(body: &Bytes, version: i16, error: impl FnOnce(&M) -> i16) -> i16 {
    M::from_bytes(body, version).map_or(i16::MIN, |response| error(&response))
}
