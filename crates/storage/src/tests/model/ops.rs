//! What happens to a log: drawn from a seed before anything happens, so that what a failure does not need can be
//! left out.

use dohle_types::Rng;

/// A thing that happens, and the dice for what it leaves open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) dice: u64,
}

/// A thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A client appends.
    Append {
        writer: Writer,
        records: u8,
        padding: u16,
    },
    /// The transaction coordinator ends a transaction.
    EndTransaction {
        producer: u8,
        commit: bool,
        next_epoch: bool,
        coordinator_step: i8,
    },
    Sync,
    BeginSync,
    FinishSync,
    /// A consumer reads; `slowly` lets other things happen before its job runs.
    Read {
        from: u16,
        upper: Upper,
        max_bytes: u16,
        at_least_one: bool,
        slowly: bool,
    },
    FinishRead,
    FindTimestamp {
        target: u16,
        upper: Upper,
    },
    FindMaxTimestamp,
    Retain,
    DeleteRecords {
        before: u16,
    },
    ExpireProducers {
        after_ms: u16,
    },
    Configure(Setting),
    /// The leader's term changes; where it is `announced`, before its first append.
    NewEpoch {
        announced: bool,
    },
    Pass {
        ms: u32,
    },
    WriteCheckpoints,
    /// The hot tail loses batches.
    Evict {
        batches: u8,
    },
    /// The node stops in good order and starts again; the power may go in between.
    Restart {
        power_lost: bool,
    },
    /// The node is gone from one moment to the next.
    Crash {
        power_lost: bool,
    },
    /// Something breaks after so many more accesses to the disk.
    Break {
        what: Fault,
        after: u8,
    },
    /// A bit of a durable file flips.
    FlipBit {
        file: Flippable,
        at: u32,
    },
    /// The file is restored from a copy.
    Restore,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nobody in particular.
    Plain,
    /// The same, without keys.
    Keyless,
    /// A producer, as it should.
    Next(u8),
    /// A producer sends a batch again.
    Repeat { producer: u8, back: u8 },
    /// A producer skips records.
    Gap(u8),
    /// An instance of a producer that was superseded.
    Stale(u8),
    /// A new instance of a producer.
    Renewed(u8),
    /// A transactional producer writes without a transaction.
    Outside(u8),
}

/// Producers there are; those from `TRANSACTIONAL` on are transactional.
pub(super) const PRODUCERS: u8 = 5;
pub(super) const TRANSACTIONAL: u8 = 3;

/// The upper bound of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upper {
    End,
    HighWatermark,
    At(u16),
}

/// A config that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    SegmentBytes(u32),
    SegmentMs(i64),
    SegmentIndexBytes(u32),
    IndexIntervalBytes(u32),
    RetentionMs(Option<i64>),
    RetentionBytes(Option<u64>),
    CleanupPolicy {
        delete: bool,
        compact: bool,
    },
    FileDeleteDelayMs(i64),
    LogAppendTime(bool),
    Compression(u8),
    /// What is in the files is committed, whether it is durable or not.
    Relaxed(bool),
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process is killed in the middle of a write.
    Killed,
    /// The power goes in the middle of a write.
    PowerLost,
    WriteFails,
    ReadFails,
    SyncFails,
    /// So many bytes are left.
    DiskFull,
}

/// Files in which a bit may flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flippable {
    Log,
    Index,
    TimeIndex,
    Snapshot,
}

impl Flippable {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::Index => ".index",
            Self::TimeIndex => ".timeindex",
            Self::Snapshot => ".snapshot",
        }
    }
}

type Draw = fn(&mut Rng) -> Op;

/// The steps of a case: of all kinds of things only some happen in it, so that rare ones meet.
pub(super) fn draw(rng: &mut Rng) -> Vec<Step> {
    let mut weights: Vec<(u64, Draw)> = vec![
        (30, append),
        (6, end_transaction),
        (10, |_| Op::Sync),
        (4, |_| Op::BeginSync),
        (4, |_| Op::FinishSync),
        (6, read),
        (2, |_| Op::FinishRead),
        (3, |rng| Op::FindTimestamp { target: small(rng), upper: upper(rng) }),
        (1, |_| Op::FindMaxTimestamp),
        (4, |_| Op::Retain),
        (2, |rng| Op::DeleteRecords { before: small(rng) }),
        (1, |rng| Op::ExpireProducers { after_ms: small(rng) % 2000 }),
        (4, |rng| Op::Configure(setting(rng))),
        (2, |rng| Op::NewEpoch { announced: rng.chance(1, 2) }),
        (2, |rng| Op::Pass { ms: pick(rng, &[10, 300, 2000, 60_000]) }),
        (4, |_| Op::WriteCheckpoints),
        (2, |rng| Op::Evict { batches: pick(rng, &[1, 5, 255]) }),
        (1, |rng| Op::Restart { power_lost: rng.chance(1, 2) }),
        (2, |rng| Op::Crash { power_lost: rng.chance(2, 3) }),
        (2, fault),
        (1, flip),
        (1, |_| Op::Restore),
    ];
    for (weight, _) in weights.iter_mut().skip(1) {
        *weight = match rng.below(4) {
            0 => 0,
            1 => *weight * 3,
            _ => *weight,
        };
    }
    let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
    let mut steps = Vec::new();
    for _ in 0..rng.below(6) {
        steps.push(Step { op: Op::Configure(setting(rng)), dice: 0 });
    }
    for _ in 0..10 + rng.below(60) {
        let mut drawn = rng.below(total);
        let chosen = weights.iter().find(|(weight, _)| match drawn.checked_sub(*weight) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        let op = chosen.unwrap().1(rng);
        steps.push(Step { op, dice: rng.next_u64() });
    }
    steps
}

fn append(rng: &mut Rng) -> Op {
    let producer = u8::try_from(rng.below(u64::from(PRODUCERS))).unwrap();
    let writer = match rng.below(24) {
        0..=6 => Writer::Plain,
        7 => Writer::Keyless,
        8..=17 => Writer::Next(producer),
        18..=19 => Writer::Repeat { producer, back: u8::try_from(rng.below(6)).unwrap() },
        20 => Writer::Gap(producer),
        21 => Writer::Stale(producer),
        22 => Writer::Renewed(producer),
        _ => Writer::Outside(producer),
    };
    let padding = match rng.below(8) {
        0 => rng.below(900),
        1 => rng.below(300),
        _ => rng.below(40),
    };
    let records = if rng.chance(1, 2) { 1 } else { 1 + u8::try_from(rng.below(5)).unwrap() };
    Op::Append { writer, records, padding: u16::try_from(padding).unwrap() }
}

fn end_transaction(rng: &mut Rng) -> Op {
    let producer = TRANSACTIONAL + u8::try_from(rng.below(u64::from(PRODUCERS - TRANSACTIONAL))).unwrap();
    let coordinator_step = pick(rng, &[0, 0, 0, 1, -1]);
    Op::EndTransaction { producer, commit: rng.chance(2, 3), next_epoch: rng.chance(1, 4), coordinator_step }
}

fn read(rng: &mut Rng) -> Op {
    Op::Read {
        from: small(rng),
        upper: upper(rng),
        max_bytes: pick(rng, &[0, 1, 200, 1000, 60_000]),
        at_least_one: rng.chance(2, 3),
        slowly: rng.chance(1, 4),
    }
}

fn upper(rng: &mut Rng) -> Upper {
    match rng.below(3) {
        0 => Upper::End,
        1 => Upper::HighWatermark,
        _ => Upper::At(small(rng)),
    }
}

fn setting(rng: &mut Rng) -> Setting {
    match rng.below(11) {
        0 => Setting::SegmentBytes(pick(rng, &[400, 1000, 3000, 1 << 20])),
        1 => Setting::SegmentMs(pick(rng, &[100, 2000, 604_800_000])),
        2 => Setting::SegmentIndexBytes(pick(rng, &[24, 60, 1 << 20])),
        3 => Setting::IndexIntervalBytes(pick(rng, &[0, 100, 500, 4096])),
        4 => Setting::RetentionMs(pick(rng, &[None, Some(0), Some(500), Some(30_000)])),
        5 => Setting::RetentionBytes(pick(rng, &[None, Some(0), Some(800), Some(800), Some(3000)])),
        6 => Setting::CleanupPolicy { delete: rng.chance(3, 4), compact: false },
        7 => Setting::FileDeleteDelayMs(pick(rng, &[0, 0, 500])),
        8 => Setting::LogAppendTime(rng.chance(1, 3)),
        9 => Setting::Relaxed(rng.chance(1, 2)),
        _ => Setting::Compression(u8::try_from(rng.below(12)).unwrap()),
    }
}

fn fault(rng: &mut Rng) -> Op {
    use Fault::{DiskFull, Killed, PowerLost, ReadFails, SyncFails, WriteFails};
    let what = pick(rng, &[Killed, PowerLost, PowerLost, WriteFails, ReadFails, SyncFails, DiskFull]);
    let bound = pick(rng, &[3, 20, 60]);
    Op::Break { what, after: u8::try_from(rng.below(bound)).unwrap() }
}

fn flip(rng: &mut Rng) -> Op {
    use Flippable::{Index, Log, Snapshot, TimeIndex};
    let at = u32::try_from(rng.below(1 << 32)).unwrap();
    Op::FlipBit { file: pick(rng, &[Log, Log, Log, Index, TimeIndex, Snapshot]), at }
}

fn small(rng: &mut Rng) -> u16 {
    u16::try_from(rng.below(1 << 16)).unwrap()
}

pub(super) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(choices.len() as u64)).unwrap()]
}
