//! How many requests there were, how long they took, and which errors they were answered with.

use std::collections::BTreeMap;

use dohle_metrics::table::requests as table;
use dohle_metrics::{Histogram, Page};
use dohle_types::ErrorCode;
use dohle_types::time::Instant;

use crate::connection::{Call, Connection};
use crate::handlers::APIS;
use crate::node::Node;

/// Answers of one round whose end is waited for. What is more counts as taking no longer than until the round began.
const ANSWERED_MAX: usize = 1024;

/// What is counted of requests.
#[derive(Debug)]
pub(crate) struct RequestStats {
    /// In the order of [`APIS`].
    by_api: Vec<ApiStats>,
    /// By the place in [`APIS`] and the error's code: no more than there are of either.
    errors: BTreeMap<(usize, i16), u64>,
    /// Requests whose connection was closed instead of an answer.
    pub(crate) refused: u64,
    /// Requests that were answered in this round, by their place in [`APIS`], and when they came.
    answered: Vec<(usize, Instant)>,
}

#[derive(Clone, Debug, Default)]
struct ApiStats {
    received: u64,
    took: Histogram,
}

impl Default for RequestStats {
    fn default() -> Self {
        Self {
            by_api: vec![ApiStats::default(); APIS.len()],
            errors: BTreeMap::new(),
            refused: 0,
            answered: Vec::new(),
        }
    }
}

impl RequestStats {
    pub(crate) fn note_received(&mut self, api: usize) {
        if let Some(stats) = self.by_api.get_mut(api) {
            stats.received += 1;
        }
    }

    pub(crate) fn note_answered(&mut self, call: &Call, now: Instant) {
        if self.answered.len() == ANSWERED_MAX {
            self.end_round(now);
        }
        self.answered.push((call.api, call.received));
    }

    pub(crate) fn note_error(&mut self, call: &Call, code: i16) {
        *self.errors.entry((call.api, code)).or_default() += 1;
    }

    /// What was answered has been handed to the sockets.
    pub(crate) fn end_round(&mut self, now: Instant) {
        for (api, received) in self.answered.drain(..) {
            if let Some(stats) = self.by_api.get_mut(api) {
                stats.took.note(now.saturating_sub(received));
            }
        }
    }
}

impl Node {
    /// A round of the host is over, at this time: what was answered in it is on its way. A host that does not tell
    /// gets times that leave out the round in which a request was answered.
    pub fn on_round_over(&mut self, now: Instant) {
        self.requests.end_round(now);
    }

    pub(super) fn write_request_metrics(&self, page: &mut Page) {
        let stats = &self.requests;
        let used = || {
            let all = APIS.iter().zip(&stats.by_api);
            all.filter(|(_, stats)| stats.received > 0).map(|(api, stats)| (api.key.name(), stats))
        };
        let mut family = page.family(table::REQUESTS);
        used().for_each(|(name, stats)| family.sample(&[name], stats.received));
        let mut family = page.family(table::REQUEST_SECONDS);
        used().for_each(|(name, stats)| family.histogram(&[name], &stats.took));
        let mut family = page.family(table::REQUEST_ERRORS);
        for (&(api, code), &count) in &stats.errors {
            let name = APIS.get(api).map_or("", |api| api.key.name());
            let error = ErrorCode::from_code(code).map_or("", ErrorCode::name);
            family.sample(&[name, error], count);
        }
        page.value(table::REQUESTS_REFUSED, stats.refused);
        let in_flight: usize = self.connections.values().map(Connection::in_flight).sum();
        page.value(table::REQUESTS_IN_FLIGHT, in_flight);
        page.value(table::REQUESTS_PARKED, self.purgatory.len());
    }
}
