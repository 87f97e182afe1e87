//! Fields in quotes.
//!
//! Apache writes `\"` for a quote and `\\` for a backslash, nginx `\x22` and `\x5C`; both write `\xhh` for what is
//! not printable. Other servers escape nothing, so a quote closes the field only where the line goes on as it
//! should behind it.

use std::borrow::Cow;

/// What has to follow a quote for it to close the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// A space and a status: the request, which comes from anybody who can open a connection.
    BeforeStatus,
    /// A space and another quote.
    BeforeQuote,
    /// A space or the end of the line; or no quote at all, because loggers cut long lines.
    AtEnd,
}

/// The field that begins `inside` its quotes, and what follows it.
pub(crate) fn split(inside: &[u8], closing: Closing) -> Option<(&[u8], &[u8])> {
    let split_at = |at: usize| (&inside[..at], &inside[at + 1..]);
    let mut at = 0;
    let mut might_close = None;
    while let Some(&byte) = inside.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' if closes(&inside[at + 1..], closing) => return Some(split_at(at)),
            b'"' if matches!(inside[at + 1..], [] | [b' ', ..]) && might_close.is_none() => {
                might_close = Some(at)
            }
            _ => {}
        }
        at += 1;
    }
    match closing {
        // What is wrong behind it is for the next field to say.
        Closing::BeforeStatus | Closing::BeforeQuote => might_close.map(split_at),
        Closing::AtEnd => Some((inside, &[])),
    }
}

fn closes(rest: &[u8], closing: Closing) -> bool {
    match (closing, rest) {
        (Closing::BeforeStatus, [b' ', a, b, c, b' ', ..]) => {
            [a, b, c].iter().all(|byte| byte.is_ascii_digit())
        }
        (Closing::BeforeQuote, [b' ', b'"', ..]) | (Closing::AtEnd, [] | [b' ', ..]) => true,
        _ => false,
    }
}

/// The field without its escapes. What is none stays as it is.
pub(crate) fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = field.iter().position(|&byte| byte == b'\\') else {
        return Cow::Borrowed(field);
    };
    let mut plain = field[..first].to_vec();
    let mut rest = &field[first..];
    while let Some((&byte, behind)) = rest.split_first() {
        let escape = if byte == b'\\' { escaped(behind) } else { None };
        let (byte, length) = escape.unwrap_or((byte, 0));
        plain.push(byte);
        rest = &behind[length..];
    }
    Cow::Owned(plain)
}

/// The byte that the escape behind a backslash stands for, and how long the escape is.
fn escaped(behind: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match *behind {
        [b'x', high, low, ..] => Some((digit(high)? << 4 | digit(low)?, 3)),
        [byte @ (b'"' | b'\\'), ..] => Some((byte, 1)),
        [b'n', ..] => Some((b'\n', 1)),
        [b'r', ..] => Some((b'\r', 1)),
        [b't', ..] => Some((b'\t', 1)),
        [b'v', ..] => Some((0x0b, 1)),
        [b'f', ..] => Some((0x0c, 1)),
        [b'b', ..] => Some((0x08, 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let check = |field: &str, expect: &[u8]| assert_eq!(*unescape(field.as_bytes()), *expect, "{field}");
        check("plain", b"plain");
        check(r#"say \"hi\" \\o/"#, br#"say "hi" \o/"#);
        check(r"\x22\x5C\xc3\xA9\t", b"\"\\\xc3\xa9\t");
        check(r"C:\Users \xzz \x4", br"C:\Users \xzz \x4");
        check("end\\", b"end\\");
    }

    #[test]
    fn a_quote_closes_where_the_line_goes_on() {
        let check = |inside: &str, closing, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(field, rest)| (field.as_bytes(), rest.as_bytes()));
            assert_eq!(split(inside.as_bytes(), closing), expect, "{inside}");
        };
        check(r#"GET /"a" HTTP/1.1" 404 -"#, Closing::BeforeStatus, Some((r#"GET /"a" HTTP/1.1"#, " 404 -")));
        check(r#"GET /" OK 5"#, Closing::BeforeStatus, Some(("GET /", " OK 5")));
        check(r#"\"" 200 5"#, Closing::BeforeStatus, Some((r#"\""#, " 200 5")));
        check(r#"GET /\" 200 5"#, Closing::BeforeStatus, None);
        check(r#"a "b" c" "agent""#, Closing::BeforeQuote, Some((r#"a "b" c"#, r#" "agent""#)));
        check("agent\" 0.003", Closing::AtEnd, Some(("agent", " 0.003")));
        check("cut o", Closing::AtEnd, Some(("cut o", "")));
    }
}
