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
            Some(document) => (Self::read(&document.bytes).map(Some), document.version),
        }
    }

    /// All of them; an error stands for one that can't be read.
    pub(super) fn all(
        image: &MetadataImage,
    ) -> impl Iterator<Item = (&str, Result<Self, serde_json::Error>)> {
        image.documents(PIPELINE).map(|(name, document)| (name, Self::read(&document.bytes)))
    }

    /// What was written before versions had grants gets those of its file.
    fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut document: Self = serde_json::from_slice(bytes)?;
        if document.versions.values().any(|versions| versions.granted.is_none()) {
            // A text that can't be parsed does not run.
            for plugin in document.spec().map(|spec| spec.plugins).unwrap_or_default() {
                if let Some(versions) = document.versions.get_mut(&plugin.name) {
                    versions.adopt(&plugin.grants);
                }
            }
        }
        Ok(document)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps of strings and numbers are JSON")
    }

    pub(super) fn spec(&self) -> Result<PipelineSpec, Vec<Problem>> {
        parse(&self.file, &self.text)
    }

    /// The document of a file that is applied in the place of `before`: a plugin whose file, configuration, limits or
    /// grants are others than those of the active version gets a new one.
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
                    next.apply(content, now_ms);
                    next
                }
            };
            versions.insert(plugin.name.clone(), next);
        }
        Self { file, text, plugins, versions }
    }

    /// The hashes of all plugins that may be wanted.
    pub(super) fn hashes(self) -> impl Iterator<Item = String> {
        let versions = self.versions.into_values().flat_map(|plugin| {
            let waiting = plugin.waiting.map(|waiting| waiting.version);
            plugin.versions.into_iter().chain(waiting)
        });
        self.plugins.into_values().chain(versions.map(|version| version.sha256))
    }
}

#[cfg(test)]
mod tests {
    use millstream_runtime::grants::{Capability, Grants};

    use super::*;

    const TEXT: &str = "pipeline: p\nplugins:\n  f: {file: f.wasm, grants: {secrets: [token]}}\nsinks:\n  s: {from: in, \
                        plugin: f}\n";

    /// As it was written before versions had grants.
    fn old() -> Vec<u8> {
        let version = serde_json::json!({
            "number": 1, "sha256": "a", "config": null, "limits": {}, "deployed_ms": 1, "taken_back": null
        });
        let versions = serde_json::json!({
            "versions": [version], "active": 1, "active_since_ms": 1, "previous": null, "canary": null
        });
        let document = serde_json::json!({
            "file": "p.yaml", "text": TEXT, "plugins": {"f.wasm": "a"}, "versions": {"f": versions}
        });
        serde_json::to_vec(&document).unwrap()
    }

    #[test]
    fn a_document_from_before_versions_had_grants_has_those_of_its_file() {
        let document = PipelineDocument::read(&old()).unwrap();
        let granted = Grants { secrets: ["token".to_owned()].into(), ..Grants::default() };
        assert_eq!(document.versions["f"].active().grants, granted);
        let again = PipelineDocument::read(&document.to_bytes()).unwrap();
        assert_eq!(again.versions, document.versions);
        // The same file, applied again, is the same version.
        let request = ApplyRequest {
            file: "p.yaml".to_owned(),
            text: TEXT.to_owned(),
            plugins: document.plugins.clone(),
        };
        let spec = document.spec().unwrap();
        let applied = PipelineDocument::applied(request, &spec, Some(&document), 2);
        assert_eq!(applied.versions, document.versions);
    }

    #[test]
    fn what_waits_is_wanted_and_what_is_rejected_is_not() {
        let mut document = PipelineDocument::read(&old()).unwrap();
        let versions = document.versions.get_mut("f").unwrap();
        let content = Content { sha256: "b".to_owned(), ..versions.active().content() };
        versions.wait(content, [Capability::Files].into(), None, 2);
        let hashes = |document: &PipelineDocument| {
            document.clone().hashes().collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(hashes(&document), ["a", "b"].map(str::to_owned).into());
        document.versions.get_mut("f").unwrap().reject(None).unwrap();
        assert_eq!(hashes(&document), ["a"].map(str::to_owned).into());
    }
}
