//! A live plugin: one Store, used by one task at a time, thrown away after anything that stops it half way.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store};

use super::bindings::transform::BatchOutput as TypedOutput;
use super::bindings::types::{BatchError, RejectedRecord};
use super::bindings::{BatchOutput as PackedOutput, BatchTransformer, Transformer};
use super::call::{Call, batch_info, classify, timed};
use super::error::{PluginError, StartError};
use super::host::{Denied, HostState};
use super::lent::Lent;
use super::log::PluginLog;
use super::ticks::Ticks;
use super::{ComponentPre, Plugin, Pre, redpanda, typed, v0_1};
use crate::batch::InputBatch;
use crate::clock::SharedClock;
use crate::engine::{EngineState, Place};
use crate::limits::PluginLimits;
use crate::outputs::{self, OutputRules, Transformed, cut};

/// What a call may hand to the host beside its outputs: rejections, log lines, errors.
pub(super) const HOSTCALL_BYTES_BASE: usize = 1024 * 1024;

/// What an instance is made for.
#[derive(Clone)]
pub struct InstanceConfig {
    /// JSON text, for `init`.
    pub config: String,
    pub limits: PluginLimits,
    pub log: Arc<dyn PluginLog>,
    pub clock: SharedClock,
    pub names: StageNames,
    pub lent: Lent,
}

/// What a plugin's surroundings are called.
#[derive(Debug, Clone, Default)]
pub struct StageNames {
    pub plugin: String,
    /// The stage's topics.
    pub from: Vec<Arc<str>>,
    pub to: Vec<Arc<str>>,
}

/// See the module.
pub struct Instance {
    guest: Guest,
    place: Place,
    limits: PluginLimits,
    /// Keeps the epoch going: without it no time limit holds.
    _engine: Arc<EngineState>,
    /// Set by whatever leaves the guest in the middle of something.
    spent: bool,
}

enum Guest {
    Component { store: Store<HostState>, exports: Exports },
    Redpanda(redpanda::Guest),
}

/// What a component's transform returns, in either form.
pub(super) enum Answer {
    Packed(PackedOutput),
    Typed(TypedOutput),
}

enum Exports {
    TransformBatch(BatchTransformer),
    Transform(Transformer),
    V0_1(v0_1::Transform),
}

impl Instance {
    /// Instantiates `plugin` and hands it its configuration. The guest lets go of its thread with every tick, so that
    /// whoever no longer wants the instance can drop this future.
    pub async fn start(plugin: &Plugin, config: InstanceConfig) -> Result<Self, StartError> {
        let limits = config.limits.clone();
        let engine = Arc::clone(&plugin.engine);
        let mut place = engine.cores.place();
        let guest = match &plugin.pre {
            Pre::Component(pre) => Guest::start_component(&engine, &mut place, pre, config).await?,
            Pre::Runner(_) => return Err(StartError::Role),
            Pre::Redpanda(pre) => {
                Guest::Redpanda(redpanda::Guest::start(&engine, &mut place, pre, config).await?)
            }
        };
        Ok(Self { guest, place, limits, _engine: engine, spent: false })
    }

    /// The linear memory that the guest has.
    pub fn memory_bytes(&self) -> u64 {
        match &self.guest {
            Guest::Component { store, .. } => store.data().limiter.memory_bytes(),
            Guest::Redpanda(guest) => guest.memory_bytes(),
        }
    }

    /// Maps one batch. `out` is overwritten. After any error but `Retry` and `Stop` the instance must not be used
    /// again.
    pub async fn transform(
        &mut self,
        input: &InputBatch,
        topics: &[Arc<str>],
        out: &mut Transformed,
    ) -> Result<(), PluginError> {
        assert!(!self.spent, "an instance that failed is discarded");
        out.clear();
        // Also if nobody waits for the end of the call.
        self.spent = true;
        let result = self.call(input, topics, out).await;
        self.spent = result.as_ref().is_err_and(PluginError::is_crash);
        result
    }

    async fn call(
        &mut self,
        input: &InputBatch,
        topics: &[Arc<str>],
        out: &mut Transformed,
    ) -> Result<(), PluginError> {
        let rules = OutputRules {
            record_count: input.len(),
            outputs_max: self.limits.outputs_max(input.len()),
            output_bytes_max: self.limits.output_bytes_max as usize,
            topics,
        };
        match &mut self.guest {
            Guest::Component { store, exports } => {
                call_component(&mut self.place, store, exports, input, &rules, &self.limits, out).await?;
            }
            Guest::Redpanda(guest) => guest.call(&mut self.place, input, &rules, out).await?,
        }
        out.check_expanded(input, rules.output_bytes_max)?;
        Ok(out.check_rejected(input.len())?)
    }
}

impl Guest {
    async fn start_component(
        engine: &EngineState,
        place: &mut Place,
        pre: &ComponentPre,
        config: InstanceConfig,
    ) -> Result<Self, StartError> {
        let limits = config.limits.clone();
        let budget = limits.init_timeout();
        let ticks = Ticks::new(place.held(), budget);
        let mut store = store(engine, config, ticks);
        let started = timed(budget, place, start(&mut store, pre)).await;
        match started {
            Call::Returned((exports, Ok(()))) => {
                let state = store.data_mut();
                state.limiter.started();
                state.ticks.set_budget(limits.call_timeout());
                Ok(Self::Component { store, exports })
            }
            Call::Returned((_, Err(reason))) => {
                Err(StartError::ConfigRefused { reason: cut(&store.data().mask(&reason)) })
            }
            Call::Failed(error) if error.is::<PoolConcurrencyLimitError>() => {
                Err(StartError::NoRoom { message: error.to_string() })
            }
            failed => Err(StartError::failed(classify(failed.into_failure(), &mut store, budget))),
        }
    }
}

async fn call_component(
    place: &mut Place,
    store: &mut Store<HostState>,
    exports: &Exports,
    input: &InputBatch,
    rules: &OutputRules<'_>,
    limits: &PluginLimits,
    out: &mut Transformed,
) -> Result<(), PluginError> {
    if exports.is_typed() && !typed::has_room(input, limits.memory_bytes_max) {
        return Err(PluginError::MemoryLimit { limit_bytes: limits.memory_bytes_max });
    }
    let budget = limits.call_timeout();
    store.data_mut().begin_time();
    let returned = timed(budget, place, exports.call(store, input)).await;
    let mut answer = returned_answer(returned, store, budget)?;
    let taken = match &mut answer {
        Answer::Packed(output) => {
            out.payload = mem::take(&mut output.outputs);
            outputs::decode(&out.payload, rules, &mut out.outputs)
        }
        Answer::Typed(output) => typed::take_outputs(output, rules, out),
    };
    taken.map_err(|error| error.masked(|text| store.data().mask(text)))?;
    for rejected in answer.rejected() {
        out.reject(rejected.index, &store.data().mask(&rejected.reason));
    }
    Ok(())
}

fn store(engine: &EngineState, config: InstanceConfig, ticks: Ticks) -> Store<HostState> {
    let limits = config.limits.clone();
    let state = HostState::new(&engine.memory, config, ticks);
    let mut store = Store::new(&engine.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.epoch_deadline_callback(|context| context.data().ticks.tick());
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel((limits.output_bytes_max as usize).saturating_add(HOSTCALL_BYTES_BASE));
    store.set_max_component_handles(limits.handles_max as usize);
    store
}

async fn start(
    store: &mut Store<HostState>,
    pre: &ComponentPre,
) -> wasmtime::Result<(Exports, Result<(), String>)> {
    let config = &*Arc::clone(&store.data().config);
    match pre {
        ComponentPre::TransformBatch(pre) => {
            let exports = pre.instantiate_async(&mut *store).await?;
            let answer = exports.millstream_plugin_transform_batch().call_init(store, config).await?;
            Ok((Exports::TransformBatch(exports), answer))
        }
        ComponentPre::Transform(pre) => {
            let exports = pre.instantiate_async(&mut *store).await?;
            let answer = exports.millstream_plugin_transform().call_init(store, config).await?;
            Ok((Exports::Transform(exports), answer))
        }
        ComponentPre::V0_1(pre) => {
            let (exports, answer) = pre.start(store, config).await?;
            Ok((Exports::V0_1(exports), answer))
        }
    }
}

impl Answer {
    fn rejected(&self) -> &[RejectedRecord] {
        match self {
            Self::Packed(output) => &output.rejected,
            Self::Typed(output) => &output.rejected,
        }
    }
}

impl Exports {
    fn is_typed(&self) -> bool {
        match self {
            Self::TransformBatch(_) => false,
            Self::Transform(_) => true,
            Self::V0_1(transform) => transform.is_typed(),
        }
    }

    async fn call(
        &self,
        store: &mut Store<HostState>,
        input: &InputBatch,
    ) -> wasmtime::Result<Result<Answer, BatchError>> {
        match self {
            Self::TransformBatch(exports) => {
                let transform = exports.millstream_plugin_transform_batch();
                let answer = transform.call_transform(store, batch_info(input), &input.section).await?;
                Ok(answer.map(Answer::Packed))
            }
            Self::Transform(exports) => Ok(typed::call(exports, store, input).await?.map(Answer::Typed)),
            Self::V0_1(transform) => transform.call(store, input).await,
        }
    }
}

fn returned_answer(
    returned: Call<Result<Answer, BatchError>>,
    store: &mut Store<HostState>,
    budget: Duration,
) -> Result<Answer, PluginError> {
    // A plugin that can cope with what it was refused says so in one of these ways.
    if let Call::Returned(answer) = &returned
        && !answer.as_ref().is_ok_and(|answer| answer.rejected().is_empty())
        && let Some(Denied::ByNode { limit_bytes }) = store.data_mut().limiter.take_denied()
    {
        return Err(PluginError::NodeMemory { limit_bytes });
    }
    let shown = |message: &str| cut(&store.data().mask(message));
    match returned {
        Call::Returned(Ok(answer)) => Ok(answer),
        Call::Returned(Err(BatchError::Retry(message))) => Err(PluginError::Retry(shown(&message))),
        Call::Returned(Err(BatchError::Stop(message))) => Err(PluginError::Stop(shown(&message))),
        failed => Err(classify(failed.into_failure(), store, budget)),
    }
}
