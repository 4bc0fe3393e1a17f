//! What holds between the configs of a broker: checks of several values, and values told by several names.

use std::collections::BTreeMap;

use dohle_types::BrokerId;

use crate::broker::{
    BROKER_ID, CONNECTION_FAILED_AUTHENTICATION_DELAY_MS, CONNECTIONS_MAX_IDLE_MS, CORDONED_LOG_DIRS,
    DOHLE_MEMORY_MAX, GROUP_MAX_SESSION_TIMEOUT_MS, GROUP_MIN_SESSION_TIMEOUT_MS,
    LOG_CLEANER_MAX_COMPACTION_LAG_MS, LOG_CLEANER_MIN_COMPACTION_LAG_MS, LOG_DIR, LOG_DIRS,
    LOG_FLUSH_INTERVAL_MS, LOG_FLUSH_SCHEDULER_INTERVAL_MS, LOG_RETENTION_HOURS, LOG_RETENTION_MINUTES,
    LOG_RETENTION_MS, LOG_ROLL_HOURS, LOG_ROLL_JITTER_HOURS, LOG_ROLL_JITTER_MS, LOG_ROLL_MS,
    MAX_CONNECTIONS_PER_IP, MAX_CONNECTIONS_PER_IP_OVERRIDES, METADATA_LOG_DIR, NODE_ID,
    QUEUED_MAX_REQUEST_BYTES, REPLICA_FETCH_WAIT_MAX_MS, REPLICA_LAG_TIME_MAX_MS, REPLICA_SOCKET_TIMEOUT_MS,
    SOCKET_REQUEST_MAX_BYTES,
};
use crate::broker_config::{BrokerConfig, StartError};

const ALL_LOG_DIRS: &str = "*";
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// With less, requests of an ordinary size would be refused.
const MEMORY_MIN: i64 = 16 << 20;

/// Values that Apache Kafka lets the user tell by more than one name.
impl BrokerConfig {
    /// The number of this node: `node.id`, or `broker.id` where only that is set.
    #[must_use]
    pub fn node_id(&self) -> BrokerId {
        BrokerId(self.value(NODE_ID))
    }

    /// The log directories: `log.dirs`, else `log.dir`.
    #[must_use]
    pub fn log_dirs(&self) -> Vec<String> {
        match self.value(LOG_DIRS) {
            Some(dirs) if !dirs.is_empty() => dirs,
            _ => self.value(LOG_DIR),
        }
    }

    /// All directories of the node: the log directories, and that of the metadata log where it is none of them.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        let mut directories = self.log_dirs();
        directories.extend(self.value(METADATA_LOG_DIR).filter(|dir| !directories.contains(dir)));
        directories
    }

    /// The place among [`Self::directories`] of the one that holds the metadata log: `metadata.log.dir`, else the
    /// first log directory.
    #[must_use]
    pub fn metadata_log_dir(&self) -> usize {
        let dir = self.value(METADATA_LOG_DIR);
        dir.and_then(|dir| self.directories().iter().position(|one| *one == dir)).unwrap_or_default()
    }

    /// The log directories that get no new partitions (KIP-1066): `cordoned.log.dirs`, of which `*` means all.
    #[must_use]
    pub fn cordoned_log_dirs(&self) -> Vec<String> {
        let cordoned = self.value(CORDONED_LOG_DIRS);
        if cordoned == [ALL_LOG_DIRS] { self.log_dirs() } else { cordoned }
    }

    /// How long records are kept, in milliseconds; -1 means for ever.
    #[must_use]
    pub fn log_retention_ms(&self) -> i64 {
        let minutes = || self.value(LOG_RETENTION_MINUTES).map(|minutes| i64::from(minutes) * MINUTE_MS);
        let retention = self.value(LOG_RETENTION_MS).or_else(minutes);
        retention.unwrap_or_else(|| i64::from(self.value(LOG_RETENTION_HOURS)) * HOUR_MS).max(-1)
    }

    /// The age at which a segment is closed, in milliseconds.
    #[must_use]
    pub fn log_roll_ms(&self) -> i64 {
        self.value(LOG_ROLL_MS).unwrap_or_else(|| i64::from(self.value(LOG_ROLL_HOURS)) * HOUR_MS)
    }

    /// By how much a segment may be closed earlier, in milliseconds.
    #[must_use]
    pub fn log_roll_jitter_ms(&self) -> i64 {
        self.value(LOG_ROLL_JITTER_MS)
            .unwrap_or_else(|| i64::from(self.value(LOG_ROLL_JITTER_HOURS)) * HOUR_MS)
    }

    /// How many connections single addresses may have open, where it is not `max.connections.per.ip`.
    #[must_use]
    pub fn max_connections_per_ip_overrides(&self) -> BTreeMap<String, u32> {
        parse_overrides(&self.value(MAX_CONNECTIONS_PER_IP_OVERRIDES)).unwrap_or_default()
    }

    /// After how long a record is written to the disk at the latest, in milliseconds.
    #[must_use]
    pub fn log_flush_interval_ms(&self) -> i64 {
        self.value(LOG_FLUSH_INTERVAL_MS).unwrap_or_else(|| self.value(LOG_FLUSH_SCHEDULER_INTERVAL_MS))
    }
}

/// Parses `max.connections.per.ip.overrides`; the error is the pair that is not of the form `address:count`.
fn parse_overrides(text: &str) -> Result<BTreeMap<String, u32>, &str> {
    let parse = |pair: &str| {
        let (address, count) = pair.rsplit_once(':')?;
        Some((address.trim().to_owned(), count.trim().parse().ok()?))
    };
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs.map(|pair| parse(pair).ok_or(pair)).collect()
}

fn check_cordons(config: &BrokerConfig, require: &mut impl FnMut(bool, String)) {
    let (cordoned, log_dirs) = (config.value(CORDONED_LOG_DIRS), config.log_dirs());
    let names_all = cordoned.iter().any(|dir| dir == ALL_LOG_DIRS);
    require(
        !names_all || cordoned.len() == 1,
        format!("When `cordoned.log.dirs` is set to {ALL_LOG_DIRS}, it must not contain other values"),
    );
    let missing: Vec<String> = cordoned.into_iter().filter(|dir| !log_dirs.contains(dir)).collect();
    require(
        names_all || missing.is_empty(),
        format!(
            "All entries in `cordoned.log.dirs` must be present in `log.dirs` or `log.dir`. Missing entries: {}",
            missing.join(", ")
        ),
    );
}

/// Checks that the values of a properties file go together, as Kafka's `KafkaConfig` does at start.
pub(crate) fn check(config: &BrokerConfig, errors: &mut Vec<StartError>) {
    let mut require = |holds: bool, message: String| {
        if !holds {
            errors.push(StartError::Conflict(message));
        }
    };
    let broker_id = config.value(BROKER_ID);
    require(
        broker_id == -1 || broker_id == config.value(NODE_ID),
        "`node.id` and `broker.id` must be equal; leave out `broker.id`".to_owned(),
    );
    require(!config.log_dirs().is_empty(), "`log.dirs` must name at least one directory".to_owned());
    check_cordons(config, &mut require);
    let queued_bytes = config.value(QUEUED_MAX_REQUEST_BYTES);
    require(
        queued_bytes <= 0 || queued_bytes >= i64::from(config.value(SOCKET_REQUEST_MAX_BYTES)),
        "`queued.max.request.bytes` must be at least `socket.request.max.bytes`, or -1".to_owned(),
    );
    require(
        matches!(config.value(DOHLE_MEMORY_MAX), 0 | MEMORY_MIN..),
        "`dohle.memory.max` must be at least 16777216, or 0 for a quarter of the machine's memory".to_owned(),
    );
    require(
        config.value(MAX_CONNECTIONS_PER_IP) > 0
            || !config.value(MAX_CONNECTIONS_PER_IP_OVERRIDES).is_empty(),
        "`max.connections.per.ip` may be 0 only if `max.connections.per.ip.overrides` is set".to_owned(),
    );
    if let Err(pair) = parse_overrides(&config.value(MAX_CONNECTIONS_PER_IP_OVERRIDES)) {
        let message =
            format!("`max.connections.per.ip.overrides`: `{pair}` is not of the form address:count");
        require(false, message);
    }
    let idle = config.value(CONNECTIONS_MAX_IDLE_MS);
    require(
        idle < 0 || i64::from(config.value(CONNECTION_FAILED_AUTHENTICATION_DELAY_MS)) < idle,
        "`connection.failed.authentication.delay.ms` must be less than `connections.max.idle.ms`".to_owned(),
    );
    let wait = config.value(REPLICA_FETCH_WAIT_MAX_MS);
    require(
        wait <= config.value(REPLICA_SOCKET_TIMEOUT_MS),
        "`replica.fetch.wait.max.ms` must be at most `replica.socket.timeout.ms`".to_owned(),
    );
    require(
        i64::from(wait) <= config.value(REPLICA_LAG_TIME_MAX_MS),
        "`replica.fetch.wait.max.ms` must be at most `replica.lag.time.max.ms`".to_owned(),
    );
    require(
        config.value(GROUP_MIN_SESSION_TIMEOUT_MS) <= config.value(GROUP_MAX_SESSION_TIMEOUT_MS),
        "`group.min.session.timeout.ms` must be at most `group.max.session.timeout.ms`".to_owned(),
    );
    require(
        config.value(LOG_CLEANER_MIN_COMPACTION_LAG_MS) <= config.value(LOG_CLEANER_MAX_COMPACTION_LAG_MS),
        "`log.cleaner.min.compaction.lag.ms` must be at most `log.cleaner.max.compaction.lag.ms`".to_owned(),
    );
}
