//! How soon a member of the consumer protocol is asked to come again.

use dohle_protocol::messages::ConsumerGroupHeartbeatRequest;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::host::Host;
use crate::{Caller, Cluster, Effects, GroupsConfig};

const JOINING: i32 = 0;

/// The member epoch and the interval that a member is told.
fn beat(host: &mut Host<()>, member_id: &str, epoch: i32, owned: Option<Vec<i32>>) -> (i32, i32) {
    let joins = epoch == JOINING;
    let topic_id = host.cluster.topic("t").unwrap().id.0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["t".into()]),
        topic_partitions: match owned {
            Some(partitions) => Some(vec![TopicPartitions { topic_id, partitions }]),
            None => joins.then(Vec::new),
        },
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let caller = Caller { client_id: "c".into(), client_host: "/h".into(), api_version: 1 };
    let mut effects = Effects::default();
    let response =
        host.call(&mut effects, |ledger, turn| ledger.consumer_group_heartbeat(turn, &caller, &request));
    host.take(effects, None);
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    (response.member_epoch, response.heartbeat_interval_ms)
}

#[test]
fn members_on_their_way_are_asked_to_come_again_soon() {
    let mut host: Host<()> = Host::new(GroupsConfig::default());
    host.cluster.settings.heartbeat_interval_ms = 15_000;
    host.cluster.set_topic("t", 2);
    assert_eq!(beat(&mut host, "A", JOINING, None), (2, 1000), "others may follow");
    assert_eq!(beat(&mut host, "A", 2, None), (2, 15_000), "it is at rest");
    assert_eq!(beat(&mut host, "B", JOINING, None), (3, 1000), "it waits for A to give something up");
    assert_eq!(beat(&mut host, "A", 2, None), (2, 1000), "it is to give something up");
    assert_eq!(beat(&mut host, "B", 3, None), (3, 1000));
    assert_eq!(beat(&mut host, "A", 2, Some(vec![0])), (3, 15_000));
    assert_eq!(beat(&mut host, "B", 3, None), (3, 15_000));
}
