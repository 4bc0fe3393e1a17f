//! One TCP connection: bytes in to frames, frames out to bytes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use dohle_broker::memory::LARGE_REQUEST_MIN;
use dohle_protocol::{Frame, FrameDecoder, FrameError};
use mio::net::TcpStream;
use rustix::io::Errno;

use super::pace::Pace;

/// Bytes that may wait to be sent before no more requests are taken from a connection. A client that asks
/// and does not read its answers stops here.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// A frame that is still to come in by this much or more gets a buffer of its own, so that its records can be
/// kept and patched where they are. What is smaller is cheaper to copy out of the shared buffer.
const OWN_BUFFER_FROM: usize = LARGE_REQUEST_MIN;

/// Bytes of a frame's length field.
pub const LENGTH_SIZE: usize = size_of::<i32>();

/// The least that the shared receive buffer has room for at each read.
const READ_SIZE: usize = 64 << 10;

/// Slices in one gathered send.
const SLICES_PER_SEND_MAX: usize = 64;

/// A connection as the loop sees it.
#[derive(Debug)]
pub struct Stream {
    /// The socket.
    pub socket: TcpStream,
    /// The client's address.
    pub peer_ip: IpAddr,
    decoder: FrameDecoder,
    /// Bytes of an unfinished frame; empty and without memory while the connection is idle.
    received: BytesMut,
    /// Whether they are in a buffer that has nothing else in it.
    has_own_buffer: bool,
    /// Bytes of memory that are taken for the frame that is being received.
    pub admitted: usize,
    /// It waits for memory for its next frame.
    pub waits: bool,
    /// The client has said all that it will: what is there may be read, for it is no more than the kernel holds.
    pub is_read_closed: bool,
    /// Whether it moves what it holds memory for.
    pub pace: Pace,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// The node has enough of this connection's requests for now.
    pub paused: bool,
    /// The socket had more than was read.
    pub readable: bool,
    /// Close once the queue is sent.
    pub closing: bool,
    /// When bytes last came or went, on the monotonic clock.
    pub last_active: std::time::Duration,
}

/// What reading came to.
#[derive(Debug)]
pub enum ReadOutcome {
    /// A frame, and perhaps more behind it.
    Frame(Bytes),
    /// Nothing more for now.
    Empty,
    /// A frame of so many bytes, its length field included, wants to be admitted before more of it is read.
    Wants(usize),
    /// A small frame of so many bytes, its length field included, has come as a whole and wants to be let in.
    WantsSmall(usize),
    /// The peer is gone, or sent what is no frame.
    Closed(CloseReason),
}

/// What stands in a socket.
enum Ahead {
    /// Nothing that must not be read: the end, or what is no frame.
    Readable,
    /// Too little to be read.
    Incomplete,
    /// A frame that must be asked for.
    Frame(ReadOutcome),
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("closed by the client")]
    Peer,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The bytes are no Kafka frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Stream {
    /// A fresh connection whose frames are at most `frame_bytes_max` long.
    #[must_use]
    pub fn new(socket: TcpStream, peer_ip: IpAddr, frame_bytes_max: usize, now: std::time::Duration) -> Self {
        Self {
            socket,
            peer_ip,
            decoder: FrameDecoder::new(frame_bytes_max),
            received: BytesMut::new(),
            has_own_buffer: false,
            admitted: 0,
            waits: false,
            is_read_closed: false,
            pace: Pace::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            paused: false,
            readable: false,
            closing: false,
            last_active: now,
        }
    }

    /// Whether requests may be taken from it now; where answers are short of memory, its own must be sent before.
    #[must_use]
    pub fn takes_requests(&self, answers_are_short: bool) -> bool {
        let queued_bytes_max = if answers_are_short { 1 } else { QUEUED_BYTES_MAX };
        !self.paused && !self.closing && !self.waits && self.queued_bytes < queued_bytes_max
    }

    /// Whether another read may find a frame without a new event from the socket.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.readable || self.decoder.missing(&self.received) == 0
    }

    /// The next frame, reading from the socket as needed; `shared` is the loop's receive buffer. Unless `is_open`
    /// nothing is read of a frame that is not admitted.
    pub fn read(&mut self, shared: &mut BytesMut, is_open: bool) -> ReadOutcome {
        loop {
            match self.decoder.next(&mut self.received) {
                Ok(Some(frame)) => return ReadOutcome::Frame(frame),
                Ok(None) => {}
                Err(error) => return ReadOutcome::Closed(error.into()),
            }
            let missing = self.decoder.missing(&self.received);
            if self.admitted == 0 && self.received.len() >= LENGTH_SIZE {
                return ReadOutcome::Wants(self.received.len() + missing);
            }
            if !self.readable {
                self.own_buffer();
                return ReadOutcome::Empty;
            }
            let filled = if self.admitted > 0 || is_open || self.is_read_closed {
                self.fill(shared, missing, is_open)
            } else {
                match self.look_ahead() {
                    Ok(Ahead::Readable) => self.fill(shared, missing, is_open),
                    Ok(Ahead::Frame(outcome)) => return outcome,
                    Ok(Ahead::Incomplete) => Err(Errno::AGAIN),
                    Err(error) => Err(error),
                }
            };
            match filled {
                Ok(0) => return ReadOutcome::Closed(CloseReason::Peer),
                Ok(count) => self.pace.moved(count),
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Err(error) => return ReadOutcome::Closed(CloseReason::Socket(error.into())),
            }
        }
    }

    /// Takes the next frame, a small one that has come as a whole and that there is room for.
    pub fn read_small(&mut self, shared: &mut BytesMut, bytes: usize) -> ReadOutcome {
        // The budget counts it from when the node has it, which is at once.
        self.admitted = bytes;
        let outcome = self.read(shared, false);
        self.admitted = 0;
        outcome
    }

    /// What stands in the socket, without taking it out.
    fn look_ahead(&mut self) -> Result<Ahead, Errno> {
        let mut head = [0; LENGTH_SIZE];
        let known = self.received.len();
        let (before, rest) = head.split_at_mut_checked(known).unwrap_or_default();
        before.copy_from_slice(&self.received);
        let (count, _) = rustix::net::recv(&self.socket, rest, rustix::net::RecvFlags::PEEK)?;
        if count == 0 {
            return Ok(Ahead::Readable);
        }
        if known + count < LENGTH_SIZE {
            return Ok(Ahead::Incomplete);
        }
        // An absurd length misses nothing: it is read, so that the decoder can say so.
        let missing = self.decoder.missing(&head);
        let frame = LENGTH_SIZE + missing;
        if missing == 0 {
            return Ok(Ahead::Readable);
        }
        if frame >= LARGE_REQUEST_MIN {
            return Ok(Ahead::Frame(ReadOutcome::Wants(frame)));
        }
        let available = rustix::io::ioctl_fionread(&self.socket)?;
        let is_whole = available >= (frame - known) as u64;
        Ok(if is_whole { Ahead::Frame(ReadOutcome::WantsSmall(frame)) } else { Ahead::Incomplete })
    }

    /// Memory was taken for the frame that is being received.
    pub const fn admit(&mut self, bytes: usize, now: std::time::Duration) {
        self.admitted = bytes;
        self.pace.begin(now);
    }

    /// Has it wait for memory.
    pub fn wait(&mut self) {
        self.waits = true;
        self.own_buffer();
    }

    /// Reads once. A short read means that the socket is empty: the next event will say when it is not.
    fn fill(&mut self, shared: &mut BytesMut, missing: usize, is_open: bool) -> Result<usize, Errno> {
        if missing >= OWN_BUFFER_FROM || self.received.len() >= OWN_BUFFER_FROM {
            // The buffer grows with what arrives, by doubling, and not with what was announced.
            let room = missing.min(self.received.len().max(READ_SIZE));
            if self.received.capacity() - self.received.len() < room {
                let mut own = BytesMut::with_capacity(self.received.len() + room);
                own.extend_from_slice(&self.received);
                self.received = own;
            }
            self.has_own_buffer = true;
            return receive(&self.socket, &mut self.received, missing);
        }
        shared.reserve(READ_SIZE);
        let of_the_frame = self.admitted.saturating_sub(self.received.len());
        let limit = if is_open || of_the_frame == 0 { READ_SIZE } else { of_the_frame.min(READ_SIZE) };
        let count = receive(&self.socket, shared, limit)?;
        let arrived = shared.split_to(count);
        if self.received.is_empty() {
            self.received = arrived;
            self.has_own_buffer = false;
        } else {
            self.received.extend_from_slice(&arrived);
        }
        Ok(count)
    }

    /// Copies the beginning of a frame out of the shared buffer, all of which would be kept for it.
    fn own_buffer(&mut self) {
        if !self.received.is_empty() && !self.has_own_buffer {
            self.received = BytesMut::from(&*self.received);
            self.has_own_buffer = true;
        }
    }

    /// Queues a frame; [`Self::flush`] sends it.
    pub fn queue(&mut self, frame: Frame, now: std::time::Duration) {
        if self.queue.is_empty() {
            self.pace.begin(now);
        }
        self.queued_bytes += frame.len();
        self.queue.extend(frame.into_chunks());
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Sends what is queued, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket failed; the connection is to be closed.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.queue.iter().take(SLICES_PER_SEND_MAX).map(|chunk| IoSlice::new(chunk)).collect();
            match (&self.socket).write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all that was queued is sent.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    fn sent(&mut self, mut count: usize) {
        self.queued_bytes -= count;
        self.pace.moved(count);
        while count > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
    }
}

/// Reads once from `socket` behind what `buffer` holds, at most `limit` bytes and what it has room for.
#[expect(unsafe_code, reason = "a buffer of megabytes is not zeroed just to be overwritten")]
fn receive(socket: &TcpStream, buffer: &mut BytesMut, limit: usize) -> Result<usize, Errno> {
    let spare = buffer.spare_capacity_mut();
    let room = limit.min(spare.len());
    let (filled, _) = rustix::io::read(socket, spare.get_mut(..room).unwrap_or_default())?;
    let count = filled.len();
    let length = buffer.len() + count;
    // SAFETY: `read` has just initialised `count` bytes behind the buffer's length.
    unsafe { buffer.set_len(length) };
    Ok(count)
}
