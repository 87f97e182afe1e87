//! Whether a core module is one of Redpanda's data transforms. Names are checked before anything is compiled; types when
//! the module is linked (`plugin/redpanda`).

use super::LoadError;
use super::artifact::ArtifactError;
use super::contract::{LISTED_MAX, shown};
use super::outline::Outline;

/// What a module imports from: Redpanda's ABI, its schema registry, and WASI preview 1.
pub(crate) const TRANSFORM: &str = "redpanda_transform";
pub(crate) const SCHEMA_REGISTRY: &str = "redpanda_schema_registry";
pub(crate) const WASI: &str = "wasi_snapshot_preview1";

/// What it exports.
pub(crate) const MEMORY: &str = "memory";
pub(crate) const START: &str = "_start";

/// By importing one of these a module says which version of the ABI it was built for. With version 2, a record can be
/// written to a topic by its name.
pub(crate) const ABI_VERSIONS: [&str; 2] = ["check_abi_version_1", "check_abi_version_2"];
const ABI_VERSION: &str = "check_abi_version_";

const FUNCTIONS: [&str; 4] =
    ["read_batch_header", "read_next_record", "write_record", "write_record_with_options"];

/// Why a core module is not a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedpandaError {
    #[error("the module imports what Redpanda's data transforms are not granted: {}", .imports.join(", "))]
    Imports { imports: Vec<String> },
    #[error("the module imports {found} of Redpanda's ABI, of which this node knows {}", ABI_VERSIONS.join(" and "))]
    AbiVersion { found: String },
    #[error("the module has no export {name:?}, which each of Redpanda's data transforms has")]
    NoExport { name: &'static str },
    #[error("the module does not fit the ABI of Redpanda's data transforms: {message}")]
    Mismatch { message: String },
}

impl RedpandaError {
    pub(super) fn link(error: wasmtime::Error) -> Self {
        Self::Mismatch { message: format!("{error:#}") }
    }
}

/// What the names say: a transform of a known version, that imports only what it is granted.
pub(super) fn check_outline(outline: &Outline<'_>) -> Result<(), LoadError> {
    let imports = &outline.core_imports;
    if !imports.iter().any(|(module, _)| *module == TRANSFORM) {
        return Err(ArtifactError::CoreModule.into());
    }
    check_version(imports)?;
    let refused = imports.iter().filter(|(module, name)| !is_granted(module, name));
    let imports: Vec<String> =
        refused.take(LISTED_MAX).map(|(module, name)| format!("{}.{}", shown(module), shown(name))).collect();
    if !imports.is_empty() {
        return Err(RedpandaError::Imports { imports }.into());
    }
    let missing = [START, MEMORY].into_iter().find(|name| !outline.exports.contains(name));
    missing.map_or(Ok(()), |name| Err(RedpandaError::NoExport { name }.into()))
}

/// Ahead of the other imports: a module of a later version imports more than is granted.
fn check_version(imports: &[(&str, &str)]) -> Result<(), RedpandaError> {
    let own = imports.iter().filter(|(module, _)| *module == TRANSFORM).map(|(_, name)| *name);
    let mut versions = own.filter(|name| name.starts_with(ABI_VERSION)).peekable();
    if versions.peek().is_none() {
        return Err(RedpandaError::AbiVersion { found: "no version".to_owned() });
    }
    match versions.find(|version| !ABI_VERSIONS.contains(version)) {
        None => Ok(()),
        Some(unknown) => Err(RedpandaError::AbiVersion { found: shown(unknown) }),
    }
}

/// Of the schema registry and of WASI, the linker knows what there is.
fn is_granted(module: &str, name: &str) -> bool {
    match module {
        TRANSFORM => ABI_VERSIONS.contains(&name) || FUNCTIONS.contains(&name),
        SCHEMA_REGISTRY | WASI => true,
        _ => false,
    }
}
