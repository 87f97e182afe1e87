//! Which versions of which API the client speaks, and which of them a broker shares.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use millstream_wire::ApiKey;
use millstream_wire::api_versions_response::ApiVersionsResponse;

/// The versions that the client's requests and answers are written for. The upper ends stay below the versions
/// that name topics by id (Fetch 13, Produce 13, OffsetCommit 10, OffsetFetch 10); the lower ends are
/// those of Kafka 3.0, which keeps to one shape of OffsetFetch.
pub(crate) const fn spoken_versions(key: ApiKey) -> Option<RangeInclusive<i16>> {
    Some(match key {
        ApiKey::ApiVersions => 0..=3,
        ApiKey::Metadata => 4..=12,
        ApiKey::FindCoordinator => 1..=3,
        ApiKey::JoinGroup => 4..=9,
        ApiKey::SyncGroup => 3..=5,
        ApiKey::Heartbeat => 3..=4,
        ApiKey::LeaveGroup => 3..=5,
        ApiKey::OffsetFetch => 8..=9,
        ApiKey::OffsetCommit => 7..=9,
        ApiKey::ListOffsets => 1..=7,
        ApiKey::Fetch => 4..=12,
        ApiKey::InitProducerId => 0..=4,
        ApiKey::Produce => 3..=12,
        ApiKey::DescribeConfigs => 1..=4,
        _ => return None,
    })
}

/// A broker has no version of an API in common with us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agree on a version of {key}: the broker offers {offered:?}, and we speak {spoken:?}")]
pub(crate) struct VersionError {
    key: ApiKey,
    offered: Option<RangeInclusive<i16>>,
    spoken: Option<RangeInclusive<i16>>,
}

/// What a broker offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfferedVersions(HashMap<i16, RangeInclusive<i16>>);

impl OfferedVersions {
    pub(crate) fn new(response: &ApiVersionsResponse<'_>) -> Self {
        let keys = response.api_keys.iter();
        Self(keys.map(|offer| (offer.api_key, offer.min_version..=offer.max_version)).collect())
    }

    /// The highest version that both sides know.
    pub(crate) fn choose(&self, key: ApiKey) -> Result<i16, VersionError> {
        let (offered, spoken) = (self.0.get(&i16::from(key)).cloned(), spoken_versions(key));
        if let (Some(offered), Some(spoken)) = (&offered, &spoken) {
            let highest = *offered.end().min(spoken.end());
            if highest >= *offered.start().max(spoken.start()) {
                return Ok(highest);
            }
        }
        Err(VersionError { key, offered, spoken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_wire::api_versions_response::ApiVersion;

    fn choose(min_version: i16, max_version: i16) -> Option<i16> {
        let offer = ApiVersion { api_key: ApiKey::Fetch.into(), min_version, max_version };
        let response = ApiVersionsResponse { api_keys: vec![offer], ..Default::default() };
        OfferedVersions::new(&response).choose(ApiKey::Fetch).ok()
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(choose(0, 10), Some(10), "theirs is lower");
        assert_eq!(choose(4, 99), Some(12), "ours is lower");
        assert_eq!(choose(12, 12), Some(12), "one in common");
        assert_eq!(choose(13, 18), None, "too new");
        assert_eq!(choose(0, 3), None, "too old");
        assert_eq!(choose(9, 5), None, "nonsense");
    }

    #[test]
    fn an_api_that_is_not_offered_is_named() {
        let error = OfferedVersions::default().choose(ApiKey::Produce).unwrap_err();
        assert!(error.to_string().contains("Produce"), "{error}");
    }

    #[test]
    fn what_is_spoken_can_be_written() {
        for &key in ApiKey::ALL {
            let Some(spoken) = spoken_versions(key) else { continue };
            assert!(spoken.end() <= key.versions().end(), "{key}");
            assert!(spoken.start() >= key.versions().start(), "{key}");
        }
    }
}
