//! Logs and log dirs.

use std::collections::BTreeMap;

use dohle_metrics::row::Row;
use dohle_metrics::table::storage as table;
use dohle_metrics::{Number, Page};
use dohle_storage::Log;
use dohle_storage::disk::LogDir;

use crate::log_dirs::LogDirState;
use crate::node::Node;
use crate::partition::{Partition, State};

type OfLogDir<'a> = &'a dyn Fn(LogDir, &LogDirState) -> Option<Number>;
type OfPartition<'a> = &'a dyn Fn(&Partition) -> Option<i64>;

impl Node {
    pub(super) fn write_storage_metrics(&self, page: &mut Page) {
        self.write_log_dir_metrics(page);
        self.write_partition_metrics(page);
        page.value(table::UNRECOVERED, self.unrecovered());
        page.value(table::RECOVERED, self.openings.found_unclean().saturating_sub(self.unrecovered()));
        page.value(table::CLEANER_WORKING, self.cleaner.is_working());
        page.value(table::CLEANER_MARKED, self.cleaner.marked());
        page.value(table::CLEANER_UNCLEANABLE, self.cleaner.uncleanable());
        page.value(table::CLEANER_BYTES, self.cleaner.stats.bytes);
        page.value(table::CLEANER_CLEANED, self.cleaner.stats.cleaned);
        page.value(table::TRASH_TOPICS, self.trash.topics().len());
    }

    fn write_log_dir_metrics(&self, page: &mut Page) {
        let mut partitions: BTreeMap<LogDir, usize> = BTreeMap::new();
        self.partitions.iter().for_each(|partition| *partitions.entry(partition.log_dir).or_default() += 1);
        let all: Vec<(LogDir, &LogDirState)> = self
            .log_dirs
            .all()
            .filter_map(|log_dir| Some((log_dir, self.log_dirs.state(log_dir)?)))
            .collect();
        let rows: [Row<OfLogDir<'_>>; 9] = [
            (table::LOG_DIR_ONLINE, &|_, state| Some(state.offline.is_none().into())),
            (table::LOG_DIR_CORDONED, &|_, state| Some(state.is_cordoned.into())),
            (table::LOG_DIR_FULL, &|_, state| Some(state.room.is_full().into())),
            (table::LOG_DIR_SIZE, &|_, state| state.room.told.map(|(total, _)| total.into())),
            (table::LOG_DIR_USABLE, &|_, state| state.room.told.map(|(_, usable)| usable.into())),
            (table::LOG_DIR_PARTITIONS, &|log_dir, _| {
                Some(partitions.get(&log_dir).copied().unwrap_or_default().into())
            }),
            (table::UNCHECKPOINTED, &|_, state| Some(state.checkpoints.appended().into())),
            (table::SCRUBBED_BYTES, &|_, state| Some(state.scrub.read_bytes.into())),
            (table::SCRUB_LEFT, &|_, state| Some(state.scrub.logs_left().into())),
        ];
        for (metric, value) in rows {
            let mut family = page.family(metric);
            for &(log_dir, state) in &all {
                value(log_dir, state).into_iter().for_each(|value| family.sample(&[&state.name], value));
            }
        }
        let mut family = page.family(table::CHECKPOINTS);
        for (_, state) in &all {
            family.sample(&[&state.name, "written"], state.checkpoints.written);
            family.sample(&[&state.name, "failed"], state.checkpoints.failed);
        }
    }

    fn write_partition_metrics(&self, page: &mut Page) {
        let mut states =
            BTreeMap::from(["new", "closed", "opening", "online", "offline"].map(|name| (name, 0_u64)));
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut segments, mut damages) = (0, 0);
        for partition in self.partitions.iter() {
            *states.entry(state_name(partition.state())).or_default() += 1;
            if let Some(log) = partition.log() {
                segments += log.segments().count();
                damages += log.damage().len();
                *bytes.entry(&partition.name.topic).or_default() += log.size_in_bytes();
            }
        }
        let mut family = page.family(table::PARTITIONS);
        states.iter().for_each(|(state, &count)| family.sample(&[state], count));
        page.value(table::SEGMENTS, segments);
        page.value(table::DAMAGED, damages);
        let mut family = page.family(table::TOPIC_BYTES);
        bytes.iter().for_each(|(topic, &bytes)| family.sample(&[topic], bytes));
        let rows: [Row<OfPartition<'_>>; 3] = [
            (table::START_OFFSET, &|partition| Some(self.log_ends(partition)?.start.0)),
            (table::HIGH_WATERMARK, &|partition| Some(self.log_ends(partition)?.high_watermark.0)),
            (table::UNDURABLE, &|partition| partition.log().map(undurable).filter(|&records| records > 0)),
        ];
        for (metric, value) in rows {
            let mut family = page.family(metric);
            for partition in self.partitions.iter() {
                if let Some(value) = value(partition) {
                    family.sample(&[&partition.name.topic, &partition.name.partition.0.to_string()], value);
                }
            }
        }
    }
}

fn undurable(log: &Log) -> i64 {
    log.end_offset().0 - log.durable_offset().0
}

fn state_name(state: &State) -> &'static str {
    match state {
        State::Closed(None) => "new",
        State::Closed(Some(_)) => "closed",
        State::Opening => "opening",
        State::Online(_) => "online",
        State::Offline(_) => "offline",
    }
}
