//! Configs that are asked for with each input, read once: a look into the table of configs takes hundreds of instructions.
//! They are read-only, which means that they do not change while the node runs.

use dohle_configs::{BrokerConfig, broker};

/// Their values.
#[derive(Debug)]
pub(crate) struct FixedConfigs {
    /// `fetch.max.bytes`.
    pub(crate) fetch_max_bytes: usize,
    /// `dohle.log.dir.reserve.bytes`.
    pub(crate) log_dir_reserve_bytes: u64,
    /// `dohle.checkpoint.bytes`.
    pub(crate) checkpoint_bytes: u64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub(crate) snapshot_bytes: u64,
}

impl FixedConfigs {
    /// As configured.
    pub(crate) fn of(config: &BrokerConfig) -> Self {
        // What is below 0 is refused at start.
        let bytes = |value: i64| value.unsigned_abs();
        Self {
            fetch_max_bytes: usize::try_from(config.value(broker::FETCH_MAX_BYTES)).unwrap_or_default(),
            log_dir_reserve_bytes: bytes(config.value(broker::DOHLE_LOG_DIR_RESERVE_BYTES)),
            checkpoint_bytes: bytes(config.value(broker::DOHLE_CHECKPOINT_BYTES)),
            snapshot_bytes: bytes(config.value(broker::METADATA_LOG_MAX_RECORD_BYTES_BETWEEN_SNAPSHOTS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_of_them_changes_at_run_time() {
        let (config, _) = BrokerConfig::parse("", &["log.dirs=data".to_owned()]).unwrap();
        let entries = dohle_configs::describe_broker(&config);
        for name in [
            broker::FETCH_MAX_BYTES.name(),
            broker::DOHLE_LOG_DIR_RESERVE_BYTES.name(),
            broker::DOHLE_CHECKPOINT_BYTES.name(),
            broker::METADATA_LOG_MAX_RECORD_BYTES_BETWEEN_SNAPSHOTS.name(),
        ] {
            assert!(entries.iter().any(|entry| entry.name == name && entry.read_only), "{name}");
        }
    }
}
