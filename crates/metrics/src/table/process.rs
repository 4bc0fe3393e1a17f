//! The process.

use crate::row::metrics;

metrics! {
    PROCESS_CPU "process_cpu_seconds_total": Counter, [], "Processor time that the process has used, in user and in system mode.";

    PROCESS_RESIDENT_MEMORY "process_resident_memory_bytes": Gauge, [], "Memory of the process that is in RAM.";

    PROCESS_VIRTUAL_MEMORY "process_virtual_memory_bytes": Gauge, [], "Addresses that the process has reserved.";

    PROCESS_OPEN_FDS "process_open_fds": Gauge, [], "File handles that are open: files, connections and others.";

    PROCESS_MAX_FDS "process_max_fds": Gauge, [], "File handles that the process may have open.";

    PROCESS_THREADS "process_threads": Gauge, [], "Threads of the process.";

    PROCESS_START_TIME "process_start_time_seconds": Gauge, [], "When the process was started, in seconds since 1970.";

    UPTIME "dohle_uptime_seconds": Gauge, [], "How long ago the process was started, by a clock that is never set.";

    BUILD_INFO "dohle_build_info": Gauge, ["version"], "Always 1; the label is Dohle's version.";

    NODE_SERVING "dohle_node_serving": Gauge, [], "1 once the node serves; 0 while it starts, and when it stops.";
}
