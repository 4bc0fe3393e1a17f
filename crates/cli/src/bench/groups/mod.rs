//! `dohle bench groups`: many members of groups: how long until all have their partitions, what it costs the broker, and
//! what heartbeats and commits take meanwhile.

mod member;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dohle_client::{Effects, Endpoint, Machine, Target};
use dohle_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Str, TopicId};
use hdrhistogram::Histogram;
use serde_json::json;

use super::report::{as_f64, cpu_seconds, number};
use super::{GroupsBench, seconds};
use crate::driver::Driver;
use crate::output::Table;
use crate::session::{Session, seed};
use crate::{CliError, Connection, topic};
use member::{Member, Timed, Topic};

/// How long any of it may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// The longest time told apart from longer ones, in nanoseconds.
const TIME_MAX_NS: u64 = 600_000_000_000;
/// Connections that are made at a time: a listener has room for 50 that wait (`socket.listen.backlog.size`).
const CONNECTING_MAX: usize = 25;

pub(super) fn run(connection: &Connection, options: &GroupsBench) -> Result<(), CliError> {
    let mut session = Session::new(connection)?;
    let partitions = options.partitions.unwrap_or_else(|| i32::try_from(options.members).unwrap_or(i32::MAX));
    topic::ensure(&mut session, &options.topic, partitions)?;
    let metadata = session.metadata(Some(std::slice::from_ref(&options.topic)))?;
    let described = metadata.topic(&options.topic);
    let described = described.ok_or_else(|| CliError::Usage("the topic is not ready; try again".into()))?;
    let topic =
        Topic { name: options.topic.clone(), id: described.id, partitions: described.partitions.len() };
    let topic = Arc::new(topic);
    let mut rng = seed();
    let mut members = Vec::new();
    for group in 0..options.groups {
        let group = Str::from(format!("{}-{group}", options.prefix));
        let endpoint = coordinator(&mut session, &group)?;
        for _ in 0..options.members {
            let id = Str::from(TopicId(rng.uuid()).to_string());
            let topic = Arc::clone(&topic);
            members.push(Member::new(endpoint.clone(), group.clone(), options.protocol, topic, id));
        }
    }
    let partitions = topic.partitions;
    let size = usize::try_from(options.members).unwrap_or(usize::MAX);
    let driver = Driver::new()?;
    Bench { options, driver, members, size, partitions, due: BTreeSet::new(), armed: Vec::new() }.run()
}

/// Where the group's coordinator is, once there is one.
fn coordinator(session: &mut Session, group: &Str) -> Result<Endpoint, CliError> {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.clone()], ..Default::default() };
    let error = |response: &FindCoordinatorResponse| {
        let found = response.coordinators.first();
        found.and_then(|found| ErrorCode::from_code(found.error_code)).unwrap_or(ErrorCode::None)
    };
    let response = session.call(Target::Any, request, error)?;
    let found = response.coordinators.into_iter().next();
    let port = found.as_ref().and_then(|found| u16::try_from(found.port).ok());
    match (found, port) {
        (Some(found), Some(port)) if found.error_code == 0 => Ok(Endpoint::new(found.host.to_string(), port)),
        _ => Err(CliError::Usage(format!("group {group} has no coordinator; try again"))),
    }
}

struct Bench<'a> {
    options: &'a GroupsBench,
    driver: Driver,
    /// Those of a group stand together.
    members: Vec<Member>,
    /// Members of a group.
    size: usize,
    partitions: usize,
    /// When to wake whom.
    due: BTreeSet<(Instant, usize)>,
    /// The same, by member.
    armed: Vec<Option<Instant>>,
}

impl Bench<'_> {
    fn run(mut self) -> Result<(), CliError> {
        self.armed = vec![None; self.members.len()];
        let mut table = Table::new(["measure", "value", "unit"]);
        let mut row =
            |name: &str, value: f64, unit: &str| table.row([json!(name), number(value), json!(unit)]);
        self.connect()?;

        let (begun, cpu) = (self.driver.now(), self.cpu()?);
        for index in 0..self.members.len() {
            if let Some(member) = self.members.get_mut(index) {
                member.begin(begun);
            }
            self.arm(index);
        }
        let mut missing = vec![true; self.members.len().div_ceil(self.size)];
        let mut groups = missing.len();
        self.turn_until("all members have their partitions", |bench, index| {
            let group = index / bench.size;
            if missing.get(group) == Some(&true) && bench.is_assigned(group) {
                missing.iter_mut().skip(group).take(1).for_each(|it| *it = false);
                groups -= 1;
            }
            groups == 0
        })?;
        let joined = self.driver.now().instant.saturating_sub(begun.instant);
        let used = self.cpu()? - cpu;
        row("join", joined.as_secs_f64(), "s");
        row("join CPU", used, "s");
        row("join CPU per member", used / as_f64(self.members.len() as u64) * 1e6, "us");
        let (heartbeats, _) = self.take_times()?;
        row("join heartbeat p99", millis(&heartbeats, 0.99), "ms");

        let (begun, cpu) = (self.driver.now().instant, self.cpu()?);
        let until = begun + seconds(self.options.duration)?;
        while self.driver.now().instant < until {
            self.turn(until)?;
        }
        let lived = self.driver.now().instant.saturating_sub(begun).as_secs_f64();
        let used = self.cpu()? - cpu;
        let (heartbeats, _) = self.take_times()?;
        row("heartbeats", as_f64(heartbeats.len()) / lived, "1/s");
        row("heartbeat p50", millis(&heartbeats, 0.5), "ms");
        row("heartbeat p99", millis(&heartbeats, 0.99), "ms");
        row("live CPU", used / lived * 100.0, "% of a core");
        row("live CPU per heartbeat", used / as_f64(heartbeats.len().max(1)) * 1e6, "us");

        let (begun, cpu) = (self.driver.now().instant, self.cpu()?);
        for round in 0..self.options.commits {
            let now = self.driver.now();
            for index in 0..self.members.len() {
                let mut effects = Effects::new();
                if let Some(member) =
                    self.members.get_mut(index).filter(|it| it.owned().is_some_and(|it| it > 0))
                {
                    member.commit(now, round.into(), &mut effects);
                }
                self.driver.carry_out(index, effects);
            }
            self.turn_until_answered("all commits are acknowledged")?;
        }
        let took = self.driver.now().instant.saturating_sub(begun).as_secs_f64();
        let used = self.cpu()? - cpu;
        let (_, commits) = self.take_times()?;
        row("commits", as_f64(commits.len()) / took, "1/s");
        row("commit p50", millis(&commits, 0.5), "ms");
        row("commit p99", millis(&commits, 0.99), "ms");
        row("commit CPU per commit", used / as_f64(commits.len().max(1)) * 1e6, "us");
        if let Some(pid) = self.options.server_pid {
            row("memory", memory(pid)?, "MB");
        }

        let (begun, cpu) = (self.driver.now(), self.cpu()?);
        for index in 0..self.members.len() {
            let mut effects = Effects::new();
            if let Some(member) = self.members.get_mut(index) {
                member.leave(begun, &mut effects);
            }
            self.driver.carry_out(index, effects);
        }
        self.turn_until_answered("all members have left")?;
        row("leave", self.driver.now().instant.saturating_sub(begun.instant).as_secs_f64(), "s");
        row("leave CPU", self.cpu()? - cpu, "s");
        Ok(table.print(self.options.json)?)
    }

    fn connect(&mut self) -> Result<(), CliError> {
        let deadline = self.driver.now().instant + PATIENCE;
        let count = self.members.len();
        for first in (0..count).step_by(CONNECTING_MAX) {
            let some = first..count.min(first + CONNECTING_MAX);
            let mut woken = Some(some.clone());
            while !self.members.iter().skip(first).take(some.len()).all(Member::is_connected) {
                let wait = Duration::from_millis(100);
                self.driver.turn_of_many(&mut self.members, woken.take().into_iter().flatten(), wait)?;
                self.check(deadline, "all members are connected")?;
            }
        }
        Ok(())
    }

    /// Whether all members of a group have their partitions.
    fn is_assigned(&self, group: usize) -> bool {
        let members = self.members.iter().skip(group * self.size).take(self.size);
        let mut owned = 0;
        for member in members {
            match member.owned() {
                // An equal share, for which the first to join may have to give up what it was given before.
                Some(count) if count >= self.partitions / self.size => owned += count,
                Some(_) | None => return false,
            }
        }
        owned == self.partitions
    }

    fn turn_until_answered(&mut self, what: &str) -> Result<(), CliError> {
        let mut waiting: BTreeSet<usize> = (0..self.members.len()).collect();
        waiting.retain(|&index| self.members.get(index).is_some_and(|member| !member.is_answered()));
        if waiting.is_empty() {
            return Ok(());
        }
        self.turn_until(what, |bench, index| {
            if bench.members.get(index).is_some_and(Member::is_answered) {
                waiting.remove(&index);
            }
            waiting.is_empty()
        })
    }

    /// Goes on until this is so, which is asked for each member to which something happened.
    fn turn_until(
        &mut self,
        what: &str,
        mut is_done: impl FnMut(&Self, usize) -> bool,
    ) -> Result<(), CliError> {
        let deadline = self.driver.now().instant + PATIENCE;
        loop {
            let touched = self.turn(deadline)?;
            if touched.into_iter().any(|index| is_done(self, index)) {
                return Ok(());
            }
            self.check(deadline, what)?;
        }
    }

    /// Wakes those for whom it is time, and lets happen what happens until the next one's time.
    fn turn(&mut self, until: Instant) -> Result<BTreeSet<usize>, CliError> {
        let now = self.driver.now().instant;
        let mut woken = Vec::new();
        while let Some((_, index)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            self.armed.iter_mut().skip(index).take(1).for_each(|it| *it = None);
            woken.push(index);
        }
        let next =
            if woken.is_empty() { self.due.first().map_or(until, |(at, _)| *at).min(until) } else { now };
        let touched = self.driver.turn_of_many(&mut self.members, woken, next.saturating_sub(now))?;
        let touched: BTreeSet<usize> = touched.into_iter().collect();
        for &index in &touched {
            self.arm(index);
            if let Some(failure) = self.members.get(index).and_then(|member| member.failure.as_ref()) {
                return Err(CliError::Usage(failure.clone()));
            }
        }
        Ok(touched)
    }

    fn arm(&mut self, index: usize) {
        let next = self.members.get(index).and_then(Machine::next_timeout);
        let Some(armed) = self.armed.get_mut(index) else { return };
        if let Some(at) = std::mem::replace(armed, next) {
            self.due.remove(&(at, index));
        }
        self.due.extend(next.map(|at| (at, index)));
    }

    /// The times of heartbeats and of commits since the last call.
    fn take_times(&mut self) -> Result<(Histogram<u64>, Histogram<u64>), CliError> {
        let new = || {
            Histogram::new_with_bounds(1, TIME_MAX_NS, 3).map_err(|error| CliError::Usage(error.to_string()))
        };
        let (mut heartbeats, mut commits) = (new()?, new()?);
        for timed in self.members.iter_mut().flat_map(|member| member.timed.drain(..)) {
            let (histogram, took) = match timed {
                Timed::Heartbeat(took) => (&mut heartbeats, took),
                Timed::Commit(took) => (&mut commits, took),
            };
            histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        Ok((heartbeats, commits))
    }

    fn cpu(&self) -> Result<f64, CliError> {
        self.options.server_pid.map_or(Ok(0.0), cpu_seconds)
    }

    fn check(&self, deadline: Instant, what: &str) -> Result<(), CliError> {
        if self.driver.is_interrupted() {
            return Err(CliError::Interrupted(String::new()));
        }
        if self.driver.now().instant > deadline {
            return Err(CliError::Usage(format!("waited in vain until {what}")));
        }
        Ok(())
    }
}

fn millis(times: &Histogram<u64>, quantile: f64) -> f64 {
    as_f64(times.value_at_quantile(quantile)) / 1e6
}

/// What memory a process has, in MB.
fn memory(pid: u32) -> Result<f64, CliError> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(crate::error::on_file(path.as_ref()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0 / 1e6)
        .ok_or_else(|| CliError::Usage(format!("{path} is not understood; leave out --server-pid")))
}
