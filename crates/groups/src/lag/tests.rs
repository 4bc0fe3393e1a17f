//! Tells the states in `testdata/lag.txt`: unindented lines are what happens to one partition of one group, indented ones
//! what is told of it then.
//!
//! - `a title:` begins anew
//! - `[+5s] commits 100 of 120`: the offset, and where the log ends (`stable 110`: the last stable offset; `from 50`: its
//!   start)
//! - `[+5s] log ends at 130 [stable 110] [from 50] [oldest 4s]`: the age of the oldest record that is left
//! - `5 times +5s commits 100+10 of 120+20`: each time so many more
//! - `broker restarts`, `members are gone`
//!
//! `UPDATE_EXPECT=1 cargo test -p dohle-groups` writes what is told.

use std::fmt::Write as _;
use std::time::Duration;

use dohle_types::{LeaderEpoch, Now, Offset, Str, Timestamp, TopicId};
use expect_test::expect_file;
use proptest::prelude::*;

use super::*;

const START: Now = Now { instant: Duration::from_secs(1_000), wall: Timestamp(1_800_000_000_000) };

/// One partition of one group.
struct World {
    windows: CommitWindows,
    now: Now,
    committed: Option<CommittedOffset>,
    is_abandoned: bool,
}

impl World {
    fn new() -> Self {
        let mut windows = CommitWindows::new(10);
        windows.begin(START);
        Self { windows, now: START, committed: None, is_abandoned: false }
    }

    fn advance(&mut self, by: Duration) {
        self.now = Now { instant: self.now.instant + by, wall: self.now.wall.plus(by) };
    }

    fn commit(&mut self, offset: i64, ends: LogEnds) {
        let offset = Offset(offset);
        self.committed = Some(committed(offset, self.now.wall));
        self.windows.note(self.now, place(0), offset, ends.left(offset));
    }

    fn restart(&mut self) {
        self.windows = CommitWindows::new(10);
        self.windows.begin(self.now);
    }

    fn told(&self, ends: LogEnds, age: Option<Duration>) -> String {
        let Some(committed) = &self.committed else { return "nothing committed".to_owned() };
        let left = ends.left(committed.offset);
        let backlog = Backlog { left, age, is_abandoned: self.is_abandoned };
        let state = self.windows.state(self.now, &place(0), committed, backlog);
        let (lag, lost) = (ends.lag(committed.offset), ends.lost(committed.offset));
        let seen = self.windows.commits(&place(0), committed);
        format!("{state}: lag {lag}, {left} can be read, {lost} lost; commits seen: {seen}")
    }
}

fn place(partition: i32) -> WatchedPlace {
    (Str::const_new("g"), Str::const_new("t"), partition)
}

fn committed(offset: Offset, committed_at: Timestamp) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: LeaderEpoch::NONE,
        metadata: Str::default(),
        committed_at,
        expires_at: None,
        topic_id: TopicId::ZERO,
    }
}

fn ends(end: i64) -> LogEnds {
    LogEnds { start: Offset(0), last_stable: Offset(end), high_watermark: Offset(end) }
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number");
    Duration::from_secs(number * if unit == "m" { 60 } else { 1 })
}

/// `100` or `100+10`, at its `turn`.
fn number(text: &str, turn: i64) -> i64 {
    let (base, step) = text.split_once('+').unwrap_or((text, "0"));
    base.parse::<i64>().expect("a number") + turn * step.parse::<i64>().expect("a step")
}

/// The word after `name`.
fn after<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied()
}

fn happen(world: &mut World, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["broker", "restarts"] => world.restart(),
        ["members", "are", "gone"] => world.is_abandoned = true,
        _ => {
            let times = after(&words, "times").map_or(1, |_| words[0].parse().expect("how many times"));
            let mut told = None;
            for turn in 0..times {
                if let Some(by) = words.iter().find_map(|word| word.strip_prefix('+')) {
                    world.advance(duration(by));
                }
                let end = after(&words, "of").or_else(|| after(&words, "at")).expect("where the log ends");
                let bound =
                    |name, otherwise| after(&words, name).map_or(otherwise, |text| number(text, turn));
                let end = number(end, turn);
                let ends = LogEnds {
                    start: Offset(bound("from", 0)),
                    last_stable: Offset(bound("stable", end)),
                    high_watermark: Offset(end),
                };
                match after(&words, "commits") {
                    Some(offset) => world.commit(number(offset, turn), ends),
                    None => told = Some(world.told(ends, after(&words, "oldest").map(duration))),
                }
            }
            return told;
        }
    }
    None
}

#[test]
fn states() {
    let file = expect_file!["../../testdata/lag.txt"];
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/lag.txt")).unwrap();
    let mut world = World::new();
    let mut shown = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(shown, "{line}").unwrap();
        if line.ends_with(':') {
            world = World::new();
        } else if !line.is_empty()
            && !line.starts_with('#')
            && let Some(told) = happen(&mut world, line)
        {
            writeln!(shown, "  {told}").unwrap();
        }
    }
    file.assert_eq(&shown);
}

/// What happens next to a partition and its consumer.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Append(i64),
    Truncate(i64),
    Commit(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..100_u64).prop_map(Step::Wait),
        (1..1_000_i64).prop_map(Step::Append),
        (0..500_i64).prop_map(Step::Truncate),
        (-10..2_000_i64).prop_map(Step::Commit),
        Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn no_lag_is_negative_and_who_has_read_everything_is_well(
        steps in prop::collection::vec(step(), 1..60),
        is_abandoned: bool,
    ) {
        let mut world = World::new();
        world.is_abandoned = is_abandoned;
        let mut ends = ends(0);
        for step in steps {
            match step {
                Step::Wait(seconds) => world.advance(Duration::from_secs(seconds)),
                Step::Append(records) => {
                    let end = ends.high_watermark.plus(records);
                    // A transaction stays open now and then.
                    let last_stable = if records % 7 == 0 { ends.last_stable } else { end };
                    ends = LogEnds { last_stable, high_watermark: end, ..ends };
                }
                Step::Truncate(records) => ends.start = ends.start.plus(records).min(ends.last_stable),
                Step::Commit(offset) => world.commit(offset, ends),
                Step::Restart => world.restart(),
            }
            let Some(committed) = world.committed.clone() else { continue };
            let (lag, left, lost) =
                (ends.lag(committed.offset), ends.left(committed.offset), ends.lost(committed.offset));
            prop_assert!(0 <= left && left <= lag, "{left} of {lag}");
            let as_kafka = ends.high_watermark.0 - committed.offset.0;
            prop_assert_eq!(lag + lost, as_kafka.max(0).max(lost), "Kafka's, but for what is beyond the end");
            let state = |left| {
                let backlog = Backlog { left, age: None, is_abandoned };
                world.windows.state(world.now, &place(0), &committed, backlog)
            };
            if left == 0 {
                prop_assert_eq!(state(left), LagState::Ok);
            } else if is_abandoned {
                prop_assert_eq!(state(left), LagState::Stopped);
            }
            prop_assert!(world.windows.commits(&place(0), &committed) <= COMMITS_MAX);
        }
    }

    #[test]
    fn who_comes_closer_with_each_commit_is_well_and_who_falls_silent_is_not(
        commits in prop::collection::vec((1..60_u64, 1..100_i64), 3..30),
        rate in 0..100_i64,
    ) {
        let mut world = World::new();
        let (mut offset, mut end) = (0, 1_000_000);
        for (seconds, gained) in commits {
            world.advance(Duration::from_secs(seconds));
            end += rate;
            offset += rate + gained;
            world.commit(offset, ends(end));
            prop_assert!(world.told(ends(end), None).starts_with("ok"));
        }
        world.advance(Duration::from_secs(60 * 60));
        prop_assert!(world.told(ends(end), None).starts_with("stopped"));
        world.commit(offset, ends(end));
        prop_assert!(!world.told(ends(end), None).starts_with("stopped"), "it is back");
    }
}

#[test]
fn what_there_is_no_room_for_is_not_watched_until_others_have_been_silent_for_an_hour() {
    let mut windows = CommitWindows::new(2);
    windows.begin(START);
    let later = |hours: u64| {
        let by = Duration::from_secs(60 * 60 * hours);
        Now { instant: START.instant + by, wall: START.wall.plus(by) }
    };
    let commit = |windows: &mut CommitWindows, now: Now, partition: i32| {
        windows.note(now, place(partition), Offset(5), 1);
        windows.commits(&place(partition), &committed(Offset(5), now.wall))
    };
    assert_eq!([0, 1, 2].map(|partition| commit(&mut windows, START, partition)), [1, 1, 0]);
    assert_eq!(commit(&mut windows, later(1), 0), 2, "goes on");
    assert_eq!(commit(&mut windows, later(1), 2), 1, "in the place of the silent one");
    assert_eq!(commit(&mut windows, later(1), 1), 0);
}

#[test]
fn an_offset_that_was_reset_has_no_history() {
    let mut windows = CommitWindows::new(2);
    windows.note(START, place(0), Offset(5), 1);
    assert_eq!(windows.commits(&place(0), &committed(Offset(9), START.wall)), 0);
}
