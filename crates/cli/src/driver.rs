//! Drives client machines over real sockets: one thread, one poll, as many connections as there are.
//!
//! [`Driver::turn`] is all there is to it: it wakes the machines, carries out what they ask for, waits, and hands
//! in what happened. In between the caller gives work to its machines and takes their results.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf as _, Bytes, BytesMut};
use dohle_client::{Effect, Effects, Endpoint, Input, Machine, Peer};
use dohle_protocol::FrameDecoder;
use dohle_types::{FastMap, Now, Timestamp};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::timer::Timer;

/// The largest response taken: more than a fetch of any sensible size.
const FRAME_SIZE_MAX: usize = 256 << 20;
/// Bytes of room for a read: of a connection that has little to say, and at the most.
const READ_SIZE_MIN: usize = 4 << 10;
const READ_SIZE_MAX: usize = 128 << 10;
/// Slices in one write.
const WRITE_SLICES: usize = 64;
/// So that an interrupt that comes just before waiting is noticed soon.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// The token of [`Driver::waker`].
const WAKER: Token = Token(usize::MAX);
/// The token of the [`Timer`].
const TIMER: Token = Token(usize::MAX - 1);

/// Drives client machines over real sockets; see the module.
pub struct Driver {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    timer: Timer,
    sockets: FastMap<Token, Socket>,
    tokens: FastMap<(usize, Peer), Token>,
    next_token: usize,
    /// What happened while effects were carried out.
    inputs: VecDeque<(usize, Input)>,
    /// Machines to which something happened.
    touched: Vec<usize>,
    effects: Effects,
    started: Instant,
    interrupted: Arc<AtomicBool>,
}

/// A connection.
struct Socket {
    /// Whose it is.
    machine: usize,
    peer: Peer,
    stream: TcpStream,
    /// Addresses to try if this one does not answer.
    others: Vec<SocketAddr>,
    connected: bool,
    received: BytesMut,
    /// Room for the next read.
    read_size: usize,
    to_send: VecDeque<Bytes>,
}

impl Driver {
    /// A driver without connections. From now on an interrupt is noted instead of ending the process; a second
    /// one ends it.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let timer = Timer::new(poll.registry(), TIMER)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            waker,
            timer,
            sockets: FastMap::default(),
            tokens: FastMap::default(),
            next_token: 0,
            inputs: VecDeque::new(),
            touched: Vec::new(),
            effects: Effects::new(),
            started: Instant::now(),
            interrupted,
        })
    }

    /// The time as machines want it.
    #[must_use]
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            instant: self.started.elapsed(),
            wall: Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Whether the user wants it to end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Ends [`Self::turn`]'s waiting from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Wakes all machines, carries out what they ask for, waits for something to happen or for `patience` to end,
    /// and hands in what happened.
    pub fn turn<M: Machine>(&mut self, machines: &mut [M], patience: Option<Duration>) -> io::Result<()> {
        self.touched.clear();
        for index in 0..machines.len() {
            self.hand_in(machines, index, Input::Wake);
        }
        self.hand_in_all(machines);
        self.poll(machines, self.wait(machines, patience))
    }

    /// As [`Self::turn`], where there are so many machines that only those are to be woken for which it is time. The
    /// machines to which something happened, some of them several times.
    pub fn turn_of_many<M: Machine>(
        &mut self,
        machines: &mut [M],
        woken: impl IntoIterator<Item = usize>,
        patience: Duration,
    ) -> io::Result<Vec<usize>> {
        self.touched.clear();
        for index in woken {
            self.hand_in(machines, index, Input::Wake);
        }
        self.hand_in_all(machines);
        self.poll(machines, patience.min(WAIT_MAX))?;
        Ok(std::mem::take(&mut self.touched))
    }

    /// Waits for something to happen and hands in what happened.
    fn poll<M: Machine>(&mut self, machines: &mut [M], wait: Duration) -> io::Result<()> {
        let wait = self.timer.arm(wait)?;
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            // A signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        let ready: Vec<(Token, bool)> = self
            .events
            .iter()
            .map(|event| (event.token(), event.is_readable() || event.is_read_closed()))
            .collect();
        for (token, readable) in ready {
            self.on_ready(machines, token, readable);
            self.hand_in_all(machines);
        }
        Ok(())
    }

    /// Carries out effects that a machine gave outside of [`Machine::handle`].
    pub fn carry_out(&mut self, machine: usize, effects: Effects) {
        for effect in effects {
            self.carry_out_one(machine, effect);
        }
    }

    fn wait<M: Machine>(&self, machines: &[M], patience: Option<Duration>) -> Duration {
        let now = self.started.elapsed();
        let next = machines.iter().filter_map(Machine::next_timeout).min();
        let until_next = next.map_or(WAIT_MAX, |at| at.saturating_sub(now));
        until_next.min(patience.unwrap_or(WAIT_MAX)).min(WAIT_MAX)
    }

    fn hand_in_all<M: Machine>(&mut self, machines: &mut [M]) {
        while let Some((machine, input)) = self.inputs.pop_front() {
            self.hand_in(machines, machine, input);
        }
    }

    fn hand_in<M: Machine>(&mut self, machines: &mut [M], index: usize, input: Input) {
        let now = self.now();
        let Some(machine) = machines.get_mut(index) else { return };
        self.touched.push(index);
        let mut effects = std::mem::take(&mut self.effects);
        machine.handle(now, input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out_one(index, effect);
        }
        self.effects = effects;
    }

    fn carry_out_one(&mut self, machine: usize, effect: Effect) {
        match effect {
            Effect::Connect { peer, endpoint } => self.connect(machine, peer, &endpoint),
            Effect::Send { peer, frame } => {
                let Some(&token) = self.tokens.get(&(machine, peer)) else { return };
                let Some(socket) = self.sockets.get_mut(&token) else { return };
                socket.to_send.extend(frame.into_chunks());
                if let Err(error) = socket.write() {
                    self.drop_socket(token, &error);
                }
            }
            Effect::Close { peer } => {
                if let Some(token) = self.tokens.remove(&(machine, peer)) {
                    // Dropping the stream closes it.
                    self.sockets.remove(&token);
                }
            }
        }
    }

    fn connect(&mut self, machine: usize, peer: Peer, endpoint: &Endpoint) {
        let resolved = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
        let connected =
            resolved.map(Iterator::collect).and_then(|addresses| self.begin(machine, peer, addresses));
        if let Err(error) = connected {
            self.inputs.push_back((machine, Input::Closed { peer, reason: reason(&error) }));
        }
    }

    /// Begins to connect to the first address that does not fail at once.
    fn begin(&mut self, machine: usize, peer: Peer, mut others: Vec<SocketAddr>) -> io::Result<()> {
        let mut last_error = io::Error::from(io::ErrorKind::NotFound);
        while !others.is_empty() {
            let address = others.remove(0);
            match self.begin_one(machine, peer, address, &others) {
                Ok(()) => return Ok(()),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    fn begin_one(
        &mut self,
        machine: usize,
        peer: Peer,
        address: SocketAddr,
        others: &[SocketAddr],
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let token = Token(self.next_token);
        self.next_token += 1;
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let socket = Socket {
            machine,
            peer,
            stream,
            others: others.to_vec(),
            connected: false,
            received: BytesMut::new(),
            read_size: READ_SIZE_MIN,
            to_send: VecDeque::new(),
        };
        self.sockets.insert(token, socket);
        self.tokens.insert((machine, peer), token);
        Ok(())
    }

    fn on_ready<M: Machine>(&mut self, machines: &mut [M], token: Token, readable: bool) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let (machine, peer) = (socket.machine, socket.peer);
        if !socket.connected {
            match socket.finish_connecting() {
                Ok(true) => self.inputs.push_back((machine, Input::Connected { peer })),
                Ok(false) => {}
                Err(error) => self.connect_elsewhere(token, &error),
            }
            return;
        }
        if let Err(error) = socket.write() {
            return self.drop_socket(token, &error);
        }
        if readable {
            self.read(machines, token);
        }
    }

    /// Reads all there is, which is how the system wants it: it tells only once.
    fn read<M: Machine>(&mut self, machines: &mut [M], token: Token) {
        let decoder = FrameDecoder::new(FRAME_SIZE_MAX);
        // Handing in a frame may close the socket.
        while let Some(socket) = self.sockets.get_mut(&token) {
            let (machine, peer) = (socket.machine, socket.peer);
            match socket.read_some() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.drop_socket(token, &error),
            }
            while let Some(socket) = self.sockets.get_mut(&token) {
                match decoder.next(&mut socket.received) {
                    Ok(Some(frame)) => self.hand_in(machines, machine, Input::Received { peer, frame }),
                    Ok(None) => break,
                    Err(error) => return self.drop_socket(token, &io::Error::other(error)),
                }
            }
        }
    }

    fn connect_elsewhere(&mut self, token: Token, error: &io::Error) {
        let Some(socket) = self.sockets.remove(&token) else { return };
        self.tokens.remove(&(socket.machine, socket.peer));
        if self.begin(socket.machine, socket.peer, socket.others).is_err() {
            self.inputs
                .push_back((socket.machine, Input::Closed { peer: socket.peer, reason: reason(error) }));
        }
    }

    fn drop_socket(&mut self, token: Token, error: &io::Error) {
        let Some(socket) = self.sockets.remove(&token) else { return };
        self.tokens.remove(&(socket.machine, socket.peer));
        self.inputs.push_back((socket.machine, Input::Closed { peer: socket.peer, reason: reason(error) }));
    }
}

impl Socket {
    /// Whether the connection stands now.
    fn finish_connecting(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes what the system takes.
    fn write(&mut self) -> io::Result<()> {
        while self.connected && !self.to_send.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.to_send.iter().take(WRITE_SLICES).map(|it| IoSlice::new(it)).collect();
            match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(chunk) = self.to_send.front_mut() {
            if written < chunk.len() {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
            self.to_send.pop_front();
        }
    }

    /// Reads once; whether there may be more.
    fn read_some(&mut self) -> io::Result<bool> {
        // A large frame doubles its room as it arrives.
        let room = self.read_size.max(self.received.len());
        self.received.reserve(room);
        let filled = self.received.len();
        self.received.resize(filled + self.read_size, 0);
        let (_, free) = self.received.split_at_mut(filled);
        let read = loop {
            match self.stream.read(free) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = read.as_ref().map_or(0, |&count| count);
        self.received.truncate(filled + count);
        if count == self.read_size {
            self.read_size = READ_SIZE_MAX.min(count * 2);
        }
        match read {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the system said, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Connects to one endpoint, sends one frame, and notes what happens.
    struct Once {
        endpoint: Option<Endpoint>,
        seen: Vec<String>,
    }

    impl Machine for Once {
        fn handle(&mut self, _now: Now, input: Input, effects: &mut Effects) {
            let peer = Peer(0);
            match input {
                Input::Wake => {
                    effects.extend(self.endpoint.take().map(|endpoint| Effect::Connect { peer, endpoint }));
                }
                Input::Connected { .. } => {
                    let body = dohle_protocol::messages::ApiVersionsRequest::default();
                    let frame = dohle_protocol::encode_request(7, None, &body, 0).unwrap();
                    effects.push(Effect::Send { peer, frame });
                    self.seen.push("connected".to_owned());
                }
                Input::Received { frame, .. } => self.seen.push(format!("{} bytes", frame.len())),
                Input::Closed { reason, .. } => self.seen.push(reason),
            }
        }

        fn next_timeout(&self) -> Option<Duration> {
            None
        }
    }

    fn drive(port: u16, until: usize) -> Vec<String> {
        let mut once = [Once { endpoint: Some(Endpoint::new("localhost", port)), seen: Vec::new() }];
        let mut driver = Driver::new().unwrap();
        for _ in 0..40 {
            driver.turn(&mut once, None).unwrap();
            if once[0].seen.len() >= until {
                break;
            }
        }
        let [once] = once;
        once.seen
    }

    #[test]
    fn frames_go_and_come_over_a_real_socket_until_it_closes() {
        // "localhost" may be ::1 first, where nobody listens: the next address is tried.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 14];
            stream.read_exact(&mut request).unwrap();
            // Two frames, the second in two pieces, larger than what is read at a time.
            let large = vec![1; 300_000];
            stream.write_all(b"\0\0\0\x02ab").unwrap();
            stream.write_all(&300_000_i32.to_be_bytes()).unwrap();
            stream.write_all(&large).unwrap();
            request
        });
        let seen = drive(port, 4);
        assert_eq!(seen, ["connected", "2 bytes", "300000 bytes", "the broker closed the connection"]);
        assert_eq!(&server.join().unwrap()[..4], [0, 0, 0, 10]);
    }

    #[test]
    fn a_connection_that_is_refused_is_reported() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(drive(port, 1), ["connection refused"]);
    }
}
