//! The loads of the comparison: each a call of `dohle bench` on a topic of its own, and what of its result counts.

/// One load.
pub(crate) struct Load {
    /// Its name on the command line, and its topic's.
    pub(crate) name: &'static str,
    /// What it is, in the table.
    pub(crate) title: &'static str,
    pub(crate) partitions: u32,
    /// The words for `dohle bench`, without topic, duration and server.
    pub(crate) words: &'static [&'static str],
    /// Its result: what `dohle bench` calls it, and what the table calls it.
    pub(crate) figures: &'static [Figure],
    /// Whether the load reads, to its end, what the load of this name has written.
    pub(crate) reads: Option<&'static str>,
    /// Whether it runs only when it is asked for.
    pub(crate) by_name_only: bool,
}

/// One number of a load's result.
pub(crate) struct Figure {
    pub(crate) measure: &'static str,
    pub(crate) title: &'static str,
}

const fn figure(measure: &'static str, title: &'static str) -> Figure {
    Figure { measure, title }
}

const PER_REQUEST: &[Figure] =
    &[figure("server CPU per million requests", "CPU, us a request"), figure("p99", "p99, ms")];
const PER_GB: &[Figure] = &[figure("server CPU per GB", "CPU, s per GB")];
const LATENCIES: &[Figure] =
    &[figure("p50", "p50, ms"), figure("p99", "p99, ms"), figure("p99.9", "p99.9, ms")];
const ACKNOWLEDGED: &[Figure] = &[figure("throughput", "acknowledged/s"), figure("p99", "p99, ms")];

const PLAIN: Load =
    Load { name: "", title: "", partitions: 1, words: &[], figures: &[], reads: None, by_name_only: false };

/// All of them, in the order in which they run.
pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "single",
        title: "one 100 B record a request, 1 connection, 5,000/s",
        words: &["latency", "--rate", "5000", "--size", "100"],
        figures: PER_REQUEST,
        ..PLAIN
    },
    Load {
        name: "hundred",
        title: "the same over 100 connections and 100 partitions",
        partitions: 100,
        words: &["latency", "--rate", "5000", "--size", "100", "--connections", "100"],
        figures: PER_REQUEST,
        ..PLAIN
    },
    Load {
        name: "small",
        title: "100 B records in 16 KiB batches, 12 partitions, 30 MB/s",
        partitions: 12,
        words: &["produce", "--rate", "300000", "--size", "100", "--batch-size", "16384"],
        figures: PER_GB,
        ..PLAIN
    },
    Load {
        name: "large",
        title: "1 KB records in 1 MB batches, 50 MB/s",
        words: &["produce", "--rate", "50000", "--size", "1000", "--batch-size", "1000000"],
        figures: PER_GB,
        ..PLAIN
    },
    Load {
        name: "lz4",
        title: "the same compressed with lz4, 20 MB/s",
        words: &["produce", "--rate", "20000", "--size", "1000", "--batch-size", "1000000", "-z", "lz4"],
        figures: PER_GB,
        ..PLAIN
    },
    Load {
        name: "zstd",
        title: "the same compressed with zstd, 20 MB/s",
        words: &["produce", "--rate", "20000", "--size", "1000", "--batch-size", "1000000", "-z", "zstd"],
        figures: PER_GB,
        ..PLAIN
    },
    Load {
        name: "read",
        title: "reading the small records",
        words: &["consume"],
        figures: PER_GB,
        reads: Some("small"),
        ..PLAIN
    },
    Load {
        name: "acknowledge",
        title: "acknowledgement at 500/s, 1 KB",
        words: &["latency", "--rate", "500", "--size", "1000"],
        figures: LATENCIES,
        ..PLAIN
    },
    Load {
        name: "end-to-end",
        title: "end to end at 500/s, 1 KB",
        words: &["latency", "--rate", "500", "--size", "1000", "--end-to-end"],
        figures: LATENCIES,
        ..PLAIN
    },
    Load {
        name: "acks-1",
        title: "as many acknowledgements as go, 100 connections, 1 partition",
        words: SATURATING,
        figures: ACKNOWLEDGED,
        by_name_only: true,
        ..PLAIN
    },
    Load {
        name: "acks-100",
        title: "the same over 100 partitions",
        partitions: 100,
        words: SATURATING,
        figures: ACKNOWLEDGED,
        by_name_only: true,
        ..PLAIN
    },
    Load {
        name: "acks-1000",
        title: "the same over 1,000 partitions",
        partitions: 1000,
        words: SATURATING,
        figures: ACKNOWLEDGED,
        by_name_only: true,
        ..PLAIN
    },
];

/// Single records in batches of their own, as fast as they are acknowledged: each connection has five requests in flight,
/// and some dozens of records waiting, so that a slow broker is measured by what it acknowledges and not by how much
/// is left when the time is over.
const SATURATING: &[&str] = &[
    "produce",
    "--size",
    "100",
    "--batch-size",
    "1",
    "--linger",
    "0",
    "--connections",
    "100",
    "--buffer-memory",
    "16384",
];
