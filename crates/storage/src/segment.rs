//! The segments of a log: names of their files, what is known of each in memory, and the indexes of the active
//! one as it grows (Kafka's `LogSegment`).

use dohle_configs::TopicConfig;
use dohle_records::BatchHeader;
use dohle_types::time::Instant;
use dohle_types::{Offset, Rng, Timestamp};

use crate::disk::{FilePath, Op};
use crate::index::{GrowingIndex, IndexEntry, OffsetEntry, TimeEntry};

/// The records.
pub(crate) const LOG_SUFFIX: &str = ".log";
/// Offset to position.
pub(crate) const INDEX_SUFFIX: &str = ".index";
/// Timestamp to offset.
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
/// Aborted transactions.
pub(crate) const TXN_INDEX_SUFFIX: &str = ".txnindex";
/// Producers at the segment's beginning.
pub(crate) const SNAPSHOT_SUFFIX: &str = ".snapshot";

/// A file of a log whose name is an offset.
pub(crate) fn file(dir: &str, offset: Offset, suffix: &str) -> FilePath {
    format!("{dir}/{:020}{suffix}", offset.0).into()
}

/// The offset in a file's name, where the name is one and ends with `suffix`.
pub(crate) fn offset_in(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let offset: i64 = digits.parse().ok().filter(|_| is_offset)?;
    // So far up that the offset space could end within the segment is nothing but a strange name.
    (offset <= i64::MAX >> 1).then_some(Offset(offset))
}

/// What is kept in memory of every segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The offset its files are named by; no record in it has a lower one.
    pub(crate) base: Offset,
    /// Bytes in the `.log` file.
    pub(crate) size: u32,
    /// Entries in the `.index` file.
    pub(crate) offset_entries: u32,
    /// Entries in the `.timeindex` file.
    pub(crate) time_entries: u32,
    /// Entries in the `.txnindex` file, which is there only where they are.
    pub(crate) aborted_txns: u32,
    /// The greatest timestamp, and the last offset of the first batch that has it.
    pub(crate) max_timestamp: Timestamp,
    pub(crate) max_timestamp_offset: Offset,
    /// The greatest timestamp of its first batch, -1 where that is not known.
    pub(crate) first_timestamp: Timestamp,
    /// When it was last appended to, or opened.
    pub(crate) last_written: Timestamp,
    /// Since when it lies below the start of the log.
    pub(crate) deleted_at: Option<Instant>,
}

impl Segment {
    pub(crate) const fn new(base: Offset, now: Timestamp) -> Self {
        Self {
            base,
            size: 0,
            offset_entries: 0,
            time_entries: 0,
            aborted_txns: 0,
            max_timestamp: Timestamp::NONE,
            max_timestamp_offset: base,
            first_timestamp: Timestamp::NONE,
            last_written: now,
            deleted_at: None,
        }
    }

    /// The time its retention counts from.
    pub(crate) fn largest_timestamp(&self) -> Timestamp {
        if self.max_timestamp < Timestamp(0) { self.last_written } else { self.max_timestamp }
    }

    /// The time since which some of it is there. What is not known is taken to be as late as can be.
    pub(crate) fn first_timestamp(&self) -> Timestamp {
        if self.first_timestamp < Timestamp(0) { self.max_timestamp } else { self.first_timestamp }
    }

    /// An offset as its index files have it; `None` where it is too far from the base.
    pub(crate) fn relative(&self, offset: Offset) -> Option<u32> {
        i32::try_from(offset.0.checked_sub(self.base.0)?)
            .ok()
            .and_then(|relative| u32::try_from(relative).ok())
    }

    /// Takes note of a batch's greatest timestamp; batches come in their order.
    pub(crate) fn note_timestamp(&mut self, header: &BatchHeader) {
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.last_offset();
        }
    }

    /// Takes note of a batch at its end; what `size` was is its position.
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        self.note_timestamp(header);
        if self.size == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        let size = u32::try_from(header.size_in_bytes()).ok().and_then(|bytes| self.size.checked_add(bytes));
        self.size = size
            .filter(|&size| i32::try_from(size).is_ok())
            .unwrap_or_else(|| unreachable!("invariant 6: a segment's positions fit into 31 bits"));
    }
}

/// What only the segment needs that is appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) log_path: FilePath,
    pub(crate) index: GrowingIndex<OffsetEntry>,
    pub(crate) time_index: GrowingIndex<TimeEntry>,
    pub(crate) bytes_since_entry: u32,
    /// Where it ended when the last producer snapshot was taken.
    pub(crate) snapshot_position: u32,
    /// The greatest timestamp of its first batch, from which `segment.ms` counts.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// Whether its `.log` file is there though nothing was appended to it.
    pub(crate) is_file_created: bool,
    /// Whether it may have room on the disk beyond its end (`preallocate`).
    pub(crate) has_room: bool,
    /// When it was begun, from which `segment.ms` counts where records have no timestamps.
    pub(crate) created: Timestamp,
}

impl Active {
    pub(crate) fn new(dir: &str, base: Offset, created: Timestamp) -> Self {
        Self {
            log_path: file(dir, base, LOG_SUFFIX),
            index: GrowingIndex::new(0, None),
            time_index: GrowingIndex::new(0, None),
            bytes_since_entry: 0,
            snapshot_position: 0,
            first_timestamp: None,
            is_file_created: false,
            has_room: false,
            created,
        }
    }

    /// Whether `segment` must be closed before `header`'s batch is appended.
    pub(crate) fn must_roll(
        &self,
        segment: &Segment,
        header: &BatchHeader,
        config: &TopicConfig,
        dir: &str,
        now: Timestamp,
    ) -> bool {
        if segment.size == 0 {
            return false;
        }
        let size_after = u64::from(segment.size) + header.size_in_bytes() as u64;
        let waited = match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => header.max_timestamp.0.saturating_sub(first.0),
            _ => now.0.saturating_sub(self.created.0),
        };
        size_after > u64::from(config.segment_bytes)
            || waited > segment_ms(config) - jitter_ms(config, dir, segment.base)
            || self.is_index_full(config)
            || segment.relative(header.last_offset()).is_none()
    }

    fn is_index_full(&self, config: &TopicConfig) -> bool {
        let bytes = config.segment_index_bytes as usize;
        // One slot of the time index is kept for the entry that closes it.
        self.index.len() >= bytes / OffsetEntry::SIZE
            || self.time_index.len() >= (bytes / TimeEntry::SIZE).saturating_sub(1)
    }

    /// Takes note of a batch at the end of `segment`, which notes it too, and of the index entries it calls for.
    pub(crate) fn note(&mut self, segment: &mut Segment, header: &BatchHeader, interval: u32) {
        let position = segment.size;
        segment.note(header);
        self.first_timestamp.get_or_insert(header.max_timestamp);
        if self.bytes_since_entry > interval
            && let Some(relative_offset) = segment.relative(header.last_offset())
        {
            self.index.push(OffsetEntry { relative_offset, position });
            self.push_time_entry(segment);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(segment.size - position);
    }

    /// Adds the greatest timestamp so far to the time index, unless it is there.
    pub(crate) fn push_time_entry(&mut self, segment: &Segment) {
        let last = self.time_index.last().map_or(Timestamp::NONE, |entry| entry.timestamp);
        if segment.max_timestamp > last
            && let Some(relative_offset) = segment.relative(segment.max_timestamp_offset)
        {
            self.time_index.push(TimeEntry { timestamp: segment.max_timestamp, relative_offset });
        }
    }

    /// Writes the index entries that have gathered.
    pub(crate) fn write_indexes(&mut self, segment: &mut Segment, dir: &str) -> [Op; 2] {
        let index = self.index.write(file(dir, segment.base, INDEX_SUFFIX));
        let time_index = self.time_index.write(file(dir, segment.base, TIME_INDEX_SUFFIX));
        segment.offset_entries = self.index.stored();
        segment.time_entries = self.time_index.stored();
        [index, time_index]
    }
}

/// How long a segment is appended to. One that is cannot be compacted, so that it may not wait for longer than its
/// compaction.
fn segment_ms(config: &TopicConfig) -> i64 {
    if config.cleanup_policy.compact {
        config.segment_ms.min(config.max_compaction_lag_ms)
    } else {
        config.segment_ms
    }
}

/// By how much this segment is rolled earlier than `segment.ms` says: drawn by lot, the log's name and the
/// offset being the lot, so that it is the same whenever it is asked.
fn jitter_ms(config: &TopicConfig, dir: &str, base: Offset) -> i64 {
    let bound = config.segment_jitter_ms.min(segment_ms(config));
    if bound <= 0 {
        return 0;
    }
    let seed = dir.bytes().fold(base.0.cast_unsigned(), |seed, byte| {
        seed.rotate_left(7).wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    Rng::from_seed(seed).below(bound.cast_unsigned()).cast_signed()
}
