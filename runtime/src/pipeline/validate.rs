//! Checks a pipeline against the world: its topics, its plugins' files, and the plugins themselves, which are compiled
//! and asked whether they accept their configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Pipeline;
use super::load::{GIVEN_UP, Loaded, LoadedVersion, Loader, PluginSource, load_plugins};
use super::problem::{Place, Problem, Problems, did_you_mean};
use super::relations::{check_cycles, check_groups, check_inlines, check_letters};
use super::spec::{InlineOptions, OnErrorSpec, PipelineSpec, PluginUse, StageDefinition};
use super::topics::{TopicCatalogue, check_topics};
use crate::batch::Position;
use crate::clock::SharedClock;
use crate::engine::{PluginEngine, PluginForm};
use crate::environment::{Environment, GrantProblem};
use crate::grants::{Capability, Grants};
use crate::inline::InlineSpec;
use crate::plugin::{Instance, Lent, StartError};
use crate::runner::{self, RunnerKind, RunnerSpec};
use crate::stage::{Canary, OnError, Previous, StagePlugin, StageSpec};

/// What a validation found.
#[derive(Debug)]
pub struct Validated {
    /// In the order of the file.
    pub problems: Vec<Problem>,
    /// None if one of the problems is an error.
    pub pipeline: Option<Pipeline>,
    /// What plugins import that grants to them would let them have, by their names: nothing if anything else is wrong,
    /// too.
    pub needs: BTreeMap<String, BTreeSet<Capability>>,
}

/// Interfaces that are not granted, and how many problems were made of them.
#[derive(Default)]
struct Needs {
    by_plugin: BTreeMap<String, BTreeSet<Capability>>,
    errors: usize,
}

/// What a pipeline is checked against.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub topics: &'a dyn TopicCatalogue,
    /// The other pipelines that are applied.
    pub others: &'a [PipelineSpec],
    pub environment: &'a Environment,
}

/// Checks `spec`, which is to run in that world. Compiles plugins and runs their `init`: call it on a thread that
/// may block, outside of any tokio runtime's workers. When `stop` fires, what is left to compile and to start is
/// given up, which is a problem.
pub fn validate(
    spec: &PipelineSpec,
    engine: &PluginEngine,
    plugins: &dyn PluginSource,
    world: &World<'_>,
    clock: &SharedClock,
    stop: &CancellationToken,
) -> Validated {
    let World { topics, others, environment } = *world;
    let mut problems = Problems::new(&spec.file);
    check_topics(spec, topics, &mut problems);
    check_groups(spec, others, &mut problems);
    check_cycles(spec, others, &mut problems);
    check_inlines(spec, others, &mut problems);
    check_letters(spec, others, &mut problems);
    let loader = Loader { engine, source: plugins, stop };
    let loaded = load_plugins(spec, &loader, &mut problems);
    check_grants(spec, &loaded, environment, &mut problems);
    let mut needs = Needs::default();
    let (mut stages, mut inlines) = (Vec::new(), Vec::new());
    let mut resolved = Vec::new();
    for definition in &spec.stages {
        check_canaries(spec, definition, &loaded, topics, &mut problems);
        let Some(stage) = resolve(spec, definition, &loaded, &mut needs, &mut problems) else { continue };
        resolved.push((definition, stage.clone()));
        match &definition.inline {
            None => stages.push(stage),
            Some(InlineOptions { budget_ms, on_failure }) => inlines.push(InlineSpec {
                name: if stage.position == Position::View { &stage.name } else { &*stage.from[0] }.to_owned(),
                stage,
                budget: Duration::from_millis(*budget_ms),
                on_failure: *on_failure,
            }),
        }
    }
    let pipeline = Pipeline { name: spec.name.clone(), topics: spec.topics.clone(), stages, inlines };
    if problems.error_count() == 0 {
        check_configs(&resolved, clock, environment, stop, &mut problems);
    }
    let errors = problems.error_count();
    let pipeline = if errors == 0 { Some(pipeline) } else { None };
    let needs = if errors == needs.errors { needs.by_plugin } else { BTreeMap::new() };
    Validated { problems: problems.into_sorted(), pipeline, needs }
}

/// Whether what the plugins are granted is there.
fn check_grants(
    spec: &PipelineSpec,
    loaded: &BTreeMap<&str, Loaded>,
    environment: &Environment,
    problems: &mut Problems,
) {
    for plugin in &spec.plugins {
        let granted: Vec<&Grants> = match loaded.get(plugin.name.as_str()) {
            Some(loaded) => loaded.versions().map(LoadedVersion::grants).collect(),
            None => vec![&plugin.grants],
        };
        let mut found: Vec<GrantProblem> = Vec::new();
        for problem in granted.into_iter().flat_map(|grants| environment.check(grants)) {
            // The version that is tried may have it in common with the active one.
            if !found.contains(&problem) {
                found.push(problem);
            }
        }
        for problem in found {
            let message = format!("plugin {:?}: {}", plugin.name, problem.message);
            let remedy = Some(problem.remedy.to_owned());
            if problem.is_warning {
                problems.warning(plugin.place, message, remedy);
            } else {
                problems.error(plugin.place, message, remedy);
            }
        }
    }
}

fn resolve(
    spec: &PipelineSpec,
    stage: &StageDefinition,
    loaded: &BTreeMap<&str, Loaded>,
    needs: &mut Needs,
    problems: &mut Problems,
) -> Option<StageSpec> {
    let (mut plugins, mut canary) = (Vec::new(), None);
    let mut missing = false;
    for (index, used) in stage.plugins.iter().enumerate() {
        let Some(declared) = spec.plugins.iter().find(|plugin| plugin.name == used.name) else {
            let names = spec.plugins.iter().map(|plugin| plugin.name.as_str());
            let remedy = did_you_mean(&used.name, names)
                .unwrap_or_else(|| format!("add it to \"plugins\": \"{}: {{file: ...}}\"", used.name));
            problems.error(used.place, format!("plugin {:?} is not declared", used.name), Some(remedy));
            missing = true;
            continue;
        };
        let Some(loaded) = loaded.get(declared.name.as_str()) else {
            missing = true;
            continue;
        };
        for version in loaded.versions() {
            check_role(stage, version, used, needs, problems);
        }
        let link = |version: &LoadedVersion| version.for_stage(&used.name, used.config.as_ref());
        let previous = loaded.previous.as_ref();
        let previous = previous.map(|(version, until_ms)| Previous::new(link(version), *until_ms));
        plugins.push(StagePlugin { previous: previous.map(Box::new), ..link(&loaded.active) });
        let Some((version, partitions)) = &loaded.canary else { continue };
        let tried = Canary { index, plugin: link(version), partitions: partitions.clone() };
        if canary.replace(tried).is_some() {
            let message = format!("stage {:?} would try two new versions at a time", stage.name);
            let remedy = "promote one of them, or roll it back: \"millstream plugin list\"".to_owned();
            problems.error(used.place, message, Some(remedy));
        }
    }
    if missing {
        return None;
    }
    let runner = stage.runner.map(|kind| RunnerSpec { kind });
    if stage.runner.is_some() && canary.is_some() {
        let message = format!("{:?} can't try a version on some partitions: it is no stage", stage.name);
        problems.error(stage.place, message, Some("deploy the version without --partitions".to_owned()));
    }
    let names = |topics: &[(String, Place)]| topics.iter().map(|(topic, _)| topic.as_str().into()).collect();
    Some(StageSpec {
        pipeline: spec.name.clone(),
        name: stage.name.clone(),
        position: stage.position,
        runner,
        from: names(&stage.from),
        plugins,
        canary,
        to: names(&stage.to),
        group: stage.group.clone(),
        parallelism: stage.parallelism,
        on_error: match &stage.on_error {
            OnErrorSpec::Stop => OnError::Stop,
            OnErrorSpec::Skip => OnError::Skip,
            OnErrorSpec::DeadLetter { topic, .. } => OnError::DeadLetter(topic.as_str().into()),
        },
        retry: stage.retry.clone(),
        compression: stage.compression,
    })
}

/// What a pipeline's file calls such a part.
fn part_name(runner: Option<RunnerKind>, position: Position) -> &'static str {
    match (runner, position) {
        (Some(kind), _) => kind.name(),
        (None, Position::Stream) => "stage",
        (None, Position::Ingest) => "ingest",
        (None, Position::View) => "view",
    }
}

/// A version that is tried on no partition at all would look as if it worked.
fn check_canaries(
    spec: &PipelineSpec,
    stage: &StageDefinition,
    loaded: &BTreeMap<&str, Loaded>,
    topics: &dyn TopicCatalogue,
    problems: &mut Problems,
) {
    let own = |name: &str| spec.topics.iter().find(|topic| topic.name == name);
    let partitions = |name: &str| topics.partitions_of(name).or_else(|| own(name)?.partitions);
    let counts: Option<Vec<i32>> = stage.from.iter().map(|(topic, _)| partitions(topic)).collect();
    // What is not known yet may have any number.
    let Some(most) = counts.and_then(|counts| counts.into_iter().max()) else { return };
    for used in &stage.plugins {
        let canary = loaded.get(used.name.as_str()).and_then(|loaded| loaded.canary.as_ref());
        let Some((_, tried)) = canary else { continue };
        if let Some(beyond) = tried.iter().find(|partition| !(0..most).contains(*partition)) {
            let message = format!(
                "plugin {:?} would be tried on partition {beyond}, and the input of {:?} has {most}",
                used.name, stage.name
            );
            let remedy = format!("name partitions from 0 to {}", most - 1);
            problems.error(used.place, message, Some(remedy));
        }
    }
}

/// Whether the plugin is of the kind that belongs there, and imports only what it is granted there.
fn check_role(
    stage: &StageDefinition,
    version: &LoadedVersion,
    used: &PluginUse,
    needs: &mut Needs,
    problems: &mut Problems,
) {
    let plugin = version.plugin();
    let is_runner = plugin.form() == PluginForm::Run;
    let what = part_name(stage.runner, stage.position);
    if is_runner && stage.runner.is_none() {
        let message = format!("plugin {:?} is a producer or consumer, not a transform", used.name);
        let remedy = "put it under \"sources\" or \"sinks\"".to_owned();
        return problems.error(used.place, message, Some(remedy));
    }
    if !is_runner && stage.runner.is_some() {
        let message =
            format!("plugin {:?} is a transform, which {what} {:?} can't run", used.name, stage.name);
        problems.error(used.place, message, Some("put it under \"stages\"".to_owned()));
    }
    for capability in plugin.needs() {
        if !capability.is_granted(stage.runner, !stage.to.is_empty(), version.grants()) {
            let message = format!(
                "plugin {:?}{} imports {}, which is not granted in {what} {:?}",
                used.name,
                version.label(),
                capability.interface(),
                stage.name
            );
            problems.error(used.place, message, Some(capability.remedy().to_owned()));
            if capability.option().is_some() {
                needs.by_plugin.entry(used.name.clone()).or_default().insert(*capability);
                needs.errors += 1;
            }
        }
    }
}

/// Starts every plugin with its configuration, as the stage will.
fn check_configs(
    stages: &[(&StageDefinition, StageSpec)],
    clock: &SharedClock,
    environment: &Environment,
    stop: &CancellationToken,
    problems: &mut Problems,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            problems.error(Place::default(), format!("cannot start a thread's timers: {error}"), None);
            return;
        }
    };
    for (definition, stage) in stages {
        let what = part_name(definition.runner, stage.position);
        let canary = stage.canary.iter().map(|canary| (&canary.plugin, &definition.plugins[canary.index]));
        for (plugin, used) in stage.plugins.iter().zip(&definition.plugins).chain(canary) {
            let started = async {
                match &stage.runner {
                    Some(_) => runner::check(stage, plugin, environment, clock).await,
                    None => {
                        let lent = Lent::unseen(plugin.grants.clone(), environment.clone());
                        let config = plugin.instance_config(stage, clock, lent);
                        Instance::start(&plugin.plugin, config).await.map(|_| ())
                    }
                }
            };
            let Some(started) = runtime.block_on(stop.run_until_cancelled(started)) else {
                let message = format!("plugin {:?} in {what} {:?} was not started", plugin.name, stage.name);
                return problems.error(used.place, message, Some(GIVEN_UP.to_owned()));
            };
            if let Err(error) = started {
                let message = format!("plugin {:?} in {what} {:?}: {error}", plugin.name, stage.name);
                let remedy = match error {
                    // Nothing is wrong with the configuration.
                    StartError::Role => "put it where a plugin of its kind belongs",
                    StartError::NoRoom { .. } => "try again when other stages have stopped",
                    StartError::ConfigRefused { .. } | StartError::Failed(_) => "correct its \"config\"",
                };
                problems.error(used.place, message, Some(remedy.to_owned()));
            }
        }
    }
}
