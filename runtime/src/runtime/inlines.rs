//! The ingests and views that run on this node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Applied, StageKey, key, swap};
use crate::inline::{Inline, InlineSpec, LetterBox, Postman, RunningInline};
use crate::stage::{StageShared, StageStatus};

/// In one mutex that is never held across an await.
#[derive(Default)]
pub(super) struct Inlines(Mutex<BTreeMap<StageKey, RunningInline>>);

impl Inlines {
    /// Makes the ingests and views of a pipeline those of `wanted`. One that is replaced works until the new one does.
    pub(super) async fn apply(
        &self,
        pipeline: &str,
        wanted: &[InlineSpec],
        open: impl Fn(&InlineSpec) -> (Arc<StageShared>, Option<(LetterBox, Postman)>),
        applied: &mut Applied,
    ) {
        for spec in wanted {
            let name = spec.stage.name.clone();
            let running = self.find(pipeline, &name);
            match running {
                Some(running) if running.spec().is_the_one_of(spec) => {
                    let deployments = &running.shared().deployments;
                    if deployments.current().same_as(&spec.stage.plugins, spec.stage.canary.as_ref()) {
                        applied.unchanged.push(name);
                    } else {
                        swap::swap(running.shared(), &spec.stage).await;
                        applied.swapped.push(name);
                    }
                    continue;
                }
                Some(_) => applied.restarted.push(name.clone()),
                None => applied.started.push(name.clone()),
            }
            let (shared, letters) = open(spec);
            let started = match RunningInline::start(spec.clone(), shared, letters) {
                Ok(started) => started,
                Err(error) => {
                    tracing::error!(pipeline, name, %error, "no thread for an ingest or view");
                    continue;
                }
            };
            let replaced = self.lock().insert(key(pipeline, &name), started);
            if let Some(replaced) = replaced {
                replaced.stop().await;
            }
        }
        let is_wanted = |name: &str| wanted.iter().any(|spec| spec.stage.name == name);
        for running in self.take(|key| key.pipeline == pipeline && !is_wanted(&key.stage)) {
            applied.removed.push(running.inline.spec().stage.name.clone());
            running.stop().await;
        }
    }

    pub(super) async fn shutdown(&self) {
        let all = self.take(|_| true);
        all.iter().for_each(RunningInline::cancel);
        for running in all {
            running.stop().await;
        }
    }

    pub(super) fn of(&self, pipeline: &str) -> Vec<Inline> {
        let running = self.lock();
        let own = running.iter().filter(|(key, _)| key.pipeline == pipeline);
        own.map(|(_, running)| running.inline.clone()).collect()
    }

    pub(super) fn status(&self) -> Vec<StageStatus> {
        self.lock().values().map(|running| running.inline.shared().status()).collect()
    }

    /// Those of other pipelines.
    pub(super) fn others(&self, pipeline: &str) -> Vec<Arc<StageShared>> {
        let running = self.lock();
        let others = running.iter().filter(|(key, _)| key.pipeline != pipeline);
        others.map(|(_, running)| Arc::clone(running.inline.shared())).collect()
    }

    pub(super) fn shared(&self, pipeline: &str, name: &str) -> Option<Arc<StageShared>> {
        self.find(pipeline, name).map(|running| Arc::clone(running.shared()))
    }

    fn find(&self, pipeline: &str, name: &str) -> Option<Inline> {
        self.lock().get(&key(pipeline, name)).map(|running| running.inline.clone())
    }

    fn take(&self, wanted: impl Fn(&StageKey) -> bool) -> Vec<RunningInline> {
        let mut running = self.lock();
        let keys: Vec<StageKey> = running.keys().filter(|key| wanted(key)).cloned().collect();
        keys.iter().filter_map(|key| running.remove(key)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StageKey, RunningInline>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}
