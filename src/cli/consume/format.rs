//! How a record is printed.

use std::str::FromStr;

use rdkafka::message::{BorrowedMessage, Message};
use serde::Serialize;
use thiserror::Error;

use crate::cli::failure::Failure;
use crate::cli::headers;
use crate::cli::output::Output;
use crate::record_json::{RecordHeader, key, value};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    /// The value and a line feed.
    Value,
    /// One JSON object a line.
    Json,
    Template(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

#[derive(Debug, Error, PartialEq)]
pub(super) enum NotAFormat {
    #[error("not a format: write value, json, or a template such as '%p:%o %k=%v\\n'")]
    NoField,
    #[error("unknown field %{0}: there are %t %p %o %T %k %v %h and %%")]
    UnknownField(char),
}

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "value" => Ok(Self::Value),
            "json" => Ok(Self::Json),
            _ => template(text).map(Self::Template),
        }
    }
}

fn template(text: &str) -> Result<Vec<Part>, NotAFormat> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let field = match (char, chars.peek().copied()) {
            ('%', Some('%')) => Err('%'),
            ('%', Some('t')) => Ok(Part::Topic),
            ('%', Some('p')) => Ok(Part::Partition),
            ('%', Some('o')) => Ok(Part::Offset),
            ('%', Some('T')) => Ok(Part::Timestamp),
            ('%', Some('k')) => Ok(Part::Key),
            // kcat's letter for the value is s.
            ('%', Some('v' | 's')) => Ok(Part::Value),
            ('%', Some('h')) => Ok(Part::Headers),
            ('%', other) => return Err(NotAFormat::UnknownField(other.unwrap_or(' '))),
            ('\\', Some('n')) => Err('\n'),
            ('\\', Some('t')) => Err('\t'),
            ('\\', Some('\\')) => Err('\\'),
            (char, _) => {
                literal.push(char);
                continue;
            }
        };
        chars.next();
        match field {
            Err(char) => literal.push(char),
            Ok(field) => {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(field);
            }
        }
    }
    if parts.is_empty() {
        return Err(NotAFormat::NoField);
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// A record as JSON. Bytes that are not UTF-8 go into the `_base64` twin of their field.
#[derive(Serialize)]
struct Record<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// Milliseconds since 1970.
    timestamp: Option<i64>,
    #[serde(flatten, serialize_with = "key")]
    key: Option<&'a [u8]>,
    #[serde(flatten, serialize_with = "value")]
    value: Option<&'a [u8]>,
    headers: Vec<RecordHeader<'a>>,
    /// Headers whose names are not UTF-8, which are not among those.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable_headers: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Format {
    pub(super) fn write(&self, message: &BorrowedMessage<'_>, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Value => {
                output.bytes(message.payload().unwrap_or_default())?;
                output.bytes(b"\n")
            }
            Self::Json => {
                let (headers, unreadable_headers) = headers(message);
                output.document(&Record {
                    topic: message.topic(),
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key(),
                    value: message.payload(),
                    headers,
                    unreadable_headers,
                })
            }
            Self::Template(parts) => parts.iter().try_for_each(|part| part.write(message, output)),
        }
    }
}

impl Part {
    fn write(&self, message: &BorrowedMessage<'_>, output: &mut Output) -> Result<(), Failure> {
        let number = |number: i64, output: &mut Output| output.bytes(number.to_string().as_bytes());
        match self {
            Self::Text(text) => output.bytes(text.as_bytes()),
            Self::Topic => output.bytes(message.topic().as_bytes()),
            Self::Partition => number(message.partition().into(), output),
            Self::Offset => number(message.offset(), output),
            Self::Timestamp => number(message.timestamp().to_millis().unwrap_or(-1), output),
            Self::Key => output.bytes(message.key().unwrap_or_default()),
            Self::Value => output.bytes(message.payload().unwrap_or_default()),
            Self::Headers => {
                for (index, header) in headers(message).0.iter().enumerate() {
                    output.bytes(if index == 0 { b"" } else { b"," })?;
                    output.bytes(header.key.as_bytes())?;
                    output.bytes(b"=")?;
                    output.bytes(header.value.unwrap_or_default())?;
                }
                Ok(())
            }
        }
    }
}

/// Those that can be read, and how many others there are.
fn headers<'a>(message: &'a BorrowedMessage<'_>) -> (Vec<RecordHeader<'a>>, usize) {
    let (headers, others) = message.headers().map(headers::read).unwrap_or_default();
    let each = headers.into_iter().map(|header| RecordHeader { key: header.key, value: header.value });
    (each.collect(), others)
}

#[cfg(test)]
mod tests {
    use super::{Format, NotAFormat, Part, Record, RecordHeader};

    #[test]
    fn templates_are_fields_between_texts() {
        let template = |text: &str| text.parse::<Format>();
        assert_eq!(
            template("%t[%p]@%o: %k=%s\\n"),
            Ok(Format::Template(vec![
                Part::Topic,
                Part::Text("[".into()),
                Part::Partition,
                Part::Text("]@".into()),
                Part::Offset,
                Part::Text(": ".into()),
                Part::Key,
                Part::Text("=".into()),
                Part::Value,
                Part::Text("\n".into()),
            ]))
        );
        assert_eq!(
            template("100%% %T"),
            Ok(Format::Template(vec![Part::Text("100% ".into()), Part::Timestamp]))
        );
        assert_eq!(template("%x"), Err(NotAFormat::UnknownField('x')));
        assert_eq!(template("%"), Err(NotAFormat::UnknownField(' ')));
        assert_eq!(template("yaml"), Err(NotAFormat::NoField));
    }

    #[test]
    fn json_keeps_text_as_text_and_bytes_as_base64() {
        let record = Record {
            topic: "t",
            partition: 1,
            offset: 2,
            timestamp: Some(3),
            key: Some(b"\xff\x00"),
            value: Some("ä".as_bytes()),
            headers: vec![RecordHeader { key: "h", value: None }],
            unreadable_headers: 0,
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"topic":"t","partition":1,"offset":2,"timestamp":3,"key_base64":"/wA=","value":"ä","headers":[{"key":"h","value":null}]}"#
        );
    }
}
