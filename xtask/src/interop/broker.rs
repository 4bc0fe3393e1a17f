//! The broker under test: Dohle, or Apache Kafka as the oracle. Started on a free port with a fresh data directory, stopped cleanly or killed,
//! and started again on the same data.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::java;
use super::process::{self, Process, Result};

/// Which broker the tests run against.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The binary at this path.
    Dohle(PathBuf),
    /// Apache Kafka, a single node in KRaft mode.
    Kafka,
}

impl Target {
    /// What it is called in reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dohle(_) => "Dohle",
            Self::Kafka => "Apache Kafka",
        }
    }
}

/// One broker process at a time, its data directory and its address.
pub(crate) struct Broker {
    target: Target,
    directory: PathBuf,
    address: SocketAddr,
    overrides: Vec<String>,
    process: Option<Process>,
}

impl Broker {
    /// Starts a broker whose data and log lie in `directory`, which is emptied first.
    pub(crate) fn start(target: &Target, directory: &Path, overrides: &[&str]) -> Result<Self> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        let address = free_address()?;
        if let Target::Kafka = target {
            format(directory, address, overrides)?;
        }
        let mut broker = Self {
            target: target.clone(),
            directory: directory.to_owned(),
            address,
            overrides: overrides.iter().map(|&text| text.to_owned()).collect(),
            process: None,
        };
        broker.resume()?;
        Ok(broker)
    }

    /// Has another broker take over the data when it is started next. Apache Kafka keeps the overrides of its file.
    pub(crate) fn change(&mut self, target: &Target, overrides: &[&str]) {
        self.target = target.clone();
        self.overrides = overrides.iter().map(|&text| text.to_owned()).collect();
    }

    /// Starts the broker again on the data it has; returns how long it took until it accepted a connection.
    pub(crate) fn resume(&mut self) -> Result<Duration> {
        let log = || {
            let file = File::options().create(true).append(true).open(self.log());
            file.map_err(|error| format!("cannot open {}: {error}", self.log().display()))
        };
        let mut command = match &self.target {
            Target::Kafka => server(&properties(&self.directory)),
            Target::Dohle(binary) => {
                let mut command = Command::new(binary);
                command.arg("server").arg("--listen").arg(self.bootstrap());
                if !self.overrides.iter().any(|text| text.starts_with("log.dirs=")) {
                    command.arg("--data").arg(self.data());
                }
                for text in &self.overrides {
                    command.arg("--override").arg(text);
                }
                command
            }
        };
        let begun = Instant::now();
        let mut process = Process::spawn(command.stdin(Stdio::null()).stdout(log()?).stderr(log()?))?;
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            if let Some(status) = process.ended() {
                return Err(format!("the broker ended with {status}\n{}", self.said()));
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!(
                    "the broker does not listen on {} after 60 s\n{}",
                    self.address,
                    self.said()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.process = Some(process);
        Ok(begun.elapsed())
    }

    /// Asks the broker to end (SIGTERM) and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM);
        let status =
            process.wait(Duration::from_secs(30)).map_err(|error| format!("{error}\n{}", self.said()))?;
        // A JVM that ends by SIGTERM says 143.
        if status.success() || matches!((&self.target, status.code()), (Target::Kafka, Some(143))) {
            Ok(())
        } else {
            Err(format!("after SIGTERM the broker ended with {status}\n{}", self.said()))
        }
    }

    /// Kills the broker as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // Dropping a process kills its group and waits for it.
        self.process = None;
    }

    /// Whether the process that was started still runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Process::id).ok_or_else(|| "the broker does not run".to_owned())
    }

    /// A line of the process's `status` that is a size (`VmRSS`: in use, `VmHWM`: the most that was), in MB.
    pub(crate) fn memory(&self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| format!("{path} has no {name}"))
    }

    /// `host:port`, what clients are given.
    pub(crate) fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where the topics' partitions lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The file with all that the broker has printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    /// The tail of the broker's log.
    pub(crate) fn said(&self) -> String {
        format!(
            "      broker's log ({}):\n{}",
            self.log().display(),
            process::tail(&fs::read_to_string(self.log()).unwrap_or_default())
        )
    }
}

/// Writes Apache Kafka's configuration for a single node and formats its data directory, unless that was done before.
pub(crate) fn format(directory: &Path, address: SocketAddr, overrides: &[&str]) -> Result<()> {
    let controller = free_address()?;
    let data = directory.join("data");
    // A killed broker may register again only when its session has ended: let that be soon.
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         broker.session.timeout.ms=1500\n\
         broker.heartbeat.interval.ms=500\n",
        data.display()
    );
    for line in overrides {
        text.push_str(line);
        text.push('\n');
    }
    let file = properties(directory);
    fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    if data.join("meta.properties").exists() {
        return Ok(());
    }
    let mut command = java::command("kafka.tools.StorageTool");
    command.args(["format", "--cluster-id", "oracleAAAAAAAAAAAAAAAA", "--config"]).arg(&file);
    process::run(&mut command, Duration::from_secs(60)).map(drop)
}

/// The command that runs Apache Kafka with a configuration file.
pub(crate) fn server(properties: &Path) -> Command {
    let mut command = java::server_command("info");
    command.arg("kafka.Kafka").arg(properties);
    command
}

/// The configuration file of an Apache Kafka in `directory`.
pub(crate) fn properties(directory: &Path) -> PathBuf {
    directory.join("server.properties")
}

/// An address of this machine on which nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind("127.0.0.1:0").map_err(|error| format!("cannot bind to a free port: {error}"))?;
    listener.local_addr().map_err(|error| error.to_string())
}
