//! Sample messages for this crate's tests: any value that a version can carry.

use std::fmt::Write;

use super::define;
use crate::model::{Field, Kind, Message, Struct};
use crate::versions::Condition;

pub(super) fn samples(message: &Message) -> String {
    message.structs.iter().map(|structure| sample(message, structure)).collect()
}

fn sample(message: &Message, structure: &Struct) -> String {
    let lifetime = if structure.borrows { "<'static>" } else { "" };
    let mut code = format!(
        "impl Sample for crate::{}::{}{lifetime} {{\n    \
         fn sample(entropy: &mut Entropy<'_>, version: i16) -> Self {{\n        Self {{\n",
        message.module, structure.name
    );
    for field in &structure.fields {
        let value = match field.present().condition(&structure.versions) {
            Condition::If(condition) => {
                format!(
                    "if {condition} {{ {} }} else {{ {} }}",
                    sample_field(field),
                    define::default_value(field)
                )
            }
            _ => sample_field(field),
        };
        let _ = writeln!(code, "            {}: {value},", field.name);
    }
    code.push_str("        }\n    }\n}\n");
    code
}

fn sample_field(field: &Field) -> String {
    let value = sample_kind(&field.kind);
    match field.nullable.condition(&field.present()) {
        Condition::Never if field.is_optional() => format!("Some({value})"),
        Condition::Never => value,
        Condition::Always => format!("if entropy.coin() {{ Some({value}) }} else {{ None }}"),
        Condition::If(condition) => {
            format!("if !({condition}) || entropy.coin() {{ Some({value}) }} else {{ None }}")
        }
    }
}

fn sample_kind(kind: &Kind) -> String {
    match kind {
        Kind::Fixed(fixed) => format!("entropy.{}()", fixed.suffix),
        Kind::String => "entropy.string()".to_owned(),
        Kind::Bytes => "entropy.bytes()".to_owned(),
        Kind::Records => "entropy.records()".to_owned(),
        Kind::Struct(_) => "Sample::sample(entropy, version)".to_owned(),
        Kind::Array(element) => format!("entropy.array(|entropy| {})", sample_kind(element)),
    }
}
