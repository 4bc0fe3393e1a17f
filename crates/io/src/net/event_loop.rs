//! The event loop: one thread that polls the sockets, runs the node and carries out what it wants.
//!
//! A round is: take what the sockets and the other threads have for the node; let the node handle it; carry
//! out the disk writes it asked for, gathered by file; tell it that they are written, and go on so until it
//! asks for nothing more; hand syncs and jobs to their threads; send the responses, gathered by connection.
//! Whatever came in together is thus written and answered with few system calls, and an idle node is never
//! woken.

mod scrapes;
mod shortage;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dohle_broker::Node;
use dohle_broker::host::{ConnectionId, Effect, Input};
use dohle_broker::memory::Share;
use dohle_storage::LogKey;
use dohle_storage::disk::{DiskError, FilePath, Op};
use dohle_storage::journal::{JournalConfig, SyncRequest};
use dohle_types::{FastMap, FastSet, Now, Rng};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use self::scrapes::Scrapes;
use super::intake::Intake;
use super::stats::{Ended, NetworkStats};
use super::stream::{CloseReason, LENGTH_SIZE, ReadOutcome, Stream};
use crate::clock::Clock;
use crate::disk::committer::Committer;
use crate::disk::files::Files;
use crate::disk::pool::JobPool;
use crate::mailbox::Mailbox;
use crate::signals::StopSignals;

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
/// Connections are numbered from here; the number is the poll token and is never used again.
const FIRST_CONNECTION: usize = 1 << 16;

/// Frames that one connection may have handled in a row before the others have their turn.
const FRAMES_PER_TURN: usize = 64;

/// How often the room of the log dirs is asked for while anything happens.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

const EVENTS_PER_POLL: usize = 1024;

/// What the loop must know of the configuration and cannot learn from the node, whose configs change.
#[derive(Debug, Clone)]
pub struct NetworkLimits {
    /// `socket.request.max.bytes`: the longest frame.
    pub frame_bytes_max: usize,
    /// How many connections the process has handles for.
    pub connections_max: usize,
    /// `connections.max.idle.ms`; none where connections may idle for ever.
    pub idle_max: Option<Duration>,
}

/// Sockets that are bound.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients.
    pub clients: Vec<std::net::TcpListener>,
    /// For who asks for metrics.
    pub metrics: Vec<std::net::TcpListener>,
}

/// The loop and everything it drives.
#[derive(Debug)]
pub struct EventLoop {
    node: Node,
    clock: Clock,
    poll: Poll,
    files: Arc<Files>,
    committer: Committer,
    jobs: JobPool,
    inbox: Receiver<Input>,
    listeners: Vec<TcpListener>,
    listening: bool,
    streams: FastMap<u64, Stream>,
    connections_by_ip: FastMap<std::net::IpAddr, usize>,
    next_connection: u64,
    limits: NetworkLimits,
    intake: Intake,
    stats: NetworkStats,
    scrapes: Scrapes,
    /// When the loop was made.
    started: Now,
    /// Bytes of answers that were sent, or dropped with their connections, and that the node does not know of yet.
    sent_bytes: usize,
    /// Receives what is too small for a buffer of its own.
    shared_buffer: BytesMut,
    effects: Vec<Effect>,
    /// Writes of this round by file, in the order in which the files were first written to.
    writes: Vec<GatheredWrite>,
    write_of: FastMap<FilePath, usize>,
    /// Files of which a change failed in this round: the node does not know it yet, and what it still asks of them would
    /// stand behind a gap.
    failed_files: FastSet<FilePath>,
    /// Connections with something to send or to read, each once.
    touched: Vec<u64>,
    next_idle_check: Duration,
    next_space_check: Duration,
    next_pace_check: Duration,
    stopped: Option<Result<(), String>>,
}

#[derive(Debug)]
struct GatheredWrite {
    path: FilePath,
    position: u64,
    end: u64,
    slices: Vec<Bytes>,
}

impl EventLoop {
    /// A loop that will serve `listeners`, which are bound but take no connection before the node is ready. Metrics are
    /// served from the beginning.
    ///
    /// # Errors
    /// The system refuses a thread or the poll.
    pub fn new(
        node: Node,
        files: Files,
        listeners: Listeners,
        signals: StopSignals,
        limits: NetworkLimits,
        journal: JournalConfig,
        rng: Rng,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mailbox, inbox) = Mailbox::new(Waker::new(poll.registry(), WAKER)?);
        let files = Arc::new(files);
        let committer = Committer::start(Arc::clone(&files), mailbox.clone(), journal, rng)?;
        let jobs = JobPool::start(&files, &mailbox)?;
        signals.pass_on(mailbox)?;
        let clients = pollable(listeners.clients)?;
        let scrapes = Scrapes::of(pollable(listeners.metrics)?, &poll, FIRST_LISTENER + clients.len())?;
        let clock = Clock::start();
        Ok(Self {
            node,
            started: clock.now(),
            clock,
            poll,
            files,
            committer,
            jobs,
            inbox,
            listeners: clients,
            listening: false,
            streams: FastMap::default(),
            connections_by_ip: FastMap::default(),
            next_connection: FIRST_CONNECTION as u64,
            intake: Intake::new(limits.frame_bytes_max),
            sent_bytes: 0,
            stats: NetworkStats::default(),
            scrapes,
            limits,
            shared_buffer: BytesMut::new(),
            effects: Vec::new(),
            writes: Vec::new(),
            write_of: FastMap::default(),
            failed_files: FastSet::default(),
            touched: Vec::new(),
            next_idle_check: Duration::ZERO,
            next_space_check: Duration::ZERO,
            next_pace_check: Duration::ZERO,
            stopped: None,
        })
    }

    /// Runs until the node stops; `on_ready` is called once, when it listens.
    ///
    /// # Errors
    /// Why it stopped, where nobody asked for it.
    pub fn run(mut self, on_ready: impl FnOnce()) -> Result<(), String> {
        let mut on_ready = Some(on_ready);
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let now = self.clock.now();
        self.tell_space(now);
        self.handle(now, Input::Boot);
        self.finish_round(now);
        loop {
            if let Some(result) = self.stopped.take() {
                return result;
            }
            if self.listening
                && let Some(on_ready) = on_ready.take()
            {
                on_ready();
            }
            let timeout = self.poll_timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("poll: {error}")),
            }
            let now = self.clock.now();
            self.tell_space(now);
            for event in &events {
                match event.token() {
                    WAKER => self.take_mail(now),
                    Token(token) if token < FIRST_CONNECTION => self.accept(now, token - FIRST_LISTENER),
                    Token(token) => {
                        self.on_socket(now, token as u64, event.is_readable(), event.is_read_closed());
                    }
                }
            }
            if self.node.next_timeout().is_some_and(|due| due <= now.instant) {
                self.handle(now, Input::Tick);
            }
            self.close_idle(now);
            self.close_stalled(now);
            self.close_late_scrapes(now);
            self.read_touched(now);
            self.finish_round(now);
            let over = self.clock.now().instant;
            self.node.on_round_over(over);
            self.stats.note_round(over.saturating_sub(now.instant));
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        // Connections that had more than their turn are read again at once.
        if !self.touched.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now().instant;
        let idle_check =
            (self.limits.idle_max.is_some() && !self.streams.is_empty()).then_some(self.next_idle_check);
        let pace_check = self.is_short_of_memory().then_some(self.next_pace_check);
        let others = [idle_check, pace_check, self.scrapes.next_timeout()].into_iter().flatten();
        let due = self.node.next_timeout().into_iter().chain(others).min()?;
        // The poll's clock counts whole milliseconds and rounds down; a tick early would be a tick in vain.
        Some(due.saturating_sub(now).saturating_add(Duration::from_micros(999)))
    }

    /// Tells the node the room of its log dirs, before what came in since, at most once a second.
    fn tell_space(&mut self, now: Now) {
        if now.instant < self.next_space_check {
            return;
        }
        self.next_space_check = now.instant + SPACE_CHECK_INTERVAL;
        for log_dir in self.files.log_dirs() {
            if let Ok((total, usable)) = self.files.space(log_dir) {
                self.handle(now, Input::DiskSpace { log_dir, total, usable });
            }
        }
    }

    fn take_mail(&mut self, now: Now) {
        while let Ok(input) = self.inbox.try_recv() {
            self.handle(now, input);
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        self.node.handle(now, input, &mut self.effects);
    }

    fn accept(&mut self, now: Now, listener: usize) {
        if let Some(of_metrics) = listener.checked_sub(self.listeners.len()) {
            return self.accept_scrapes(now, of_metrics);
        }
        loop {
            let accepted = match self.listeners.get(listener) {
                Some(listener) => listener.accept(),
                None => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    if let Err(error) = self.open(now, socket, peer) {
                        self.stats.refused += 1;
                        tracing::debug!(%peer, %error, "connection not taken");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // This client gave up while it waited; the next one is there all the same.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    // Out of file handles, most likely: the connections there are go on.
                    tracing::warn!(%error, "cannot accept a connection");
                    return;
                }
            }
        }
    }

    /// Takes a connection.
    ///
    /// Differs from Kafka: at `max.connections` a new connection is closed, where Kafka has it wait until another ends.
    fn open(&mut self, now: Now, mut socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let from_here = self.connections_by_ip.get(&peer.ip()).copied().unwrap_or_default();
        let (max, max_from_here) = self.node.connections_max(peer.ip());
        if self.streams.len() >= self.limits.connections_max.min(max) || from_here >= max_from_here {
            return Err(io::Error::new(
                ErrorKind::QuotaExceeded,
                "max.connections or max.connections.per.ip is reached",
            ));
        }
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let number = self.next_connection;
        self.next_connection += 1;
        let token = usize::try_from(number).map(Token).map_err(io::Error::other)?;
        self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stats.opened += 1;
        self.connections_by_ip.insert(peer.ip(), from_here + 1);
        self.streams.insert(number, Stream::new(socket, peer.ip(), self.limits.frame_bytes_max, now.instant));
        let connection = ConnectionId(number);
        let client_host = peer.ip().to_string();
        self.handle(
            now,
            Input::Opened { connection, client_host, local: (local.ip().to_string(), local.port()) },
        );
        Ok(())
    }

    fn on_socket(&mut self, now: Now, number: u64, readable: bool, is_read_closed: bool) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.readable |= readable;
            stream.is_read_closed |= is_read_closed;
            self.touched.push(number);
        } else {
            self.on_scrape_socket(now, number);
        }
    }

    /// Reads the connections that have something, each for one turn.
    fn read_touched(&mut self, now: Now) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            self.read(now, number);
            self.touched.push(number);
        }
    }

    fn read(&mut self, now: Now, number: u64) {
        for _ in 0..FRAMES_PER_TURN {
            let is_open = self.intake.is_open(self.node.memory());
            let answers_are_short = self.node.memory().room(Share::Answers) == 0;
            let stream = self.streams.get_mut(&number);
            let Some(stream) = stream.filter(|stream| stream.takes_requests(answers_are_short)) else {
                return;
            };
            let memory = self.node.memory_mut();
            let mut outcome = stream.read(&mut self.shared_buffer, is_open);
            match outcome {
                ReadOutcome::Wants(bytes) => {
                    if self.intake.admit(memory, number, stream.peer_ip, bytes) {
                        stream.admit(bytes, now.instant);
                    } else {
                        stream.wait();
                    }
                    continue;
                }
                ReadOutcome::WantsSmall(bytes) => {
                    if !self.intake.lets_in_small(memory, number, bytes) {
                        stream.wait();
                        return;
                    }
                    outcome = stream.read_small(&mut self.shared_buffer, bytes);
                }
                ReadOutcome::Frame(_) | ReadOutcome::Empty | ReadOutcome::Closed(_) => {}
            }
            match outcome {
                ReadOutcome::Frame(frame) => self.receive(now, number, frame),
                ReadOutcome::Closed(reason) => {
                    let ended = match &reason {
                        CloseReason::Frame(error) => {
                            tracing::warn!(peer = %stream.peer_ip, %error, "connection closed");
                            Ended::Frame
                        }
                        CloseReason::Peer | CloseReason::Socket(_) => Ended::Peer,
                    };
                    self.close(now, number, ended);
                    return;
                }
                ReadOutcome::Empty | ReadOutcome::Wants(_) | ReadOutcome::WantsSmall(_) => return,
            }
        }
    }

    /// Hands a frame to the node, which counts it from now on.
    fn receive(&mut self, now: Now, number: u64, frame: Bytes) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.last_active = now.instant;
            let admitted = std::mem::take(&mut stream.admitted);
            self.intake.give_back(self.node.memory_mut(), stream.peer_ip, admitted);
        }
        self.stats.received_bytes += (LENGTH_SIZE + frame.len()) as u64;
        let before = self.effects.len();
        self.handle(now, Input::Received { connection: ConnectionId(number), frame });
        self.apply_pauses(before);
    }

    /// Carries out pauses at once, so that they hold for the very next frame; those from `new` on are not yet.
    fn apply_pauses(&mut self, new: usize) {
        for effect in self.effects.iter().skip(new) {
            if let Effect::Pause { connection } = effect
                && let Some(stream) = self.streams.get_mut(&connection.0)
            {
                stream.paused = true;
            }
        }
    }

    /// Carries out all effects, and what follows from them and from what was sent, until there is nothing more.
    fn finish_round(&mut self, now: Now) {
        loop {
            self.carry_out(now);
            self.flush_touched(now);
            self.tell_sent(now);
            if self.effects.is_empty() || self.stopped.is_some() {
                break;
            }
        }
        self.let_in(now);
    }

    /// Tells the node what memory its answers do not take any more.
    fn tell_sent(&mut self, now: Now) {
        let bytes = std::mem::take(&mut self.sent_bytes);
        if bytes > 0 {
            self.handle(now, Input::Sent { bytes });
        }
    }

    /// Carries out all effects, and what follows from them, until there are none.
    fn carry_out(&mut self, now: Now) {
        while !self.effects.is_empty() && self.stopped.is_none() {
            // Only the last end of each partition matters: all of them are written together.
            let mut written = BTreeMap::new();
            let mut syncs = Vec::new();
            let mut started = Vec::new();
            self.failed_files.clear();
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Send { connection, frame } => {
                        if let Some(stream) = self.streams.get_mut(&connection.0) {
                            stream.queue(frame, now.instant);
                            self.touched.push(connection.0);
                        } else {
                            self.sent_bytes += frame.len();
                        }
                    }
                    Effect::Close { connection } => {
                        if let Some(stream) = self.streams.get_mut(&connection.0) {
                            stream.closing = true;
                            self.touched.push(connection.0);
                        }
                    }
                    Effect::Pause { connection } => self.set_paused(connection, true),
                    Effect::Resume { connection } => self.set_paused(connection, false),
                    Effect::Disk(op) => {
                        for error in self.disk(op) {
                            self.handle(now, Input::DiskFailed { error });
                        }
                    }
                    Effect::Written { partition, end } => {
                        written.insert(partition, end);
                    }
                    Effect::Sync { partition, of: id, work } => {
                        syncs.push(SyncRequest { key: LogKey(partition.0), id, work });
                    }
                    Effect::UseJournal { log_dir } => self.committer.use_journal(log_dir),
                    Effect::Start { token, job, in_background } => started.push((token, job, in_background)),
                    Effect::Scraped { scrape, page } => self.on_scraped(now, scrape, *page),
                    Effect::Ready => self.listen(),
                    Effect::Stopped { error } => self.stopped = Some(error.map_or(Ok(()), Err)),
                }
            }
            // Before what was written is told: the partitions of a log dir that failed believe nothing any more.
            for error in self.write_gathered() {
                self.handle(now, Input::DiskFailed { error });
            }
            for (partition, end) in written {
                self.handle(now, Input::Written { partition, end });
            }
            syncs.into_iter().for_each(|request| self.committer.sync(request));
            for (token, job, in_background) in started {
                self.jobs.start_job(token, job, in_background);
            }
        }
    }

    fn set_paused(&mut self, connection: ConnectionId, paused: bool) {
        if let Some(stream) = self.streams.get_mut(&connection.0) {
            stream.paused = paused;
            self.touched.push(connection.0);
        }
    }

    /// Gathers a write; carries out anything else, after the writes that came before it. What failed.
    fn disk(&mut self, op: Op) -> Vec<DiskError> {
        let Op::Write { path, position, data } = op else {
            let mut failed = self.write_gathered();
            if let Op::Truncate { path, .. } | Op::Rename { from: path, .. } = &op
                && self.failed_files.contains(path)
            {
                return failed;
            }
            if let Err(error) = self.files.apply(op) {
                self.failed_files.insert(Arc::clone(&error.path));
                failed.push(error);
            }
            return failed;
        };
        let length = data.len() as u64;
        if let Some(write) = self.write_of.get(&path).and_then(|&index| self.writes.get_mut(index))
            && write.end == position
        {
            write.slices.push(data);
            write.end += length;
            return Vec::new();
        }
        let failed = if self.write_of.contains_key(&path) { self.write_gathered() } else { Vec::new() };
        self.write_of.insert(Arc::clone(&path), self.writes.len());
        self.writes.push(GatheredWrite { path, position, end: position + length, slices: vec![data] });
        failed
    }

    /// Writes what was gathered; what failed.
    fn write_gathered(&mut self) -> Vec<DiskError> {
        self.write_of.clear();
        let mut failed = Vec::new();
        for write in self.writes.drain(..) {
            if self.failed_files.contains(&write.path) {
                continue;
            }
            if let Err(error) = self.files.write(&write.path, write.position, &write.slices) {
                self.failed_files.insert(write.path);
                failed.push(error);
            }
        }
        failed
    }

    fn listen(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let token = Token(FIRST_LISTENER + index);
            if let Err(error) = self.poll.registry().register(listener, token, Interest::READABLE) {
                self.stopped = Some(Err(format!("cannot listen: {error}")));
            }
        }
        self.listening = true;
    }

    /// Sends what is queued, and keeps on the list those that still have frames to read.
    fn flush_touched(&mut self, now: Now) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let answers_are_short = self.node.memory().room(Share::Answers) == 0;
        for number in touched {
            let Some(stream) = self.streams.get_mut(&number) else { continue };
            let queued = stream.queued_bytes();
            let flushed = stream.flush();
            self.sent_bytes += queued - stream.queued_bytes();
            self.stats.sent_bytes += (queued - stream.queued_bytes()) as u64;
            if flushed.is_err() || stream.closing && stream.is_flushed() {
                self.close(now, number, if flushed.is_err() { Ended::Peer } else { Ended::Broker });
                continue;
            }
            stream.last_active = now.instant;
            if stream.takes_requests(answers_are_short) && stream.may_have_more() {
                self.touched.push(number);
            }
        }
    }

    fn close_idle(&mut self, now: Now) {
        let Some(idle_max) = self.limits.idle_max else { return };
        if now.instant < self.next_idle_check {
            return;
        }
        self.next_idle_check = now.instant + idle_max / 10;
        let idle: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| now.instant.saturating_sub(stream.last_active) >= idle_max)
            .map(|(&number, _)| number)
            .collect();
        idle.into_iter().for_each(|number| self.close(now, number, Ended::Idle));
    }

    fn close(&mut self, now: Now, number: u64, why: Ended) {
        let Some(mut stream) = self.streams.remove(&number) else { return };
        self.stats.note_ended(why);
        self.sent_bytes += stream.queued_bytes();
        self.intake.give_back(self.node.memory_mut(), stream.peer_ip, stream.admitted);
        self.intake.leave(number, stream.peer_ip);
        if let Some(count) = self.connections_by_ip.get_mut(&stream.peer_ip) {
            *count -= 1;
            if *count == 0 {
                self.connections_by_ip.remove(&stream.peer_ip);
            }
        }
        if let Err(error) = self.poll.registry().deregister(&mut stream.socket) {
            tracing::debug!(%error, "a closed socket was not registered");
        }
        self.handle(now, Input::Closed { connection: ConnectionId(number) });
    }
}

fn pollable(listeners: Vec<std::net::TcpListener>) -> io::Result<Vec<TcpListener>> {
    let listeners = listeners.into_iter();
    listeners
        .map(|listener| listener.set_nonblocking(true).map(|()| TcpListener::from_std(listener)))
        .collect()
}
