//! One condition, and what it is tried on.

use std::borrow::Cow;

use serde_json::Value;

/// What stands at the place that the conditions are about.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Nothing,
    /// Text, or null.
    Header(Option<Cow<'a, str>>),
    Field(Value),
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Equals(Value),
    NotEquals(Value),
    In(Vec<Value>),
    Matches(String),
    Exists(bool),
    Greater(f64),
    GreaterOrEqual(f64),
    Less(f64),
    LessOrEqual(f64),
}

impl Condition {
    pub(crate) fn holds(&self, found: &Found<'_>) -> bool {
        match self {
            Self::Equals(value) => found.is(value),
            Self::NotEquals(value) => !found.is(value),
            Self::In(values) => values.iter().any(|value| found.is(value)),
            Self::Matches(prefix) => found.text().is_some_and(|text| text.starts_with(prefix.as_str())),
            Self::Exists(exists) => *exists != matches!(found, Found::Nothing),
            Self::Greater(limit) => found.number().is_some_and(|number| number > *limit),
            Self::GreaterOrEqual(limit) => found.number().is_some_and(|number| number >= *limit),
            Self::Less(limit) => found.number().is_some_and(|number| number < *limit),
            Self::LessOrEqual(limit) => found.number().is_some_and(|number| number <= *limit),
        }
    }
}

impl Found<'_> {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Nothing, _) => false,
            (Self::Field(Value::Number(found)), Value::Number(value)) => {
                found == value || (found.is_f64() || value.is_f64()) && found.as_f64() == value.as_f64()
            }
            (Self::Field(found), value) => found == value,
            (Self::Header(None), value) => value.is_null(),
            (Self::Header(Some(found)), Value::String(value)) => found == value,
            (Self::Header(Some(_)), Value::Null) => false,
            (Self::Header(Some(found)), value) => *found == value.to_string(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Header(text) => text.as_deref(),
            Self::Field(value) => value.as_str(),
            Self::Nothing => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Header(text) => text.as_deref()?.trim().parse().ok(),
            Self::Field(value) => value.as_f64(),
            Self::Nothing => None,
        }
    }
}
