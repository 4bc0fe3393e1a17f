//! The core of every client: connections to the brokers of one cluster, and what is known of it.
//!
//! ```text
//! slots() ──> Connecting ──Connected──> Negotiating ──ApiVersions──> Ready ──send()──> Reply
//!                 └───────────── Closed, deadline, nonsense ────────────┴──> backoff; Reply(Failure)
//! ```
//!
//! A client begins at the bootstrap endpoints, learns the brokers from metadata, and from then on talks to
//! brokers by id; the bootstrap connection becomes the broker's if it is one. When no broker can be reached any
//! more it goes back to the bootstrap endpoints (KIP-899).

mod refresh;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::{ApiVersionsRequest, MetadataResponse};
use dohle_protocol::{Message, Request};
use dohle_types::time::Instant;
use dohle_types::{BrokerId, Now, Rng, Str};

use crate::backoff::Backoff;
use crate::connection::{Connection, InFlight, Negotiated, Phase, Purpose, negotiate};
use crate::{ApiVersions, Effect, Effects, Endpoint, Failure, Input, Metadata, Peer, Unreachable};
use refresh::Refresh;

/// What all clients can be told.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How the client names itself (`client.id`).
    pub client_id: Str,
    /// How long a request may wait for its answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long a connection may take to stand (`socket.connection.setup.timeout.ms`).
    pub connect_timeout: Duration,
    /// Waiting before a failed request is sent again (`retry.backoff.ms`, `retry.backoff.max.ms`).
    pub retry_backoff: Backoff,
    /// Waiting before a failed connection is made again (`reconnect.backoff.ms`, `reconnect.backoff.max.ms`).
    pub reconnect_backoff: Backoff,
    /// After what time metadata is asked for anew (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
    /// How many requests may wait on one connection (`max.in.flight.requests.per.connection`).
    pub max_in_flight: usize,
    /// Whether asking for a topic may create it (`allow.auto.create.topics`).
    pub allow_auto_create_topics: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let backoff =
            |first, max| Backoff { first: Duration::from_millis(first), max: Duration::from_millis(max) };
        Self {
            client_id: "dohle".into(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            retry_backoff: backoff(100, 1000),
            reconnect_backoff: backoff(50, 1000),
            metadata_max_age: Duration::from_secs(300),
            max_in_flight: 5,
            allow_auto_create_topics: true,
        }
    }
}

/// Which of a client's connections to a broker: what may wait long does not hold up what must not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Records and all that has no lane of its own.
    Data,
    /// Group membership and offsets.
    Coordination,
}

/// A broker, or an endpoint of which no more is known yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Node {
    /// One of the bootstrap endpoints.
    Bootstrap(usize),
    /// A broker from metadata.
    Broker(BrokerId),
}

/// Which connection a request takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// To whom.
    pub node: Node,
    /// On which connection.
    pub lane: Lane,
}

impl Route {
    /// The connection to a broker for records and all else.
    #[must_use]
    pub const fn data(broker: BrokerId) -> Self {
        Self { node: Node::Broker(broker), lane: Lane::Data }
    }

    /// The connection to a broker for group membership.
    #[must_use]
    pub const fn coordination(broker: BrokerId) -> Self {
        Self { node: Node::Broker(broker), lane: Lane::Coordination }
    }
}

/// What came of a request.
#[derive(Debug)]
pub struct Reply<T> {
    /// What the owner sent along with it.
    pub token: T,
    /// The connection it went over.
    pub route: Route,
    /// The version it was sent in.
    pub version: i16,
    /// The response without its header.
    pub result: Result<Bytes, Failure>,
}

impl<T> Reply<T> {
    /// The response to a request of type `R`.
    pub fn decode<R: Request>(&self) -> Result<R::Response, Failure> {
        let body = self.result.as_ref().map_err(Clone::clone)?;
        Ok(R::Response::from_bytes(body, self.version)?)
    }
}

/// The state of a route between and during its connections.
#[derive(Debug, Default)]
struct Link {
    peer: Option<Peer>,
    failures: u32,
    /// No new connection before this.
    retry_at: Instant,
    /// Whether someone wanted to connect since the last input; else there is no need to wake up for it.
    awaited: bool,
}

/// A client's view of one cluster. `T` is what its owner wants to find again in each [`Reply`].
#[derive(Debug)]
pub struct Cluster<T> {
    config: ClusterConfig,
    bootstrap: Vec<Endpoint>,
    rng: Rng,
    links: BTreeMap<Route, Link>,
    connections: BTreeMap<Peer, Connection<T>>,
    next_peer: u32,
    metadata: Metadata,
    refresh: Refresh,
    replies: VecDeque<Reply<T>>,
    unreachable: Option<Unreachable>,
    polled_at: Instant,
    /// Grows with every metadata response.
    metadata_version: u64,
}

impl<T> Cluster<T> {
    /// A client that knows only where to begin. It asks for metadata with the first input.
    #[must_use]
    pub fn new(config: ClusterConfig, bootstrap: Vec<Endpoint>, rng: Rng) -> Self {
        let refresh = Refresh {
            topics: BTreeSet::new(),
            due: Some(Instant::ZERO),
            in_flight: false,
            again: false,
            failures: 0,
        };
        Self {
            config,
            bootstrap,
            rng,
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_peer: 0,
            metadata: Metadata::default(),
            refresh,
            replies: VecDeque::new(),
            unreachable: None,
            polled_at: Instant::ZERO,
            metadata_version: 0,
        }
    }

    /// What it was told.
    #[must_use]
    pub const fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// What is known of the cluster.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// How many metadata responses there were, to notice a new one.
    #[must_use]
    pub const fn metadata_version(&self) -> u64 {
        self.metadata_version
    }

    /// Randomness for the owner.
    pub const fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Why no broker can be reached, once every bootstrap endpoint was tried in vain and none answered since.
    #[must_use]
    pub fn unreachable(&self) -> Option<&Unreachable> {
        let all_failed = (0..self.bootstrap.len()).all(|index| {
            let route = Route { node: Node::Bootstrap(index), lane: Lane::Data };
            self.links.get(&route).is_some_and(|link| link.failures > 0)
        });
        self.unreachable.as_ref().filter(|_| all_failed)
    }

    /// When [`Self::poll`] was last called: what was due by then waits for something else than time.
    #[must_use]
    pub const fn polled_at(&self) -> Instant {
        self.polled_at
    }

    /// Takes in what happened. The owner takes the replies afterwards and ends with [`Self::poll`].
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        for link in self.links.values_mut() {
            link.awaited = false;
        }
        match input {
            Input::Wake => {}
            Input::Connected { peer } => self.on_connected(now, peer, effects),
            Input::Received { peer, frame } => self.on_received(now, peer, &frame, effects),
            Input::Closed { peer, reason } => self.on_closed(now, peer, reason, &Failure::Disconnected),
        }
        self.on_timeout(now, effects);
    }

    /// The next answer or failure.
    pub fn next_reply(&mut self) -> Option<Reply<T>> {
        self.replies.pop_front()
    }

    /// Asks for metadata if it is time. To be called last, as what the owner does may make it time.
    pub fn poll(&mut self, now: Now, effects: &mut Effects) {
        self.polled_at = now.instant;
        if !self.refresh.in_flight && self.refresh.due.is_some_and(|due| due <= now.instant) {
            self.send_metadata_request(now, effects);
        }
    }

    /// When to call [`Self::handle`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let connections = self.connections.values().filter_map(Connection::deadline);
        let links =
            self.links.values().filter(|link| link.awaited && link.peer.is_none()).map(|link| link.retry_at);
        let refresh = self.refresh.due.filter(|&due| !self.refresh.in_flight && due > self.polled_at);
        connections.chain(links).chain(refresh).min()
    }

    /// How many requests the route takes now. Where there is no connection, one is made as soon as its backoff
    /// allows.
    pub fn slots(&mut self, now: Now, route: Route, effects: &mut Effects) -> usize {
        match self.connection(route) {
            Some(connection) if connection.phase == Phase::Ready => {
                self.config.max_in_flight.saturating_sub(connection.in_flight())
            }
            Some(_) => 0,
            None => {
                self.connect(now, route, effects);
                0
            }
        }
    }

    /// A route to any broker that takes requests now; where there is none, one is being made.
    pub fn any_route(&mut self, now: Now, effects: &mut Effects) -> Option<Route> {
        let ready = self
            .connections
            .values()
            .filter(|connection| connection.phase == Phase::Ready && connection.route.lane == Lane::Data);
        if let Some(idlest) = ready.min_by_key(|connection| connection.in_flight()) {
            return Some(idlest.route);
        }
        if self.connections.values().any(|connection| connection.route.lane == Lane::Data) {
            return None;
        }
        let route = self.next_candidate(now)?;
        self.connect(now, route, effects);
        None
    }

    /// Sends a request on a route that [`Self::slots`] or [`Self::any_route`] found ready.
    pub fn send<R: Request>(
        &mut self,
        now: Now,
        route: Route,
        request: &R,
        token: T,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        self.send_with_timeout(now, route, request, self.config.request_timeout, token, effects)
    }

    /// Sends a request whose answer may take longer than others.
    pub fn send_with_timeout<R: Request>(
        &mut self,
        now: Now,
        route: Route,
        request: &R,
        timeout: Duration,
        token: T,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        self.send_for(now, route, request, timeout, Some(Purpose::Owner(token)), effects)
    }

    /// Sends a request that brokers do not answer (Produce with acks=0).
    pub fn send_unanswered<R: Request>(
        &mut self,
        now: Now,
        route: Route,
        request: &R,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        self.send_for(now, route, request, self.config.request_timeout, None, effects)
    }

    /// The versions that the route's broker serves, once its connection is ready.
    #[must_use]
    pub fn api_versions(&self, route: Route) -> Option<&ApiVersions> {
        self.connection(route).filter(|connection| connection.phase == Phase::Ready).map(|it| &it.versions)
    }

    fn send_for<R: Request>(
        &mut self,
        now: Now,
        route: Route,
        request: &R,
        timeout: Duration,
        purpose: Option<Purpose<T>>,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let peer = self.links.get(&route).and_then(|link| link.peer).ok_or(Failure::Disconnected)?;
        let connection = self.connections.get_mut(&peer).ok_or(Failure::Disconnected)?;
        let frame = connection.send(now, timeout, &self.config.client_id, request, purpose)?;
        effects.push(Effect::Send { peer, frame });
        Ok(())
    }

    fn connection(&self, route: Route) -> Option<&Connection<T>> {
        self.connections.get(&self.links.get(&route)?.peer?)
    }

    fn endpoint(&self, node: Node) -> Option<&Endpoint> {
        match node {
            Node::Bootstrap(index) => self.bootstrap.get(index),
            Node::Broker(id) => self.metadata.broker(id),
        }
    }

    fn connect(&mut self, now: Now, route: Route, effects: &mut Effects) {
        let Some(endpoint) = self.endpoint(route.node).cloned() else { return };
        let link = self.links.entry(route).or_default();
        if link.peer.is_some() {
            return;
        }
        if link.retry_at > now.instant {
            link.awaited = true;
            return;
        }
        let peer = Peer(self.next_peer);
        self.next_peer = self.next_peer.wrapping_add(1);
        link.peer = Some(peer);
        let deadline = now.after(self.config.connect_timeout);
        self.connections.insert(peer, Connection::new(route, endpoint.clone(), deadline));
        effects.push(Effect::Connect { peer, endpoint });
    }

    /// Whom to try next when there is no connection at all: whoever failed least, brokers before bootstrap
    /// endpoints, and among equals anyone.
    fn next_candidate(&mut self, now: Now) -> Option<Route> {
        let brokers = self.metadata.brokers().map(|(id, _)| Node::Broker(id));
        let bootstrap = (0..self.bootstrap.len()).map(Node::Bootstrap);
        let mut candidates = Vec::new();
        for node in brokers.chain(bootstrap) {
            let route = Route { node, lane: Lane::Data };
            let (failures, retry_at) =
                self.links.get(&route).map_or((0, Instant::ZERO), |it| (it.failures, it.retry_at));
            let is_bootstrap = matches!(node, Node::Bootstrap(_));
            candidates.push((retry_at.max(now.instant), failures, is_bootstrap, self.rng.next_u64(), route));
        }
        candidates.into_iter().min().map(|(.., route)| route)
    }

    fn on_connected(&mut self, now: Now, peer: Peer, effects: &mut Effects) {
        self.send_api_versions(now, peer, *ApiVersionsRequest::VERSIONS.end(), effects);
    }

    fn send_api_versions(&mut self, now: Now, peer: Peer, version: i16, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        let ClusterConfig { request_timeout, client_id, .. } = &self.config;
        match connection.send_api_versions(now, *request_timeout, client_id, version) {
            Ok(frame) => effects.push(Effect::Send { peer, frame }),
            Err(failure) => self.close(now, peer, &failure, effects),
        }
    }

    fn on_received(&mut self, now: Now, peer: Peer, frame: &Bytes, effects: &mut Effects) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        match connection.receive(frame) {
            Ok((request, body)) => self.on_response(now, peer, request, body, effects),
            Err(failure) => self.close(now, peer, &failure, effects),
        }
    }

    fn on_response(
        &mut self,
        now: Now,
        peer: Peer,
        request: InFlight<T>,
        body: Bytes,
        effects: &mut Effects,
    ) {
        let InFlight { purpose, version, .. } = request;
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        match purpose {
            Purpose::Owner(token) => {
                self.replies.push_back(Reply { token, route: connection.route, version, result: Ok(body) });
            }
            Purpose::Versions => match negotiate(&body, version) {
                Ok(Negotiated::Versions(versions)) => {
                    connection.versions = versions;
                    connection.phase = Phase::Ready;
                    self.unreachable = None;
                    if let Some(link) = self.links.get_mut(&connection.route) {
                        link.failures = 0;
                    }
                }
                Ok(Negotiated::AskAgain(version)) => self.send_api_versions(now, peer, version, effects),
                Err(failure) => self.close(now, peer, &failure, effects),
            },
            Purpose::Metadata => {
                self.refresh.in_flight = false;
                match MetadataResponse::from_bytes(&body, version) {
                    Ok(response) => self.on_metadata(now, response, effects),
                    Err(error) => self.close(now, peer, &error.into(), effects),
                }
            }
        }
    }

    /// Gives up connections on which waiting took too long.
    fn on_timeout(&mut self, now: Now, effects: &mut Effects) {
        let late =
            self.connections.iter().filter(|(_, it)| it.deadline().is_some_and(|at| at <= now.instant));
        let late: Vec<Peer> = late.map(|(&peer, _)| peer).collect();
        for peer in late {
            self.close(now, peer, &Failure::TimedOut, effects);
        }
    }

    fn close(&mut self, now: Now, peer: Peer, failure: &Failure, effects: &mut Effects) {
        effects.push(Effect::Close { peer });
        self.on_closed(now, peer, failure.to_string(), failure);
    }

    fn on_closed(&mut self, now: Now, peer: Peer, reason: String, failure: &Failure) {
        let Some(mut connection) = self.connections.remove(&peer) else { return };
        let route = connection.route;
        let link = self.links.entry(route).or_default();
        link.peer = None;
        let was_ready = connection.phase == Phase::Ready;
        link.failures += 1;
        link.retry_at = now.after(self.config.reconnect_backoff.after(link.failures, &mut self.rng));
        if !was_ready {
            self.unreachable = Some(Unreachable { endpoint: connection.endpoint.clone(), reason });
        }
        let mut metadata_failed = false;
        for InFlight { purpose, version, .. } in connection.abandon() {
            match purpose {
                Purpose::Versions => {}
                Purpose::Metadata => metadata_failed = true,
                Purpose::Owner(token) => {
                    self.replies.push_back(Reply { token, route, version, result: Err(failure.clone()) });
                }
            }
        }
        if metadata_failed {
            self.on_metadata_failure(now);
        } else {
            // Its leaders may be elsewhere by now.
            self.refresh_metadata(now);
        }
    }
}
