//! The host of the group ledgers: one for each partition of `__consumer_offsets` on this node.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_configs::{BrokerConfig, broker};
use dohle_groups::consumer::{Assignor, MigrationPolicy};
use dohle_groups::lag::CommitWindows;
use dohle_groups::state::CommittedOffset;
use dohle_groups::{
    Caller, Effects, GroupLedger, GroupsConfig, Progress, Record, Replayed, Reply, Token, Turn,
    record_type_name,
};
use dohle_ledger::{CommitQueue, partition_for};
use dohle_protocol::Message;
use dohle_records::{BatchHeader, ControlRecordKey, ControlRecordType, Record as LoggedRecord};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, FastMap, Offset, Str, TopicId};

use crate::connection::Call;
use crate::gathered::Gathered;
use crate::groups_cluster::GroupsCluster;
use crate::ledger_hosts::{Gathering, Held, Then};
use crate::node::Node;
use crate::partition::PartitionKey;
use crate::purgatory::Parked;

/// The internal topic that the groups' ledgers are kept in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

const COORDINATOR_GONE: &str = "the group coordinator is gone";

/// All group ledgers of this node.
#[derive(Debug)]
pub struct GroupHosts {
    config: GroupsConfig,
    hosts: BTreeMap<i32, GroupHost>,
    /// Who waits for an answer to JoinGroup or SyncGroup. A member has one of them under way.
    calls: FastMap<Token, Call>,
    next_token: u64,
    /// The latest commits of their groups.
    pub(crate) windows: CommitWindows,
}

#[derive(Debug)]
pub(crate) struct GroupHost {
    pub(crate) ledger: GroupLedger,
    pub(crate) partition: PartitionKey,
    /// Until then it is replayed and answers nobody.
    pub(crate) loaded: bool,
    /// While it is loaded: how many records there are of each type that it does not know.
    skipped: BTreeMap<i16, u64>,
    /// The log's end after the ledger's last batch.
    pub(crate) appended: Offset,
    held: CommitQueue<Held>,
    gathered: Gathered,
}

impl GroupHost {
    /// Takes up what the ledger has written.
    fn gather(&mut self, records: Vec<Record>) {
        for record in records {
            if let Err(error) = self.ledger.replay(&record.key, record.value.as_ref()) {
                unreachable!("a ledger reads what it wrote: {error}");
            }
            let size = record.size();
            self.gathered.add(record.key, record.value, size);
        }
    }
}

impl GroupHosts {
    /// No ledgers yet, and room to remember the latest commits of so many partitions of groups.
    #[must_use]
    pub fn new(config: &BrokerConfig, commit_windows: usize) -> Self {
        let size = |value: i32| usize::try_from(value).unwrap_or_default();
        let duration_ms = |value: i32| Duration::from_millis(u64::try_from(value).unwrap_or_default());
        let retention_minutes = u64::try_from(config.value(broker::OFFSETS_RETENTION_MINUTES)).unwrap_or(1);
        let assignors = config.value(broker::GROUP_CONSUMER_ASSIGNORS);
        let config = GroupsConfig {
            consumer_group_size_max: size(config.value(broker::GROUP_CONSUMER_MAX_SIZE)),
            migration: MigrationPolicy::from_name(&config.value(broker::GROUP_CONSUMER_MIGRATION_POLICY))
                .unwrap_or(MigrationPolicy::Bidirectional),
            assignors: assignors.iter().filter_map(|name| Assignor::from_name(name)).collect(),
            session_timeout_ms_min: config.value(broker::GROUP_MIN_SESSION_TIMEOUT_MS),
            session_timeout_ms_max: config.value(broker::GROUP_MAX_SESSION_TIMEOUT_MS),
            initial_rebalance_delay: duration_ms(config.value(broker::GROUP_INITIAL_REBALANCE_DELAY_MS)),
            group_size_max: size(config.value(broker::GROUP_MAX_SIZE)),
            offset_metadata_len_max: size(config.value(broker::OFFSET_METADATA_MAX_BYTES)),
            offsets_retention: Duration::from_secs(60 * retention_minutes),
            ..GroupsConfig::default()
        };
        Self {
            config,
            hosts: BTreeMap::new(),
            calls: FastMap::default(),
            next_token: 0,
            windows: CommitWindows::new(commit_windows),
        }
    }

    /// When the next ledger wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|host| host.ledger.next_timeout()).min()
    }

    /// The partitions of all ledgers that answer.
    #[must_use]
    pub fn loaded(&self) -> Vec<i32> {
        self.hosts.iter().filter(|(_, host)| host.loaded).map(|(&index, _)| index).collect()
    }

    /// The ledgers that answer.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &GroupLedger> {
        self.hosts.values().filter(|host| host.loaded).map(|host| &host.ledger)
    }

    /// A ledger, loaded or not.
    pub(crate) fn host(&mut self, index: i32) -> Option<&mut GroupHost> {
        self.hosts.get_mut(&index)
    }

    /// Whether some ledger is still being loaded.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.hosts.values().any(|host| !host.loaded)
    }
}

impl Node {
    /// A partition of the offsets topic is here: its ledger will be loaded from it.
    pub(crate) fn add_group_host(&mut self, index: i32, partition: PartitionKey) {
        let host = GroupHost {
            ledger: GroupLedger::new(self.groups.config.clone()),
            partition,
            loaded: false,
            skipped: BTreeMap::new(),
            appended: Offset::ZERO,
            held: CommitQueue::default(),
            gathered: Gathered::default(),
        };
        self.groups.hosts.insert(index, host);
    }

    /// A partition of the offsets topic is gone, and with it its groups.
    pub(crate) fn remove_group_host(&mut self, index: i32) {
        let Some(mut host) = self.groups.hosts.remove(&index) else { return };
        let mut effects = Effects::default();
        host.ledger.resign(&mut effects);
        for (token, reply) in effects.replies {
            if let Some(call) = self.groups.calls.remove(&token) {
                self.reply_now(&call, &reply);
            }
        }
        let held: Vec<Held> = host.held.abandon().chain(host.gathered.into_held()).collect();
        for held in held {
            match held {
                Held::Answer(call, _) => self.close(&call, COORDINATOR_GONE),
                Held::Part(_)
                | Held::Metadata(..)
                | Held::FindCoordinator(..)
                | Held::InitProducerId(..)
                | Held::EndTxn(..)
                | Held::AddOffsets(..)
                | Held::TxnOffsetCommit(..)
                | Held::Produce(_)
                | Held::Markers(..) => self.let_go(held),
            }
        }
    }

    /// Replays one record at start. What cannot be read is passed over: the rest of the groups go on.
    pub(crate) fn replay_group_record(&mut self, index: i32, header: &BatchHeader, record: LoggedRecord) {
        let Some(host) = self.groups.hosts.get_mut(&index) else { return };
        let key = record.key.unwrap_or_default();
        let replayed = if header.attributes.is_control() {
            match ControlRecordKey::parse(&key).map(|key| key.record_type) {
                Ok(ControlRecordType::Commit) => drop(host.ledger.replay_marker(header.producer_id, true)),
                Ok(ControlRecordType::Abort) => drop(host.ledger.replay_marker(header.producer_id, false)),
                Ok(_) | Err(_) => {}
            }
            return;
        } else {
            let transaction = header.attributes.is_transactional().then_some(header.producer_id);
            host.ledger.replay_at(record.offset, transaction, &key, record.value.as_ref())
        };
        match replayed {
            Ok(Replayed::Applied) => {}
            // A tombstone says that there is nothing to keep.
            Ok(Replayed::Skipped { record_type }) if record.value.is_some() => {
                *host.skipped.entry(record_type).or_default() += 1;
            }
            Ok(Replayed::Skipped { .. }) => {}
            Err(error) => {
                tracing::warn!(partition = index, %error, "a record of {OFFSETS_TOPIC} is passed over");
            }
        }
    }

    /// The ledger's log is replayed: it answers from now on.
    pub(crate) fn on_groups_loaded(&mut self, index: i32) {
        if let Some(host) = self.groups.hosts.get_mut(&index) {
            host.loaded = true;
            self.groups.windows.begin(self.now);
            let skipped: Vec<String> = std::mem::take(&mut host.skipped)
                .into_iter()
                .map(|(record_type, records)| {
                    format!("{} ({record_type}): {records}", record_type_name(record_type))
                })
                .collect();
            if !skipped.is_empty() {
                let skipped = skipped.join(", ");
                tracing::warn!(
                    partition = index,
                    records_by_type = skipped,
                    "{OFFSETS_TOPIC} has records that this version keeps and does not serve"
                );
            }
        }
        self.run_groups(index, |ledger, turn| ledger.on_loaded(turn));
    }

    /// The ledger's log was committed further: what it said may be told.
    pub(crate) fn on_group_log_committed(&mut self, index: i32) {
        let Some(host) = self.groups.hosts.get(&index) else { return };
        let committed = self.partitions.by_key(host.partition).map(|partition| partition.high_watermark());
        let Some(committed) = committed else { return };
        while let Some(held) = self.groups.hosts.get_mut(&index).and_then(|host| host.held.release(committed))
        {
            self.let_go(held);
        }
        self.write_gathered(index, None);
    }

    /// Takes up what a ledger has written, and appends it when it is time. `None` where the log takes no more, and the
    /// ledger is gone.
    fn gather(&mut self, index: i32, records: Vec<Record>) -> Option<()> {
        let bytes_max = self.groups.config.batch_bytes_max;
        let host = self.groups.hosts.get(&index)?;
        // What is decided together stays in one batch, if it fits.
        if host.gathered.bytes() + records.iter().map(Record::size).sum::<usize>() > bytes_max {
            self.write_gathered(index, Some(0))?;
        }
        self.groups.hosts.get_mut(&index)?.gather(records);
        self.write_gathered(index, Some(bytes_max))
    }

    /// Appends what the ledgers have gathered, for the node stops.
    pub(crate) fn write_all_groups_gathered(&mut self) {
        for index in self.groups.loaded() {
            self.write_gathered(index, Some(0));
        }
    }

    /// Appends what a ledger has gathered, if nothing of it is on its way to being committed; or if there is more than
    /// so many bytes of it. `None` where that failed, and the ledger is gone.
    pub(crate) fn write_gathered(&mut self, index: i32, or_above: Option<usize>) -> Option<()> {
        let host = self.groups.hosts.get_mut(&index)?;
        let is_committed = |key| self.partitions.by_key(key).is_none_or(|it| it.is_committed(host.appended));
        let is_due =
            or_above.is_some_and(|bytes| host.gathered.bytes() > bytes) || is_committed(host.partition);
        if host.gathered.is_empty() || !is_due {
            return Some(());
        }
        let (partition, gathered) = (host.partition, std::mem::take(&mut host.gathered));
        let end = self.append_gathered(partition, &gathered, self.groups.config.batch_bytes_max);
        let host = self.groups.hosts.get_mut(&index)?;
        let Some(end) = end else {
            // The ledger has promised what is not in the log.
            host.gathered = gathered;
            self.remove_group_host(index);
            return None;
        };
        host.appended = end;
        gathered.into_held().into_iter().for_each(|held| host.held.hold(end, held));
        Some(())
    }

    /// Calls the ledgers that wanted to be called by now.
    pub(crate) fn on_group_timeouts(&mut self) {
        let now = self.now.instant;
        let due: Vec<i32> = self
            .groups
            .hosts
            .iter()
            .filter(|(_, host)| host.ledger.next_timeout().is_some_and(|due| due <= now))
            .map(|(&index, _)| index)
            .collect();
        for index in due {
            self.run_groups(index, |ledger, turn| ledger.on_timeout(turn));
        }
    }

    /// Forgets offsets that nobody has used for `offsets.retention.minutes` (KIP-211).
    pub(crate) fn expire_offsets(&mut self) {
        for index in self.groups.loaded() {
            let expire =
                |ledger: &mut GroupLedger, turn: &mut Turn<'_>| ledger.expire_offsets(turn.now, turn.effects);
            while self.run_groups(index, expire) == Some(Progress::More) {}
        }
    }

    /// Forgets the offsets of topics that were deleted.
    pub(crate) fn forget_offsets_of(&mut self, topic: Str, topic_id: TopicId) {
        let deleted = [(topic, topic_id)];
        for index in self.groups.loaded() {
            let forget = |ledger: &mut GroupLedger, turn: &mut Turn<'_>| {
                ledger.on_topics_deleted(&deleted, turn.effects)
            };
            while self.run_groups(index, forget) == Some(Progress::More) {}
        }
    }

    /// What groups have committed for a topic, as far as their ledgers are here.
    pub(crate) fn group_offsets_of(
        &self,
        topic: &Str,
        topic_id: TopicId,
    ) -> Vec<(Str, i32, CommittedOffset)> {
        let loaded = self.groups.hosts.values().filter(|host| host.loaded);
        let offsets = loaded.flat_map(|host| host.ledger.offsets_of(topic, topic_id));
        offsets.map(|(group_id, index, committed)| (group_id.clone(), index, committed.clone())).collect()
    }

    /// Commits offsets of a topic that is brought back.
    pub(crate) fn restore_group_offsets(
        &mut self,
        index: i32,
        topic: &Str,
        offsets: &[(Str, i32, CommittedOffset)],
    ) {
        let restore = |ledger: &mut GroupLedger, turn: &mut Turn<'_>| {
            ledger.restore_offsets(topic, offsets, turn.effects)
        };
        while self.run_groups(index, restore) == Some(Progress::More) {}
    }

    /// The ledger that coordinates a group.
    ///
    /// # Errors
    /// It is not here yet; the client asks again.
    pub(crate) fn coordinator_of(&self, group_id: &str) -> Result<i32, ErrorCode> {
        let partitions = self.image().topic(OFFSETS_TOPIC).map(|topic| topic.partitions.len());
        let partitions = partitions.and_then(|count| i32::try_from(count).ok()).filter(|&count| count > 0);
        let index = partition_for(group_id, partitions.ok_or(ErrorCode::CoordinatorNotAvailable)?).0;
        match self.groups.hosts.get(&index) {
            Some(host) if host.loaded => Ok(index),
            Some(_) => Err(ErrorCode::CoordinatorLoadInProgress),
            None => Err(ErrorCode::NotCoordinator),
        }
    }

    /// The ledger that coordinates a group, to be read.
    ///
    /// # Errors
    /// As [`Node::coordinator_of`].
    pub(crate) fn ledger_of(&self, group_id: &str) -> Result<&GroupLedger, ErrorCode> {
        let index = self.coordinator_of(group_id)?;
        self.groups.hosts.get(&index).map(|host| &host.ledger).ok_or(ErrorCode::NotCoordinator)
    }

    /// A name for a request that its ledger may answer later.
    pub(crate) fn group_token(&mut self, call: Call) -> Token {
        self.groups.next_token += 1;
        let token = Token(self.groups.next_token);
        self.groups.calls.insert(token, call);
        token
    }

    /// Lets a ledger act, appends what it wrote, and holds what it answered. `None` where it is not here.
    pub(crate) fn run_groups<T>(
        &mut self,
        index: i32,
        act: impl FnOnce(&mut GroupLedger, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let host = self.groups.hosts.get_mut(&index)?;
        let mut effects = Effects::default();
        let cluster = GroupsCluster { image: self.metadata.image(), config: &self.config };
        let mut turn = Turn { now: self.now, rng: &mut self.rng, cluster: &cluster, effects: &mut effects };
        let result = act(&mut host.ledger, &mut turn);
        for rebalance in &effects.rebalances {
            tracing::info!(
                group = %rebalance.group_id,
                generation = rebalance.generation,
                cause = %rebalance.cause,
                "rebalance"
            );
        }
        if self.gather(index, effects.records).is_none() {
            for (token, _) in effects.replies {
                if let Some(call) = self.groups.calls.remove(&token) {
                    self.close(&call, COORDINATOR_GONE);
                }
            }
            return None;
        }
        let host = self.groups.hosts.get_mut(&index)?;
        let entries = host.ledger.take_journal(self.now);
        self.journal_groups(&entries);
        for (token, reply) in effects.replies {
            if let Some(call) = self.groups.calls.remove(&token) {
                match &reply {
                    Reply::JoinGroup(response) => self.answer_from_group(index, call, response),
                    Reply::SyncGroup(response) => self.answer_from_group(index, call, response),
                }
            }
        }
        self.on_group_log_committed(index);
        Some(result)
    }

    /// Answers a request once what its ledger has appended so far is committed.
    pub(crate) fn answer_from_group<M: Message>(&mut self, index: i32, call: Call, response: &M) {
        self.answer_from_groups(&[index], call, response);
    }

    /// Answers a request once what all these ledgers have appended so far is committed.
    pub(crate) fn answer_from_groups<M: Message>(&mut self, indexes: &[i32], call: Call, response: &M) {
        let frame = match self.encode(&call, response) {
            Ok(frame) => frame,
            Err(error) => return self.close(&call, &format!("{} response: {error}", call.key.name())),
        };
        match indexes {
            [] => self.send(&call, Some(frame)),
            &[index] => self.hold_in_group(index, Held::Answer(call, frame)),
            _ => self.after_groups(indexes, call, Then::Answer(frame)),
        }
    }

    /// Goes on with a request once what all these ledgers have appended so far is committed.
    pub(crate) fn after_groups(&mut self, indexes: &[i32], call: Call, then: Then) {
        let id = self.purgatory.next_id();
        let connection = call.connection;
        let gathering = Gathering { call, then, outstanding: indexes.len() };
        self.purgatory.park(id, Some(connection), Parked::Gathering(Box::new(gathering)), None);
        for &index in indexes {
            self.hold_in_group(index, Held::Part(id));
        }
    }

    /// Asks a group's ledger for an answer and gives it once it is committed; `refusal` makes the answer where
    /// the ledger is not here.
    pub(crate) fn ask_group<M: Message>(
        &mut self,
        call: Call,
        group_id: &str,
        refusal: impl FnOnce(ErrorCode) -> M,
        act: impl FnOnce(&mut GroupLedger, &mut Turn<'_>) -> M,
    ) {
        let answered = self.coordinator_of(group_id).and_then(|index| {
            let response = self.run_groups(index, act);
            response.map(|response| (index, response)).ok_or(ErrorCode::NotCoordinator)
        });
        match answered {
            Ok((index, response)) => self.answer_from_group(index, call, &response),
            Err(error) => self.reply(&call, &refusal(error)),
        }
    }

    /// Who sent a request, as the group ledgers want to know it.
    pub(crate) fn caller(&self, call: &Call) -> Caller {
        let connection = self.connections.get(&call.connection);
        let host = connection.map(|connection| connection.client_host.as_str()).unwrap_or_default();
        Caller {
            client_id: call.client_id.clone(),
            client_host: Str::from(format!("/{host}")),
            api_version: call.version,
        }
    }

    fn hold_in_group(&mut self, index: i32, held: Held) {
        match self.groups.hosts.get_mut(&index) {
            Some(host) if host.gathered.is_empty() => {
                host.held.hold(host.appended, held);
                self.on_group_log_committed(index);
            }
            Some(host) => host.gathered.hold(held),
            None => self.let_go(held),
        }
    }

    fn reply_now(&mut self, call: &Call, reply: &Reply) {
        match reply {
            Reply::JoinGroup(response) => self.reply(call, response),
            Reply::SyncGroup(response) => self.reply(call, response),
        }
    }
}
