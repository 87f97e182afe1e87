//! The writing half of a struct.

use std::fmt::Write;

use super::{compact, define};
use crate::model::{Field, Kind, Message, Struct};
use crate::versions::{Condition, Versions};

/// How to speak of a value: as itself where it is `Copy`, and by reference.
struct Place {
    value: String,
    reference: String,
}

pub(super) fn write(message: &Message, structure: &Struct) -> String {
    let mut code = String::from(
        "        pub(crate) fn write(&self, writer: &mut FrameWriter, version: i16) \
         -> Result<(), EncodeError> {\n",
    );
    let flexible = message.flexible.condition(&structure.versions);
    if let Condition::If(condition) = &flexible {
        let _ = writeln!(code, "            let flexible = {condition};");
    }
    for field in &structure.fields {
        if let Some(statement) = conditional(
            &field.plain.condition(&structure.versions),
            &write_field(message, field, &field.plain),
        ) {
            let _ = writeln!(code, "            {statement}");
        }
        code.push_str(&refuse_unless_default(structure, field));
    }
    let tagged = write_tagged(message, structure);
    if let Some(statement) = conditional_on_flexible(&flexible, &tagged) {
        code.push_str(&statement);
    }
    code.push_str("            Ok(())\n        }\n");
    code
}

fn conditional(condition: &Condition, statement: &str) -> Option<String> {
    match condition {
        Condition::Never => None,
        Condition::Always => Some(statement.to_owned()),
        Condition::If(condition) => Some(format!("if {condition} {{ {statement} }}")),
    }
}

fn conditional_on_flexible(flexible: &Condition, section: &str) -> Option<String> {
    match flexible {
        Condition::Never => None,
        Condition::Always => Some(section.to_owned()),
        Condition::If(_) => Some(format!("            if flexible {{\n{section}            }}\n")),
    }
}

/// In a version that lacks the field, a value that would get lost is an error.
fn refuse_unless_default(structure: &Struct, field: &Field) -> String {
    let absent = structure.versions.minus(&field.present());
    if field.ignorable || absent.is_empty() {
        return String::new();
    }
    let Condition::If(condition) = absent.condition(&structure.versions) else { return String::new() };
    format!(
        "            if {condition} && {} {{\n                return Err(EncodeError::FieldNotInVersion {{ \
         field: \"{}\", version }});\n            }}\n",
        define::differs_from_default(field),
        field.label
    )
}

fn write_tagged(message: &Message, structure: &Struct) -> String {
    let possible = structure.versions.intersect(&message.flexible);
    let mut fields: Vec<&Field> = structure.fields.iter().filter(|field| field.tag.is_some()).collect();
    fields.sort_by_key(|field| field.tag);
    if fields.is_empty() {
        return "            writer.write_uvarint(0);\n".to_owned();
    }
    let mut count = String::from("            let mut tagged_count = 0u32;\n");
    let mut body = String::from("            writer.write_uvarint(tagged_count);\n");
    for field in fields {
        let differs = define::differs_from_default(field);
        let present = match field.tagged.condition(&possible) {
            Condition::If(condition) => format!("{condition} && ({differs})"),
            _ => differs,
        };
        let _ = writeln!(count, "            if {present} {{ tagged_count += 1; }}");
        let _ = write!(
            body,
            "            if {present} {{\n                let mark = writer.begin_tagged({});\n                \
             {}\n                writer.end_tagged(mark)?;\n            }}\n",
            field.tag.unwrap_or_default(),
            write_field(message, field, &field.tagged)
        );
    }
    count + &body
}

/// The statement that writes the field in one of `versions`.
fn write_field(message: &Message, field: &Field, versions: &Versions) -> String {
    let place = Place { value: format!("self.{}", field.name), reference: format!("&self.{}", field.name) };
    if !field.is_optional() {
        return write_kind(message, field, &field.kind, &place);
    }
    let inner = Place { value: "*value".to_owned(), reference: "value".to_owned() };
    let write = write_kind(message, field, &field.kind, &inner);
    let optional = Place {
        value: format!("self.{}.as_ref()", field.name),
        reference: format!("self.{}.as_ref()", field.name),
    };
    let nullable = match &field.kind {
        Kind::Struct(_) => format!(
            "match &self.{} {{ Some(value) => {{ writer.write_i8(1); {write} }} None => writer.write_i8(-1) }}",
            field.name
        ),
        kind => {
            write_kind(message, field, kind, &optional).replacen("writer.write_", "writer.write_nullable_", 1)
        }
    };
    let plain = format!(
        "let value = self.{}.as_ref().ok_or(EncodeError::UnexpectedNull {{ field: \"{}\", version }})?; {write}",
        field.name, field.label
    );
    match field.nullable.condition(versions) {
        Condition::Always => nullable,
        Condition::Never => plain,
        Condition::If(condition) => format!("if {condition} {{ {nullable} }} else {{ {plain} }}"),
    }
}

/// The statement that writes a value that is not null.
fn write_kind(message: &Message, field: &Field, kind: &Kind, place: &Place) -> String {
    let label = &field.label;
    let compact = compact(message, field);
    let Place { value, reference } = place;
    match kind {
        Kind::Fixed(fixed) => format!("writer.write_{}({value});", fixed.suffix),
        Kind::String => format!("writer.write_string({reference}, {compact}, \"{label}\")?;"),
        Kind::Bytes => format!("writer.write_bytes({reference}, {compact}, \"{label}\")?;"),
        Kind::Records => format!("writer.write_records({reference}, {compact}, \"{label}\")?;"),
        Kind::Struct(_) => format!("({reference}).write(writer, version)?;"),
        Kind::Array(element) => {
            let inner = Place { value: "*element".to_owned(), reference: "element".to_owned() };
            let write = write_kind(message, field, element, &inner);
            format!(
                "writer.write_array({reference}, {compact}, \"{label}\", |writer, element| {{ {write} Ok(()) }})?;"
            )
        }
    }
}
