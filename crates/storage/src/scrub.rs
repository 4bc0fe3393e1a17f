//! Scrubbing: reading segments that nobody asks for, to find damage while there is something to be done about it.
//!
//! A segment that was sealed and is durable is read piece by piece, and each batch's CRC is checked, and the indexes by
//! the batches. What cannot be read is told with the offsets it takes up, and indexes that are wrong with what they must
//! be; whoever is told makes sure that the segment is still there as it was ([`Log::has_sealed`]), for compaction may have
//! put another in its place meanwhile.

use bytes::Bytes;
use dohle_types::Offset;

use crate::damage::Damage;
use crate::disk::{Answer, Job, Progress};
use crate::log::Log;
use crate::scan::{Scan, Scanned};
use crate::script::{Disk, Script};
use crate::scrub_indexes::{IndexPoint, IndexScrub, IndexesAnew};
use crate::segment::{LOG_SUFFIX, file};
use crate::walk::SegmentView;

/// Bytes after which a piece ends, so that others have their turn.
const PIECE_BYTES: u64 = 4 << 20;

/// How far a log was scrubbed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubPoint {
    /// The segment.
    base: Offset,
    /// Where in it the next batch begins.
    position: u64,
    /// No batch from there on has a lower offset.
    floor: Offset,
    /// How far its indexes were compared; `None` where records of it are damaged.
    indexes: Option<IndexPoint>,
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
    /// The indexes of the segment, where they are not as they must be: the log takes them ([`Log::take_indexes`]).
    pub indexes: Option<IndexesAnew>,
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
    pub fn scrub(&self, point: &ScrubPoint) -> Option<ScrubPiece> {
        let segments = self.segments.iter().zip(self.segments.iter().skip(1));
        let (segment, next) = segments
            .filter(|(segment, next)| next.base > self.start && segment.base >= point.base)
            .find(|(segment, _)| segment.base > point.base || point.position < u64::from(segment.size))?;
        if next.base > self.durable_offset() {
            return None;
        }
        let point = if segment.base == point.base && point.position > 0 {
            point.clone()
        } else {
            let indexes = Some(IndexPoint::BEGIN);
            ScrubPoint { base: segment.base, position: 0, floor: segment.base, indexes }
        };
        let piece = Piece {
            segment: SegmentView { end: next.base, ..SegmentView::new(&self.dir, segment) },
            // In a log that was compacted records do not tell what the transaction index must be.
            aborted_txns: (!self.has_gaps()).then_some(segment.aborted_txns),
            interval: self.config.index_interval_bytes,
            point,
        };
        Some(ScrubPiece(Script::new(move |disk| piece.scrub(disk))))
    }

    /// Whether a sealed segment is there as it was.
    #[must_use]
    pub fn has_sealed(&self, (base, size): (Offset, u32)) -> bool {
        let sealed = self.segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        sealed.iter().any(|segment| segment.base == base && segment.size == size)
    }
}

/// What is to be scrubbed.
struct Piece {
    segment: SegmentView,
    /// The entries of its transaction index; `None` where that is not looked at.
    aborted_txns: Option<u32>,
    interval: u32,
    point: ScrubPoint,
}

impl Piece {
    async fn scrub(self, disk: Disk) -> Scrubbed {
        let Self { segment, aborted_txns, interval, mut point } = self;
        let (path, end, size) = (file(&segment.dir, segment.base, LOG_SUFFIX), segment.end, segment.size);
        let length = u64::from(size);
        // Compaction may have taken records away, so that any later offset is due.
        let floor = point.floor.max(point.base);
        let mut scan = Scan::new(&disk, path.clone(), length, floor, Offset(i64::MAX));
        scan.position = point.position;
        let mut indexes = match point.indexes.take() {
            Some(at) => Some(IndexScrub::new(&disk, segment, aborted_txns, at).await),
            None => None,
        };
        let mut damage = Vec::new();
        while scan.position < length && scan.position - point.position < PIECE_BYTES {
            let (position, from) = (scan.position, scan.expected);
            let reason = match scan.next().await {
                Scanned::Batch(header) if header.next_offset() <= end => {
                    if let Some(indexes) = &mut indexes {
                        let records = indexes.needs_records(&header);
                        let batch = if records { scan.passed(&header).await } else { Bytes::new() };
                        indexes.pass(&header, position, &batch).await;
                    }
                    continue;
                }
                Scanned::Batch(header) => format!("the batch there has offset {}", header.base_offset),
                Scanned::End => break,
                Scanned::Short(reason) | Scanned::Invalid(reason) => reason,
            };
            (scan.position, scan.expected) = (position, from);
            indexes = None;
            // A file that is gone was deleted, which is no damage.
            if disk.read(&path, 0, 1).await.is_none() {
                break;
            }
            damage.push(scan.pass_damage(point.base, end, end, reason).await);
        }
        let bytes = scan.position - point.position;
        // Whatever ended the piece early, the next one begins elsewhere.
        point.position = if bytes == 0 { length } else { scan.position };
        point.floor = scan.expected;
        let anew = match indexes {
            Some(indexes) if point.position == length => indexes.conclude(interval).await,
            indexes => {
                point.indexes = indexes.map(IndexScrub::into_point);
                None
            }
        };
        // To build them it was read once more.
        let bytes = bytes + anew.as_ref().map_or(0, |_| length);
        Scrubbed { segment: (point.base, size), point, bytes, damage, indexes: anew }
    }
}
