//! Opening logs when somebody asks for them.
//!
//! After a clean stop a log stays closed until a request names it; the request waits, and is handled again from the
//! beginning once the log is open (`handlers/mod.rs` says which requests name logs). After a crash all logs are
//! recovered, those that are asked for first and the others in the background, so that what is ready serves
//! meanwhile. Logs that retention or compaction may shorten are opened for it, one at a time, and so are those
//! that the scrub comes to.
//!
//! While a request of a connection waits, those behind it that name logs wait as well: an idempotent producer's
//! batches must not overtake each other. None waits longer for a log than a second; if it is not open by then, it is
//! answered with NOT_LEADER_OR_FOLLOWER, which clients try again. How many wait is bounded as all requests in flight
//! are, by their connections.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_storage::{Log, OpenError, OpenLog, Opening};
use dohle_types::time::Instant;
use dohle_types::{FastMap, Offset, Str, TopicId};

use crate::boot_facts::KnownLog;
use crate::connection::Call;
use crate::damage::tell_damage_of;
use crate::host::{ConnectionId, DiskJob};
use crate::metadata_log::{METADATA_TOPIC, metadata_config};
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey, State, Tenant};
use crate::started_jobs::JobPurpose;

/// How long requests wait for a log.
const PATIENCE: Duration = Duration::from_secs(1);
/// Logs that are recovered in the background at the same time.
const IN_BACKGROUND_MAX: usize = 2;
/// How often it is told how far recovery is.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Whether a request is handled for the first time, or again after it waited for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    First,
    Again,
}

/// The logs that are being opened, and those that shall be.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    logs: FastMap<PartitionKey, OpeningLog>,
    /// Until when requests wait for a log, in the order in which logs were asked for.
    patience: VecDeque<(Instant, PartitionKey)>,
    /// Logs to recover for which nobody has asked yet; some may have been opened since.
    to_recover: VecDeque<PartitionKey>,
    /// Closed logs that retention and compaction want to look at; likewise.
    to_retain: VecDeque<PartitionKey>,
    in_background: usize,
    progress: Progress,
}

#[derive(Debug, Default)]
struct OpeningLog {
    /// What is known of its directory; `None` where there is none.
    known: Option<KnownLog>,
    /// Connections whose first request in waiting names it.
    waiting: BTreeSet<ConnectionId>,
    asked: bool,
    /// Requests have waited long enough.
    late: bool,
    in_background: bool,
}

/// How far recovery is.
#[derive(Debug, Default)]
struct Progress {
    logs: usize,
    begun: Instant,
    next_report: Option<Instant>,
}

impl OpeningLog {
    fn recovers(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.clean)
    }
}

impl Openings {
    /// Has a log recovered in the background, unless somebody asks for it before.
    pub(crate) fn recover_later(&mut self, key: PartitionKey) {
        self.to_recover.push_back(key);
        self.progress.logs += 1;
    }

    /// How many logs were to be recovered at the start.
    pub(crate) const fn found_unclean(&self) -> usize {
        self.progress.logs
    }

    /// When something is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let patience = self.patience.front().map(|&(until, _)| until);
        patience.into_iter().chain(self.progress.next_report).min()
    }

    /// What is known of the directory of a log that is being opened.
    pub(crate) fn known(&self, key: PartitionKey) -> Option<&KnownLog> {
        self.logs.get(&key)?.known.as_ref()
    }

    /// Whether nobody waits for a log that is being opened.
    pub(crate) fn is_in_background(&self, key: PartitionKey) -> bool {
        self.logs.get(&key).is_some_and(|log| log.in_background)
    }

    fn forget(&mut self, key: PartitionKey) -> BTreeSet<ConnectionId> {
        let Some(log) = self.logs.remove(&key) else { return BTreeSet::new() };
        self.in_background -= usize::from(log.in_background);
        log.waiting
    }
}

impl Node {
    /// Opens a log that is closed.
    pub(crate) fn open_log(&mut self, key: PartitionKey) {
        let closed = self.partitions.by_key_mut(key).and_then(|partition| partition.begin_opening());
        match closed {
            Some(Some(known)) => self.open_known(key, known),
            Some(None) => self.create_log(key),
            None => {}
        }
    }

    /// Opens a log whose directory is there.
    pub(crate) fn open_known(&mut self, key: PartitionKey, known: KnownLog) {
        self.note_opening(key, Some(known));
        self.open_again(key);
    }

    /// The configs of a log.
    fn log_config(&mut self, topic_id: TopicId, topic: &Str) -> Arc<TopicConfig> {
        if *topic == METADATA_TOPIC {
            Arc::new(metadata_config(&self.config))
        } else {
            self.config_of(topic_id, topic)
        }
    }

    /// Opens a log once more, or for the first time.
    pub(crate) fn open_again(&mut self, key: PartitionKey) {
        let name =
            self.partitions.by_key(key).map(|partition| (partition.topic_id, partition.name.topic.clone()));
        let config = name.map(|(topic_id, topic)| self.log_config(topic_id, &topic));
        let (Some(partition), Some(known), Some(config)) =
            (self.partitions.by_key(key), self.openings.known(key), config)
        else {
            self.openings.forget(key);
            return self.on_deleted_log_opened(key);
        };
        let opening = Opening {
            dir: partition.log_dir.path(&partition.name.to_string()),
            topic_id: partition.topic_id,
            config,
            clean: known.clean,
            recovery_point: known.recovery_point,
            start_offset: known.start_offset,
            cleaned: known.cleaned,
            durable_to: known.durable_to,
            now: self.now,
        };
        let job = DiskJob::Open(Box::new(OpenLog::new(opening)));
        self.start_job(JobPurpose::OpenPartition(key), job);
    }

    /// Begins a log that has no directory, or has it in the trash, once nothing is left of an earlier one of its name:
    /// neither a directory that is being opened, nor an entry in the checkpoint.
    pub(crate) fn create_log(&mut self, key: PartitionKey) {
        let Some(partition) = self.partitions.by_key(key) else { return };
        let (name, log_dir, topic_id) = (partition.name.clone(), partition.log_dir, partition.topic_id);
        let directory = log_dir.path(&name.to_string());
        if self.waits_for_closing(key, &directory) || self.waits_for_checkpoint(key, log_dir, &name) {
            return self.note_opening(key, None);
        }
        if let Some(known) = self.place(topic_id, &name) {
            return self.open_known(key, known);
        }
        self.forget_clean_to(log_dir, &name);
        let config = self.log_config(topic_id, &name.topic);
        let log = Log::create(directory, topic_id, config);
        self.on_log_opened(key, Ok(log));
    }

    /// A log is being opened; whoever waits for it already goes on waiting.
    pub(crate) fn note_opening(&mut self, key: PartitionKey, known: Option<KnownLog>) {
        self.openings.logs.entry(key).or_default().known = known;
    }

    /// A log is open, or cannot be.
    pub(crate) fn on_log_opened(&mut self, key: PartitionKey, opened: Result<Log, OpenError>) {
        let Some(partition) = self.partitions.by_key_mut(key) else {
            return self.on_deleted_log_opened(key);
        };
        if partition.is_offline() {
            return self.on_opening_ended(key);
        }
        if let Err(error @ OpenError::OtherTopic { dir, .. }) = &opened
            && partition.tenant != Tenant::Metadata
        {
            // The topic was deleted and another has its name, but a power loss brought its directory back.
            tracing::warn!(partition = %partition.name, %error, "set aside as stray");
            self.set_aside(dir);
            if let Some(log) = self.openings.logs.get_mut(&key) {
                log.known = None;
            }
            return self.create_log(key);
        }
        let mut waited = Vec::new();
        let refused = match opened {
            Ok(log) if log.topic_id() == partition.topic_id => {
                tell_damage_of(&log, &partition.name);
                // A ledger is replayed whole or not at all.
                let is_usable = log.damage().is_empty() || partition.tenant == Tenant::None;
                let refused = (!is_usable).then(|| "its records are damaged; restore the file".to_owned());
                waited = partition.open(log);
                refused
            }
            Ok(log) => Some(format!("its directory belongs to topic id {}", log.topic_id())),
            Err(error) => Some(error.to_string()),
        };
        let (tenant, fetches) = (partition.tenant, std::mem::take(&mut partition.fetches));
        self.count_producers(key);
        self.acknowledge(waited);
        self.wake(fetches);
        self.mark_for_cleaning(key);
        match (refused, tenant) {
            (Some(reason), _) => self.refuse_log(key, reason),
            (None, Tenant::None) => self.end_left_open(key),
            (None, Tenant::Metadata) => self.load_metadata(key),
            (None, Tenant::Groups(_) | Tenant::Transactions(_)) => self.load_ledger(key, Offset::ZERO),
        }
        self.on_opening_ended(key);
    }

    /// A log cannot be used: its partition does not serve, and neither does a ledger that it holds.
    pub(crate) fn refuse_log(&mut self, key: PartitionKey, reason: String) {
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        tracing::error!(partition = %partition.name, reason, "partition offline");
        partition.take_offline(reason.clone());
        match partition.tenant {
            Tenant::None => {}
            Tenant::Metadata => {
                self.fail_to_boot(format!("the metadata log cannot be opened: {reason}"));
            }
            Tenant::Groups(index) => self.remove_group_host(index),
            Tenant::Transactions(index) => self.remove_txn_host(index),
        }
    }

    /// A log is open, or will not be: the next one has its turn, and whoever waited for this one goes on.
    pub(crate) fn on_opening_ended(&mut self, key: PartitionKey) {
        let waiting = self.openings.forget(key);
        self.open_in_background();
        self.tell_end_of_recovery();
        for connection in waiting {
            self.resume_requests(connection);
        }
        self.go_on_with_move_of(key);
        self.go_on_with_scrub_of(key);
    }

    /// The opening of a log found no room and is tried again later; others go on meanwhile.
    pub(crate) fn on_opening_delayed(&mut self, key: PartitionKey) {
        if let Some(log) = self.openings.logs.get_mut(&key) {
            self.openings.in_background -= usize::from(std::mem::take(&mut log.in_background));
        }
        self.open_in_background();
    }

    /// Recovery begins to tell how far it is.
    pub(crate) fn begin_recovery(&mut self) {
        let logs = self.openings.progress.logs;
        if logs > 0 {
            tracing::info!(
                logs,
                "the last stop was not clean: logs are recovered, those first that are asked for"
            );
            self.openings.progress.begun = self.now.instant;
            self.openings.progress.next_report = Some(self.now.after(REPORT_EVERY));
        }
        self.open_in_background();
        self.tell_end_of_recovery();
    }

    /// Tells when all logs are recovered.
    fn tell_end_of_recovery(&mut self) {
        let Openings { logs, to_recover, progress, .. } = &mut self.openings;
        if progress.next_report.is_some() && to_recover.is_empty() && !logs.values().any(OpeningLog::recovers)
        {
            progress.next_report = None;
            let seconds = self.now.instant.saturating_sub(progress.begun).as_secs_f64();
            tracing::info!(logs = progress.logs, seconds, "all logs are recovered");
        }
    }

    /// How many logs are still to be recovered.
    pub(crate) fn unrecovered(&self) -> usize {
        let is_closed = |key: &&PartitionKey| {
            self.partitions.by_key(**key).is_some_and(|partition| partition.known().is_some())
        };
        let closed = self.openings.to_recover.iter().filter(is_closed).count();
        closed + self.openings.logs.values().filter(|log| log.recovers()).count()
    }

    /// Has closed logs opened that retention or compaction may shorten.
    pub(crate) fn open_for_retention(&mut self) {
        if !self.openings.to_retain.is_empty() {
            return;
        }
        let mut wanted = VecDeque::new();
        let closed = self.partitions.iter().filter(|partition| partition.known().is_some());
        let closed: Vec<_> = closed
            .map(|partition| (partition.key, partition.topic_id, partition.name.topic.clone()))
            .collect();
        for (key, topic_id, topic) in closed {
            let config = self.config_of(topic_id, &topic);
            let may_delete = config.cleanup_policy.delete
                && (config.retention_ms.is_some() || config.retention_bytes.is_some());
            if may_delete || config.cleanup_policy.compact {
                wanted.push_back(key);
            }
        }
        self.openings.to_retain = wanted;
        self.open_in_background();
    }

    /// Opens logs for which nobody waits: some that must be recovered at a time, or else one for retention.
    fn open_in_background(&mut self) {
        while matches!(self.phase, Phase::Serving) {
            let openings = &mut self.openings;
            let recovers = !openings.to_recover.is_empty();
            let queue = if recovers { &mut openings.to_recover } else { &mut openings.to_retain };
            if openings.in_background >= if recovers { IN_BACKGROUND_MAX } else { 1 } {
                return;
            }
            let Some(key) = queue.pop_front() else { return };
            if self.partitions.by_key(key).is_none_or(|partition| partition.known().is_none()) {
                continue;
            }
            self.open_log_in_background(key);
        }
    }

    /// Opens a log that is closed though nobody waits for it.
    pub(crate) fn open_log_in_background(&mut self, key: PartitionKey) {
        self.openings.logs.entry(key).or_default().in_background = true;
        self.openings.in_background += 1;
        self.open_log(key);
    }

    /// Tells how far recovery is, and lets requests go on that have waited for a log for long enough.
    pub(crate) fn on_opening_times(&mut self) {
        let now = self.now.instant;
        while let Some((_, key)) = self.openings.patience.pop_front_if(|(until, _)| *until <= now) {
            let Some(log) = self.openings.logs.get_mut(&key) else { continue };
            log.late = true;
            for connection in std::mem::take(&mut log.waiting) {
                self.resume_requests(connection);
            }
        }
        if self.openings.progress.next_report.is_some_and(|due| due <= now) {
            let remaining = self.unrecovered();
            let recovered = self.openings.progress.logs.saturating_sub(remaining);
            tracing::info!(recovered, remaining, "logs are being recovered after an unclean stop");
            self.openings.progress.next_report = Some(self.now.after(REPORT_EVERY));
        }
    }

    /// What is known of the directory of a partition whose log is not open.
    pub(crate) fn known_log<'a>(&'a self, partition: &'a Partition) -> Option<&'a KnownLog> {
        partition.known().or_else(|| self.openings.known(partition.key))
    }

    /// Whether requests wait for a log.
    pub(crate) fn is_unopened(&self, key: PartitionKey) -> bool {
        match self.partitions.by_key(key).map(|partition| partition.state()) {
            Some(State::Closed(_)) => true,
            Some(State::Opening) => self.openings.logs.get(&key).is_some_and(|log| !log.late),
            Some(State::Online(_) | State::Offline(_)) | None => false,
        }
    }

    /// Those of the partitions whose logs requests wait for.
    pub(crate) fn unopened<'a>(
        &self,
        named: impl Iterator<Item = (TopicId, &'a str, i32)>,
    ) -> Vec<PartitionKey> {
        let key = |(topic_id, name, index): (TopicId, &str, i32)| {
            self.partitions.key(self.topic_id(topic_id, name).ok()?, index)
        };
        named.filter_map(key).filter(|&key| self.is_unopened(key)).collect()
    }

    /// Opens the logs that a request names, and has it wait until they are open. Whether it waits; otherwise it is to
    /// be handled now.
    pub(crate) fn waits_for_logs(
        &mut self,
        call: &Call,
        mut missing: Vec<PartitionKey>,
        frame: &Bytes,
        turn: Turn,
    ) -> bool {
        for &key in &missing {
            self.open_log(key);
            let until = self.now.after(PATIENCE);
            if let Some(log) = self.openings.logs.get_mut(&key)
                && !std::mem::replace(&mut log.asked, true)
            {
                self.openings.patience.push_back((until, key));
            }
        }
        missing.retain(|&key| self.is_unopened(key));
        let Some(connection) = self.connections.get_mut(&call.connection) else { return true };
        let is_behind = turn == Turn::First && !connection.waiting.is_empty();
        if missing.is_empty() && !is_behind {
            return false;
        }
        match turn {
            // In a buffer of its own, so that it keeps no more memory than is counted for it.
            Turn::First => {
                connection.waiting.push_back((call.clone(), Bytes::copy_from_slice(frame)));
            }
            Turn::Again => connection.waiting.push_front((call.clone(), frame.clone())),
        }
        if !is_behind {
            for key in missing {
                if let Some(log) = self.openings.logs.get_mut(&key) {
                    log.waiting.insert(call.connection);
                }
            }
        }
        true
    }

    /// Goes on with the requests of a connection that wait for logs, until one has to wait again.
    fn resume_requests(&mut self, connection: ConnectionId) {
        loop {
            let waiting = self.connections.get_mut(&connection).map(|state| &mut state.waiting);
            let Some((call, frame)) = waiting.and_then(VecDeque::pop_front) else { return };
            if !matches!(self.phase, Phase::Serving) {
                return self.close(&call, "the node is not serving");
            }
            let slot = call.slot;
            self.on_request_again(call, &frame);
            let first = self.connections.get(&connection).and_then(|state| state.waiting.front());
            if first.is_some_and(|(call, _)| call.slot == slot) {
                return;
            }
        }
    }
}
