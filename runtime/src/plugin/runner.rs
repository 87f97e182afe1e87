//! A live producer or consumer plugin: one Store, whose `run` goes on until the plugin returns or is ended.

mod http;
mod http_calls;
mod imports;
mod references;
mod resources;
mod waits;

use std::fs::File;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{PoolConcurrencyLimitError, Result, Store};
use wasmtime_wasi::{WasiCtxView, WasiView};

use self::http::Http;
use super::bindings::{self, RunError, Runner, RunnerPre};
use super::call::{Call, crash, timed};
use super::error::{PluginError, StartError};
use super::host::{HostState, link_wasi};
use super::instance::{HOSTCALL_BYTES_BASE, InstanceConfig};
use super::ticks::Ticks;
use super::{Plugin, Pre};
use crate::clock::SharedClock;
use crate::engine::{EngineState, Place};
use crate::limits::PluginLimits;
use crate::outputs::cut;
use crate::runner::Session;
use crate::stage::{CallUsage, InstanceUsage};

/// A turn counts as one, when it has become so old, although the plugin goes on.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

/// A granted file that a plugin has opened.
#[expect(unreachable_pub, reason = "the generated code exports it again")]
pub struct OpenFile(Arc<File>);

/// The data of a Store.
pub(crate) struct RunnerState {
    host: HostState,
    session: Session,
    files_open: usize,
    /// Its `init` waits for nothing.
    is_running: bool,
    turn: Turn,
    http: Http,
}

/// What a plugin does from one wait to the next: the calls that its usage counts.
struct Turn {
    usage: InstanceUsage,
    clock: SharedClock,
    began: Duration,
    cpu_began: Duration,
    records_in: usize,
    records_out: usize,
    /// What was computed until then counts against the plugin's share of the processor.
    cpu_charged: Duration,
}

impl Turn {
    fn new(usage: InstanceUsage, clock: SharedClock) -> Self {
        let (began, cpu_began) = (clock.monotonic(), clock.thread_cpu());
        Self { usage, clock, began, cpu_began, records_in: 0, records_out: 0, cpu_charged: cpu_began }
    }

    /// The plugin is about to wait, or has ended.
    fn end(&mut self, memory_bytes: u64, is_failed: bool) {
        let records = (!is_failed).then_some((self.records_in, self.records_out));
        let time = self.clock.monotonic().saturating_sub(self.began);
        let cpu = self.clock.thread_cpu().saturating_sub(self.cpu_began);
        self.usage.count(&CallUsage { time, cpu, records }, memory_bytes);
    }

    /// It goes on, with so many records.
    fn begin(&mut self, records_in: usize) {
        (self.began, self.cpu_began) = (self.clock.monotonic(), self.clock.thread_cpu());
        (self.records_in, self.records_out) = (records_in, 0);
    }

    /// It is called before each wait: what was computed was computed just now, and a wait saves no more than it may.
    fn charge(&mut self) {
        let (now, until) = (self.clock.monotonic(), self.clock.thread_cpu());
        let cpu = until.saturating_sub(self.cpu_charged);
        self.usage.charge(now.saturating_sub(cpu), cpu);
        self.cpu_charged = until;
    }

    fn is_in_debt(&self) -> bool {
        self.usage.is_in_debt(&self.clock)
    }
}

/// However an instance ends, what it has computed is its plugin's.
impl Drop for Turn {
    fn drop(&mut self) {
        self.charge();
    }
}

/// See the module.
pub(crate) struct RunnerInstance {
    store: Store<RunnerState>,
    place: Place,
    exports: Runner,
    limits: PluginLimits,
    /// Keeps the epoch going: without it no time limit holds.
    _engine: Arc<EngineState>,
}

/// How a `run` ended.
pub(crate) enum RunEnd {
    Done,
    Retry(String),
    Stop(String),
    Crashed(PluginError),
}

impl RunnerInstance {
    /// Instantiates `plugin` and hands it its configuration. The session comes back with an error.
    pub(crate) async fn start(
        plugin: &Plugin,
        config: InstanceConfig,
        session: Session,
    ) -> std::result::Result<Self, (Box<Session>, StartError)> {
        let Pre::Runner(pre) = &plugin.pre else { return Err((Box::new(session), StartError::Role)) };
        let (limits, clock) = (config.limits.clone(), Arc::clone(&config.clock));
        let account = session.shared().cpu_account(session.plugin());
        let usage = InstanceUsage::new(session.shared().usage(0), account, 0);
        let turn = Turn::new(usage, clock);
        let mut place = plugin.engine.cores.place();
        let ticks = Ticks::new(place.held(), limits.init_timeout());
        let host = HostState::new(&plugin.engine.memory, config, ticks);
        let state = RunnerState {
            http: Http::new(&session, &host, limits.http_requests_max),
            host,
            session,
            files_open: 0,
            is_running: false,
            turn,
        };
        let mut store = Store::new(&plugin.engine.engine, state);
        store.limiter(|state| &mut state.host.limiter);
        store.set_hostcall_fuel((limits.output_bytes_max as usize).saturating_add(HOSTCALL_BYTES_BASE));
        store.set_max_component_handles(limits.handles_max as usize);
        store.epoch_deadline_callback(|context| context.data().host.ticks.tick());
        store.set_epoch_deadline(1);
        let budget = limits.init_timeout();
        let error = match timed(budget, &mut place, instantiate(&mut store, pre)).await {
            Call::Returned((exports, Ok(()))) => {
                let host = &mut store.data_mut().host;
                host.limiter.started();
                host.ticks.set_budget(limits.call_timeout());
                host.begin_time();
                let engine = Arc::clone(&plugin.engine);
                return Ok(Self { store, place, exports, limits, _engine: engine });
            }
            Call::Returned((_, Err(reason))) => {
                StartError::ConfigRefused { reason: cut(&store.data().host.mask(&reason)) }
            }
            Call::Failed(error) if error.is::<PoolConcurrencyLimitError>() => {
                StartError::NoRoom { message: error.to_string() }
            }
            Call::Failed(error) => StartError::failed(failed(&error, &mut store, budget)),
            Call::TimedOut => StartError::Failed(PluginError::Timeout { budget }),
        };
        Err((Box::new(store.into_data().session), error))
    }

    /// Does the plugin's work. The guest lets go of its thread with every tick, so that this future can be dropped.
    pub(crate) async fn run(&mut self) -> RunEnd {
        let state = self.store.data_mut();
        state.http.begin();
        state.is_running = true;
        // What the instances before have taken, and its own start.
        state.turn.charge();
        state.settle().await;
        let run = self.exports.millstream_plugin_run();
        let ended = {
            let mut computing = self.place.computing();
            let mut running = pin!(run.call_run(&mut self.store));
            poll_fn(|context| computing.poll(context, running.as_mut())).await
        };
        match ended {
            Ok(Ok(())) => RunEnd::Done,
            Ok(Err(RunError::Retry(reason))) => RunEnd::Retry(cut(&self.store.data().host.mask(&reason))),
            Ok(Err(RunError::Stop(reason))) => RunEnd::Stop(cut(&self.store.data().host.mask(&reason))),
            Err(error) => {
                self.store.data_mut().end_turn(true);
                let budget = self.limits.call_timeout();
                RunEnd::Crashed(failed(&error, &mut self.store, budget))
            }
        }
    }

    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.store.data_mut().session
    }

    pub(crate) fn into_session(self) -> Session {
        self.store.into_data().session
    }
}

async fn instantiate(
    store: &mut Store<RunnerState>,
    pre: &RunnerPre<RunnerState>,
) -> Result<(Runner, std::result::Result<(), String>)> {
    let exports = pre.instantiate_async(&mut *store).await?;
    let config = Arc::clone(&store.data().host.config);
    let answer = exports.millstream_plugin_run().call_init(&mut *store, &config).await?;
    Ok((exports, answer))
}

fn failed(error: &wasmtime::Error, store: &mut Store<RunnerState>, budget: Duration) -> PluginError {
    let host = &mut store.data_mut().host;
    let (last_words, denied) = (host.take_last_words(), host.limiter.take_denied());
    let last_words = last_words.map(|words| host.mask(&words));
    crash(error, last_words, denied, budget)
}

impl RunnerState {
    fn end_turn(&mut self, is_failed: bool) {
        let memory_bytes = self.host.limiter.memory_bytes();
        self.turn.end(memory_bytes, is_failed);
        self.turn.charge();
    }

    /// The guest lets the host work for it, and has its time anew: but not for nothing. A plugin that has used up its share
    /// of the processor waits first, unless it is about to commit what it has done; then it has half of its time for that.
    async fn called(&mut self) {
        self.count_long_turn();
        self.turn.charge();
        if self.turn.is_in_debt() {
            if self.session.has_uncommitted() && self.host.ticks.is_half_left() {
                return;
            }
            self.settle().await;
        }
        self.host.begin_time();
    }

    /// The same, of what takes the host no time: most clocks are looked at once in a slice.
    async fn called_for_little(&mut self) {
        if self.host.ticks.is_a_slice_used() {
            self.called().await;
        }
    }

    /// The guest has its time anew; it commits, writes or waits first, and settles afterwards.
    fn called_and_settles(&mut self) {
        self.host.begin_time();
        self.count_long_turn();
        self.turn.charge();
    }

    /// A plugin that never waits by itself is seen at work, too.
    fn count_long_turn(&mut self) {
        if self.turn.clock.monotonic().saturating_sub(self.turn.began) > TURN_TIME_MAX {
            self.end_turn(false);
            self.turn.begin(0);
        }
    }

    /// A plugin that has used up its share of the processor waits, unless it is told to stop.
    async fn settle(&mut self) {
        if !self.is_running || !self.turn.is_in_debt() {
            return;
        }
        // What can't be written now is written later.
        let _ = self.session.flush().await;
        let before = self.turn.clock.monotonic();
        self.session.unless_stopped(self.turn.usage.pay(&self.turn.clock)).await.unwrap_or(());
        // To wait is no part of a turn.
        self.turn.began += self.turn.clock.monotonic().saturating_sub(before);
    }
}

impl WasiView for RunnerState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host.ctx()
    }
}

/// Offers sources and sinks what they may import.
pub(crate) fn link_runner(linker: &mut Linker<RunnerState>) -> Result<()> {
    use bindings::imports;

    link_wasi(linker)?;
    waits::link(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    resources::link(linker)?;
    bindings::log::add_to_linker::<_, HasSelf<HostState>>(linker, |state| &mut state.host)?;
    imports::config::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::timers::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::metrics::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::producer::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::consumer::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::positions::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::http::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::files::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    imports::secrets::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)
}
