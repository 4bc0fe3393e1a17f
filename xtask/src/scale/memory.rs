//! `cargo xtask scale memory`: a node with 64 MiB, first beside clients who send most of a large request and no more, then
//! beside consumers who ask for much and read it slowly. Meanwhile a client that means well writes and reads.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Node, raise_open_files_limit};
use crate::interop::process::Result;

/// What the node is given.
pub(super) const BUDGET: &str = "dohle.memory.max=67108864";

const REQUEST_BYTES: u32 = 1_000_000;
const SENT_BYTES: usize = 900_000;
/// What slow consumers read of their answers every tenth of a second.
const READ_BYTES: usize = 8 << 10;

/// So many clients that send, and a quarter as many that read.
pub(super) fn run(node: &Node<'_>, clients: usize) -> Result<()> {
    raise_open_files_limit();
    node.dohle(&[
        "bench",
        "produce",
        "--topic",
        "much",
        "--partitions",
        "50",
        "--size",
        "1000",
        "-n",
        "500000",
    ])?;
    node.tell("500 MB in 50 partitions written")?;
    good_client(node, "alone")?;

    let mut request = REQUEST_BYTES.to_be_bytes().to_vec();
    request.resize(SENT_BYTES, 0);
    let senders = connect(node, clients, |stream| {
        stream.set_nonblocking(true)?;
        match stream.write(&request) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    })?;
    good_client(node, &format!("beside {clients} half-sent requests of 1 MB"))?;
    drop(senders);

    let request = fetch(50);
    let readers = connect(node, clients / 4, |stream| {
        stream.write_all(&request)?;
        stream.set_nonblocking(true)
    })?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; READ_BYTES];
            while !over.load(Ordering::Relaxed) {
                for mut stream in &readers {
                    // Nothing has come yet, or the node has closed it.
                    let _ = stream.read(&mut buffer);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let done =
            good_client(node, &format!("beside {} fetches of 50 MB that are read slowly", clients / 4));
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// Writes and reads a little, and tells how long it took.
fn good_client(node: &Node<'_>, when: &str) -> Result<()> {
    let begun = Instant::now();
    let small = ["bench", "latency", "--topic", "good", "--rate", "200", "--duration", "2"];
    let printed = node.dohle(&small)?;
    let small = begun.elapsed();
    node.dohle(&[
        "bench",
        "produce",
        "--topic",
        "good",
        "--size",
        "1000",
        "--batch-size",
        "500000",
        "-n",
        "5000",
    ])?;
    let large = begun.elapsed() - small;
    node.dohle(&["bench", "consume", "--topic", "good", "-n", "5000"])?;
    let read = begun.elapsed() - small - large;
    println!("{when}:\n{printed}");
    node.tell(&format!(
        "  2 s of small requests {small:.1?}, 5 MB in large ones {large:.1?}, reading {read:.1?}"
    ))
}

fn connect(
    node: &Node<'_>,
    count: usize,
    begin: impl Fn(&mut TcpStream) -> std::io::Result<()>,
) -> Result<Vec<TcpStream>> {
    let one = |number| {
        let failed = |error| format!("connection {number}: {error}");
        let mut stream = connect_from_afar(&node.broker.bootstrap()).map_err(failed)?;
        begin(&mut stream).map_err(failed)?;
        Ok(stream)
    };
    (0..count).map(one).collect()
}

/// A connection from another address than that of the client that means well: addresses take turns.
fn connect_from_afar(address: &str) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from(([127, 0, 0, 2], 0)))?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

/// A fetch (version 4) of the first so many partitions of the topic `much`, of 50 MB at the most.
fn fetch(partitions: i32) -> Vec<u8> {
    const MAX_BYTES: i32 = 50_000_000;
    let mut body: Vec<u8> = Vec::new();
    // Fetch, version 4, correlation id 7, no client id; no replica.
    body.extend(b"\0\x01\0\x04\0\0\0\x07\xff\xff");
    for number in [-1, 30_000, 1, MAX_BYTES] {
        body.extend(i32::to_be_bytes(number));
    }
    body.push(0);
    body.extend(1_i32.to_be_bytes());
    body.extend(b"\0\x04much");
    body.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend(0_i64.to_be_bytes());
        body.extend(MAX_BYTES.to_be_bytes());
    }
    let length = u32::try_from(body.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &body].concat()
}
