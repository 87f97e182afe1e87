//! Applying pipelines: checked as a whole, written to the metadata, then run.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

use millstream_broker::broker::{RunningBroker, TopicError};
use millstream_broker::metadata::{MetadataImage, ProposeError, is_internal_topic};
use millstream_runtime::batch::Position;
use millstream_runtime::pipeline::{
    Pipeline, PipelineSpec, Problem, TopicCatalogue, TopicSpec, Validated, World, parse, validate,
};
use millstream_runtime::runner::{POSITIONS_TOPIC, RunnerKind};
use millstream_runtime::runtime::Applied;
use millstream_runtime::stage::StageSpec;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::NodeState;
use super::checks::CheckError;
use super::document::{PIPELINE, PipelineDocument};
use super::plugin_store::Unused;
use super::uploads::Uploaded;
use super::versions::VersionError;

/// A pipeline file, with the plugins that it names, which were uploaded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyRequest {
    /// The file's name, for messages.
    pub(crate) file: String,
    pub(crate) text: String,
    /// From the path that the file names to the sha-256 of the plugin.
    pub(crate) plugins: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error("pipeline has {} problem(s)", .0.len())]
    Problems(Vec<Problem>),
    #[error("create topic {name}: {source}")]
    Topic { name: String, source: TopicError },
    #[error("write the pipeline to the metadata: {0}")]
    Propose(#[source] ProposeError),
    #[error("no pipeline is called {0:?}")]
    Unknown(String),
    #[error("the document of pipeline {0:?} can't be read: apply its file again")]
    Document(String),
    #[error("pipeline {pipeline:?} has no plugin {plugin:?}; it has {}", list(.known))]
    UnknownPlugin { pipeline: String, plugin: String, known: Vec<String> },
    /// A version's configuration would count nowhere.
    #[error(
        "{} of pipeline {pipeline:?} configures plugin {plugin:?} itself, which counts more than a version's configuration: \
         change it in the file, or put it under \"plugins\" there",
        list(.parts)
    )]
    OwnConfig { pipeline: String, plugin: String, parts: Vec<String> },
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl PipelineError {
    /// In one line, with the problems where there are some.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Problems(problems) => {
                let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
                texts.join("; ")
            }
            error => error.to_string(),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What becomes of a stage whose topic does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingTopics {
    /// That is a mistake in the pipeline.
    Refused,
    /// The pipeline was right when it was applied: the stage waits for the topic.
    Awaited,
}

/// What applying did, and what is worth knowing about the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ApplyOutcome {
    pub(crate) pipeline: String,
    pub(crate) created_topics: Vec<String>,
    #[serde(flatten)]
    pub(crate) stages: Applied,
    pub(crate) warnings: Vec<Problem>,
}

impl NodeState {
    /// Checks a pipeline without changing anything; the problems are errors and warnings.
    pub(crate) async fn check_pipeline(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<Vec<Problem>, CheckError> {
        let checked = self.checked(Wanted::File(request), MissingTopics::Refused).await?;
        Ok(checked.validated.problems)
    }

    /// Makes the pipeline run as the file says. If that can't be, everything stays as it is, and so it does if this
    /// future is dropped during the check; once something is being changed, that goes on to its end.
    pub(crate) async fn apply_pipeline(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<ApplyOutcome, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let checked = self.checked(Wanted::File(request), MissingTopics::Refused).await?;
        self.run_checked(applying, checked).await
    }

    /// Makes what was checked run, if nothing is wrong with it.
    pub(super) async fn run_checked(
        self: &Arc<Self>,
        applying: OwnedMutexGuard<()>,
        checked: Checked,
    ) -> Result<ApplyOutcome, PipelineError> {
        let Checked { validated: Validated { problems, pipeline, .. }, parsed, replaces } = checked;
        let (Some(pipeline), Some((spec, document))) = (pipeline, parsed) else {
            return Err(PipelineError::Problems(problems));
        };
        let state = Arc::clone(self);
        self.to_its_end(async move {
            let _applying = applying;
            let (created_topics, stages) = state.make_run(&spec, &document, replaces, &pipeline).await?;
            state.watched.retry(&pipeline.name);
            Ok(ApplyOutcome { pipeline: pipeline.name, created_topics, stages, warnings: problems })
        })
        .await
    }

    /// Stops the pipeline's stages and forgets it; its topics and offsets stay.
    pub(crate) async fn remove_pipeline(self: &Arc<Self>, name: String) -> Result<Applied, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let state = Arc::clone(self);
        self.to_its_end(async move {
            let _applying = applying;
            let metadata = state.broker.metadata();
            if metadata.image().document(PIPELINE, &name).is_none() {
                return Err(PipelineError::Unknown(name));
            }
            let views = views_of(&metadata.image(), &name);
            metadata.delete_document(PIPELINE, &name, None).await.map_err(PipelineError::Propose)?;
            state.unresumed.settle(&name);
            state.bindings.release(&name, None);
            state.delete_views(views).await;
            let removed = state.runtime.remove(&name).await;
            state.sweep_plugins(Unused::Recent);
            Ok(removed)
        })
        .await
    }

    /// The names of the pipelines that were applied.
    pub(crate) fn pipelines(&self) -> Vec<String> {
        let image = self.broker.metadata().image();
        image.documents(PIPELINE).map(|(name, _)| name.to_owned()).collect()
    }

    /// A change of what runs, once begun, is not left half done because its client goes away.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.tasks.spawn(change).await {
            Ok(done) => done,
            Err(error) => resume_unwind(error.into_panic()),
        }
    }

    async fn make_run(
        &self,
        spec: &PipelineSpec,
        document: &PipelineDocument,
        replaces: u64,
        pipeline: &Pipeline,
    ) -> Result<(Vec<String>, Applied), PipelineError> {
        let created_topics = self.create_topics(pipeline).await?;
        self.create_views(pipeline).await?;
        let metadata = self.broker.metadata();
        let mut gone = views_of(&metadata.image(), &pipeline.name);
        gone.retain(|view| !views(pipeline).any(|(name, _)| name == view));
        metadata
            .put_document(PIPELINE, &pipeline.name, document.to_bytes(), Some(replaces))
            .await
            .map_err(PipelineError::Propose)?;
        self.unresumed.settle(&pipeline.name);
        self.bindings.release(&pipeline.name, Some(spec));
        self.delete_views(gone).await;
        let stages = self.run(pipeline).await;
        self.sweep_plugins(Unused::Recent);
        Ok((created_topics, stages))
    }

    /// Runs a pipeline whose topics exist.
    pub(super) async fn run(&self, pipeline: &Pipeline) -> Applied {
        let applied = self.runtime.apply(pipeline).await;
        self.bindings.bind(&pipeline.name, self.runtime.inlines(&pipeline.name));
        applied
    }

    async fn create_views(&self, pipeline: &Pipeline) -> Result<(), PipelineError> {
        for (name, source) in views(pipeline) {
            let made = self.broker.put_view(name, source).await;
            made.map_err(|source| PipelineError::Topic { name: name.to_owned(), source })?;
        }
        Ok(())
    }

    /// Their names are free then. One that stays shows nothing, and goes when its name is used again.
    async fn delete_views(&self, names: Vec<String>) {
        for name in names {
            if let Err(error) = self.broker.delete_view(&name).await {
                tracing::warn!(view = name, %error, "the view can't be deleted");
            }
        }
    }

    pub(super) async fn checked(
        self: &Arc<Self>,
        wanted: Wanted,
        missing: MissingTopics,
    ) -> Result<Checked, CheckError> {
        let state = Arc::clone(self);
        self.checks.run(move |stop| state.check(wanted, missing, stop)).await
    }

    fn check(&self, wanted: Wanted, missing: MissingTopics, stop: &CancellationToken) -> Checked {
        let refused = |problems| Checked {
            validated: Validated { problems, pipeline: None, needs: BTreeMap::new() },
            parsed: None,
            replaces: 0,
        };
        let (file, text) = wanted.file();
        let spec = match parse(file, text) {
            Ok(spec) => spec,
            Err(problems) => return refused(problems),
        };
        let image = self.broker.metadata().image();
        let (before, replaces) = PipelineDocument::find(&image, &spec.name);
        let now_ms = self.runtime_clock.wall_ms();
        let document = match wanted {
            // One that can't be read is replaced, like one that is not there.
            Wanted::File(request) => {
                PipelineDocument::applied(request, &spec, before.ok().flatten().as_ref(), now_ms)
            }
            Wanted::Document(document) => document,
        };
        let topics = KnownTopics { image, broker: &self.broker, missing };
        let plugins = Uploaded { state: self, document: &document };
        // First, because checking what could not run anyway would start all of its plugins.
        if let Err(problem) = self.runtime.check_room(&spec, &plugins) {
            return refused(vec![problem]);
        }
        let mut others = applied_specs(&topics.image);
        others.retain(|other| other.name != spec.name);
        let world = World { topics: &topics, others: &others, environment: &self.environment };
        let validated = validate(&spec, &self.engine, &plugins, &world, &self.runtime_clock, stop);
        Checked { validated, parsed: Some((spec, document)), replaces }
    }

    async fn create_topics(&self, pipeline: &Pipeline) -> Result<Vec<String>, PipelineError> {
        let mut created = Vec::new();
        let is_source =
            |stage: &StageSpec| stage.runner.as_ref().is_some_and(|runner| runner.kind == RunnerKind::Source);
        if pipeline.stages.iter().any(is_source) {
            self.ensure_positions().await?;
        }
        for topic in &pipeline.topics {
            let made = self.broker.ensure_topic(&topic.name, topic.partitions, topic.config.clone()).await;
            let failed = |source| PipelineError::Topic { name: topic.name.clone(), source };
            if made.map_err(failed)? {
                created.push(topic.name.clone());
            }
        }
        Ok(created)
    }
}

impl NodeState {
    /// Where sources keep their positions.
    async fn ensure_positions(&self) -> Result<(), PipelineError> {
        let compacted = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        let made = self.broker.ensure_topic(POSITIONS_TOPIC, Some(1), compacted).await;
        let failed = |source| PipelineError::Topic { name: POSITIONS_TOPIC.to_owned(), source };
        made.map(|_| ()).map_err(failed)
    }
}

/// What is to run.
pub(super) enum Wanted {
    /// A file that somebody applies.
    File(ApplyRequest),
    /// What was applied, perhaps with other versions.
    Document(PipelineDocument),
}

impl Wanted {
    fn file(&self) -> (&str, &str) {
        match self {
            Self::File(request) => (&request.file, &request.text),
            Self::Document(document) => (&document.file, &document.text),
        }
    }
}

/// What a check came to.
pub(super) struct Checked {
    pub(super) validated: Validated,
    /// What the text says, if it could be read, and what to keep of it.
    parsed: Option<(PipelineSpec, PipelineDocument)>,
    /// The version of the document that this one takes the place of.
    pub(super) replaces: u64,
}

/// The applied pipelines. One that can't be read does not run either.
pub(super) fn applied_specs(image: &MetadataImage) -> Vec<PipelineSpec> {
    PipelineDocument::all(image).filter_map(|(_, document)| document.ok()?.spec().ok()).collect()
}

/// The names and the sources of a pipeline's views.
fn views(pipeline: &Pipeline) -> impl Iterator<Item = (&str, &str)> {
    let views = pipeline.inlines.iter().filter(|inline| inline.stage.position == Position::View);
    views.map(|view| (view.name.as_str(), &*view.stage.from[0]))
}

/// The views that the pipeline of that name defines, as it is applied.
fn views_of(image: &MetadataImage, pipeline: &str) -> Vec<String> {
    let (document, _) = PipelineDocument::find(image, pipeline);
    let spec = document.ok().flatten().and_then(|document| document.spec().ok());
    let stages = spec.into_iter().flat_map(|spec| spec.stages);
    stages.filter(|stage| stage.position == Position::View).map(|view| view.name).collect()
}

struct KnownTopics<'a> {
    image: Arc<MetadataImage>,
    broker: &'a RunningBroker,
    missing: MissingTopics,
}

impl TopicCatalogue for KnownTopics<'_> {
    fn partitions_of(&self, topic: &str) -> Option<i32> {
        let known = self.image.listed(topic).map(|topic| topic.partition_count());
        match self.missing {
            MissingTopics::Refused => known,
            // The check is content, and the stage finds out.
            MissingTopics::Awaited => known.or(Some(1)),
        }
    }

    fn names(&self) -> Vec<String> {
        self.image.topics().map(|topic| topic.name.as_str().to_owned()).collect()
    }

    fn is_internal(&self, topic: &str) -> bool {
        is_internal_topic(topic) || topic == POSITIONS_TOPIC
    }

    fn is_view(&self, topic: &str) -> bool {
        self.image.view(topic).is_some()
    }

    fn config_of(&self, topic: &str, key: &str) -> Option<String> {
        self.broker.topic_config(topic, key)
    }

    fn check_new(&self, topic: &TopicSpec) -> Result<(), String> {
        let checked = self.broker.check_topic(&topic.name, topic.partitions, topic.config.clone());
        checked.map_err(|error| error.to_string())
    }
}
