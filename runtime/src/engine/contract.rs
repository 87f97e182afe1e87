//! Whether a component keeps the contract of `sdk/wit`: which form of a transform it exports, and that it imports
//! nothing that is not granted.

use wasmtime::Engine;
use wasmtime::component::Component;

/// The two forms of a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginForm {
    /// Records section in, packed outputs out.
    TransformBatch,
    /// Typed records in and out.
    Transform,
}

const TRANSFORM_BATCH: &str = "millstream:plugin/transform-batch@0.1.0";
const TRANSFORM: &str = "millstream:plugin/transform@0.1.0";

/// What any plugin may import: our own interfaces, and what the standard libraries of languages need of WASI to
/// start. The filesystem is there without a single directory; sockets and HTTP are not.
const GRANTED: [&str; 7] = [
    "millstream:plugin/types@",
    "millstream:plugin/log@",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
];

/// Imports and exports that an error lists at most: a hostile component can have thousands.
const LISTED_MAX: usize = 20;

/// Why a component is not a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    #[error("the component imports what plugins are not granted: {}", .imports.join(", "))]
    Imports { imports: Vec<String> },
    #[error(
        "the component exports neither {TRANSFORM_BATCH} nor {TRANSFORM}; it exports {}",
        list(.exports)
    )]
    NoTransform { exports: Vec<String> },
    #[error("the component does not fit the contract: {message}")]
    Mismatch { message: String },
}

impl ContractError {
    pub(super) fn link(error: wasmtime::Error) -> Self {
        Self::Mismatch { message: format!("{error:#}") }
    }
}

pub(super) fn check(component: &Component, engine: &Engine) -> Result<PluginForm, ContractError> {
    let component_type = component.component_type();
    let refused = component_type.imports(engine).map(|(name, _)| name).filter(|name| !is_granted(name));
    let imports: Vec<String> = refused.take(LISTED_MAX).map(str::to_owned).collect();
    if !imports.is_empty() {
        return Err(ContractError::Imports { imports });
    }
    if component.get_export_index(None, TRANSFORM_BATCH).is_some() {
        return Ok(PluginForm::TransformBatch);
    }
    if component.get_export_index(None, TRANSFORM).is_some() {
        return Ok(PluginForm::Transform);
    }
    let exports = component_type.exports(engine).map(|(name, _)| name.to_owned()).take(LISTED_MAX).collect();
    Err(ContractError::NoTransform { exports })
}

fn is_granted(import: &str) -> bool {
    GRANTED.iter().any(|granted| import.starts_with(granted))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
