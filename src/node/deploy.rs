//! Changing the versions of an applied pipeline's plugins: deploy, try out, promote, roll back.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_runtime::pipeline::PipelineSpec;
use millstream_runtime::stage::StageEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NodeState;
use super::document::PipelineDocument;
use super::pipelines::{ApplyOutcome, MissingTopics, PipelineError, Wanted};
use super::versions::{Content, PluginVersions, VersionError, Versions};

/// A version that somebody brings: a component that was uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployRequest {
    pub(crate) sha256: String,
    /// Absent: that of the active version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
    /// Try it on these partitions of the stages' input only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<BTreeSet<i32>>,
}

/// Which version is wanted back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// Absent: the one before, or an end of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<u32>,
}

/// What became of a change of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeployOutcome {
    pub(crate) plugin: String,
    /// The version that the change was about.
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) applied: ApplyOutcome,
}

impl NodeState {
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        request: DeployRequest,
    ) -> Result<DeployOutcome, PipelineError> {
        let now_ms = self.runtime_clock.wall_ms();
        let change = |versions: &mut Versions| {
            let DeployRequest { sha256, config, partitions } = request;
            let active = versions.active();
            let (config, limits) = (config.unwrap_or_else(|| active.config.clone()), active.limits.clone());
            let content = Content { sha256, config, limits };
            match partitions {
                None => Ok(versions.deploy(content, now_ms)),
                Some(partitions) => versions.try_out(content, partitions, now_ms),
            }
        };
        self.change_versions(pipeline, plugin, change).await
    }

    pub(crate) async fn promote(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
    ) -> Result<DeployOutcome, PipelineError> {
        let now_ms = self.runtime_clock.wall_ms();
        self.change_versions(pipeline, plugin, |versions| versions.promote(now_ms)).await
    }

    pub(crate) async fn roll_back(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        request: RollbackRequest,
    ) -> Result<DeployOutcome, PipelineError> {
        let now_ms = self.runtime_clock.wall_ms();
        self.change_versions(pipeline, plugin, |versions| versions.roll_back(request.to, now_ms)).await
    }

    /// The plugins' versions of all pipelines that can be read.
    pub(crate) fn versions(&self) -> Vec<(String, PluginVersions)> {
        let image = self.broker.metadata().image();
        let documents = PipelineDocument::all(&image);
        documents.filter_map(|(name, document)| Some((name.to_owned(), document.ok()?.versions))).collect()
    }

    /// Checked and run like a pipeline that is applied: if anything is wrong with it, nothing changes.
    async fn change_versions(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        change: impl FnOnce(&mut Versions) -> Result<u32, VersionError>,
    ) -> Result<DeployOutcome, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let mut document = self.document(pipeline)?;
        self.version_all(pipeline, &mut document)?;
        let known = || document.versions.keys().cloned().collect();
        let unknown = PipelineError::UnknownPlugin {
            pipeline: pipeline.to_owned(),
            plugin: plugin.to_owned(),
            known: known(),
        };
        let version = change(document.versions.get_mut(plugin).ok_or(unknown)?)?;
        let checked = self.checked(Wanted::Document(document), MissingTopics::Awaited).await?;
        let applied = self.run_checked(applying, checked).await?;
        Ok(DeployOutcome { plugin: plugin.to_owned(), version, applied })
    }

    fn document(&self, pipeline: &str) -> Result<PipelineDocument, PipelineError> {
        let image = self.broker.metadata().image();
        let (document, _) = PipelineDocument::find(&image, pipeline);
        let document = document.map_err(|_| PipelineError::Document(pipeline.to_owned()))?;
        document.ok_or_else(|| PipelineError::Unknown(pipeline.to_owned()))
    }

    /// What was applied before there were versions gets its first ones.
    fn version_all(&self, pipeline: &str, document: &mut PipelineDocument) -> Result<(), PipelineError> {
        let spec: PipelineSpec = document.spec().map_err(|_| PipelineError::Document(pipeline.to_owned()))?;
        let now_ms = self.runtime_clock.wall_ms();
        for plugin in &spec.plugins {
            if let Some(sha256) = document.plugins.get(&plugin.file) {
                let first = || Versions::first(Content::of(plugin, sha256), now_ms);
                document.versions.entry(plugin.name.clone()).or_insert_with(first);
            }
        }
        Ok(())
    }

    /// Takes down which versions stages took back by themselves, until the node stops.
    pub(super) async fn follow_stages(self: Arc<Self>, mut events: tokio::sync::mpsc::Receiver<StageEvent>) {
        while let Some(Some(event)) = self.stop.run_until_cancelled(events.recv()).await {
            let (pipeline, plugin) = (event.pipeline.clone(), event.rolled_back.plugin.clone());
            if let Err(error) = self.take_back(event).await {
                tracing::error!(pipeline, plugin, %error, "that a version was taken back is not written down");
            }
        }
    }

    /// Other stages of the pipeline with that version go back, too.
    async fn take_back(self: &Arc<Self>, event: StageEvent) -> Result<(), PipelineError> {
        let StageEvent { pipeline, rolled_back, .. } = event;
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let mut document = self.document(&pipeline)?;
        let now_ms = self.runtime_clock.wall_ms();
        let Some(versions) = document.versions.get_mut(&rolled_back.plugin) else { return Ok(()) };
        if !versions.taken_back(rolled_back.from, rolled_back.to, &rolled_back.reason, now_ms) {
            return Ok(());
        }
        let checked = self.checked(Wanted::Document(document), MissingTopics::Awaited).await?;
        self.run_checked(applying, checked).await.map(drop)
    }
}
