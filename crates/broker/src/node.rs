//! The node: one machine that takes inputs and gives effects. This file holds its state and its dispatch; what
//! it does with each kind of input stands in the module named for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use dohle_configs::{BrokerConfig, TopicConfig, broker};
use dohle_controller::MetadataImage;
use dohle_groups::journal::stats::JournalStats;
use dohle_groups::lag::CommitWindows;
use dohle_protocol::messages::ApiVersionsResponse;
use dohle_protocol::{ApiKey, EncodeError, Frame, Message, Reader, decode_request_header, encode_response};
use dohle_storage::{Codecs, SyncPoint};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, FastMap, Now, Offset, Rng, Str, TopicId};

use crate::answer_line::AnswerLine;
use crate::boot::Boot;
use crate::cleaner::Cleaner;
use crate::connection::{Call, Connection, Flow};
use crate::fetch_session::FetchSessions;
use crate::fixed_configs::FixedConfigs;
use crate::flush::FlushTimes;
use crate::group_hosts::GroupHosts;
use crate::group_journal::GroupJournal;
use crate::handlers;
use crate::host::{ConnectionId, Effect, Input, JobToken};
use crate::log_dirs::LogDirs;
use crate::maintenance::Maintenance;
use crate::memory::{Budget, Share, ShareUse};
use crate::metadata_log::MetadataLog;
use crate::metrics::RequestStats;
use crate::opening::{Openings, Turn};
use crate::partition::{Partition, PartitionKey, Progress, Tenant, Waiter};
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::producer_limit::ProducerLimit;
use crate::purgatory::{Parked, ParkedId, Purgatory};
use crate::started_jobs::StartedJob;
use crate::trash::Trash;
use crate::txn_hosts::TxnHosts;

/// Array elements that a request may have, over all its arrays: enough for a fetch of a hundred thousand
/// partitions, and few enough that decoding them holds up nobody for long.
const REQUEST_ELEMENTS_MAX: usize = 1 << 18;

/// One node.
pub struct Node {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) memory: Budget,
    /// Fetches that wait for memory.
    pub(crate) answer_line: AnswerLine,
    pub(crate) fixed: FixedConfigs,
    pub(crate) phase: Phase,
    /// Until then it waits for logs that are being opened; `None` once it listens.
    pub(crate) listen_by: Option<Instant>,
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    pub(crate) connections: FastMap<ConnectionId, Connection>,
    pub(crate) requests: RequestStats,
    pub(crate) log_dirs: LogDirs,
    pub(crate) partitions: Partitions,
    /// The configs of topics, as far as they were asked for since they changed.
    pub(crate) topic_configs: FastMap<TopicId, Arc<TopicConfig>>,
    pub(crate) purgatory: Purgatory,
    pub(crate) sessions: FetchSessions,
    pub(crate) metadata: MetadataLog,
    pub(crate) groups: GroupHosts,
    pub(crate) txns: TxnHosts,
    pub(crate) group_journal: GroupJournal,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) producer_limit: ProducerLimit,
    pub(crate) trash: Trash,
    pub(crate) maintenance: Maintenance,
    pub(crate) cleaner: Cleaner,
    pub(crate) flush_times: FlushTimes,
    /// Compression contexts, reused from append to append.
    pub(crate) codecs: Codecs,
    pub(crate) effects: Vec<Effect>,
    pub(crate) openings: Openings,
    pub(crate) jobs: FastMap<JobToken, StartedJob>,
    pub(crate) next_job: u64,
    /// Fetches whose partitions have news, evaluated once at the end of the input.
    woken: BTreeSet<ParkedId>,
}

/// Where the node stands in its life.
#[derive(Debug)]
pub enum Phase {
    /// It reads what it must know before it can serve.
    Booting(Box<Boot>),
    /// It serves.
    Serving,
    /// It makes everything durable before it ends.
    Stopping,
    /// Nothing is handled any more.
    Stopped,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Node {
    /// A node that has not booted, on a machine or in a container of so much memory. `seed` is where all its randomness
    /// comes from.
    #[must_use]
    pub fn new(config: BrokerConfig, machine_bytes: u64, seed: u64) -> Self {
        let memory = Budget::new(&config, machine_bytes);
        let (tail_bytes, session_bytes) = (memory.limit(Share::Tails), memory.limit(Share::FetchSessions));
        // Of what is for no share in particular.
        let commit_windows = memory.total() / 64 / CommitWindows::WINDOW_BYTES;
        let producer_limit = ProducerLimit::new(&config, &memory);
        let session_slots = config.value(broker::MAX_INCREMENTAL_FETCH_SESSION_CACHE_SLOTS);
        let fixed = FixedConfigs::of(&config);
        let config = Arc::new(config);
        let mut rng = Rng::from_seed(seed);
        Self {
            memory,
            answer_line: AnswerLine::default(),
            fixed,
            phase: Phase::Booting(Box::default()),
            listen_by: None,
            now: Now { instant: Instant::ZERO, wall: dohle_types::Timestamp::NONE },
            connections: FastMap::default(),
            requests: RequestStats::default(),
            log_dirs: LogDirs::new(&config),
            partitions: Partitions::new(tail_bytes),
            topic_configs: FastMap::default(),
            purgatory: Purgatory::default(),
            sessions: FetchSessions::new(usize::try_from(session_slots).unwrap_or_default(), session_bytes),
            metadata: MetadataLog::default(),
            groups: GroupHosts::new(&config, commit_windows),
            txns: TxnHosts::new(&config),
            group_journal: GroupJournal::default(),
            producer_ids: ProducerIds::default(),
            producer_limit,
            trash: Trash::default(),
            maintenance: Maintenance::default(),
            cleaner: Cleaner::new(&mut rng),
            flush_times: FlushTimes::default(),
            rng,
            codecs: Codecs::default(),
            effects: Vec::new(),
            openings: Openings::default(),
            jobs: FastMap::default(),
            next_job: 0,
            woken: BTreeSet::new(),
            config,
        }
    }

    /// Handles one input and appends what follows from it to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        match input {
            Input::Boot => self.boot(),
            Input::Opened { connection, client_host, local: (host, port) } => {
                let opened = Connection::new(Str::from(client_host), (Str::from(host), port));
                self.connections.insert(connection, opened);
            }
            Input::Received { connection, frame } => self.on_request(connection, &frame),
            Input::Closed { connection } => self.on_closed(connection),
            Input::Sent { bytes } => self.memory.give_back(Share::Answers, bytes),
            Input::Written { partition, end } => self.on_written(partition, end),
            Input::Synced { partition, point } => self.on_synced(partition, point, Partition::on_synced),
            Input::Flushed { partition, point } => self.on_synced(partition, point, Partition::on_flushed),
            Input::JobDone { token, output } => {
                if let Some(job) = self.jobs.remove(&token) {
                    if self.is_outdated(&job) {
                        self.on_read_outdated(job.purpose);
                    } else {
                        self.on_job_done(job.purpose, output);
                    }
                }
            }
            Input::DiskFailed { error } if error.is_full => self.on_disk_full(&error),
            Input::DiskFailed { error } => self.on_disk_failed(&error),
            Input::JobFailed { token, error } => {
                if !error.is_full {
                    self.on_disk_failed(&error);
                }
                if let Some(job) = self.jobs.remove(&token) {
                    self.on_job_failed(job.purpose, &error);
                }
            }
            Input::DiskSpace { log_dir, total, usable } => self.on_disk_space(log_dir, total, usable),
            Input::Tick => {}
            Input::Stop => self.stop(),
            Input::Scrape { scrape, format } => self.on_scrape(scrape, format),
        }
        self.on_time();
        self.wake_fetches();
        self.serve_answer_line();
        std::mem::swap(&mut self.effects, effects);
    }

    /// When [`Input::Tick`] is due, on the monotonic clock, unless another input comes first.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Serving => [
                self.purgatory.next_deadline(),
                self.groups.next_timeout(),
                self.txns.next_timeout(self.now),
                self.group_journal.next_timeout(),
                self.maintenance.next_timeout(),
                self.log_dirs.next_timeout(),
                self.metadata.snapshots.next_timeout(self.metadata.image().end_offset()),
                self.openings.next_timeout(),
                self.cleaner.next_timeout(),
                self.flush_times.next_timeout(),
                self.listen_by,
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Booting(_) | Phase::Stopping | Phase::Stopped => None,
        }
    }

    /// The memory that is counted, from which the host takes what it receives.
    #[must_use]
    pub const fn memory(&self) -> &Budget {
        &self.memory
    }

    /// As [`Self::memory`].
    pub const fn memory_mut(&mut self) -> &mut Budget {
        &mut self.memory
    }

    /// How the memory is used.
    #[must_use]
    pub fn memory_usage(&self) -> [(Share, ShareUse); Share::ALL.len()] {
        Share::ALL.map(|share| {
            let counted = self.memory.usage(share);
            let used = match share {
                Share::Tails => self.partitions.tail_bytes(),
                Share::FetchSessions => self.sessions.bytes(),
                Share::SmallRequests | Share::LargeRequests | Share::Answers | Share::Cleaner => counted.used,
            };
            (share, ShareUse { used, most: counted.most.max(used), ..counted })
        })
    }

    /// The cluster as far as it is committed.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        self.metadata.image()
    }

    /// How many connections there may be, and how many from this address (`max.connections`,
    /// `max.connections.per.ip`).
    #[must_use]
    pub fn connections_max(&self, from: IpAddr) -> (usize, usize) {
        let size = |value: i32| usize::try_from(value).unwrap_or_default();
        let overrides = self.config.max_connections_per_ip_overrides();
        let from_there = overrides.get(&from.to_string()).and_then(|&max| usize::try_from(max).ok());
        let from_anywhere = || size(self.config.value(broker::MAX_CONNECTIONS_PER_IP));
        (size(self.config.value(broker::MAX_CONNECTIONS)), from_there.unwrap_or_else(from_anywhere))
    }

    /// Counters and histograms of what happened to groups, by cause, since the node was started.
    #[must_use]
    pub const fn group_journal_stats(&self) -> &JournalStats {
        self.group_journal.stats()
    }

    /// What is due at this time.
    fn on_time(&mut self) {
        if !matches!(self.phase, Phase::Serving) {
            return;
        }
        while let Some(id) = self.purgatory.expired(self.now.instant) {
            self.on_expired(id);
        }
        self.on_group_timeouts();
        self.on_txn_timeouts();
        self.write_group_journal_when_due();
        self.maintain();
        self.clean_when_due();
        self.flush_when_due();
        self.on_opening_times();
        self.listen_when_loaded();
    }

    fn on_expired(&mut self, id: ParkedId) {
        let Some((parked, _)) = self.purgatory.take(id) else { return };
        match parked {
            Parked::Produce(parked) => handlers::k00_produce::on_expired(self, *parked),
            Parked::BlockedProduce(blocked) => self.on_blocked_produce_expired(*blocked),
            Parked::Fetch(parked) => handlers::k01_fetch::on_expired(self, id, *parked),
            Parked::GroupLag(parked) => handlers::k20011_group_lag::on_expired(self, *parked),
            Parked::Markers(_) | Parked::TxnMarkers(_) | Parked::ListOffsets(_) | Parked::Gathering(_) => {
                unreachable!("these wait without a deadline")
            }
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.forget_connection(connection);
        while let Some(id) = self.purgatory.any_of(connection) {
            if let Some((Parked::Fetch(fetch), _)) = self.purgatory.take(id) {
                handlers::k01_fetch::on_dropped(self, id, *fetch);
            }
        }
    }

    /// What it asked for is not answered any more.
    fn forget_connection(&mut self, connection: ConnectionId) -> Option<Connection> {
        let gone = self.connections.remove(&connection)?;
        gone.unanswered().for_each(|bytes| self.memory.give_back(Share::of_request(bytes), bytes));
        self.memory.give_back(Share::Answers, gone.unsent_bytes());
        Some(gone)
    }

    fn on_request(&mut self, connection: ConnectionId, frame: &Bytes) {
        // Before it serves nobody can call, and once it stops nothing may be appended: clients look elsewhere.
        if !matches!(self.phase, Phase::Serving) {
            return self.refuse(connection, "the node is not serving");
        }
        let mut reader = request_reader(frame);
        let header = match decode_request_header(&mut reader) {
            Ok(header) => header,
            Err(error) => return self.refuse(connection, &format!("request header: {error}")),
        };
        let Some((place, api)) = ApiKey::from_code(header.request_api_key).and_then(handlers::api) else {
            return self.refuse(connection, &format!("API key {} is not served", header.request_api_key));
        };
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let (slot, flow) = state.begin(frame.len());
        self.memory.take(Share::of_request(frame.len()), frame.len());
        let call = Call {
            connection,
            slot,
            key: api.key,
            version: header.request_api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.unwrap_or_default(),
            api: place,
            received: self.now.instant,
        };
        self.requests.note_received(place);
        if flow == Flow::Pause {
            self.effects.push(Effect::Pause { connection });
        }
        if !api.versions.contains(&call.version) {
            return self.refuse_version(call);
        }
        if let Err(error) = (api.run)(self, call, reader, frame, Turn::First) {
            self.refuse(connection, &format!("{}: {error}", api.key.name()));
        }
    }

    /// Handles a request again, from the beginning, that waited for a log.
    pub(crate) fn on_request_again(&mut self, call: Call, frame: &Bytes) {
        let mut reader = request_reader(frame);
        let (connection, key) = (call.connection, call.key);
        let (Ok(_), Some((_, api))) = (decode_request_header(&mut reader), handlers::api(key)) else {
            unreachable!("the request was decoded before")
        };
        if let Err(error) = (api.run)(self, call, reader, frame, Turn::Again) {
            self.refuse(connection, &format!("{}: {error}", key.name()));
        }
    }

    /// Closes a connection that sent what cannot be answered.
    fn refuse(&mut self, connection: ConnectionId, why: &str) {
        self.requests.refused += 1;
        let host = self.forget_connection(connection).map(|connection| connection.client_host);
        tracing::warn!(client = host.as_deref().unwrap_or_default(), why, "connection closed");
        self.effects.push(Effect::Close { connection });
    }

    /// A version that is not served. ApiVersions is answered in version 0, from which the client learns what
    /// is (KIP-511); anything else closes the connection, as Kafka does.
    fn refuse_version(&mut self, mut call: Call) {
        if call.key != ApiKey::ApiVersions {
            let why = format!("{} version {} is not served", call.key.name(), call.version);
            return self.refuse(call.connection, &why);
        }
        call.version = 0;
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..handlers::k18_api_versions::served()
        };
        self.reply(&call, &response);
    }

    /// Answers a request.
    pub(crate) fn reply<M: Message>(&mut self, call: &Call, response: &M) {
        match self.encode(call, response) {
            Ok(frame) => self.send(call, Some(frame)),
            Err(error) => {
                let why = format!("{} response: {error}", call.key.name());
                self.refuse(call.connection, &why);
            }
        }
    }

    /// A response as the frame that answers `call`; its errors are counted.
    pub(crate) fn encode<M: Message>(&mut self, call: &Call, response: &M) -> Result<Frame, EncodeError> {
        response.errors(&mut |code| self.requests.note_error(call, code));
        let header_version = call.key.response_header_version(call.version);
        encode_response(call.correlation_id, header_version, response, call.version)
    }

    /// Fills a request's slot, with `None` where it wants no answer.
    pub(crate) fn send(&mut self, call: &Call, frame: Option<Frame>) {
        let connection = call.connection;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        self.requests.note_answered(call, self.now.instant);
        let effects = &mut self.effects;
        self.memory.take(Share::Answers, frame.as_ref().map_or(0, Frame::len));
        let (request_bytes, flow) =
            state.complete(call.slot, frame, |frame| effects.push(Effect::Send { connection, frame }));
        self.memory.give_back(Share::of_request(request_bytes), request_bytes);
        if flow == Flow::Resume {
            self.effects.push(Effect::Resume { connection });
        }
    }

    /// Closes the connection of a request that wants no answer and failed (acks=0), as Kafka does.
    pub(crate) fn close(&mut self, call: &Call, why: &str) {
        self.refuse(call.connection, why);
    }

    fn on_written(&mut self, key: PartitionKey, end: Offset) {
        self.count_producers(key);
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        let progress = partition.on_written(self.now, end, &mut self.effects);
        self.after_progress(key, progress);
        self.note_flush_time(key);
    }

    pub(crate) fn on_synced(
        &mut self,
        key: PartitionKey,
        point: SyncPoint,
        note: fn(&mut Partition, SyncPoint, &mut Vec<Effect>) -> Progress,
    ) {
        if let Some(partition) = self.partitions.by_key_mut(key) {
            let progress = note(partition, point, &mut self.effects);
            self.after_progress(key, progress);
            self.note_flush_time(key);
        }
        self.on_sync_while_stopping(key);
    }

    /// Tells everybody who waited for a partition.
    fn after_progress(&mut self, key: PartitionKey, progress: Progress) {
        if progress.committed
            && let Some(partition) = self.partitions.by_key_mut(key)
        {
            self.woken.extend(&partition.fetches);
            match partition.tenant {
                Tenant::None => {}
                Tenant::Metadata => self.on_metadata_committed(),
                Tenant::Groups(index) => self.on_group_log_committed(index),
                Tenant::Transactions(index) => self.on_txn_log_committed(index),
            }
        }
        if let Some(partition) = self.partitions.by_key_mut(key) {
            let high_watermark = partition.high_watermark();
            if partition.log_mut().is_some_and(|log| log.take_sealed(high_watermark)) {
                self.mark_for_cleaning(key);
            } else if partition.log().is_some_and(|log| log.waits_for_flush(high_watermark)) {
                partition.begin_flush(&mut self.effects);
            }
        }
        self.acknowledge(progress.acknowledged);
    }

    /// Acknowledges appends.
    pub(crate) fn acknowledge(&mut self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            self.on_appended(waiter, Ok(()));
        }
    }

    /// Tells of appends that will never be acknowledged.
    pub(crate) fn abandon(&mut self, waiters: Vec<Waiter>, error: ErrorCode) {
        for waiter in waiters {
            self.on_appended(waiter, Err(error));
        }
    }

    fn on_appended(&mut self, waiter: Waiter, result: Result<(), ErrorCode>) {
        match self.purgatory.parked_mut(waiter.parked) {
            Some(Parked::Produce(_)) => handlers::k00_produce::on_appended(self, waiter, result),
            Some(Parked::Markers(_)) => handlers::k27_write_txn_markers::on_appended(self, waiter, result),
            Some(Parked::TxnMarkers(_)) => self.on_txn_marker_appended(waiter, result),
            // It was answered at its timeout, or its connection is gone.
            Some(
                Parked::BlockedProduce(_)
                | Parked::Fetch(_)
                | Parked::ListOffsets(_)
                | Parked::GroupLag(_)
                | Parked::Gathering(_),
            )
            | None => {}
        }
    }

    /// Has the fetches that wait for a partition look again at the end of this input.
    pub(crate) fn wake_fetches_of(&mut self, partition: &Partition) {
        self.woken.extend(&partition.fetches);
    }

    /// Has these fetches look again at the end of this input.
    pub(crate) fn wake(&mut self, fetches: BTreeSet<ParkedId>) {
        self.woken.extend(fetches);
    }

    fn wake_fetches(&mut self) {
        for id in std::mem::take(&mut self.woken) {
            handlers::k01_fetch::on_woken(self, id);
        }
    }

    /// The committed topic that a request names: by id where there is one, else by name.
    pub(crate) fn topic_id(&self, topic_id: TopicId, name: &str) -> Result<TopicId, ErrorCode> {
        if topic_id.is_zero() {
            let topic = self.image().topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(topic.id)
        } else {
            self.image().topic_by_id(topic_id).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicId)
        }
    }
}

fn request_reader(frame: &Bytes) -> Reader<'_> {
    Reader::with_element_budget(frame, REQUEST_ELEMENTS_MAX)
}
