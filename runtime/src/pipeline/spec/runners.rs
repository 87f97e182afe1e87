//! Sources and sinks: parts of a pipeline whose plugins produce and consume by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::super::fields::{Fields, string, strings};
use super::super::node::Node;
use super::super::problem::{Place, Problems};
use super::{
    OnErrorSpec, StageDefinition, check_group, check_name, compression, entries, on_error as on_error_of,
    plugin_uses, topics_of,
};
use crate::batch::Position;
use crate::grants::{Grants, HostGrant, HostGrantError};
use crate::runner::RunnerKind;
use crate::stage::{PARALLELISM_MAX, RetryPolicy};

/// Hosts that a plugin is granted.
const HOSTS_MAX: usize = 64;

pub(super) fn runner(
    kind: RunnerKind,
    pipeline: &str,
    name: &str,
    place: Place,
    node: &Node,
    problems: &mut Problems,
) -> Option<StageDefinition> {
    check_name(name, kind.name(), place, problems);
    let what = format!("{} {name:?}", kind.name());
    let mut fields = Fields::of(node, &what, problems)?;
    let plugins = plugin_uses(&mut fields, &what, problems);
    let (from, group, parallelism) = match kind {
        RunnerKind::Source => (Vec::new(), None, None),
        RunnerKind::Sink => {
            let from = topics_of(&mut fields, "from", &what, problems);
            let group = fields.string("group", problems);
            (from, group, fields.number("parallelism", 1, PARALLELISM_MAX.into(), problems))
        }
    };
    if let Some((group, place)) = &group {
        check_group(group, &what, *place, problems);
    }
    // A sink may do all of its work elsewhere.
    let to = match (kind, fields.has("to")) {
        (RunnerKind::Sink, false) => Vec::new(),
        _ => topics_of(&mut fields, "to", &what, problems),
    };
    let on_error = match kind {
        RunnerKind::Source => None,
        RunnerKind::Sink => fields.take("on_error"),
    };
    let on_error = on_error.map_or(Some(OnErrorSpec::Stop), |node| on_error_of(node, &what, problems));
    let compression = compression(&mut fields, &what, problems);
    fields.finish(problems);
    if plugins.len() != 1 {
        let remedy = "name one: \"plugin: NAME\"".to_owned();
        problems.error(place, format!("{what} has {} plugins, not one", plugins.len()), Some(remedy));
    }
    let group = match kind {
        RunnerKind::Source => String::new(),
        RunnerKind::Sink => group.map_or_else(|| format!("{pipeline}.{name}"), |(group, _)| group),
    };
    Some(StageDefinition {
        name: name.to_owned(),
        place,
        position: Position::Stream,
        inline: None,
        runner: Some(kind),
        from,
        plugins,
        to,
        group,
        parallelism: parallelism.and_then(|parallelism| u32::try_from(parallelism).ok()).unwrap_or(1),
        on_error: on_error?,
        retry: RetryPolicy::default(),
        compression,
    })
}

/// What a plugin may use beyond the topics of its place.
pub(super) fn grants(node: &Node, what: &str, problems: &mut Problems) -> Grants {
    let Some(mut fields) = Fields::of(node, &format!("the grants of {what}"), problems) else {
        return Grants::default();
    };
    let secrets =
        fields.take("secrets").map(|node| strings(node, &format!("the secrets of {what}"), problems));
    let secrets: BTreeSet<String> = secrets.into_iter().flatten().map(|(name, _)| name).collect();
    let file = |name: &str, _: Place, node: &Node, problems: &mut Problems| {
        Some((name.to_owned(), string(node, &format!("file {name:?} of {what}"), problems)?))
    };
    let files: BTreeMap<_, _> = entries(fields.take("files"), "files", problems, file).into_iter().collect();
    let http = fields.take("http").map(|node| hosts(node, what, problems)).unwrap_or_default();
    fields.finish(problems);
    let grants = Grants { secrets, files, http };
    if let Err(error) = grants.validate() {
        problems.error(node.place, format!("the grants of {what}: {error}"), None);
    }
    grants
}

fn hosts(node: &Node, what: &str, problems: &mut Problems) -> BTreeSet<HostGrant> {
    let texts = strings(node, &format!("a host of {what}"), problems);
    if texts.len() > HOSTS_MAX {
        let message = format!("{what} is granted {} hosts: {HOSTS_MAX} at most", texts.len());
        problems.error(node.place, message, Some("grant the domain: \"https://*.DOMAIN\"".to_owned()));
        return BTreeSet::new();
    }
    let mut hosts = BTreeSet::new();
    for (text, place) in texts {
        match text.parse() {
            Ok(host) => _ = hosts.insert(host),
            Err(error) => {
                let error: HostGrantError = error;
                let remedy = "write \"https://HOST\" or \"https://HOST:PORT\"".to_owned();
                problems.error(place, format!("the grants of {what}: {error}"), Some(remedy));
            }
        }
    }
    hosts
}
