//! The contract between the client machines and their hosts.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use dohle_protocol::Frame;
use dohle_types::time::Instant;
use dohle_types::{Now, Str};

/// A client that a host drives.
pub trait Machine {
    /// Takes in what happened and says what is to be done. [`Input::Wake`] may be given at any time.
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects);

    /// When to call [`Self::handle`] with [`Input::Wake`] if nothing happens before; `None` for never.
    fn next_timeout(&self) -> Option<Instant>;
}

/// So that one host drives machines of several kinds.
impl<M: Machine + ?Sized> Machine for &mut M {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        (**self).handle(now, input, effects);
    }

    fn next_timeout(&self) -> Option<Instant> {
        (**self).next_timeout()
    }
}

/// A connection, from the wish for it to its end. Numbers are never used again, so that what is reported late
/// about an old connection is recognised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer(pub u32);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed, or the owner handed work to the machine.
    Wake,
    /// The connection that [`Effect::Connect`] asked for stands.
    Connected {
        /// Which one.
        peer: Peer,
    },
    /// A whole frame arrived, without its length.
    Received {
        /// On which connection.
        peer: Peer,
        /// Its bytes.
        frame: Bytes,
    },
    /// The connection could not be made or is gone. Not reported for what [`Effect::Close`] closed.
    Closed {
        /// Which one.
        peer: Peer,
        /// What the system said, for people.
        reason: String,
    },
}

/// What the host is to do.
#[derive(Debug)]
pub enum Effect {
    /// Open a connection; answered by [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// Its name from now on.
        peer: Peer,
        /// Where to.
        endpoint: Endpoint,
    },
    /// Write a frame, after those sent on this connection before.
    Send {
        /// On which connection.
        peer: Peer,
        /// The bytes, length included.
        frame: Frame,
    },
    /// Close the connection and forget it, with what was not written yet.
    Close {
        /// Which one.
        peer: Peer,
    },
}

/// What is to be done, in order.
pub type Effects = Vec<Effect>;

/// A host and port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name or an address, without the brackets of IPv6.
    pub host: Str,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint `host:port`.
    pub fn new(host: impl Into<Str>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The endpoints in a comma-separated list, as `bootstrap.servers` has them.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidEndpoint> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEndpoint { text: text.into() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
            return Err(invalid());
        }
        Ok(Self::new(host, port.parse().map_err(|_| invalid())?))
    }
}

/// The text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a server's address: write HOST:PORT, such as localhost:9092 or [::1]:9092")]
pub struct InvalidEndpoint {
    /// What was given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_back_what_it_printed() {
        for text in ["localhost:9092", "10.0.0.1:1", "[::1]:9092"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":9092", "::1:9092", "h:70000", "h:"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        let list = Endpoint::parse_list("a:1, b:2,").unwrap();
        assert_eq!(list, [Endpoint::new("a", 1), Endpoint::new("b", 2)]);
    }
}
