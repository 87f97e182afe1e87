//! Checks a pipeline's stages against each other, and against those of the other pipelines that are applied: they
//! share the node's topics and groups.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problems;
use super::spec::{OnErrorSpec, PipelineSpec, StageDefinition};
use crate::batch::Position;

/// Two stages in one group would take each other's partitions away.
pub(super) fn check_groups(spec: &PipelineSpec, others: &[PipelineSpec], problems: &mut Problems) {
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    for other in others {
        for stage in stream(other).filter(|stage| !stage.group.is_empty()) {
            groups.insert(&stage.group, format!("{:?} of pipeline {:?}", stage.name, other.name));
        }
    }
    for stage in stream(spec).filter(|stage| !stage.group.is_empty()) {
        if let Some(other) = groups.insert(&stage.group, format!("{:?}", stage.name)) {
            let message =
                format!("stages {other} and {:?} have the same group {:?}", stage.name, stage.group);
            let remedy = "give each stage its own group: \"group: NAME\"".to_owned();
            problems.error(stage.place, message, Some(remedy));
        }
    }
}

/// One plugin stands in front of a topic, and one behind a view's name: what several would make of a record depends on
/// which comes first.
pub(super) fn check_inlines(spec: &PipelineSpec, others: &[PipelineSpec], problems: &mut Problems) {
    let topic_of = |stage: &StageDefinition| match stage.position {
        Position::Ingest => Some((Position::Ingest, stage.from[0].0.clone())),
        Position::View => Some((Position::View, stage.name.clone())),
        Position::Stream => None,
    };
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let key = |(position, topic): (Position, String)| format!("{position:?} {topic}");
    for other in others {
        for stage in &other.stages {
            if let Some(place) = topic_of(stage) {
                taken.insert(key(place), format!("{:?} of pipeline {:?}", stage.name, other.name));
            }
        }
    }
    for stage in &spec.stages {
        let Some(place) = topic_of(stage) else { continue };
        let topic = place.1.clone();
        if let Some(other) = taken.insert(key(place), format!("{:?}", stage.name)) {
            let message = format!("{other} stands at topic {topic:?} already");
            let remedy = "put the plugins into one list: \"plugins: [A, B]\"".to_owned();
            problems.error(stage.place, message, Some(remedy));
        }
    }
}

/// The letters of an ingest would wait for another ingest, and its producer for both.
pub(super) fn check_letters(spec: &PipelineSpec, others: &[PipelineSpec], problems: &mut Problems) {
    let ingests: Vec<(&StageDefinition, bool)> = others
        .iter()
        .map(|other| (other, false))
        .chain([(spec, true)])
        .flat_map(|(of, is_own)| of.stages.iter().map(move |stage| (stage, is_own)))
        .filter(|(stage, _)| stage.position == Position::Ingest)
        .collect();
    for (writer, is_own_writer) in &ingests {
        let OnErrorSpec::DeadLetter { topic, place } = &writer.on_error else { continue };
        let reader = ingests.iter().find(|(stage, _)| stage.from[0].0 == *topic);
        let Some((reader, is_own_reader)) = reader else { continue };
        let place = match (is_own_writer, is_own_reader) {
            (true, _) => *place,
            (false, true) => reader.place,
            (false, false) => continue,
        };
        let message = format!(
            "ingest {:?} stands in front of {topic:?}, where the dead letters of ingest {:?} go",
            reader.name, writer.name
        );
        let remedy = "give dead letters a topic that no ingest stands at".to_owned();
        problems.error(place, message, Some(remedy));
    }
}

/// The stages that carry records from topics to topics.
fn stream(spec: &PipelineSpec) -> impl Iterator<Item = &StageDefinition> {
    spec.stages.iter().filter(|stage| stage.position == Position::Stream)
}

/// Those, and ingests, which carry what they reject to their dead letter topic.
fn carriers_of(spec: &PipelineSpec) -> impl Iterator<Item = &StageDefinition> {
    spec.stages.iter().filter(|stage| stage.position != Position::View)
}

/// A stage, and whose it is.
struct Link<'a> {
    pipeline: &'a str,
    stage: &'a StageDefinition,
}

/// A record must not come back to where it was read, whoever carries it.
pub(super) fn check_cycles(spec: &PipelineSpec, others: &[PipelineSpec], problems: &mut Problems) {
    let mut readers: BTreeMap<&str, Vec<Link<'_>>> = BTreeMap::new();
    for pipeline in others.iter().chain([spec]) {
        for stage in carriers_of(pipeline) {
            for (topic, _) in &stage.from {
                readers.entry(topic).or_default().push(Link { pipeline: &pipeline.name, stage });
            }
        }
    }
    for stage in carriers_of(spec) {
        let reached = reached(stage, &readers);
        let Some((topic, place)) = stage.from.iter().find(|(topic, _)| reached.contains_key(topic.as_str()))
        else {
            continue;
        };
        let by_way_of = match carriers(topic, &spec.name, &reached) {
            names if names.is_empty() => String::new(),
            names => format!(" by way of pipeline {}", Vec::from_iter(names).join(" and ")),
        };
        let message = format!(
            "{} {:?} is in a cycle: what it writes comes back to {topic:?}{by_way_of}",
            if stage.position == Position::Ingest { "ingest" } else { "stage" },
            stage.name
        );
        let remedy = "write to a topic that no stage before it reads".to_owned();
        problems.error(*place, message, Some(remedy));
    }
}

/// Where a topic's records come from: the topic and the pipeline that carried them; none if the stage itself wrote
/// them.
type Reached<'a> = BTreeMap<&'a str, Option<(&'a str, &'a str)>>;

/// The topics that what `stage` writes gets to.
fn reached<'a>(stage: &'a StageDefinition, readers: &BTreeMap<&str, Vec<Link<'a>>>) -> Reached<'a> {
    let mut reached: Reached<'a> = outputs(stage).map(|topic| (topic, None)).collect();
    let mut open: Vec<&str> = reached.keys().copied().collect();
    while let Some(topic) = open.pop() {
        for Link { pipeline, stage } in readers.get(topic).into_iter().flatten() {
            for output in outputs(stage) {
                reached.entry(output).or_insert_with(|| {
                    open.push(output);
                    Some((topic, pipeline))
                });
            }
        }
    }
    reached
}

/// The other pipelines on the way to `topic`, quoted.
fn carriers(topic: &str, own: &str, reached: &Reached<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut at = topic;
    while let Some(Some((before, pipeline))) = reached.get(at) {
        if *pipeline != own {
            names.insert(format!("{pipeline:?}"));
        }
        at = before;
    }
    names
}

fn outputs(stage: &StageDefinition) -> impl Iterator<Item = &str> {
    let dead_letters = match &stage.on_error {
        OnErrorSpec::DeadLetter { topic, .. } => Some(topic.as_str()),
        OnErrorSpec::Stop | OnErrorSpec::Skip => None,
    };
    // What an ingest lets through goes nowhere else than where it was sent.
    let to = if stage.position == Position::Ingest { &[][..] } else { &stage.to };
    to.iter().map(|(topic, _)| topic.as_str()).chain(dead_letters)
}
