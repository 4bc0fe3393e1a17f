//! What the journal tells, as scripts, and what is true of it in every history.

use std::time::Duration;

use dohle_types::{Str, Timestamp};
use expect_test::expect_file;

use super::host::Host;
use super::script::{caller, run};
use crate::journal::cause::CauseKind;
use crate::journal::entry::{Entry, Event, Outcome};
use crate::{Caller, Effects, GroupsConfig};

#[test]
fn journal_of_classic_groups() {
    run(&expect_file!["../../testdata/journal_classic.txt"]);
}

#[test]
fn journal_of_consumer_groups() {
    run(&expect_file!["../../testdata/journal_consumer.txt"]);
}

#[test]
fn journal_of_migrations() {
    run(&expect_file!["../../testdata/journal_migration.txt"]);
}

#[test]
fn journal_of_storms() {
    run(&expect_file!["../../testdata/journal_storms.txt"]);
}

/// The entries of one group: each generation has one, and they do not overlap.
pub(super) struct Chain {
    /// The generation that the last one ended with, and whether it left the group empty; none since a restart.
    last: Option<(i32, Outcome)>,
    ended: Timestamp,
}

impl Chain {
    pub(super) const fn new() -> Self {
        Self { last: None, ended: Timestamp(0) }
    }

    /// What was under way is not told any more.
    pub(super) const fn restart(&mut self) {
        self.last = None;
    }

    pub(super) fn take(&mut self, entries: &[Entry]) {
        for entry in entries {
            let json = entry.to_json().to_string();
            assert_eq!(&Entry::from_json(json.as_bytes()).unwrap(), entry, "{json}");
            let Event::Rebalance(told) = &entry.event else { continue };
            assert!(!told.causes.is_empty(), "a rebalance has a cause: {told:?}");
            // A reset of offsets ends a generation by itself.
            let generations = 1 + i32::from(told.causes[0].kind == CauseKind::OffsetsReset);
            assert!((0..=generations).contains(&(told.to - told.from)), "one generation: {told:?}");
            if let Some((last, outcome)) = self.last {
                // A group without members may begin anew, with the other protocol.
                assert!(told.from == last || outcome == Outcome::Emptied, "{told:?} after {last}");
            }
            assert!(told.started >= self.ended, "no two at once: {told:?}");
            let duration = Duration::from_millis(told.duration_ms);
            assert_eq!(told.started.plus(duration), entry.at, "{told:?}");
            assert!(told.first_phase_ms.is_none_or(|ms| ms <= told.duration_ms), "{told:?}");
            if let Some(moves) = &told.moves {
                assert!(moves.moved + moves.without_owner <= moves.total, "{told:?}");
            }
            self.last = Some((told.to, told.outcome));
            self.ended = entry.at;
        }
    }

    /// The group is at rest in this generation: all that led to it has been told.
    pub(super) fn check_rest(&self, generation: i32) {
        if let Some((last, _)) = self.last {
            assert_eq!(last, generation, "each generation is told of");
        }
    }
}

/// Members that come and go in more groups than are followed: what is missing is told, and memory has its limits.
#[test]
fn what_is_not_followed_is_told_as_missing() {
    let config = GroupsConfig { initial_rebalance_delay: Duration::ZERO, ..GroupsConfig::default() };
    let mut host: Host<()> = Host::new(config);
    host.cluster.set_topic("t", 1);
    let (mut told, mut missing) = (0_u64, 0);
    for group in 0..25_001 {
        if group == 25_000 {
            assert_eq!(told, 20_000);
            assert!(missing >= 5_000, "{missing}");
            // The first ones are idle now, and there is room for another.
            host.advance(Duration::from_secs(3_600));
        }
        let request = dohle_protocol::messages::ConsumerGroupHeartbeatRequest {
            group_id: Str::from(format!("g{group}")),
            member_id: Str::from("m"),
            rebalance_timeout_ms: 1_000,
            subscribed_topic_names: Some(vec![Str::from("t")]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let mut effects = Effects::default();
        let caller: Caller = caller("m", 1);
        let response =
            host.call(&mut effects, |ledger, turn| ledger.consumer_group_heartbeat(turn, &caller, &request));
        assert_eq!(response.error_code, 0, "no group suffers from it");
        for entry in host.take(effects, None) {
            match entry.event {
                Event::Dropped { entries } => missing += entries,
                Event::Rebalance(_) => told += 1,
                Event::Membership { .. } | Event::Storm(_) | Event::Poison(_) => panic!("{entry:?}"),
            }
        }
    }
    assert_eq!(told, 20_001);
}

/// Operators look causes up by the text that they see.
#[test]
fn the_page_tells_all_causes() {
    let page = include_str!("../../../../docs/groups.md");
    for kind in CauseKind::ALL {
        let row = format!("| {} | `{}` | {} |", kind.text(), kind.name(), kind.advice());
        assert!(page.lines().any(|line| line == row), "docs/groups.md lacks {row}");
        assert_eq!(CauseKind::from_name(kind.name()), Some(*kind));
    }
}
