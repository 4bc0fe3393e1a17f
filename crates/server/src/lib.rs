//! From a configuration to a running node: reads `server.properties`, binds the listeners, opens the data
//! directory, and hands all of it to the event loop.
//!
//! What it is not: it decides nothing about Kafka (`dohle-broker`) and carries out no effects (`dohle-io`).
//!
//! Start reading at [`run`].

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dohle_broker::Node;
use dohle_configs::{BrokerConfig, StartErrors, broker};
use dohle_io::disk::files::{Files, LogDirError, OPEN_FILES_MAX, read_small_file};
use dohle_io::machine;
use dohle_io::net::event_loop::{EventLoop, Listeners, NetworkLimits};
use dohle_io::signals::StopSignals;
use dohle_storage::journal::JournalConfig;
use dohle_types::Rng;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A Kafka `server.properties`.
    pub file: Option<PathBuf>,
    /// `name=value` pairs that win over the file.
    pub overrides: Vec<String>,
    /// The data directory; wins over the file and the overrides.
    pub data: Option<String>,
    /// `host:port` to listen on; wins over the file and the overrides.
    pub listen: Option<String>,
}

/// A node that listens.
#[derive(Debug)]
pub struct Started {
    /// The addresses it listens on.
    pub addresses: Vec<SocketAddr>,
    /// The addresses where it serves metrics.
    pub metrics: Vec<SocketAddr>,
    /// Its log dirs, that of the metadata log included.
    pub data: Vec<PathBuf>,
}

/// Why a node cannot start, or ended without being asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The properties file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] StartErrors),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error}{}", hint(.error))]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// A log dir cannot be used.
    #[error("{0}")]
    LogDir(#[from] LogDirError),
    /// The system refuses what a node needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The node stopped by itself.
    #[error("stopped: {0}")]
    Stopped(String),
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; another broker may be running: stop it, or choose another address with --listen"
    } else {
        ""
    }
}

/// Runs a node until it is asked to stop by SIGTERM or SIGINT; `on_ready` is called once, when it serves.
///
/// # Errors
/// See [`ServerError`].
pub fn run(options: &Options, on_ready: impl FnOnce(&Started)) -> Result<(), ServerError> {
    let config = configuration(options)?;
    let data: Vec<PathBuf> = config.directories().into_iter().map(PathBuf::from).collect();
    let handles = raise_open_files_limit();
    let signals = StopSignals::install()?;
    let listeners = bind(&config)?;
    let addresses_of = |listeners: &[TcpListener]| {
        listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()
    };
    let (addresses, metrics) = (addresses_of(&listeners.clients)?, addresses_of(&listeners.metrics)?);
    let files = Files::open(&data)?;
    let mut limits = network_limits(&config, handles);
    let request_bytes_configured = limits.frame_bytes_max;
    let node = Node::new(config.clone(), machine::memory(), seed()?);
    limits.frame_bytes_max = node.memory().request_bytes_max(&config);
    tell_memory(&node, limits.frame_bytes_max, request_bytes_configured);
    let (journal, rng) = (JournalConfig::of(&config), Rng::from_seed(seed()?));
    let event_loop = EventLoop::new(node, files, listeners, signals, limits, journal, rng)?;
    let started = Started { addresses, metrics, data };
    event_loop.run(|| on_ready(&started)).map_err(ServerError::Stopped)
}

/// Says what memory there is, and for what.
fn tell_memory(node: &Node, request_bytes_max: usize, configured: usize) {
    let mib = |bytes: usize| bytes >> 20;
    let shares = node.memory_usage().map(|(share, usage)| format!("{share} {} MiB", mib(usage.limit)));
    tracing::info!("dohle.memory.max is {} MiB: {}", mib(node.memory().total()), shares.join(", "));
    if request_bytes_max < configured {
        tracing::warn!(
            "requests of more than {request_bytes_max} bytes are refused, for dohle.memory.max leaves no room for the \
             {configured} of socket.request.max.bytes"
        );
    }
}

fn configuration(options: &Options) -> Result<BrokerConfig, ServerError> {
    let text = match &options.file {
        Some(path) => {
            read_small_file(path).map_err(|error| ServerError::File { path: path.clone(), error })?
        }
        None => String::new(),
    };
    let mut overrides = Vec::new();
    // Without a file nobody has thought about who may connect: this machine only.
    if options.file.is_none() {
        overrides.push("listeners=PLAINTEXT://127.0.0.1:9092".to_owned());
    }
    overrides.extend(options.overrides.iter().cloned());
    overrides.extend(options.listen.as_ref().map(|address| format!("listeners=PLAINTEXT://{address}")));
    overrides.extend(options.data.as_ref().map(|directory| format!("log.dirs={directory}")));
    let (config, warnings) = BrokerConfig::parse(&text, &overrides)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn bind(config: &BrokerConfig) -> Result<Listeners, ServerError> {
    let clients = config.listeners().into_iter().map(|listener| (listener.host, listener.port));
    let bind = |(host, port): (Option<String>, u16)| bind_one(config, host.as_deref(), port);
    Ok(Listeners {
        clients: clients.map(bind).collect::<Result<_, _>>()?,
        metrics: config.metrics_listeners().into_iter().map(bind).collect::<Result<_, _>>()?,
    })
}

fn bind_one(config: &BrokerConfig, host: Option<&str>, port: u16) -> Result<TcpListener, ServerError> {
    let backlog = config.value(broker::SOCKET_LISTEN_BACKLOG_SIZE);
    let host = host.unwrap_or("0.0.0.0");
    let name = format!("{host}:{port}");
    let failed = |error| ServerError::Listen { address: name.clone(), error };
    let address = (host, port)
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::Error::other("the host has no address")))?;
    listen(address, backlog).map_err(failed)
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A port whose last connections are still in TIME_WAIT is free for a broker that is started again.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A process that may open `handles` files needs some of them for its logs: clients that connect until there are none
/// left would end it.
fn network_limits(config: &BrokerConfig, handles: usize) -> NetworkLimits {
    let size = |value: i32| usize::try_from(value).unwrap_or_default();
    let idle_ms = config.value(broker::CONNECTIONS_MAX_IDLE_MS);
    NetworkLimits {
        frame_bytes_max: size(config.value(broker::SOCKET_REQUEST_MAX_BYTES)),
        connections_max: handles - (handles / 2).min(FILES_MAX),
        idle_max: u64::try_from(idle_ms).ok().map(Duration::from_millis),
    }
}

/// Handles that the files of a node may take.
const FILES_MAX: usize = OPEN_FILES_MAX + 64;

/// Each connection and each open segment takes a file handle: asks for as many as the system grants. How many it has
/// granted.
fn raise_open_files_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
    let granted = getrlimit(Resource::Nofile).current;
    granted.and_then(|granted| usize::try_from(granted).ok()).unwrap_or(usize::MAX)
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled == bytes.len() {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::other("the system gives no randomness"))
    }
}

/// The path as it is shown to people.
#[must_use]
pub fn shown(path: &Path) -> String {
    if path.is_absolute() || path.starts_with(".") {
        path.display().to_string()
    } else {
        format!("./{}", path.display())
    }
}
