use dohle_protocol::messages::ProducerIdsRecord;
use dohle_types::{BrokerId, LeaderEpoch, Offset, ProducerId};

use super::Cluster;
use crate::{ProducerIdBlock, ProducerIdsError};

#[test]
fn blocks_follow_each_other_and_survive() {
    let mut cluster = Cluster::new();
    let epoch = cluster.image().broker(BrokerId(1)).unwrap().epoch;
    let mut next = |id, epoch| {
        let outcome = cluster.controller.handle_allocate_producer_ids(BrokerId(id), epoch);
        cluster.run(outcome)
    };
    assert_eq!(next(1, epoch), Ok(ProducerIdBlock { first: ProducerId(0), len: 1000 }));
    assert_eq!(next(1, epoch), Ok(ProducerIdBlock { first: ProducerId(1000), len: 1000 }));
    assert_eq!(next(2, epoch), Err(ProducerIdsError::NotRegistered(BrokerId(2))));
    assert_eq!(next(1, epoch - 1), Err(ProducerIdsError::StaleEpoch(BrokerId(1))));
    assert_eq!(cluster.image().next_producer_id(), ProducerId(2000));

    let last = ProducerIdsRecord { broker_id: 1, broker_epoch: epoch, next_producer_id: i64::MAX - 5 };
    cluster.controller.replay(&last.into(), Offset(100), LeaderEpoch(1)).unwrap();
    let outcome = cluster.controller.handle_allocate_producer_ids(BrokerId(1), epoch);
    assert_eq!(outcome.reply, Err(ProducerIdsError::Exhausted));
}
