//! Applying pipelines: checked as a whole, written to the metadata, then run.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use millstream_broker::broker::TopicError;
use millstream_broker::metadata::{MetadataImage, ProposeError};
use millstream_runtime::pipeline::{
    Pipeline, PluginSource, Problem, TopicCatalogue, Validated, parse, validate,
};
use millstream_runtime::runtime::Applied;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{NodeState, PluginStoreError};

/// The kind of document that a pipeline is in the metadata.
const PIPELINE: &str = "pipeline";

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
    pub(crate) async fn check_pipeline(self: &Arc<Self>, request: ApplyRequest) -> Vec<Problem> {
        self.validated(request).await.problems
    }

    /// Makes the pipeline run as the file says. If that can't be, everything stays as it is.
    pub(crate) async fn apply_pipeline(
        self: &Arc<Self>,
        request: ApplyRequest,
    ) -> Result<ApplyOutcome, PipelineError> {
        let _applying = self.applying.lock().await;
        let Validated { problems, pipeline } = self.validated(request.clone()).await;
        let Some(pipeline) = pipeline else { return Err(PipelineError::Problems(problems)) };
        let created_topics = self.create_topics(&pipeline).await?;
        let document = serde_json::to_vec(&request).expect("a map of strings is JSON");
        let metadata = self.broker.metadata();
        metadata
            .put_document(PIPELINE, &pipeline.name, document, None)
            .await
            .map_err(PipelineError::Propose)?;
        let stages = self.runtime.apply(&pipeline).await;
        Ok(ApplyOutcome { pipeline: pipeline.name, created_topics, stages, warnings: problems })
    }

    /// Stops the pipeline's stages and forgets it; its topics and offsets stay.
    pub(crate) async fn remove_pipeline(&self, name: &str) -> Result<Applied, PipelineError> {
        let _applying = self.applying.lock().await;
        let metadata = self.broker.metadata();
        if metadata.image().document(PIPELINE, name).is_none() {
            return Err(PipelineError::Unknown(name.to_owned()));
        }
        metadata.delete_document(PIPELINE, name, None).await.map_err(PipelineError::Propose)?;
        Ok(self.runtime.remove(name).await)
    }

    /// The names of the pipelines that were applied.
    pub(crate) fn pipelines(&self) -> Vec<String> {
        let image = self.broker.metadata().image();
        image.documents(PIPELINE).map(|(name, _)| name.to_owned()).collect()
    }

    /// Starts what was applied before this node started.
    pub(super) async fn resume_pipelines(self: &Arc<Self>) {
        let _applying = self.applying.lock().await;
        let image = self.broker.metadata().image();
        for (name, document) in image.documents(PIPELINE) {
            let request = match serde_json::from_slice::<ApplyRequest>(&document.bytes) {
                Ok(request) => request,
                Err(error) => {
                    tracing::error!(pipeline = name, %error, "the pipeline's document can't be read");
                    continue;
                }
            };
            let Validated { problems, pipeline } = self.validated(request).await;
            match pipeline {
                Some(pipeline) => drop(self.runtime.apply(&pipeline).await),
                None => {
                    for problem in problems {
                        tracing::error!(pipeline = name, %problem, "the pipeline can't be started");
                    }
                }
            }
        }
    }

    async fn validated(self: &Arc<Self>, request: ApplyRequest) -> Validated {
        let state = Arc::clone(self);
        // Compiling takes a core for tens of milliseconds and more.
        let checked = tokio::task::spawn_blocking(move || {
            let spec = match parse(&request.file, &request.text) {
                Ok(spec) => spec,
                Err(problems) => return Validated { problems, pipeline: None },
            };
            let topics = KnownTopics(state.broker.metadata().image());
            let plugins = Uploaded { state: &state, plugins: &request.plugins };
            validate(&spec, &state.engine, &plugins, &topics, &state.runtime_clock, &CancellationToken::new())
        });
        match checked.await {
            Ok(validated) => validated,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
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

struct KnownTopics(Arc<MetadataImage>);

impl TopicCatalogue for KnownTopics {
    fn partitions_of(&self, topic: &str) -> Option<i32> {
        self.0.topic(topic).map(|topic| topic.partition_count())
    }

    fn names(&self) -> Vec<String> {
        self.0.topics().map(|topic| topic.name.as_str().to_owned()).collect()
    }
}

impl NodeState {
    pub(crate) fn put_plugin(&self, sha256: &str, bytes: &[u8]) -> Result<(), PluginStoreError> {
        self.plugins.put(sha256, bytes)
    }

    pub(crate) fn list_plugins(&self) -> Result<Vec<super::StoredPlugin>, PluginStoreError> {
        self.plugins.list()
    }
}
