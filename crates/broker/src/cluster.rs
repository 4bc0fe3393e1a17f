//! What requests about the cluster have in common: which address a client is told, and topics as it asks for them.

use std::sync::Arc;

use dohle_configs::{ConfigSource, broker};
use dohle_controller::TopicImage;
use dohle_types::{ErrorCode, Str, TopicId};

use crate::connection::Call;
use crate::node::Node;

impl Node {
    /// The address that the client of `call` is told for this broker: that of `advertised.listeners`, or where
    /// that is unset the one it has called, which it is sure to reach.
    ///
    /// Differs from Kafka: it falls back to `listeners`, whose host is often one that only the machine itself knows.
    pub(crate) fn endpoint_for(&self, call: &Call) -> (Str, i32) {
        let local = self.connections.get(&call.connection).map(|connection| &connection.local);
        let (local_host, local_port) = local.map_or(("localhost", 0), |(host, port)| (host.as_str(), *port));
        let called = self.config.listeners().into_iter().find(|listener| listener.port == local_port);
        let advertised = (self.config.source(broker::ADVERTISED_LISTENERS) != ConfigSource::Default)
            .then(|| self.config.advertised_listeners())
            .into_iter()
            .flatten()
            .find(|listener| called.as_ref().is_none_or(|called| called.name == listener.name));
        match advertised {
            Some(listener) => {
                let host = listener.host.as_deref().unwrap_or(local_host);
                (Str::from(host), i32::from(listener.port))
            }
            None => (Str::from(local_host), i32::from(local_port)),
        }
    }

    /// The topic that a request asks for: by id where it has one, else by name.
    pub(crate) fn topic_asked_for(
        &self,
        topic_id: TopicId,
        name: Option<&str>,
    ) -> Result<Arc<TopicImage>, ErrorCode> {
        if topic_id.is_zero() {
            let known = name.and_then(|name| self.image().topic(name));
            known.cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
        } else {
            self.image().topic_by_id(topic_id).cloned().ok_or(ErrorCode::UnknownTopicId)
        }
    }
}
