//! What the node tells of itself when somebody asks for its metrics.
//!
//! Whoever counts does so in plain fields; here they are written to a page, which the host completes with what it knows
//! itself. Nothing is done unless somebody asks.

mod memory;
mod requests;
mod storage;
mod topics;
mod transactions;

use dohle_configs::broker;
use dohle_metrics::{Format, Limits, Page, table};

use crate::host::{Effect, ScrapeId};
use crate::memory::Share;
use crate::node::{Node, Phase};

pub(crate) use requests::RequestStats;
pub(crate) use topics::Traffic;

/// A page is no longer than this, however much memory there is for answers.
const PAGE_BYTES_MAX: usize = 16 << 20;

impl Node {
    /// Somebody asks for the metrics.
    pub(crate) fn on_scrape(&mut self, scrape: ScrapeId, format: Format) {
        let series = usize::try_from(self.config.value(broker::DOHLE_METRICS_SERIES_MAX)).unwrap_or_default();
        // While it grows it may take twice its length.
        let bytes = (self.memory.room(Share::Answers) / 4).min(PAGE_BYTES_MAX);
        let mut page = Page::new(format, Limits { series, bytes });
        page.value(table::process::NODE_SERVING, matches!(self.phase, Phase::Serving));
        self.write_request_metrics(&mut page);
        self.write_topic_metrics(&mut page);
        self.write_storage_metrics(&mut page);
        self.write_memory_metrics(&mut page);
        self.write_producer_metrics(&mut page);
        self.effects.push(Effect::Scraped { scrape, page: Box::new(page) });
    }
}
