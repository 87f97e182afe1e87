//! Pipelines: the YAML that people write, checked as a whole before anything of it runs.
//!
//! ```text
//! text -> node (YAML with the place of every value) -> PipelineSpec -> validate -> Pipeline
//!                              problems are collected, each with file, line, column and remedy;
//!                              the other pipelines that are applied count, too
//! ```

mod fields;
mod load;
mod node;
mod problem;
mod relations;
mod schema;
mod spec;
mod topics;
mod validate;

pub use load::{DirPlugins, PluginSource, PluginVersion, Versions};
pub use problem::{Place, Problem, Severity};
pub use schema::json_schema;
pub use spec::{
    InlineOptions, OnErrorSpec, PipelineSpec, PluginSpec, PluginUse, StageDefinition, TopicSpec, parse,
};
pub use topics::TopicCatalogue;
pub use validate::{Validated, World, validate};

use crate::inline::InlineSpec;
use crate::stage::StageSpec;

/// A pipeline that can run: its plugins are compiled and have accepted their configuration.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    /// Topics to be created if they do not exist.
    pub topics: Vec<TopicSpec>,
    pub stages: Vec<StageSpec>,
    /// Ingests and views.
    pub inlines: Vec<InlineSpec>,
}

#[cfg(test)]
mod tests;
