//! A line, understood.

use std::borrow::Cow;

use serde::Serialize;

use crate::line::{Line, LineError, excerpt, optional, text};
use crate::quoted::{Closing, unescape};
use crate::request::Request;
use crate::time::Time;

/// A line of an access log, as it is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) client: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    time: String,
    pub(crate) time_ms: i64,
    method: Option<Cow<'a, str>>,
    path: Option<Cow<'a, str>>,
    query: Option<Cow<'a, str>>,
    protocol: Option<Cow<'a, str>>,
    /// What stood in place of a request line.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Cow<'a, str>>,
    status: u16,
    bytes: u64,
    referrer: Option<Cow<'a, str>>,
    agent: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// `client ident user [time] "request" status bytes`, and in the combined format `"referrer" "agent"`. Servers
    /// are often told to add more fields, which are passed over.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        let mut rest = Line::new(line)?;
        let (client, user) = client_and_user(&mut rest, line)?;
        let time = rest.until(b"]").ok_or(LineError::Missing("end of the time"))?;
        let time = Time::parse(time)?;
        let space = rest.until(b" ").ok_or(LineError::Missing("request"))?;
        if !space.is_empty() {
            return Err(LineError::NotQuoted { field: "request", found: excerpt(space) });
        }
        let raw_request = rest.quoted("request", Closing::BeforeStatus)?;
        let status = status(rest.word("status")?)?;
        let bytes = bytes(rest.word("size")?)?;
        let (referrer, agent) = if rest.is_at_end() {
            (None, None)
        } else {
            let referrer = rest.quoted("referrer", Closing::BeforeQuote)?;
            (Some(referrer), Some(rest.quoted("agent", Closing::AtEnd)?))
        };
        let request = Request::parse(raw_request);
        Ok(Self {
            client: optional(client).map(text),
            user: optional(user).map(text),
            time: time.to_rfc3339(),
            time_ms: time.epoch_ms(),
            method: request.map(|request| text(request.method)),
            path: request.map(|request| plain(request.path)),
            query: request.and_then(|request| request.query).map(plain),
            protocol: request.and_then(|request| request.protocol).map(plain),
            request: if request.is_none() { optional(raw_request).map(plain) } else { None },
            status,
            bytes,
            referrer: referrer.and_then(optional).map(plain),
            agent: agent.and_then(optional).map(plain),
        })
    }
}

/// Takes the line up to and with the bracket that opens the time. The name that a user logs in with may hold
/// spaces, but only a plain `-` may stand before it then: else the fields are not the ones they seem to be, as in
/// a log that names the virtual host first.
fn client_and_user<'a>(rest: &mut Line<'a>, line: &[u8]) -> Result<(&'a [u8], &'a [u8]), LineError> {
    let unexpected = || LineError::Start(excerpt(line));
    let mut start = Line::new(rest.until(b" [").ok_or_else(unexpected)?).map_err(|_| unexpected())?;
    let client = start.word("client").map_err(|_| unexpected())?;
    let ident = start.word("ident").map_err(|_| unexpected())?;
    let user = start.remainder();
    let is_plain = !user.is_empty() && (ident == b"-" || !user.contains(&b' '));
    if is_plain { Ok((client, user)) } else { Err(unexpected()) }
}

fn status(word: &[u8]) -> Result<u16, LineError> {
    match *word {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Ok([a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
        }
        _ => Err(LineError::Status(excerpt(word))),
    }
}

fn bytes(word: &[u8]) -> Result<u64, LineError> {
    if word == b"-" {
        return Ok(0);
    }
    let digits = if word.iter().all(u8::is_ascii_digit) { str::from_utf8(word).ok() } else { None };
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| LineError::Bytes(excerpt(word)))
}

fn plain(field: &[u8]) -> Cow<'_, str> {
    match unescape(field) {
        Cow::Borrowed(bytes) => text(bytes),
        Cow::Owned(bytes) => Cow::Owned(text(&bytes).into_owned()),
    }
}
