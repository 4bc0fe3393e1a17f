//! The host of the controller's ledger: the metadata log, what is appended to it, and what of it is committed.
//!
//! There are two images. The controller decides by the one that holds all that was appended; the node serves
//! by the one that holds what is committed. A quorum of one commits when its own log is durable.

use std::collections::VecDeque;

use bytes::Bytes;
use dohle_configs::{BrokerConfig, TopicConfig, broker};
use dohle_controller::{
    BrokerEndpoint, BrokerRegistration, ConfigResource, Controller, MetadataImage, MetadataRecord,
    activation_records,
};
use dohle_ledger::{CommitQueue, Outcome};
use dohle_protocol::Message;
use dohle_records::control::control_batch;
use dohle_records::{BatchBuilder, BatchHeader, BatchOptions, ControlRecordType};
use dohle_types::{LeaderEpoch, Offset, PartitionIndex, Str, TopicId};

use crate::boot_facts::MetaProperties;
use crate::connection::Call;
use crate::ledger_hosts::Held;
use crate::node::{Node, Phase};
use crate::partition::PartitionKey;
use crate::quorum::{self, Quorum};
use crate::snapshot_file::Loaded;
use crate::snapshots::Snapshots;

/// Records of the metadata log that make one batch. A request's are never divided (its records are atomic), but
/// for the many of a registration, which need not be.
const RECORDS_PER_BATCH_MAX: usize = dohle_controller::RECORDS_PER_REQUEST_MAX;

/// The name of the metadata log's only partition's topic.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// Its topic id, the same in every cluster (KIP-516).
pub const METADATA_TOPIC_ID: TopicId = TopicId(uuid::Uuid::from_u128(1));

/// The controller, its log, and the committed image.
#[derive(Debug)]
pub struct MetadataLog {
    identity: MetaProperties,
    partition: PartitionKey,
    controller: Controller,
    image: MetadataImage,
    quorum: Quorum,
    pub(crate) snapshots: Snapshots,
    /// What the directory was formatted with, until the log has it.
    formatted: Vec<MetadataRecord>,
    /// Appended and not committed, with their offsets.
    uncommitted: VecDeque<(Offset, LeaderEpoch, MetadataRecord)>,
    held: CommitQueue<Held>,
}

impl Default for MetadataLog {
    fn default() -> Self {
        Self {
            identity: MetaProperties::default(),
            partition: PartitionKey(u32::MAX),
            controller: Controller::default(),
            image: MetadataImage::default(),
            quorum: Quorum::default(),
            snapshots: Snapshots::default(),
            formatted: Vec::new(),
            uncommitted: VecDeque::new(),
            held: CommitQueue::default(),
        }
    }
}

impl MetadataLog {
    /// The cluster as far as it is committed.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The cluster with what is appended and not committed yet, and what may be done to it.
    #[must_use]
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Whose data directory this is.
    #[must_use]
    pub fn identity(&self) -> &MetaProperties {
        &self.identity
    }

    /// Takes the identity that the data directory gave.
    pub fn set_identity(&mut self, identity: MetaProperties) {
        self.identity = identity;
    }

    /// Takes the partition that the log was opened as.
    pub fn set_partition(&mut self, partition: PartitionKey) {
        self.partition = partition;
    }

    /// The partition that the log is.
    pub(crate) fn partition(&self) -> PartitionKey {
        self.partition
    }

    /// Who votes.
    pub(crate) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Begins with what the snapshots say.
    pub(crate) fn begin(&mut self, loaded: Loaded) {
        let Loaded { files, image, quorum, formatted } = loaded;
        self.snapshots.set_files(files);
        self.controller = Controller::new(image);
        self.quorum = quorum;
        self.formatted = formatted;
    }
}

/// The configs of the metadata log: nothing goes by age or size, for only a snapshot may replace what it says.
pub(crate) fn metadata_config(config: &BrokerConfig) -> TopicConfig {
    let segment_bytes = config.value(broker::METADATA_LOG_SEGMENT_BYTES).to_string();
    let segment_ms = config.value(broker::METADATA_LOG_SEGMENT_MS).to_string();
    let configs = [
        ("segment.bytes", segment_bytes.as_str()),
        ("segment.ms", segment_ms.as_str()),
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
    ];
    TopicConfig::resolve(config, configs)
}

impl Node {
    /// Replays one record of the log, at start.
    pub(crate) fn replay_metadata(
        &mut self,
        offset: Offset,
        epoch: LeaderEpoch,
        value: Option<Bytes>,
    ) -> Result<(), String> {
        let at = |error: &dyn std::fmt::Display| format!("offset {offset}: {error}");
        let value = value.ok_or_else(|| at(&"a metadata record has a value"))?;
        let record = MetadataRecord::decode(&value).map_err(|error| at(&error))?;
        self.metadata.controller.replay(&record, offset, epoch).map_err(|error| at(&error))
    }

    /// Replays one control record of the log, at start.
    pub(crate) fn replay_quorum(
        &mut self,
        record_type: ControlRecordType,
        value: Option<Bytes>,
    ) -> Result<(), String> {
        self.metadata.quorum.replay(record_type, &value.unwrap_or_default())
    }

    /// Takes note of a batch that was replayed, at start.
    pub(crate) fn note_metadata_batch(&mut self, header: &BatchHeader) {
        self.metadata.snapshots.note(header.size_in_bytes(), header.max_timestamp);
    }

    /// Leads the quorum of one in a new epoch, bootstraps an empty log, and registers this broker. Returns the
    /// log's end with all that.
    pub(crate) fn register(&mut self) -> Result<Offset, String> {
        const REFUSED: &str = "the metadata log takes no records";
        let key = self.metadata.partition;
        let partition = self.partitions.by_key_mut(key).ok_or(REFUSED)?;
        let latest = partition.log().ok_or(REFUSED)?.latest_epoch();
        let epoch = LeaderEpoch(latest.0.max(0) + 1);
        partition.leader_epoch = epoch;
        let batch = self.leader_change(epoch)?;
        let end = self.append_to_ledger_log(key, batch).ok_or(REFUSED)?;
        self.metadata.image = self.metadata.controller.image().clone();
        let formatted = std::mem::take(&mut self.metadata.formatted);
        let activation = activation_records(self.metadata.controller.image(), formatted);
        let end = self.append_metadata(activation).unwrap_or(end);
        let registration = self.registration();
        let outcome = self.metadata.controller.handle_register_broker(registration, end);
        self.append_metadata(outcome.records).ok_or_else(|| REFUSED.to_owned())
    }

    /// The control batch with which a leader of the quorum begins its epoch (KIP-595).
    fn leader_change(&self, epoch: LeaderEpoch) -> Result<Bytes, String> {
        let message = quorum::leader_change(self.config.node_id());
        let message = message.to_bytes(0).map_err(|error| error.to_string())?;
        let options = BatchOptions { partition_leader_epoch: epoch, ..BatchOptions::default() };
        let records = [(ControlRecordType::LeaderChange, &*message)];
        control_batch(options, self.now.wall, &records).map_err(|error| error.to_string())
    }

    /// What this broker tells the cluster of itself.
    fn registration(&mut self) -> BrokerRegistration {
        let endpoints = self.config.advertised_listeners().into_iter().map(|listener| BrokerEndpoint {
            listener: Str::from(listener.name),
            host: Str::from(listener.host.unwrap_or_else(|| "localhost".to_owned())),
            port: listener.port,
            security_protocol: listener.security_protocol.code(),
        });
        BrokerRegistration {
            id: self.config.node_id(),
            incarnation_id: self.rng.uuid(),
            endpoints: endpoints.collect(),
            rack: self.config.value(broker::BROKER_RACK).map(Str::from),
            log_dirs: self.log_dirs.directory_ids(),
        }
    }

    /// Appends what a request to the controller came to, and answers when it is committed.
    pub(crate) fn commit_metadata<M: Message>(&mut self, call: Call, outcome: Outcome<MetadataRecord, M>) {
        match self.encode(&call, &outcome.reply) {
            Ok(frame) => self.hold_metadata(outcome.records, Held::Answer(call, frame)),
            Err(error) => self.close(&call, &format!("{} response: {error}", call.key.name())),
        }
    }

    /// Appends records to the metadata log and does what is held when they are committed.
    pub(crate) fn hold_metadata(&mut self, records: Vec<MetadataRecord>, held: Held) {
        if records.is_empty() {
            // It may speak of what is appended and not committed: it waits for that.
            let end = self.metadata.uncommitted.back().map_or(Offset::ZERO, |(offset, ..)| offset.plus(1));
            self.metadata.held.hold(end.max(self.metadata_high_watermark()), held);
        } else if let Some(end) = self.append_metadata(records) {
            self.metadata.held.hold(end, held);
        } else {
            return self.drop_held(held);
        }
        self.release_metadata();
    }

    /// The metadata log was committed further: the node serves by what that says.
    pub(crate) fn on_metadata_committed(&mut self) {
        let high_watermark = self.metadata_high_watermark();
        while let Some((offset, epoch, record)) =
            self.metadata.uncommitted.pop_front_if(|(offset, ..)| *offset < high_watermark)
        {
            self.apply(&record, offset, epoch);
        }
        self.on_metadata_committed_while_booting(high_watermark);
        self.snapshot_when_due();
        self.release_metadata();
    }

    fn release_metadata(&mut self) {
        let high_watermark = self.metadata_high_watermark();
        while let Some(held) = self.metadata.held.release(high_watermark) {
            self.let_go(held);
        }
    }

    pub(crate) fn metadata_high_watermark(&self) -> Offset {
        self.partitions.by_key(self.metadata.partition).map_or(Offset::ZERO, |log| log.high_watermark())
    }

    /// Appends records, at most [`RECORDS_PER_BATCH_MAX`] a batch, and replays them into the controller. The log's
    /// end after them; `None` where there are none, or the log takes none.
    pub(crate) fn append_metadata(&mut self, records: Vec<MetadataRecord>) -> Option<Offset> {
        let mut end = None;
        for batch in records.chunks(RECORDS_PER_BATCH_MAX) {
            end = Some(self.append_metadata_batch(batch)?);
        }
        end
    }

    fn append_metadata_batch(&mut self, records: &[MetadataRecord]) -> Option<Offset> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for record in records {
            let value = record.encode().ok()?;
            builder.append(self.now.wall, None, Some(&value), &[]).ok()?;
        }
        let batch = builder.build(&mut self.codecs.compressor).ok()?;
        self.metadata.snapshots.note(batch.len(), self.now.wall);
        let epoch = self.partitions.by_key(self.metadata.partition)?.leader_epoch;
        let end = self.append_to_ledger_log(self.metadata.partition, batch)?;
        let first = end.plus(-i64::try_from(records.len()).unwrap_or_default());
        for (index, record) in (0..).zip(records) {
            let offset = first.plus(index);
            if let Err(error) = self.metadata.controller.replay(record, offset, epoch) {
                unreachable!("the controller's records fit its image: {error}");
            }
            self.metadata.uncommitted.push_back((offset, epoch, record.clone()));
        }
        Some(end)
    }

    /// What was to be done cannot be, for the metadata log takes no records: the clients try again elsewhere.
    fn drop_held(&mut self, held: Held) {
        match held {
            Held::Answer(call, _) | Held::Metadata(call, _) | Held::FindCoordinator(call, _) => {
                self.close(&call, "the metadata log takes no records");
            }
            Held::InitProducerId(call, _) => self.close(&call, "the metadata log takes no records"),
            Held::EndTxn(call, _) | Held::AddOffsets(call, _) => {
                self.close(&call, "the metadata log takes no records");
            }
            Held::Part(_) | Held::TxnOffsetCommit(..) | Held::Produce(_) | Held::Markers(..) => {}
        }
    }

    /// Puts a committed record into the image, and does on this node what it says.
    fn apply(&mut self, record: &MetadataRecord, offset: Offset, epoch: LeaderEpoch) {
        let removed = if let MetadataRecord::RemoveTopic(removed) = record {
            self.image().topic_by_id(TopicId(removed.topic_id)).cloned()
        } else {
            None
        };
        if let Err(error) = self.metadata.image.replay(record, offset, epoch) {
            unreachable!("the controller has replayed this record before: {error}");
        }
        if matches!(self.phase, Phase::Booting(_)) {
            return;
        }
        if let Some(topic) = removed {
            self.remove_topic(topic.id, &topic.name);
        }
        if let MetadataRecord::Partition(added) = record {
            let topic_id = TopicId(added.topic_id);
            if let Some(name) = self.image().topic_by_id(topic_id).map(|topic| topic.name.clone()) {
                let index = PartitionIndex(added.partition_id);
                self.add_partition(name, topic_id, index, LeaderEpoch(added.leader_epoch));
            }
        } else if let MetadataRecord::ProducerIds(_) = record {
            self.producer_ids.commit();
        } else if let MetadataRecord::Config(changed) = record {
            match ConfigResource::from_wire(changed.resource_type, &changed.resource_name) {
                Ok(ConfigResource::Topic(topic)) => self.on_topic_configs_changed(&topic),
                Ok(ConfigResource::DefaultBroker | ConfigResource::Broker(_)) => self.on_configs_changed(),
                Ok(ConfigResource::ClientMetrics(_) | ConfigResource::Group(_)) | Err(_) => {}
            }
        }
    }
}
