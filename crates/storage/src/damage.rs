//! Records of a log that cannot be read any more: what is before and after them is read as ever.
//!
//! They are found by recovery, by a scrub, or by a read, and known until the log is closed.

use dohle_types::Offset;

use crate::disk::FilePath;
use crate::log::Log;

/// Ranges that a log keeps apart. What is found beyond that is one with the last.
const RANGES_MAX: usize = 64;

/// Records that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file,
    pub path: FilePath,
    /// and the base offset of its segment.
    pub segment: Offset,
    /// Where in it the first batch begins that cannot be read,
    pub position: u64,
    /// and the first that can be read again.
    pub end_position: u64,
    /// The first offset that may be lost,
    pub from: Offset,
    /// and the first that can be read again.
    pub to: Offset,
    /// What is wrong.
    pub reason: String,
}

impl Log {
    /// Keeps readers away from what is damaged; whether that is news.
    pub fn note_damage(&mut self, damage: Damage) -> bool {
        if damage.segment < self.first_visible_base() || self.damage.iter().any(|known| known.covers(&damage))
        {
            return false;
        }
        let full = self.damage.len() >= RANGES_MAX;
        match self.damage.last_mut().filter(|last| full && last.segment == damage.segment) {
            Some(last) => {
                (last.from, last.to) = (last.from.min(damage.from), last.to.max(damage.to));
                last.end_position = last.end_position.max(damage.end_position);
            }
            None if full => return false,
            None => self.damage.push(damage),
        }
        self.damage.sort_by_key(|damage| damage.from);
        true
    }

    /// The records from the present end up to `to` are not there, though they were durable.
    pub(crate) fn note_lost_end(&mut self, to: Offset, reason: String) {
        let (segment, from) = (self.active_segment().base, self.end);
        let (path, position) = (self.active.log_path.clone(), u64::from(self.active_segment().size));
        self.note_damage(Damage { path, segment, position, end_position: position, from, to, reason });
    }

    /// Whether the end of the log is lost, so that nobody knows which offsets were given out: nothing is appended.
    #[must_use]
    pub const fn is_end_lost(&self) -> bool {
        self.is_end_lost
    }

    /// What is known to be damaged, ascending.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The damage that the record at `offset` is part of.
    #[must_use]
    pub fn damage_at(&self, offset: Offset) -> Option<&Damage> {
        self.damage.iter().find(|damage| (damage.from..damage.to).contains(&offset))
    }

    /// Where a read from `from` must end at the latest.
    pub(crate) fn undamaged_until(&self, from: Offset) -> Offset {
        let next = self.damage.iter().find(|damage| damage.from > from);
        next.map_or(Offset(i64::MAX), |damage| damage.from)
    }

    /// Where in its segment a walk to `from` must not begin before, and the lowest offset there: behind the damage.
    pub(crate) fn readable_from(&self, segment: Offset, from: Offset) -> Option<(u64, Offset)> {
        let before = self.damage.iter().filter(|damage| damage.segment == segment && damage.to <= from);
        before.map(|damage| (damage.end_position, damage.to)).max()
    }

    /// Forgets what was deleted, or replaced by compaction.
    pub(crate) fn forget_damage(&mut self) {
        let (first, segments) = (self.first_visible_base(), &self.segments);
        self.damage.retain(|damage| {
            damage.segment >= first
                && segments.binary_search_by_key(&damage.segment, |segment| segment.base).is_ok()
        });
    }

    /// The base of the segment that the log starts in: whoever reads from the start walks through it.
    fn first_visible_base(&self) -> Offset {
        self.segments.get(self.first_visible()).map_or(self.start, |segment| segment.base)
    }
}

impl Damage {
    fn covers(&self, other: &Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }
}
