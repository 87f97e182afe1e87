//! The request line.

/// The longest method there is a use for.
const METHOD_BYTES_MAX: usize = 32;

/// The parts of a request line, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    /// None: HTTP/0.9, whose requests name none.
    pub(crate) protocol: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// None if it is no request line: clients send what they like. A target may hold spaces that nobody encoded.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let space = line.iter().position(|&byte| byte == b' ')?;
        let (method, rest) = (&line[..space], line[space + 1..].trim_ascii());
        let is_method = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
        if !(1..=METHOD_BYTES_MAX).contains(&method.len()) || !method.iter().all(is_method) {
            return None;
        }
        let last_space = rest.iter().rposition(|&byte| byte == b' ');
        let (target, protocol) = match last_space.map(|at| rest.split_at(at)) {
            Some((target, protocol)) if protocol.starts_with(b" HTTP/") => {
                (target.trim_ascii_end(), Some(&protocol[1..]))
            }
            _ => (rest, None),
        };
        if target.is_empty() || (protocol.is_none() && target.starts_with(b"HTTP/")) {
            return None;
        }
        let (path, query) = match target.iter().position(|&byte| byte == b'?') {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        Some(Self { method, path, query, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: Option<(&str, &str, Option<&str>, Option<&str>)>) {
        let expect = expect.map(|(method, path, query, protocol)| Request {
            method: method.as_bytes(),
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            protocol: protocol.map(str::as_bytes),
        });
        assert_eq!(Request::parse(line.as_bytes()), expect);
    }

    #[test]
    fn request_lines() {
        check("GET / HTTP/1.1", Some(("GET", "/", None, Some("HTTP/1.1"))));
        check("M-SEARCH * HTTP/1.1", Some(("M-SEARCH", "*", None, Some("HTTP/1.1"))));
        check("GET /a?b=c?d HTTP/2.0", Some(("GET", "/a", Some("b=c?d"), Some("HTTP/2.0"))));
        check("GET /a b  c HTTP/1.0", Some(("GET", "/a b  c", None, Some("HTTP/1.0"))));
        check("GET /old", Some(("GET", "/old", None, None)));
        check(
            "CONNECT example.org:443 HTTP/1.1",
            Some(("CONNECT", "example.org:443", None, Some("HTTP/1.1"))),
        );
    }

    #[test]
    fn what_is_no_request_line() {
        for line in ["", "-", "GET", "GET ", "GET HTTP/1.1", " / HTTP/1.1", "\\x16\\x03\\x01 \\x00", "a=b /c"]
        {
            check(line, None);
        }
        check(&format!("{} / HTTP/1.1", "A".repeat(33)), None);
    }
}
