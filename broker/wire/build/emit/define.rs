//! Structs, their defaults, and the module around them.

use std::fmt::Write;

use super::{decode, encode};
use crate::model::{Default, Field, Kind, Message, MessageKind, Struct};
use crate::versions::{Condition, Versions};

pub(super) fn module(message: &Message) -> Result<String, String> {
    let (low, high) = message.versions.bounds().ok_or("no versions")?;
    let mut code = format!(
        "/// {}, versions {low} to {high}.\npub mod {} {{\n    \
         use crate::{{DecodeError, EncodeError, FrameWriter, Message, Reader}};\n",
        message.name, message.module
    );
    for structure in &message.structs {
        code.push_str(&definition(message, structure));
        code.push_str(&default_impl(message, structure));
        let lifetime = lifetime(structure);
        let _ = writeln!(code, "    impl{lifetime} {}{lifetime} {{", structure.name);
        code.push_str(&decode::read(message, structure)?);
        code.push_str(&encode::write(message, structure));
        code.push_str("    }\n");
    }
    code.push_str(&message_impl(message, low, high));
    code.push_str("}\n");
    Ok(code)
}

fn lifetime(structure: &Struct) -> &'static str {
    if structure.borrows { "<'a>" } else { "" }
}

fn definition(message: &Message, structure: &Struct) -> String {
    let mut code = String::from("    #[derive(Clone, Debug, PartialEq)]\n");
    let _ = writeln!(code, "    pub struct {}{} {{", structure.name, lifetime(structure));
    for field in &structure.fields {
        if let Some(note) = version_note(field, &structure.versions) {
            let _ = writeln!(code, "        /// {note}");
        }
        let _ = writeln!(code, "        pub {}: {},", field.name, field_type(message, field, "'a"));
    }
    code.push_str("    }\n");
    code
}

/// In which versions the field exists, if not in all.
fn version_note(field: &Field, possible: &Versions) -> Option<String> {
    let present = field.present();
    let (low, high) = present.bounds()?;
    let (_, highest) = possible.bounds()?;
    match present.condition(possible) {
        Condition::Always => None,
        _ if high == highest => Some(format!("Since version {low}.")),
        _ if low == high => Some(format!("Version {low} only.")),
        _ => Some(format!("Versions {low} to {high}.")),
    }
}

pub(super) fn field_type(message: &Message, field: &Field, lifetime: &str) -> String {
    let inner = kind_type(message, &field.kind, lifetime);
    if field.is_optional() { format!("Option<{inner}>") } else { inner }
}

fn kind_type(message: &Message, kind: &Kind, lifetime: &str) -> String {
    match kind {
        Kind::Fixed(fixed) => fixed.rust.to_owned(),
        Kind::String => format!("std::borrow::Cow<{lifetime}, str>"),
        Kind::Bytes => format!("std::borrow::Cow<{lifetime}, [u8]>"),
        Kind::Records => format!("crate::Records<{lifetime}>"),
        Kind::Struct(name) => match message.structure(name) {
            Some(structure) if structure.borrows => format!("{name}<{lifetime}>"),
            _ => name.clone(),
        },
        Kind::Array(element) => format!("Vec<{}>", kind_type(message, element, lifetime)),
    }
}

fn default_impl(_: &Message, structure: &Struct) -> String {
    let wildcard = if structure.borrows { "<'_>" } else { "" };
    let mut code = format!(
        "    impl Default for {}{wildcard} {{\n        fn default() -> Self {{\n            Self {{\n",
        structure.name
    );
    for field in &structure.fields {
        let _ = writeln!(code, "                {}: {},", field.name, default_value(field));
    }
    code.push_str("            }\n        }\n    }\n");
    code
}

/// The expression for the field's default.
pub(super) fn default_value(field: &Field) -> String {
    let inner = match (&field.default, &field.kind) {
        (Default::Null, _) => return "None".to_owned(),
        (Default::Empty, Kind::Fixed(fixed)) => match fixed.rust {
            "bool" => "false".to_owned(),
            "f64" => "0.0".to_owned(),
            "uuid::Uuid" => "uuid::Uuid::nil()".to_owned(),
            "crate::ErrorCode" => "crate::ErrorCode::NONE".to_owned(),
            _ => "0".to_owned(),
        },
        (Default::Empty, Kind::String) => "std::borrow::Cow::Borrowed(\"\")".to_owned(),
        (Default::Empty, Kind::Bytes) => "std::borrow::Cow::Borrowed(&[])".to_owned(),
        (Default::Empty, Kind::Array(_)) => "Vec::new()".to_owned(),
        (Default::Empty, Kind::Records | Kind::Struct(_)) => "Default::default()".to_owned(),
        (Default::Literal(text), Kind::String) => format!("std::borrow::Cow::Borrowed({text})"),
        (Default::Literal(text), Kind::Fixed(fixed)) if fixed.rust == "crate::ErrorCode" => {
            format!("crate::ErrorCode({text})")
        }
        (Default::Literal(text), _) => text.clone(),
    };
    if field.is_optional() { format!("Some({inner})") } else { inner }
}

/// The condition that the field's value is not its default.
pub(super) fn differs_from_default(field: &Field) -> String {
    let value = format!("self.{}", field.name);
    if matches!(field.default, Default::Null) {
        return format!("{value}.is_some()");
    }
    match (&field.default, &field.kind) {
        (Default::Empty, Kind::String | Kind::Bytes | Kind::Records | Kind::Array(_))
            if field.is_optional() =>
        {
            format!("{value}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Default::Empty, Kind::String | Kind::Bytes | Kind::Records | Kind::Array(_)) => {
            format!("!{value}.is_empty()")
        }
        (Default::Empty, Kind::Fixed(fixed)) if fixed.rust == "bool" => value,
        (Default::Literal(_), Kind::Fixed(fixed)) if fixed.rust == "bool" => format!("!{value}"),
        (Default::Empty, Kind::Fixed(fixed)) if fixed.rust == "uuid::Uuid" => format!("!{value}.is_nil()"),
        _ => format!("{value} != {}", default_value(field)),
    }
}

fn message_impl(message: &Message, low: i16, high: i16) -> String {
    let Some(structure) = message.structs.first() else { return String::new() };
    let name = &structure.name;
    let type_name = format!("{name}{}", lifetime(structure));
    let mut code = format!(
        "    impl<'a> Message<'a> for {type_name} {{
        const NAME: &'static str = \"{name}\";
        const VERSION_MIN: i16 = {low};
        const VERSION_MAX: i16 = {high};

        fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {{
            if !({low}..={high}).contains(&version) {{
                return Err(DecodeError::UnsupportedVersion {{ message: Self::NAME, version }});
            }}
            Self::read(reader, version)
        }}

        fn encode(&self, writer: &mut FrameWriter, version: i16) -> Result<(), EncodeError> {{
            if !({low}..={high}).contains(&version) {{
                return Err(EncodeError::UnsupportedVersion {{ message: Self::NAME, version }});
            }}
            self.write(writer, version)
        }}
    }}\n"
    );
    let side = match message.kind {
        MessageKind::Request => "Request",
        MessageKind::Response => "Response",
        MessageKind::CoordinatorKey => {
            let record_type = message.api_key.unwrap_or(low);
            let _ = write!(
                code,
                "    impl<'a> crate::CoordinatorKey<'a> for {type_name} {{\n        \
                 const RECORD_TYPE: i16 = {record_type};\n    }}\n"
            );
            return code;
        }
        _ => return code,
    };
    let api = message.api_name();
    let _ = write!(
        code,
        "    impl<'a> crate::{side}<'a> for {type_name} {{
        const API_KEY: crate::ApiKey = crate::ApiKey::{api};
        type Api = crate::api::{api};
    }}
    impl<'a> From<{type_name}> for crate::Any{side}<'a> {{
        fn from(message: {type_name}) -> Self {{
            Self::{api}(message)
        }}
    }}\n"
    );
    code
}
