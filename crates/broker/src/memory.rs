//! The memory of a node, divided into shares: one budget for all that clients and work can make large.
//!
//! A [`Budget`] only counts. Each consumer of memory asks for room before it takes, and has an answer of its own when
//! there is none:
//!
//! | share | when it is used up |
//! |---|---|
//! | small requests, large requests | no more are read from the sockets (`dohle-io`, `net/intake.rs`) |
//! | answers | fetches get fewer bytes, then wait in line (`answer_line.rs`) |
//! | hot tails | the oldest batches are evicted (`dohle_storage::TailBudget`) |
//! | fetch sessions | the session unused for longest is closed (`fetch_session.rs`) |
//! | cleaner | a log is compacted in more rounds (`cleaner.rs`) |
//!
//! What is not counted is small or of a known size: the metadata and some 2 KiB for each partition, the state of
//! groups, their latest commits (a 64th part of the budget), the producers that logs know (a 16th part), and a MiB or two for each of the threads that run jobs.

use std::fmt;

use dohle_configs::{BrokerConfig, broker};

/// Requests from this size on are large: they are received into a buffer of their own, and counted apart, so that
/// those who send megabytes do not hold up those who send little.
pub const LARGE_REQUEST_MIN: usize = 32 << 10;

const DEFAULT_MIN: u64 = 64 << 20;
const DEFAULT_MAX: u64 = 4 << 30;

/// What memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Requests below [`LARGE_REQUEST_MIN`] that are being received, or not answered yet.
    SmallRequests,
    /// All other requests.
    LargeRequests,
    /// Answers that are not sent yet, and what was read from files for them.
    Answers,
    /// The newest batches of all logs.
    Tails,
    /// Incremental fetch sessions.
    FetchSessions,
    /// The keys and buffers of the cleaner.
    Cleaner,
}

impl Share {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SmallRequests,
        Self::LargeRequests,
        Self::Answers,
        Self::Tails,
        Self::FetchSessions,
        Self::Cleaner,
    ];

    /// The share that a request of so many bytes is taken from.
    #[must_use]
    pub const fn of_request(bytes: usize) -> Self {
        if bytes < LARGE_REQUEST_MIN { Self::SmallRequests } else { Self::LargeRequests }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::SmallRequests => "small requests",
            Self::LargeRequests => "large requests",
            Self::Answers => "answers",
            Self::Tails => "hot tails",
            Self::FetchSessions => "fetch sessions",
            Self::Cleaner => "cleaner",
        }
    }

    /// The part of the budget that it gets, as a number of thirty-seconds; what is left of them is for what is not
    /// counted exactly.
    const fn thirty_seconds(self) -> usize {
        match self {
            Self::SmallRequests | Self::Tails | Self::Cleaner => 4,
            Self::LargeRequests | Self::Answers => 8,
            Self::FetchSessions => 1,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of a share is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareUse {
    /// Bytes that there are.
    pub limit: usize,
    /// Bytes that are taken.
    pub used: usize,
    /// The most that were taken at one time.
    pub most: usize,
    /// How often it was used up, and somebody had to wait or make do with less.
    pub shortages: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    of: ShareUse,
    is_short: bool,
}

/// The memory of a node.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    accounts: [Account; Share::ALL.len()],
}

impl Budget {
    /// Divides `dohle.memory.max`, or a quarter of `machine_bytes`, which is what the process may use at the most.
    #[must_use]
    pub fn new(config: &BrokerConfig, machine_bytes: u64) -> Self {
        let size = |value: i64| usize::try_from(value).unwrap_or_default();
        let total = match config.value(broker::DOHLE_MEMORY_MAX) {
            ..=0 => usize::try_from((machine_bytes / 4).clamp(DEFAULT_MIN, DEFAULT_MAX)).unwrap_or_default(),
            configured => size(configured),
        };
        let mut budget = Self { total, accounts: Default::default() };
        let queued = size(config.value(broker::QUEUED_MAX_REQUEST_BYTES));
        for share in Share::ALL {
            let most = match share {
                Share::SmallRequests if queued > 0 => queued / 4,
                Share::LargeRequests if queued > 0 => queued,
                Share::Tails => size(config.value(broker::DOHLE_TAIL_CACHE_BYTES)),
                Share::SmallRequests
                | Share::LargeRequests
                | Share::Answers
                | Share::FetchSessions
                | Share::Cleaner => usize::MAX,
            };
            budget.account_mut(share).of.limit = (total / 32 * share.thirty_seconds()).min(most);
        }
        budget
    }

    /// The longest request that can be received: `socket.request.max.bytes`, unless that is more than large requests
    /// have together.
    #[must_use]
    pub fn request_bytes_max(&self, config: &BrokerConfig) -> usize {
        let configured = usize::try_from(config.value(broker::SOCKET_REQUEST_MAX_BYTES)).unwrap_or_default();
        let limit = self.limit(Share::LargeRequests);
        // Where it is less than is configured some of it is left, so that a request of the greatest size does not
        // need all others to be gone.
        if configured <= limit { configured } else { limit / 4 * 3 }
    }

    /// Bytes of all shares, and of what is not counted.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Bytes that a share has altogether.
    #[must_use]
    pub fn limit(&self, share: Share) -> usize {
        self.account(share).of.limit
    }

    /// Bytes of a share that are taken.
    #[must_use]
    pub fn used(&self, share: Share) -> usize {
        self.account(share).of.used
    }

    /// Bytes of a share that are not taken.
    #[must_use]
    pub fn room(&self, share: Share) -> usize {
        let ShareUse { limit, used, .. } = self.account(share).of;
        limit.saturating_sub(used)
    }

    /// How much of a share is used.
    #[must_use]
    pub fn usage(&self, share: Share) -> ShareUse {
        self.account(share).of
    }

    /// Takes bytes of a share, which are then given back with [`Self::give_back`]. Whoever can wait has asked for
    /// room before.
    pub fn take(&mut self, share: Share, bytes: usize) {
        let of = &mut self.account_mut(share).of;
        of.used = of.used.saturating_add(bytes);
        of.most = of.most.max(of.used);
    }

    /// Gives bytes back.
    pub fn give_back(&mut self, share: Share, bytes: usize) {
        let account = self.account_mut(share);
        let used = account.of.used.checked_sub(bytes);
        let Some(used) = used else { unreachable!("of {share} no more is given back than was taken") };
        account.of.used = used;
        if account.is_short && used <= account.of.limit / 2 {
            account.is_short = false;
            tracing::info!(%share, "there is memory again");
        }
    }

    /// Takes note that somebody has to wait for a share, or gets less; told once, until half of it is free again.
    pub fn note_shortage(&mut self, share: Share) {
        let account = self.account_mut(share);
        if !account.is_short {
            account.is_short = true;
            account.of.shortages += 1;
            let limit = account.of.limit;
            tracing::warn!(%share, limit, "memory is used up; dohle.memory.max sets how much there is");
        }
    }

    fn account(&self, share: Share) -> &Account {
        self.accounts.get(share as usize).unwrap_or_else(|| unreachable!("each share has an account"))
    }

    fn account_mut(&mut self, share: Share) -> &mut Account {
        self.accounts.get_mut(share as usize).unwrap_or_else(|| unreachable!("each share has an account"))
    }
}

#[cfg(test)]
mod tests {
    use dohle_types::Rng;

    use super::*;

    const MIB: usize = 1 << 20;

    fn budget(settings: &[&str], machine: u64) -> (Budget, BrokerConfig) {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let (config, _) = BrokerConfig::parse("", &settings).unwrap();
        (Budget::new(&config, machine), config)
    }

    #[test]
    fn it_is_a_quarter_of_the_machine_or_what_is_configured() {
        let total = |settings: &[&str], machine_mib: u64| budget(settings, machine_mib << 20).0.total() / MIB;
        assert_eq!(total(&[], 100), 64);
        assert_eq!(total(&[], 2048), 512);
        assert_eq!(total(&[], 1 << 20), 4096);
        assert_eq!(total(&["dohle.memory.max=20971520"], 1 << 20), 20);
    }

    #[test]
    fn the_shares_are_less_than_the_whole_and_no_more_than_is_configured_for_them() {
        for settings in [&[][..], &["dohle.tail.cache.bytes=1000", "queued.max.request.bytes=104857600"]] {
            for machine in [0, 1 << 30, 1 << 33, 1 << 40] {
                let (budget, _) = budget(settings, machine);
                let sum: usize = Share::ALL.iter().map(|&share| budget.limit(share)).sum();
                assert!(sum < budget.total());
                assert!(Share::ALL.iter().all(|&share| budget.limit(share) > 0));
            }
        }
        let limits = |settings: &[&str]| {
            let (budget, _) = budget(settings, 1 << 34);
            [Share::SmallRequests, Share::LargeRequests, Share::Tails].map(|share| budget.limit(share) / MIB)
        };
        assert_eq!(limits(&[]), [512, 1024, 32]);
        assert_eq!(
            limits(&["queued.max.request.bytes=104857600", "dohle.tail.cache.bytes=1048576"]),
            [25, 100, 1]
        );
    }

    #[test]
    fn a_request_of_the_greatest_size_fits() {
        let greatest = |settings: &[&str]| {
            let (budget, config) = budget(settings, 1 << 34);
            let greatest = budget.request_bytes_max(&config);
            assert!(greatest <= budget.limit(Share::LargeRequests));
            greatest / MIB
        };
        assert_eq!(greatest(&[]), 100);
        assert_eq!(greatest(&["dohle.memory.max=67108864"]), 12);
        assert_eq!(greatest(&["queued.max.request.bytes=104857600"]), 100);
        assert_eq!(greatest(&["dohle.memory.max=67108864", "socket.request.max.bytes=1048576"]), 1);
    }

    #[test]
    fn what_is_taken_is_counted_until_it_is_given_back() {
        let (mut budget, _) = budget(&["dohle.memory.max=33554432"], 0);
        let (mut rng, mut taken) = (Rng::from_seed(1), Vec::new());
        let limit = budget.limit(Share::Answers);
        for _ in 0..10_000 {
            let bytes = usize::try_from(rng.below(MIB as u64)).unwrap();
            if rng.chance(1, 2) && bytes <= budget.room(Share::Answers) {
                budget.take(Share::Answers, bytes);
                taken.push(bytes);
            } else if let Some(bytes) = taken.pop() {
                budget.give_back(Share::Answers, bytes);
            }
            let used: usize = taken.iter().sum();
            assert_eq!((budget.used(Share::Answers), budget.room(Share::Answers)), (used, limit - used));
            assert!(budget.usage(Share::Answers).most <= limit);
        }
        assert_eq!(budget.used(Share::Tails), 0);
    }

    #[test]
    fn a_shortage_is_counted_once_until_half_is_free() {
        let (mut budget, _) = budget(&[], 0);
        let limit = budget.limit(Share::Answers);
        budget.take(Share::Answers, limit);
        let mut shortages = |given_back: usize| {
            budget.give_back(Share::Answers, given_back);
            budget.note_shortage(Share::Answers);
            budget.usage(Share::Answers).shortages
        };
        assert_eq!([shortages(0), shortages(0), shortages(limit / 4), shortages(limit / 4)], [1, 1, 1, 2]);
    }
}
