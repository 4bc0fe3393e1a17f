//! What each client goes through. All of them take one phase, then the broker is restarted or killed under all of them, and they take the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::batches;
use super::broker::Broker;
use super::client::{Client, Member, Protocol};
use super::process::Result;
use super::reading::{Reading, Topic};
use super::report::{self, Report};

/// How long records and assignments may take to come.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long nothing more must come after all has come.
const QUIET: Duration = Duration::from_millis(300);
/// How many clients take a phase at the same time; mostly they wait.
const AT_ONCE: usize = 3;
const PARTITIONS: [i32; 4] = [0, 1, 2, 3];

/// Where the broker is.
struct Place<'a> {
    bootstrap: &'a str,
    data: &'a Path,
}

/// One client on its way through the phases.
struct Traveller<'a> {
    topic: Topic<'a>,
    reading: Reading,
    member: Option<Member>,
    /// Another client that speaks the consumer protocol, if there is one.
    companion: Option<&'a Client>,
    failed: bool,
}

type Phase<'a> = fn(&mut Traveller<'a>, &Place<'_>) -> Result<()>;

/// Takes all clients through all phases.
pub(crate) fn run<'a>(report: &Report, broker: &mut Broker, clients: &[&'a Client], epoch: u64) {
    let new = |client: &'a Client| Traveller {
        topic: Topic::new(client, epoch),
        reading: Reading::default(),
        member: None,
        companion: clients.iter().copied().find(|other| other.consumer_protocol && other.name != client.name),
        failed: false,
    };
    let mut travellers: Vec<Traveller<'_>> = clients.iter().map(|&client| new(client)).collect();
    phase(report, broker, &mut travellers, "create, produce with each codec, consume by group", begin);
    let restart = |broker: &mut Broker| broker.stop().and_then(|()| broker.resume().map(drop));
    if !report.step("broker", "restart after SIGTERM", || restart(broker)) {
        return;
    }
    phase(report, broker, &mut travellers, "go on where it was after the restart", go_on);
    // kcat commits every 5 seconds.
    let commit = || thread::sleep(Duration::from_millis(5500));
    commit();
    if !report.step("broker", "restart after SIGTERM with live members", || restart(broker)) {
        return;
    }
    phase(report, broker, &mut travellers, "go on through the restart as a live member", stay);
    commit();
    broker.kill();
    if !report.step("broker", "restart after kill -9 with live members", || broker.resume().map(drop)) {
        return;
    }
    phase(report, broker, &mut travellers, "go on through kill -9 as a live member", stay);
    phase(report, broker, &mut travellers, "two members share, one leaves, the other takes over", share);
    let mut fixed: Vec<_> = travellers.extract_if(.., |traveller| traveller.topic.client.instances).collect();
    phase(report, broker, &mut fixed, "a static member restarts without a rebalance", restart_static);
    travellers.extend(fixed);
    let mut modern: Vec<_> =
        travellers.extract_if(.., |traveller| traveller.topic.client.consumer_protocol).collect();
    let what = "two members of the consumer protocol share, one leaves, the other takes over";
    phase(report, broker, &mut modern, what, share_by_consumer_protocol);
    let what = "a group moves from the classic to the consumer protocol and back with its members";
    phase(report, broker, &mut modern, what, migrate);
    travellers.extend(modern);
    phase(report, broker, &mut travellers, "offsets by time; codecs and producer ids on disk", look_up);
    travellers.retain(|traveller| traveller.topic.client.admin);
    phase(report, broker, &mut travellers, "delete the topic, create it again", replace);
}

fn phase<'a>(
    report: &Report,
    broker: &mut Broker,
    travellers: &mut [Traveller<'a>],
    what: &str,
    act: Phase<'a>,
) {
    let (bootstrap, data) = (broker.bootstrap(), broker.data());
    let place = Place { bootstrap: &bootstrap, data: &data };
    let on_their_way = travellers.iter_mut().filter(|traveller| !traveller.failed);
    report::each(AT_ONCE, on_their_way, |traveller| {
        let who = traveller.topic.client.name;
        if !report.step(who, what, || act(traveller, &place)) {
            println!("        {who:<16} takes no further step");
            traveller.failed = true;
            traveller.member = None;
        }
    });
    if !broker.alive() {
        report.step("broker", "is alive", || Err(format!("the broker has ended\n{}", broker.said())));
    }
}

fn begin(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    traveller.topic.client.run(&["create", place.bootstrap, &traveller.topic.name, "4"])?;
    traveller.topic.produce(place.bootstrap, 200, &["none", "gzip", "snappy", "lz4", "zstd"])?;
    let mut member = traveller.join(place, "group", Protocol::Classic)?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut member])?;
    if member.assigned != PARTITIONS {
        return Err(format!("the only member of the group has the partitions {:?}", member.assigned));
    }
    traveller.leave(member)
}

fn go_on(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    traveller.topic.produce(place.bootstrap, 100, &["lz4"])?;
    let mut member = traveller.join(place, "group", Protocol::Classic)?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut member])?;
    traveller.member = Some(member);
    Ok(())
}

fn stay(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    traveller.topic.produce(place.bootstrap, 100, &["zstd"])?;
    let member = traveller.member.as_mut().ok_or("there is no member")?;
    read(&traveller.topic, &mut traveller.reading, &mut [member])
}

fn share(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    let mut first = traveller.member.take().ok_or("there is no member")?;
    let mut second = traveller.join(place, "group", Protocol::Classic)?;
    shared(&traveller.topic, &mut traveller.reading, &mut first, &mut second)?;
    traveller.topic.produce(place.bootstrap, 100, &["gzip"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first, &mut second])?;
    traveller.leave(second)?;
    has_all(traveller, &mut first)?;
    traveller.topic.produce(place.bootstrap, 100, &["snappy"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first])?;
    traveller.leave(first)
}

fn restart_static(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    // Another group begins from the earliest offset.
    traveller.reading = Reading::default();
    let mut first = traveller.join_static(place, "first")?;
    let mut second = traveller.join_static(place, "second")?;
    shared(&traveller.topic, &mut traveller.reading, &mut first, &mut second)?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first, &mut second])?;
    let (before, rebalances) = (first.assigned.clone(), second.rebalances);
    traveller.leave(first)?;
    let mut first = traveller.join_static(place, "first")?;
    settle(&traveller.topic, &mut traveller.reading, &mut [&mut first], |members| {
        members.iter().all(|member| !member.assigned.is_empty())
    })?;
    traveller.topic.produce(place.bootstrap, 100, &["none"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first, &mut second])?;
    if first.assigned != before || second.rebalances != rebalances {
        let times = second.rebalances - rebalances;
        return Err(format!(
            "had {before:?} and has {:?} now; the other was rebalanced {times} times",
            first.assigned
        ));
    }
    traveller.leave(first)?;
    traveller.leave(second)
}

fn share_by_consumer_protocol(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    traveller.reading = Reading::default();
    let mut first = traveller.join(place, "consumer", Protocol::Consumer)?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first])?;
    let mut second = traveller.join(place, "consumer", Protocol::Consumer)?;
    shared(&traveller.topic, &mut traveller.reading, &mut first, &mut second)?;
    traveller.topic.produce(place.bootstrap, 100, &["gzip"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut first, &mut second])?;
    traveller.leave(second)?;
    has_all(traveller, &mut first)?;
    traveller.leave(first)
}

/// A member of each protocol, and of two clients where there are, in one group; each is its only member for a while.
fn migrate(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    let companion = traveller.companion.unwrap_or(traveller.topic.client);
    traveller.reading = Reading::default();
    let mut classic = traveller.join(place, "moving", Protocol::Classic)?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut classic])?;
    let mut modern = traveller.join_with(companion, place, "moving", Protocol::Consumer, None)?;
    shared(&traveller.topic, &mut traveller.reading, &mut classic, &mut modern)?;
    traveller.topic.produce(place.bootstrap, 100, &["lz4"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut classic, &mut modern])?;
    traveller.leave(classic)?;
    has_all(traveller, &mut modern)?;
    let mut classic = traveller.join(place, "moving", Protocol::Classic)?;
    shared(&traveller.topic, &mut traveller.reading, &mut classic, &mut modern)?;
    traveller.leave(modern)?;
    has_all(traveller, &mut classic)?;
    traveller.topic.produce(place.bootstrap, 100, &["zstd"])?;
    read(&traveller.topic, &mut traveller.reading, &mut [&mut classic])?;
    traveller.leave(classic)
}

/// Waits until the only member that is left has all partitions.
fn has_all(traveller: &mut Traveller<'_>, member: &mut Member) -> Result<()> {
    settle(&traveller.topic, &mut traveller.reading, &mut [member], |members| {
        members.iter().all(|member| member.assigned == PARTITIONS)
    })
}

fn look_up(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    let partitions = &traveller.reading.partitions;
    let mut timestamps: Vec<u64> = partitions.values().flatten().map(|seen| seen.timestamp).collect();
    timestamps.sort_unstable();
    let middle = timestamps.get(timestamps.len() / 2).copied().ok_or("nothing was read")?;
    let expected: String = partitions
        .iter()
        .map(|(partition, seen)| {
            let at = seen
                .iter()
                .find(|seen| seen.timestamp >= middle)
                .map_or(-1, |seen| seen.offset.cast_signed());
            format!("{partition} 0 {} {at}\n", seen.len())
        })
        .collect();
    let topic = &traveller.topic;
    let answer = topic.client.run(&["offsets", place.bootstrap, &topic.name, &middle.to_string()])?;
    if answer != expected {
        return Err(format!("partition, earliest, latest, at {middle}:\n{answer}      are not\n{expected}"));
    }
    batches::check(place.data, &topic.name)
}

fn replace(traveller: &mut Traveller<'_>, place: &Place<'_>) -> Result<()> {
    let topic = &traveller.topic;
    topic.client.run(&["delete", place.bootstrap, &topic.name])?;
    topic.client.run(&["create", place.bootstrap, &topic.name, "4"])?;
    let answer = topic.client.run(&["offsets", place.bootstrap, &topic.name, "0"])?;
    let empty = PARTITIONS.map(|partition| format!("{partition} 0 0 -1\n")).concat();
    if answer == empty {
        Ok(())
    } else {
        Err(format!("partition, earliest, latest, at 0 of the new topic:\n{answer}"))
    }
}

impl Traveller<'_> {
    fn join(&self, place: &Place<'_>, group: &str, protocol: Protocol) -> Result<Member> {
        self.join_with(self.topic.client, place, group, protocol, None)
    }

    fn join_static(&self, place: &Place<'_>, instance: &str) -> Result<Member> {
        self.join_with(self.topic.client, place, "static", Protocol::Classic, Some(instance))
    }

    fn join_with(
        &self,
        client: &Client,
        place: &Place<'_>,
        group: &str,
        protocol: Protocol,
        instance: Option<&str>,
    ) -> Result<Member> {
        let group = format!("{group}-{}", self.topic.client.tag);
        client.member(place.bootstrap, &self.topic.name, &group, protocol, instance)
    }

    fn leave(&mut self, member: Member) -> Result<()> {
        member.stop(&mut |line| self.reading.take(&self.topic, line))
    }
}

/// Waits until the two members have all partitions between them.
fn shared(topic: &Topic<'_>, reading: &mut Reading, first: &mut Member, second: &mut Member) -> Result<()> {
    settle(topic, reading, &mut [first, second], |members| {
        let mut owners = BTreeMap::new();
        for partition in members.iter().flat_map(|member| &member.assigned) {
            *owners.entry(*partition).or_insert(0) += 1;
        }
        members.iter().all(|member| member.assigned.len() == 2)
            && owners.into_iter().eq(PARTITIONS.map(|at| (at, 1)))
    })
}

/// Waits until the members' assignments are as wanted.
fn settle(
    topic: &Topic<'_>,
    reading: &mut Reading,
    members: &mut [&mut Member],
    wanted: impl Fn(&[&mut Member]) -> bool,
) -> Result<()> {
    listen(topic, reading, members, |_, members| wanted(members))?.ok_or_else(|| {
        let has: Vec<String> =
            members.iter().map(|member| format!("{:?}\n{}", member.assigned, member.errors())).collect();
        format!("after {PATIENCE:?} the members have {}", has.join("      and "))
    })
}

/// Reads until all that was produced has been read, and then that nothing more comes.
pub(crate) fn read(topic: &Topic<'_>, reading: &mut Reading, members: &mut [&mut Member]) -> Result<()> {
    listen(topic, reading, members, |reading, _| reading.complete(topic))?.ok_or_else(|| {
        let errors: String = members
            .iter()
            .map(|member| format!("      {:?}\n{}", member.assigned, member.errors()))
            .collect();
        format!("after {PATIENCE:?} {}\n{errors}", reading.missing(topic))
    })?;
    for member in members {
        member.listen(QUIET, &mut |line| reading.take(topic, line))?;
    }
    Ok(())
}

/// Listens to the members until it is enough; `None` if it never is.
fn listen(
    topic: &Topic<'_>,
    reading: &mut Reading,
    members: &mut [&mut Member],
    enough: impl Fn(&Reading, &[&mut Member]) -> bool,
) -> Result<Option<()>> {
    let deadline = Instant::now() + PATIENCE;
    while !enough(reading, members) {
        if Instant::now() > deadline {
            return Ok(None);
        }
        for member in members.iter_mut() {
            member.listen(Duration::from_millis(20), &mut |line| reading.take(topic, line))?;
        }
    }
    Ok(Some(()))
}
