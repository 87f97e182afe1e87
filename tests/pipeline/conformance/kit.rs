//! The kit's cases, as their files say them.

use serde::Deserialize;

use super::*;

/// What a case is written as where its own names begin.
const OWN: &str = "@";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Source,
    Sink,
    Stage,
    Ingest,
    View,
}

/// See the kit's README.md.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Its own names begin with it.
    #[serde(skip)]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) component: String,
    #[serde(rename = "as")]
    pub(super) place: Place,
    pub(super) topics: BTreeMap<String, u32>,
    #[serde(default)]
    pub(super) from: Vec<String>,
    #[serde(default)]
    pub(super) to: Vec<String>,
    pub(super) dead_letter: Option<String>,
    #[serde(default)]
    pub(super) input: Vec<Input>,
    #[serde(default)]
    pub(super) config: Value,
    #[serde(default = "object")]
    pub(super) limits: Value,
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) refused: Option<String>,
    pub(super) state: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) refused_records: usize,
    #[serde(default)]
    pub(super) output: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    pub(super) committed: BTreeMap<String, Option<i64>>,
    #[serde(default)]
    pub(super) committed_last: BTreeMap<String, Option<i64>>,
    pub(super) position: Option<String>,
    pub(super) position_last: Option<String>,
    #[serde(default)]
    pub(super) log: Vec<Line>,
    #[serde(default)]
    pub(super) metrics: Vec<String>,
}

/// A record that a client writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    #[serde(default)]
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) value: Option<String>,
    pub(super) timestamp: Option<i64>,
    #[serde(default)]
    pub(super) headers: Vec<InputHeader>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputHeader {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) level: String,
    pub(super) text: String,
}

fn object() -> Value {
    json!({})
}

impl Case {
    pub(super) fn component_file(&self) -> &'static str {
        match &*self.component {
            "batch" => env!("GUEST_CONFORMANCE_BATCH"),
            "typed" => env!("GUEST_CONFORMANCE_TYPED"),
            "sink" => env!("GUEST_CONFORMANCE_SINK"),
            "source" => env!("GUEST_CONFORMANCE_SOURCE"),
            "lent" => env!("GUEST_CONFORMANCE_LENT"),
            "asking" => env!("GUEST_CONFORMANCE_ASKING"),
            "calling" => env!("GUEST_CONFORMANCE_CALLING"),
            other => panic!("{}: there is no component {other}", self.name),
        }
    }

    /// The calls of one kind, which say what they must answer.
    pub(super) fn calls(&self, kind: &str) -> &[Value] {
        self.config[kind].as_array().map_or(&[], Vec::as_slice)
    }

    /// Whether it writes what its calls have answered.
    pub(super) fn reports(&self) -> bool {
        self.is_run() || self.component == "asking"
    }

    pub(super) fn is_run(&self) -> bool {
        matches!(self.place, Place::Source | Place::Sink)
    }

    pub(super) fn has_last(&self) -> bool {
        !self.calls("last").is_empty()
    }

    /// What the status calls it.
    pub(super) fn part(&self) -> &str {
        if self.place == Place::View { &self.to[0] } else { &self.id }
    }
}

/// All cases, one for each component.
pub(super) fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/conformance/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the kit is there")
        .map(|entry| entry.expect("it is readable").path())
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("it is readable");
        // YAML 1.1 takes words like y for booleans.
        let options = serde_saphyr::options! { strict_booleans: true };
        let found: Vec<Value> = serde_saphyr::from_str_with_options(&text, options)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in found {
            let components = match &case["component"] {
                Value::Array(components) => components.clone(),
                one => vec![one.clone()],
            };
            for component in components {
                let id = format!("c{}", cases.len());
                let mut of_component = case.clone();
                of_component["component"] = component;
                own(&mut of_component, &format!("{id}."));
                let parsed = serde_json::from_value(of_component);
                let parsed: Case =
                    parsed.unwrap_or_else(|error| panic!("{}: {}: {error}", file.display(), case["name"]));
                cases.push(Case { id, ..parsed });
            }
        }
    }
    assert!(cases.len() > 50, "only {} cases", cases.len());
    cases
}

/// Makes the names of the case's own topics.
fn own(value: &mut Value, prefix: &str) {
    match value {
        Value::String(text) => *text = text.replace(OWN, prefix),
        Value::Array(values) => values.iter_mut().for_each(|value| own(value, prefix)),
        Value::Object(object) => {
            let owned = std::mem::take(object).into_iter().map(|(key, mut value)| {
                own(&mut value, prefix);
                (key.replace(OWN, prefix), value)
            });
            *object = owned.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
