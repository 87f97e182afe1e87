//! One request and its answer, typed, at a version that both sides know.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_wire::api_versions_request::ApiVersionsRequest;
use millstream_wire::{
    Api, ApiKey, DecodeError, EncodeError, ErrorCode, Message, Reader, Request, decode_response_header,
    encode_request,
};
use tokio::sync::OnceCell;

use super::transport::{Transport, TransportError};
use super::versions::{OfferedVersions, VersionError};

/// How long an answer may take, beyond what the request itself allows the broker to wait.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The length in front of a frame, which the transport sets itself.
const LENGTH_PREFIX_BYTES: usize = 4;

/// The version of ApiVersions that any broker answers in a form that can be read.
const API_VERSIONS_FALLBACK: i16 = 0;

const CLIENT_SOFTWARE_NAME: &str = "millstream";

/// Why a request has no answer that can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("get an answer to {key} within {} s", timeout.as_secs())]
    Timeout { key: ApiKey, timeout: Duration },
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error("encode a {key} request")]
    Encode {
        key: ApiKey,
        #[source]
        source: EncodeError,
    },
    #[error("decode a {key} answer")]
    Decode {
        key: ApiKey,
        #[source]
        source: DecodeError,
    },
    #[error("match an answer to {key}: its correlation id is {found} instead of {expected}")]
    Correlation { key: ApiKey, expected: i32, found: i32 },
    #[error("learn the broker's versions: {0}")]
    ApiVersions(ErrorCode),
}

/// A transport on which both sides have agreed what to speak.
pub(crate) struct Connection<T> {
    transport: T,
    client_id: String,
    correlation_id: AtomicI32,
    versions: OnceCell<OfferedVersions>,
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(transport: T, client_id: &str) -> Self {
        Self {
            transport,
            client_id: client_id.to_owned(),
            correlation_id: AtomicI32::new(0),
            versions: OnceCell::new(),
        }
    }

    /// Sends a request and reads its answer. What is kept of the answer is the caller's choice: `read` sees it
    /// while it borrows from the frame, and gets the frame beside it, to share what it need not copy.
    pub(crate) async fn call<'r, R: Request<'r>, O>(
        &self,
        request: &R,
        read: impl FnOnce(<R::Api as Api>::Response<'_>, &Bytes) -> O,
    ) -> Result<O, CallError> {
        self.call_within(REQUEST_TIMEOUT, request, read).await
    }

    /// The same for a request that lets the broker wait longer.
    pub(crate) async fn call_within<'r, R: Request<'r>, O>(
        &self,
        timeout: Duration,
        request: &R,
        read: impl FnOnce(<R::Api as Api>::Response<'_>, &Bytes) -> O,
    ) -> Result<O, CallError> {
        let version = self.versions().await?.choose(R::API_KEY)?;
        self.call_at(version, timeout, request, read).await
    }

    async fn versions(&self) -> Result<&OfferedVersions, CallError> {
        self.versions.get_or_try_init(|| self.negotiate()).await
    }

    async fn negotiate(&self) -> Result<OfferedVersions, CallError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_SOFTWARE_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let read = |response: <<ApiVersionsRequest<'_> as Request<'_>>::Api as Api>::Response<'_>,
                    _: &Bytes| (response.error_code, OfferedVersions::new(&response));
        for version in [3, API_VERSIONS_FALLBACK] {
            // A broker that does not know our version answers in version 0, whose error code comes first.
            let answer = self.call_raw(version, REQUEST_TIMEOUT, &request).await?;
            let key = ApiKey::ApiVersions;
            let body = self.body(&answer, key, version)?;
            let code = Reader::new(body).read_error_code("ApiVersionsResponse.ErrorCode");
            let code = code.map_err(|source| CallError::Decode { key, source })?;
            if code == ErrorCode::UNSUPPORTED_VERSION && version != API_VERSIONS_FALLBACK {
                continue;
            }
            let (code, offered) = decode::<ApiVersionsRequest<'_>, _>(body, version, &answer.frame, read)?;
            if code.is_error() {
                return Err(CallError::ApiVersions(code));
            }
            return Ok(offered);
        }
        Err(CallError::ApiVersions(ErrorCode::UNSUPPORTED_VERSION))
    }

    async fn call_at<'r, R: Request<'r>, O>(
        &self,
        version: i16,
        timeout: Duration,
        request: &R,
        read: impl FnOnce(<R::Api as Api>::Response<'_>, &Bytes) -> O,
    ) -> Result<O, CallError> {
        let answer = self.call_raw(version, timeout, request).await?;
        let body = self.body(&answer, R::API_KEY, version)?;
        decode::<R, O>(body, version, &answer.frame, read)
    }

    async fn call_raw<'r, R: Request<'r>>(
        &self,
        version: i16,
        timeout: Duration,
        request: &R,
    ) -> Result<Answer, CallError> {
        let key = R::API_KEY;
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode_request(request, version, correlation_id, Some(&self.client_id));
        let frame = frame.map_err(|source| CallError::Encode { key, source })?;
        let request = frame.into_bytes().slice(LENGTH_PREFIX_BYTES..);
        let chunks = tokio::time::timeout(timeout, self.transport.call(request)).await;
        let chunks = chunks.map_err(|_| CallError::Timeout { key, timeout })??;
        Ok(Answer { correlation_id, frame: in_one_piece(chunks) })
    }

    /// What follows the answer's header, once the header has been checked.
    fn body<'a>(&self, answer: &'a Answer, key: ApiKey, version: i16) -> Result<&'a [u8], CallError> {
        let mut reader = Reader::new(&answer.frame);
        let header = decode_response_header(&mut reader, key, version);
        let found = header.map_err(|source| CallError::Decode { key, source })?.correlation_id;
        let expected = answer.correlation_id;
        if found != expected {
            return Err(CallError::Correlation { key, expected, found });
        }
        Ok(reader.rest())
    }
}

/// A frame as it came, and the request that it should belong to.
struct Answer {
    correlation_id: i32,
    frame: Bytes,
}

fn decode<'r, R: Request<'r>, O>(
    body: &[u8],
    version: i16,
    frame: &Bytes,
    read: impl FnOnce(<R::Api as Api>::Response<'_>, &Bytes) -> O,
) -> Result<O, CallError> {
    let response = <R::Api as Api>::Response::decode(&mut Reader::new(body), version);
    let response = response.map_err(|source| CallError::Decode { key: R::API_KEY, source })?;
    Ok(read(response, frame))
}

/// Decoding borrows from one slice. A broker in the process answers a Fetch in chunks that share its cache: this
/// is the one copy that records undergo on their way to a stage, and it also lets go of the cache.
fn in_one_piece(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() }
}
