//! What the metadata keeps of a pipeline: its file as it was applied, and the versions of its plugins.

use std::collections::BTreeMap;

use millstream_broker::metadata::MetadataImage;
use millstream_runtime::pipeline::{PipelineSpec, Problem, parse};
use serde::{Deserialize, Serialize};

use super::pipelines::ApplyRequest;
use super::versions::{Content, PluginVersions, Versions};

/// The kind of document that a pipeline is in the metadata.
pub(super) const PIPELINE: &str = "pipeline";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineDocument {
    /// The file's name, for messages.
    pub(super) file: String,
    pub(super) text: String,
    /// From the path that the file names to the sha-256 of the plugin, as it was applied last.
    pub(super) plugins: BTreeMap<String, String>,
    /// Which versions run. What was applied before there were versions has none.
    #[serde(default)]
    pub(super) versions: PluginVersions,
}

impl PipelineDocument {
    /// The document of that name, and its version in the metadata; 0 if there is none.
    pub(super) fn find(image: &MetadataImage, name: &str) -> (Result<Option<Self>, serde_json::Error>, u64) {
        match image.document(PIPELINE, name) {
            None => (Ok(None), 0),
            Some(document) => (serde_json::from_slice(&document.bytes).map(Some), document.version),
        }
    }

    /// All of them; an error stands for one that can't be read.
    pub(super) fn all(
        image: &MetadataImage,
    ) -> impl Iterator<Item = (&str, Result<Self, serde_json::Error>)> {
        image.documents(PIPELINE).map(|(name, document)| (name, serde_json::from_slice(&document.bytes)))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps of strings and numbers are JSON")
    }

    pub(super) fn spec(&self) -> Result<PipelineSpec, Vec<Problem>> {
        parse(&self.file, &self.text)
    }

    /// The document of a file that is applied in the place of `before`: a plugin whose file, configuration or limits are
    /// others than those of the active version gets a new one.
    pub(super) fn applied(
        request: ApplyRequest,
        spec: &PipelineSpec,
        before: Option<&Self>,
        now_ms: i64,
    ) -> Self {
        let ApplyRequest { file, text, plugins } = request;
        let mut versions = PluginVersions::new();
        for plugin in &spec.plugins {
            // Without its bytes there is no plugin, which is a problem that the check finds.
            let Some(sha256) = plugins.get(&plugin.file) else { continue };
            let content = Content::of(plugin, sha256);
            let known = before.and_then(|before| before.versions.get(&plugin.name));
            let next = match known {
                None => Versions::first(content, now_ms),
                Some(known) => {
                    let mut next = known.clone();
                    // A canary goes on beside a plugin that stays as it is.
                    if !next.active().is(&content) {
                        next.deploy(content, now_ms);
                    }
                    next
                }
            };
            versions.insert(plugin.name.clone(), next);
        }
        Self { file, text, plugins, versions }
    }

    /// The hashes of all plugins that may be wanted.
    pub(super) fn hashes(self) -> impl Iterator<Item = String> {
        let versions = self.versions.into_values().flat_map(|plugin| plugin.versions);
        self.plugins.into_values().chain(versions.map(|version| version.sha256))
    }
}
