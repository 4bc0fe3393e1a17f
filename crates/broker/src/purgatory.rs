//! Requests that wait: for data to arrive, for an append to be committed, for a file to be read.
//!
//! A parked request is woken by exactly what it waits for, or by its deadline; nothing polls. How many there
//! are is bounded by the connections' limits of requests in flight.

use std::collections::BTreeSet;

use dohle_types::FastMap;
use dohle_types::time::Instant;

use crate::handlers::{k00_produce, k01_fetch, k02_list_offsets, k27_write_txn_markers, k20011_group_lag};
use crate::host::ConnectionId;
use crate::ledger_hosts::Gathering;
use crate::txn_hosts::WrittenMarker;
use crate::txn_produce::BlockedProduce;

/// The number of a parked request; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParkedId(pub u64);

/// A request that waits, with what it has so far.
#[derive(Debug)]
pub enum Parked {
    /// Appends that are not committed yet.
    Produce(Box<k00_produce::ParkedProduce>),
    /// Batches of a transaction that begins when the last one has ended.
    BlockedProduce(Box<BlockedProduce>),
    /// Transaction markers that are not committed yet.
    Markers(Box<k27_write_txn_markers::ParkedMarkers>),
    /// Markers of this node's coordinator that are not committed yet.
    TxnMarkers(Box<WrittenMarker>),
    /// A fetch that wants more data, or that waits for files.
    Fetch(Box<k01_fetch::ParkedFetch>),
    /// Offsets that are looked up in files.
    ListOffsets(Box<k02_list_offsets::ParkedListOffsets>),
    /// The lag of a group, whose ages are looked up in files.
    GroupLag(Box<k20011_group_lag::ParkedGroupLag>),
    /// An answer whose parts come from several ledgers.
    Gathering(Box<Gathering>),
}

/// All parked requests of a node.
#[derive(Debug, Default)]
pub struct Purgatory {
    parked: FastMap<ParkedId, (Parked, Option<ConnectionId>, Option<Instant>)>,
    of_connection: BTreeSet<(ConnectionId, ParkedId)>,
    deadlines: BTreeSet<(Instant, ParkedId)>,
    next_id: u64,
}

impl Purgatory {
    /// A number for a request that is about to be parked.
    pub fn next_id(&mut self) -> ParkedId {
        self.next_id += 1;
        ParkedId(self.next_id)
    }

    /// Parks a request of a connection, or work of nobody's, until `deadline` where there is one.
    pub fn park(
        &mut self,
        id: ParkedId,
        connection: Option<ConnectionId>,
        parked: Parked,
        deadline: Option<Instant>,
    ) {
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        if let Some(connection) = connection {
            self.of_connection.insert((connection, id));
        }
        self.parked.insert(id, (parked, connection, deadline));
    }

    /// The request, which stays parked; `None` where it was answered or dropped meanwhile.
    pub fn parked_mut(&mut self, id: ParkedId) -> Option<&mut Parked> {
        self.parked.get_mut(&id).map(|(parked, ..)| parked)
    }

    /// Takes a request out, to be answered, dropped, or parked again.
    pub fn take(&mut self, id: ParkedId) -> Option<(Parked, Option<Instant>)> {
        let (parked, connection, deadline) = self.parked.remove(&id)?;
        if let Some(connection) = connection {
            self.of_connection.remove(&(connection, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some((parked, deadline))
    }

    /// A request of this connection.
    #[must_use]
    pub fn any_of(&self, connection: ConnectionId) -> Option<ParkedId> {
        let all = (connection, ParkedId(0))..=(connection, ParkedId(u64::MAX));
        self.of_connection.range(all).next().map(|&(_, id)| id)
    }

    /// A request whose deadline has come.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<ParkedId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|&(_, id)| id)
    }

    /// The next deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}
