//! The cluster as the group ledgers ask about it: the committed image, and the configs in force.

use dohle_configs::{BrokerConfig, GroupConfig};
use dohle_controller::{ConfigResource, MetadataImage, TopicImage};
use dohle_groups::{Cluster, ConsumerGroupSettings, Topic};
use dohle_types::{PartitionIndex, Str, TopicId};

/// What the group ledgers are told.
pub(crate) struct GroupsCluster<'a> {
    pub(crate) image: &'a MetadataImage,
    pub(crate) config: &'a BrokerConfig,
}

impl Cluster for GroupsCluster<'_> {
    fn version(&self) -> i64 {
        self.image.end_offset().0
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.image.topic(name).map(|topic| as_topic(topic))
    }

    fn topic_by_id(&self, id: TopicId) -> Option<Topic> {
        self.image.topic_by_id(id).map(|topic| as_topic(topic))
    }

    fn racks(&self, topic: &Topic, partition: i32) -> Vec<Str> {
        let partition = self.image.partition(&topic.name, PartitionIndex(partition));
        let replicas = partition.map_or(&[][..], |partition| &partition.replicas);
        let mut racks: Vec<Str> =
            replicas.iter().filter_map(|&id| self.image.broker(id)?.rack.clone()).collect();
        racks.sort();
        racks
    }

    fn topic_names(&self) -> Box<dyn Iterator<Item = &Str> + '_> {
        Box::new(self.image.topics().map(|topic| &topic.name))
    }

    fn consumer_group_settings(&self, group_id: &str) -> ConsumerGroupSettings {
        let group = ConfigResource::Group(Str::from(group_id));
        let config = GroupConfig::resolve(self.config, self.image.config_overrides(&group));
        ConsumerGroupSettings {
            session_timeout_ms: config.consumer_session_timeout_ms,
            heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
            assignment_interval_ms: config.consumer_assignment_interval_ms,
        }
    }
}

fn as_topic(topic: &TopicImage) -> Topic {
    Topic {
        id: topic.id,
        name: topic.name.clone(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}
