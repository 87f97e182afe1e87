//! A node: the broker, the stages beside it, and the admin listener, started and stopped in order.
//!
//! The broker knows no Wasm and the runtime no Kafka; here is the only place where they meet. A pipeline is a
//! document of the cluster's metadata, its plugins are files named by their hash; what runs is what the
//! metadata says, also after a restart.

mod bindings;
mod checks;
mod deploy;
mod document;
mod memory;
mod open_files;
mod pipelines;
mod plugin_store;
mod ports;
mod resume;
mod stalled;
mod uploads;
mod versions;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use millstream_broker::broker::{RunningBroker, StartError};
use millstream_broker::clock::SystemClock;
use millstream_broker::config::BrokerConfig;
use millstream_runtime::engine::{EngineConfig, PluginEngine, machine_cores, register_metrics};
use millstream_runtime::environment::Environment;
use millstream_runtime::http::{HttpClient, TrustError};
use millstream_runtime::plugin::PluginLogs;
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::{RuntimeMetrics, StageStatus, Tap, TapError, TapFilter};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bindings::Bindings;
pub(crate) use self::checks::CheckError;
use self::checks::Checks;
pub(crate) use self::deploy::{
    ApproveRequest, DeployOutcome, DeployRequest, RejectRequest, RollbackRequest, Waiting,
};
use self::pipelines::applied_specs;
pub(crate) use self::pipelines::{ApplyRequest, PipelineError};
use self::plugin_store::{PluginStore, Unused};
pub(crate) use self::plugin_store::{PluginStoreError, StoredPlugin, hash as plugin_hash};
use self::ports::LocalPorts;
pub(crate) use self::resume::NotRunning;
use self::resume::Unresumed;
pub(crate) use self::versions::{Version, VersionError, Versions};
pub(crate) use self::watch::NotDeployed;
use self::watch::Watched;
use crate::signature::SignaturePolicy;
use crate::{admin, compile_plugin};

#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("can't listen on {address}: is another process using it? choose another address with {flag}")]
    Bind { address: String, flag: &'static str, source: std::io::Error },
    #[error(transparent)]
    Broker(#[from] StartError),
    #[error(transparent)]
    Plugins(#[from] PluginStoreError),
    #[error("can't use data directory {}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("can't watch {} for plugins: correct plugin.watch.dir", path.display())]
    WatchDir { path: PathBuf, source: std::io::Error },
    #[error("can't trust plugin.http.ca.file")]
    HttpTrust(#[from] TrustError),
}

pub(crate) struct Node {
    pub(crate) state: Arc<NodeState>,
    admin_address: SocketAddr,
    stop_admin: CancellationToken,
    tasks: TaskTracker,
}

/// What the admin listener works on.
pub(crate) struct NodeState {
    pub(crate) broker: Arc<RunningBroker>,
    runtime: Runtime<LocalPorts>,
    engine: Arc<PluginEngine>,
    plugins: PluginStore,
    signatures: SignaturePolicy,
    registry: Mutex<Registry>,
    runtime_clock: millstream_runtime::clock::SharedClock,
    /// What is lent to plugins here.
    environment: Environment,
    checks: Checks,
    bindings: Bindings,
    watched: Watched,
    unresumed: Unresumed,
    /// One change of pipelines at a time.
    applying: Arc<tokio::sync::Mutex<()>>,
    /// Changes of pipelines that have begun.
    tasks: TaskTracker,
    /// Fires when the node stops.
    stop: CancellationToken,
}

impl Node {
    /// Opens the data directory, serves clients and the admin listener, and starts the pipelines that were
    /// applied.
    pub(crate) async fn start(mut config: BrokerConfig) -> Result<Self, NodeError> {
        config.max_connections = open_files::connections_max(config.max_connections);
        let path = config.data_dir.clone();
        std::fs::create_dir_all(&path).map_err(|source| NodeError::DataDir { path: path.clone(), source })?;
        let kafka = bind(&config.listeners[0].address.to_string(), "--listen").await?;
        let admin = bind(&config.admin_listener.to_string(), "--admin").await?;
        let admin_address = admin.local_addr().map_err(|source| NodeError::Bind {
            address: config.admin_listener.to_string(),
            flag: "--admin",
            source,
        })?;
        let mut registry = Registry::with_prefix("millstream");
        let plugins = PluginStore::open(&path.join("plugins"))?;
        let node_id = config.id();
        let engine = Arc::new(PluginEngine::new(engine_config(&config, path.join("compiled"))));
        let watch_dir = config.plugin_watch_dir.clone();
        if let Some(dir) = &watch_dir {
            let failed = |source| NodeError::WatchDir { path: dir.clone(), source };
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let environment = environment(&config)?;
        let signatures = signature_policy(&config);
        let bindings = Bindings::default();
        let hooks = Arc::new(bindings.clone());
        let broker = RunningBroker::start(config, SystemClock::shared(), hooks, &mut registry, kafka).await?;
        let broker = Arc::new(broker);
        bindings.expect(&applied_specs(&broker.metadata().image()));
        let tasks = TaskTracker::new();
        let runtime_clock = millstream_runtime::clock::SystemClock::shared();
        let runtime = Runtime::new(
            LocalPorts::new(Arc::clone(&broker), node_id, tasks.clone()),
            RuntimeMetrics::register(&mut registry),
            Arc::clone(&runtime_clock),
            environment.clone(),
            tokio::runtime::Handle::current(),
        );
        register_metrics(&engine, &mut registry);
        let stop = CancellationToken::new();
        let state = Arc::new(NodeState {
            broker,
            runtime,
            engine,
            plugins,
            signatures,
            registry: Mutex::new(registry),
            runtime_clock,
            environment,
            checks: Checks::new(stop.clone()),
            bindings,
            watched: Watched::default(),
            unresumed: Unresumed::default(),
            applying: Arc::default(),
            tasks: tasks.clone(),
            stop,
        });
        state.sweep_plugins(Unused::None);
        let stop_admin = CancellationToken::new();
        tasks.spawn(admin::serve(admin, admin_address, Arc::clone(&state), stop_admin.clone()));
        tasks.spawn(Arc::clone(&state).resume_pipelines());
        let events = state.runtime.events().expect("nobody has asked before");
        tasks.spawn(Arc::clone(&state).follow_stages(events));
        tasks.spawn(Arc::clone(&state).watch_stalled());
        if let Some(dir) = watch_dir {
            tasks.spawn(Arc::clone(&state).watch_plugins(dir));
        }
        Ok(Self { state, admin_address, stop_admin, tasks })
    }

    /// Where Kafka clients are served.
    pub(crate) fn kafka_address(&self) -> SocketAddr {
        self.state.broker.address()
    }

    /// Where the admin listener is served.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Stops the stages, then the listeners, then the broker. Whoever still waits for a check is not waited for.
    pub(crate) async fn stop(self) {
        self.state.stop.cancel();
        self.state.runtime.shutdown().await;
        self.stop_admin.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.state.broker.stop().await;
    }
}

impl NodeState {
    /// Files of the watched directory that were not deployed.
    pub(crate) fn not_deployed(&self) -> Vec<NotDeployed> {
        self.watched.not_deployed()
    }

    pub(crate) fn stages(&self) -> Vec<StageStatus> {
        self.runtime.status()
    }

    /// The last lines of all plugins.
    pub(crate) fn logs(&self) -> &Arc<PluginLogs> {
        self.runtime.logs()
    }

    /// Lets somebody look at what passes a stage, an ingest or a view.
    pub(crate) fn tap(&self, pipeline: &str, stage: &str, filter: TapFilter) -> Result<Tap, TapError> {
        self.runtime.tap(pipeline, stage, filter)
    }

    /// Waits until the node is told to stop.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Every metric, in Prometheus' text format.
    pub(crate) fn metrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().expect("encoding metrics doesn't panic");
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn engine_config(config: &BrokerConfig, cache_dir: PathBuf) -> EngineConfig {
    let cores_max = config.plugin_cores_max.map_or(machine_cores() - 1, i32::unsigned_abs);
    let memory_bytes_max = config.plugin_memory_bytes_max.map(i64::unsigned_abs);
    EngineConfig {
        cache_dir: Some(cache_dir),
        cores_max: cores_max.max(1),
        memory_bytes_max: memory_bytes_max.or_else(|| Some(memory::of_process()? / 2)).unwrap_or(u64::MAX),
        compiler: Box::new(compile_plugin::compiler()),
        ..EngineConfig::default()
    }
}

/// A list of keys that can't be read keeps no node from serving its clients.
fn signature_policy(config: &BrokerConfig) -> SignaturePolicy {
    let policy = SignaturePolicy::new(config.signature_keys().cloned());
    if let Err(error) = policy.check_keys() {
        tracing::error!(%error, "no plugin is started until the trusted keys can be read");
    }
    policy
}

/// What the operator lends to plugins.
fn environment(config: &BrokerConfig) -> Result<Environment, NodeError> {
    let files = config.plugin_files_dirs.clone().unwrap_or_default();
    let http = HttpClient::new(config.plugin_http_ca_file.as_deref(), config.plugin_http_private_networks)?;
    Ok(Environment::new(config.plugin_secrets_dir.clone(), files).with_http(http))
}

async fn bind(address: &str, flag: &'static str) -> Result<TcpListener, NodeError> {
    // An empty host is every interface.
    let wanted = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let bound = TcpListener::bind(&wanted).await;
    bound.map_err(|source| NodeError::Bind { address: address.to_owned(), flag, source })
}
