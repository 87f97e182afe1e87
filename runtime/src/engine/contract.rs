//! Whether a component keeps the contract of `sdk/wit`: which form of a transform it exports, and that it imports
//! nothing that is not granted. Names are checked before anything is compiled; types when the component is linked.

use std::collections::BTreeSet;

use wasmtime::component::Component;

use super::outline::Outline;
use crate::grants::Capability;
use crate::plugin::{TRANSFORM_BATCH_V0_1, TRANSFORM_V0_1};

/// The forms of a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginForm {
    /// Records section in, packed outputs out.
    TransformBatch,
    /// Typed records in and out.
    Transform,
    /// A producer or consumer plugin, which goes on until it is told to stop.
    Run,
    /// A module of Redpanda's data transforms, which fetches and writes record by record.
    RedpandaTransform,
}

/// The two interfaces of a component that is a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    TransformBatch,
    Transform,
}

impl From<Interface> for PluginForm {
    fn from(interface: Interface) -> Self {
        match interface {
            Interface::TransformBatch => Self::TransformBatch,
            Interface::Transform => Self::Transform,
        }
    }
}

/// The versions of the contract that the host keeps. A component says by its exports which one it was built against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Contract {
    #[serde(rename = "0.1")]
    V0_1,
    #[serde(rename = "0.2")]
    V0_2,
}

/// What the host calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) contract: Contract,
    pub(crate) interface: Interface,
}

const TRANSFORM_BATCH: &str = "millstream:plugin/transform-batch@0.2.0";
const TRANSFORM: &str = "millstream:plugin/transform@0.2.0";

/// Every export that makes a component a transform, the host's favourites first.
const TRANSFORMS: [(&str, Contract, Interface); 4] = [
    (TRANSFORM_BATCH, Contract::V0_2, Interface::TransformBatch),
    (TRANSFORM, Contract::V0_2, Interface::Transform),
    (TRANSFORM_BATCH_V0_1, Contract::V0_1, Interface::TransformBatch),
    (TRANSFORM_V0_1, Contract::V0_1, Interface::Transform),
];

/// What any plugin may import: our own interfaces, secrets if they are granted to it, and what the standard libraries of
/// languages need of WASI to start. The filesystem is there without a single directory, and sockets without a network:
/// none can be made.
const GRANTED: [&str; 11] = [
    "millstream:plugin/types@",
    "millstream:plugin/log@",
    "millstream:plugin/config@",
    "millstream:plugin/metrics@",
    "millstream:plugin/secrets@",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// What producer and consumer plugins may import beside; some of it, if it is granted to them.
const GRANTED_TO_RUN: [&str; 8] = [
    "millstream:plugin/timers@",
    "millstream:plugin/producer@",
    "millstream:plugin/consumer@",
    "millstream:plugin/positions@",
    "millstream:plugin/files@",
    "millstream:plugin/http@",
    // What they ask for; nothing that asks them.
    "wasi:http/types@0.2.",
    "wasi:http/outgoing-handler@0.2.",
];

const RUN: &str = "millstream:plugin/run@0.2.0";

/// Imports and exports that an error lists at most: a hostile component can have thousands.
pub(super) const LISTED_MAX: usize = 20;

/// Why a component is not a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    #[error("the component imports what plugins are not granted: {}", .imports.join(", "))]
    Imports { imports: Vec<String> },
    #[error(
        "the component exports none of {TRANSFORM_BATCH}, {TRANSFORM} and {RUN}; it exports {}",
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

/// What the names say: only granted imports, and an export that the host calls.
pub(super) fn check_outline(outline: &Outline<'_>) -> Result<(), ContractError> {
    // Of any version: which ones fit is wasmtime's to say.
    let interface = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let exports = |wanted: &str| outline.exports.iter().any(|name| interface(name) == interface(wanted));
    let runs = exports(RUN);
    let granted_to_run = |name: &str| runs && GRANTED_TO_RUN.iter().any(|granted| name.starts_with(granted));
    let refused = outline.imports.iter().filter(|name| !is_granted(name) && !granted_to_run(name));
    let imports: Vec<String> = refused.take(LISTED_MAX).map(|name| shown(name)).collect();
    if !imports.is_empty() {
        return Err(ContractError::Imports { imports });
    }
    match runs || exports(TRANSFORM_BATCH) || exports(TRANSFORM) {
        true => Ok(()),
        false => Err(no_transform(outline.exports.iter().copied())),
    }
}

/// Whether it is a producer or consumer plugin.
pub(super) fn is_runner(component: &Component) -> bool {
    component.get_export_index(None, RUN).is_some()
}

/// What it imports that has to be granted.
pub(super) fn needs(component: &Component) -> BTreeSet<Capability> {
    let component_type = component.component_type();
    let imports = component_type.imports(component.engine());
    imports.filter_map(|(name, _)| Capability::of_import(name)).collect()
}

/// What the host calls.
pub(super) fn export(component: &Component) -> Result<Export, ContractError> {
    let mut transforms = TRANSFORMS.into_iter();
    let found = transforms.find(|(name, ..)| component.get_export_index(None, *name).is_some());
    match found {
        Some((_, contract, interface)) => Ok(Export { contract, interface }),
        None => {
            let component_type = component.component_type();
            Err(no_transform(component_type.exports(component.engine()).map(|(name, _)| name)))
        }
    }
}

fn no_transform<'a>(exports: impl Iterator<Item = &'a str>) -> ContractError {
    ContractError::NoTransform { exports: exports.take(LISTED_MAX).map(shown).collect() }
}

/// A name as an error shows it. Nobody has checked yet that it is one.
pub(super) fn shown(name: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 100;
    name.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

fn is_granted(import: &str) -> bool {
    GRANTED.iter().any(|granted| import.starts_with(granted))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
