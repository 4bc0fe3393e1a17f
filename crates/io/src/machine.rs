//! How much memory the process may use: what the machine has, or what a control group leaves it (versions 1 and 2).

use std::path::{Path, PathBuf};

use crate::disk::files::read_small_file;

/// Bytes of memory that the process may use; 0 where the system does not say.
#[must_use]
pub fn memory() -> u64 {
    let text = |path: &Path| read_small_file(path).unwrap_or_default();
    let machine = total_memory(&text(Path::new("/proc/meminfo")));
    let groups = text(Path::new("/proc/self/cgroup"));
    let limits = limit_files(&groups).into_iter().filter_map(|file| limit(&text(&file)));
    machine.into_iter().chain(limits).min().unwrap_or_default()
}

/// What `/proc/meminfo` says.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may limit a process of these control groups, as `/proc/self/cgroup` names them: those of its group
/// and of all above it. In a container the group's path is often that of the host, and only the root is there.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => (Path::new("/sys/fs/cgroup"), "memory.max"),
            v1 if v1.split(',').any(|controller| controller == "memory") => {
                (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        files.extend(
            group.ancestors().take_while(|above| above.starts_with(root)).map(|above| above.join(name)),
        );
    }
    files
}

/// What such a file says; no limit is `max` in version 2 and a number near 2^63 in version 1.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_what_meminfo_says() {
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree:         1 kB\n"), Some(16 << 20));
        assert_eq!(total_memory(""), None);
        assert!(memory() > 0, "this machine says how much it has");
    }

    #[test]
    fn a_group_and_all_above_it_may_limit() {
        let files = |groups: &str| -> Vec<String> {
            limit_files(groups).into_iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            files("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!([limit("max\n"), limit("1073741824\n"), limit("")], [None, Some(1 << 30), None]);
    }
}
