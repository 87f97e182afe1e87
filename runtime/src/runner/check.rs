//! Whether a producer or consumer plugin accepts its configuration: started as it will be, and not run.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::clock::SharedClock;
use crate::environment::Environment;
use crate::plugin::{Lent, PluginLogs, RunnerInstance, StartError};
use crate::stage::{RuntimeMetrics, StagePlugin, StageShared, StageSpec};

/// Its `init` reaches no topics.
pub(crate) async fn check(
    spec: &StageSpec,
    plugin: &StagePlugin,
    environment: &Environment,
    clock: &SharedClock,
) -> Result<(), StartError> {
    // Nobody sees what it counts.
    let metrics = RuntimeMetrics::register(&mut Registry::default());
    let shared = StageShared::new(
        spec.clone(),
        &metrics,
        Arc::clone(clock),
        mpsc::channel(1).0,
        Arc::new(PluginLogs::new(Arc::clone(clock))),
        environment.clone(),
    );
    let mut session = Session::new(Arc::new(shared), 0, mpsc::channel(1).0);
    session.prepare(CancellationToken::new(), plugin);
    let lent = Lent::unseen(plugin.grants.clone(), environment.clone());
    let config = plugin.instance_config(spec, clock, lent);
    let started = RunnerInstance::start(&plugin.plugin, config, session);
    started.await.map(|_| ()).map_err(|(_, error)| error)
}
