//! One TCP connection: bytes in to frames, frames out to bytes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use dohle_protocol::{Frame, FrameDecoder, FrameError};
use mio::net::TcpStream;
use rustix::io::Errno;

/// Bytes that may wait to be sent before no more requests are taken from a connection. A client that asks
/// and does not read its answers stops here.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// A frame that is still to come in by this much or more gets a buffer of its own, so that its records can be
/// kept and patched where they are. What is smaller is cheaper to copy out of the shared buffer.
const OWN_BUFFER_FROM: usize = 32 << 10;

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
    /// The peer is gone, or sent what is no frame.
    Closed(CloseReason),
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
            queue: VecDeque::new(),
            queued_bytes: 0,
            paused: false,
            readable: false,
            closing: false,
            last_active: now,
        }
    }

    /// Whether requests may be taken from it now.
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        !self.paused && !self.closing && self.queued_bytes < QUEUED_BYTES_MAX
    }

    /// Whether another read may find a frame without a new event from the socket.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.readable || self.decoder.missing(&self.received) == 0
    }

    /// The next frame, reading from the socket as needed; `shared` is the loop's receive buffer.
    pub fn read(&mut self, shared: &mut BytesMut) -> ReadOutcome {
        loop {
            match self.decoder.next(&mut self.received) {
                Ok(Some(frame)) => return ReadOutcome::Frame(frame),
                Ok(None) => {}
                Err(error) => return ReadOutcome::Closed(error.into()),
            }
            if !self.readable {
                return ReadOutcome::Empty;
            }
            match self.fill(shared) {
                Ok(0) => return ReadOutcome::Closed(CloseReason::Peer),
                Ok(_) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Err(error) => return ReadOutcome::Closed(CloseReason::Socket(error.into())),
            }
        }
    }

    /// Reads once. A short read means that the socket is empty: the next event will say when it is not.
    fn fill(&mut self, shared: &mut BytesMut) -> Result<usize, Errno> {
        let missing = self.decoder.missing(&self.received);
        if missing >= OWN_BUFFER_FROM {
            // The buffer grows with what arrives, by doubling, and not with what was announced.
            let room = missing.min(self.received.len().max(READ_SIZE));
            if self.received.capacity() - self.received.len() < room {
                let mut own = BytesMut::with_capacity(self.received.len() + room);
                own.extend_from_slice(&self.received);
                self.received = own;
            }
            return receive(&self.socket, &mut self.received, missing);
        }
        shared.reserve(READ_SIZE);
        let count = receive(&self.socket, shared, READ_SIZE)?;
        let arrived = shared.split_to(count);
        if self.received.is_empty() {
            self.received = arrived;
        } else {
            self.received.extend_from_slice(&arrived);
        }
        Ok(count)
    }

    /// Queues a frame; [`Self::flush`] sends it.
    pub fn queue(&mut self, frame: Frame) {
        self.queued_bytes += frame.len();
        self.queue.extend(frame.into_chunks());
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
