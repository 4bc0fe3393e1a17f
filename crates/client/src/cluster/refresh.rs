//! When metadata is asked for, and what a new answer changes.

use std::collections::BTreeSet;

use dohle_protocol::messages::metadata_request::MetadataRequestTopic;
use dohle_protocol::messages::{MetadataRequest, MetadataResponse};
use dohle_types::time::Instant;
use dohle_types::{Now, Str};

use super::{Cluster, Link, Node, Route};
use crate::connection::Purpose;
use crate::{Effect, Effects, Failure, Peer};

/// When metadata is asked for, and for which topics.
#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) topics: BTreeSet<Str>,
    pub(super) due: Option<Instant>,
    pub(super) in_flight: bool,
    /// Whether a topic was added since the request in flight was sent.
    pub(super) again: bool,
    pub(super) failures: u32,
}

impl<T> Cluster<T> {
    /// Has metadata of this topic from now on.
    pub fn watch_topic(&mut self, now: Now, topic: &str) {
        if !self.refresh.topics.contains(topic) {
            self.refresh.topics.insert(topic.into());
            self.on_new_topic(now);
        }
    }

    /// Has metadata of exactly these topics from now on.
    pub fn watch_topics(&mut self, now: Now, topics: BTreeSet<Str>) {
        let has_new = topics.iter().any(|topic| !self.refresh.topics.contains(topic));
        self.refresh.topics = topics;
        if has_new {
            self.on_new_topic(now);
        }
    }

    fn on_new_topic(&mut self, now: Now) {
        self.refresh.again = self.refresh.in_flight;
        self.refresh.due = Some(now.instant);
    }

    /// Asks for metadata soon, because it proved to be old.
    pub fn refresh_metadata(&mut self, now: Now) {
        // One that was asked for too often waits for its backoff.
        let soonest = match self.refresh.failures {
            0 => now.instant,
            failures => now.after(self.config.retry_backoff.after(failures, &mut self.rng)),
        };
        if self.refresh.due.is_none_or(|due| due > soonest) {
            self.refresh.due = Some(soonest);
        }
    }

    pub(super) fn on_metadata(&mut self, now: Now, response: MetadataResponse, effects: &mut Effects) {
        // A broker that just started may not know the others, nor itself, yet.
        if response.brokers.is_empty() {
            return self.on_metadata_failure(now);
        }
        self.metadata.update(response);
        self.metadata_version += 1;
        self.follow_endpoints(now, effects);
        let unsettled = self.refresh.topics.iter().any(|name| {
            self.metadata.topic(name).is_none_or(|topic| {
                topic.error.is_retriable()
                    || topic.partitions.iter().any(|partition| partition.leader.is_none())
            })
        });
        if std::mem::take(&mut self.refresh.again) {
            self.refresh.due = Some(now.instant);
        } else if unsettled {
            self.on_metadata_failure(now);
        } else {
            self.refresh.failures = 0;
            self.refresh.due = Some(now.after(self.config.metadata_max_age));
        }
    }

    pub(super) fn on_metadata_failure(&mut self, now: Now) {
        self.refresh.in_flight = false;
        self.refresh.failures += 1;
        let wait = self.config.retry_backoff.after(self.refresh.failures, &mut self.rng);
        self.refresh.due = Some(now.after(wait));
    }

    /// Makes connections fit what metadata says: a broker that moved is left, and the connection to a bootstrap
    /// endpoint becomes that of the broker that listens there, or is closed once idle.
    fn follow_endpoints(&mut self, now: Now, effects: &mut Effects) {
        let moved: Vec<Peer> = self
            .connections
            .iter()
            .filter(|(_, connection)| match connection.route.node {
                Node::Bootstrap(_) => false,
                Node::Broker(id) => self.metadata.broker(id) != Some(&connection.endpoint),
            })
            .map(|(&peer, _)| peer)
            .collect();
        for peer in moved {
            self.close(now, peer, &Failure::Disconnected, effects);
        }
        let bootstrap: Vec<Peer> = self
            .connections
            .iter()
            .filter(|(_, connection)| matches!(connection.route.node, Node::Bootstrap(_)))
            .map(|(&peer, _)| peer)
            .collect();
        for peer in bootstrap {
            self.adopt(peer, effects);
        }
    }

    fn adopt(&mut self, peer: Peer, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        let broker = self.metadata.brokers().find(|(_, endpoint)| **endpoint == connection.endpoint);
        let route = broker.map(|(id, _)| Route::data(id));
        match route {
            Some(route) if self.links.get(&route).is_none_or(|link| link.peer.is_none()) => {
                if let Some(link) = self.links.get_mut(&connection.route) {
                    link.peer = None;
                }
                connection.route = route;
                let link = self.links.entry(route).or_default();
                *link = Link { peer: Some(peer), ..Link::default() };
            }
            _ if connection.in_flight() == 0 => {
                effects.push(Effect::Close { peer });
                if let Some(link) = self.links.get_mut(&connection.route) {
                    link.peer = None;
                }
                self.connections.remove(&peer);
            }
            _ => {}
        }
    }

    pub(super) fn send_metadata_request(&mut self, now: Now, effects: &mut Effects) {
        let Some(route) = self.any_route(now, effects) else { return };
        let topics = self
            .refresh
            .topics
            .iter()
            .map(|name| MetadataRequestTopic { name: Some(name.clone()), ..MetadataRequestTopic::default() });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: self.config.allow_auto_create_topics,
            ..MetadataRequest::default()
        };
        match self.send_for(
            now,
            route,
            &request,
            self.config.request_timeout,
            Some(Purpose::Metadata),
            effects,
        ) {
            Ok(()) => {
                self.refresh.in_flight = true;
                self.refresh.due = None;
            }
            Err(_) => self.on_metadata_failure(now),
        }
    }
}
