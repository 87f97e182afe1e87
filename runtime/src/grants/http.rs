//! Which hosts a plugin may call: `https://api.example.com`, `http://hooks.internal:8080`, `https://*.example.org`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name that the DNS has, and the longest of its parts.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Parts behind `*.` at least: less would be a registry's.
const WILDCARD_LABELS_MIN: usize = 2;

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A host and its port, as a pipeline grants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostGrant {
    scheme: Scheme,
    host: GrantedHost,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum GrantedHost {
    One(OriginHost),
    /// Every name that ends with a point and this, however deep.
    Below(String),
}

/// A host, as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OriginHost {
    /// In small letters, without a point at its end.
    Name(String),
    Address(IpAddr),
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) host: OriginHost,
    pub(crate) port: u16,
}

/// Why a text grants no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostGrantError {
    #[error("{0:?} does not begin with \"http://\" or \"https://\"")]
    Scheme(String),
    #[error("{0:?} names no host")]
    NoHost(String),
    #[error("{0:?} has something behind the host and its port: all paths of a host are granted")]
    Path(String),
    #[error("{0:?} has a user: grant a secret for that")]
    User(String),
    #[error("{0:?} has a port that is not a number from 1 to 65535")]
    Port(String),
    #[error("{0:?} has a host that is neither a name of letters, digits and \"-\" nor an IP address in full")]
    Host(String),
    #[error("{0:?}: \"*.\" stands in front of a name of two parts or more, and nowhere else")]
    Wildcard(String),
}

impl HostGrant {
    /// Whether a request may go there.
    pub(crate) fn allows(&self, origin: &Origin) -> bool {
        let host = match (&self.host, &origin.host) {
            (GrantedHost::One(granted), host) => granted == host,
            (GrantedHost::Below(suffix), OriginHost::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|front| front.ends_with('.'))
            }
            (GrantedHost::Below(_), OriginHost::Address(_)) => false,
        };
        host && (self.scheme, self.port) == (origin.scheme, origin.port)
    }
}

impl FromStr for HostGrant {
    type Err = HostGrantError;

    fn from_str(text: &str) -> Result<Self, HostGrantError> {
        let owned = || text.to_owned();
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            (None, None) => return Err(HostGrantError::Scheme(owned())),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(HostGrantError::Path(owned()));
        }
        if rest.contains('@') {
            return Err(HostGrantError::User(owned()));
        }
        let (host, port) = split_port(rest).ok_or_else(|| HostGrantError::Port(owned()))?;
        if host.is_empty() {
            return Err(HostGrantError::NoHost(owned()));
        }
        let host = match host.strip_prefix("*.") {
            Some(suffix) => match OriginHost::parse(suffix) {
                Some(OriginHost::Name(name)) if name.split('.').count() >= WILDCARD_LABELS_MIN => {
                    GrantedHost::Below(name)
                }
                _ => return Err(HostGrantError::Wildcard(owned())),
            },
            None if host.contains('*') => return Err(HostGrantError::Wildcard(owned())),
            None => GrantedHost::One(OriginHost::parse(host).ok_or_else(|| HostGrantError::Host(owned()))?),
        };
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }
}

impl Origin {
    /// None if that is no host that could be granted.
    pub(crate) fn new(scheme: Scheme, authority: &str) -> Option<Self> {
        let (host, port) = split_port(authority)?;
        Some(Self { scheme, host: OriginHost::parse(host)?, port: port.unwrap_or(scheme.default_port()) })
    }
}

impl OriginHost {
    fn parse(host: &str) -> Option<Self> {
        if let Some(inner) = host.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(is_legal)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Resolvers take "127.1" and "0x7f000001" for addresses.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !is_number;
        is_name.then_some(Self::Name(name))
    }
}

/// None if there is a port that is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let behind_address = text.rfind(']').map_or(0, |at| at + 1);
    let Some(at) = text[behind_address..].find(':') else { return Some((text, None)) };
    let (host, port) = text.split_at(behind_address + at);
    let port = &port[1..];
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| port.parse().ok()).flatten().filter(|&port: &u16| port > 0)?;
    Some((host, Some(port)))
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        match &self.host {
            GrantedHost::One(host) => write!(f, "{host}")?,
            GrantedHost::Below(suffix) => write!(f, "*.{suffix}")?,
        }
        write_port(f, self.scheme, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        write_port(f, self.scheme, self.port)
    }
}

impl fmt::Display for OriginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, scheme: Scheme, port: u16) -> fmt::Result {
    if port == scheme.default_port() { Ok(()) } else { write!(f, ":{port}") }
}

impl From<HostGrant> for String {
    fn from(grant: HostGrant) -> Self {
        grant.to_string()
    }
}

impl TryFrom<String> for HostGrant {
    type Error = HostGrantError;

    fn try_from(text: String) -> Result<Self, HostGrantError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        let (scheme, authority) = url.split_once("://").unwrap();
        Origin::new(if scheme == "https" { Scheme::Https } else { Scheme::Http }, authority)
    }

    #[test]
    fn a_grant_allows_its_host_by_scheme_and_port_and_nothing_else() {
        let allowed = |grant: &str, url: &str| {
            let grant: HostGrant = grant.parse().unwrap();
            origin(url).is_some_and(|origin| grant.allows(&origin))
        };
        for (grant, url) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://api.example.com", "https://API.example.com.:443"),
            ("https://API.example.com:443", "https://api.example.com"),
            ("http://hooks.internal:8080", "http://hooks.internal:8080"),
            ("https://*.example.org", "https://a.b.example.org"),
            ("http://127.0.0.1:81", "http://127.0.0.1:81"),
            ("http://[::1]:81", "http://[0:0::1]:81"),
        ] {
            assert!(allowed(grant, url), "{grant} {url}");
        }
        for (grant, url) in [
            ("https://api.example.com", "http://api.example.com"),
            ("https://api.example.com", "https://api.example.com:8443"),
            ("https://api.example.com", "https://api.example.com.evil.test"),
            ("https://*.example.org", "https://example.org"),
            ("https://*.example.org", "https://evilexample.org"),
            ("https://*.example.org", "https://.example.org"),
            ("https://*.example.org", "https://a%2eexample.org"),
            ("http://127.0.0.1", "http://[::ffff:127.0.0.1]"),
            ("http://localhost", "http://127.0.0.1"),
            ("https://api.example.com", "https://user@api.example.com"),
        ] {
            assert!(!allowed(grant, url), "{grant} {url}");
        }
        for host in
            ["127.1", "2130706433", "0x7f000001", "0x7f.1", "127.0.0.1.", "a..b", "-a.b", "a b", "[::1"]
        {
            assert_eq!(Origin::new(Scheme::Http, host), None, "{host}");
        }
    }

    #[test]
    fn a_grant_is_shown_as_it_is_written_and_mistakes_are_named() {
        for text in
            ["https://api.example.com", "http://a:8080", "https://*.example.org:444", "http://[::1]:81"]
        {
            assert_eq!(text.parse::<HostGrant>().unwrap().to_string(), text);
        }
        assert_eq!("https://a.b:443".parse::<HostGrant>().unwrap().to_string(), "https://a.b");
        let refused = |text: &str| text.parse::<HostGrant>().unwrap_err();
        let owned = str::to_owned;
        for text in ["api.example.com", "ftp://a.b", "", "HTTP//a"] {
            assert_eq!(refused(text), HostGrantError::Scheme(owned(text)));
        }
        for text in ["https://a.b/", "https://a.b/hook", "https://a.b?x", "http://a#"] {
            assert_eq!(refused(text), HostGrantError::Path(owned(text)));
        }
        for text in ["https://a.b:", "https://a.b:0", "https://a.b:70000", "https://a.b:+1", "http://[::1]:x"]
        {
            assert_eq!(refused(text), HostGrantError::Port(owned(text)));
        }
        for text in ["https://*", "https://*.com", "https://a.*.b", "https://*a.b", "https://*.1.2"] {
            assert_eq!(refused(text), HostGrantError::Wildcard(owned(text)));
        }
        for text in
            ["https://127.1", "https://a..b", "https://schl\u{fc}ssel.de", "https://[::1", "http://::1"]
        {
            assert!(
                matches!(refused(text), HostGrantError::Host(_) | HostGrantError::Port(_)),
                "{:?}",
                refused(text)
            );
        }
        assert_eq!(refused("https://"), HostGrantError::NoHost(owned("https://")));
        assert_eq!(refused("https://u@a.b"), HostGrantError::User(owned("https://u@a.b")));
    }
}
