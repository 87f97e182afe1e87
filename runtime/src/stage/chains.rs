//! The chains of one task: that of all partitions, and that of the canary's.

use std::sync::Arc;

use super::chain::Chain;
use super::deployment::{AfterCrash, Crash, Deployment};
use super::mill::Halt;
use super::spec::StagePlugin;
use super::status::{StageFailure, StageShared};
use crate::plugin::StartError;

/// The live instances of one task.
pub(crate) struct Chains {
    deployment: Arc<Deployment>,
    stable: Lane,
    canary: Option<Lane>,
}

struct Lane {
    chain: Chain,
    /// What the commits of its partitions say: who made the outputs.
    metadata: Arc<str>,
}

/// A plugin that did not start.
pub(crate) struct NotStarted {
    pub(super) plugin: String,
    pub(super) index: usize,
    pub(super) canary: bool,
    pub(super) error: StartError,
}

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "plugin {}: {}", self.plugin, self.error)
    }
}

impl Chains {
    pub(crate) async fn start(shared: &StageShared, deployment: Arc<Deployment>) -> Result<Self, NotStarted> {
        let stable = Lane::start(shared, &deployment.plugins).await;
        let stable = stable.map_err(|(index, error)| NotStarted {
            plugin: deployment.plugins[index].name.clone(),
            index,
            canary: false,
            error,
        })?;
        let canary = match deployment.canary_plugins() {
            None => None,
            Some(plugins) => match Lane::start(shared, &plugins).await {
                Ok(lane) => Some(lane),
                Err((index, error)) => {
                    let plugin = plugins[index].name.clone();
                    return Err(NotStarted { plugin, index, canary: true, error });
                }
            },
        };
        Ok(Self { deployment, stable, canary })
    }

    pub(crate) fn generation(&self) -> u64 {
        self.deployment.generation
    }

    /// Whether records of this partition go through the canary.
    pub(crate) fn is_canary(&self, partition: i32) -> bool {
        let canary = self.deployment.canary.as_ref();
        canary.is_some_and(|canary| canary.partitions.contains(&partition))
    }

    /// The version that stands there in the chain of a partition.
    pub(super) fn plugin(&self, partition: i32, index: usize) -> &StagePlugin {
        match &self.deployment.canary {
            Some(canary) if canary.index == index && self.is_canary(partition) => &canary.plugin,
            _ => &self.deployment.plugins[index],
        }
    }

    /// All of them.
    pub(crate) fn plugins(&self, partition: i32) -> Vec<StagePlugin> {
        (0..self.deployment.plugins.len()).map(|index| self.plugin(partition, index).clone()).collect()
    }

    pub(crate) fn of(&self, partition: i32) -> &Chain {
        &self.lane(partition).chain
    }

    pub(crate) fn of_mut(&mut self, partition: i32) -> &mut Chain {
        match &mut self.canary {
            Some(lane)
                if self.deployment.canary.as_ref().is_some_and(|c| c.partitions.contains(&partition)) =>
            {
                &mut lane.chain
            }
            _ => &mut self.stable.chain,
        }
    }

    pub(super) fn metadata(&self, partition: i32) -> &Arc<str> {
        &self.lane(partition).metadata
    }

    fn lane(&self, partition: i32) -> &Lane {
        match &self.canary {
            Some(lane) if self.is_canary(partition) => lane,
            _ => &self.stable,
        }
    }
}

impl Lane {
    async fn start(shared: &StageShared, plugins: &[StagePlugin]) -> Result<Self, (usize, StartError)> {
        let chain = Chain::start(shared, plugins).await?;
        let versions: Vec<String> = plugins.iter().map(StagePlugin::label).collect();
        Ok(Self { chain, metadata: versions.join(",").into() })
    }
}

/// The instances of the current deployment: those that were started for this task, or new ones. A version that does
/// not start is as bad as one that crashes.
pub(crate) async fn start_chains(shared: &Arc<StageShared>, task: u32) -> Result<Chains, Halt> {
    let mut again = false;
    loop {
        let deployment = shared.deployments.current();
        if let Some(chains) = shared.deployments.take_prepared(task)
            && chains.generation() == deployment.generation
        {
            return Ok(chains);
        }
        let generation = deployment.generation;
        let NotStarted { plugin, index, canary, error } = match Chains::start(shared, deployment).await {
            Ok(chains) => return Ok(chains),
            Err(failed) => failed,
        };
        let halt = not_started(&plugin, &error);
        if matches!(halt, Halt::NoRoom(_)) {
            return Err(halt);
        }
        let reason = error.to_string();
        let crash = Crash { generation, canary, index, reason: &reason, again };
        if shared.crashed(crash) == AfterCrash::GiveUp {
            return Err(halt);
        }
        again = true;
    }
}

pub(super) fn not_started(plugin: &str, error: &StartError) -> Halt {
    match error {
        StartError::NoRoom { message } => {
            Halt::NoRoom(format!("plugin {plugin}: no room for another instance: {message}"))
        }
        error => Halt::Failed(Box::new(StageFailure {
            plugin: Some(plugin.to_owned()),
            ..StageFailure::without_batch("start", error)
        })),
    }
}
