//! Transactional clients: each copies a topic to another, and commits with the copies the offsets that it has read. Some transactions
//! are aborted, a client is fenced by its successor, one is killed, and so is the broker: readers of what is committed are given each
//! record once.

use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::client::{Client, Member};
use super::process::{Conversation, Result};
use super::reading::{Reading, Topic};
use super::report::{self, Report};
use super::{OVERRIDES, install, scenario, transaction_tools};

/// How long a client may take for a transaction, with all that it does before.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many clients take a phase at the same time; mostly they wait.
const AT_ONCE: usize = 4;

/// A client, what it copies, and who reads the copies.
struct Copier<'a> {
    source: Topic<'a>,
    target: String,
    reading: Reading,
    /// Lives through everything.
    reader: Option<Member>,
    /// In the middle of a transaction.
    open: Option<Conversation>,
    failed: bool,
}

type Phase = fn(&mut Copier<'_>, &str) -> Result<()>;

/// Takes the clients through it, against a broker of their own, and lets `java`'s tools look at what they have left.
pub(crate) fn run(report: &Report, target: &Target, clients: &[&Client], java: Option<&Client>, epoch: u64) {
    let mut started = None;
    if !report.step("broker", "start for transactions", || {
        started = Some(Broker::start(target, &install::work("transactions"), OVERRIDES)?);
        Ok(())
    }) {
        return;
    }
    let Some(mut broker) = started else { return };
    let mut copiers: Vec<Copier<'_>> = clients.iter().map(|client| Copier::new(client, epoch)).collect();
    phase(report, &broker, &mut copiers, "copy in transactions, some of which are aborted", mix);
    phase(report, &broker, &mut copiers, "fenced by its successor in the middle of a transaction", fence);
    phase(report, &broker, &mut copiers, "write in a transaction that stays open", begin);
    broker.kill();
    report.step("broker", "restart after kill -9 with open transactions", || broker.resume().map(drop));
    phase(report, &broker, &mut copiers, "go on with the transaction after kill -9 of the broker", go_on);
    phase(report, &broker, &mut copiers, "be killed in the middle of a transaction", die);
    let restart = |broker: &mut Broker| broker.stop().and_then(|()| broker.resume().map(drop));
    report.step("broker", "restart after SIGTERM with open transactions", || restart(&mut broker));
    phase(report, &broker, &mut copiers, "a successor copies what the killed one had not committed", succeed);
    let copied = copiers.iter().find(|copier| java.is_some() && copier.source.client.tag == "java");
    let copied = copied.map(|copier| (copier.target.clone(), copier.source.produced()));
    drop(copiers);
    if let (Some(java), Some((topic, count))) = (java, &copied) {
        transaction_tools::run(report, &broker, java, topic, *count);
    }
    let stopped = report.step("broker", "stop after transactions", || broker.stop());
    if let (true, Some((topic, _))) = (stopped, copied) {
        transaction_tools::dump(report, &broker.data(), &topic);
    }
}

fn phase(report: &Report, broker: &Broker, copiers: &mut [Copier<'_>], what: &str, act: Phase) {
    let bootstrap = broker.bootstrap();
    report::each(AT_ONCE, copiers.iter_mut().filter(|copier| !copier.failed), |copier| {
        let who = copier.source.client.name;
        if !report.step(who, what, || act(copier, &bootstrap)) {
            println!("        {who:<16} takes no further step");
            (copier.failed, copier.reader, copier.open) = (true, None, None);
        }
    });
}

/// The consumer protocol, where the client has it; its member leaves, and the group goes on with the classic one.
fn mix(copier: &mut Copier<'_>, bootstrap: &str) -> Result<()> {
    let client = copier.source.client;
    client.run(&["create", bootstrap, &copier.source.name, "4"])?;
    client.run(&["create", bootstrap, &copier.target, "4"])?;
    copier.source.produce(bootstrap, 60, &["none", "gzip", "snappy", "lz4", "zstd"])?;
    copier.reader =
        Some(client.committed_member(bootstrap, &copier.target, &format!("readers-{}", client.tag))?);
    let word = if client.consumer_protocol { "consumer-copy" } else { "copy" };
    let copy = copier.start(word, bootstrap, false)?;
    copier.read()?;
    let said = end(copy)?;
    let count = |what: &str| said.iter().filter(|line| *line == what).count();
    if count("committed") < 2 || count("aborted") == 0 {
        return Err(format!("the client says of its transactions {said:?}"));
    }
    Ok(())
}

/// The zombie has sent its records and offsets when its successor, of the same names, begins.
fn fence(copier: &mut Copier<'_>, bootstrap: &str) -> Result<()> {
    copier.source.produce(bootstrap, 100, &["lz4"])?;
    let mut zombie = copier.open(bootstrap)?;
    let successor = copier.start("copy", bootstrap, false)?;
    copier.read()?;
    zombie.say("commit")?;
    let said = hear(&zombie)?;
    if said != "fenced" {
        return Err(format!("the zombie says {said:?}, not that it is fenced\n{}", zombie.errors()));
    }
    drop(zombie);
    end(successor)?;
    copier.read()
}

fn begin(copier: &mut Copier<'_>, bootstrap: &str) -> Result<()> {
    copier.source.produce(bootstrap, 100, &["zstd"])?;
    copier.open = Some(copier.open(bootstrap)?);
    Ok(())
}

fn go_on(copier: &mut Copier<'_>, _: &str) -> Result<()> {
    let mut copy = copier.open.take().ok_or("no transaction is open")?;
    copy.say("commit")?;
    copier.read().map_err(|error| format!("{error}\n{}", copy.errors()))?;
    end(copy).map(drop)
}

fn die(copier: &mut Copier<'_>, bootstrap: &str) -> Result<()> {
    begin(copier, bootstrap)?;
    // Its process is killed.
    copier.open = None;
    Ok(())
}

fn succeed(copier: &mut Copier<'_>, bootstrap: &str) -> Result<()> {
    let copy = copier.start("copy", bootstrap, false)?;
    copier.read().map_err(|error| format!("{error}\n{}", copy.errors()))?;
    end(copy)?;
    // Whoever begins again at the offsets that were committed has nothing to copy.
    let copy = copier.start("copy", bootstrap, false)?;
    copier.source.produce(bootstrap, 20, &["none"])?;
    copier.read()?;
    end(copy)?;
    let (reading, source) = (&mut copier.reading, &copier.source);
    let reader = copier.reader.take().ok_or("there is no reader")?;
    reader.stop(&mut |line| reading.take(source, line))
}

impl<'a> Copier<'a> {
    fn new(client: &'a Client, epoch: u64) -> Self {
        Self {
            source: Topic::new(client, epoch),
            target: format!("copy-{}", client.tag),
            reading: Reading::transactional(),
            reader: None,
            open: None,
            failed: false,
        }
    }

    /// Starts the program that copies; with `pause` it waits at the end of its first transaction.
    fn start(&self, word: &str, bootstrap: &str, pause: bool) -> Result<Conversation> {
        let tag = self.source.client.tag;
        let (group, id) = (format!("copiers-{tag}"), format!("copier-{tag}"));
        let words = [word, bootstrap, &self.source.name, &self.target, &group, &id];
        self.source.client.start(&[&words[..], pause.then_some("pause").as_slice()].concat())
    }

    /// Starts the program and waits until it is in the middle of a transaction.
    fn open(&self, bootstrap: &str) -> Result<Conversation> {
        let copy = self.start("copy", bootstrap, true)?;
        let said = hear(&copy)?;
        if said == "open" { Ok(copy) } else { Err(format!("{said:?} before it was told\n{}", copy.errors())) }
    }

    /// Reads until each record has been read from the copy, and then that nothing more comes.
    fn read(&mut self) -> Result<()> {
        let reader = self.reader.as_mut().ok_or("there is no reader")?;
        scenario::read(&self.source, &mut self.reading, &mut [reader])
    }
}

/// The next line that the program says.
fn hear(copy: &Conversation) -> Result<String> {
    let said = copy.hear(Instant::now() + PATIENCE)?;
    said.ok_or_else(|| format!("the client says nothing for {PATIENCE:?}\n{}", copy.errors()))
}

/// Has the program end; the lines that it has said.
fn end(mut copy: Conversation) -> Result<Vec<String>> {
    copy.say("stop")?;
    let status = copy.process.wait(PATIENCE)?;
    if !status.success() {
        return Err(format!("the client ended with {status}\n{}", copy.errors()));
    }
    let mut said = Vec::new();
    // The output is at its end, which is told as an error.
    while let Ok(Some(line)) = copy.hear(Instant::now() + PATIENCE) {
        said.push(line);
    }
    Ok(said)
}
