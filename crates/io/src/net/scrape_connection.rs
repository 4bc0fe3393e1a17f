//! A connection by which somebody asks for metrics: one request, one answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;

use super::http::{self, Asked, Body, HEAD_BYTES_MAX};

/// How long a request may take to come, and then again an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are read at a time.
const READ_SIZE: usize = 1 << 10;

/// Such a connection.
#[derive(Debug)]
pub struct ScrapeConnection {
    /// The socket.
    pub socket: TcpStream,
    stage: Stage,
    /// When it is closed, as it is.
    deadline: Duration,
    /// Bytes of the node's memory for answers that it holds.
    pub held: usize,
}

#[derive(Debug)]
enum Stage {
    /// The request comes in: this much has.
    Receiving(Vec<u8>),
    /// The metrics are being gathered.
    Waiting(Body),
    /// The answer goes out, from this byte on.
    Sending(Vec<u8>, usize),
    /// The answer has gone out; the client closes when it has read it.
    Ending,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing for now.
    Wait,
    /// What was asked for is to be gathered, or refused.
    Answer(Asked),
    /// It has ended.
    Close,
}

impl ScrapeConnection {
    /// A fresh connection.
    #[must_use]
    pub fn new(socket: TcpStream, now: Duration) -> Self {
        Self { socket, stage: Stage::Receiving(Vec::new()), deadline: now + PATIENCE, held: 0 }
    }

    /// When it is closed if nothing happens.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether its request has not come in time.
    #[must_use]
    pub const fn is_receiving(&self) -> bool {
        matches!(self.stage, Stage::Receiving(_))
    }

    /// Goes on, as far as the socket lets it.
    pub fn go_on(&mut self) -> Step {
        match self.try_go_on() {
            Ok(step) => step,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Wait,
            Err(_) => Step::Close,
        }
    }

    fn try_go_on(&mut self) -> io::Result<Step> {
        loop {
            match &mut self.stage {
                Stage::Receiving(received) => {
                    let mut piece = [0; READ_SIZE];
                    let count = retry(|| self.socket.read(&mut piece))?;
                    if count == 0 {
                        return Ok(Step::Close);
                    }
                    received.extend_from_slice(piece.get(..count).unwrap_or_default());
                    let head = received.get(..HEAD_BYTES_MAX).unwrap_or(received);
                    match http::parse(head) {
                        Asked::Incomplete => {}
                        asked @ (Asked::Metrics(..) | Asked::Refused(_)) => {
                            let body = if let Asked::Metrics(_, body) = asked { body } else { Body::Whole };
                            self.stage = Stage::Waiting(body);
                            return Ok(Step::Answer(asked));
                        }
                    }
                }
                // The client may be gone: that shows when it is answered.
                Stage::Waiting(_) => return Ok(Step::Wait),
                Stage::Sending(bytes, sent) => {
                    let rest = bytes.get(*sent..).unwrap_or_default();
                    if rest.is_empty() {
                        self.stage = Stage::Ending;
                        // Closing while something is unread would take the answer from the client.
                        self.socket.shutdown(Shutdown::Write)?;
                    } else {
                        *sent += retry(|| self.socket.write(rest))?;
                    }
                }
                Stage::Ending => {
                    let mut ignored = [0; READ_SIZE];
                    if retry(|| self.socket.read(&mut ignored))? == 0 {
                        return Ok(Step::Close);
                    }
                }
            }
        }
    }

    /// Sends an answer of this head and body.
    pub fn answer(&mut self, now: Duration, head: String, body: &str) -> Step {
        let body = if let Stage::Waiting(Body::LengthOnly) = self.stage { "" } else { body };
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        self.stage = Stage::Sending(bytes, 0);
        self.deadline = now + PATIENCE;
        self.go_on()
    }
}

fn retry(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
