//! What an instance finds around it: the log, and WASI without files, network, environment or arguments.

use std::sync::{Arc, Mutex};

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings;
use super::instance::InstanceConfig;
use super::lent::Lent;
use super::log::{GuardedLog, LogLevel};
use super::stdio::PluginStdio;
use super::ticks::Ticks;
use super::v0_1;
use crate::engine::{CORE_INSTANCES_MAX, MEMORIES_MAX, MemoryBudget, TABLES_MAX};
use crate::limits::PluginLimits;

/// Resources of WASI (streams, pollables, headers) that an instance may hold at a time.
const RESOURCES_MAX: usize = 1000;
/// Random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// The data of a Store.
pub(crate) struct HostState {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    /// JSON text.
    pub(super) config: Arc<str>,
    pub(super) lent: Lent,
    log: Arc<Mutex<GuardedLog>>,
    stderr: PluginStdio,
    pub(super) limiter: Limiter,
    pub(super) ticks: Ticks,
}

impl HostState {
    pub(super) fn new(memory: &Arc<MemoryBudget>, config: InstanceConfig, ticks: Ticks) -> Self {
        let InstanceConfig { config, limits, log, clock, names: _, lent } = config;
        let limiter = Limiter::new(&limits, memory);
        let log = Arc::new(Mutex::new(GuardedLog::new(log, clock, limits.log_lines_per_second_max)));
        let (mut wasi, stderr) = wasi(&log);
        let wasi = wasi.build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self { wasi, table, config: config.into(), lent, log, stderr, limiter, ticks }
    }

    pub(super) fn log_line(&self, level: LogLevel, message: &str) {
        self.log.lock().expect("no code panics while it holds this lock").line(level, message);
    }

    /// For what says something about the plugin while nobody holds the instance.
    pub(super) fn log(&self) -> Arc<Mutex<GuardedLog>> {
        Arc::clone(&self.log)
    }

    /// A call begins, or the host has done something for the guest: its time begins anew, and what it was refused before is
    /// not why it fails later.
    pub(super) fn begin_time(&mut self) {
        self.ticks.restart();
        self.limiter.take_denied();
    }

    /// What hosts keep for their guests.
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Lines of the log don't show this from now on.
    pub(super) fn hide(&self, name: &str, secret: &[u8]) {
        self.log.lock().expect("no code panics while it holds this lock").hide(name, secret);
    }

    /// A text of the guest's, for people.
    pub(super) fn mask(&self, text: &str) -> String {
        self.log.lock().expect("no code panics while it holds this lock").mask(text).into_owned()
    }

    /// The last lines written to standard error: a panic's message, for instance.
    pub(super) fn take_last_words(&mut self) -> Option<String> {
        self.stderr.take_last_lines()
    }
}

/// What WASI offers any plugin, whatever its preview; and its standard error.
pub(super) fn wasi(log: &Arc<Mutex<GuardedLog>>) -> (WasiCtxBuilder, PluginStdio) {
    let stdout = PluginStdio::new(Arc::clone(log), LogLevel::Info);
    let stderr = PluginStdio::new(Arc::clone(log), LogLevel::Warn);
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(stdout).stderr(stderr.clone()).max_random_size(RANDOM_BYTES_MAX);
    // What is denied is a socket itself, before there is anything of the system behind it.
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    (wasi, stderr)
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl bindings::log::Host for HostState {
    fn log(&mut self, level: bindings::log::Level, message: String) {
        let level = match level {
            bindings::log::Level::Trace => LogLevel::Trace,
            bindings::log::Level::Debug => LogLevel::Debug,
            bindings::log::Level::Info => LogLevel::Info,
            bindings::log::Level::Warn => LogLevel::Warn,
            bindings::log::Level::Error => LogLevel::Error,
        };
        self.log_line(level, &message);
    }
}

impl bindings::types::Host for HostState {}

/// Offers transforms what they may import.
pub(crate) fn link_host(linker: &mut Linker<HostState>) -> Result<()> {
    bindings::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::imports::config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::imports::metrics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::imports::secrets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    v0_1::add_to_linker(linker)?;
    link_wasi(linker)
}

/// Offers what any plugin may import of WASI.
pub(super) fn link_wasi<T: WasiView + Send + 'static>(linker: &mut Linker<T>) -> Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
    use wasmtime_wasi::p2::bindings::{cli, filesystem};
    use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

    // Streams, polling, clocks, random bytes and the three standard streams; no HTTP, whatever the name says.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    let random = wasmtime_wasi::p2::bindings::random::insecure::add_to_linker::<T, WasiRandom>;
    random(linker, |state| state.random())?;
    let seed = wasmtime_wasi::p2::bindings::random::insecure_seed::add_to_linker::<T, WasiRandom>;
    seed(linker, |state| state.random())?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    link_sockets(linker)
}

/// The interpreters of scripting languages import sockets whether a plugin uses them or not. Each attempt to make one,
/// or to look up a name, is answered with "access denied".
fn link_sockets<T: WasiView + Send + 'static>(linker: &mut Linker<T>) -> Result<()> {
    use wasmtime_wasi::p2::bindings::sockets;
    use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(linker, &options, T::sockets)?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)
}

/// Counts what an instance allocates. Memory counts as a whole, whatever number of memories it is spread over.
pub(super) struct Limiter {
    memory_bytes_max: u64,
    memory_bytes: u64,
    table_elements_max: usize,
    node: Arc<MemoryBudget>,
    is_starting: bool,
    denied: Option<Denied>,
}

/// Whose limit an instance ran into when it wanted memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    ByPlugin {
        limit_bytes: u64,
    },
    /// All plugins together have so much.
    ByNode {
        limit_bytes: u64,
    },
}

impl Limiter {
    pub(super) fn new(limits: &PluginLimits, node: &Arc<MemoryBudget>) -> Self {
        // What the node doesn't have at all is not worth waiting for.
        let memory_bytes_max = limits.memory_bytes_max.min(node.bytes_max());
        Self {
            memory_bytes_max,
            memory_bytes: 0,
            table_elements_max: limits.table_elements_max as usize,
            node: Arc::clone(node),
            is_starting: true,
            denied: None,
        }
    }

    /// From now on it has no part in what is kept for those that start.
    pub(super) fn started(&mut self) {
        self.is_starting = false;
    }

    pub(super) fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }

    /// Memory never shrinks: this is the most there was.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Whether memory was refused since the last time this was asked.
    pub(super) fn take_denied(&mut self) -> Option<Denied> {
        self.denied.take()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.node.give_back(self.memory_bytes);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // wasmtime would refuse it afterwards, when it is counted.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let grown = desired.saturating_sub(current) as u64;
        let total = self.memory_bytes.saturating_add(grown);
        if total > self.memory_bytes_max {
            self.denied = Some(Denied::ByPlugin { limit_bytes: self.memory_bytes_max });
            return Ok(false);
        }
        if !self.node.take(grown, self.is_starting) {
            self.denied = Some(Denied::ByNode { limit_bytes: self.node.bytes_max() });
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= self.table_elements_max)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
    use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
    use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
    use wasmtime_wasi::sockets::WasiSocketsView as _;

    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::Cores;
    use crate::plugin::{PluginLog, StageNames};

    fn limiter(memory_bytes_max: u64, node: &Arc<MemoryBudget>) -> Limiter {
        Limiter::new(&PluginLimits { memory_bytes_max, ..PluginLimits::default() }, node)
    }

    struct NoLog;

    impl PluginLog for NoLog {
        fn line(&self, _: LogLevel, _: &str) {}
    }

    /// What has no socket can't connect, bind or send.
    #[tokio::test]
    async fn sockets_can_be_imported_and_none_can_be_made() {
        let config = InstanceConfig {
            config: String::new(),
            limits: PluginLimits::default(),
            log: Arc::new(NoLog),
            clock: SystemClock::shared(),
            names: StageNames::default(),
            lent: Lent::default(),
        };
        let cores = Cores::new(1, SystemClock::shared(), Duration::ZERO);
        let ticks = Ticks::new(cores.place().held(), Duration::ZERO);
        let mut state = HostState::new(&MemoryBudget::new(0), config, ticks);
        for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
            let tcp = state.sockets().create_tcp_socket(family).map(drop).unwrap_err();
            let udp = state.sockets().create_udp_socket(family).await.map(drop).unwrap_err();
            for error in [tcp, udp] {
                assert!(matches!(error.downcast_ref(), Some(ErrorCode::AccessDenied)), "{error:?}");
            }
        }
    }

    #[test]
    fn memory_counts_over_all_memories() {
        let mut limiter = limiter(100, &MemoryBudget::new(1000));
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.take_denied(), Some(Denied::ByPlugin { limit_bytes: 100 }));
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert_eq!(limiter.take_denied(), None);
    }

    #[test]
    fn memory_counts_over_all_instances_while_they_live() {
        let node = MemoryBudget::new(150);
        let [mut first, mut second] = [0, 1].map(|_| limiter(100, &node));
        first.started();
        second.started();
        assert!(first.memory_growing(0, 100, None).unwrap());
        assert!(!second.memory_growing(0, 60, None).unwrap());
        assert_eq!(second.take_denied(), Some(Denied::ByNode { limit_bytes: 150 }));
        assert!(second.memory_growing(0, 50, None).unwrap());
        drop(first);
        assert_eq!(node.bytes(), 50);
        assert!(second.memory_growing(50, 100, None).unwrap());
        drop(second);
        assert_eq!(node.bytes(), 0);
    }

    /// Otherwise nobody could replace the version that has taken everything.
    #[test]
    fn who_starts_finds_memory_where_others_have_used_up_theirs() {
        let node = MemoryBudget::new(160);
        let [mut greedy, mut starting] = [0, 1].map(|_| limiter(1000, &node));
        greedy.started();
        assert!(greedy.memory_growing(0, 160, None).unwrap());
        assert!(!greedy.memory_growing(160, 161, None).unwrap());
        assert_eq!(greedy.take_denied(), Some(Denied::ByPlugin { limit_bytes: 160 }), "no node has so much");
        assert!(starting.memory_growing(0, 20, None).unwrap());
        assert!(!starting.memory_growing(20, 21, None).unwrap());
        starting.started();
        assert!(!starting.memory_growing(20, 21, None).unwrap());
        assert_eq!(starting.take_denied(), Some(Denied::ByNode { limit_bytes: 160 }));
    }

    #[test]
    fn what_a_memory_can_never_be_is_not_counted() {
        let node = MemoryBudget::new(1000);
        let mut limiter = limiter(1000, &node);
        assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
        assert_eq!((limiter.take_denied(), node.bytes()), (None, 0));
    }
}
