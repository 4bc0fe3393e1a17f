//! The processes of the bank, to be killed: the broker and the tellers.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::kafka::PATIENCE;

/// What the broker is told: to notice soon who is gone.
const OVERRIDES: [&str; 9] = [
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=2000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.heartbeat.interval.ms=250",
    "group.consumer.min.heartbeat.interval.ms=100",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
    "transaction.state.log.num.partitions=4",
    "offsets.topic.num.partitions=4",
];

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }

    /// Has it end by a signal, and waits for that.
    fn end(&mut self, signal: Signal) -> io::Result<()> {
        self.signal(signal)?;
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("process {} does not end by {signal:?}", self.0.id())));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// A broker that is always started again at the same place, on the same data.
pub(crate) struct Broker {
    /// The `dohle` to run; without it this program is the broker, too.
    dohle: Option<PathBuf>,
    data: PathBuf,
    pub(crate) address: String,
    process: Process,
}

impl Broker {
    /// Starts it on a free port.
    pub(crate) fn start(dohle: Option<PathBuf>, data: PathBuf) -> io::Result<Self> {
        let (process, address) = spawn_broker(dohle.as_ref(), &data, "127.0.0.1:0")?;
        Ok(Self { dohle, data, address, process })
    }

    /// kill -9, or SIGTERM and the wait for a good end; then it is started again.
    pub(crate) fn restart(&mut self, signal: Signal) -> io::Result<()> {
        self.process.end(signal)?;
        (self.process, self.address) = spawn_broker(self.dohle.as_ref(), &self.data, &self.address)?;
        Ok(())
    }
}

fn spawn_broker(dohle: Option<&PathBuf>, data: &PathBuf, listen: &str) -> io::Result<(Process, String)> {
    let mut command = match dohle {
        Some(dohle) => Command::new(dohle),
        None => Command::new(std::env::current_exe()?),
    };
    command
        .arg(if dohle.is_some() { "server" } else { "broker" })
        .args(["--listen", listen, "--data"])
        .arg(data);
    for one in OVERRIDES {
        command.args(["--override", one]);
    }
    command.env("DOHLE_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process(command.spawn()?);
    let mut line = String::new();
    if let Some(output) = process.0.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    // "… listens on HOST:PORT"
    match line.trim_end().rsplit_once("listens on ") {
        Some((_, address)) => Ok((process, address.to_owned())),
        None => Err(io::Error::other(format!("the broker did not start, and said `{}`", line.trim_end()))),
    }
}

/// A teller that is always started again under the same name.
pub(crate) struct Teller {
    arguments: Vec<String>,
    process: Process,
    is_paused: bool,
}

impl Teller {
    /// Starts one with these arguments.
    pub(crate) fn start(arguments: Vec<String>) -> io::Result<Self> {
        let process = spawn_teller(&arguments, None)?;
        Ok(Self { arguments, process, is_paused: false })
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.0.try_wait()
    }

    /// Starts it again, to die in its n-th transaction if that is asked for.
    pub(crate) fn start_again(&mut self, dies_in: Option<u64>) -> io::Result<()> {
        self.process = spawn_teller(&self.arguments, dies_in)?;
        self.is_paused = false;
        Ok(())
    }

    /// kill -9, or SIGTERM and the wait for a good end.
    pub(crate) fn end(&mut self, signal: Signal) -> io::Result<()> {
        if self.ended()?.is_none() {
            self.process.end(signal)?;
        }
        Ok(())
    }

    /// Has it stand still, as a machine does that swaps, or lets it go on as if nothing had happened.
    pub(crate) fn pause(&mut self, pause: bool) -> io::Result<()> {
        if self.ended()?.is_none() && self.is_paused != pause {
            self.process.signal(if pause { Signal::STOP } else { Signal::CONT })?;
            self.is_paused = pause;
        }
        Ok(())
    }
}

fn spawn_teller(arguments: &[String], dies_in: Option<u64>) -> io::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("teller").args(arguments).stdin(Stdio::null());
    if let Some(transaction) = dies_in {
        command.args(["--dies-in", &transaction.to_string()]);
    }
    Ok(Process(command.spawn()?))
}

/// Whether a process has ended as by kill -9.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
