//! A cursor over a line, and what can be wrong with one.

use std::borrow::Cow;

use thiserror::Error;

use crate::quoted::{self, Closing};

/// So much of a field is shown in an error.
const EXCERPT_CHARS_MAX: usize = 40;

/// Why a line is not one of an access log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum LineError {
    #[error("the line is empty")]
    Empty,
    #[error("the line ends before the {0}")]
    Missing(&'static str),
    #[error("expected `client ident user [time]`, found {0:?}")]
    Start(String),
    #[error("the time {0:?} is not like 17/May/2015:10:05:03 +0000")]
    Time(String),
    #[error("the time {0:?} does not exist")]
    NoSuchTime(String),
    #[error("the time is before 1970")]
    BeforeEpoch,
    #[error("expected the {field} in quotes, found {found:?}")]
    NotQuoted { field: &'static str, found: String },
    #[error("the quote around the {0} is not closed")]
    Unclosed(&'static str),
    #[error("the status {0:?} is not three digits")]
    Status(String),
    #[error("the size {0:?} is not a number of bytes")]
    Bytes(String),
}

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Result<Self, LineError> {
        let rest = line.trim_ascii();
        if rest.is_empty() { Err(LineError::Empty) } else { Ok(Self { rest }) }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remainder(self) -> &'a [u8] {
        self.rest
    }

    /// Takes everything up to the next `separator`, which is taken too.
    pub(crate) fn until(&mut self, separator: &[u8]) -> Option<&'a [u8]> {
        let at = self.rest.windows(separator.len()).position(|window| window == separator)?;
        let taken = &self.rest[..at];
        self.rest = &self.rest[at + separator.len()..];
        Some(taken)
    }

    /// Takes a field without spaces, and the spaces behind it.
    pub(crate) fn word(&mut self, field: &'static str) -> Result<&'a [u8], LineError> {
        if self.rest.is_empty() {
            return Err(LineError::Missing(field));
        }
        let end = self.rest.iter().position(|&byte| byte == b' ').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_ascii_start();
        Ok(word)
    }

    /// Takes a field in quotes, and the spaces behind it.
    pub(crate) fn quoted(&mut self, field: &'static str, closing: Closing) -> Result<&'a [u8], LineError> {
        let Some((b'"', inside)) = self.rest.split_first() else {
            return Err(match self.rest {
                [] => LineError::Missing(field),
                found => LineError::NotQuoted { field, found: excerpt(found) },
            });
        };
        let (quoted, rest) = quoted::split(inside, closing).ok_or(LineError::Unclosed(field))?;
        self.rest = rest.trim_ascii_start();
        Ok(quoted)
    }
}

/// A field, where `-` and nothing at all mean that there is none.
pub(crate) fn optional(field: &[u8]) -> Option<&[u8]> {
    (!matches!(field, b"" | b"-")).then_some(field)
}

/// Text of bytes that should be UTF-8, and that JSON needs to be.
pub(crate) fn text(field: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(field)
}

/// The beginning of a field, to show it in an error.
pub(crate) fn excerpt(field: &[u8]) -> String {
    let mut excerpt: String =
        text(&field[..field.len().min(4 * EXCERPT_CHARS_MAX)]).chars().take(EXCERPT_CHARS_MAX).collect();
    if excerpt.len() < field.len() {
        excerpt.push('…');
    }
    excerpt
}
