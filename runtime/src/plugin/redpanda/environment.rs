//! A plugin's configuration as environment variables, which is how these modules take theirs.

use serde_json::Value;

use crate::plugin::StageNames;

/// Variables of Redpanda's own have this in front.
const RESERVED: &str = "REDPANDA_";

/// The variables of a module: its configuration, an object of texts, numbers and booleans, and the names of the stage's
/// topics. The error is for whoever wrote the configuration.
pub(super) fn variables(config: &str, names: &StageNames) -> Result<Vec<(String, String)>, String> {
    let config: Value = serde_json::from_str(config).map_err(|error| format!("it is not JSON: {error}"))?;
    let mut variables = match config {
        Value::Null => Vec::new(),
        Value::Object(config) => config.into_iter().map(variable).collect::<Result<_, _>>()?,
        _ => return Err("it is not an object: each of its keys is an environment variable".to_owned()),
    };
    // Of several topics none is *the* input.
    if let [topic] = &*names.from {
        variables.push((format!("{RESERVED}INPUT_TOPIC"), topic.to_string()));
    }
    for (at, topic) in names.to.iter().enumerate() {
        variables.push((format!("{RESERVED}OUTPUT_TOPIC_{at}"), topic.to_string()));
    }
    Ok(variables)
}

fn variable((name, value): (String, Value)) -> Result<(String, String), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot be the name of an environment variable"));
    }
    if name.starts_with(RESERVED) {
        return Err(format!(
            "{name:?} begins with {RESERVED}: these environment variables are set by the node"
        ));
    }
    let value = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(format!(
                "{name:?} is no text, number or boolean: the modules of Redpanda's data transforms are configured with \
                 environment variables"
            ));
        }
    };
    if value.contains('\0') {
        return Err(format!("the value of {name:?} has a zero byte, which no environment variable can have"));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables_of(config: &str, from: &[&str], to: &[&str]) -> Result<Vec<String>, String> {
        let topics = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let names = StageNames { plugin: "p".to_owned(), from: topics(from), to: topics(to) };
        let variables = variables(config, &names)?;
        Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn plain_values_and_topics_become_variables() {
        let config = r#"{"TEXT": "a b", "NUMBER": 1.5, "FLAG": true, "EMPTY": ""}"#;
        let mut found = variables_of(config, &["in"], &["out", "other"]).unwrap();
        found.sort_unstable();
        let expected = [
            "EMPTY=",
            "FLAG=true",
            "NUMBER=1.5",
            "REDPANDA_INPUT_TOPIC=in",
            "REDPANDA_OUTPUT_TOPIC_0=out",
            "REDPANDA_OUTPUT_TOPIC_1=other",
            "TEXT=a b",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_stage_of_several_inputs_names_none() {
        assert_eq!(variables_of("null", &["a", "b"], &["out"]).unwrap(), ["REDPANDA_OUTPUT_TOPIC_0=out"]);
    }

    #[test]
    fn what_no_variable_can_hold_is_refused_by_name() {
        for (config, expect) in [
            (r#"{"LIMITS": {"low": 1}}"#, r#""LIMITS" is no text, number or boolean"#),
            (r#"{"LIST": [1]}"#, r#""LIST" is no text"#),
            (r#"{"NOTHING": null}"#, r#""NOTHING" is no text"#),
            (r#"["A=B"]"#, "it is not an object"),
            (r#"{"A=B": "c"}"#, r#""A=B" cannot be the name"#),
            (r#"{"": "c"}"#, r#""" cannot be the name"#),
            (r#"{"A": "\u0000"}"#, r#"the value of "A" has a zero byte"#),
            (r#"{"REDPANDA_INPUT_TOPIC": "mine"}"#, "these environment variables are set by the node"),
        ] {
            let error = variables_of(config, &[], &[]).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
