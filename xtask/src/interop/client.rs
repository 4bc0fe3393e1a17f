//! The client programs: what each needs, how it is installed, how it is called, and the member of a group as a live conversation.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use super::install::{self, found, once, source, step, work};
use super::java;
use super::process::{self, Conversation, Result};

/// One foreign client.
pub(crate) struct Client {
    /// As its users call it.
    pub(crate) name: &'static str,
    /// What the `client` header of its records says.
    pub(crate) tag: &'static str,
    /// The programs without which it can be neither installed nor run.
    needs: &'static [&'static str],
    install: fn() -> Result<()>,
    command: fn() -> Command,
    /// Whether its program creates and deletes topics and chooses timestamps.
    pub(crate) admin: bool,
    /// Whether its program has static members.
    pub(crate) instances: bool,
    /// Whether its program speaks the consumer protocol (KIP-848).
    pub(crate) consumer_protocol: bool,
    /// Whether its program copies topics in transactions,
    pub(crate) transactions: bool,
    /// which is all that is asked of it.
    pub(crate) only_transactions: bool,
}

/// The protocol by which a member takes part in its group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

/// All of them.
pub(crate) const CLIENTS: &[Client] = &[
    Client {
        name: "java",
        tag: "java",
        needs: &["java", "mvn"],
        install: java::install,
        command: || java::command("Client"),
        admin: true,
        instances: true,
        consumer_protocol: true,
        transactions: true,
        only_transactions: false,
    },
    Client {
        name: "java-3.9",
        tag: "old-java",
        needs: &["java", "mvn"],
        install: java::install_old,
        command: java::old_client,
        admin: true,
        instances: true,
        consumer_protocol: false,
        transactions: true,
        only_transactions: true,
    },
    Client {
        name: "kcat",
        tag: "kcat",
        needs: &["bash", "awk"],
        install: install_kcat,
        command: || Command::new(source("kcat/client.sh")),
        admin: false,
        instances: false,
        consumer_protocol: false,
        transactions: false,
        only_transactions: false,
    },
    Client {
        name: "confluent-kafka",
        tag: "confluent",
        needs: &["python3"],
        install: || install_python("confluent"),
        command: || python("confluent"),
        admin: true,
        instances: true,
        consumer_protocol: true,
        transactions: true,
        only_transactions: false,
    },
    Client {
        name: "kafka-python",
        tag: "python",
        needs: &["python3"],
        install: || install_python("python"),
        command: || python("python"),
        admin: true,
        instances: false,
        consumer_protocol: false,
        transactions: false,
        only_transactions: false,
    },
    Client {
        name: "franz-go",
        tag: "go",
        needs: &["go"],
        install: install_go,
        command: || Command::new(work("go/client")),
        admin: true,
        instances: false,
        consumer_protocol: false,
        transactions: true,
        only_transactions: false,
    },
    Client {
        name: "kafkajs",
        tag: "kafkajs",
        needs: &["node", "npm"],
        install: install_kafkajs,
        command: kafkajs,
        admin: true,
        instances: false,
        consumer_protocol: false,
        transactions: false,
        only_transactions: false,
    },
];

impl Client {
    /// Installs the client, or says why it cannot be used here.
    pub(crate) fn install(&self) -> Result<()> {
        match self.needs.iter().find(|program| !found(program)) {
            Some(missing) => Err(format!("no {missing} here")),
            None => (self.install)(),
        }
    }

    /// Runs the client's program to its end; returns what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        process::run((self.command)().args(words), Duration::from_secs(60))
    }

    /// Starts a member of a group.
    pub(crate) fn member(
        &self,
        bootstrap: &str,
        topic: &str,
        group: &str,
        protocol: Protocol,
        instance: Option<&str>,
    ) -> Result<Member> {
        let word = match protocol {
            Protocol::Classic => "member",
            Protocol::Consumer => "consumer-member",
        };
        let conversation = self.start(&[&[word, bootstrap, topic, group], instance.as_slice()].concat())?;
        Ok(Member::new(conversation))
    }

    /// Starts a member that is given only what transactions have committed.
    pub(crate) fn committed_member(&self, bootstrap: &str, topic: &str, group: &str) -> Result<Member> {
        self.start(&["committed-member", bootstrap, topic, group]).map(Member::new)
    }

    /// Starts the client's program, to be talked to.
    pub(crate) fn start(&self, words: &[&str]) -> Result<Conversation> {
        Conversation::start((self.command)().args(words))
    }
}

/// A consumer that is a member of a group.
pub(crate) struct Member {
    conversation: Conversation,
    /// The partitions that it says it has.
    pub(crate) assigned: Vec<i32>,
    /// How often its partitions were given or taken.
    pub(crate) rebalances: usize,
    ended: bool,
}

impl Member {
    fn new(conversation: Conversation) -> Self {
        Self { conversation, assigned: Vec::new(), rebalances: 0, ended: false }
    }

    /// Listens for at most this long; hands each record's line to `take`.
    pub(crate) fn listen(
        &mut self,
        patience: Duration,
        take: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !self.ended {
            let line = match self.conversation.hear(deadline) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            };
            if let Some(record) = line.strip_prefix("record\t") {
                take(record)?;
            } else if let Some(partitions) = line.strip_prefix("assigned") {
                self.assigned = partitions.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                self.rebalances += 1;
            } else if line == "revoked" {
                self.assigned.clear();
                self.rebalances += 1;
            }
        }
        Ok(())
    }

    /// Tells the member to leave and waits until its program has ended; what it still had to say is handed to `take`.
    pub(crate) fn stop(mut self, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        self.conversation.say("stop")?;
        let status = self.conversation.process.wait(Duration::from_secs(30))?;
        if !status.success() {
            return Err(format!("the member ended with {status}\n{}", self.conversation.errors()));
        }
        // The output is at its end, which `listen` reports as an error.
        let mut refused = Ok(());
        let _ = self.listen(Duration::from_secs(5), &mut |record| {
            refused = take(record);
            refused.clone()
        });
        refused
    }

    /// The tail of what the member's client wrote to its log.
    pub(crate) fn errors(&self) -> String {
        self.conversation.errors()
    }
}

fn install_kcat() -> Result<()> {
    if found("kcat") {
        return Ok(());
    }
    if !geteuid().is_root() || !found("apt-get") {
        return Err("kcat is not installed, and only root on Debian can install it".to_owned());
    }
    step(Command::new("apt-get").args(["update", "--quiet"]), Duration::from_secs(300))?;
    let mut command = Command::new("apt-get");
    command
        .args(["install", "--quiet", "--yes", "--no-install-recommends", "kcat"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    step(&mut command, Duration::from_secs(300))
}

pub(super) fn install_python(name: &str) -> Result<()> {
    let requirements = source(name).join("requirements.txt");
    once(name, std::slice::from_ref(&requirements), || {
        let folder = work(name);
        step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), Duration::from_secs(120))?;
        let mut command = Command::new(folder.join("bin/pip"));
        step(
            command.args(["install", "--quiet", "--requirement"]).arg(&requirements),
            Duration::from_secs(300),
        )
    })
}

pub(super) fn python(name: &str) -> Command {
    let mut command = Command::new(work(name).join("bin/python"));
    command.arg(source(name).join("client.py"));
    command
}

fn install_go() -> Result<()> {
    let folder = source("go");
    once("go", &["go.mod", "go.sum", "client.go"].map(|file| folder.join(file)), || {
        let mut command = Command::new("go");
        step(
            command.args(["build", "-o"]).arg(work("go/client")).arg(".").current_dir(&folder),
            Duration::from_secs(600),
        )
    })
}

fn install_kafkajs() -> Result<()> {
    let inputs = ["package.json", "package-lock.json"].map(|file| source("kafkajs").join(file));
    once("kafkajs", &inputs, || {
        let folder = work("kafkajs");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for file in &inputs {
            let name = file.file_name().unwrap_or_default();
            std::fs::copy(file, folder.join(name))
                .map_err(|error| format!("cannot copy {}: {error}", file.display()))?;
        }
        let mut command = Command::new("npm");
        step(
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder),
            Duration::from_secs(300),
        )
    })
}

fn kafkajs() -> Command {
    let mut command = Command::new("node");
    command.arg(install::source("kafkajs/client.js")).env("NODE_PATH", work("kafkajs/node_modules"));
    command.env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    command
}
