//! What a seed decides before anything happens: the broker's configs, the clients, and the faults.

use std::time::Duration;

use dohle_checker::Guarantee;
use dohle_client::group::GroupProtocol;
use dohle_configs::BrokerConfig;
use dohle_types::Rng;

/// Everything that is decided beforehand.
#[derive(Debug)]
pub struct Plan {
    /// The configs that differ from the defaults.
    pub settings: Vec<String>,
    /// Whether acknowledged records survive power loss (`dohle.durability`).
    pub durable: bool,
    /// Topics, with the number of their partitions.
    pub topics: Vec<(String, i32)>,
    /// Whether topics are made by asking for them.
    pub auto_create: bool,
    /// Producers.
    pub producers: Vec<ProducerPlan>,
    /// Consumers that read everything.
    pub readers: usize,
    /// Groups.
    pub groups: Vec<GroupPlan>,
    /// Whether a topic is made and deleted all the time.
    pub churn: bool,
    /// Whether a topic is forked again and again while others write to it.
    pub fork: bool,
    /// The network.
    pub network: NetworkPlan,
    /// How long disk work takes.
    pub disk: DiskPlan,
    /// When what goes wrong.
    pub faults: Vec<(Duration, Fault)>,
    /// When everything that went wrong is over.
    pub heal_at: Duration,
    /// How the node ends before the last look.
    pub last_end: End,
    /// Bytes of memory that are left for answers, where there are few.
    pub answer_bytes: Option<u64>,
}

/// A group.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// What each of its members speaks.
    pub members: Vec<GroupProtocol>,
    /// Whether members come back with the other protocol.
    pub migrates: bool,
}

/// A producer.
#[derive(Debug, Clone, Copy)]
pub struct ProducerPlan {
    /// What it is promised.
    pub guarantee: Guarantee,
    /// Whether it waits for all in-sync replicas, if it waits at all.
    pub acks_all: bool,
    /// Records it sends.
    pub records: u64,
    /// The longest value.
    pub value_size_max: u64,
    /// The mean time between two bursts.
    pub pause: Duration,
    /// The most records in a burst.
    pub burst_max: u64,
    /// `batch.size`
    pub batch_size: usize,
    /// `linger.ms`
    pub linger: Duration,
    /// `delivery.timeout.ms`
    pub delivery_timeout: Duration,
    /// The compression, by its place in the list of all.
    pub compression: usize,
}

/// The network.
#[derive(Debug, Clone, Copy)]
pub struct NetworkPlan {
    /// The least time that anything takes; all times are multiples of it.
    pub quantum: Duration,
    /// The usual delay, in quanta.
    pub delay_max: u64,
    /// In how many of ten thousand messages the connection stalls.
    pub stalls: u64,
    /// The longest stall.
    pub stall_max: Duration,
    /// In how many of ten thousand messages the connection breaks.
    pub breaks: u64,
    /// In how many of a hundred messages the stream is cut into pieces.
    pub pieces: u64,
}

/// The disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskPlan {
    /// The usual time of a sync.
    pub sync_max: Duration,
    /// In how many of a hundred syncs the disk is slow.
    pub slow_syncs: u64,
    /// Whether the node is told how much room there is; of a quota it is not.
    pub tells_room: bool,
    /// The usual time of a step of a job.
    pub step_max: Duration,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node ends, after so many more changes to files.
    End(End, u64),
    /// The next sync fails.
    FailSync,
    /// So many changes to files later, one fails.
    FailChange(u64),
    /// So many reads of files later, one fails.
    FailRead(u64),
    /// A bit of a durable record flips; drawn is which.
    FlipBit(u64),
    /// The disk has room for so many bytes more, for so long.
    FillDisk(usize, Duration),
    /// It has room again.
    EmptyDisk,
    /// An operator moves partitions to a log dir; drawn are which of them, and to which.
    Move(u64),
    /// A client is killed, by its place among those that can be.
    KillClient(u64),
    /// All connections stall for this long.
    Stall(Duration),
}

/// How the node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process is killed; the system stays.
    Kill,
    /// The power goes.
    PowerLoss,
    /// It is asked to stop, and when it has stopped the power goes.
    Stop,
}

impl Plan {
    /// What this seed decides.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let durable = !rng.chance(1, 4);
        let heal_at = Duration::from_millis(4000 + rng.below(12_000));
        let auto_create = rng.chance(1, 4);
        let partitions = 1 + i32::try_from(rng.below(3)).unwrap_or(0);
        let topics = ["orders", "events"].into_iter().take(1 + below(rng, 2));
        let topics: Vec<(String, i32)> = topics
            .map(|name| {
                let count = 1 + i32::try_from(rng.below(4)).unwrap_or(0);
                (name.to_owned(), if auto_create { partitions } else { count })
            })
            .collect();
        let groups = ["billing", "audit"].into_iter().take(below(rng, 3));
        let groups: Vec<(&str, usize)> = groups.map(|name| (name, 1 + below(rng, 3))).collect();
        let mut plan = Self {
            settings: settings(rng, durable, partitions),
            durable,
            topics,
            auto_create,
            producers: (0..=rng.below(3)).map(|_| ProducerPlan::draw(rng, heal_at)).collect(),
            readers: below(rng, 3),
            groups: Vec::new(),
            churn: rng.chance(1, 3),
            fork: rng.chance(1, 3),
            network: NetworkPlan::draw(rng),
            disk: DiskPlan::draw(rng),
            faults: faults(rng, durable, heal_at),
            heal_at,
            last_end: End::draw(rng, durable),
            answer_bytes: None,
        };
        let trash_ms = pick(rng, &[0, 1000, 86_400_000, 86_400_000]);
        plan.settings.push(format!("dohle.topic.trash.ms={trash_ms}"));
        plan.answer_bytes = rng.chance(1, 3).then(|| pick(rng, &[1, 10, 1000, 20_000]));
        plan.groups = groups.iter().map(|(name, members)| GroupPlan::draw(rng, name, *members)).collect();
        plan.settings.extend(group_settings(rng, &plan.groups));
        plan
    }

    /// The broker's configs.
    #[must_use]
    pub fn config(&self) -> BrokerConfig {
        match BrokerConfig::parse("", &self.settings) {
            Ok((config, _)) => config,
            Err(errors) => unreachable!("the plan's settings are valid: {errors}"),
        }
    }
}

/// The configs of the broker, perturbed so that what is rare becomes frequent.
fn settings(rng: &mut Rng, durable: bool, partitions: i32) -> Vec<String> {
    let mut settings = vec![
        format!("num.partitions={partitions}"),
        format!("offsets.topic.num.partitions={}", 1 + rng.below(4)),
        format!("group.initial.rebalance.delay.ms={}", pick(rng, &[0, 100, 1000])),
        format!("group.min.session.timeout.ms={}", 1000),
        format!("message.max.bytes={}", 20_000),
        format!("log.flush.offset.checkpoint.interval.ms={}", pick(rng, &[200, 2000, 60_000])),
        format!("log.retention.check.interval.ms={}", pick(rng, &[500, 5000, 300_000])),
        format!("dohle.tail.cache.bytes={}", pick(rng, &[0, 4000, 100_000, 33_554_432])),
        format!("dohle.scrub.interval.ms={}", pick(rng, &[0, 300, 604_800_000])),
        format!("dohle.scrub.bytes.per.second={}", pick(rng, &[10_000, 1_000_000])),
        format!("log.index.interval.bytes={}", pick(rng, &[0, 500, 4096])),
    ];
    // Where time does not have checkpoints written, what is written does.
    if settings.iter().any(|setting| setting == "log.flush.offset.checkpoint.interval.ms=60000") {
        settings.push("dohle.checkpoint.bytes=5000".to_owned());
    }
    // The logs of group coordinators are compacted.
    if rng.chance(1, 2) {
        settings.push(format!("log.cleaner.backoff.ms={}", pick(rng, &[0, 100, 1000])));
        let ratio = if rng.chance(1, 2) { "0" } else { "0.5" };
        settings.push(format!("log.cleaner.min.cleanable.ratio={ratio}"));
        settings.push(format!("log.cleaner.max.compaction.lag.ms={}", pick(rng, &[1, 300, 2000])));
        settings.push(format!("log.cleaner.dedupe.buffer.size={}", pick(rng, &[500, 100_000])));
        settings.push(format!("log.cleaner.delete.retention.ms={}", pick(rng, &[0, 1000])));
    }
    settings.push(format!("dohle.journal.bytes={}", pick(rng, &[0, 80_000, 300_000, 2_000_000])));
    settings.push(format!("dohle.journal.partitions.min={}", pick(rng, &[1, 1, 2, 4])));
    if rng.chance(1, 2) {
        settings.push(format!("log.index.size.max.bytes={}", pick(rng, &[12, 40, 400])));
    }
    if rng.chance(1, 3) {
        settings.push(format!("log.roll.ms={}", pick(rng, &[500, 3000])));
    }
    if rng.chance(1, 3) {
        settings.push("log.dirs=first,second".to_owned());
        let metadata = ["first", "second", "third"].get(below(rng, 3)).copied().unwrap_or_default();
        settings.push(format!("metadata.log.dir={metadata}"));
    }
    if rng.chance(1, 2) {
        let bytes = pick(rng, &[300, 3000]);
        settings.push(format!("metadata.log.max.record.bytes.between.snapshots={bytes}"));
        settings.push(format!("metadata.log.segment.ms={}", pick(rng, &[500, 5000])));
        settings.push(format!("metadata.max.retention.bytes={}", pick(rng, &[0, 5000])));
        settings.push(format!("log.segment.delete.delay.ms={}", pick(rng, &[0, 60_000])));
    }
    settings.push(format!("log.preallocate={}", rng.chance(1, 4)));
    if !durable {
        settings.push("dohle.durability=relaxed".to_owned());
        settings.push(format!("log.flush.interval.messages={}", pick(rng, &[1, 50, 1_000_000])));
        settings.push(format!("log.flush.interval.ms={}", pick(rng, &[0, 300, 86_400_000])));
    }
    settings
}

/// The configs of groups of the consumer protocol.
fn group_settings(rng: &mut Rng, groups: &[GroupPlan]) -> Vec<String> {
    let session_ms = 2000 + rng.below(4000);
    let policies = ["bidirectional", "upgrade", "downgrade", "disabled"];
    // Where members come back with the other protocol, the group has to be able to follow.
    let migrates = groups.iter().any(|group| group.migrates);
    let policy = policies.get(if migrates { 0 } else { below(rng, 4) }).copied().unwrap_or_default();
    vec![
        format!("group.consumer.assignment.interval.ms={}", pick(rng, &[0, 100, 1000])),
        "group.consumer.min.session.timeout.ms=1000".to_owned(),
        format!("group.consumer.session.timeout.ms={session_ms}"),
        "group.consumer.min.heartbeat.interval.ms=100".to_owned(),
        format!("group.consumer.heartbeat.interval.ms={}", session_ms / 4),
        format!("group.consumer.migration.policy={policy}"),
    ]
}

fn faults(rng: &mut Rng, durable: bool, heal_at: Duration) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..rng.below(5) {
        let after = if rng.chance(1, 3) { 0 } else { rng.below(60) };
        faults.push(Fault::End(End::draw(rng, durable), after));
    }
    if durable && rng.chance(1, 6) {
        faults.push(Fault::FailSync);
    }
    if durable && rng.chance(1, 8) {
        let after = rng.below(60);
        faults.push(if rng.chance(1, 2) { Fault::FailChange(after) } else { Fault::FailRead(after) });
    }
    if rng.chance(1, 3) {
        for _ in 0..=rng.below(2) {
            faults.push(Fault::FlipBit(rng.next_u64()));
        }
    }
    if rng.chance(1, 5) {
        let room = below(rng, 60_000);
        faults.push(Fault::FillDisk(room, Duration::from_millis(rng.below(8000))));
    }
    for _ in 0..rng.below(6) {
        faults.push(Fault::Move(rng.next_u64()));
    }
    for _ in 0..rng.below(3) {
        faults.push(Fault::KillClient(rng.next_u64()));
    }
    for _ in 0..rng.below(2) {
        faults.push(Fault::Stall(Duration::from_millis(rng.below(4000))));
    }
    faults.into_iter().map(|fault| (within(rng, heal_at), fault)).collect()
}

impl End {
    fn draw(rng: &mut Rng, durable: bool) -> Self {
        match rng.below(4) {
            0 => Self::Kill,
            1 => Self::Stop,
            _ if durable => Self::PowerLoss,
            _ => Self::Kill,
        }
    }
}

impl GroupPlan {
    fn draw(rng: &mut Rng, name: &str, members: usize) -> Self {
        let migrates = rng.chance(1, 3);
        let of_all = protocol(rng);
        let members = (0..members).map(|_| if migrates { protocol(rng) } else { of_all }).collect();
        Self { name: name.to_owned(), members, migrates }
    }
}

/// One of the protocols.
pub fn protocol(rng: &mut Rng) -> GroupProtocol {
    if rng.chance(1, 2) { GroupProtocol::Consumer } else { GroupProtocol::Classic }
}

impl ProducerPlan {
    fn draw(rng: &mut Rng, heal_at: Duration) -> Self {
        let guarantee = match rng.below(5) {
            0 => Guarantee::AtLeastOnce,
            1 if rng.chance(1, 2) => Guarantee::AtMostOnce,
            _ => Guarantee::ExactlyOnce,
        };
        let records = 20 + rng.below(150);
        let burst_max = pick(rng, &[1, 3, 30]);
        // So that they last for about as long as the faults do.
        let pause = heal_at.mul_f64(burst_max as f64 / 2.0 / records as f64);
        Self {
            guarantee,
            acks_all: rng.chance(2, 3),
            records,
            value_size_max: pick(rng, &[16, 200, 2000, 12_000]),
            pause,
            burst_max,
            batch_size: below(rng, 16_000),
            linger: Duration::from_millis(pick(rng, &[0, 5, 200])),
            delivery_timeout: Duration::from_millis(pick(rng, &[1500, 600_000, 600_000])),
            compression: below(rng, 5),
        }
    }
}

impl NetworkPlan {
    fn draw(rng: &mut Rng) -> Self {
        let is_bad = rng.chance(2, 3);
        Self {
            quantum: Duration::from_micros(pick(rng, &[20, 200, 1000])),
            delay_max: 1 + rng.below(10),
            stalls: if is_bad { rng.below(60) } else { 0 },
            stall_max: Duration::from_millis(1 + rng.below(5000)),
            breaks: if is_bad { rng.below(60) } else { 0 },
            pieces: rng.below(30),
        }
    }
}

impl DiskPlan {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            sync_max: Duration::from_micros(pick(rng, &[100, 3000, 50_000])),
            slow_syncs: rng.below(8),
            tells_room: rng.chance(2, 3),
            step_max: Duration::from_micros(pick(rng, &[50, 1000, 20_000])),
        }
    }
}

/// One of several.
fn pick(rng: &mut Rng, choices: &[u64]) -> u64 {
    choices.get(below(rng, choices.len() as u64)).copied().unwrap_or_default()
}

fn below(rng: &mut Rng, bound: u64) -> usize {
    usize::try_from(rng.below(bound)).unwrap_or_default()
}

/// A time before `end`.
pub fn within(rng: &mut Rng, end: Duration) -> Duration {
    Duration::from_micros(rng.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX)))
}
