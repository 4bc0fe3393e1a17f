//! Groups: their members, why they rebalance, and how far they are behind.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_groups::journal::stats::{BUCKETS_MS, CauseStats, Histogram};
use dohle_groups::lag::WatchedGroup;
use dohle_metrics::row::Row;
use dohle_metrics::table::groups as table;
use dohle_metrics::{Family, Page};
use dohle_protocol::messages::ListGroupsRequest;
use dohle_types::Str;

use crate::groups_cluster::GroupsCluster;
use crate::node::Node;

/// What is told of groups.
#[derive(Debug, Default)]
pub(crate) struct GroupsSeen {
    pub(crate) groups: Vec<(Str, WatchedGroup)>,
    pub(crate) lags: Vec<Lag>,
    /// Partitions of groups that were too many.
    pub(crate) left_out: u64,
}

/// How far a group is behind in a partition.
#[derive(Debug)]
pub(crate) struct Lag {
    pub(crate) group: Str,
    pub(crate) topic: Str,
    pub(crate) partition: i32,
    /// In records.
    pub(crate) lag: i64,
    /// In milliseconds; below 0 where that is not known.
    pub(crate) lag_ms: i64,
    pub(crate) state: i8,
}

type Count = fn(&CauseStats) -> u64;
type Took = fn(&CauseStats) -> &Histogram;

impl Node {
    /// All groups that this node coordinates.
    pub(super) fn watched_groups(&self) -> Vec<(Str, WatchedGroup)> {
        let cluster = GroupsCluster { image: self.metadata.image(), config: &self.config };
        let mut groups = Vec::new();
        for ledger in self.groups.ledgers() {
            let ids = ledger.list(&ListGroupsRequest::default()).into_iter().map(|listed| listed.group_id);
            groups.extend(ids.filter_map(|id| {
                let group = ledger.watched_group(&id, &cluster)?;
                Some((id, group))
            }));
        }
        groups
    }

    pub(super) fn write_group_metrics(&self, page: &mut Page, seen: &GroupsSeen) {
        let mut states: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (_, group) in &seen.groups {
            *states.entry((&group.group_type, &group.state)).or_default() += 1;
        }
        let mut family = page.family(table::GROUPS);
        states.iter().for_each(|((group_type, state), &count)| family.sample(&[group_type, state], count));
        let mut family = page.family(table::GROUP_MEMBERS);
        seen.groups.iter().for_each(|(id, group)| family.sample(&[id], group.members));
        let mut family = page.family(table::GROUP_STATE);
        seen.groups
            .iter()
            .for_each(|(id, group)| family.sample(&[id, &group.group_type, &group.state], true));
        write_lags(page, seen);
        self.write_rebalance_metrics(page);
        let (windows, windows_max) = self.groups.windows.usage();
        page.value(table::WINDOWS, windows);
        page.value(table::WINDOWS_LIMIT, windows_max);
    }

    fn write_rebalance_metrics(&self, page: &mut Page) {
        let stats = self.group_journal.stats();
        let counters: [Row<Count>; 4] = [
            (table::REBALANCES, |stats| stats.rebalances),
            (table::SUPERSEDED, |stats| stats.superseded),
            (table::MEMBERSHIPS, |stats| stats.memberships),
            (table::MOVED, |stats| stats.moved),
        ];
        for (metric, value) in counters {
            let mut family = page.family(metric);
            stats.by_cause.iter().for_each(|(cause, stats)| family.sample(&[cause.name()], value(stats)));
        }
        let histograms: [Row<Took>; 2] = [
            (table::REBALANCE_SECONDS, |stats| &stats.duration),
            (table::WITHOUT_OWNER_SECONDS, |stats| &stats.without_owner),
        ];
        for (metric, histogram) in histograms {
            let mut family = page.family(metric);
            stats
                .by_cause
                .iter()
                .for_each(|(cause, stats)| write(&mut family, cause.name(), histogram(stats)));
        }
        page.value(table::STORMS, stats.storms);
        page.value(table::JOURNAL_DROPPED, stats.dropped);
    }
}

fn write(family: &mut Family<'_>, cause: &str, histogram: &Histogram) {
    let bounds = BUCKETS_MS.iter().map(|&ms| Duration::from_millis(ms).as_secs_f64());
    family.counts(&[cause], bounds, &histogram.buckets, Duration::from_millis(histogram.sum_ms).into());
}

fn write_lags(page: &mut Page, seen: &GroupsSeen) {
    let GroupsSeen { lags, left_out, .. } = seen;
    let places: Vec<String> = lags.iter().map(|lag| lag.partition.to_string()).collect();
    let all = || lags.iter().zip(&places).map(|(lag, place)| ([&*lag.group, &*lag.topic, &**place], lag));
    let mut family = page.family(table::GROUP_LAG);
    all().for_each(|(labels, lag)| family.sample(&labels, lag.lag));
    family.leave_out(*left_out);
    let mut family = page.family(table::GROUP_LAG_SECONDS);
    for (labels, lag) in all() {
        if let Ok(ms) = u64::try_from(lag.lag_ms) {
            family.sample(&labels, Duration::from_millis(ms));
        }
    }
    family.leave_out(*left_out);
    let mut family = page.family(table::GROUP_LAG_STATE);
    all().for_each(|(labels, lag)| family.sample(&labels, i64::from(lag.state)));
    family.leave_out(*left_out);
}
