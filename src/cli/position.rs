//! Where in a partition to begin: `beginning`, `end`, an offset, or `@` and a time.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::timestamp;

/// A place in a partition, not yet resolved to an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Position {
    Beginning,
    End,
    Offset(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
}

#[derive(Debug, Error, PartialEq)]
#[error(
    "not a position: write `beginning`, `end`, an offset, or @TIME with TIME in ms since 1970 or RFC 3339"
)]
pub(crate) struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        match text {
            // `earliest` and `latest` are Kafka's words for the same.
            "beginning" | "earliest" => Ok(Self::Beginning),
            "end" | "latest" => Ok(Self::End),
            _ => match text.strip_prefix('@') {
                Some(time) => timestamp::parse(time).map(Self::Timestamp).map_err(|_| NotAPosition),
                None => match text.parse() {
                    Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                    _ => Err(NotAPosition),
                },
            },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => formatter.write_str("beginning"),
            Self::End => formatter.write_str("end"),
            Self::Offset(offset) => write!(formatter, "{offset}"),
            Self::Timestamp(ms) => write!(formatter, "@{ms}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NotAPosition, Position};

    #[test]
    fn positions_are_read() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Position>(), expected, "{text}");
        check("beginning", Ok(Position::Beginning));
        check("earliest", Ok(Position::Beginning));
        check("end", Ok(Position::End));
        check("latest", Ok(Position::End));
        check("42", Ok(Position::Offset(42)));
        check("@1700000000000", Ok(Position::Timestamp(1_700_000_000_000)));
        check("@1970-01-02", Ok(Position::Timestamp(86_400_000)));
        check("-1", Err(NotAPosition));
        check("@", Err(NotAPosition));
        check("middle", Err(NotAPosition));
    }
}
