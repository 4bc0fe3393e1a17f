//! One connection: which versions the broker serves, and which requests wait for an answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, ResponseHeader};
use dohle_protocol::{ApiKey, DecodeError, Frame, Message, Reader, Request, encode_request};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str};

use crate::cluster::Route;
use crate::{Endpoint, Failure};

/// The versions of each API that a broker serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersions {
    /// Key, oldest, latest; in order of keys.
    ranges: Vec<(i16, i16, i16)>,
}

impl ApiVersions {
    /// What a broker says it serves.
    #[must_use]
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let mut ranges: Vec<_> =
            response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        ranges.sort_unstable();
        Self { ranges }
    }

    /// The oldest and the latest version served; `None` if the API is not served.
    #[must_use]
    pub fn range(&self, key: i16) -> Option<(i16, i16)> {
        let at = self.ranges.binary_search_by_key(&key, |&(key, _, _)| key).ok()?;
        self.ranges.get(at).map(|&(_, oldest, latest)| (oldest, latest))
    }

    /// The latest version of a request that both sides know.
    pub fn choose<R: Request>(&self) -> Result<i16, Failure> {
        let ours = R::KEY.versions();
        let (oldest, latest) = self.range(R::KEY.code()).unwrap_or((0, -1));
        let version = latest.min(*ours.end());
        if version < oldest.max(*ours.start()) {
            return Err(Failure::Unsupported { api: R::KEY.name() });
        }
        Ok(version)
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It is being made, until the given instant.
    Connecting { deadline: Instant },
    /// The broker was asked what it serves.
    Negotiating,
    /// It takes requests.
    Ready,
}

/// What a request was sent for.
#[derive(Debug)]
pub(crate) enum Purpose<T> {
    /// To know what the broker serves.
    Versions,
    /// To know the cluster.
    Metadata,
    /// For the cluster's owner.
    Owner(T),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    correlation_id: i32,
    key: ApiKey,
    pub(crate) version: i16,
    deadline: Instant,
    pub(crate) purpose: Purpose<T>,
}

/// A connection and the requests on it.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    pub(crate) route: Route,
    pub(crate) endpoint: Endpoint,
    pub(crate) phase: Phase,
    pub(crate) versions: ApiVersions,
    in_flight: VecDeque<InFlight<T>>,
    next_correlation_id: i32,
}

impl<T> Connection<T> {
    /// A connection that is being made.
    pub(crate) const fn new(route: Route, endpoint: Endpoint, deadline: Instant) -> Self {
        Self {
            route,
            endpoint,
            phase: Phase::Connecting { deadline },
            versions: ApiVersions { ranges: Vec::new() },
            in_flight: VecDeque::new(),
            next_correlation_id: 0,
        }
    }

    /// How many requests wait for their answers.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// When waiting for the connection or for its oldest request ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting { deadline } => Some(deadline),
            Phase::Negotiating | Phase::Ready => self.in_flight.front().map(|request| request.deadline),
        }
    }

    /// The request in the latest version that both sides know. Without a purpose no answer will come.
    pub(crate) fn send<R: Request>(
        &mut self,
        now: Now,
        timeout: Duration,
        client_id: &Str,
        request: &R,
        purpose: Option<Purpose<T>>,
    ) -> Result<Frame, Failure> {
        let version = self.versions.choose::<R>()?;
        self.send_version(now, timeout, client_id, request, version, purpose)
    }

    /// The question what the broker serves, in this version.
    pub(crate) fn send_api_versions(
        &mut self,
        now: Now,
        timeout: Duration,
        client_id: &Str,
        version: i16,
    ) -> Result<Frame, Failure> {
        self.phase = Phase::Negotiating;
        let request = ApiVersionsRequest {
            client_software_name: "dohle".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        self.send_version(now, timeout, client_id, &request, version, Some(Purpose::Versions))
    }

    fn send_version<R: Request>(
        &mut self,
        now: Now,
        timeout: Duration,
        client_id: &Str,
        request: &R,
        version: i16,
        purpose: Option<Purpose<T>>,
    ) -> Result<Frame, Failure> {
        let correlation_id = self.next_correlation_id;
        let frame = encode_request(correlation_id, Some(client_id), request, version)?;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        if let Some(purpose) = purpose {
            let deadline = now.after(timeout);
            self.in_flight.push_back(InFlight { correlation_id, key: R::KEY, version, deadline, purpose });
        }
        Ok(frame)
    }

    /// The request that a frame answers, and the response without its header.
    ///
    /// Brokers answer in order; anything else is an error after which the connection means nothing.
    pub(crate) fn receive(&mut self, frame: &Bytes) -> Result<(InFlight<T>, Bytes), Failure> {
        let request = self.in_flight.pop_front().ok_or(Failure::OutOfOrder)?;
        let header_version = request.key.response_header_version(request.version);
        let failure = match decode_header(frame, header_version) {
            Ok((correlation_id, body)) if correlation_id == request.correlation_id => {
                return Ok((request, body));
            }
            Ok(_) => Failure::OutOfOrder,
            Err(error) => error.into(),
        };
        // It fails together with all others on the connection.
        self.in_flight.push_front(request);
        Err(failure)
    }

    /// The requests that will not be answered.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = InFlight<T>> + '_ {
        self.in_flight.drain(..)
    }
}

/// The correlation id of a response, and what follows its header.
fn decode_header(frame: &Bytes, header_version: i16) -> Result<(i32, Bytes), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, header_version)?;
    Ok((header.correlation_id, frame.slice(frame.len() - reader.remaining()..)))
}

/// What comes of the answer to an ApiVersions request.
pub(crate) enum Negotiated {
    /// The versions are known.
    Versions(ApiVersions),
    /// The broker is older than the question; it is to be asked again in this version.
    AskAgain(i16),
}

/// Reads the answer to an ApiVersions request that was sent in `version`.
///
/// A broker that does not know the version answers in version 0 with `UNSUPPORTED_VERSION` and, since KIP-511,
/// the versions of ApiVersions that it does know.
pub(crate) fn negotiate(body: &Bytes, version: i16) -> Result<Negotiated, Failure> {
    let response = match ApiVersionsResponse::from_bytes(body, version) {
        Ok(response) => response,
        Err(error) if version == 0 => return Err(error.into()),
        Err(_) => ApiVersionsResponse::from_bytes(body, 0)?,
    };
    if response.error_code == ErrorCode::None.code() {
        return Ok(Negotiated::Versions(ApiVersions::new(&response)));
    }
    let unsupported = Failure::Unsupported { api: ApiKey::ApiVersions.name() };
    if response.error_code != ErrorCode::UnsupportedVersion.code() || version == 0 {
        return Err(unsupported);
    }
    let offered =
        ApiVersions::new(&response).range(ApiKey::ApiVersions.code()).map_or(0, |(_, latest)| latest);
    // Each round is in an older version, so that a broker cannot keep the question going.
    Ok(Negotiated::AskAgain(offered.clamp(0, version - 1)))
}
