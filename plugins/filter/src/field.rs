//! Finds one field of a JSON text, without building the rest of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Deeper than anybody's documents; serde_json itself stops at 128.
const STEPS_MAX: usize = 32;

/// The way to a field, from the outermost object or array on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    /// `a.b.0`, or a JSON Pointer (RFC 6901): `/a/b/0`, for names with dots in them.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let steps: Vec<_> = match path.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
            }
            None => path.split('.').map(str::to_owned).collect(),
        };
        if !path.starts_with('/') && steps.iter().any(String::is_empty) {
            return Err(format!("`field` is {path:?}: use names with dots between them, like user.name"));
        }
        if steps.len() > STEPS_MAX {
            return Err(format!("`field` has {} names: use up to {STEPS_MAX}", steps.len()));
        }
        Ok(Self(steps))
    }

    /// The field's value, if there is one. An array or object at the end of the way is one too. Where a name
    /// occurs twice in an object, the last counts.
    pub(crate) fn find(&self, json: &[u8]) -> serde_json::Result<Option<Value>> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let found = Steps(&self.0).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

/// What is left of a way.
#[derive(Clone, Copy)]
struct Steps<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Steps<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Steps<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(Is(first))? {
            if is_wanted {
                found = map.next_value_seed(Steps(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Value>, A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        let wanted: Option<usize> = first.parse().ok();
        let mut found = None;
        let mut at = 0;
        loop {
            if wanted == Some(at) {
                match seq.next_element_seed(Steps(rest))? {
                    Some(element) => found = element,
                    None => return Ok(None),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }

    // The way goes on, but there is nothing to go into.

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }
}

/// Whether a name is the one that is looked for.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_what_serde_json_finds() {
        let document =
            r#"{"a":{"b":[1,{"c":"x"},null]},"d.e":2.5,"f/g":true,"":0,"a~":[],"twice":1,"twice":2}"#;
        let value: Value = serde_json::from_str(document).unwrap();
        let pointers = [
            "/a",
            "/a/b",
            "/a/b/0",
            "/a/b/1/c",
            "/a/b/2",
            "/a/b/3",
            "/a/b/x",
            "/a/b/1/c/z",
            "/a/b/2/z",
            "/d.e",
            "/f~1g",
            "/a~0",
            "/",
            "/none",
            "/twice",
            "/d.e/0",
        ];
        for pointer in pointers {
            let found = Path::parse(pointer).unwrap().find(document.as_bytes()).unwrap();
            assert_eq!(found.as_ref(), value.pointer(pointer), "{pointer}");
        }
        let dotted = Path::parse("a.b.1.c").unwrap();
        assert_eq!(dotted.find(document.as_bytes()).unwrap(), Some(json!("x")));
        assert_eq!(dotted.find(b"7").unwrap(), None);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        let path = Path::parse("a").unwrap();
        for text in ["", "{", r#"{"a":1} x"#, r#"{"a":1,}"#, r#"{"b":tru}"#, "[1,"] {
            assert!(path.find(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(path.find(deep.as_bytes()).is_err());
        let deep = format!(r#"{{"b":{deep}"#);
        assert!(path.find(deep.as_bytes()).is_err());
    }
}
