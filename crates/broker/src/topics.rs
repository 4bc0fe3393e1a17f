//! What this node does when the metadata log says that topics came, went or changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use dohle_configs::{BrokerConfig, Durability, TopicConfig};
use dohle_controller::{
    ConfigResource, CreateTopicError, MetadataImage, MetadataRecord, RECORDS_PER_REQUEST_MAX,
    TRANSACTION_STATE_TOPIC,
};
use dohle_types::{ErrorCode, LeaderEpoch, PartitionIndex, Str, TopicId, TopicPartition};

use crate::group_hosts::OFFSETS_TOPIC;
use crate::node::{Node, Phase};
use crate::partition::{PartitionKey, Tenant};

/// The configs of a topic, resolved over the broker's.
#[must_use]
pub(crate) fn topic_config(image: &MetadataImage, config: &BrokerConfig, topic: &Str) -> TopicConfig {
    TopicConfig::resolve(config, image.config_overrides(&ConfigResource::Topic(topic.clone())))
}

impl Node {
    /// The records that create topics with the broker's defaults, or what internal topics need. Topics that are
    /// being created already have none, and those that are too many for one request have to be asked for again.
    ///
    /// # Errors
    /// Why none of them can be created.
    pub(crate) fn auto_create(&mut self, names: &[Str]) -> Result<Vec<MetadataRecord>, CreateTopicError> {
        let mut records = Vec::new();
        let mut refused = None;
        for name in names.iter().collect::<BTreeSet<_>>() {
            let controller = self.metadata.controller();
            if controller.image().topic(name).is_some() {
                continue;
            }
            let outcome = controller.handle_auto_create_topic(&self.config, &mut self.rng, name);
            if let Err(error) = outcome.reply {
                tracing::warn!(topic = %name, %error, "a topic cannot be created automatically");
                refused = Some(error);
            }
            if records.len() + outcome.records.len() > RECORDS_PER_REQUEST_MAX {
                break;
            }
            records.extend(outcome.records);
        }
        match refused {
            Some(error) if records.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    /// Begins to serve a partition of the image.
    pub(crate) fn add_partition(
        &mut self,
        topic: Str,
        topic_id: TopicId,
        index: PartitionIndex,
        epoch: LeaderEpoch,
    ) {
        let durability = self.config_of(topic_id, &topic).durability;
        let tenant = match topic.as_str() {
            OFFSETS_TOPIC => Tenant::Groups(index.0),
            TRANSACTION_STATE_TOPIC => Tenant::Transactions(index.0),
            _ => Tenant::None,
        };
        let name = TopicPartition::new(topic, index);
        let log_dir = self.log_dir_for(&name);
        // It may have failed since the controller chose it.
        let image = self.image().partition(&name.topic, index);
        let named = image.and_then(|partition| partition.directory_of(self.config.node_id()));
        let key = self.partitions.add(name, log_dir, topic_id, epoch, durability, tenant).key;
        if let Tenant::Groups(index) = tenant {
            self.add_group_host(index, key);
        }
        if let Tenant::Transactions(index) = tenant {
            self.add_txn_host(index, key);
        }
        self.find_log(key);
        // Groups are loaded before anybody asks for them: they expire, and their clients wait.
        if tenant != Tenant::None {
            self.open_log(key);
        }
        if matches!(self.phase, Phase::Serving) && named.is_some_and(|id| self.log_dirs.by_id(id).is_none()) {
            self.tell_log_dirs();
        }
    }

    /// Stops serving a topic that was deleted; its files go into the trash, or are removed.
    pub(crate) fn remove_topic(&mut self, topic_id: TopicId, name: &Str) {
        let mut removed = Vec::new();
        for key in self.partitions.keys_of(topic_id) {
            let Some(mut partition) = self.partitions.remove(key) else { continue };
            self.abandon(partition.abandon_waiters(), ErrorCode::UnknownTopicOrPartition);
            self.forget_clean_to(partition.log_dir, &partition.name);
            self.wake_fetches_of(&partition);
            if let Tenant::Groups(index) = partition.tenant {
                self.remove_group_host(index);
            }
            if let Tenant::Transactions(index) = partition.tenant {
                self.remove_txn_host(index);
            }
            removed.push(partition);
        }
        self.topic_configs.remove(&topic_id);
        self.discard(topic_id, &removed);
        removed.iter().for_each(|partition| self.on_opening_ended(partition.key));
        self.forget_offsets_of(name.clone(), topic_id);
    }

    /// The configs of a topic of this node, resolved once for all its partitions.
    pub(crate) fn config_of(&mut self, topic_id: TopicId, topic: &Str) -> Arc<TopicConfig> {
        let resolve = || Arc::new(topic_config(self.metadata.image(), &self.config, topic));
        Arc::clone(self.topic_configs.entry(topic_id).or_insert_with(resolve))
    }

    /// A topic's own configs changed.
    pub(crate) fn on_topic_configs_changed(&mut self, topic: &Str) {
        let Some(topic_id) = self.image().topic(topic).map(|topic| topic.id) else { return };
        self.topic_configs.remove(&topic_id);
        for key in self.partitions.keys_of(topic_id) {
            self.resolve_configs(key);
        }
    }

    /// The broker's configs changed, and with them what topics inherit.
    pub(crate) fn on_configs_changed(&mut self) {
        let image = self.metadata.image();
        let per_broker = ConfigResource::Broker(self.config.node_id());
        let config = self.config.with_dynamic(
            image.config_overrides(&ConfigResource::DefaultBroker),
            image.config_overrides(&per_broker),
        );
        self.config = Arc::new(config);
        self.topic_configs.clear();
        for key in self.partitions.iter().map(|partition| partition.key).collect::<Vec<_>>() {
            self.resolve_configs(key);
        }
        self.set_cordons();
        self.hurry_moves();
    }

    /// Has a partition heed the configs of its topic as they are now.
    fn resolve_configs(&mut self, key: PartitionKey) {
        let partition = self.partitions.by_key(key).filter(|partition| partition.tenant != Tenant::Metadata);
        let Some((topic_id, topic)) = partition.map(|it| (it.topic_id, it.name.topic.clone())) else {
            return;
        };
        let config = self.config_of(topic_id, &topic);
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        let was = std::mem::replace(&mut partition.durability, config.durability);
        if let Some(log) = partition.log_mut() {
            log.set_config(config);
        }
        if (was, partition.durability) == (Durability::Relaxed, Durability::Durable) {
            // What was acknowledged before becomes as durable as what comes after it.
            partition.begin_sync(&mut self.effects);
        }
        self.mark_again_for_cleaning(key);
        self.note_flush_time(key);
    }
}
