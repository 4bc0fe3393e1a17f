//! What the system knows of this process.

use std::fs;

use dohle_metrics::Page;
use dohle_metrics::table::process as table;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Writes it to a page; what the system does not tell is left out.
pub(crate) fn write_metrics(page: &mut Page) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "it is exact for a hundred days of processor time")]
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    page.value(table::PROCESS_CPU, seconds);
    let (size, resident) = memory(&fs::read_to_string("/proc/self/statm").unwrap_or_default());
    let page_size = rustix::param::page_size() as u64;
    let mut family = page.family(table::PROCESS_RESIDENT_MEMORY);
    resident.into_iter().for_each(|pages| family.sample(&[], pages * page_size));
    let mut family = page.family(table::PROCESS_VIRTUAL_MEMORY);
    size.into_iter().for_each(|pages| family.sample(&[], pages * page_size));
    let mut family = page.family(table::PROCESS_OPEN_FDS);
    // The directory that is being read is one of them.
    entries("/proc/self/fd").into_iter().for_each(|count| family.sample(&[], count.saturating_sub(1)));
    let mut family = page.family(table::PROCESS_MAX_FDS);
    getrlimit(Resource::Nofile).current.into_iter().for_each(|max| family.sample(&[], max));
    let mut family = page.family(table::PROCESS_THREADS);
    entries("/proc/self/task").into_iter().for_each(|count| family.sample(&[], count));
    page.family(table::BUILD_INFO).sample(&[env!("CARGO_PKG_VERSION")], 1_u64);
}

fn entries(directory: &str) -> Option<usize> {
    fs::read_dir(directory).ok().map(Iterator::count)
}

/// Pages of memory that are reserved, and that are in RAM.
fn memory(statm: &str) -> (Option<u64>, Option<u64>) {
    let mut numbers = statm.split_ascii_whitespace().map(|number| number.parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_pages() {
        assert_eq!(memory("2562 1043 905 4 0 210 0\n"), (Some(2562), Some(1043)));
        assert_eq!(memory(""), (None, None));
    }
}
