//! Reading a segment after a crash: which of its batches are to be believed, and whether what follows them was
//! torn by the crash or damaged since.
//!
//! Everything below the recovery point was durable when the crash came, so that it must be there: if it is not,
//! it is damage. Above it there are batches that were durable as well (the checkpoint lags behind), perhaps
//! acknowledged, and after them batches whose sync had not completed, of which a power loss keeps any part, in
//! any order. The first batch that cannot be read is therefore judged by what it looks like:
//!
//! - The file ends before it does: it was being written. It was never durable, nor was what follows, for a sync
//!   covers everything before. Damage does not shorten files.
//! - Nothing readable follows it: it is the torn end.
//! - Something readable follows, and between the two a sector (512 bytes) reads as zeros that were never
//!   written: the sector was lost by the crash, as were the batches' acknowledgements.
//! - Something readable follows, and no sector is missing: bytes changed after they were written. The batch may
//!   have been acknowledged, so nothing is cut; the log is reported as damaged.
//!
//! A batch of the last kind that holds 512 zeros of its own at the right place is taken for the one before.
//! That takes a crash and a flipped bit at once, above the recovery point.
//!
//! Differs from Kafka: it cuts the log at the first batch that it cannot read, whatever follows.

use bytes::Bytes;
use dohle_records::{BatchHeader, HEADER_SIZE};
use dohle_types::Offset;

use crate::damage::Damage;
use crate::disk::FilePath;
use crate::script::Disk;

/// Bytes that are read at a time.
pub(crate) const CHUNK_SIZE: usize = 1 << 20;
/// What disks write at once or not at all.
const SECTOR_SIZE: u64 = 512;
/// Where in a batch the part begins that the CRC covers.
const CRC_COVERED_FROM: usize = 21;
/// What is wrong with most damaged batches.
pub(crate) const WRONG_CRC: &str = "its CRC does not match its bytes";
/// How many things that look like a header are looked at more closely behind a damaged batch. Records that hold
/// log files of their own could look like any number.
const CANDIDATES_MAX: usize = 64;

/// A walk over a segment's file that believes nothing.
pub(crate) struct Scan {
    disk: Disk,
    pub(crate) path: FilePath,
    pub(crate) length: u64,
    pub(crate) position: u64,
    /// The offset that the next batch must have,
    pub(crate) expected: Offset,
    /// or, where compaction may have taken the records before it away, must not be below. It took none before an offset
    /// above this.
    compacted_to: Offset,
    /// No batch of the segment goes beyond it: its offsets are kept in 31 bits, and the next segment has later ones.
    highest: Offset,
    chunk: Bytes,
    chunk_start: u64,
}

/// Whether the bytes of a whole batch are those that its CRC is of.
pub(crate) fn crc_is_valid(batch: &[u8], header: &BatchHeader) -> bool {
    batch.get(CRC_COVERED_FROM..).is_some_and(|covered| crc32c::crc32c(covered) == header.crc)
}

/// What stands at the position of a [`Scan`].
#[derive(Debug)]
pub(crate) enum Scanned {
    /// A batch with a right CRC; the scan is behind it.
    Batch(BatchHeader),
    /// The end of the file, exactly.
    End,
    /// Less than a batch, and the end of the file.
    Short(String),
    /// Something else.
    Invalid(String),
}

impl Scan {
    /// From the beginning of the segment with this base offset.
    pub(crate) fn new(disk: &Disk, path: FilePath, length: u64, base: Offset, compacted_to: Offset) -> Self {
        let (chunk, disk) = (Bytes::new(), disk.clone());
        let highest = Offset(base.0.saturating_add(i64::from(i32::MAX)));
        Self { disk, path, length, position: 0, expected: base, compacted_to, highest, chunk, chunk_start: 0 }
    }

    /// From a batch within it, which must have this offset.
    pub(crate) fn go_on(self, position: u64, expected: Offset) -> Self {
        Self { position, expected, ..self }
    }

    /// Of a segment that another one follows, which begins with this offset.
    pub(crate) fn before(self, follower: Option<Offset>) -> Self {
        let highest = follower.map_or(self.highest, |follower| self.highest.min(follower.plus(-1)));
        Self { highest, ..self }
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Scanned {
        let rest = self.length - self.position;
        if rest == 0 {
            return Scanned::End;
        }
        let start = self.chunk_at(self.position, HEADER_SIZE).await;
        let header = match BatchHeader::parse(&start) {
            Ok(header) => header,
            Err(dohle_records::BatchError::Truncated { .. }) => {
                return Scanned::Short("its header is cut off".to_owned());
            }
            Err(error) => return Scanned::Invalid(error.to_string()),
        };
        if !self.is_due(&header) {
            return Scanned::Invalid(format!("the batch there has offset {}", header.base_offset));
        }
        if header.size_in_bytes() as u64 > rest {
            return Scanned::Short(format!(
                "it takes {} bytes, of which {rest} are there",
                header.size_in_bytes()
            ));
        }
        if !self.has_valid_crc(self.position, &header).await {
            return Scanned::Invalid(WRONG_CRC.to_owned());
        }
        self.position += header.size_in_bytes() as u64;
        self.expected = header.next_offset();
        Scanned::Batch(header)
    }

    /// Whether the bytes at the position, which are no batch, were torn by the crash or damaged since.
    pub(crate) async fn judge(&mut self, is_short: bool, is_followed_by_segment: bool) -> Judgement {
        let follower = match self.find_follower().await {
            Some((position, _)) => position,
            // The length is the one field that can make a whole batch look short.
            None if is_short && self.is_whole_but_for_length().await => return Judgement::Damaged,
            None if is_short || !is_followed_by_segment => return Judgement::Torn,
            None => self.length,
        };
        if self.misses_sector(follower).await { Judgement::Torn } else { Judgement::Damaged }
    }

    /// Goes on behind bytes that are no batch, where the next one can be read or at the end of the file; what is
    /// damaged. No offset of the segment reaches `end`; where nothing can be read any more, all below `lost_to` is lost.
    pub(crate) async fn pass_damage(
        &mut self,
        segment: Offset,
        end: Offset,
        lost_to: Offset,
        reason: String,
    ) -> Damage {
        let (position, from) = (self.position, self.expected);
        let follower = match self.later_than_due(end).await {
            None => self.find_follower().await.filter(|(_, header)| header.next_offset() <= end),
            here => here,
        };
        let (next, to) =
            follower.map_or((self.length, lost_to.max(from)), |(next, header)| (next, header.base_offset));
        (self.position, self.expected) = (next, to);
        Damage { path: self.path.clone(), segment, position, end_position: next, from, to, reason }
    }

    /// The batch at the present position, where it is whole but later than what is due, so that records before it are
    /// missing. What follows must agree: an offset may have changed, which no CRC covers.
    async fn later_than_due(&mut self, end: Offset) -> Option<(u64, BatchHeader)> {
        let start = self.chunk_at(self.position, HEADER_SIZE).await;
        let header = BatchHeader::parse(&start).ok()?;
        let next = self.position + header.size_in_bytes() as u64;
        if header.base_offset <= self.expected || header.last_offset_delta < 0 || next > self.length {
            return None;
        }
        if !self.has_valid_crc(self.position, &header).await {
            return None;
        }
        let bytes = self.chunk_at(next, HEADER_SIZE).await;
        let follower = if next == self.length { end } else { BatchHeader::parse(&bytes).ok()?.base_offset };
        let agrees = header.next_offset() <= follower && follower < Offset(i64::MAX);
        agrees.then_some((self.position, header))
    }

    /// Whole bytes of a small batch that was just passed.
    pub(crate) async fn passed(&self, header: &BatchHeader) -> Bytes {
        let size = header.size_in_bytes();
        self.read(self.position - size as u64, size).await
    }

    fn is_due(&self, header: &BatchHeader) -> bool {
        let follows_gap = self.may_follow_gap(header.base_offset) && header.last_offset() <= self.highest;
        (header.base_offset == self.expected || follows_gap) && header.last_offset_delta >= 0
    }

    fn may_follow_gap(&self, offset: Offset) -> bool {
        self.expected < offset && offset <= self.compacted_to
    }

    async fn has_valid_crc(&mut self, position: u64, header: &BatchHeader) -> bool {
        let end = position + header.size_in_bytes() as u64;
        let mut at = position + CRC_COVERED_FROM as u64;
        let mut crc = 0;
        while at < end {
            let bytes = self.chunk_at(at, 1).await;
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let Some(covered) = bytes.get(..wanted.min(bytes.len())).filter(|covered| !covered.is_empty())
            else {
                return false;
            };
            crc = crc32c::crc32c_append(crc, covered);
            at += covered.len() as u64;
        }
        crc == header.crc
    }

    /// Whether the rest of the file is one batch whose length field is wrong; the CRC does not cover that.
    async fn is_whole_but_for_length(&mut self) -> bool {
        let rest = self.length - self.position;
        let start = self.chunk_at(self.position, HEADER_SIZE).await;
        let (Ok(header), Ok(length)) = (BatchHeader::parse(&start), i32::try_from(rest.saturating_sub(12)))
        else {
            return false;
        };
        let whole = BatchHeader { batch_length: length, ..header };
        self.has_valid_crc(self.position, &whole).await
    }

    /// The position of the first readable batch behind the present position that belongs to this log.
    async fn find_follower(&mut self) -> Option<(u64, BatchHeader)> {
        // Records may hold whole batches of other logs: where the one at the present position says that it ends counts
        // for more than the first thing behind its beginning that looks right.
        let start = self.chunk_at(self.position, HEADER_SIZE).await;
        let stated = BatchHeader::parse(&start).ok();
        let stated_end = stated.map(|header| self.position + header.size_in_bytes() as u64);
        if stated_end == Some(self.length) {
            return None;
        }
        if let Some(next) = stated_end
            && let Some(header) = self.follower_at(next).await
        {
            return Some((next, header));
        }
        let mut candidates = 0;
        let mut position = self.position + 1;
        while position + HEADER_SIZE as u64 <= self.length {
            let chunk = self.chunk_at(position, HEADER_SIZE).await;
            let last_start = chunk.len().saturating_sub(HEADER_SIZE);
            for (index, bytes) in chunk.windows(HEADER_SIZE).enumerate() {
                let at = position + index as u64;
                let Some(header) = self.plausible_follower(bytes, at) else { continue };
                candidates += 1;
                if self.has_valid_crc(at, &header).await {
                    return Some((at, header));
                }
                if candidates == CANDIDATES_MAX {
                    return None;
                }
            }
            position += last_start as u64 + 1;
        }
        None
    }

    /// The readable batch at `position`, if it may be a later one of this log.
    async fn follower_at(&mut self, position: u64) -> Option<BatchHeader> {
        if position >= self.length {
            return None;
        }
        let bytes = self.chunk_at(position, HEADER_SIZE).await;
        let header = self.plausible_follower(&bytes, position)?;
        self.has_valid_crc(position, &header).await.then_some(header)
    }

    /// The header that `bytes` at `position` are, if it may be that of a later batch of this log.
    fn plausible_follower(&self, bytes: &[u8], position: u64) -> Option<BatchHeader> {
        let header = BatchHeader::parse(bytes).ok()?;
        let rest = self.length - position;
        // A record takes more than a byte, so that offsets cannot run ahead of positions.
        let distance = u64::try_from(header.base_offset.0.checked_sub(self.expected.0)?).ok()?;
        let is_later =
            distance > 0 && (self.may_follow_gap(header.base_offset) || distance <= position - self.position);
        let is_possible = header.last_offset_delta >= 0 && header.last_offset() <= self.highest;
        (is_later && is_possible && header.size_in_bytes() as u64 <= rest).then_some(header)
    }

    /// Whether a sector between the present position and `end` was never written.
    async fn misses_sector(&mut self, end: u64) -> bool {
        let mut start = self.position;
        while start < end {
            let sector_end = (start / SECTOR_SIZE + 1) * SECTOR_SIZE;
            let length = usize::try_from(sector_end.min(self.length) - start).unwrap_or(0);
            let bytes = self.chunk_at(start, length).await;
            let is_zero = bytes.iter().take(length).all(|&byte| byte == 0);
            if is_zero && (start > self.position || !self.may_begin_with_zeros(length)) {
                return true;
            }
            start = sector_end;
        }
        false
    }

    /// Whether the first `count` bytes of the batch that is due may be zeros: the offset's may, the length's may not.
    fn may_begin_with_zeros(&self, count: usize) -> bool {
        count < 12 && self.expected.0.to_be_bytes().iter().take(count).all(|&byte| byte == 0)
    }

    /// Bytes from `position`: at least `needed`, unless the file ends before.
    async fn chunk_at(&mut self, position: u64, needed: usize) -> Bytes {
        let rest = usize::try_from(self.length - position).unwrap_or(usize::MAX);
        let from = position.checked_sub(self.chunk_start).and_then(|from| usize::try_from(from).ok());
        if let Some(from) = from.filter(|&from| from + needed.min(rest) <= self.chunk.len()) {
            return self.chunk.slice(from..);
        }
        self.chunk = self.read(position, rest.min(CHUNK_SIZE)).await;
        self.chunk_start = position;
        self.chunk.clone()
    }

    async fn read(&self, position: u64, length: usize) -> Bytes {
        self.disk.read(&self.path, position, length).await.unwrap_or_default()
    }
}

/// Why bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The crash came before they were durable.
    Torn,
    /// They changed after they were written.
    Damaged,
}
