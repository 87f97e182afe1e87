//! What stands at which topic: the broker's hooks, over the runtime's ingests and views.
//!
//! | a topic's ingest, a view | from | until |
//! | --- | --- | --- |
//! | unknown: nothing passes | the node starts | the applied pipelines have been read |
//! | pending: nothing passes | a pipeline with it is known | its plugins run |
//! | active | its plugins run | its pipeline is deleted, or defines it no more |

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use millstream_broker::hooks::{
    Hooks, Ingest, IngestBinding, IngestOutcome, IngestRequest, RecordRefusal, Rewrite, View, ViewError,
    ViewRequest, Viewed,
};
use millstream_broker::metadata::{TopicImage, ViewImage};
use millstream_record::RecordBody;
use millstream_runtime::batch::Position;
use millstream_runtime::inline::{
    Inline, InlineAnswer, InlineBatch, InlineError, InlineRecords, LettersFault, OnFailure,
};
use millstream_runtime::pipeline::PipelineSpec;

/// What the broker asks. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Bindings(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    /// Whether it is known what is bound.
    is_known: bool,
    /// By position and the topic's or the view's name.
    bound: BTreeMap<(&'static str, String), Bound>,
}

struct Bound {
    pipeline: String,
    /// None: it does not run yet.
    inline: Option<Inline>,
}

const INGEST: &str = "ingest";
const VIEW: &str = "view";

fn key(position: Position, name: &str) -> Option<(&'static str, String)> {
    match position {
        Position::Ingest => Some((INGEST, name.to_owned())),
        Position::View => Some((VIEW, name.to_owned())),
        Position::Stream => None,
    }
}

impl Bindings {
    /// Of the pipelines that were applied before the node started.
    pub(super) fn expect(&self, pipelines: &[PipelineSpec]) {
        let mut state = self.write();
        for spec in pipelines {
            for key in keys(spec) {
                state.bound.insert(key, Bound { pipeline: spec.name.clone(), inline: None });
            }
        }
        state.is_known = true;
    }

    /// Lets go of what the pipeline does not define any more, before that is stopped.
    pub(super) fn release(&self, pipeline: &str, spec: Option<&PipelineSpec>) {
        let kept: Vec<_> = spec.map(|spec| keys(spec).collect()).unwrap_or_default();
        self.write().bound.retain(|key, bound| bound.pipeline != pipeline || kept.contains(key));
    }

    /// Makes what runs of a pipeline count.
    pub(super) fn bind(&self, pipeline: &str, running: Vec<Inline>) {
        let mut state = self.write();
        for inline in running {
            let spec = inline.spec();
            let Some(key) = key(spec.stage.position, &spec.name) else { continue };
            state.bound.insert(key, Bound { pipeline: pipeline.to_owned(), inline: Some(inline) });
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().expect("no code panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().expect("no code panics while it holds this lock")
    }
}

/// Where the ingests and views of a pipeline stand.
fn keys(spec: &PipelineSpec) -> impl Iterator<Item = (&'static str, String)> {
    spec.stages.iter().filter_map(|stage| {
        let topic = stage.from.first().map(|(topic, _)| topic.as_str()).unwrap_or_default();
        key(stage.position, if stage.position == Position::View { &stage.name } else { topic })
    })
}

impl Hooks for Bindings {
    fn ingest(&self, topic: &TopicImage) -> IngestBinding {
        let state = self.read();
        if !state.is_known {
            return IngestBinding::Pending;
        }
        match state.bound.get(&(INGEST, topic.name.as_str().to_owned())) {
            None => IngestBinding::None,
            Some(Bound { inline: None, .. }) => IngestBinding::Pending,
            Some(Bound { inline: Some(inline), .. }) => {
                IngestBinding::Active(Arc::new(IngestHook(inline.clone())))
            }
        }
    }

    fn view(&self, view: &ViewImage) -> Option<Arc<dyn View>> {
        let state = self.read();
        let bound = state.bound.get(&(VIEW, view.name.as_str().to_owned()))?;
        let inline = bound.inline.clone()?;
        Some(Arc::new(ViewHook { version: inline.generation(), inline }))
    }
}

struct IngestHook(Inline);

impl Ingest for IngestHook {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome> {
        let inline = self.0.clone();
        async move {
            let IngestRequest { topic, partition, batch, rewrite, .. } = request;
            let batch = InlineBatch { topic: topic.as_str().into(), partition: partition.0, batch };
            match inline.map(batch).await {
                Ok(InlineAnswer::Unchanged) => IngestOutcome::Unchanged,
                Ok(InlineAnswer::Records(records)) => match keep(rewrite, &records) {
                    Ok(rewrite) => IngestOutcome::Rewritten(rewrite),
                    Err(message) => refused(message),
                },
                Ok(InlineAnswer::Rejected(rejected)) => {
                    let (count, name) = (rejected.len(), &inline.spec().stage.name);
                    let first = rejected.first().map(|(_, reason)| reason.as_str()).unwrap_or_default();
                    let message = format!("ingest {name:?} rejects {count} record(s): {first}");
                    let refusal = |(index, message): (u32, String)| RecordRefusal {
                        index: i32::try_from(index).unwrap_or(i32::MAX),
                        message,
                    };
                    IngestOutcome::Refused { message, records: rejected.into_iter().map(refusal).collect() }
                }
                Err(_) if inline.spec().on_failure == OnFailure::Pass => IngestOutcome::Unchanged,
                Err(error) if is_passing(&error) => IngestOutcome::TryLater { message: error.to_string() },
                Err(error) => refused(error.to_string()),
            }
        }
        .boxed()
    }
}

fn refused(message: String) -> IngestOutcome {
    IngestOutcome::Refused { message, records: Vec::new() }
}

/// Whether the same batch may be mapped another time. A plugin that crashed at it twice would do so again, and a
/// producer that sends it for ever would send nothing else.
fn is_passing(error: &InlineError) -> bool {
    match error {
        InlineError::Stopped
        | InlineError::Late { .. }
        | InlineError::NotStarted(_)
        | InlineError::Letters(LettersFault::Later(_)) => true,
        InlineError::Plugin { error, .. } => error.kind() == "retry",
        InlineError::Input(_) | InlineError::Answer { .. } | InlineError::Letters(LettersFault::Never(_)) => {
            false
        }
    }
}

struct ViewHook {
    inline: Inline,
    version: u64,
}

impl View for ViewHook {
    fn version(&self) -> u64 {
        self.version
    }

    fn map(&self, request: ViewRequest) -> BoxFuture<'static, Result<Viewed, ViewError>> {
        let inline = self.inline.clone();
        async move {
            let ViewRequest { source, partition, batch, rewrite, .. } = request;
            let batch = InlineBatch { topic: source.as_str().into(), partition: partition.0, batch };
            match inline.map(batch).await {
                Ok(InlineAnswer::Unchanged) => Ok(Viewed::Unchanged),
                Ok(InlineAnswer::Records(records)) => {
                    keep(rewrite, &records).map(Viewed::Rewritten).map_err(ViewError::Failed)
                }
                Ok(InlineAnswer::Rejected(rejected)) => {
                    let (index, reason) = rejected.into_iter().next().unwrap_or_default();
                    Err(ViewError::Failed(format!("record {index} of the batch is rejected: {reason}")))
                }
                Err(error) if is_passing(&error) => Err(ViewError::NotReady(error.to_string())),
                Err(error) => Err(ViewError::Failed(error.to_string())),
            }
        }
        .boxed()
    }
}

fn keep(mut rewrite: Rewrite, records: &InlineRecords) -> Result<Rewrite, String> {
    for record in &records.records {
        let body = RecordBody::parse(records.body(record)).map_err(|fault| fault.to_string())?;
        rewrite.keep(record.offset_delta, record.timestamp, body).map_err(|error| error.to_string())?;
    }
    Ok(rewrite)
}
