//! ApiVersions: which APIs are served, in which versions.

use millstream_wire::api_versions_request::ApiVersionsRequest;
use millstream_wire::api_versions_response::{ApiVersion, ApiVersionsResponse};
use millstream_wire::{ApiKey, ErrorCode};

use super::RequestContext;
use crate::broker::Broker;

/// What clients may call themselves (`software.name`, `software.version`; KIP-511).
fn is_valid_software(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}

pub(super) async fn handle(
    _broker: &Broker,
    context: &RequestContext,
    request: ApiVersionsRequest<'_>,
) -> ApiVersionsResponse<'static> {
    let named = context.version >= 3;
    if named
        && !(is_valid_software(&request.client_software_name)
            && is_valid_software(&request.client_software_version))
    {
        return ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().map(|&api| served(api)).collect(),
        ..Default::default()
    }
}

/// The answer to a version that is not served: the versions that are (KIP-511).
pub(super) fn unsupported() -> ApiVersionsResponse<'static> {
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![served(ApiKey::ApiVersions)],
        ..Default::default()
    }
}

fn served(api: ApiKey) -> ApiVersion {
    let versions = api.advertised_versions();
    ApiVersion { api_key: api as i16, min_version: *versions.start(), max_version: *versions.end() }
}
