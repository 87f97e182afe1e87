//! The format of Kafka's `server.properties`: Java's properties, with line numbers and without silent repeats.

use std::iter::Peekable;
use std::str::Chars;

/// A key, its value, and the line that it starts on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    #[error("\\u needs four hexadecimal digits of a character")]
    UnicodeEscape { line: usize },
    #[error("the line has a value but no key")]
    NoKey { line: usize },
}

impl PropertiesError {
    pub fn line(&self) -> usize {
        match self {
            Self::UnicodeEscape { line } | Self::NoKey { line } => *line,
        }
    }
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let first = line.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        properties.push(property(&logical, number + 1)?);
    }
    Ok(properties)
}

/// A line goes on where it ends in an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn property(logical: &str, line: usize) -> Result<Property, PropertiesError> {
    let mut chars = logical.chars().peekable();
    let key = unescape(&mut chars, line, |c| c.is_ascii_whitespace() || matches!(c, '=' | ':'))?;
    if key.is_empty() {
        return Err(PropertiesError::NoKey { line });
    }
    skip_whitespace(&mut chars);
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        skip_whitespace(&mut chars);
    }
    let value = unescape(&mut chars, line, |_| false)?;
    Ok(Property { key, value: value.trim_end().to_owned(), line })
}

fn skip_whitespace(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(char::is_ascii_whitespace).is_some() {}
}

fn unescape(
    chars: &mut Peekable<Chars<'_>>,
    line: usize,
    ends: impl Fn(char) -> bool,
) -> Result<String, PropertiesError> {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unicode(chars).ok_or(PropertiesError::UnicodeEscape { line })?),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Ok(text)
}

fn unicode(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let found = parse(text).unwrap();
        let found: Vec<_> = found.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.line)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn javas_properties() {
        check("", &[]);
        check("# a\n! b\n\n  \n", &[]);
        check(
            "a=1\r\nb = 2 \n c:3\nd 4\ne\nf=",
            &[("a", "1", 1), ("b", "2", 2), ("c", "3", 3), ("d", "4", 4), ("e", "", 5), ("f", "", 6)],
        );
        check("dirs=/a,\\\n   /b\nnext=1", &[("dirs", "/a,/b", 1), ("next", "1", 3)]);
        check("p=C:\\\\x\\u0041 = b\nq=1\\\\", &[("p", "C:\\xA = b", 1), ("q", "1\\", 2)]);
        check("a\\=b=c\nend=\\", &[("a=b", "c", 1), ("end", "", 2)]);
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(parse("a=1\nb=\\u00g1"), Err(PropertiesError::UnicodeEscape { line: 2 }));
        assert_eq!(parse("\n=1"), Err(PropertiesError::NoKey { line: 2 }));
    }
}
