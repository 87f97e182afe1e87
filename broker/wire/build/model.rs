//! The tables resolved: names in Rust's spelling, versions as sets, types as a tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::table;
pub(crate) use crate::table::MessageKind;
use crate::versions::Versions;

pub(crate) struct Message {
    pub name: String,
    pub module: String,
    pub kind: MessageKind,
    pub api_key: Option<i16>,
    pub versions: Versions,
    pub flexible: Versions,
    /// Without the bounds of `versions`: the first flexible version, if there is any.
    pub first_flexible: Option<i16>,
    /// The message itself comes first.
    pub structs: Vec<Struct>,
}

pub(crate) struct Struct {
    pub name: String,
    pub versions: Versions,
    pub fields: Vec<Field>,
    /// Whether a field borrows from the frame, so that the struct has a lifetime.
    pub borrows: bool,
}

pub(crate) struct Field {
    /// In Rust's spelling.
    pub name: String,
    /// `Struct.Field` in Kafka's spelling, for errors.
    pub label: String,
    pub kind: Kind,
    /// The versions that have the field among the ordinary ones, in order.
    pub plain: Versions,
    /// The versions that have it among the tagged ones.
    pub tagged: Versions,
    pub tag: Option<u32>,
    /// The versions in which it may be null; if there are any, its type is an `Option`.
    pub nullable: Versions,
    /// Set if the field is never compact, even in flexible versions.
    pub never_compact: bool,
    pub ignorable: bool,
    pub default: Default,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Fixed(Fixed),
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Kind>),
}

/// A type of fixed size: its Rust name, the suffix of its reader and writer, its size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub rust: &'static str,
    pub suffix: &'static str,
    pub bytes: usize,
}

pub(crate) enum Default {
    Null,
    /// The type's own: empty, zero, or a struct of defaults.
    Empty,
    /// A literal, as Rust writes it.
    Literal(String),
}

impl Field {
    pub(crate) fn is_optional(&self) -> bool {
        !self.nullable.is_empty()
    }

    pub(crate) fn present(&self) -> Versions {
        self.plain.union(&self.tagged)
    }
}

impl Message {
    pub(crate) fn resolve(table: &table::Message) -> Result<Self, String> {
        let versions = Versions::parse(&table.valid_versions, i16::MAX)?;
        let (_, highest) = versions.bounds().ok_or("no valid version")?;
        let first_flexible = match table.flexible_versions.as_str() {
            "none" => None,
            text => Versions::parse(text, i16::MAX)?.bounds().map(|(low, _)| low),
        };
        let flexible = Versions::parse(&table.flexible_versions, highest)?.intersect(&versions);
        let mut resolver =
            Resolver { highest, flexible: &flexible, structs: BTreeMap::new(), order: Vec::new() };
        resolver.add_struct(&table.name, &versions, &table.fields)?;
        for common in &table.common_structs {
            let own = Versions::parse(&common.versions, highest)?.intersect(&versions);
            resolver.add_struct(&common.name, &own, &common.fields)?;
        }
        let structs = resolver.finish()?;
        Ok(Self {
            name: table.name.clone(),
            module: snake_case(&table.name),
            kind: table.kind,
            api_key: table.api_key,
            versions,
            flexible,
            first_flexible,
            structs,
        })
    }

    /// The API's name: `Fetch` for FetchRequest.
    pub(crate) fn api_name(&self) -> &str {
        self.name.strip_suffix("Request").or(self.name.strip_suffix("Response")).unwrap_or(&self.name)
    }

    pub(crate) fn structure(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|structure| structure.name == name)
    }

    /// The fewest bytes that a value of this type takes in `version`.
    pub(crate) fn wire_bytes_min(&self, kind: &Kind, version: i16) -> usize {
        let flexible = self.flexible.0.contains(&version);
        match kind {
            Kind::Fixed(fixed) => fixed.bytes,
            Kind::String if flexible => 1,
            Kind::String => 2,
            Kind::Bytes | Kind::Records | Kind::Array(_) if flexible => 1,
            Kind::Bytes | Kind::Records | Kind::Array(_) => 4,
            Kind::Struct(name) => {
                let fields = self.structure(name).map_or(&[][..], |structure| &structure.fields);
                let plain = fields.iter().filter(|field| field.plain.0.contains(&version));
                let bytes: usize = plain
                    .map(|field| match &field.kind {
                        Kind::Struct(_) if field.nullable.0.contains(&version) => 1,
                        kind => self.wire_bytes_min(kind, version),
                    })
                    .sum();
                bytes + usize::from(flexible)
            }
        }
    }
}

struct Resolver<'t> {
    highest: i16,
    flexible: &'t Versions,
    structs: BTreeMap<String, Struct>,
    order: Vec<String>,
}

impl Resolver<'_> {
    fn add_struct(&mut self, name: &str, versions: &Versions, fields: &[table::Field]) -> Result<(), String> {
        self.order.push(name.to_owned());
        let resolved = fields
            .iter()
            .map(|field| self.field(name, versions, field))
            .filter_map(Result::transpose)
            .collect::<Result<Vec<_>, _>>()?;
        let tags: BTreeSet<_> = resolved.iter().filter_map(|field| field.tag).collect();
        if tags.len() != resolved.iter().filter(|field| field.tag.is_some()).count() {
            return Err(format!("{name}: two fields have the same tag"));
        }
        let structure =
            Struct { name: name.to_owned(), versions: versions.clone(), fields: resolved, borrows: false };
        match self.structs.insert(name.to_owned(), structure) {
            None => Ok(()),
            Some(_) => Err(format!("the struct {name} is defined twice")),
        }
    }

    /// A field, or nothing if no served version has it.
    fn field(
        &mut self,
        structure: &str,
        possible: &Versions,
        table: &table::Field,
    ) -> Result<Option<Field>, String> {
        let label = format!("{structure}.{}", pascal_case(&table.name));
        let optional = |text: &Option<String>| match text {
            None => Ok(Versions::default()),
            Some(text) => Versions::parse(text, self.highest),
        };
        let present = Versions::parse(&table.versions, self.highest)?.intersect(possible);
        let tagged = optional(&table.tagged_versions)?.intersect(&present);
        let nullable = optional(&table.nullable_versions)?.intersect(&present);
        if present.is_empty() {
            return Ok(None);
        }
        if !table.fields.is_empty() {
            let name = table.kind.trim_start_matches("[]");
            self.add_struct(name, &present, &table.fields)?;
        }
        let kind = kind(&table.kind, &table.name)?;
        let never_compact = match table.flexible_versions.as_deref() {
            None => false,
            Some("none") => true,
            Some(other) => return Err(format!("{label}: flexibleVersions {other} is not supported")),
        };
        if !tagged.is_empty() {
            if table.tag.is_none() || tagged.intersect(self.flexible) != tagged {
                return Err(format!("{label}: a tagged field needs a tag and flexible versions"));
            }
            if matches!(kind, Kind::Records) || (matches!(kind, Kind::Struct(_)) && !nullable.is_empty()) {
                return Err(format!("{label}: this type can't be tagged"));
            }
        }
        let default = default(&kind, table.default.as_ref(), !nullable.is_empty())
            .map_err(|error| format!("{label}: {error}"))?;
        Ok(Some(Field {
            name: field_name(&table.name),
            label,
            kind,
            plain: present.minus(&tagged),
            tag: if tagged.is_empty() { None } else { table.tag },
            tagged,
            nullable,
            never_compact,
            ignorable: table.ignorable,
            default,
        }))
    }

    fn finish(mut self) -> Result<Vec<Struct>, String> {
        // A struct borrows if a field does; nesting is finite, so this settles.
        loop {
            let borrowing: BTreeSet<String> =
                self.structs.values().filter(|structure| structure.borrows).map(|s| s.name.clone()).collect();
            let mut changed = false;
            for structure in self.structs.values_mut().filter(|structure| !structure.borrows) {
                structure.borrows = structure.fields.iter().any(|field| field.kind.borrows(&borrowing));
                changed |= structure.borrows;
            }
            if !changed {
                break;
            }
        }
        let order = std::mem::take(&mut self.order);
        order.iter().map(|name| self.structs.remove(name).ok_or(format!("no struct {name}"))).collect()
    }
}

impl Kind {
    fn borrows(&self, borrowing: &BTreeSet<String>) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::String | Self::Bytes | Self::Records => true,
            Self::Struct(name) => borrowing.contains(name),
            Self::Array(element) => element.borrows(borrowing),
        }
    }
}

fn kind(text: &str, field: &str) -> Result<Kind, String> {
    let fixed = |rust, suffix, bytes| Ok(Kind::Fixed(Fixed { rust, suffix, bytes }));
    match text {
        "bool" => fixed("bool", "bool", 1),
        "int8" => fixed("i8", "i8", 1),
        "int16" if field.ends_with("ErrorCode") => fixed("crate::ErrorCode", "error_code", 2),
        "int16" => fixed("i16", "i16", 2),
        "uint16" => fixed("u16", "u16", 2),
        "int32" => fixed("i32", "i32", 4),
        "uint32" => fixed("u32", "u32", 4),
        "int64" => fixed("i64", "i64", 8),
        "float64" => fixed("f64", "f64", 8),
        "uuid" => fixed("uuid::Uuid", "uuid", 16),
        "string" => Ok(Kind::String),
        "bytes" => Ok(Kind::Bytes),
        "records" => Ok(Kind::Records),
        _ => match text.strip_prefix("[]") {
            Some(element) => Ok(Kind::Array(Box::new(kind(element, field)?))),
            None if text.starts_with(char::is_uppercase) => Ok(Kind::Struct(text.to_owned())),
            None => Err(format!("unknown type {text}")),
        },
    }
}

fn default(kind: &Kind, value: Option<&serde_json::Value>, optional: bool) -> Result<Default, String> {
    let text = match value {
        // As in Kafka, records that may be null are null by default.
        None if *kind == Kind::Records && optional => return Ok(Default::Null),
        None => return Ok(Default::Empty),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    match kind {
        _ if text == "null" && optional => Ok(Default::Null),
        _ if text.is_empty() => Ok(Default::Empty),
        Kind::String => Ok(Default::Literal(format!("{text:?}"))),
        Kind::Fixed(fixed) if fixed.rust == "bool" => match text.as_str() {
            "false" => Ok(Default::Empty),
            "true" => Ok(Default::Literal(text)),
            _ => Err(format!("invalid default {text}")),
        },
        Kind::Fixed(fixed) if fixed.rust == "f64" => text
            .parse::<f64>()
            .map(|number| Default::Literal(format!("{number:?}")))
            .map_err(|e| e.to_string()),
        Kind::Fixed(_) => {
            let number = match text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => text.parse(),
            };
            let number = number.map_err(|error| format!("invalid default {text}: {error}"))?;
            Ok(if number == 0 { Default::Empty } else { Default::Literal(number.to_string()) })
        }
        _ => Err(format!("a default of {text} is not supported for this type")),
    }
}

fn pascal_case(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `TopicId` to `topic_id`, `Enable2Pc` to `enable2_pc`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn field_name(name: &str) -> String {
    let snake = snake_case(name);
    match snake.as_str() {
        "type" | "match" | "move" | "ref" | "use" | "impl" | "in" | "where" => format!("r#{snake}"),
        _ => snake,
    }
}
