//! Counters that stay bounded, whatever paths clients think of.

use std::collections::BTreeMap;

/// The most pairs that may be asked for. With the limit on a path this is under half of a plugin's 64 MiB.
pub(crate) const PATHS_MAX: usize = 50_000;

/// Longer paths are cut, for the map and for the output.
const PATH_BYTES_MAX: usize = 512;

/// Stands for all paths that have no counter of their own.
const OTHER: &str = "(other)";

/// A counter for each pair of status and path.
#[derive(Debug)]
pub(crate) struct Counts {
    pairs_max: usize,
    pairs: usize,
    /// By status first, so that a path can be looked up without owning it. There are 1,000 statuses at most.
    paths: BTreeMap<u16, BTreeMap<Box<str>, u64>>,
    others: BTreeMap<u16, u64>,
}

impl Counts {
    pub(crate) fn new(pairs_max: usize) -> Self {
        Self { pairs_max, pairs: 0, paths: BTreeMap::new(), others: BTreeMap::new() }
    }

    /// Counts one, and says under which path and how many there are now.
    pub(crate) fn add<'p>(&mut self, status: u16, path: &'p str) -> (&'p str, u64) {
        let path = cut(path);
        let paths = self.paths.entry(status).or_default();
        if let Some(count) = paths.get_mut(path) {
            *count += 1;
            return (path, *count);
        }
        if self.pairs < self.pairs_max {
            paths.insert(path.into(), 1);
            self.pairs += 1;
            return (path, 1);
        }
        let others = self.others.entry(status).or_default();
        *others += 1;
        (OTHER, *others)
    }
}

fn cut(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_between_characters() {
        let mut counts = Counts::new(10);
        let long = format!("/{}", "é".repeat(1000));
        let (path, _) = counts.add(404, &long);
        assert_eq!(path.len(), 511);
        assert_eq!(counts.add(404, &long[..1001]), (path, 2));
    }
}
