//! What the hosts of the ledgers share: answers that are held until what they speak of is committed.

use dohle_protocol::Frame;
use dohle_protocol::messages::{
    AddOffsetsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
    TxnOffsetCommitRequest, UndeleteTopicRequest,
};
use dohle_storage::Origin;
use dohle_transactions::Marker;
use dohle_types::Offset;

use crate::connection::Call;
use crate::handlers::{
    k03_metadata, k10_find_coordinator, k22_init_producer_id, k25_add_offsets_to_txn, k26_end_txn,
    k28_txn_offset_commit, k20001_undelete_topic,
};
use crate::node::Node;
use crate::partition::{PartitionKey, Tenant};
use crate::purgatory::{Parked, ParkedId};
use crate::txn_produce::AskedProduce;

/// What happens once a ledger's log is committed far enough.
#[derive(Debug)]
pub enum Held {
    /// The request is answered.
    Answer(Call, Frame),
    /// One of the parts that an answer is made of is there.
    Part(ParkedId),
    /// Metadata is answered again: the topics it asked for exist now.
    Metadata(Call, MetadataRequest),
    /// FindCoordinator is answered again: the internal topic exists now.
    FindCoordinator(Call, FindCoordinatorRequest),
    /// InitProducerId is answered again: there are producer ids now.
    InitProducerId(Call, InitProducerIdRequest),
    /// EndTxn is answered: there are producer ids now.
    EndTxn(Call, EndTxnRequest),
    /// AddOffsetsToTxn is answered: there is a topic of offsets now.
    AddOffsets(Call, AddOffsetsToTxnRequest),
    /// A transaction commits offsets: its coordinator knows of it.
    TxnOffsetCommit(Call, Box<TxnOffsetCommitRequest>),
    /// Batches of a transaction are appended: its coordinator knows of them.
    Produce(Box<AskedProduce>),
    /// A transaction's end is told to its partitions.
    Markers(i32, Box<Marker>),
}

/// What is done once several ledgers have committed.
#[derive(Debug)]
pub enum Then {
    /// The request is answered.
    Answer(Frame),
    /// UndeleteTopic goes on: the groups have their offsets again.
    Undelete(UndeleteTopicRequest),
}

/// What waits for several ledgers; it is done when the last of them has committed.
#[derive(Debug)]
pub struct Gathering {
    /// The request.
    pub call: Call,
    /// What is done then.
    pub then: Then,
    /// Parts that are not committed yet.
    pub outstanding: usize,
}

impl Node {
    /// Appends a ledger's records to its log, as one batch; they are committed when the log is, up to the
    /// offset returned. `None` where the log is offline or refuses, which takes the ledger with it.
    pub(crate) fn append_to_ledger_log(&mut self, key: PartitionKey, batch: bytes::Bytes) -> Option<Offset> {
        let partition = self.partitions.by_key_mut(key)?;
        let origin = match partition.tenant {
            Tenant::Metadata => Origin::RaftLeader,
            Tenant::Groups(_) | Tenant::Transactions(_) | Tenant::None => Origin::Coordinator,
        };
        match partition.append(self.now, batch, origin, &mut self.codecs, &mut self.effects) {
            Ok(appended) => {
                self.log_dirs.use_room(partition.log_dir, appended.bytes);
                self.partitions.admit_tail(key, appended.bytes);
                Some(appended.next_offset)
            }
            Err(error) => {
                let why = error.map_or_else(|| "it is not online".to_owned(), |error| error.to_string());
                tracing::error!(partition = %partition.name, why, "a ledger's log takes no records");
                None
            }
        }
    }

    /// Does what was held.
    pub(crate) fn let_go(&mut self, held: Held) {
        match held {
            Held::Answer(call, frame) => self.send(&call, Some(frame)),
            Held::Part(id) => self.on_part(id),
            Held::Metadata(call, request) => k03_metadata::handle(self, call, request),
            Held::FindCoordinator(call, request) => k10_find_coordinator::handle(self, call, request),
            Held::InitProducerId(call, request) => k22_init_producer_id::handle(self, call, request),
            Held::EndTxn(call, request) => k26_end_txn::handle(self, call, request),
            Held::AddOffsets(call, request) => k25_add_offsets_to_txn::handle(self, call, request),
            Held::TxnOffsetCommit(call, request) => k28_txn_offset_commit::commit(self, call, *request),
            Held::Produce(asked) => self.on_produce_asked(*asked),
            Held::Markers(index, marker) => self.write_txn_markers(index, *marker),
        }
    }

    fn on_part(&mut self, id: ParkedId) {
        let Some(Parked::Gathering(gathering)) = self.purgatory.parked_mut(id) else { return };
        gathering.outstanding -= 1;
        if gathering.outstanding == 0
            && let Some((Parked::Gathering(gathering), _)) = self.purgatory.take(id)
        {
            let Gathering { call, then, .. } = *gathering;
            match then {
                Then::Answer(frame) => self.send(&call, Some(frame)),
                Then::Undelete(request) => k20001_undelete_topic::on_offsets_restored(self, call, &request),
            }
        }
    }
}
