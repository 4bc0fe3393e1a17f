//! Who asks the loop for metrics, and gets them: the node's, completed with the host's own.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::Duration;

use dohle_broker::host::{Input, ScrapeId};
use dohle_broker::memory::Share;
use dohle_metrics::{Page, table};
use dohle_types::Now;
use mio::net::TcpListener;
use mio::{Interest, Poll, Token};

use super::EventLoop;
use crate::disk::files::OPEN_FILES_MAX;
use crate::net::http::{Asked, Refusal, answer_head};
use crate::net::scrape_connection::{ScrapeConnection, Step};
use crate::process;

/// Connections that may be open for metrics.
const CONNECTIONS_MAX: usize = 16;

/// Who asks for metrics.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    listeners: Vec<TcpListener>,
    connections: BTreeMap<u64, ScrapeConnection>,
    /// Requests by the status of their answer.
    answered: BTreeMap<u16, u64>,
    refused: u64,
}

impl Scrapes {
    /// Nobody asks yet. The listeners are polled with the tokens from `first` on.
    pub(super) fn of(mut listeners: Vec<TcpListener>, poll: &Poll, first: usize) -> io::Result<Self> {
        for (token, listener) in (first..).zip(&mut listeners) {
            poll.registry().register(listener, Token(token), Interest::READABLE)?;
        }
        Ok(Self { listeners, ..Self::default() })
    }

    /// When the next connection has had its time.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.connections.values().map(ScrapeConnection::deadline).min()
    }
}

impl EventLoop {
    /// Takes connections of a listener.
    pub(super) fn accept_scrapes(&mut self, now: Now, listener: usize) {
        loop {
            let Some(accepted) = self.scrapes.listeners.get(listener).map(TcpListener::accept) else {
                return;
            };
            let mut socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) =>
                {
                    continue;
                }
                // Either there is none, or there are no file handles left, which the other listeners tell.
                Err(_) => return,
            };
            let number = self.next_connection;
            let interest = Interest::READABLE | Interest::WRITABLE;
            let has_room = self.scrapes.connections.len() < CONNECTIONS_MAX;
            let token = usize::try_from(number).ok().filter(|_| has_room).map(Token);
            let is_registered = |token| self.poll.registry().register(&mut socket, token, interest).is_ok();
            if !token.is_some_and(is_registered) {
                self.scrapes.refused += 1;
                continue;
            }
            self.next_connection += 1;
            self.scrapes.connections.insert(number, ScrapeConnection::new(socket, now.instant));
        }
    }

    /// Something happened to a connection. Whether it is one for metrics.
    pub(super) fn on_scrape_socket(&mut self, now: Now, number: u64) -> bool {
        let Some(connection) = self.scrapes.connections.get_mut(&number) else { return false };
        let step = connection.go_on();
        self.take_scrape_step(now, number, step);
        true
    }

    fn take_scrape_step(&mut self, now: Now, number: u64, step: Step) {
        match step {
            Step::Wait | Step::Answer(Asked::Incomplete) => {}
            Step::Answer(Asked::Metrics(format, _)) => {
                self.handle(now, Input::Scrape { scrape: ScrapeId(number), format });
            }
            Step::Answer(Asked::Refused(refusal)) => self.refuse_scrape(now, number, refusal),
            Step::Close => {
                if let Some(connection) = self.scrapes.connections.remove(&number) {
                    self.node.memory_mut().give_back(Share::Answers, connection.held);
                }
            }
        }
    }

    fn refuse_scrape(&mut self, now: Now, number: u64, refusal: Refusal) {
        *self.scrapes.answered.entry(refusal.status()).or_default() += 1;
        if let Some(connection) = self.scrapes.connections.get_mut(&number) {
            let step = connection.answer(now.instant, refusal.answer(), "");
            self.take_scrape_step(now, number, step);
        }
    }

    /// The node has written its metrics.
    pub(super) fn on_scraped(&mut self, now: Now, ScrapeId(number): ScrapeId, mut page: Page) {
        *self.scrapes.answered.entry(200).or_default() += 1;
        self.write_metrics(now, &mut page);
        let format = page.format();
        let text = page.finish();
        let Some(connection) = self.scrapes.connections.get_mut(&number) else { return };
        connection.held = text.len();
        self.node.memory_mut().take(Share::Answers, text.len());
        let step = connection.answer(now.instant, answer_head(format, text.len()), &text);
        self.take_scrape_step(now, number, step);
    }

    /// Closes connections that took too long. One whose request has not come is told so.
    pub(super) fn close_late_scrapes(&mut self, now: Now) {
        while let Some(number) = self.late_scrape(now) {
            let connection = self.scrapes.connections.get(&number);
            if connection.is_some_and(ScrapeConnection::is_receiving) {
                self.refuse_scrape(now, number, Refusal::TooSlow);
            } else {
                self.take_scrape_step(now, number, Step::Close);
            }
        }
    }

    fn late_scrape(&self, now: Now) -> Option<u64> {
        let mut all = self.scrapes.connections.iter();
        all.find(|(_, connection)| connection.deadline() <= now.instant).map(|(&number, _)| number)
    }

    /// What the host knows itself.
    fn write_metrics(&self, now: Now, page: &mut Page) {
        process::write_metrics(page);
        let uptime = now.instant.saturating_sub(self.started.instant);
        let started_ms = u64::try_from(self.started.wall.0).unwrap_or_default();
        page.value(table::process::PROCESS_START_TIME, Duration::from_millis(started_ms));
        page.value(table::process::UPTIME, uptime);
        page.value(table::network::CONNECTIONS, self.streams.len());
        let (max, _) = self.node.connections_max(std::net::Ipv4Addr::UNSPECIFIED.into());
        page.value(table::network::CONNECTIONS_LIMIT, self.limits.connections_max.min(max));
        page.value(table::network::CONNECTIONS_WAITING, self.intake.waiting());
        self.stats.write_metrics(page);
        self.committer.stats().write_metrics(page, |log_dir| self.files.name(log_dir));
        page.value(table::disk::OPEN_FILES, self.files.open_count());
        page.value(table::disk::OPEN_FILES_LIMIT, OPEN_FILES_MAX);
        let (awaited, background) = self.jobs.queued();
        let mut family = page.family(table::disk::JOBS_QUEUED);
        family.sample(&["awaited"], awaited);
        family.sample(&["background"], background);
        let mut family = page.family(table::scrapes::SCRAPES);
        for (status, &count) in &self.scrapes.answered {
            family.sample(&[&status.to_string()], count);
        }
        page.value(table::scrapes::SCRAPE_CONNECTIONS_REFUSED, self.scrapes.refused);
    }
}
