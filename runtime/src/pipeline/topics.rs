//! Checks a pipeline's topics against those that exist.

use super::problem::{Place, Problems, did_you_mean};
use super::spec::{OnErrorSpec, PipelineSpec, StageDefinition, TopicSpec};
use crate::batch::Position;

/// The topics that exist, and what can become one.
pub trait TopicCatalogue {
    fn partitions_of(&self, topic: &str) -> Option<i32>;
    /// For suggestions.
    fn names(&self) -> Vec<String>;
    /// Whether a topic of this name, existing or not, is the broker's own.
    fn is_internal(&self, topic: &str) -> bool;
    /// Whether it is a view of another topic, which can be read only.
    fn is_view(&self, topic: &str) -> bool;
    /// What a topic's configuration is in effect, whoever set it; none if there is no such topic or key.
    fn config_of(&self, topic: &str, key: &str) -> Option<String>;
    /// Whether a topic that does not exist can be created like this.
    fn check_new(&self, topic: &TopicSpec) -> Result<(), String>;
}

pub(super) fn check_topics(spec: &PipelineSpec, catalogue: &dyn TopicCatalogue, problems: &mut Problems) {
    for (at, topic) in spec.topics.iter().enumerate() {
        if check_internal(&topic.name, topic.place, catalogue, problems) {
            continue;
        }
        match catalogue.partitions_of(&topic.name) {
            Some(partitions) => check_existing(topic, partitions, catalogue, problems),
            None => check_new(topic, &spec.topics[..at], catalogue, problems),
        }
    }
    for view in spec.stages.iter().filter(|stage| stage.position == Position::View) {
        check_view(view, spec, catalogue, problems);
    }
    let existing = catalogue.names();
    for (topic, place) in used(spec) {
        if check_internal(topic, place, catalogue, problems) {
            continue;
        }
        let views = spec.stages.iter().filter(|stage| stage.position == Position::View);
        let views = views.map(|view| view.name.as_str());
        let own = || spec.topics.iter().map(|topic| topic.name.as_str()).chain(views.clone());
        if own().any(|own| own == topic) || catalogue.partitions_of(topic).is_some() {
            continue;
        }
        let remedy = did_you_mean(topic, own().chain(existing.iter().map(String::as_str)))
            .unwrap_or_else(|| format!("create it, or add it to \"topics\": \"{topic}: {{partitions: 1}}\""));
        problems.error(place, format!("topic {topic:?} does not exist"), Some(remedy));
    }
    let is_view = |topic: &str| {
        let own = |stage: &StageDefinition| stage.position == Position::View && stage.name == topic;
        catalogue.is_view(topic) || spec.stages.iter().any(own)
    };
    for (topic, place) in written(spec).filter(|(topic, _)| is_view(topic)) {
        let remedy = "name the topic behind it".to_owned();
        problems.error(place, format!("{topic:?} is a view, and can only be read"), Some(remedy));
    }
}

/// A view's name is a topic's name for its readers.
fn check_view(
    view: &StageDefinition,
    spec: &PipelineSpec,
    catalogue: &dyn TopicCatalogue,
    problems: &mut Problems,
) {
    if check_internal(&view.name, view.place, catalogue, problems) {
        return;
    }
    let is_topic = catalogue.partitions_of(&view.name).is_some() && !catalogue.is_view(&view.name)
        || spec.topics.iter().any(|topic| topic.name == view.name);
    if is_topic {
        let message = format!("a topic is called {:?}, as the view would be", view.name);
        problems.error(view.place, message, Some("give the view another name".to_owned()));
    }
    for (source, place) in &view.from {
        if catalogue.is_view(source)
            || spec.stages.iter().any(|stage| stage.position == Position::View && stage.name == *source)
        {
            let message = format!("view {:?} would look at view {source:?}", view.name);
            let remedy = "name the topic behind it, and put both plugins into one list".to_owned();
            problems.error(*place, message, Some(remedy));
        }
    }
}

/// What the stages read and write.
fn used(spec: &PipelineSpec) -> impl Iterator<Item = (&str, Place)> {
    let reads = |stage: &&StageDefinition| stage.position != Position::Ingest;
    let read = spec.stages.iter().filter(reads).flat_map(|stage| &stage.from);
    read.map(|(topic, place)| (topic.as_str(), *place)).chain(written(spec))
}

fn written(spec: &PipelineSpec) -> impl Iterator<Item = (&str, Place)> {
    spec.stages.iter().filter(|stage| stage.position != Position::View).flat_map(|stage| {
        let dead_letters = match &stage.on_error {
            OnErrorSpec::DeadLetter { topic, place } => Some((topic.as_str(), *place)),
            OnErrorSpec::Stop | OnErrorSpec::Skip => None,
        };
        stage.to.iter().map(|(topic, place)| (topic.as_str(), *place)).chain(dead_letters)
    })
}

/// A stage that reads what the broker writes about stages would feed itself for ever.
fn check_internal(
    topic: &str,
    place: Place,
    catalogue: &dyn TopicCatalogue,
    problems: &mut Problems,
) -> bool {
    let internal = catalogue.is_internal(topic);
    if internal {
        let message = format!("topic {topic:?} is the broker's own");
        problems.error(place, message, Some("name another topic".to_owned()));
    }
    internal
}

/// A topic that exists is left as it is, which may not be what was meant.
fn check_existing(
    topic: &TopicSpec,
    partitions: i32,
    catalogue: &dyn TopicCatalogue,
    problems: &mut Problems,
) {
    let mut differs = |found: &str, wanted: &str| {
        let message = format!("topic {:?} exists with {found}, not {wanted}", topic.name);
        problems.warning(topic.place, message, Some("the topic is left as it is".to_owned()));
    };
    if let Some(wanted) = topic.partitions
        && wanted != partitions
    {
        differs(&format!("{partitions} partitions"), &wanted.to_string());
    }
    for (key, wanted) in &topic.config {
        match catalogue.config_of(&topic.name, key) {
            Some(found) if found == *wanted => {}
            Some(found) => differs(&format!("{key} = {found:?}"), &format!("{wanted:?}")),
            None => differs(&format!("no {key}"), &format!("{wanted:?}")),
        }
    }
}

/// Before anything is created: of a pipeline that is refused nothing is left behind.
fn check_new(
    topic: &TopicSpec,
    before: &[TopicSpec],
    catalogue: &dyn TopicCatalogue,
    problems: &mut Problems,
) {
    if let Err(reason) = catalogue.check_new(topic) {
        let message = format!("topic {:?} cannot be created: {reason}", topic.name);
        problems.error(topic.place, message, Some("correct it, or use a topic that exists".to_owned()));
    }
    let folded = |topic: &TopicSpec| topic.name.replace('.', "_");
    if let Some(other) = before.iter().find(|other| folded(other) == folded(topic)) {
        let (name, other) = (&topic.name, &other.name);
        let message = format!("topics {other:?} and {name:?} differ only in \".\" and \"_\"");
        problems.error(topic.place, message, Some("rename one of them: metrics mix them up".to_owned()));
    }
}
