//! Changing the versions of an applied pipeline's plugins: deploy, try out, promote, roll back, approve, reject.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_runtime::grants::Grants;
use millstream_runtime::pipeline::PipelineSpec;
use millstream_runtime::runtime::Applied;
use millstream_runtime::stage::StageEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::OwnedMutexGuard;

use super::NodeState;
use super::document::{PIPELINE, PipelineDocument};
use super::pipelines::{ApplyOutcome, Checked, MissingTopics, PipelineError, Wanted};
use super::plugin_store::Unused;
use super::versions::{Content, PluginVersions, Version, VersionError, Versions, WaitingVersion};

/// A version that somebody wants. What is absent is as it is in the active version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployRequest {
    /// Of a component that was uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
    /// Those that change, by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<Map<String, Value>>,
    /// Try it on these partitions of the stages' input only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<BTreeSet<i32>>,
    /// The component lies in the watched directory. Nobody says so from outside.
    #[serde(skip)]
    pub(crate) is_watched: bool,
}

/// Which version is wanted back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// Absent: the one before, or an end of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<u32>,
}

/// What the version that waits is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveRequest {
    /// The version that was looked at. Absent: whichever waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// Beside what the active version has.
    #[serde(default)]
    pub(crate) grants: Grants,
}

/// Which version is not wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RejectRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
}

/// A version that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Waiting {
    pub(crate) pipeline: String,
    pub(crate) plugin: String,
    pub(crate) version: u32,
    pub(crate) sha256: String,
    /// Interfaces that it imports and is not granted.
    pub(crate) needs: String,
    /// The command that runs it.
    pub(crate) approve: String,
}

/// What became of a change of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeployOutcome {
    pub(crate) plugin: String,
    /// The version that the change was about.
    pub(crate) version: u32,
    /// Nothing else has changed: it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    #[serde(flatten)]
    pub(crate) applied: ApplyOutcome,
}

impl DeployRequest {
    /// Nothing else is another than in the active version.
    fn is_about_limits(&self) -> bool {
        self.sha256.is_none() && self.config.is_none()
    }

    /// Where the component lies, for when the node starts again.
    fn take_down(&self, versions: &mut Versions) {
        if let (true, Some(sha256)) = (self.is_watched, &self.sha256) {
            versions.watch(sha256);
        }
    }

    fn content(&self, active: &Version) -> Result<Content, VersionError> {
        let mut content = active.content();
        if let Some(sha256) = &self.sha256 {
            content.sha256.clone_from(sha256);
        }
        if let Some(config) = &self.config {
            content.config.clone_from(config);
        }
        match &self.limits {
            Some(changes) => content.with_limits(changes),
            None => Ok(content),
        }
    }
}

impl Waiting {
    fn new(pipeline: &str, plugin: &str, waiting: &WaitingVersion) -> Self {
        let version = waiting.version.number;
        let options = waiting.options();
        Self {
            pipeline: pipeline.to_owned(),
            plugin: plugin.to_owned(),
            version,
            sha256: waiting.version.sha256.clone(),
            needs: waiting.needs_text(),
            approve: format!("millstream plugin approve {pipeline}/{plugin} --version {version} {options}"),
        }
    }
}

/// A change of a plugin's versions on its way.
struct Change {
    /// As it was.
    before: PipelineDocument,
    version: u32,
    checked: Checked,
}

impl NodeState {
    /// Runs a version. One that needs more than the plugin is granted is written down, and waits for approval.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        request: DeployRequest,
    ) -> Result<DeployOutcome, PipelineError> {
        let now_ms = self.runtime_clock.wall_ms();
        let applying = Arc::clone(&self.applying).lock_owned().await;
        if request.config.is_some() {
            self.check_config_counts(pipeline, plugin)?;
        }
        let change = |versions: &mut Versions| {
            let content = request.content(versions.active())?;
            request.take_down(versions);
            match request.partitions.clone() {
                None if request.is_about_limits() => Ok(versions.change_limits(content, now_ms)),
                None => Ok(versions.deploy(content, now_ms)),
                Some(partitions) => versions.try_out(content, partitions, now_ms),
            }
        };
        let mut changed = self.checked_change(pipeline, plugin, change).await?;
        if !changed.checked.validated.needs.keys().eq([plugin]) {
            return self.finish_change(applying, plugin, changed).await;
        }
        let needs = changed.checked.validated.needs.remove(plugin).unwrap_or_default();
        let mut document = changed.before;
        let versions = document.versions.get_mut(plugin).expect("it was changed before");
        let content = request.content(versions.active())?;
        request.take_down(versions);
        let version = versions.wait(content, needs, request.partitions, now_ms);
        let waiting = versions.waiting.as_ref().map(|waiting| Waiting::new(pipeline, plugin, waiting));
        self.write_down(applying, pipeline, document, changed.checked.replaces).await?;
        tracing::warn!(pipeline, plugin, version, "a version waits for approval");
        Ok(DeployOutcome { waiting, ..unchanged(pipeline, plugin, version) })
    }

    /// Grants what the version that waits needs, and runs it, or tries it where its deployment said.
    pub(crate) async fn approve(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        request: ApproveRequest,
    ) -> Result<DeployOutcome, PipelineError> {
        let now_ms = self.runtime_clock.wall_ms();
        let ApproveRequest { version, grants } = request;
        self.change_versions(pipeline, plugin, |versions| versions.approve(version, &grants, now_ms)).await
    }

    /// Drops the version that waits.
    pub(crate) async fn reject(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        request: RejectRequest,
    ) -> Result<DeployOutcome, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let (mut document, replaces) = self.document(pipeline)?;
        let version = versions_of(&mut document, pipeline, plugin)?.reject(request.version)?;
        self.write_down(applying, pipeline, document, replaces).await?;
        Ok(unchanged(pipeline, plugin, version))
    }

    /// What runs lies in the watched directory, too: nobody wants it deployed again when something else runs.
    pub(super) async fn take_down_watched(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        sha256: &str,
    ) -> Result<(), PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let (mut document, replaces) = self.document(pipeline)?;
        match versions_of(&mut document, pipeline, plugin)?.watch(sha256) {
            true => self.write_down(applying, pipeline, document, replaces).await,
            false => Ok(()),
        }
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

    /// What waits for approval.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let mut all = Vec::new();
        for (pipeline, plugins) in self.versions() {
            for (plugin, versions) in plugins {
                all.extend(versions.waiting.map(|waiting| Waiting::new(&pipeline, &plugin, &waiting)));
            }
        }
        all
    }

    /// Checked and run like a pipeline that is applied: if anything is wrong with it, nothing changes.
    async fn change_versions(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        change: impl FnOnce(&mut Versions) -> Result<u32, VersionError>,
    ) -> Result<DeployOutcome, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let changed = self.checked_change(pipeline, plugin, change).await?;
        self.finish_change(applying, plugin, changed).await
    }

    async fn checked_change(
        self: &Arc<Self>,
        pipeline: &str,
        plugin: &str,
        change: impl FnOnce(&mut Versions) -> Result<u32, VersionError>,
    ) -> Result<Change, PipelineError> {
        let (mut document, _) = self.document(pipeline)?;
        self.version_all(pipeline, &mut document)?;
        let before = document.clone();
        let version = change(versions_of(&mut document, pipeline, plugin)?)?;
        let checked = self.checked(Wanted::Document(document), MissingTopics::Awaited).await?;
        Ok(Change { before, version, checked })
    }

    /// Where each part that uses the plugin has a configuration of its own, nobody would see a version's.
    fn check_config_counts(&self, pipeline: &str, plugin: &str) -> Result<(), PipelineError> {
        let (document, _) = self.document(pipeline)?;
        let Ok(spec) = document.spec() else { return Ok(()) };
        let uses = spec.stages.iter().flat_map(|stage| stage.plugins.iter().map(move |used| (stage, used)));
        let uses: Vec<_> = uses.filter(|(_, used)| used.name == plugin).collect();
        if uses.is_empty() || uses.iter().any(|(_, used)| used.config.is_none()) {
            return Ok(());
        }
        let parts = uses.iter().map(|(stage, _)| stage.name.clone()).collect();
        Err(PipelineError::OwnConfig { pipeline: pipeline.to_owned(), plugin: plugin.to_owned(), parts })
    }

    async fn finish_change(
        self: &Arc<Self>,
        applying: OwnedMutexGuard<()>,
        plugin: &str,
        changed: Change,
    ) -> Result<DeployOutcome, PipelineError> {
        let Change { version, checked, .. } = changed;
        let applied = self.run_checked(applying, checked).await?;
        Ok(DeployOutcome { plugin: plugin.to_owned(), version, waiting: None, applied })
    }

    /// Keeps a document that changes nothing of what runs.
    async fn write_down(
        self: &Arc<Self>,
        applying: OwnedMutexGuard<()>,
        pipeline: &str,
        document: PipelineDocument,
        replaces: u64,
    ) -> Result<(), PipelineError> {
        let (state, pipeline) = (Arc::clone(self), pipeline.to_owned());
        self.to_its_end(async move {
            let _applying = applying;
            let metadata = state.broker.metadata();
            let put = metadata.put_document(PIPELINE, &pipeline, document.to_bytes(), Some(replaces)).await;
            put.map_err(PipelineError::Propose)?;
            state.sweep_plugins(Unused::Recent);
            Ok(())
        })
        .await
    }

    /// The document, and its version in the metadata.
    fn document(&self, pipeline: &str) -> Result<(PipelineDocument, u64), PipelineError> {
        let image = self.broker.metadata().image();
        let (document, version) = PipelineDocument::find(&image, pipeline);
        let document = document.map_err(|_| PipelineError::Document(pipeline.to_owned()))?;
        Ok((document.ok_or_else(|| PipelineError::Unknown(pipeline.to_owned()))?, version))
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
        let (mut document, _) = self.document(&pipeline)?;
        let now_ms = self.runtime_clock.wall_ms();
        let Some(versions) = document.versions.get_mut(&rolled_back.plugin) else { return Ok(()) };
        if !versions.taken_back(rolled_back.from, rolled_back.to, &rolled_back.reason, now_ms) {
            return Ok(());
        }
        let checked = self.checked(Wanted::Document(document), MissingTopics::Awaited).await?;
        self.run_checked(applying, checked).await.map(drop)
    }
}

fn versions_of<'a>(
    document: &'a mut PipelineDocument,
    pipeline: &str,
    plugin: &str,
) -> Result<&'a mut Versions, PipelineError> {
    if !document.versions.contains_key(plugin) {
        return Err(PipelineError::UnknownPlugin {
            pipeline: pipeline.to_owned(),
            plugin: plugin.to_owned(),
            known: document.versions.keys().cloned().collect(),
        });
    }
    Ok(document.versions.get_mut(plugin).expect("it has just been found"))
}

/// Nothing that runs has changed.
fn unchanged(pipeline: &str, plugin: &str, version: u32) -> DeployOutcome {
    let applied = ApplyOutcome {
        pipeline: pipeline.to_owned(),
        created_topics: Vec::new(),
        stages: Applied::default(),
        warnings: Vec::new(),
    };
    DeployOutcome { plugin: plugin.to_owned(), version, waiting: None, applied }
}
