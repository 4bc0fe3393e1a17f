//! Child processes, each the leader of a process group of its own, each wait bounded.
//! Whatever happens (an error, a panic, Ctrl-C), no process outlives the command that started it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What went wrong, in words for the person who reads the run's output.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Where measurements have the broker, so that its CPU time is its own,
pub(crate) const BROKER_CORE: usize = 0;
/// and where they have its clients.
pub(crate) const CLIENT_CORE: usize = 1;

/// The groups that are alive; what a signal handler has to end.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A running child and its descendants.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` in a process group of its own.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child =
            command.process_group(0).spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        groups(|groups| groups.insert(child.id().cast_signed()));
        Ok(Self { name, child })
    }

    /// Its number, which is its group's too.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // A group that is gone already is what we want.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Waits for the end; at the deadline it is an error, and the group is killed.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    self.signal(Signal::KILL);
                    return Err(format!("{} had not ended after {patience:?}", self.name));
                }
                Err(error) => return Err(format!("cannot wait for {}: {error}", self.name)),
            }
        }
    }

    /// Whether the child has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        groups(|groups| groups.remove(&self.child.id().cast_signed()));
    }
}

/// What a program that succeeded has printed.
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command without input to its end. Its standard output if it succeeds; else an error with the tail of what it said.
pub(crate) fn run(command: &mut Command, patience: Duration) -> Result<String> {
    run_fed(command, Stdio::null(), patience).map(|printed| printed.stdout)
}

/// As `run`, with an input, and all that was printed.
pub(crate) fn run_fed(command: &mut Command, input: Stdio, patience: Duration) -> Result<Printed> {
    let mut process = Process::spawn(command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let stdout = process.child.stdout.take().map(collect);
    let stderr = process.child.stderr.take().map(collect);
    let ended = process.wait(patience);
    // A grandchild that holds the pipe open must not hold us.
    process.signal(Signal::KILL);
    let stdout = stdout.map(join).unwrap_or_default();
    let stderr = stderr.map(join).unwrap_or_default();
    let said = |how: String| format!("{}: {how}\n{}", describe(command), tail(&format!("{stdout}{stderr}")));
    match ended {
        Ok(status) if status.success() => Ok(Printed { stdout, stderr }),
        Ok(status) => Err(said(status.to_string())),
        Err(error) => Err(said(error)),
    }
}

/// Runs a command to its end with its standard output sent elsewhere.
pub(crate) fn run_into(command: &mut Command, output: Stdio, patience: Duration) -> Result<()> {
    let mut process = Process::spawn(command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()))?;
    let stderr = process.child.stderr.take().map(collect);
    let ended = process.wait(patience);
    process.signal(Signal::KILL);
    let stderr = stderr.map(join).unwrap_or_default();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}\n{}", describe(command), tail(&stderr))),
        Err(error) => Err(format!("{}: {error}\n{}", describe(command), tail(&stderr))),
    }
}

/// A child that is talked to by lines.
pub(crate) struct Conversation {
    pub(crate) process: Process,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

impl Conversation {
    /// Starts `command` with its input, output and errors connected to us.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut process =
            Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (sender, lines) = channel();
        if let Some(stdout) = process.child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stderr = Arc::new(Mutex::new(String::new()));
        if let Some(pipe) = process.child.stderr.take() {
            let stderr = Arc::clone(&stderr);
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(std::result::Result::ok) {
                    let mut text = stderr.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            });
        }
        let stdin = process.child.stdin.take();
        Ok(Self { process, stdin, lines, stderr })
    }

    /// Writes one line to the child.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        use std::io::Write;
        let stdin = self.stdin.as_mut().ok_or("the child's input is closed")?;
        writeln!(stdin, "{line}")
            .map_err(|error| format!("cannot write to the child: {error}\n{}", self.errors()))
    }

    /// The next line; `None` when there is none before the deadline; an error when the child has closed its output.
    pub(crate) fn hear(&self, deadline: Instant) -> Result<Option<String>> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(format!("the child has ended\n{}", self.errors())),
        }
    }

    /// The tail of what the child wrote to its standard error.
    pub(crate) fn errors(&self) -> String {
        tail(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Kills every group and ends this process when a person or CI asks it to end.
pub(crate) fn end_with_us() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            groups(|groups| {
                for group in groups.iter().filter_map(|&group| Pid::from_raw(group)) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
            });
            std::process::exit(130);
        }
    });
    Ok(())
}

/// Holds this process, and those that it starts from now on, to one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| format!("cannot run on core {core} alone: {error}; the comparison needs two cores"))
}

/// The last lines of a text, indented, without the noise of an empty tail.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(25);
    lines
        .iter()
        .skip(from)
        .map(|line| format!("      | {}\n", line.chars().take(400).collect::<String>()))
        .collect()
}

fn groups<T>(change: impl FnOnce(&mut BTreeSet<i32>) -> T) -> T {
    change(&mut GROUPS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(reader: thread::JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(words.filter(|word| !word.contains("/lib/") && !word.starts_with("-X")))
        .collect::<Vec<_>>()
        .join(" ")
}
