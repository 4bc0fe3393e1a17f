//! What the node tells of itself when somebody asks for its metrics.
//!
//! Whoever counts does so in plain fields; here they are written to a page, which the host completes with what it knows
//! itself. Nothing is done unless somebody asks.

mod groups;
mod memory;
mod requests;
mod storage;
mod topics;
mod transactions;

use std::time::Duration;

use dohle_configs::broker;
use dohle_metrics::{Format, Limits, Page, table};

use crate::handlers::k20011_group_lag::{self, Asker};
use crate::host::{Effect, ScrapeId};
use crate::memory::Share;
use crate::node::{Node, Phase};

pub(crate) use groups::{GroupsSeen, Lag};
pub(crate) use requests::RequestStats;
pub(crate) use topics::Traffic;

/// A page is no longer than this, however much memory there is for answers.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// How long it is looked how old the first unread records of groups are.
const AGES_PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Somebody asks for the metrics. They are told when it is known how far groups are behind.
    pub(crate) fn on_scrape(&mut self, scrape: ScrapeId, format: Format) {
        if !matches!(self.phase, Phase::Serving) {
            return self.finish_scrape(scrape, format, &GroupsSeen::default());
        }
        let (groups, asker) = (self.watched_groups(), Asker::Scrape(scrape, format));
        k20011_group_lag::ask(self, asker, groups, self.series_max(), AGES_PATIENCE);
    }

    /// Writes all that is to be told.
    pub(crate) fn finish_scrape(&mut self, scrape: ScrapeId, format: Format, groups: &GroupsSeen) {
        let series = self.series_max();
        // While it grows it may take twice its length.
        let bytes = (self.memory.room(Share::Answers) / 4).min(PAGE_BYTES_MAX);
        let mut page = Page::new(format, Limits { series, bytes });
        page.value(table::process::NODE_SERVING, matches!(self.phase, Phase::Serving));
        self.write_request_metrics(&mut page);
        self.write_topic_metrics(&mut page);
        self.write_storage_metrics(&mut page);
        self.write_memory_metrics(&mut page);
        self.write_group_metrics(&mut page, groups);
        self.write_producer_metrics(&mut page);
        self.write_transaction_metrics(&mut page);
        self.effects.push(Effect::Scraped { scrape, page: Box::new(page) });
    }

    fn series_max(&self) -> usize {
        usize::try_from(self.config.value(broker::DOHLE_METRICS_SERIES_MAX)).unwrap_or_default()
    }
}
