//! What an API key says about versions and headers.

use std::fmt;
use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError};

impl ApiKey {
    /// The versions of the API that are served.
    pub const fn versions(self) -> RangeInclusive<i16> {
        let (version_min, version_max) = self.version_bounds();
        version_min..=version_max
    }

    /// The versions to advertise. Produce claims to begin at 0: old librdkafka takes a higher
    /// minimum as a broker that knows neither gzip, snappy nor lz4, and Kafka 4 does the same.
    pub const fn advertised_versions(self) -> RangeInclusive<i16> {
        let (version_min, version_max) = self.version_bounds();
        match self {
            Self::Produce => 0..=version_max,
            _ => version_min..=version_max,
        }
    }

    /// Whether a version has compact types and tagged fields. Versions beyond the served ones
    /// have an answer too: the header of an ApiVersions request of the future must be readable.
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.first_flexible_version() {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// The version of the header in front of a request.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response. ApiVersions has version 0 for ever: the
    /// client does not know yet what the broker understands.
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ => self.is_flexible(version) as i16,
        }
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = DecodeError;

    fn try_from(code: i16) -> Result<Self, DecodeError> {
        Self::from_code(code).ok_or(DecodeError::UnknownApiKey(code))
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> Self {
        key as i16
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
