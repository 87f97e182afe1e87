//! Addresses to listen on and to tell clients.

use std::fmt;

use super::definition::{ConfigType, InvalidValue};
use super::value::ConfigValue;

/// `host:port`, with IPv6 hosts in brackets; an empty host is every interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    pub port: u16,
}

impl ConfigValue for HostPort {
    const TYPE: ConfigType = ConfigType::String;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(InvalidValue::NotAnAddress)?;
        let port = port.parse().map_err(|_| InvalidValue::NotAnAddress)?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(InvalidValue::NotAnAddress)?,
            // Without brackets it is unclear which colon ends the host.
            None if host.contains(':') => return Err(InvalidValue::NotAnAddress),
            None => host,
        };
        if bare.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(InvalidValue::NotAnAddress);
        }
        Ok(Self { host: bare.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `PLAINTEXT://host:port`; the scheme may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub address: HostPort,
}

impl Listener {
    pub const NAME: &'static str = "PLAINTEXT";
}

impl ConfigValue for Listener {
    const TYPE: ConfigType = ConfigType::String;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        let address = match text.trim().split_once("://") {
            Some((protocol, address)) if protocol.eq_ignore_ascii_case(Self::NAME) => address,
            Some((protocol, _)) => return Err(InvalidValue::SecurityProtocol(protocol.to_owned())),
            None => text,
        };
        HostPort::parse(address).map(|address| Self { address }).map_err(|_| InvalidValue::NotAListener)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", Self::NAME, self.address)
    }
}
