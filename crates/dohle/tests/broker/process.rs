//! The broker as a process on a port of its own, with a data directory that goes with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take. Only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that is removed with this value.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dohle-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `dohle` with these arguments.
pub(crate) fn dohle(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dohle"));
    command.args(arguments).env_remove("DOHLE_BOOTSTRAP_SERVER").env("DOHLE_LOG", "error");
    command
}

/// A broker that listens. It is killed with this value.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    /// Where its metrics are, if it serves them.
    pub(crate) metrics: Option<String>,
}

impl Broker {
    pub(crate) fn start(data: &Path, overrides: &[&str]) -> Self {
        let data = format!("log.dirs={}", data.display());
        Self::start_without_data(&[&[data.as_str()], overrides].concat())
    }

    /// As [`Self::start`], where the overrides name the log dirs.
    pub(crate) fn start_without_data(overrides: &[&str]) -> Self {
        let mut command = dohle(&["server", "--listen", "127.0.0.1:0"]);
        for one in overrides {
            command.args(["--override", one]);
        }
        Self::spawn(&mut command)
    }

    /// A broker that may have no more files and connections open than this.
    pub(crate) fn start_with_handles(data: &Path, handles: usize) -> Self {
        Self::start_after(&[], &format!("ulimit -n {handles}"), data)
    }

    /// A broker in the process of a shell that has run `before`; the shell itself is run by `wrapper`.
    pub(crate) fn start_after(wrapper: &[&str], before: &str, data: &Path) -> Self {
        let script = format!("{before} && exec \"$0\" server --listen 127.0.0.1:0 --data \"$1\"");
        let words = [wrapper, &["sh", "-c", &script, env!("CARGO_BIN_EXE_dohle")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(data).env("DOHLE_LOG", "error");
        Self::spawn(&mut command)
    }

    /// A broker of which nothing is known but that its port takes connections: it may still be starting.
    pub(crate) fn start_until_port_opens(data: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = dohle(&["server", "--listen", &address.to_string()]);
        let child = command.arg("--data").arg(data).stdout(Stdio::null()).spawn().unwrap();
        let broker = Self { child, address: address.to_string(), metrics: None };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the broker does not listen on {address}");
        }
        broker
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut second) = (String::new(), String::new());
        said.read_line(&mut line).unwrap();
        said.read_line(&mut second).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        let metrics = second.strip_prefix("Its metrics are at http://");
        let metrics = metrics.and_then(|url| url.split('/').next()).map(str::to_owned);
        let mut broker = Self { child, address, metrics };
        assert!(
            line.contains("listens on"),
            "the broker said {line:?} and ended: {:?}",
            broker.child.try_wait()
        );
        broker
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the wait for a good end.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(wait(&mut self.child).success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the broker ended");
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// The files it has open whose paths have `part` in them.
    pub(crate) fn open_files(&self, part: &str) -> Vec<String> {
        let handles = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let paths = handles.filter_map(|handle| std::fs::read_link(handle.unwrap().path()).ok());
        paths.filter_map(|path| path.to_str().map(str::to_owned)).filter(|path| path.contains(part)).collect()
    }

    /// Runs a command against this broker.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = dohle(arguments);
        command.args(["--bootstrap-server", &self.address]);
        run(&mut command, input)
    }

    /// As [`Self::run`], of a command that succeeds; what it printed.
    pub(crate) fn succeed(&self, arguments: &[&str], input: &str) -> String {
        let ended = self.run(arguments, input);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}");
        ended.stdout
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Ended {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that ends without reading its input has said why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || text(&mut stdout));
    let stderr = text(&mut child.stderr.take().unwrap());
    let code = wait(&mut child).code().unwrap_or(-1);
    Ended { code, stdout: reader.join().unwrap(), stderr }
}

fn text(from: &mut impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

fn wait(child: &mut Child) -> ExitStatus {
    until("a process ends", || child.try_wait().unwrap())
}

/// Asks again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
