//! A pipeline as it is written, read from its YAML. What depends on other parts (names that must exist, plugins that
//! must load) is `validate`'s.

mod inlines;
mod runners;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_record::Compression;

pub use self::inlines::InlineOptions;
pub(super) use self::inlines::{BUDGET_MS_MAX, INGEST_BUDGET_MS, VIEW_BUDGET_MS};
use super::fields::{Fields, string, strings};
use super::node::{self, Node, Value};
use super::problem::{Place, Problem, Problems};
use crate::batch::Position;
use crate::grants::Grants;
use crate::limits::PluginLimits;
use crate::runner::RunnerKind;
use crate::stage::{PARALLELISM_MAX, PLUGINS_MAX, RetryPolicy, TOPICS_MAX};

/// Whoever wants more wants `stop`.
pub(super) const RETRIES_MAX: i64 = 1_000_000;
pub(super) const RETRY_BACKOFF_MS_MAX: i64 = 600_000;
const PARTITIONS_MAX: i64 = 100_000;
const NAME_BYTES_MAX: usize = 100;
const TOPIC_NAME_BYTES_MAX: usize = 249;
pub(super) const GROUP_BYTES_MAX: usize = 249;

#[derive(Debug, Clone)]
pub struct PipelineSpec {
    /// For problems.
    pub file: String,
    pub name: String,
    pub topics: Vec<TopicSpec>,
    pub plugins: Vec<PluginSpec>,
    /// Sources, sinks, ingests and views among them.
    pub stages: Vec<StageDefinition>,
}

/// A topic that the pipeline brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub place: Place,
    /// None: the broker's default.
    pub partitions: Option<i32>,
    /// Kafka's topic configuration.
    pub config: BTreeMap<String, String>,
}

/// A component, and its configuration where a stage states none.
#[derive(Debug, Clone)]
pub struct PluginSpec {
    pub name: String,
    pub place: Place,
    /// Relative to the pipeline's file.
    pub file: String,
    pub file_place: Place,
    pub config: serde_json::Value,
    pub limits: PluginLimits,
    pub grants: Grants,
}

/// A plugin in a stage's chain.
#[derive(Debug, Clone)]
pub struct PluginUse {
    pub name: String,
    pub place: Place,
    /// None: the plugin's own.
    pub config: Option<serde_json::Value>,
}

#[derive(Debug, Clone)]
pub struct StageDefinition {
    pub name: String,
    pub place: Place,
    pub position: Position,
    /// Of an ingest or a view.
    pub inline: Option<InlineOptions>,
    /// Of a source or a sink.
    pub runner: Option<RunnerKind>,
    pub from: Vec<(String, Place)>,
    pub plugins: Vec<PluginUse>,
    pub to: Vec<(String, Place)>,
    pub group: String,
    pub parallelism: u32,
    pub on_error: OnErrorSpec,
    /// Of a stage.
    pub retry: RetryPolicy,
    pub compression: Compression,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnErrorSpec {
    Stop,
    Skip,
    DeadLetter { topic: String, place: Place },
}

/// Reads the text of a pipeline file. On errors all that were found come back.
pub fn parse(file: &str, text: &str) -> Result<PipelineSpec, Vec<Problem>> {
    let mut problems = Problems::new(file);
    let spec = node::parse(text, &mut problems).and_then(|root| pipeline(file, &root, &mut problems));
    match spec {
        Some(spec) if problems.error_count() == 0 => Ok(spec),
        _ => Err(problems.into_sorted()),
    }
}

fn pipeline(file: &str, root: &Node, problems: &mut Problems) -> Option<PipelineSpec> {
    let mut fields = Fields::of(root, "the pipeline", problems)?;
    let name = fields.require("pipeline", problems);
    let name = name.and_then(|node| {
        let name = string(node, "the pipeline's name", problems)?;
        check_name(&name, "pipeline", node.place, problems);
        Some(name)
    });
    let topics = entries(fields.take("topics"), "topics", problems, topic);
    let plugins = entries(fields.take("plugins"), "plugins", problems, plugin);
    let pipeline = name.unwrap_or_default();
    let parts =
        ["sources", "stages", "sinks", "ingests", "views"].map(|section| (section, fields.take(section)));
    let mut stages = Vec::new();
    for (section, node) in parts {
        stages.extend(entries(node, section, problems, |name, place, node, problems| match section {
            "ingests" => inlines::ingest(name, place, node, problems),
            "sources" => runners::runner(RunnerKind::Source, &pipeline, name, place, node, problems),
            "sinks" => runners::runner(RunnerKind::Sink, &pipeline, name, place, node, problems),
            "views" => inlines::view(name, place, node, problems),
            _ => stage(&pipeline, name, place, node, problems),
        }));
    }
    if parts.iter().all(|(_, node)| node.is_none_or(Node::is_empty)) {
        let place = parts.iter().find_map(|(_, node)| *node).map_or(root.place, |node| node.place);
        let remedy = "add one, or delete the pipeline: \"millstream pipeline delete NAME\"".to_owned();
        problems.error(place, "the pipeline has no sources, stages, sinks, ingests or views", Some(remedy));
    }
    check_unique(&stages, problems);
    fields.finish(problems);
    Some(PipelineSpec { file: file.to_owned(), name: pipeline, topics, plugins, stages })
}

/// A name stands for one thing in metrics and in the status.
fn check_unique(stages: &[StageDefinition], problems: &mut Problems) {
    for (at, stage) in stages.iter().enumerate() {
        if stages[..at].iter().any(|before| before.name == stage.name) {
            let message = format!("two parts of the pipeline have the name {:?}", stage.name);
            problems.error(stage.place, message, Some("rename one of them".to_owned()));
        }
    }
}

/// The named parts of a section.
fn entries<T>(
    node: Option<&Node>,
    section: &str,
    problems: &mut Problems,
    mut read: impl FnMut(&str, Place, &Node, &mut Problems) -> Option<T>,
) -> Vec<T> {
    let Some(node) = node else { return Vec::new() };
    match &node.value {
        Value::Null => Vec::new(),
        Value::Map(map) => {
            map.iter().filter_map(|(key, node)| read(&key.name, key.place, node, problems)).collect()
        }
        other => {
            let message = format!("{section:?} is {}, not a mapping of names", other.kind());
            problems.error(
                node.place,
                message,
                Some(format!("write \"{section}:\" and below it \"NAME: ...\"")),
            );
            None.into_iter().collect()
        }
    }
}

fn topic(name: &str, place: Place, node: &Node, problems: &mut Problems) -> Option<TopicSpec> {
    check_topic_name(name, place, problems);
    let mut fields = Fields::of(node, &format!("topic {name:?}"), problems)?;
    let partitions = fields.number("partitions", 1, PARTITIONS_MAX, problems);
    let mut config = BTreeMap::new();
    let what = format!("the configuration of topic {name:?}");
    for (key, value) in entries(fields.take("config"), "config", problems, |key, _, node, problems| {
        Some((key.to_owned(), scalar(node, &what, problems)?))
    }) {
        config.insert(key, value);
    }
    fields.finish(problems);
    let partitions = partitions.and_then(|partitions| i32::try_from(partitions).ok());
    Some(TopicSpec { name: name.to_owned(), place, partitions, config })
}

fn scalar(node: &Node, what: &str, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        _ => string(node, what, problems),
    }
}

fn plugin(name: &str, place: Place, node: &Node, problems: &mut Problems) -> Option<PluginSpec> {
    check_name(name, "plugin", place, problems);
    let what = format!("plugin {name:?}");
    let base = PluginSpec {
        name: name.to_owned(),
        place,
        file: String::new(),
        file_place: node.place,
        config: serde_json::Value::Null,
        limits: PluginLimits::default(),
        grants: Grants::default(),
    };
    if let Value::String(file) = &node.value {
        return Some(PluginSpec { file: file.clone(), ..base });
    }
    let mut fields = Fields::of(node, &what, problems)?;
    let file = fields.require("file", problems);
    let file =
        file.and_then(|node| Some((string(node, &format!("the file of {what}"), problems)?, node.place)));
    let config = fields.take("config").map_or(serde_json::Value::Null, Node::to_json);
    let limits = fields.take("limits").map(|node| limits(node, &what, problems)).unwrap_or_default();
    let grants = fields.take("grants").map(|node| runners::grants(node, &what, problems)).unwrap_or_default();
    fields.finish(problems);
    let (file, file_place) = file?;
    Some(PluginSpec { file, file_place, config, limits, grants, ..base })
}

fn limits(node: &Node, what: &str, problems: &mut Problems) -> PluginLimits {
    let mut limits = PluginLimits::default();
    let Some(mut fields) = Fields::of(node, &format!("the limits of {what}"), problems) else {
        return limits;
    };
    let mut take = |name, problems: &mut Problems| fields.number(name, 1, i64::MAX, problems);
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let narrow = |value: Option<i64>| number(value).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    if let Some(value) = number(take("memory_bytes_max", problems)) {
        limits.memory_bytes_max = value;
    }
    if let Some(value) = number(take("call_timeout_ms", problems)) {
        limits.call_timeout_ms = value;
    }
    if let Some(value) = number(take("init_timeout_ms", problems)) {
        limits.init_timeout_ms = value;
    }
    for (name, limit) in [
        ("output_bytes_max", &mut limits.output_bytes_max),
        ("outputs_per_record_max", &mut limits.outputs_per_record_max),
        ("cpu_percent_max", &mut limits.cpu_percent_max),
        ("handles_max", &mut limits.handles_max),
        ("table_elements_max", &mut limits.table_elements_max),
        ("log_lines_per_second_max", &mut limits.log_lines_per_second_max),
        ("http_requests_max", &mut limits.http_requests_max),
    ] {
        if let Some(value) = narrow(take(name, problems)) {
            *limit = value;
        }
    }
    fields.finish(problems);
    if let Err(error) = limits.validate() {
        problems.error(node.place, format!("the limits of {what}: {error}"), None);
    }
    limits
}

fn stage(
    pipeline: &str,
    name: &str,
    place: Place,
    node: &Node,
    problems: &mut Problems,
) -> Option<StageDefinition> {
    check_name(name, "stage", place, problems);
    let what = format!("stage {name:?}");
    let mut fields = Fields::of(node, &what, problems)?;
    let from = topics_of(&mut fields, "from", &what, problems);
    let plugins = plugin_uses(&mut fields, &what, problems);
    let to = topics_of(&mut fields, "to", &what, problems);
    let group = fields.string("group", problems);
    if let Some((group, place)) = &group {
        check_group(group, &what, *place, problems);
    }
    let parallelism = fields.number("parallelism", 1, PARALLELISM_MAX.into(), problems).unwrap_or(1);
    let on_error =
        fields.take("on_error").map_or(Some(OnErrorSpec::Stop), |node| on_error(node, &what, problems));
    let retry = retry_policy(&mut fields, problems);
    let compression = compression(&mut fields, &what, problems);
    fields.finish(problems);
    Some(StageDefinition {
        name: name.to_owned(),
        place,
        position: Position::Stream,
        inline: None,
        runner: None,
        from,
        plugins,
        to,
        group: group.map_or_else(|| format!("{pipeline}.{name}"), |(group, _)| group),
        parallelism: u32::try_from(parallelism).unwrap_or(1),
        on_error: on_error?,
        retry,
        compression,
    })
}

fn retry_policy(fields: &mut Fields<'_>, problems: &mut Problems) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    let retries = fields.number("retries", 0, RETRIES_MAX, problems);
    if let Some(retries) = retries.and_then(|retries| u32::try_from(retries).ok()) {
        policy.retries = retries;
    }
    for (name, time) in
        [("retry_backoff_ms", &mut policy.backoff), ("retry_backoff_max_ms", &mut policy.backoff_max)]
    {
        if let Some(millis) = fields.number(name, 1, RETRY_BACKOFF_MS_MAX, problems) {
            *time = Duration::from_millis(millis.unsigned_abs());
        }
    }
    policy
}

fn topics_of(
    fields: &mut Fields<'_>,
    key: &'static str,
    what: &str,
    problems: &mut Problems,
) -> Vec<(String, Place)> {
    let Some(node) = fields.require(key, problems) else { return Vec::new() };
    let topics = strings(node, &format!("{key:?} of {what}"), problems);
    let empty = matches!(&node.value, Value::List(list) if list.is_empty());
    if empty || topics.len() > TOPICS_MAX {
        let message = format!("{key:?} of {what} names {} topics, not 1 to {TOPICS_MAX}", topics.len());
        problems.error(node.place, message, None);
    }
    for (at, (topic, place)) in topics.iter().enumerate() {
        check_topic_name(topic, *place, problems);
        if topics[..at].iter().any(|(before, _)| before == topic) {
            problems.error(*place, format!("{key:?} of {what} names topic {topic:?} twice"), None);
        }
    }
    topics
}

fn plugin_uses(fields: &mut Fields<'_>, what: &str, problems: &mut Problems) -> Vec<PluginUse> {
    let one = fields.string("plugin", problems);
    let config = fields.take("config");
    let several = fields.take("plugins");
    match (one, config, several) {
        (Some((name, place)), config, None) => {
            vec![PluginUse { name, place, config: config.map(Node::to_json) }]
        }
        (Some((_, place)), _, Some(_)) => {
            let remedy = "put the plugin into the list".to_owned();
            problems.error(place, format!("{what} has both \"plugin\" and \"plugins\""), Some(remedy));
            Vec::new()
        }
        (None, Some(config), _) => {
            let remedy = "put it under a plugin: \"plugins: [{plugin: NAME, config: ...}]\"".to_owned();
            problems.error(config.place, format!("\"config\" of {what} belongs to no plugin"), Some(remedy));
            Vec::new()
        }
        (None, None, None) => Vec::new(),
        (None, None, Some(list)) => plugin_list(list, what, problems),
    }
}

fn plugin_list(node: &Node, what: &str, problems: &mut Problems) -> Vec<PluginUse> {
    let Value::List(list) = &node.value else {
        let names = strings(node, &format!("\"plugins\" of {what}"), problems);
        return names.into_iter().map(|(name, place)| PluginUse { name, place, config: None }).collect();
    };
    if list.len() > PLUGINS_MAX {
        problems.error(node.place, format!("{what} has more than {PLUGINS_MAX} plugins"), None);
    }
    let one = |node: &Node, problems: &mut Problems| {
        if !matches!(node.value, Value::Map(_)) {
            let name = string(node, &format!("a plugin of {what}"), problems)?;
            return Some(PluginUse { name, place: node.place, config: None });
        }
        let mut fields = Fields::of(node, &format!("a plugin of {what}"), problems)?;
        fields.require("plugin", problems)?;
        let mut fields = Fields::of(node, &format!("a plugin of {what}"), problems)?;
        let name = fields.string("plugin", problems);
        let config = fields.take("config").map(Node::to_json);
        fields.finish(problems);
        let (name, place) = name?;
        Some(PluginUse { name, place, config })
    };
    list.iter().filter_map(|node| one(node, problems)).collect()
}

fn on_error(node: &Node, what: &str, problems: &mut Problems) -> Option<OnErrorSpec> {
    const REMEDY: &str = "write \"stop\", \"skip\" or \"{dead_letter: TOPIC}\"";
    match &node.value {
        Value::String(word) if word == "stop" => Some(OnErrorSpec::Stop),
        Value::String(word) if word == "skip" => Some(OnErrorSpec::Skip),
        Value::Map(_) => {
            let mut fields = Fields::of(node, &format!("\"on_error\" of {what}"), problems)?;
            let topic = fields.require("dead_letter", problems);
            let topic =
                topic.and_then(|node| Some((string(node, "the dead letter topic", problems)?, node.place)));
            fields.finish(problems);
            let (topic, place) = topic?;
            check_topic_name(&topic, place, problems);
            Some(OnErrorSpec::DeadLetter { topic, place })
        }
        _ => {
            let message = format!("\"on_error\" of {what} is none of the policies");
            problems.error(node.place, message, Some(REMEDY.to_owned()));
            None
        }
    }
}

fn compression(fields: &mut Fields<'_>, what: &str, problems: &mut Problems) -> Compression {
    let Some((name, place)) = fields.string("compression", problems) else { return Compression::None };
    name.parse().unwrap_or_else(|_| {
        let names = Compression::ALL.map(Compression::name).join(", ");
        problems.error(
            place,
            format!("{what} has the unknown compression {name:?}"),
            Some(format!("known: {names}")),
        );
        Compression::None
    })
}

/// Names of pipelines, stages and plugins end up in group names, metrics, thread names and URLs.
fn check_name(name: &str, what: &str, place: Place, problems: &mut Problems) {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name_byte) {
        let remedy = format!("use 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, \".\", \"_\" and \"-\"");
        problems.error(place, format!("{name:?} is no valid name for a {what}"), Some(remedy));
    }
}

fn check_topic_name(name: &str, place: Place, problems: &mut Problems) {
    let valid = (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_name_byte)
        && name != "."
        && name != "..";
    if !valid {
        let remedy = format!("use 1 to {TOPIC_NAME_BYTES_MAX} of a-z, A-Z, 0-9, \".\", \"_\" and \"-\"");
        problems.error(place, format!("{name:?} is no valid name for a topic"), Some(remedy));
    }
}

/// Kafka takes any name for a group but the empty one. It is shown in one line.
fn check_group(group: &str, what: &str, place: Place, problems: &mut Problems) {
    if group.is_empty() || group.len() > GROUP_BYTES_MAX || group.contains(char::is_control) {
        let message = format!("{group:?} is no valid \"group\" of {what}");
        let remedy = format!("use 1 to {GROUP_BYTES_MAX} bytes without control characters");
        problems.error(place, message, Some(remedy));
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}
