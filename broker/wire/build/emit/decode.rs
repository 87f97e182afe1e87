//! The reading half of a struct.

use std::fmt::Write;

use super::{compact, define};
use crate::model::{Field, Kind, Message, Struct};
use crate::versions::{Condition, Versions};

pub(super) fn read(message: &Message, structure: &Struct) -> Result<String, String> {
    let generics = if structure.borrows { "" } else { "<'a>" };
    let mut code = format!(
        "        pub(crate) fn read{generics}(reader: &mut Reader<'a>, version: i16) \
         -> Result<Self, DecodeError> {{\n"
    );
    let flexible = message.flexible.condition(&structure.versions);
    if let Condition::If(condition) = &flexible {
        let _ = writeln!(code, "            let flexible = {condition};");
    }
    for field in &structure.fields {
        code.push_str(&read_plain(message, structure, field)?);
    }
    if flexible != Condition::Never {
        code.push_str(&read_tagged(message, structure, &flexible)?);
    }
    code.push_str("            Ok(Self {\n");
    for field in &structure.fields {
        let _ = writeln!(code, "                {},", field.name);
    }
    code.push_str("            })\n        }\n");
    Ok(code)
}

fn read_plain(message: &Message, structure: &Struct, field: &Field) -> Result<String, String> {
    let mutable = if field.tag.is_some() { "mut " } else { "" };
    let default = define::default_value(field);
    let value = match field.plain.condition(&structure.versions) {
        Condition::Never => default,
        Condition::Always => read_field(message, field, &field.plain)?,
        Condition::If(condition) => {
            format!("if {condition} {{ {} }} else {{ {default} }}", read_field(message, field, &field.plain)?)
        }
    };
    let kind = define::field_type(message, field, "'a");
    Ok(format!("            let {mutable}{}: {kind} = {value};\n", field.name))
}

fn read_tagged(message: &Message, structure: &Struct, flexible: &Condition) -> Result<String, String> {
    let mut arms = String::new();
    for field in &structure.fields {
        let Some(tag) = field.tag else { continue };
        let guard = match field.tagged.condition(&structure.versions.intersect(&message.flexible)) {
            Condition::If(condition) => format!(" if {condition}"),
            _ => String::new(),
        };
        let value = read_field(message, field, &field.tagged)?;
        let _ = writeln!(arms, "                    {tag}{guard} => {} = {value},", field.name);
    }
    let section = if arms.is_empty() {
        format!("reader.read_tagged(\"{}\", |_, _| Ok(false))?;\n", structure.name)
    } else {
        format!(
            "reader.read_tagged(\"{}\", |tag, reader| {{\n                match tag {{\n{arms}                    \
             _ => return Ok(false),\n                }}\n                Ok(true)\n            }})?;\n",
            structure.name
        )
    };
    Ok(match flexible {
        Condition::If(_) => format!("            if flexible {{\n            {section}            }}\n"),
        _ => format!("            {section}"),
    })
}

/// The expression that reads the field in one of `versions`, as its own type.
fn read_field(message: &Message, field: &Field, versions: &Versions) -> Result<String, String> {
    let some = |value: String| format!("Some({value})");
    if !field.is_optional() {
        return read_kind(message, field, &field.kind);
    }
    let nullable = match (&field.kind, read_kind(message, field, &field.kind)?) {
        (Kind::Fixed(_), _) => return Err(format!("{}: this type can't be null", field.label)),
        (Kind::Struct(_), read) => {
            format!("if reader.read_presence(\"{}\")? {{ Some({read}) }} else {{ None }}", field.label)
        }
        (_, read) => read.replacen("reader.read_", "reader.read_nullable_", 1),
    };
    let plain = some(read_kind(message, field, &field.kind)?);
    Ok(match field.nullable.condition(versions) {
        Condition::Always => nullable,
        Condition::Never => plain,
        Condition::If(condition) => format!("if {condition} {{ {nullable} }} else {{ {plain} }}"),
    })
}

/// The expression that reads a value that is not null.
fn read_kind(message: &Message, field: &Field, kind: &Kind) -> Result<String, String> {
    let label = &field.label;
    let compact = compact(message, field);
    Ok(match kind {
        Kind::Fixed(fixed) => format!("reader.read_{}(\"{label}\")?", fixed.suffix),
        Kind::String => format!("reader.read_string({compact}, \"{label}\")?"),
        Kind::Bytes => format!("reader.read_bytes({compact}, \"{label}\")?"),
        Kind::Records => format!("reader.read_records({compact}, \"{label}\")?"),
        Kind::Struct(name) => format!("{name}::read(reader, version)?"),
        Kind::Array(element) => {
            let present = field.present();
            let sizes = present.0.iter().map(|version| message.wire_bytes_min(element, *version));
            let bytes_min = sizes.min().unwrap_or(0);
            if bytes_min == 0 {
                return Err(format!("{label}: an element may take no bytes at all"));
            }
            let read = read_kind(message, field, element)?;
            format!("reader.read_array({compact}, {bytes_min}, \"{label}\", |reader| Ok({read}))?")
        }
    })
}
