//! Another deployment for a running stage. Its instances are started first, on a thread of their own, beside those that
//! work; each task then takes its own between two batches.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::stage::{Chains, Deployment, StageShared, StageSpec};

/// Whoever changes a pipeline waits for this, and so does everybody who wants to after them.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(60);

/// Returns when the stage has the new deployment. A task that is in the middle of a batch takes it after that.
pub(super) async fn swap(shared: &Arc<StageShared>, spec: &StageSpec) {
    // What is told about the version before is past.
    shared.forget_rollback();
    let next = shared.deployments.next(spec.plugins.clone(), spec.canary.clone());
    if spec.runner.is_some() {
        // Its plugin is told to stop, and the next one goes on in the same place of the group.
        return shared.deployments.replace(next, Vec::new());
    }
    let (sender, prepared) = oneshot::channel();
    let (stage, deployment) = (Arc::clone(shared), Arc::clone(&next));
    let work = move || {
        let prepared = prepare(&stage, &deployment, || sender.is_closed());
        // Nobody may be there to receive it.
        let _ = sender.send(prepared);
    };
    let spawned = thread::Builder::new().name(format!("swap-{}", spec.name)).spawn(work);
    let prepared = match spawned {
        Ok(_) => match tokio::time::timeout(PREPARE_TIME_MAX, prepared).await {
            Ok(prepared) => prepared.unwrap_or_default(),
            Err(_) => {
                tracing::info!(stage = spec.name, "the new instances take long, and are started one by one");
                Vec::new()
            }
        },
        Err(error) => {
            tracing::warn!(stage = spec.name, %error, "no thread to start the new instances on");
            Vec::new()
        }
    };
    shared.deployments.replace(next, prepared);
}

/// Instances for all tasks. Those that can't be started beside the others are started when those are gone.
fn prepare(
    shared: &StageShared,
    deployment: &Arc<Deployment>,
    is_given_up: impl Fn() -> bool,
) -> Vec<Chains> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return Vec::new();
    };
    let mut prepared = Vec::new();
    for _ in 0..shared.spec.parallelism {
        if is_given_up() {
            break;
        }
        let started = Chains::start(shared, Arc::clone(deployment));
        match runtime.block_on(started) {
            Ok(chains) => prepared.push(chains),
            Err(failed) => {
                tracing::info!(stage = shared.spec.name, %failed, "not started beside the old one");
                break;
            }
        }
    }
    prepared
}
