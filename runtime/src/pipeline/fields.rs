//! Reads a mapping key by key, and notices the keys that nobody asked for.

use super::node::{Key, Node, Value};
use super::problem::{Place, Problems, did_you_mean};

/// The entries of one mapping that have not been taken yet.
pub(super) struct Fields<'a> {
    /// What the mapping is, for errors: "stage \"parse\"".
    what: String,
    pub(super) place: Place,
    rest: Vec<&'a (Key, Node)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// None, and a problem, if `node` is no mapping.
    pub(super) fn of(node: &'a Node, what: &str, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Map(map) => Some(Self {
                what: what.to_owned(),
                place: node.place,
                rest: map.iter().collect(),
                known: Vec::new(),
            }),
            Value::Null => {
                Some(Self { what: what.to_owned(), place: node.place, rest: Vec::new(), known: Vec::new() })
            }
            other => {
                problems.error(node.place, format!("{what} is {}, not a mapping", other.kind()), None);
                None
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.rest.iter().any(|(key, _)| key.name == name)
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        let at = self.rest.iter().position(|(key, _)| key.name == name)?;
        Some(&self.rest.remove(at).1)
    }

    pub(super) fn require(&mut self, name: &'static str, problems: &mut Problems) -> Option<&'a Node> {
        let node = self.take(name);
        if node.is_none() {
            let message = format!("{} has no {name:?}", self.what);
            problems.error(self.place, message, Some(format!("add \"{name}: ...\"")));
        }
        node
    }

    pub(super) fn string(&mut self, name: &'static str, problems: &mut Problems) -> Option<(String, Place)> {
        let node = self.take(name)?;
        Some((string(node, &format!("{name:?} of {}", self.what), problems)?, node.place))
    }

    /// A whole number between `min` and `max`.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        min: i64,
        max: i64,
        problems: &mut Problems,
    ) -> Option<i64> {
        let node = self.take(name)?;
        match node.value {
            Value::Int(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                let message = format!("{name:?} of {} is not a whole number from {min} to {max}", self.what);
                problems.error(node.place, message, None);
                None
            }
        }
    }

    /// Whatever is left is unknown.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (key, _) in self.rest {
            let remedy = did_you_mean(&key.name, self.known.iter().copied())
                .unwrap_or_else(|| format!("known keys: {}", self.known.join(", ")));
            problems.error(key.place, format!("unknown key {:?} in {}", key.name, self.what), Some(remedy));
        }
    }
}

pub(super) fn string(node: &Node, what: &str, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::String(value) => Some(value.clone()),
        // A topic may be called 2024, and a version 1.
        Value::Int(value) => Some(value.to_string()),
        other => {
            problems.error(node.place, format!("{what} is {}, not a string", other.kind()), None);
            None
        }
    }
}

/// One string, or a list of them.
pub(super) fn strings(node: &Node, what: &str, problems: &mut Problems) -> Vec<(String, Place)> {
    let one = |node: &Node, problems: &mut Problems| Some((string(node, what, problems)?, node.place));
    match &node.value {
        Value::List(list) => list.iter().filter_map(|node| one(node, problems)).collect(),
        _ => one(node, problems).into_iter().collect(),
    }
}
