//! A directory whose plugins are deployed when they change: `DIR/PIPELINE/PLUGIN.wasm`, beside which a signature may lie.
//!
//! ```text
//! notify's thread ── something changed (a permit, not an event) ──> the watch's task: reads the directory when it has
//!                                                                   been quiet for a moment, deploys what is new
//! ```
//!
//! What counts is a file's content: a touch deploys nothing, and neither what runs already nor what was deployed from
//! here before is deployed again, also after a restart. A file that is
//! no plugin, or that its pipeline can't run, changes nothing; why stands in the status until the file is another, or
//! its pipeline is: then it is tried again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::Serialize;
use tokio::sync::Notify;

use super::deploy::DeployRequest;
use super::{NodeState, PluginStoreError, versions};
use crate::regular_file;
use crate::signature::{read_beside, signature_path};

/// A file is read when nothing has changed for so long: writing it takes a moment.
const QUIET: Duration = Duration::from_millis(300);
/// Not every file system tells what changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Files that are looked at; a directory with more was not meant.
const FILES_MAX: usize = 1000;
const SUFFIX: &str = "wasm";

/// A file that was not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NotDeployed {
    pub(crate) file: PathBuf,
    pub(crate) error: String,
}

/// What became of the watched directory's files. The mutex is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Watched {
    seen: Mutex<BTreeMap<PathBuf, Seen>>,
    /// Something in the directory, or in what its files are for, may have changed.
    something: Arc<Notify>,
}

/// A file as it was when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    /// Why it is not what runs.
    error: Option<String>,
}

/// A plugin's file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    pipeline: String,
    plugin: String,
    stamp: Stamp,
}

/// Changes whenever the file or its signature does: when each was modified, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (SystemTime, u64),
    signature: Option<(SystemTime, u64)>,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Seen>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }

    /// What the pipeline couldn't run before, it may run now.
    pub(super) fn retry(&self, pipeline: &str) {
        let is_of = |path: &Path| path.parent().and_then(Path::file_name).is_some_and(|dir| dir == pipeline);
        self.lock().retain(|path, seen| seen.error.is_none() || !is_of(path));
        self.something.notify_one();
    }

    pub(super) fn not_deployed(&self) -> Vec<NotDeployed> {
        let seen = self.lock();
        let failed = seen.iter().filter_map(|(file, seen)| Some((file, seen.error.clone()?)));
        failed.map(|(file, error)| NotDeployed { file: file.clone(), error }).collect()
    }

    /// Those of the files that are new or have changed; others that are gone are forgotten.
    fn changed(&self, found: Vec<Found>) -> Vec<Found> {
        let mut seen = self.lock();
        seen.retain(|path, _| found.iter().any(|found| found.path == *path));
        let is_known = |found: &Found| {
            let seen = seen.get(&found.path);
            seen.is_some_and(|seen| seen.stamp == found.stamp)
        };
        found.into_iter().filter(|found| !is_known(found)).collect()
    }

    fn settle(&self, found: &Found, error: Option<String>) {
        let seen = Seen { stamp: found.stamp, error };
        self.lock().insert(found.path.clone(), seen);
    }
}

impl NodeState {
    /// Deploys what is put into the directory, until the node stops.
    pub(super) async fn watch_plugins(self: Arc<Self>, dir: PathBuf) {
        let something = Arc::clone(&self.watched.something);
        let _watcher = match watcher(&dir, &something) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                let dir = dir.display();
                tracing::warn!(%dir, %error, "changes are not told, and looked for every {LOOK_EVERY:?}");
                None
            }
        };
        loop {
            self.deploy_changed(&dir).await;
            let waited = async {
                let told = tokio::time::timeout(LOOK_EVERY, something.notified()).await;
                // As long as something goes on changing, it is not done.
                while told.is_ok() && tokio::time::timeout(QUIET, something.notified()).await.is_ok() {}
            };
            if self.stop.run_until_cancelled(waited).await.is_none() {
                return;
            }
        }
    }

    async fn deploy_changed(self: &Arc<Self>, dir: &Path) {
        let reading = dir.to_owned();
        let found = tokio::task::spawn_blocking(move || find(&reading)).await;
        let found = match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(found) => found,
            Err(error) => {
                let dir = dir.display();
                return tracing::error!(%dir, %error, "the directory of plugins can't be read");
            }
        };
        for found in self.watched.changed(found) {
            let deployed = self.deploy_file(&found).await;
            if let Err(error) = &deployed {
                let file = found.path.display();
                tracing::error!(%file, error, "not deployed: what ran before goes on");
            }
            self.watched.settle(&found, deployed.err());
        }
    }

    async fn deploy_file(self: &Arc<Self>, found: &Found) -> Result<(), String> {
        let Found { path, pipeline, plugin, .. } = found;
        let path = path.clone();
        let state = Arc::clone(self);
        let stored = move || -> Result<String, PluginStoreError> {
            let fail = |path| move |source| PluginStoreError::Io { action: "read", path, source };
            let bytes = regular_file::read(&path, COMPONENT_BYTES_MAX).map_err(fail(path.clone()))?;
            let sha256 = super::plugin_hash(&bytes);
            let signature = read_beside(&path).map_err(fail(signature_path(&path)))?;
            state.put_plugin(&sha256, &bytes, signature.as_deref())?;
            Ok(sha256)
        };
        let stored = tokio::task::spawn_blocking(stored).await.map_err(|error| error.to_string())?;
        let sha256 = stored.map_err(|error| error.to_string())?;
        let runs = self.versions().into_iter().find(|(name, _)| name == pipeline);
        let runs = runs.and_then(|(_, mut versions)| versions.remove(plugin));
        if let Some(versions) = runs {
            // A node that starts finds what it has deployed before, or asked somebody about.
            match versions.found(&sha256) {
                versions::Found::New => {}
                versions::Found::Settled => {
                    let taken_down = self.take_down_watched(pipeline, plugin, &sha256).await;
                    return taken_down.map_err(|error| error.to_text());
                }
                versions::Found::Done(reason) => return Err(reason.to_owned()),
            }
        }
        let request = DeployRequest { sha256: Some(sha256), is_watched: true, ..DeployRequest::default() };
        let deployed = self.deploy(pipeline, plugin, request).await.map_err(|error| error.to_text())?;
        if deployed.waiting.is_some() {
            // The status has it.
            return Ok(());
        }
        tracing::info!(
            pipeline,
            plugin,
            version = deployed.version,
            "deployed from the directory of plugins"
        );
        Ok(())
    }
}

fn watcher(dir: &Path, something: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let something = Arc::clone(something);
    let mut watcher = notify::recommended_watcher(move |_| something.notify_one())?;
    watcher.watch(dir, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// The plugins' files, by their paths.
fn find(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for pipeline in fs::read_dir(dir)? {
        let pipeline = pipeline?;
        if !pipeline.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(pipeline.path())? {
            let path = file?.path();
            let (Some(plugin), Some(pipeline)) =
                (path.file_stem(), pipeline.file_name().to_str().map(str::to_owned))
            else {
                continue;
            };
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            // It may be gone again.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !metadata.is_file() || found.len() == FILES_MAX {
                continue;
            }
            let plugin = plugin.to_string_lossy().into_owned();
            let signature = fs::metadata(signature_path(&path)).ok();
            let stamp = |metadata: fs::Metadata| Ok::<_, io::Error>((metadata.modified()?, metadata.len()));
            let stamp = Stamp { file: stamp(metadata)?, signature: signature.map(stamp).transpose()? };
            found.push(Found { pipeline, plugin, stamp, path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, file: &str, content: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn files_are_known_by_pipeline_and_plugin_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        for (file, content) in [("p/a.wasm", "1"), ("p/b.txt", "no"), ("q/a.wasm", "22"), ("c.wasm", "no")] {
            put(dir.path(), file, content);
        }
        let watched = Watched::default();
        let names = |found: &[Found]| -> Vec<(String, String)> {
            found.iter().map(|found| (found.pipeline.clone(), found.plugin.clone())).collect()
        };
        let changed = watched.changed(find(dir.path()).unwrap());
        let both = [("p", "a"), ("q", "a")].map(|(p, a)| (p.to_owned(), a.to_owned()));
        assert_eq!(names(&changed), both);
        watched.settle(&changed[0], None);
        watched.settle(&changed[1], Some("it is bad".to_owned()));
        assert_eq!(watched.changed(find(dir.path()).unwrap()), []);
        assert_eq!(watched.not_deployed().len(), 1);
        put(dir.path(), "q/a.wasm", "333");
        assert_eq!(names(&watched.changed(find(dir.path()).unwrap())), both[1..]);
        fs::remove_file(dir.path().join("q/a.wasm")).unwrap();
        watched.changed(find(dir.path()).unwrap());
        assert_eq!(watched.not_deployed(), []);
    }
}
