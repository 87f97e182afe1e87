//! Applying pipelines: checked as a whole, written to the metadata, then run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;

use millstream_broker::broker::{RunningBroker, TopicError};
use millstream_broker::metadata::{MetadataImage, ProposeError, is_internal_topic};
use millstream_runtime::pipeline::{
    Pipeline, PipelineSpec, PluginSource, Problem, TopicCatalogue, TopicSpec, Validated, parse, validate,
};
use millstream_runtime::runtime::Applied;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::checks::CheckError;
use super::plugin_store::Unused;
use super::{NodeState, PluginStoreError};

/// The kind of document that a pipeline is in the metadata.
pub(super) const PIPELINE: &str = "pipeline";

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
    #[error(transparent)]
    Check(#[from] CheckError),
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
        Ok(self.validated(request, MissingTopics::Refused).await?.problems)
    }

    /// Makes the pipeline run as the file says. If that can't be, everything stays as it is, and so it does if this
    /// future is dropped during the check; once something is being changed, that goes on to its end.
    pub(crate) async fn apply_pipeline(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<ApplyOutcome, PipelineError> {
        let applying = Arc::clone(&self.applying).lock_owned().await;
        let validated = self.validated(request.clone(), MissingTopics::Refused).await?;
        let Validated { problems, pipeline } = validated;
        let Some(pipeline) = pipeline else { return Err(PipelineError::Problems(problems)) };
        let state = Arc::clone(self);
        self.to_its_end(async move {
            let _applying = applying;
            let (created_topics, stages) = state.make_run(&request, &pipeline).await?;
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
            metadata.delete_document(PIPELINE, &name, None).await.map_err(PipelineError::Propose)?;
            state.unresumed.settle(&name);
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
    async fn to_its_end<T: Send + 'static>(&self, change: impl Future<Output = T> + Send + 'static) -> T {
        match self.tasks.spawn(change).await {
            Ok(done) => done,
            Err(error) => resume_unwind(error.into_panic()),
        }
    }

    async fn make_run(
        &self,
        request: &ApplyRequest,
        pipeline: &Pipeline,
    ) -> Result<(Vec<String>, Applied), PipelineError> {
        let created_topics = self.create_topics(pipeline).await?;
        let document = serde_json::to_vec(request).expect("a map of strings is JSON");
        let metadata = self.broker.metadata();
        metadata
            .put_document(PIPELINE, &pipeline.name, document, None)
            .await
            .map_err(PipelineError::Propose)?;
        self.unresumed.settle(&pipeline.name);
        let stages = self.runtime.apply(pipeline).await;
        self.sweep_plugins(Unused::Recent);
        Ok((created_topics, stages))
    }

    pub(super) async fn validated(
        self: &Arc<Self>,
        request: ApplyRequest,
        missing: MissingTopics,
    ) -> Result<Validated, CheckError> {
        let state = Arc::clone(self);
        self.checks.run(move |stop| state.check(&request, missing, stop)).await
    }

    fn check(&self, request: &ApplyRequest, missing: MissingTopics, stop: &CancellationToken) -> Validated {
        let refused = |problems| Validated { problems, pipeline: None };
        let spec = match parse(&request.file, &request.text) {
            Ok(spec) => spec,
            Err(problems) => return refused(problems),
        };
        // First, because checking what could not run anyway would start all of its plugins.
        if let Err(problem) = self.runtime.check_room(&spec) {
            return refused(vec![problem]);
        }
        let topics = KnownTopics { image: self.broker.metadata().image(), broker: &self.broker, missing };
        let plugins = Uploaded { state: self, plugins: &request.plugins };
        let others = other_pipelines(&topics.image, &spec.name);
        validate(&spec, &self.engine, &plugins, &topics, &others, &self.runtime_clock, stop)
    }

    async fn create_topics(&self, pipeline: &Pipeline) -> Result<Vec<String>, PipelineError> {
        let mut created = Vec::new();
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

/// Plugins by the paths that a pipeline file names.
struct Uploaded<'a> {
    state: &'a NodeState,
    plugins: &'a BTreeMap<String, String>,
}

impl PluginSource for Uploaded<'_> {
    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the file was not uploaded");
        let sha256 = self.plugins.get(file).ok_or_else(missing)?;
        self.state.plugins.get(sha256).map_err(io::Error::other)
    }
}

/// The applied pipelines but that of this name. One that can't be read does not run either.
fn other_pipelines(image: &MetadataImage, name: &str) -> Vec<PipelineSpec> {
    let others = image.documents(PIPELINE).filter(|(other, _)| *other != name);
    let specs = others.filter_map(|(_, document)| {
        let ApplyRequest { file, text, .. } = serde_json::from_slice(&document.bytes).ok()?;
        parse(&file, &text).ok()
    });
    specs.collect()
}

struct KnownTopics<'a> {
    image: Arc<MetadataImage>,
    broker: &'a RunningBroker,
    missing: MissingTopics,
}

impl TopicCatalogue for KnownTopics<'_> {
    fn partitions_of(&self, topic: &str) -> Option<i32> {
        let known = self.image.topic(topic).map(|topic| topic.partition_count());
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
        is_internal_topic(topic)
    }

    fn config_of(&self, topic: &str, key: &str) -> Option<String> {
        self.broker.topic_config(topic, key)
    }

    fn check_new(&self, topic: &TopicSpec) -> Result<(), String> {
        let checked = self.broker.check_topic(&topic.name, topic.partitions, topic.config.clone());
        checked.map_err(|error| error.to_string())
    }
}

impl NodeState {
    /// Keeps a plugin for a pipeline that is applied next.
    pub(crate) fn put_plugin(&self, sha256: &str, bytes: &[u8]) -> Result<(), PluginStoreError> {
        self.plugins.put(sha256, bytes, self.runtime_clock.wall_ms())?;
        self.sweep_plugins(Unused::Recent);
        Ok(())
    }

    pub(crate) fn list_plugins(&self) -> Result<Vec<super::StoredPlugin>, PluginStoreError> {
        self.plugins.list()
    }

    /// Removes plugins that no pipeline names, and their compiled code. What can't be removed costs space alone.
    pub(super) fn sweep_plugins(&self, unused: Unused) {
        let image = self.broker.metadata().image();
        let requests = image
            .documents(PIPELINE)
            .map(|(_, document)| serde_json::from_slice::<ApplyRequest>(&document.bytes));
        let requests: Result<Vec<_>, _> = requests.collect();
        // What a document that can't be read names is not known: nothing is removed then.
        let Ok(requests) = requests else { return };
        let used: BTreeSet<String> =
            requests.into_iter().flat_map(|request| request.plugins.into_values()).collect();
        match self.plugins.sweep(&used, unused) {
            Ok(kept) => self.engine.forget_others(&kept),
            Err(error) => tracing::warn!(%error, "unused plugins can't be removed"),
        }
    }
}
