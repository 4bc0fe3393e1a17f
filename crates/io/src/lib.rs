//! The real world for the node: sockets, disk, clocks and threads. The only home of system calls.
//!
//! It carries out the node's effects (`dohle_broker::host`) and knows nothing of Kafka beyond the frame.
//! Threads: the event loop (everything that decides), the commit thread (group commit) and one for what follows
//! behind its journal, a small job pool (opening logs, cold reads, checkpoints) and one that waits for signals.
//!
//! Invariants:
//! 1. A written effect is reported only after all disk operations before it were carried out.
//! 2. A failed write or sync is reported once and never tried again.
//! 3. Memory of a connection grows with the bytes that arrived, never with a length that was announced.
//!
//! Start reading at [`net::event_loop`].

pub mod clock;
pub mod disk;
pub mod machine;
mod mailbox;
pub mod net;
mod process;
pub mod signals;
