//! Plugins that were uploaded, as pipelines get them: those that are used stay, and none is kept or started without the
//! signature that the node asks for.

use std::collections::BTreeSet;
use std::io;

use millstream_runtime::pipeline::{self, PluginSource};

use super::document::PipelineDocument;
use super::plugin_store::Unused;
use super::versions::Versions;
use super::{NodeState, PluginStoreError, StoredPlugin};
use crate::signature::Signature;

impl NodeState {
    /// Keeps a plugin for a pipeline that is applied next. `signature` is the text of its signature's file.
    pub(crate) fn put_plugin(
        &self,
        sha256: &str,
        bytes: &[u8],
        signature: Option<&[u8]>,
    ) -> Result<(), PluginStoreError> {
        let sent = signature.map(Signature::parse).transpose()?;
        self.check_signature(sha256, sent.as_ref())?;
        self.plugins.put(sha256, bytes, sent.as_ref(), self.runtime_clock.wall_ms())?;
        self.sweep_plugins(Unused::Recent);
        Ok(())
    }

    pub(crate) fn list_plugins(&self) -> Result<Vec<StoredPlugin>, PluginStoreError> {
        self.plugins.list()
    }

    /// Removes plugins that no pipeline names, and their compiled code. What can't be removed costs space alone.
    pub(super) fn sweep_plugins(&self, unused: Unused) {
        let image = self.broker.metadata().image();
        let documents: Result<Vec<_>, _> =
            PipelineDocument::all(&image).map(|(_, document)| document).collect();
        // What a document that can't be read names is not known: nothing is removed then.
        let Ok(documents) = documents else { return };
        let used: BTreeSet<String> = documents.into_iter().flat_map(PipelineDocument::hashes).collect();
        match self.plugins.sweep(&used, unused) {
            Ok(kept) => self.engine.forget_others(&kept),
            Err(error) => tracing::warn!(%error, "unused plugins can't be removed"),
        }
    }

    /// What is about to be started.
    fn plugin(&self, sha256: &str) -> Result<Vec<u8>, PluginStoreError> {
        let bytes = self.plugins.get(sha256)?;
        self.check_signature(sha256, None)?;
        Ok(bytes)
    }

    /// `sent` is a newer one than what is kept.
    fn check_signature(&self, sha256: &str, sent: Option<&Signature>) -> Result<(), PluginStoreError> {
        if !self.signatures.is_required() {
            return Ok(());
        }
        let kept = if sent.is_none() { self.plugins.signature(sha256)? } else { None };
        Ok(self.signatures.check(sha256, sent.or(kept.as_ref()))?)
    }
}

/// Plugins by the paths that a pipeline file names, and their versions.
pub(super) struct Uploaded<'a> {
    pub(super) state: &'a NodeState,
    pub(super) document: &'a PipelineDocument,
}

impl PluginSource for Uploaded<'_> {
    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the file was not uploaded");
        self.read_version(self.document.plugins.get(file).ok_or_else(missing)?)
    }

    fn versions(&self, plugin: &str) -> Option<pipeline::Versions> {
        self.document.versions.get(plugin).map(Versions::to_runtime)
    }

    fn read_version(&self, sha256: &str) -> io::Result<Vec<u8>> {
        self.state.plugin(sha256).map_err(io::Error::other)
    }
}
