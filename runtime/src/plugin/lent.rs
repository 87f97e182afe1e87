//! What a node lends an instance beside time and memory: what its pipeline grants it, and where it counts.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::bindings::imports::{config, metrics, secrets};
use super::host::HostState;
use crate::environment::Environment;
use crate::grants::Grants;
use crate::stage::{MetricError, PluginMetrics};

/// See the module.
#[derive(Clone)]
pub struct Lent {
    pub(crate) grants: Grants,
    pub(crate) environment: Environment,
    pub(crate) metrics: Arc<PluginMetrics>,
}

impl Lent {
    /// For an instance that is tried: nobody sees what it counts.
    pub fn unseen(grants: Grants, environment: Environment) -> Self {
        Self { grants, environment, metrics: Arc::new(PluginMetrics::unseen()) }
    }
}

impl Default for Lent {
    /// Nothing.
    fn default() -> Self {
        Self::unseen(Grants::default(), Environment::default())
    }
}

/// A granted secret, by its name: it is read when it is used.
#[expect(unreachable_pub, reason = "the generated code exports it again")]
pub struct SecretHandle(pub(super) String);

impl HostState {
    pub(super) fn secret_of(&self, secret: &Resource<SecretHandle>) -> Result<&SecretHandle, secrets::Error> {
        self.table.get(secret).map_err(unavailable)
    }
}

impl config::Host for HostState {
    async fn get(&mut self) -> String {
        self.config.to_string()
    }
}

impl metrics::Host for HostState {
    async fn counter(&mut self, name: String, by: u64) -> Result<(), metrics::Error> {
        self.lent.metrics.counter(&name, by).map_err(invalid)
    }

    async fn gauge(&mut self, name: String, value: f64) -> Result<(), metrics::Error> {
        self.lent.metrics.gauge(&name, value).map_err(invalid)
    }

    async fn histogram(&mut self, name: String, value: f64) -> Result<(), metrics::Error> {
        self.lent.metrics.histogram(&name, value).map_err(invalid)
    }
}

fn invalid(error: MetricError) -> metrics::Error {
    metrics::Error::Invalid(error.to_string())
}

impl secrets::Host for HostState {
    async fn get(&mut self, name: String) -> Result<Resource<SecretHandle>, secrets::Error> {
        if !self.lent.grants.secrets.contains(&name) {
            return Err(secrets::Error::NotGranted(format!("the pipeline grants no secret {name:?}")));
        }
        self.lent.environment.secrets.read(&name).map_err(unavailable)?;
        self.table.push(SecretHandle(name)).map_err(unavailable)
    }
}

impl secrets::HostSecret for HostState {
    /// Who sends requests has a host of its own.
    async fn reference(&mut self, secret: Resource<SecretHandle>) -> Result<String, secrets::Error> {
        self.secret_of(&secret)?;
        Err(secrets::Error::Unavailable("a transform sends no requests that it could stand in".to_owned()))
    }

    async fn reveal(&mut self, secret: Resource<SecretHandle>) -> Result<Vec<u8>, secrets::Error> {
        let SecretHandle(name) = self.secret_of(&secret)?;
        let name = name.clone();
        let secret = self.lent.environment.secrets.read(&name).map_err(unavailable)?;
        self.hide(&name, secret.as_bytes());
        Ok(secret.as_bytes().to_vec())
    }

    async fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

fn unavailable(error: impl std::fmt::Display) -> secrets::Error {
    secrets::Error::Unavailable(error.to_string())
}
