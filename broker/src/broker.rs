//! The broker: opens storage and metadata, leads its partitions, serves its listener, and stops in order.

mod hook_room;
mod ingest;
mod local_connection;
mod maintenance;
mod offsets_log;
mod openings;
mod read;
#[cfg(test)]
mod tests;
mod topics;
mod view_cache;
mod view_reader;
mod views;
mod whole_batches;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::ingest::Lanes;
pub(crate) use self::ingest::{Appending, IngestError};
pub use self::local_connection::{LocalConnection, LocalError};
pub(crate) use self::openings::Openings;
pub use self::topics::TopicError;
pub(crate) use self::topics::{DEFAULT, NewTopic, OFFSETS_TOPIC, stored_topic};
use self::view_reader::ViewReader;
pub(crate) use self::view_reader::{ReadView, Readable};
pub(crate) use self::whole_batches::whole_batches;
use crate::clock::SharedClock;
use crate::config::{BrokerConfig, TopicConfigs, describe_topic};
use crate::connection::{RequestBudget, ResponseBudget};
use crate::group::GroupCoordinator;
use crate::hooks::Hooks;
use crate::ids::Principal;
use crate::log::config::LogDirConfig;
use crate::log::dir::{LogDir, LogDirContext};
use crate::log::disk::FileDisk;
use crate::log::{self, LogDirOwner};
use crate::metadata::{self, Metadata, MetadataConfig, ViewImage};
use crate::metrics::{BrokerMetrics, LogDirMetrics};
use crate::partition::LocalTopics;
use crate::peer::TcpConnector;
use crate::server;

/// What every request handler sees.
pub(crate) struct Broker {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) metadata: Metadata,
    pub(crate) topics: Arc<LocalTopics>,
    pub(crate) groups: GroupCoordinator,
    pub(crate) hooks: Arc<dyn Hooks>,
    lanes: Lanes,
    views: ViewReader,
    pub(crate) request_budget: RequestBudget,
    pub(crate) response_budget: ResponseBudget,
    /// Of fetches of views, which hold what they lease as long as hooks take.
    pub(crate) view_response_budget: ResponseBudget,
    pub(crate) openings: Openings,
    /// Fires when the broker begins to stop: waits end early.
    pub(crate) stopping: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Metadata(#[from] metadata::OpenError),
    #[error(transparent)]
    Log(#[from] log::error::OpenError),
    #[error("register the broker")]
    Register(#[source] metadata::ProposeError),
    #[error(
        "the listener binds every interface; set advertised.listeners to the address that clients can reach"
    )]
    Advertised,
    #[error("find out the address of the listener")]
    Listener(#[source] std::io::Error),
}

/// A broker that serves.
pub struct RunningBroker {
    broker: Arc<Broker>,
    tasks: TaskTracker,
    address: SocketAddr,
}

impl RunningBroker {
    /// Opens the data directory and serves Kafka clients on `listener`. `hooks` is asked from then on.
    pub async fn start(
        config: BrokerConfig,
        clock: SharedClock,
        hooks: Arc<dyn Hooks>,
        registry: &mut Registry,
        listener: TcpListener,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let address = listener.local_addr().map_err(StartError::Listener)?;
        let (metadata, dirs) =
            tokio::join!(open_metadata(&config, &clock, address), open_log_dirs(&config, &clock, registry));
        let (metadata, dirs) = match (metadata, dirs) {
            (Ok(metadata), Ok(dirs)) => (metadata, dirs),
            (Ok(metadata), Err(error)) => {
                metadata.shutdown().await;
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        };
        if let Err(error) = claim(&metadata, &dirs) {
            metadata.shutdown().await;
            return Err(error.into());
        }
        let topics = Arc::new(LocalTopics::new(dirs, Arc::clone(&config), Arc::clone(&clock)));
        topics.reconcile(metadata.image());
        topics.delete_strays();
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let (openings, metrics) = (Openings::new(), Arc::new(BrokerMetrics::new(registry)));
        let response_bytes = usize::try_from(config.queued_max_response_bytes).unwrap_or(usize::MAX);
        let broker = Arc::new(Broker {
            hooks,
            lanes: Lanes::new(tasks.clone()),
            views: ViewReader::new(&config, tasks.clone(), &openings, &metrics, &stopping),
            metrics,
            groups: offsets_log::coordinator(&config, &clock, &topics),
            request_budget: RequestBudget::new(
                usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX),
            ),
            response_budget: ResponseBudget::new(response_bytes),
            view_response_budget: ResponseBudget::new(response_bytes / 2),
            openings,
            stopping,
            config,
            clock,
            metadata,
            topics,
        });
        broker.lead_groups();
        tasks.spawn(maintenance::follow_metadata(Arc::clone(&broker)));
        tasks.spawn(maintenance::enforce_retention(Arc::clone(&broker)));
        tasks.spawn(maintenance::compact(Arc::clone(&broker)));
        tasks.spawn(maintenance::scrub(Arc::clone(&broker)));
        tasks.spawn(server::run(listener, Arc::clone(&broker), broker.stopping.clone()));
        Ok(Self { broker, tasks, address })
    }

    /// Where clients are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn metadata(&self) -> &Metadata {
        &self.broker.metadata
    }

    /// Creates the topic unless it exists; says whether it did. `None` partitions are as the broker's
    /// configuration has it.
    pub async fn ensure_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        configs: TopicConfigs,
    ) -> Result<bool, TopicError> {
        match stored_topic(&self.broker.metadata.image(), name) {
            Ok(_) => return Ok(false),
            Err(error @ TopicError::IsView(_)) => return Err(error),
            Err(_) => {}
        }
        let new = NewTopic { partitions: partitions.unwrap_or(DEFAULT), configs, ..NewTopic::default() };
        match self.broker.create_topic(name, new).await {
            Ok(_) => Ok(true),
            // Somebody else was quicker.
            Err(TopicError::Exists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether `ensure_topic` would create a topic that does not exist; nothing happens.
    pub fn check_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        configs: TopicConfigs,
    ) -> Result<(), TopicError> {
        let new = NewTopic { partitions: partitions.unwrap_or(DEFAULT), configs, ..NewTopic::default() };
        self.broker.check_new_topic(name, new).map(drop)
    }

    /// What a configuration of a topic is in effect; none if there is no such topic or key.
    pub fn topic_config(&self, name: &str, key: &str) -> Option<String> {
        let image = self.broker.metadata.image();
        let described = describe_topic(&image.topic(name)?.configs, &self.broker.config);
        described.into_iter().find(|config| config.name == key)?.value
    }

    /// Makes `name` a view of the topic `source`, whatever it was a view of before; says whether anything changed.
    /// It can be read when [`Hooks::view`] has something for it.
    pub async fn put_view(&self, name: &str, source: &str) -> Result<bool, TopicError> {
        self.broker.put_view(name, source).await
    }

    /// Whether `put_view` would make the view; nothing happens.
    pub fn check_view(&self, name: &str, source: &str) -> Result<(), TopicError> {
        self.broker.check_view(name, source)
    }

    /// Deletes the view, and the offsets that groups have committed for it.
    pub async fn delete_view(&self, name: &str) -> Result<(), TopicError> {
        self.broker.delete_view(name).await
    }

    /// Every view, by id.
    pub fn views(&self) -> Vec<Arc<ViewImage>> {
        self.broker.metadata.image().views().cloned().collect()
    }

    /// A connection that needs no socket, of a client that is known to be `principal`.
    pub fn connect(&self, client_id: &str, principal: Principal) -> LocalConnection {
        LocalConnection::new(Arc::clone(&self.broker), client_id, principal)
    }

    /// Waits until the broker can't go on, and says why.
    pub async fn failed(&self) -> String {
        self.broker.metadata.failed().await
    }

    /// Answers what was read, writes what is queued, and closes everything.
    pub async fn stop(&self) {
        self.broker.stopping.cancel();
        self.broker.groups.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        let topics = Arc::clone(&self.broker.topics);
        for (dir, error) in blocking(move || topics.close()).await {
            let error = &*error as &dyn std::error::Error;
            tracing::error!(dir = %dir.display(), error, "log dir did not close cleanly");
        }
        self.broker.metadata.shutdown().await;
    }
}

/// Runs `work` on a thread that may block. A panic in it is the caller's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn open_metadata(
    config: &BrokerConfig,
    clock: &SharedClock,
    bound: SocketAddr,
) -> Result<Metadata, StartError> {
    let advertised = &config.advertised()[0].address;
    if ["", "0.0.0.0", "::"].contains(&&*advertised.host) {
        return Err(StartError::Advertised);
    }
    // Port 0 asks the system for one: what it gave is what clients must know.
    let port = if advertised.port == 0 { bound.port() } else { advertised.port };
    let metadata_config = MetadataConfig {
        dir: config.data_dir.clone(),
        node_id: config.id(),
        address: format!("{}:{port}", advertised.host),
        cluster_id: None,
        join: Vec::new(),
    };
    let metadata = Metadata::open(metadata_config, Arc::clone(clock), Arc::new(TcpConnector)).await?;
    let registered =
        metadata.register_broker(advertised.host.clone(), port, config.broker_rack.clone()).await;
    match registered {
        Ok(_) => Ok(metadata),
        Err(error) => {
            metadata.shutdown().await;
            Err(StartError::Register(error))
        }
    }
}

/// Makes sure that the log dirs and the metadata belong together, before anything is deleted.
fn claim(metadata: &Metadata, dirs: &[LogDir]) -> Result<(), log::error::OpenError> {
    let image = metadata.image();
    let owner = LogDirOwner { cluster_id: image.cluster_id().to_string(), node_id: metadata.node_id().0 };
    dirs.iter().try_for_each(|dir| dir.claim(&owner, |topic| image.topic_by_id(topic).is_some()))
}

/// Opens the log dirs side by side: each may have a segment to walk.
async fn open_log_dirs(
    config: &BrokerConfig,
    clock: &SharedClock,
    registry: &mut Registry,
) -> Result<Vec<LogDir>, StartError> {
    let paths = config.log_dir_paths();
    let share = |bytes: i64| usize::try_from(bytes).unwrap_or(0) / paths.len();
    let dir_config = LogDirConfig {
        segment_bytes: config.log_dir_segment_bytes as u64,
        tail_cache_bytes: share(config.tail_cache_bytes),
        block_cache_bytes: share(config.block_cache_bytes),
        producer_id_expiration_ms: i64::from(config.producer_id_expiration_ms),
        ..LogDirConfig::default()
    };
    let metrics = Arc::new(LogDirMetrics::new(registry));
    let context = LogDirContext { clock: Arc::clone(clock), disk: Arc::new(FileDisk), metrics };
    let opening: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let (dir_config, context) = (dir_config.clone(), context.clone());
            tokio::task::spawn_blocking(move || LogDir::open(&path, dir_config, context))
        })
        .collect();
    let mut dirs = Vec::with_capacity(opening.len());
    for opening in opening {
        match opening.await {
            Ok(dir) => dirs.push(dir?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(dirs)
}
