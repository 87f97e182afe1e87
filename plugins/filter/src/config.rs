//! The pipeline's `config:`.

use serde::Deserialize;
use serde_json::Value;

use crate::Subject;
use crate::condition::Condition;
use crate::field::Path;

/// The pipeline's `config:`, as the crate's page describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    header: Option<String>,
    field: Option<String>,
    #[serde(default)]
    pub(crate) action: Action,
    /// Twice optional, because null is a value to compare with.
    #[serde(default, deserialize_with = "present")]
    equals: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    not_equals: Option<Value>,
    #[serde(rename = "in")]
    one_of: Option<Vec<Value>>,
    matches: Option<String>,
    exists: Option<bool>,
    gt: Option<f64>,
    gte: Option<f64>,
    lt: Option<f64>,
    lte: Option<f64>,
}

/// What becomes of a record that matches. The others suffer the opposite.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    #[default]
    Keep,
    Drop,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(Subject, Vec<Condition>), String> {
        let subject = match (&self.header, &self.field) {
            (Some(name), None) => Subject::Header(name.clone()),
            (None, Some(path)) => Subject::Field(Path::parse(path)?),
            (Some(_), Some(_)) => {
                return Err("both `header` and `field` are given: use one of them".to_owned());
            }
            (None, None) => return Err("neither `header` nor `field` is given: use one of them".to_owned()),
        };
        let conditions: Vec<_> = [
            self.equals.clone().map(Condition::Equals),
            self.not_equals.clone().map(Condition::NotEquals),
            self.one_of.clone().map(Condition::In),
            self.matches.clone().map(Condition::Matches),
            self.exists.map(Condition::Exists),
            self.gt.map(Condition::Greater),
            self.gte.map(Condition::GreaterOrEqual),
            self.lt.map(Condition::Less),
            self.lte.map(Condition::LessOrEqual),
        ]
        .into_iter()
        .flatten()
        .collect();
        if conditions.is_empty() {
            return Err(
                "there is no condition: use equals, not_equals, in, matches, exists, gt, gte, lt or lte"
                    .to_owned(),
            );
        }
        let values = self.equals.iter().chain(&self.not_equals).chain(self.one_of.iter().flatten());
        match values.into_iter().find(|value| value.is_array() || value.is_object()) {
            Some(value) => {
                Err(format!("can't compare with {value}: use text, a number, true, false or null"))
            }
            None => Ok((subject, conditions)),
        }
    }
}

/// Unlike an `Option`, keeps a null that is written out.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
