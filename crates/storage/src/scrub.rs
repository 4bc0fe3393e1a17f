//! Scrubbing: reading segments that nobody asks for, to find damage while there is something to be done about it.
//!
//! A segment that was sealed and is durable is read piece by piece, and each batch's CRC is checked. What cannot be
//! read is told with the offsets it takes up; whoever is told makes sure that the segment is still there as it was
//! ([`Log::has_sealed`]), for compaction may have put another in its place meanwhile.

use dohle_types::Offset;

use crate::damage::Damage;
use crate::disk::{Answer, FilePath, Job, Progress};
use crate::log::Log;
use crate::scan::{Scan, Scanned};
use crate::script::{Disk, Script};
use crate::segment::{LOG_SUFFIX, file};

/// Bytes after which a piece ends, so that others have their turn.
const PIECE_BYTES: u64 = 4 << 20;

/// How far a log was scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubPoint {
    /// The segment.
    base: Offset,
    /// Where in it the next batch begins.
    position: u64,
    /// No batch from there on has a lower offset.
    floor: Offset,
}

/// What scrubbing a piece of a segment came to.
#[derive(Debug)]
pub struct Scrubbed {
    /// Where to go on.
    pub point: ScrubPoint,
    /// Bytes that were read.
    pub bytes: u64,
    /// The segment that was read, and its size.
    pub segment: (Offset, u32),
    /// What cannot be read.
    pub damage: Vec<Damage>,
}

/// Reads a piece of a segment.
pub struct ScrubPiece(Script<Scrubbed>);

impl std::fmt::Debug for ScrubPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScrubPiece")
    }
}

impl Job for ScrubPiece {
    type Output = Scrubbed;

    fn start(&mut self) -> Progress<Scrubbed> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Scrubbed> {
        self.0.resume(answer)
    }
}

impl Log {
    /// The next piece from `point` on; `None` at the end of what is sealed and durable.
    #[must_use]
    pub fn scrub(&self, point: ScrubPoint) -> Option<ScrubPiece> {
        let segments = self.segments.iter().zip(self.segments.iter().skip(1));
        let (segment, next) = segments
            .filter(|(segment, next)| next.base > self.start && segment.base >= point.base)
            .find(|(segment, _)| segment.base > point.base || point.position < u64::from(segment.size))?;
        if next.base > self.durable_offset() {
            return None;
        }
        let point = if segment.base == point.base {
            point
        } else {
            ScrubPoint { base: segment.base, position: 0, floor: segment.base }
        };
        let (path, size, end) = (file(&self.dir, segment.base, LOG_SUFFIX), segment.size, next.base);
        Some(ScrubPiece(Script::new(move |disk| scrub_piece(disk, path, size, end, point))))
    }

    /// Whether a sealed segment is there as it was.
    #[must_use]
    pub fn has_sealed(&self, (base, size): (Offset, u32)) -> bool {
        let sealed = self.segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        sealed.iter().any(|segment| segment.base == base && segment.size == size)
    }
}

async fn scrub_piece(disk: Disk, path: FilePath, size: u32, end: Offset, point: ScrubPoint) -> Scrubbed {
    let length = u64::from(size);
    // Compaction may have taken records away, so that any later offset is due.
    let mut scan = Scan::new(&disk, path.clone(), length, point.floor.max(point.base), Offset(i64::MAX));
    scan.position = point.position;
    let mut damage = Vec::new();
    while scan.position < length && scan.position - point.position < PIECE_BYTES {
        let (position, from) = (scan.position, scan.expected);
        let reason = match scan.next().await {
            Scanned::Batch(header) if header.next_offset() <= end => continue,
            Scanned::Batch(header) => format!("the batch there has offset {}", header.base_offset),
            Scanned::End => break,
            Scanned::Short(reason) | Scanned::Invalid(reason) => reason,
        };
        (scan.position, scan.expected) = (position, from);
        // A file that is gone was deleted, which is no damage.
        if disk.read(&path, 0, 1).await.is_none() {
            break;
        }
        damage.push(scan.pass_damage(point.base, end, end, reason).await);
    }
    let bytes = scan.position - point.position;
    let point = ScrubPoint { base: point.base, position: scan.position, floor: scan.expected };
    // Whatever ended the piece early, the next one begins elsewhere.
    let point = if bytes == 0 { ScrubPoint { position: length, ..point } } else { point };
    Scrubbed { point, bytes, segment: (point.base, size), damage }
}
