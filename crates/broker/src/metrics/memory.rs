//! Memory, caches and queues.

use dohle_configs::broker;
use dohle_metrics::row::Row;
use dohle_metrics::table::memory as table;
use dohle_metrics::{Number, Page};

use crate::memory::{Share, ShareUse};
use crate::node::Node;

type OfShare = fn(&ShareUse) -> Number;

impl Node {
    pub(super) fn write_memory_metrics(&self, page: &mut Page) {
        page.value(table::MEMORY_LIMIT, self.memory.total());
        let usage = self.memory_usage();
        let rows: [Row<OfShare>; 4] = [
            (table::SHARE_LIMIT, |usage| usage.limit.into()),
            (table::SHARE_USED, |usage| usage.used.into()),
            (table::SHARE_PEAK, |usage| usage.most.into()),
            (table::SHORTAGES, |usage| usage.shortages.into()),
        ];
        for (metric, value) in rows {
            let mut family = page.family(metric);
            usage.iter().for_each(|(share, usage)| family.sample(&[label(*share)], value(usage)));
        }
        page.value(table::ANSWERS_WAITING, self.answer_line.len());
        page.value(table::FETCH_SESSIONS, self.sessions.len());
        let slots = self.config.value(broker::MAX_INCREMENTAL_FETCH_SESSION_CACHE_SLOTS);
        page.value(table::FETCH_SESSIONS_LIMIT, i64::from(slots));
        page.value(table::JOBS, self.jobs.len());
        page.value(table::TOPIC_CONFIGS, self.topic_configs.len());
    }
}

const fn label(share: Share) -> &'static str {
    match share {
        Share::SmallRequests => "small_requests",
        Share::LargeRequests => "large_requests",
        Share::Answers => "answers",
        Share::Tails => "hot_tails",
        Share::FetchSessions => "fetch_sessions",
        Share::Cleaner => "cleaner",
    }
}
