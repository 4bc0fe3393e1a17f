//! Room on the disks. Users' records are refused before a disk is really full, so that what the node must write for
//! itself (the metadata log, groups, checkpoints, recovery) has a reserve, and whoever deletes something is served.
//!
//! The host tells the room from time to time; what is appended meanwhile is counted here. Should a write find no room
//! all the same, since somebody else took it, the log is opened again from what is in the files: nothing that was
//! acknowledged or read is gone, and what was not written was never there.

use std::time::Duration;

use dohle_storage::disk::{DiskError, LogDir};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Offset};

use crate::boot_facts::KnownLog;
use crate::host::Effect;
use crate::log_dirs::{LogDirState, LogDirs};
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey, Tenant};

/// How long users' records are refused at least once a write has found no room, whatever the system says of it: a
/// quota is not seen there.
const FULL_AT_LEAST: Duration = Duration::from_secs(5);

/// The room of a log dir.
#[derive(Debug, Default)]
pub struct Room {
    /// Bytes of its volume, and those that can be used, as the host told last; `None` before that.
    pub told: Option<(u64, u64)>,
    /// Those that can be used, less what was appended since.
    usable: u64,
    /// It is full until there is more than the reserve again,
    is_full: bool,
    /// by as much as the largest of what was refused meanwhile would have taken.
    refused: u64,
    /// Until then it is, whatever the host tells.
    full_until: Instant,
    /// Partitions whose opening found no room.
    waiting: Vec<PartitionKey>,
}

impl Room {
    /// Whether records are refused for want of it.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// What is kept for the node itself: as configured, but of a small volume no more than a twentieth.
    fn reserve(&self, configured: u64) -> u64 {
        self.told.map_or(0, |(total, _)| configured.min(total / 20))
    }
}

impl LogDirs {
    /// Whether users' records of so many bytes may be appended in a log dir. That they may not is logged once.
    pub(crate) fn has_room(&mut self, log_dir: LogDir, bytes: usize, reserve: u64) -> bool {
        if self.has_room_now(log_dir, bytes as u64, reserve) {
            return true;
        }
        let Some(state) = self.state_mut(log_dir) else { return false };
        let room = &mut state.room;
        let reserve = room.reserve(reserve);
        room.refused = room.refused.max(bytes as u64);
        if !std::mem::replace(&mut room.is_full, true) {
            let usable = room.usable;
            tracing::error!(
                log_dir = &*state.name,
                usable,
                reserve,
                "the disk is full: records are refused until there is room; delete topics, or shorten retention"
            );
        }
        false
    }

    /// Whether there is room for so many bytes beside the reserve.
    pub(crate) fn has_room_now(&self, log_dir: LogDir, bytes: u64, reserve: u64) -> bool {
        self.state(log_dir).is_some_and(|LogDirState { room, .. }| {
            let reserve = room.reserve(reserve);
            room.told.is_none() || !room.is_full && room.usable >= reserve.saturating_add(bytes)
        })
    }

    /// Counts what was appended in a log dir.
    pub(crate) fn use_room(&mut self, log_dir: LogDir, bytes: usize) {
        if let Some(state) = self.state_mut(log_dir) {
            state.room.usable = state.room.usable.saturating_sub(bytes as u64);
            state.checkpoints.note_appended(bytes);
        }
    }
}

impl Node {
    /// What is kept for the node itself on each disk.
    pub(crate) const fn disk_reserve(&self) -> u64 {
        self.fixed.log_dir_reserve_bytes
    }

    /// The host tells the room of a log dir.
    pub(crate) fn on_disk_space(&mut self, log_dir: LogDir, total: u64, usable: u64) {
        let (now, configured) = (self.now.instant, self.disk_reserve());
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        let room = &mut state.room;
        room.told = Some((total, usable));
        room.usable = usable;
        let reserve = room.reserve(configured);
        // More than the reserve by what was refused and a little, so that it does not go back and forth.
        let enough = reserve.saturating_add(reserve / 8).saturating_add(room.refused);
        if room.is_full && now >= room.full_until && usable > enough {
            (room.is_full, room.refused) = (false, 0);
            tracing::info!(log_dir = &*state.name, usable, "there is room on the disk again");
            for key in std::mem::take(&mut state.room.waiting) {
                self.open_again(key);
            }
        } else if usable <= enough {
            self.reclaim_trash(log_dir);
        }
    }

    /// A change of files found no room: the log that it was for is opened again from what the files have.
    pub(crate) fn on_disk_full(&mut self, error: &DiskError) {
        let (log_dir, name) = LogDir::split(&error.path);
        self.note_full(log_dir, error);
        let directory = name.split('/').next().unwrap_or_default();
        let written = self.partitions.iter().find(|partition| {
            partition.log_dir == log_dir
                && partition.log().is_some()
                && partition.name.to_string() == directory
        });
        let Some((key, tenant)) = written.map(|partition| (partition.key, partition.tenant)) else { return };
        if tenant == Tenant::Metadata {
            // What it could not write the controller has already decided by.
            self.phase = Phase::Stopped;
            let why = format!("{error}; make room and start the node again");
            return self.effects.push(Effect::Stopped { error: Some(why) });
        }
        self.reopen(key);
    }

    /// The opening of a log found no room for what recovery writes: it is tried again when there is some.
    pub(crate) fn on_no_room_to_open(&mut self, key: PartitionKey, error: &DiskError) {
        if self.partitions.by_key(key).is_some_and(|partition| partition.tenant == Tenant::Metadata) {
            return self.fail_to_boot(format!("{error}; make room and start the node again"));
        }
        let log_dir = LogDir::of(&error.path);
        self.note_full(log_dir, error);
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.room.waiting.push(key);
        }
        self.on_opening_delayed(key);
    }

    fn note_full(&mut self, log_dir: LogDir, error: &DiskError) {
        let full_until = self.now.after(FULL_AT_LEAST);
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        let room = &mut state.room;
        (room.usable, room.full_until) = (0, full_until);
        // Where the host tells nothing there is no way back from being full.
        if room.told.is_some() && !std::mem::replace(&mut room.is_full, true) {
            let log_dir = &*state.name;
            tracing::error!(log_dir, %error, "the disk is full: records are refused until there is room");
        }
    }

    /// Goes on with a partition under another number, so that nothing that is under way for it so far counts.
    fn reopen(&mut self, key: PartitionKey) {
        let Some(mut partition) = self.partitions.remove(key) else { return };
        self.abandon(partition.abandon_waiters(), ErrorCode::KafkaStorageError);
        self.wake_fetches_of(&partition);
        let Some(log) = partition.log() else { return };
        // The indexes of the segment before the last may be what found no room.
        let bases: Vec<Offset> = log.segments().map(|segment| segment.base_offset).collect();
        let before_last = bases.iter().rev().nth(1).or(bases.first()).copied().unwrap_or_default();
        let known = KnownLog {
            clean: false,
            recovery_point: Some(log.recovery_point().min(before_last)),
            start_offset: Some(log.start_offset()),
            cleaned: log.has_gaps().then(|| log.recovery_point()),
            durable_to: None,
        };
        let key = self.renumber(&partition, known);
        self.open_log(key);
    }

    /// Goes on with a partition that was removed under another number; its log is closed.
    pub(crate) fn renumber(&mut self, removed: &Partition, known: KnownLog) -> PartitionKey {
        let Partition { name, log_dir, topic_id, leader_epoch, durability, tenant, .. } = removed;
        let (tenant, durability) = (*tenant, *durability);
        let added = self.partitions.add(name.clone(), *log_dir, *topic_id, *leader_epoch, durability, tenant);
        added.close(Some(known));
        let key = added.key;
        if let Tenant::Groups(index) = tenant {
            self.remove_group_host(index);
            self.add_group_host(index, key);
        }
        if let Tenant::Transactions(index) = tenant {
            self.remove_txn_host(index);
            self.add_txn_host(index, key);
        }
        key
    }
}
