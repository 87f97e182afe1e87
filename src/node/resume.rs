//! Starting again what was applied before this node started.
//!
//! What can't be started (its plugin's file is damaged, the machine has no memory for it) is not forgotten: it stands
//! in the status with the reason, and is tried again. A missing topic is no such reason: the stage waits for it, as it
//! does when the topic disappears while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use millstream_runtime::pipeline::{Place, Problem, Severity, Validated};
use serde::Serialize;

use super::NodeState;
use super::document::PipelineDocument;
use super::pipelines::{MissingTopics, Wanted};

const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);

/// A pipeline that was applied and does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NotRunning {
    pub(crate) pipeline: String,
    pub(crate) problems: Vec<Problem>,
}

/// The pipelines that are still to be started, and what kept them from it; nothing, before the first attempt. The mutex
/// is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Unresumed(Mutex<BTreeMap<String, Vec<Problem>>>);

impl Unresumed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Problem>>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }

    /// It runs now, or is no longer wanted.
    pub(super) fn settle(&self, pipeline: &str) {
        self.lock().remove(pipeline);
    }

    fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Keeps the problems; true if they are others than before.
    fn fail(&self, pipeline: &str, problems: Vec<Problem>) -> bool {
        let before = self.lock().insert(pipeline.to_owned(), problems.clone());
        before != Some(problems)
    }
}

impl NodeState {
    /// What was applied and could not be started.
    pub(crate) fn not_running(&self) -> Vec<NotRunning> {
        let unresumed = self.unresumed.lock();
        let tried = unresumed.iter().filter(|(_, problems)| !problems.is_empty());
        tried
            .map(|(name, problems)| NotRunning { pipeline: name.clone(), problems: problems.clone() })
            .collect()
    }

    /// Starts what was applied, until all of it runs or the node stops.
    pub(super) async fn resume_pipelines(self: Arc<Self>) {
        self.unresumed.lock().extend(self.pipelines().into_iter().map(|name| (name, Vec::new())));
        let mut wait = RETRY_WAIT_MIN;
        loop {
            for name in self.unresumed.names() {
                if self.stop.run_until_cancelled(self.resume(&name)).await.is_none() {
                    return;
                }
            }
            if self.unresumed.names().is_empty()
                || self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none()
            {
                return;
            }
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    async fn resume(self: &Arc<Self>, name: &str) {
        let _applying = self.applying.lock().await;
        // Meanwhile it may have been applied anew, or deleted.
        if !self.unresumed.lock().contains_key(name) {
            return;
        }
        match self.check_document(name).await {
            Ok(Validated { pipeline: Some(pipeline), .. }) => {
                self.run(&pipeline).await;
                self.unresumed.settle(name);
            }
            Ok(Validated { mut problems, pipeline: None, .. }) => {
                problems.retain(|problem| problem.severity == Severity::Error);
                self.report(name, problems);
            }
            Err(message) => {
                let file = format!("pipeline {name}");
                let remedy = None;
                let (severity, place) = (Severity::Error, Place::default());
                self.report(name, vec![Problem { severity, file, place, message, remedy }]);
            }
        }
    }

    async fn check_document(self: &Arc<Self>, name: &str) -> Result<Validated, String> {
        let image = self.broker.metadata().image();
        let (document, _) = PipelineDocument::find(&image, name);
        let document = document.map_err(|error| format!("its document can't be read: {error}"))?;
        let wanted = Wanted::Document(document.ok_or("its document is gone")?);
        let checked = self.checked(wanted, MissingTopics::Awaited).await;
        Ok(checked.map_err(|error| error.to_string())?.validated)
    }

    fn report(&self, name: &str, problems: Vec<Problem>) {
        if self.unresumed.fail(name, problems.clone()) {
            for problem in problems {
                tracing::error!(pipeline = name, %problem, "the pipeline can't be started, and is tried again");
            }
        }
    }
}
