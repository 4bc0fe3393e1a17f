//! Groups of the consumer protocol (KIP-848) over real sockets, through kills and stops.

use dohle_protocol::messages::consumer_group_heartbeat_response::TopicPartitions;
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorRequest,
};
use dohle_types::ErrorCode;

use crate::client::Client;
use crate::process::{Broker, Directory, until};

const VERSION: i16 = 1;

fn heartbeat(client: &mut Client, member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "billing".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_regex: joins.then(|| "ord.*".into()),
        topic_partitions: joins.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    // While the group is being loaded, clients ask again.
    until("the group is there", || {
        let response = client.call(&request, VERSION);
        let error = ErrorCode::from_code(response.error_code);
        let waits = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator];
        (!error.is_some_and(|error| waits.contains(&error))).then_some(response)
    })
}

fn owned(response: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let topics: &[TopicPartitions] = &response.assignment.as_ref()?.topic_partitions;
    Some(topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect())
}

#[test]
fn members_go_on_in_their_epoch_after_kill_and_stop() {
    let data = Directory::new();
    let configs = ["group.consumer.assignment.interval.ms=0"];
    let mut broker = Broker::start(&data.0, &configs);
    let mut client = Client::connect(&broker.address);
    client.create_topic("orders", 2, &[]);
    client.create_topic("other", 2, &[]);
    until("the group has a coordinator", || {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec!["billing".into()], ..Default::default() };
        (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
    });
    let joined = heartbeat(&mut client, "first", 0);
    assert_eq!((joined.error_code, owned(&joined)), (0, Some(vec![0, 1])));

    broker.kill();
    broker = Broker::start(&data.0, &configs);
    let mut client = Client::connect(&broker.address);
    let lives = heartbeat(&mut client, "first", joined.member_epoch);
    assert_eq!((lives.error_code, lives.member_epoch), (0, joined.member_epoch));
    assert_eq!(owned(&lives), None, "nothing has changed");
    let stale = heartbeat(&mut client, "first", joined.member_epoch - 1);
    assert_eq!(stale.error_code, ErrorCode::FencedMemberEpoch.code());

    let second = heartbeat(&mut client, "second", 0);
    assert_eq!(owned(&second), Some(Vec::new()), "the first one has not given anything up yet");
    broker.stop();
    broker = Broker::start(&data.0, &configs);
    let mut client = Client::connect(&broker.address);
    let asked = heartbeat(&mut client, "first", joined.member_epoch);
    assert_eq!(owned(&asked).map(|owned| owned.len()), Some(1), "it is to give up one of its partitions");

    let reset = ["group", "reset-offsets", "billing", "--topic", "orders", "--to", "0", "--execute"];
    let refused = broker.run(&reset, "");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("--live"), "{}", refused.stderr);
    assert_eq!(heartbeat(&mut client, "second", second.member_epoch).error_code, 0);
    let live = broker.run(&[&reset[..], &["--live"]].concat(), "");
    assert_eq!(live.code, 0, "{}", live.stderr);
    for member in ["first", "second"] {
        let gone = heartbeat(&mut client, member, joined.member_epoch);
        assert_eq!(gone.error_code, ErrorCode::UnknownMemberId.code());
        assert_eq!(heartbeat(&mut client, member, 0).error_code, 0);
    }

    let table = broker.succeed(&["group", "describe", "billing"], "");
    assert!(table.contains("Reconciling") && table.contains("first"), "{table}");
    assert!(broker.succeed(&["group", "list"], "").contains("consumer"));
    heartbeat(&mut client, "first", -1);
    heartbeat(&mut client, "second", -1);
    broker.succeed(&["group", "delete", "billing"], "");
    assert!(!broker.succeed(&["group", "list"], "").contains("billing"));
}
