//! The admin client: any request to a broker, to the controller or to a coordinator, with its response.
//!
//! A call is sent again, with backoff, when its connection is lost or when its response carries a retriable
//! error, until its time is up. What the response then says is the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::{Message, Request};
use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, Now, Rng, Str};

use crate::cluster::{Lane, Node, Reply, Route};
use crate::group::coordinator::{self, Kind};
use crate::{Cluster, ClusterConfig, Effects, Endpoint, Failure, Input, Machine};

/// Whom a call is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Whoever answers.
    Any,
    /// One broker.
    Broker(BrokerId),
    /// The controller, by way of the broker that metadata names.
    Controller,
    /// The broker that coordinates the group of this name.
    Coordinator(Str),
    /// The broker that coordinates the transactions of this transactional id.
    TransactionCoordinator(Str),
}

/// What a coordinator is asked for by.
type CoordinatorKey = (Kind, Str);

impl Target {
    fn coordinator(&self) -> Option<CoordinatorKey> {
        match self {
            Self::Coordinator(group) => Some((Kind::Group, group.clone())),
            Self::TransactionCoordinator(id) => Some((Kind::Transaction, id.clone())),
            Self::Any | Self::Broker(_) | Self::Controller => None,
        }
    }
}

/// Names a call until its result is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(u64);

/// What a reply belongs to.
#[derive(Debug)]
enum Token {
    Call(CallId),
    FindCoordinator(CoordinatorKey),
}

/// A request of any type, to be encoded when the broker's versions are known.
trait Call {
    fn send(
        &self,
        now: Now,
        cluster: &mut Cluster<Token>,
        route: Route,
        id: CallId,
        effects: &mut Effects,
    ) -> Result<(), Failure>;

    /// The error that decides whether to try again.
    fn error(&self, reply: &Reply<Token>) -> Result<ErrorCode, Failure>;
}

struct TypedCall<R: Request> {
    request: R,
    error: fn(&R::Response) -> ErrorCode,
}

impl<R: Request> Call for TypedCall<R> {
    fn send(
        &self,
        now: Now,
        cluster: &mut Cluster<Token>,
        route: Route,
        id: CallId,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        cluster.send(now, route, &self.request, Token::Call(id), effects)
    }

    fn error(&self, reply: &Reply<Token>) -> Result<ErrorCode, Failure> {
        Ok((self.error)(&reply.decode::<R>()?))
    }
}

struct Pending {
    target: Target,
    call: Box<dyn Call>,
    deadline: Instant,
    attempts: u32,
    retry_at: Instant,
    in_flight: bool,
    /// The last response, given to the caller if no better one comes in time.
    last: Option<(i16, Bytes)>,
}

/// The admin client; see the module.
pub struct Admin {
    cluster: Cluster<Token>,
    timeout: Duration,
    calls: BTreeMap<CallId, Pending>,
    next_call: u64,
    results: BTreeMap<CallId, Result<(i16, Bytes), Failure>>,
    coordinators: BTreeMap<CoordinatorKey, BrokerId>,
    finding: BTreeSet<CoordinatorKey>,
}

impl Admin {
    /// A client whose calls take at most `timeout` (`default.api.timeout.ms`).
    #[must_use]
    pub fn new(config: ClusterConfig, timeout: Duration, bootstrap: Vec<Endpoint>, rng: Rng) -> Self {
        Self {
            cluster: Cluster::new(config, bootstrap, rng),
            timeout,
            calls: BTreeMap::new(),
            next_call: 0,
            results: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            finding: BTreeSet::new(),
        }
    }

    /// Why no broker can be reached, once each bootstrap endpoint was tried in vain.
    #[must_use]
    pub fn unreachable(&self) -> Option<&crate::Unreachable> {
        self.cluster.unreachable()
    }

    /// What is known of the cluster: its brokers, without topics.
    #[must_use]
    pub const fn metadata(&self) -> &crate::Metadata {
        self.cluster.metadata()
    }

    /// Begins a call. `error` names the error in a response that decides whether it is tried again.
    pub fn call<R: Request + 'static>(
        &mut self,
        now: Now,
        target: Target,
        request: R,
        error: fn(&R::Response) -> ErrorCode,
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let call = Pending {
            target,
            call: Box::new(TypedCall { request, error }),
            deadline: now.after(self.timeout),
            attempts: 0,
            retry_at: now.instant,
            in_flight: false,
            last: None,
        };
        self.calls.insert(id, call);
        id
    }

    /// The result of a call of `R`, once; `None` while there is none.
    pub fn take<R: Request>(&mut self, id: CallId) -> Option<Result<R::Response, Failure>> {
        let result = self.results.remove(&id)?;
        Some(result.and_then(|(version, body)| Ok(R::Response::from_bytes(&body, version)?)))
    }

    fn on_reply(&mut self, now: Now, reply: Reply<Token>) {
        match &reply.token {
            Token::FindCoordinator(sought) => {
                let sought = sought.clone();
                self.on_coordinator(now, &sought, &reply);
            }
            Token::Call(id) => {
                let id = *id;
                self.on_response(now, id, reply);
            }
        }
    }

    fn on_coordinator(&mut self, now: Now, sought: &CoordinatorKey, reply: &Reply<Token>) {
        self.finding.remove(sought);
        let failure = match coordinator::parse(reply) {
            Ok(Ok(broker)) => {
                self.coordinators.insert(sought.clone(), broker);
                return;
            }
            Ok(Err(error)) => (!error.is_retriable()).then_some(Failure::NoCoordinator { error }),
            Err(failure) => (!failure.is_retriable()).then_some(failure),
        };
        let waiting: Vec<CallId> = self.waiting_for(sought).collect();
        for id in waiting {
            match &failure {
                Some(failure) => self.finish(id, Err(failure.clone())),
                None => self.back_off(now, id),
            }
        }
    }

    fn waiting_for(&self, sought: &CoordinatorKey) -> impl Iterator<Item = CallId> {
        let waits = |call: &Pending| !call.in_flight && call.target.coordinator().as_ref() == Some(sought);
        self.calls.iter().filter(move |(_, call)| waits(call)).map(|(&id, _)| id)
    }

    fn back_off(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.in_flight = false;
        call.attempts += 1;
        let wait = self.cluster.config().retry_backoff.after(call.attempts, self.cluster.rng());
        call.retry_at = now.after(wait);
    }

    fn on_response(&mut self, now: Now, id: CallId, reply: Reply<Token>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.call.error(&reply) {
            Ok(error) if error.is_retriable() => {
                call.last = reply.result.ok().map(|body| (reply.version, body));
                if let Some(key) = call.target.coordinator() {
                    self.coordinators.remove(&key);
                }
                self.cluster.refresh_metadata(now);
                self.back_off(now, id);
            }
            Ok(_) => self.finish(id, reply.result.map(|body| (reply.version, body))),
            Err(failure) if failure.is_retriable() => self.back_off(now, id),
            Err(failure) => self.finish(id, Err(failure)),
        }
    }

    fn finish(&mut self, id: CallId, result: Result<(i16, Bytes), Failure>) {
        if self.calls.remove(&id).is_some() {
            self.results.insert(id, result);
        }
    }

    /// Ends calls whose time is up and sends those that can be sent.
    fn advance(&mut self, now: Now, effects: &mut Effects) {
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            if call.deadline <= now.instant {
                let last = call.last.take();
                self.finish(id, last.ok_or(Failure::TimedOut));
            } else if !call.in_flight && call.retry_at <= now.instant {
                self.send(now, id, effects);
            }
        }
    }

    fn send(&mut self, now: Now, id: CallId, effects: &mut Effects) {
        let Some(target) = self.calls.get(&id).map(|call| call.target.clone()) else { return };
        let Some(route) = self.route(now, target, effects) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.call.send(now, &mut self.cluster, route, id, effects) {
            Ok(()) => call.in_flight = true,
            Err(failure) => self.finish(id, Err(failure)),
        }
    }

    /// The connection for a target, if it is ready; else it is being made.
    fn route(&mut self, now: Now, target: Target, effects: &mut Effects) -> Option<Route> {
        let node = match &target {
            Target::Any => return self.cluster.any_route(now, effects),
            Target::Broker(id) => Node::Broker(*id),
            Target::Controller => match self.cluster.metadata().controller {
                Some(id) => Node::Broker(id),
                None => {
                    return self
                        .cluster
                        .any_route(now, effects)
                        .filter(|_| self.cluster.metadata().is_known());
                }
            },
            Target::Coordinator(_) | Target::TransactionCoordinator(_) => {
                let sought = target.coordinator()?;
                match self.coordinators.get(&sought) {
                    Some(&id) => Node::Broker(id),
                    None => {
                        self.find_coordinator(now, sought, effects);
                        return None;
                    }
                }
            }
        };
        let route = Route { node, lane: Lane::Data };
        (self.cluster.slots(now, route, effects) > 0).then_some(route)
    }

    fn find_coordinator(&mut self, now: Now, sought: CoordinatorKey, effects: &mut Effects) {
        if self.finding.contains(&sought) {
            return;
        }
        let Some(route) = self.cluster.any_route(now, effects) else { return };
        let (token, request) =
            (Token::FindCoordinator(sought.clone()), coordinator::request(sought.0, &sought.1));
        if self.cluster.send(now, route, &request, token, effects).is_ok() {
            self.finding.insert(sought);
        }
    }
}

impl Machine for Admin {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        self.cluster.handle(now, input, effects);
        while let Some(reply) = self.cluster.next_reply() {
            self.on_reply(now, reply);
        }
        // Metadata goes first, so that a call for anyone finds the connection that it opens.
        self.cluster.poll(now, effects);
        self.advance(now, effects);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values().map(|call| {
            let waits_for_time =
                !call.in_flight && call.attempts > 0 && call.retry_at > self.cluster.polled_at();
            if waits_for_time { call.retry_at.min(call.deadline) } else { call.deadline }
        });
        calls.chain(self.cluster.next_timeout()).min()
    }
}

#[cfg(test)]
mod tests {
    use dohle_protocol::messages::{DeleteGroupsRequest, ListOffsetsRequest, MetadataRequest};
    use expect_test::{Expect, expect};

    use super::*;
    use crate::fake::World;

    fn world(bootstrap: &[&str]) -> World<Admin> {
        let bootstrap = bootstrap.iter().map(|text| text.parse().unwrap()).collect();
        let admin =
            Admin::new(ClusterConfig::default(), Duration::from_secs(60), bootstrap, Rng::from_seed(1));
        World::new(admin, 1, 1)
    }

    /// Begins a call for anyone and goes on until it has a result.
    fn call(world: &mut World<Admin>) -> Result<(), Failure> {
        let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        let id = world.machine.call(world.now(), Target::Any, request, |_| ErrorCode::None);
        loop {
            if let Some(result) = world.machine.take::<MetadataRequest>(id) {
                return result.map(|_| ());
            }
            assert!(world.step());
        }
    }

    fn check(world: &mut World<Admin>, expected: Expect) {
        let result = call(world);
        expected.assert_eq(&format!("{}{result:?}", std::mem::take(&mut world.trace)));
    }

    #[test]
    fn a_connection_begins_with_the_versions_and_the_metadata() {
        let mut world = world(&["broker:9092"]);
        check(
            &mut world,
            expect![[r#"
            connect broker:9092
            ApiVersions v4
            Metadata v13
            Metadata v13
            Ok(())"#]],
        );
        // The bootstrap connection has become the broker's.
        check(
            &mut world,
            expect![[r#"
            Metadata v13
            Ok(())"#]],
        );
    }

    #[test]
    fn an_older_broker_is_asked_again_in_a_version_that_it_knows() {
        let mut world = world(&["broker:9092"]);
        world.api_versions_refused_from = 3;
        check(
            &mut world,
            expect![[r#"
            connect broker:9092
            ApiVersions v4
            ApiVersions v2
            Metadata v13
            Metadata v13
            Ok(())"#]],
        );
    }

    #[test]
    fn the_next_bootstrap_endpoint_is_tried_when_one_fails() {
        let mut world = world(&["gone:1", "broker:9092"]);
        while world.machine.metadata().controller.is_none() {
            assert!(world.step());
        }
        assert!(world.machine.unreachable().is_none());
        assert!(
            world.trace.ends_with("connect broker:9092\nApiVersions v4\nMetadata v13\n"),
            "{}",
            world.trace
        );
    }

    #[test]
    fn when_nobody_answers_it_says_so() {
        let mut world = world(&["gone:1"]);
        while world.machine.unreachable().is_none() {
            assert!(world.step());
        }
        let unreachable = world.machine.unreachable().unwrap();
        assert_eq!(unreachable.to_string(), "no broker answers at gone:1 (connection refused)");
        assert_eq!(call(&mut world), Err(Failure::TimedOut));
        assert!((40..200).contains(&world.trace.matches("connect").count()), "tries go on, with backoff");
    }

    #[test]
    fn a_call_is_sent_again_when_its_connection_breaks() {
        let mut world = world(&["broker:9092"]);
        call(&mut world).unwrap();
        world.faults.break_connection = 50;
        for _ in 0..20 {
            call(&mut world).unwrap();
        }
    }

    #[test]
    fn a_retriable_error_is_the_result_when_time_is_up() {
        let mut world = world(&["broker:9092"]);
        let id = world.machine.call(world.now(), Target::Controller, ListOffsetsRequest::default(), |_| {
            ErrorCode::LeaderNotAvailable
        });
        let begun = world.now().instant;
        let mut woken = begun;
        let result = loop {
            if let Some(result) = world.machine.take::<ListOffsetsRequest>(id) {
                break result;
            }
            woken = world.now().instant;
            assert!(world.step());
        };
        assert!(result.is_ok(), "the last response is better than none");
        assert_eq!(woken - begun, Duration::from_secs(60));
    }

    #[test]
    fn what_the_broker_does_not_serve_is_said() {
        let mut world = world(&["broker:9092"]);
        let request = DeleteGroupsRequest::default();
        let id = world.machine.call(world.now(), Target::Any, request, |_| ErrorCode::None);
        let result = loop {
            if let Some(result) = world.machine.take::<DeleteGroupsRequest>(id) {
                break result;
            }
            assert!(world.step());
        };
        assert_eq!(result.unwrap_err(), Failure::Unsupported { api: "DeleteGroups" });
    }
}
