//! What a transform made of a batch.

use crate::log::Level;

/// What a transform made of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In the order in which they were emitted.
    pub outputs: Vec<Emitted>,
    /// In the order of the input.
    pub rejected: Vec<Rejection>,
    /// Lines that were logged meanwhile.
    pub log: Vec<(Level, String)>,
}

/// An output, with what it takes from its input filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The place of the input record that it was made from, from 0.
    pub input: usize,
    /// Whether it is the input record itself, which the host copies.
    pub unchanged: bool,
    /// None: the stage's first output topic.
    pub topic: Option<String>,
    /// None: chosen from the key.
    pub partition: Option<u32>,
    /// In milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record that the transform did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The record's place, from 0.
    pub input: usize,
    /// Why.
    pub reason: String,
}

impl Emitted {
    /// The value as text, with U+FFFD for what is not UTF-8; empty if it is null.
    #[must_use]
    pub fn text(&self) -> String {
        text(self.value.as_deref())
    }

    /// The key as text, in the same way.
    #[must_use]
    pub fn key_text(&self) -> String {
        text(self.key.as_deref())
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// If it is null or not JSON: the test has found its fault.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().expect("the value is null");
        serde_json::from_slice(value).expect("the value is not JSON")
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}
