//! Open files: each connection is one, and a node that runs out of them can't begin a new segment, which takes its
//! log dir offline.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections: segments, plugins, the process that compiles one.
const RESERVED: u64 = 256;

/// Raises this process' limit as far as it goes; answers how many connections leave room for everything else,
/// `wanted` at most.
pub(super) fn connections_max(wanted: i32) -> i32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // Where it can't be raised it stays as it is.
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current;
    let possible = possible(files, wanted);
    if possible < wanted {
        tracing::warn!(
            open_files = files,
            max_connections = possible,
            "fewer connections than max.connections = {wanted} are taken: raise the limit of open files"
        );
    }
    possible
}

fn possible(files: Option<u64>, wanted: i32) -> i32 {
    let Some(files) = files else { return wanted };
    // However few files there are, somebody can connect.
    let room = files.saturating_sub(RESERVED).max(files / 2).max(1);
    i32::try_from(room).map_or(wanted, |room| room.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::{connections_max, possible};

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(possible(None, 10_000), 10_000);
        assert_eq!(possible(Some(1 << 40), 10_000), 10_000);
        assert_eq!(possible(Some(1024), 10_000), 768);
        assert_eq!(possible(Some(100), 10_000), 50);
        assert_eq!(possible(Some(0), 10_000), 1);
        assert!(connections_max(10) <= 10);
    }
}
