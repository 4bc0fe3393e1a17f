//! The world: one clock, one queue of events, one source of chance, and everything that happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dohle_broker::host::{ConnectionId, Input, JobToken};
use dohle_client::group::GroupProtocol;
use dohle_client::{Effect as ClientEffect, Input as ClientInput, Peer};
use dohle_protocol::FrameDecoder;
use dohle_storage::disk::LogDir;
use dohle_storage::memory_disk::MemoryDisk;
use dohle_types::time::Instant;
use dohle_types::{Now, Rng, Str, TopicPartition};

use crate::clients::{
    Actor, Churner, Forker, Member, OffsetReader, Promises, Reader, Record, Sender, Shared, TopicCreator,
};
use crate::flips::Flip;
use crate::invariants::Invariants;
use crate::marks::Mark;
use crate::network::{End as LinkEnd, Network, Transit};
use crate::plan::{self, End, Fault, GroupPlan, Plan};
use crate::process::{Process, wall};
use crate::trace::Trace;

/// How long everything that is under way may take once all is well.
const LIVENESS_MAX: Duration = Duration::from_secs(240);

/// No run has so many events; one that has them goes round in a circle.
const EVENTS_MAX: u64 = 3_000_000;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection attempt reaches the node.
    Connect(ConnectionId),
    /// The client learns that its connection stands.
    Connected(ConnectionId),
    ToNode(ConnectionId, Bytes),
    ToClient(ConnectionId, Bytes),
    ClosedAtNode(ConnectionId),
    ClosedAtClient(ConnectionId),
    StartNode,
    Tick(u32),
    SyncDone(u32),
    TaskDone(u32, LogDir),
    JobStep(u32, JobToken),
    Wake(usize),
    Fault(Fault),
    Heal,
}

/// How far a run has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// Things go wrong.
    Faults,
    /// All is well, and what producers have begun ends.
    Settling,
    /// Somebody reads everything.
    Reading,
    /// All consumers come to the end, and groups commit it.
    CatchingUp,
    /// The node ended once more; the log and the offsets are read for the last time.
    LastLook,
    Done,
}

impl Stage {
    pub(crate) fn is_healed(self) -> bool {
        self > Self::Faults
    }
}

struct Client {
    actor: Role,
    peers: BTreeMap<Peer, ConnectionId>,
    wake_at: Option<Instant>,
}

/// The clients there are.
enum Role {
    Creator(TopicCreator),
    Churner(Churner),
    Forker(Box<Forker>),
    Sender(Box<Sender>),
    Reader(Box<Reader>),
    Member(Box<Member>),
    Offsets(OffsetReader),
}

/// The world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) stage: Stage,
    pub(crate) disk: MemoryDisk,
    pub(crate) process: Option<Process>,
    /// How often the node was started.
    pub(crate) life: u32,
    pub(crate) network: Network,
    pub(crate) shared: Shared,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    /// The node ends after so many more changes to files.
    pub(crate) end_after: Option<(u64, End)>,
    pub(crate) fail_next_sync: bool,
    /// So many changes to files, or reads of them, succeed before one fails.
    pub(crate) fail_change: Option<u64>,
    pub(crate) fail_read: Option<u64>,
    /// Bits that are not as they were written.
    pub(crate) flips: Vec<Flip>,
    /// Log dirs that have failed since the node was started.
    pub(crate) failed_log_dirs: BTreeSet<LogDir>,
    queue: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    clients: Vec<Client>,
    /// By when the stage has to be over.
    deadline: Instant,
}

impl World {
    /// The world of this seed, before anything happened.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::from_seed(seed);
        let plan = Plan::draw(&mut rng);
        let network = Network::new(plan.network, rng.fork());
        let shared = Shared::new(rng.fork());
        let mut world = Self {
            deadline: plan.heal_at + LIVENESS_MAX,
            plan,
            rng,
            now: Duration::ZERO,
            stage: Stage::Faults,
            disk: MemoryDisk::default(),
            process: None,
            life: 0,
            network,
            shared,
            invariants: Invariants::default(),
            trace,
            end_after: None,
            fail_next_sync: false,
            fail_change: None,
            fail_read: None,
            flips: Vec::new(),
            failed_log_dirs: BTreeSet::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            clients: Vec::new(),
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        self.schedule(Duration::ZERO, Event::StartNode);
        self.schedule(self.plan.heal_at, Event::Heal);
        let has_room = !self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::FillDisk(..)));
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            self.schedule(at, Event::Fault(fault));
        }
        if !self.plan.auto_create {
            let creator = TopicCreator::new(self.plan.topics.clone(), &mut self.shared);
            self.add(Role::Creator(creator));
        }
        if self.plan.churn {
            let trash_ms = self.plan.config().value(dohle_configs::broker::DOHLE_TOPIC_TRASH_MS);
            // Where a disk runs short, the trash goes first.
            let trash = trash_ms >= 86_400_000 && has_room;
            let promises = Promises { durable: self.plan.durable, trash };
            let churner = Churner::new(&mut self.shared, promises);
            self.add(Role::Churner(churner));
        }
        if self.plan.fork
            && let Some((topic, partitions)) = self.plan.topics.first().cloned()
        {
            let partition = self.rng.below(u64::from(partitions.unsigned_abs()));
            let partition = i32::try_from(partition).unwrap_or_default();
            let forker = Forker::new(&topic, partition, &mut self.shared);
            self.add(Role::Forker(Box::new(forker)));
        }
        for index in 0..self.plan.producers.len() {
            let sender = self.sender(index);
            self.add(sender);
        }
        for _ in 0..self.plan.readers {
            let reader = self.reader(Record::AsReader);
            self.add(reader);
        }
        for GroupPlan { name, members, .. } in self.plan.groups.clone() {
            for protocol in members {
                let member = self.member(&name, protocol);
                self.add(member);
            }
        }
    }

    /// Lets everything happen until the end, or until something is wrong.
    pub(crate) fn run(&mut self) {
        while self.stage != Stage::Done && self.is_well() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            if self.stage.is_healed() && at > self.deadline || self.trace.events() > EVENTS_MAX {
                let waits: Vec<String> = self.waits_for();
                self.invariants.violate(format!("{:?} does not end: {}", self.stage, waits.join("; ")));
                break;
            }
            self.happen(event);
            self.advance();
        }
    }

    pub(crate) fn schedule(&mut self, at: Instant, event: Event) {
        self.queue.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn is_well(&self) -> bool {
        self.invariants.violations().is_empty() && self.shared.violations.is_empty()
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Connect(id) => {
                self.on_connect(id);
                self.finish_round();
            }
            Event::Connected(id) => {
                let link = self.network.link(id).filter(|link| link.client_open && !link.cut);
                if let Some((client, peer)) = link.map(|link| (link.client, link.peer)) {
                    self.step(client, ClientInput::Connected { peer });
                }
            }
            Event::ToNode(id, bytes) => {
                self.tell_space();
                self.trace.note(now, "to node", id.0, u64::from(crc32c::crc32c(&bytes)), || {
                    format!("{id:?} {} bytes", bytes.len())
                });
                self.on_to_node(id, &bytes);
                // What arrives at the same moment is handled in the same round, as the event loop does it.
                while let Some(entry) = self.queue.first_entry()
                    && entry.key().0 == now
                    && matches!(entry.get(), Event::ToNode(..))
                    && let Event::ToNode(id, bytes) = entry.remove()
                {
                    self.on_to_node(id, &bytes);
                }
                self.finish_round();
            }
            Event::ToClient(id, bytes) => {
                self.trace.note(now, "to client", id.0, u64::from(crc32c::crc32c(&bytes)), || {
                    format!("{id:?} {} bytes", bytes.len())
                });
                self.on_bytes_at_client(id, &bytes);
            }
            Event::ClosedAtNode(id) => {
                if let Some(link) = self.network.link(id).filter(|link| link.node_open) {
                    link.node_open = false;
                    self.trace.note(now, "closed", id.0, 0, || format!("{id:?} at the node"));
                    self.network.forget_closed(id);
                    self.handle(Input::Closed { connection: id });
                    self.finish_round();
                }
            }
            Event::ClosedAtClient(id) => self.on_closed_at_client(id),
            Event::StartNode => self.start_node(),
            Event::Tick(life) if life == self.life => self.on_tick(),
            Event::SyncDone(life) if life == self.life => {
                self.trace.note(now, "synced", 0, 0, String::new);
                self.on_sync_done();
            }
            Event::JobStep(life, token) if life == self.life => {
                self.trace.note(now, "job", token.0, 0, || format!("{token:?}"));
                self.on_job_step(token);
            }
            Event::TaskDone(life, log_dir) if life == self.life => {
                self.trace.note(now, "flushed", u64::from(log_dir.0), 0, || format!("{log_dir:?}"));
                self.on_task_done(log_dir);
            }
            Event::Tick(_) | Event::SyncDone(_) | Event::TaskDone(..) | Event::JobStep(..) => {}
            Event::Wake(client) => {
                let due = self.clients.get(client).and_then(|client| client.wake_at);
                if due.is_some_and(|due| due <= now) {
                    self.step(client, ClientInput::Wake);
                }
            }
            Event::Fault(fault) => self.on_fault(fault),
            Event::Heal => self.heal(),
        }
    }

    fn on_fault(&mut self, fault: Fault) {
        self.trace.note(self.now, "fault", 0, 0, || format!("{fault:?}"));
        match fault {
            Fault::End(End::Stop, _) => self.stop_node(),
            Fault::End(end, 0) => self.end_node(end),
            Fault::End(end, after) => self.end_after = Some((after, end)),
            Fault::FailSync => self.fail_next_sync = true,
            Fault::FailChange(after) => self.fail_change = Some(after),
            Fault::FailRead(after) => self.fail_read = Some(after),
            Fault::FlipBit(drawn) => self.flip_bit(drawn),
            Fault::FillDisk(room, duration) => {
                self.disk.capacity = Some(self.disk.used() + room);
                self.schedule(self.now + duration, Event::Fault(Fault::EmptyDisk));
            }
            Fault::EmptyDisk => self.disk.capacity = None,
            Fault::Move(drawn) => self.move_partitions(drawn),
            Fault::Stall(duration) => self.network.stall(self.now + duration),
            Fault::KillClient(drawn) => self.kill_client(drawn),
        }
    }

    fn stop_node(&mut self) {
        self.handle(Input::Stop);
        self.finish_round();
    }

    fn heal(&mut self) {
        self.trace.note(self.now, "heal", 0, 0, String::new);
        self.stage = Stage::Settling;
        self.network.healed = true;
        self.shared.quiet = true;
        self.end_after = None;
        self.fail_next_sync = false;
        (self.fail_change, self.fail_read) = (None, None);
        self.disk.capacity = None;
        if !self.failed_log_dirs.is_empty() {
            // A log dir that has failed is used again by the next start alone.
            self.end_failed_node();
        }
        self.restore_flipped();
        self.start_node();
        for client in 0..self.clients.len() {
            self.step(client, ClientInput::Wake);
        }
    }

    /// Goes on to the next stage when this one is over.
    fn advance(&mut self) {
        match self.stage {
            Stage::Faults | Stage::Done => return,
            Stage::Settling | Stage::Reading | Stage::CatchingUp | Stage::LastLook => {}
        }
        if !self.waits_for().is_empty() {
            return;
        }
        self.trace.note(self.now, "stage", 0, 0, || format!("{:?} is over", self.stage));
        self.deadline = self.now + LIVENESS_MAX;
        match self.stage {
            Stage::Settling => {
                self.stage = Stage::Reading;
                let reader = self.reader(Record::AsReaderToTheEnd);
                self.add(reader);
            }
            Stage::Reading => {
                self.stage = Stage::CatchingUp;
                self.shared.ends = self.clients.iter().find_map(Client::ends).unwrap_or_default();
                self.name_topics();
            }
            Stage::CatchingUp => {
                self.stage = Stage::LastLook;
                match self.plan.last_end {
                    End::Stop => self.stop_node(),
                    end @ (End::Kill | End::PowerLoss) => self.end_node(end),
                }
                let reader = self.reader(Record::AsLog);
                self.add(reader);
                for group in self.plan.groups.clone() {
                    let offsets = OffsetReader::new(&group.name, &mut self.shared);
                    self.add(Role::Offsets(offsets));
                }
            }
            Stage::Faults | Stage::LastLook | Stage::Done => self.stage = Stage::Done,
        }
    }

    /// What the stage waits for.
    fn waits_for(&self) -> Vec<String> {
        let concerns = |role: &Role| match (self.stage, role) {
            (Stage::Settling, Role::Creator(_) | Role::Churner(_) | Role::Forker(_) | Role::Sender(_)) => {
                true
            }
            (Stage::Reading, Role::Reader(reader)) => reader.finds_ends(),
            (Stage::CatchingUp, Role::Reader(_) | Role::Member(_)) => true,
            (Stage::LastLook, Role::Reader(_) | Role::Offsets(_)) => true,
            _ => false,
        };
        let clients = self.clients.iter().filter(|client| concerns(&client.actor));
        let mut waits: Vec<String> =
            clients.filter_map(|client| client.actor.as_actor().waits_for(&self.shared)).collect();
        if self.stage == Stage::CatchingUp {
            waits.extend(self.without_owner());
        }
        if self.process.as_ref().is_none_or(|process| !process.is_ready) {
            waits.push("the node does not serve".to_owned());
        }
        waits
    }

    /// Partitions that no member of a group has.
    fn without_owner(&self) -> Option<String> {
        let partitions = self.partitions();
        self.plan.groups.iter().find_map(|group| {
            let has = |client: &Client, partition: &TopicPartition| match &client.actor {
                Role::Member(member) => **member.group() == *group.name && member.has(partition),
                Role::Sender(_)
                | Role::Creator(_)
                | Role::Churner(_)
                | Role::Reader(_)
                | Role::Forker(_)
                | Role::Offsets(_) => false,
            };
            let alone = partitions.iter().find(|it| !self.clients.iter().any(|client| has(client, it)))?;
            Some(format!("nobody in group {} has {alone}", group.name))
        })
    }

    fn name_topics(&mut self) {
        let Some(process) = &self.process else { return };
        let topics = process.node.image().topics();
        self.shared.topic_names = topics.map(|topic| (topic.id, topic.name.clone())).collect();
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let of_topic = |(name, count): &(String, i32)| {
            let name = Str::from(name);
            (0..*count).map(move |partition| TopicPartition::new(name.clone(), partition))
        };
        self.plan.topics.iter().flat_map(of_topic).collect()
    }

    fn sender(&mut self, index: usize) -> Role {
        let plan = self.plan.producers[index];
        Role::Sender(Box::new(Sender::new(plan, self.partitions(), &self.plan, &mut self.shared)))
    }

    fn reader(&mut self, record: Record) -> Role {
        Role::Reader(Box::new(Reader::new(record, &self.partitions(), &mut self.shared)))
    }

    fn member(&mut self, group: &str, protocol: GroupProtocol) -> Role {
        let topics: BTreeSet<Str> = self.plan.topics.iter().map(|(name, _)| Str::from(name)).collect();
        Role::Member(Box::new(Member::new(group, protocol, topics, &mut self.shared)))
    }

    fn add(&mut self, actor: Role) {
        self.clients.push(Client { actor, peers: BTreeMap::new(), wake_at: Some(self.now) });
        let at = self.network.arrival(self.now);
        self.clients.last_mut().into_iter().for_each(|client| client.wake_at = Some(at));
        self.schedule(at, Event::Wake(self.clients.len() - 1));
    }

    /// A client's process is killed, and another one like it takes its place.
    fn kill_client(&mut self, drawn: u64) {
        let killable = |client: &Client| matches!(client.actor, Role::Sender(_) | Role::Member(_));
        let places: Vec<usize> = (0..self.clients.len()).filter(|&it| killable(&self.clients[it])).collect();
        let Some(&place) = places.get(usize::try_from(drawn % (places.len() as u64).max(1)).unwrap_or(0))
        else {
            return;
        };
        for id in self.network.of_client(place) {
            self.close_by_client(id);
        }
        let actor = match &self.clients[place].actor {
            Role::Member(member) => {
                let (group, mut protocol) = (member.group().clone(), member.protocol());
                if self.plan.groups.iter().any(|plan| *plan.name == *group && plan.migrates) {
                    protocol = plan::protocol(&mut self.rng);
                }
                self.member(&group, protocol)
            }
            Role::Sender(_)
            | Role::Creator(_)
            | Role::Churner(_)
            | Role::Forker(_)
            | Role::Reader(_)
            | Role::Offsets(_) => {
                let index = usize::try_from(drawn % self.plan.producers.len() as u64).unwrap_or(0);
                self.sender(index)
            }
        };
        self.shared.marks.sometimes(Mark::ClientKilled, true);
        let at = self.now + Duration::from_millis(self.rng.below(500));
        self.clients[place] = Client { actor, peers: BTreeMap::new(), wake_at: Some(at) };
        self.schedule(at, Event::Wake(place));
    }

    /// A client takes in what happened and does what it wants.
    fn step(&mut self, index: usize, input: ClientInput) {
        let now = Now { instant: self.now, wall: wall(self.now, 0) };
        let Some(client) = self.clients.get_mut(index) else { return };
        let mut effects = Vec::new();
        client.actor.as_actor_mut().step(now, input, &mut self.shared, &mut effects);
        for effect in effects {
            self.carry_out_for_client(index, effect);
        }
        self.wake_in_time(index);
    }

    fn wake_in_time(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(due) = client.actor.as_actor().next_timeout() else {
            client.wake_at = None;
            return;
        };
        let due = due.max(self.now + Duration::from_millis(1));
        if client.wake_at != Some(due) {
            client.wake_at = Some(due);
            self.schedule(due, Event::Wake(index));
        }
    }

    fn carry_out_for_client(&mut self, client: usize, effect: ClientEffect) {
        match effect {
            ClientEffect::Connect { peer, .. } => {
                let id = self.network.connect(client, peer);
                self.clients[client].peers.insert(peer, id);
                let at = self.network.arrival_at(self.now, id, LinkEnd::Node);
                self.schedule(at, Event::Connect(id));
            }
            ClientEffect::Send { peer, frame } => {
                if let Some(&id) = self.clients[client].peers.get(&peer) {
                    self.send(id, LinkEnd::Node, frame.into_bytes());
                }
            }
            ClientEffect::Close { peer } => {
                if let Some(id) = self.clients[client].peers.remove(&peer) {
                    self.close_by_client(id);
                }
            }
        }
    }

    fn on_connect(&mut self, id: ConnectionId) {
        let Some(link) = self.network.link(id).filter(|link| link.client_open) else { return };
        let at_port = ("broker.sim".to_owned(), 9092);
        if self.process.as_ref().is_some_and(|process| process.is_ready) {
            link.node_open = true;
            let client_host = format!("10.0.0.{}", link.client);
            self.handle(Input::Opened { connection: id, client_host, local: at_port });
            let at = self.network.arrival_at(self.now, id, LinkEnd::Client);
            self.schedule(at, Event::Connected(id));
        } else {
            let at = self.network.arrival_at(self.now, id, LinkEnd::Client);
            self.schedule(at, Event::ClosedAtClient(id));
        }
    }

    pub(crate) fn send(&mut self, id: ConnectionId, to: LinkEnd, bytes: Bytes) {
        let Some(link) = self.network.link(id) else { return };
        if link.cut || to == LinkEnd::Client && !link.client_open {
            return;
        }
        match self.network.send(self.now, id, to, bytes) {
            Transit::Arrives(pieces) => {
                for (at, piece) in pieces {
                    let event = match to {
                        LinkEnd::Node => Event::ToNode(id, piece),
                        LinkEnd::Client => Event::ToClient(id, piece),
                    };
                    self.schedule(at, event);
                }
            }
            Transit::Breaks { node, client } => {
                self.trace.note(self.now, "break", id.0, 0, || format!("{id:?}"));
                self.shared.marks.sometimes(Mark::ConnectionBroken, true);
                if let Some(link) = self.network.link(id) {
                    link.cut = true;
                }
                self.schedule(node, Event::ClosedAtNode(id));
                self.schedule(client, Event::ClosedAtClient(id));
            }
        }
    }

    fn on_to_node(&mut self, id: ConnectionId, bytes: &Bytes) {
        let Some(link) = self.network.link(id).filter(|link| !link.cut) else { return };
        if link.node_open {
            self.on_bytes_at_node(id, bytes);
        } else if link.client_open {
            // Nobody knows this connection any more: the system resets it.
            let at = self.network.arrival_at(self.now, id, LinkEnd::Client);
            self.schedule(at, Event::ClosedAtClient(id));
        }
    }

    fn on_bytes_at_client(&mut self, id: ConnectionId, bytes: &Bytes) {
        let Some(link) = self.network.link(id).filter(|link| link.client_open && !link.cut) else { return };
        link.client_buffer.extend_from_slice(bytes);
        let (client, peer) = (link.client, link.peer);
        loop {
            let Some(link) = self.network.link(id).filter(|link| link.client_open) else { return };
            match FrameDecoder::new(usize::MAX >> 1).next(&mut link.client_buffer) {
                Ok(Some(frame)) => {
                    let frame = BytesMut::from(&*frame).freeze();
                    self.step(client, ClientInput::Received { peer, frame });
                }
                Ok(None) => return,
                Err(error) => return self.invariants.violate(format!("the node sent no frame: {error}")),
            }
        }
    }

    fn on_closed_at_client(&mut self, id: ConnectionId) {
        let Some(link) = self.network.link(id).filter(|link| link.client_open) else { return };
        link.client_open = false;
        let (client, peer) = (link.client, link.peer);
        self.trace.note(self.now, "closed", id.0, 1, || format!("{id:?} at client {client}"));
        self.network.forget_closed(id);
        if let Some(client) = self.clients.get_mut(client) {
            client.peers.remove(&peer);
        }
        self.step(client, ClientInput::Closed { peer, reason: "connection reset".to_owned() });
    }

    /// A client closes its end: what is under way is lost, or arrives all the same.
    fn close_by_client(&mut self, id: ConnectionId) {
        let cuts = self.rng.chance(1, 2);
        let Some(link) = self.network.link(id) else { return };
        link.client_open = false;
        link.cut |= cuts;
        let at = self.network.arrival_at(self.now, id, LinkEnd::Node);
        self.schedule(at, Event::ClosedAtNode(id));
        self.network.forget_closed(id);
    }

    /// The node closes its end, after what it sent before.
    pub(crate) fn close_by_node(&mut self, id: ConnectionId) {
        let Some(link) = self.network.link(id) else { return };
        link.node_open = false;
        self.handle(Input::Closed { connection: id });
        let at = self.network.arrival_at(self.now, id, LinkEnd::Client);
        self.schedule(at, Event::ClosedAtClient(id));
    }

    /// The process is gone. Its system tells the clients, if it is still there.
    pub(crate) fn drop_connections_of_node(&mut self, system_is_there: bool) {
        for id in self.network.of_node() {
            let at = self.network.arrival_at(self.now, id, LinkEnd::Client);
            let Some(link) = self.network.link(id) else { continue };
            link.node_open = false;
            link.node_buffer.clear();
            if system_is_there {
                self.schedule(at, Event::ClosedAtClient(id));
            }
            self.network.forget_closed(id);
        }
    }
}

impl Client {
    fn ends(&self) -> Option<BTreeMap<TopicPartition, dohle_types::Offset>> {
        match &self.actor {
            Role::Reader(reader) if reader.finds_ends() => reader.ends(),
            Role::Reader(_)
            | Role::Creator(_)
            | Role::Churner(_)
            | Role::Forker(_)
            | Role::Sender(_)
            | Role::Member(_)
            | Role::Offsets(_) => None,
        }
    }
}

impl Role {
    fn as_actor(&self) -> &dyn Actor {
        match self {
            Self::Creator(actor) => actor,
            Self::Churner(actor) => actor,
            Self::Forker(actor) => &**actor,
            Self::Sender(actor) => &**actor,
            Self::Reader(actor) => &**actor,
            Self::Member(actor) => &**actor,
            Self::Offsets(actor) => actor,
        }
    }

    fn as_actor_mut(&mut self) -> &mut dyn Actor {
        match self {
            Self::Creator(actor) => actor,
            Self::Churner(actor) => actor,
            Self::Forker(actor) => &mut **actor,
            Self::Sender(actor) => &mut **actor,
            Self::Reader(actor) => &mut **actor,
            Self::Member(actor) => &mut **actor,
            Self::Offsets(actor) => actor,
        }
    }
}
