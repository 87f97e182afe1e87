//! Ingests and views: parts of a pipeline in the way of a topic's records.

use millstream_record::Compression;

use super::super::fields::Fields;
use super::super::node::{Node, Value};
use super::super::problem::{Place, Problems};
use super::{OnErrorSpec, StageDefinition, check_name, check_topic_name, on_error, plugin_uses};
use crate::batch::Position;
use crate::inline::OnFailure;
use crate::stage::{PARALLELISM_MAX, RetryPolicy};

/// A producer waits for so long for an answer about its batch, at most.
pub(in super::super) const INGEST_BUDGET_MS: i64 = 100;
/// A consumer's fetch takes so much longer, at most.
pub(in super::super) const VIEW_BUDGET_MS: i64 = 5_000;
/// Below the 10 s after which a broker gives up a batch whatever the binding says.
pub(in super::super) const BUDGET_MS_MAX: i64 = 9_000;

/// What an ingest or a view has beside what stages have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineOptions {
    pub budget_ms: u64,
    pub on_failure: OnFailure,
}

pub(super) fn ingest(
    name: &str,
    place: Place,
    node: &Node,
    problems: &mut Problems,
) -> Option<StageDefinition> {
    check_name(name, "ingest", place, problems);
    let what = format!("ingest {name:?}");
    let mut fields = Fields::of(node, &what, problems)?;
    let topic = fields.require("topic", problems).and_then(|node| topic(node, &what, problems));
    let on_failure = word(&mut fields, "on_failure", &["refuse", "pass"], problems);
    let on_error = fields.take("on_error").map(|node| ingest_on_error(node, &what, problems));
    let on_failure = if on_failure == Some("pass") { OnFailure::Pass } else { OnFailure::Refuse };
    let on_error = on_error.flatten().unwrap_or(OnErrorSpec::Stop);
    let budget = (INGEST_BUDGET_MS, on_failure);
    finish(name, place, Position::Ingest, fields, topic, on_error, budget, problems)
}

/// None, if it is none of the policies.
fn ingest_on_error(node: &Node, what: &str, problems: &mut Problems) -> Option<OnErrorSpec> {
    match &node.value {
        Value::String(word) if word == "refuse" => Some(OnErrorSpec::Stop),
        Value::String(word) if word == "skip" => Some(OnErrorSpec::Skip),
        Value::Map(_) => on_error(node, what, problems),
        _ => {
            let message = format!("\"on_error\" of {what} is none of the policies");
            let remedy = "write \"refuse\", \"skip\" or \"{dead_letter: TOPIC}\"".to_owned();
            problems.error(node.place, message, Some(remedy));
            None
        }
    }
}

pub(super) fn view(
    name: &str,
    place: Place,
    node: &Node,
    problems: &mut Problems,
) -> Option<StageDefinition> {
    check_topic_name(name, place, problems);
    let what = format!("view {name:?}");
    let mut fields = Fields::of(node, &what, problems)?;
    let topic = fields.require("from", problems).and_then(|node| topic(node, &what, problems));
    let policy = word(&mut fields, "on_error", &["skip", "stop"], problems);
    let on_error = if policy == Some("stop") { OnErrorSpec::Stop } else { OnErrorSpec::Skip };
    // What the plugin did not look at is never shown.
    let budget = (VIEW_BUDGET_MS, OnFailure::Refuse);
    finish(name, place, Position::View, fields, topic, on_error, budget, problems)
}

/// What both have.
#[expect(clippy::too_many_arguments, reason = "the parts of one definition")]
fn finish(
    name: &str,
    place: Place,
    position: Position,
    mut fields: Fields<'_>,
    topic: Option<(String, Place)>,
    on_error: OnErrorSpec,
    (budget_ms, on_failure): (i64, OnFailure),
    problems: &mut Problems,
) -> Option<StageDefinition> {
    let what = match position {
        Position::View => format!("view {name:?}"),
        Position::Ingest | Position::Stream => format!("ingest {name:?}"),
    };
    let plugins = plugin_uses(&mut fields, &what, problems);
    let budget_ms = fields.number("budget_ms", 1, BUDGET_MS_MAX, problems).unwrap_or(budget_ms);
    let parallelism = fields.number("parallelism", 1, PARALLELISM_MAX.into(), problems).unwrap_or(1);
    fields.finish(problems);
    if plugins.is_empty() {
        let remedy = "name one: \"plugin: NAME\"".to_owned();
        problems.error(place, format!("{what} has no plugin"), Some(remedy));
    }
    let topic = topic?;
    Some(StageDefinition {
        name: name.to_owned(),
        place,
        position,
        inline: Some(InlineOptions { budget_ms: budget_ms.unsigned_abs(), on_failure }),
        runner: None,
        from: vec![topic.clone()],
        plugins,
        to: vec![topic],
        group: String::new(),
        parallelism: u32::try_from(parallelism).unwrap_or(1),
        on_error,
        retry: RetryPolicy::default(),
        compression: Compression::None,
    })
}

fn topic(node: &Node, what: &str, problems: &mut Problems) -> Option<(String, Place)> {
    let topic = super::super::fields::string(node, &format!("the topic of {what}"), problems)?;
    check_topic_name(&topic, node.place, problems);
    Some((topic, node.place))
}

/// One of the words, if the key is there.
fn word<'w>(
    fields: &mut Fields<'_>,
    key: &'static str,
    words: &[&'w str],
    problems: &mut Problems,
) -> Option<&'w str> {
    let node = fields.take(key)?;
    let found = match &node.value {
        Value::String(text) => words.iter().find(|word| *word == text),
        _ => None,
    };
    if found.is_none() {
        let known: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let message = format!("{key:?} is none of the policies");
        problems.error(node.place, message, Some(format!("write {}", known.join(" or "))));
    }
    found.copied()
}
