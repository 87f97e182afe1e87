//! One instance: a future that runs the module's `main`, which ends only if something is wrong.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use wasmtime::{InstancePre, Memory, PoolConcurrencyLimitError, Store};
use wasmtime_wasi::p1::WasiP1Ctx;

use super::desk::Desk;
use super::job::Job;
use super::{RedpandaPre, environment};
use crate::batch::InputBatch;
use crate::engine::{EngineState, MEMORY, Place, START};
use crate::limits::PluginLimits;
use crate::outputs::{OutputError, OutputRules, Transformed};
use crate::plugin::call::{TIMEOUT_GRACE, crash, within};
use crate::plugin::error::{PluginError, StartError};
use crate::plugin::host::{Denied, Limiter, wasi};
use crate::plugin::instance::InstanceConfig;
use crate::plugin::log::{GuardedLog, LogLevel};
use crate::plugin::stdio::PluginStdio;
use crate::plugin::ticks::Ticks;

/// What a call of WASI may make the host allocate: random bytes, for instance.
const HOSTCALL_BYTES_MAX: usize = 1024 * 1024;

/// See the module.
pub(in crate::plugin) struct Guest {
    /// None once it has ended, or took too long: then nothing is left of its memory and its stack.
    main: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    desk: Arc<Desk>,
    limits: PluginLimits,
}

/// How `main` came to its end.
struct Ended {
    error: wasmtime::Error,
    last_words: Option<String>,
    denied: Option<Denied>,
}

/// The data of a Store.
pub(super) struct State {
    wasi: WasiP1Ctx,
    log: Arc<Mutex<GuardedLog>>,
    pub(super) stdout: PluginStdio,
    pub(super) stderr: PluginStdio,
    limiter: Limiter,
    ticks: Ticks,
    pub(super) desk: Arc<Desk>,
    /// The batch that the guest is at.
    pub(super) job: Option<Box<Job>>,
    /// None while the module is being instantiated.
    pub(super) memory: Option<Memory>,
    /// A function of the schema registry that it has called for this batch, or on its way to the first.
    registry_call: Option<&'static str>,
}

impl Guest {
    /// Instantiates the module and runs its `main` until it asks for the first batch. Until then the guest lets go of its
    /// thread with every tick, so that this future can be dropped.
    pub(in crate::plugin) async fn start(
        engine: &EngineState,
        place: &mut Place,
        pre: &RedpandaPre,
        config: InstanceConfig,
    ) -> Result<Self, StartError> {
        let InstanceConfig { config, limits, log, clock, names, lent: _ } = config;
        let variables = environment::variables(&config, &names);
        let variables = variables.map_err(|reason| StartError::ConfigRefused { reason })?;
        let desk = Arc::new(Desk::default());
        let log = Arc::new(Mutex::new(GuardedLog::new(log, clock, limits.log_lines_per_second_max)));
        let (mut wasi, stderr) = wasi(&log);
        let stdout = PluginStdio::new(Arc::clone(&log), LogLevel::Info);
        let state = State {
            wasi: wasi.arg(&names.plugin).envs(&variables).build_p1(),
            log,
            stdout,
            stderr,
            limiter: Limiter::new(&limits, &engine.memory),
            desk: Arc::clone(&desk),
            ticks: Ticks::new(place.held(), limits.init_timeout()),
            job: None,
            memory: None,
            registry_call: None,
        };
        let mut store = Store::new(&engine.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.epoch_deadline_callback(|context| context.data().ticks.tick());
        store.set_epoch_deadline(1);
        let budget = limits.init_timeout();
        let mut guest = Self { main: Some(Box::pin(main(store, pre.0.clone()))), desk, limits };
        match guest.proceed(place, budget).await {
            Ok(_) => Ok(guest),
            Err(Some(Ended { error, .. })) if error.is::<PoolConcurrencyLimitError>() => {
                Err(StartError::NoRoom { message: error.to_string() })
            }
            Err(ended) => Err(StartError::failed(guest.failure(ended, budget))),
        }
    }

    /// Lets the guest map one batch.
    pub(in crate::plugin) async fn call(
        &mut self,
        place: &mut Place,
        input: &InputBatch,
        rules: &OutputRules<'_>,
        out: &mut Transformed,
    ) -> Result<(), PluginError> {
        let budget = self.limits.call_timeout();
        self.desk.offer(Box::new(Job::new(input, rules, budget, std::mem::take(out))));
        match self.proceed(place, budget).await {
            Ok(done) => {
                let done = done.expect("a guest puts down the batch that it has taken");
                *out = done.into_outputs();
                Ok(())
            }
            Err(ended) => Err(self.failure(ended, budget)),
        }
    }

    /// The linear memory that it has.
    pub(in crate::plugin) fn memory_bytes(&self) -> u64 {
        self.desk.memory_bytes()
    }

    /// Lets the guest run until it waits for a batch; returns the one that it was at. After an error, which is none if it
    /// took too long, it is gone.
    async fn proceed(
        &mut self,
        place: &mut Place,
        budget: Duration,
    ) -> Result<Option<Box<Job>>, Option<Ended>> {
        let main = self.main.as_mut().expect("an instance that failed is discarded");
        let step = poll_fn(|context| match main.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending => self.desk.collect().map_or(Poll::Pending, |done| Poll::Ready(Ok(done))),
        });
        let step = match within(budget + TIMEOUT_GRACE, place, step).await {
            Some(step) => step.map_err(Some),
            None => Err(None),
        };
        if step.is_err() {
            self.main = None;
        }
        step
    }

    fn failure(&self, ended: Option<Ended>, budget: Duration) -> PluginError {
        let Some(Ended { error, last_words, denied }) = ended else { return PluginError::Timeout { budget } };
        match error.downcast_ref::<OutputError>() {
            Some(invalid) => PluginError::InvalidOutput(invalid.clone()),
            None => crash(&error, last_words, denied, budget),
        }
    }
}

async fn main(mut store: Store<State>, pre: InstancePre<State>) -> Ended {
    let error = match run(&mut store, &pre).await {
        Err(error) => error,
        Ok(()) => wasmtime::Error::msg("its main function has returned, instead of waiting for records"),
    };
    let state = store.data_mut();
    Ended { error, last_words: state.last_words(), denied: state.limiter.take_denied() }
}

async fn run(store: &mut Store<State>, pre: &InstancePre<State>) -> wasmtime::Result<()> {
    let instance = pre.instantiate_async(&mut *store).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, MEMORY);
    let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    start.call_async(store, ()).await
}

impl State {
    pub(super) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.limiter.memory_bytes()
    }

    pub(super) fn warn(&self, message: &str) {
        self.log.lock().expect("no code panics while it holds this lock").line(LogLevel::Warn, message);
    }

    /// The guest has so much time from now on.
    pub(super) fn begin_time(&mut self, budget: Duration) {
        self.limiter.started();
        self.ticks.set_budget(budget);
        self.ticks.restart();
    }

    /// Takes a batch on. What was wrong before it is not why it fails.
    pub(super) fn begin(&mut self, job: Box<Job>) {
        self.registry_call = None;
        self.limiter.take_denied();
        self.stderr.forget_last_lines();
        self.job = Some(job);
    }

    pub(super) fn registry_called(&mut self, function: &'static str) {
        self.registry_call = Some(function);
    }

    /// The last line written to standard error; and what a guest can't know about the reason.
    fn last_words(&mut self) -> Option<String> {
        let words = self.stderr.take_last_lines();
        let Some(function) = self.registry_call else { return words };
        let hint = format!("{function} was called, and this node has no schema registry");
        Some(words.map_or_else(|| hint.clone(), |words| format!("{words}; {hint}")))
    }
}
