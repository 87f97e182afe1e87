//! The catalogue of APIs: keys, the pairs of request and response, and the sums over all.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::{Message, MessageKind};

struct Pair<'m> {
    request: &'m Message,
    response: &'m Message,
}

pub(super) fn catalogue(messages: &[Message]) -> Result<String, String> {
    let pairs = pairs(messages)?;
    let mut code = api_key(&pairs);
    code.push_str(&markers(&pairs));
    code.push_str(&any(&pairs, "Request"));
    code.push_str(&any(&pairs, "Response"));
    code.push_str(&macros(messages, &pairs));
    Ok(code)
}

/// Requests and their responses, by API key.
fn pairs(messages: &[Message]) -> Result<BTreeMap<i16, Pair<'_>>, String> {
    let of_kind = |kind| messages.iter().filter(move |message| message.kind == kind);
    let mut pairs = BTreeMap::new();
    for request in of_kind(MessageKind::Request) {
        let key = request.api_key.ok_or(format!("{}: no API key", request.name))?;
        let response = of_kind(MessageKind::Response)
            .find(|response| response.api_key == Some(key))
            .ok_or(format!("{}: no response", request.name))?;
        let same = request.versions == response.versions
            && request.first_flexible == response.first_flexible
            && request.api_name() == response.api_name();
        if !same {
            return Err(format!("{} and {} do not agree", request.name, response.name));
        }
        if pairs.insert(key, Pair { request, response }).is_some() {
            return Err(format!("{}: its API key is taken", request.name));
        }
    }
    if pairs.len() != of_kind(MessageKind::Response).count() {
        return Err("a response has no request".to_owned());
    }
    Ok(pairs)
}

fn api_key(pairs: &BTreeMap<i16, Pair<'_>>) -> String {
    let mut variants = String::new();
    let (mut all, mut names, mut codes, mut bounds, mut flexible) =
        (String::new(), String::new(), String::new(), String::new(), String::new());
    for (key, pair) in pairs {
        let api = pair.request.api_name();
        let (low, high) = pair.request.versions.bounds().unwrap_or_default();
        let _ = writeln!(variants, "    {api} = {key},");
        let _ = write!(all, "Self::{api}, ");
        let _ = writeln!(names, "            Self::{api} => \"{api}\",");
        let _ = writeln!(codes, "            {key} => Self::{api},");
        let _ = writeln!(bounds, "            Self::{api} => ({low}, {high}),");
        let _ = writeln!(flexible, "            Self::{api} => {:?},", pair.request.first_flexible);
    }
    format!(
        "/// The APIs that are served, by Kafka's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ApiKey {{
{variants}}}

impl ApiKey {{
    /// All APIs in the order of their keys.
    pub const ALL: &[Self] = &[{all}];

    /// Kafka's name for the API.
    pub const fn name(self) -> &'static str {{
        match self {{
{names}        }}
    }}

    pub(crate) const fn from_code(code: i16) -> Option<Self> {{
        Some(match code {{
{codes}            _ => return None,
        }})
    }}

    pub(crate) const fn version_bounds(self) -> (i16, i16) {{
        match self {{
{bounds}        }}
    }}

    /// The first version with compact types and tagged fields.
    pub const fn first_flexible_version(self) -> Option<i16> {{
        match self {{
{flexible}        }}
    }}
}}
"
    )
}

fn markers(pairs: &BTreeMap<i16, Pair<'_>>) -> String {
    let mut code = String::from(
        "/// One type per API, for code that is generic over them: see [`Api`](crate::Api).\npub mod api {\n",
    );
    for pair in pairs.values() {
        let api = pair.request.api_name();
        let _ = write!(
            code,
            "    #[derive(Clone, Copy, Debug, Default)]
    pub struct {api};

    impl crate::Api for {api} {{
        const KEY: crate::ApiKey = crate::ApiKey::{api};
        type Request<'a> = super::{};
        type Response<'a> = super::{};
    }}

",
            path(pair.request),
            path(pair.response)
        );
    }
    code.push_str("}\n\n");
    code
}

fn any(pairs: &BTreeMap<i16, Pair<'_>>, side: &str) -> String {
    let (mut variants, mut keys, mut decode, mut encode) =
        (String::new(), String::new(), String::new(), String::new());
    for pair in pairs.values() {
        let message = if side == "Request" { pair.request } else { pair.response };
        let api = message.api_name();
        let _ = writeln!(variants, "    {api}({}),", path(message));
        let _ = writeln!(keys, "            Self::{api}(_) => ApiKey::{api},");
        let _ = writeln!(
            decode,
            "            ApiKey::{api} => Self::{api}(crate::Message::decode(reader, version)?),"
        );
        let _ = writeln!(
            encode,
            "            Self::{api}(message) => crate::Message::encode(message, writer, version),"
        );
    }
    let lower = side.to_lowercase();
    format!(
        "/// A {lower} of any API.
#[derive(Clone, Debug, PartialEq)]
pub enum Any{side}<'a> {{
{variants}}}

impl<'a> Any{side}<'a> {{
    pub const fn api_key(&self) -> ApiKey {{
        match self {{
{keys}        }}
    }}

    /// Reads the body of a {lower}.
    pub fn decode(
        reader: &mut crate::Reader<'a>,
        key: ApiKey,
        version: i16,
    ) -> Result<Self, crate::DecodeError> {{
        Ok(match key {{
{decode}        }})
    }}

    /// Writes the body of a {lower}.
    pub fn encode(&self, writer: &mut crate::FrameWriter, version: i16) -> Result<(), crate::EncodeError> {{
        match self {{
{encode}        }}
    }}
}}

"
    )
}

fn path(message: &Message) -> String {
    let borrows = message.structs.first().is_some_and(|structure| structure.borrows);
    format!("{}::{}{}", message.module, message.name, if borrows { "<'a>" } else { "" })
}

fn macros(messages: &[Message], pairs: &BTreeMap<i16, Pair<'_>>) -> String {
    let apis: String = pairs.values().map(|pair| format!("{}, ", pair.request.api_name())).collect();
    let all: String =
        messages.iter().map(|message| format!("{}::{}, ", message.module, message.name)).collect();
    format!(
        "/// Calls a macro with the names of all APIs, in the order of their keys: each is a variant of
/// [`ApiKey`], [`AnyRequest`] and [`AnyResponse`], and a type in [`api`].
#[macro_export]
macro_rules! for_each_api {{
    ($callback:ident) => {{
        $callback! {{ {apis} }}
    }};
}}

/// Calls a macro with the paths (within this crate, without lifetimes) of all messages.
#[macro_export]
macro_rules! for_each_message {{
    ($callback:ident) => {{
        $callback! {{ {all} }}
    }};
}}
"
    )
}
