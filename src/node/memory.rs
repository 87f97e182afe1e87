//! How much memory this process may have.

use std::fs;
use std::path::{Path, PathBuf};

/// The least of what the machine has and what the process' control groups, each within another, allow; none where the
/// system doesn't say.
pub(super) fn of_process() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // "max" is no number.
    let of_group = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
    let limits = groups.lines().flat_map(limit_files).filter_map(of_group);
    limits.chain(fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total)).min()
}

/// Where the limits are of a group in `/proc/self/cgroup`, and of those that it lies in.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        // Version 2 names none.
        "" => ("/sys/fs/cgroup", "memory.max"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().map(|group| Path::new(root).join(group).join(file)).collect()
}

/// Of `/proc/meminfo`, which counts in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{limit_files, of_process, total};

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(total("MemTotal:       24684132 kB\nMemFree: 1 kB\n"), Some(24_684_132 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(of_process().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn each_group_that_the_process_is_in_is_asked() {
        let files = |line| -> Vec<String> {
            limit_files(line).iter().map(|path| path.display().to_string()).collect()
        };
        let of_service = [
            "/sys/fs/cgroup/system.slice/millstream.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files("0::/system.slice/millstream.service"), of_service);
        assert_eq!(files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        let old =
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(files("4:memory:/a"), old);
        assert!(files("1:cpu:/a").is_empty() && files("").is_empty());
    }
}
