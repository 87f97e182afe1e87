//! Whole frames and whole records: a body behind its header, a message behind its version.

use std::borrow::Cow;

use bytes::Bytes;

use crate::request_header::RequestHeader;
use crate::response_header::ResponseHeader;
use crate::{AnyResponse, ApiKey, CoordinatorKey, DecodeError, EncodeError, Frame, FrameWriter};
use crate::{Message, Reader, Request, Response};

/// Reads a request's header and leaves the reader at the body. The API key must be known; the
/// version may be one that is not served, because ApiVersions must answer to any.
pub fn decode_request_header<'a>(
    reader: &mut Reader<'a>,
) -> Result<(ApiKey, RequestHeader<'a>), DecodeError> {
    let mut peek = reader.clone();
    let key = ApiKey::try_from(peek.read_i16("RequestHeader.RequestApiKey")?)?;
    let version = peek.read_i16("RequestHeader.RequestApiVersion")?;
    let header = RequestHeader::decode(reader, key.request_header_version(version))?;
    Ok((key, header))
}

/// Reads a response's header and leaves the reader at the body.
pub fn decode_response_header(
    reader: &mut Reader<'_>,
    key: ApiKey,
    version: i16,
) -> Result<ResponseHeader, DecodeError> {
    ResponseHeader::decode(reader, key.response_header_version(version))
}

/// A request as a frame, with its header and the length in front.
pub fn encode_request<'a, R: Request<'a>>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Frame, EncodeError> {
    let mut writer = FrameWriter::new();
    let header = RequestHeader {
        request_api_key: R::API_KEY.into(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(Cow::Borrowed),
    };
    header.encode(&mut writer, R::API_KEY.request_header_version(version))?;
    request.encode(&mut writer, version)?;
    writer.into_frame()
}

/// A response as a frame, with its header and the length in front.
pub fn encode_response<'a, R: Response<'a>>(
    response: &R,
    version: i16,
    correlation_id: i32,
) -> Result<Frame, EncodeError> {
    frame_response(R::API_KEY, version, correlation_id, |writer| response.encode(writer, version))
}

impl AnyResponse<'_> {
    /// The response as a frame, with its header and the length in front.
    pub fn encode_frame(&self, version: i16, correlation_id: i32) -> Result<Frame, EncodeError> {
        frame_response(self.api_key(), version, correlation_id, |writer| self.encode(writer, version))
    }
}

fn frame_response(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    encode_body: impl FnOnce(&mut FrameWriter) -> Result<(), EncodeError>,
) -> Result<Frame, EncodeError> {
    let mut writer = FrameWriter::new();
    ResponseHeader { correlation_id }.encode(&mut writer, key.response_header_version(version))?;
    encode_body(&mut writer)?;
    writer.into_frame()
}

/// A message behind two bytes of version: a subscription, an assignment, a record's value.
pub fn encode_versioned<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = FrameWriter::new();
    writer.write_i16(version);
    message.encode(&mut writer, version)?;
    Ok(writer.into_body())
}

/// Reads a message behind its version and says which it was. Bytes behind it are ignored.
pub fn decode_versioned<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<(i16, M), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.read_i16(M::NAME)?;
    Ok((version, M::decode(&mut reader, version)?))
}

/// Like [`decode_versioned`], but reads a version from the future as the newest that is known:
/// what the consumer protocol's messages promise to allow.
pub fn decode_versioned_forward<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<(i16, M), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.read_i16(M::NAME)?;
    Ok((version, M::decode(&mut reader, version.min(M::VERSION_MAX))?))
}

/// A coordinator record's key, behind two bytes of its type.
pub fn encode_coordinator_key<'a, K: CoordinatorKey<'a>>(key: &K) -> Result<Bytes, EncodeError> {
    let mut writer = FrameWriter::new();
    writer.write_i16(K::RECORD_TYPE);
    key.encode(&mut writer, K::VERSION_MIN)?;
    Ok(writer.into_body())
}

/// The type of the record that a key belongs to; compare with [`CoordinatorKey::RECORD_TYPE`].
pub fn coordinator_record_type(key: &[u8]) -> Result<i16, DecodeError> {
    Reader::new(key).read_i16("CoordinatorKey.RecordType")
}

/// Reads the key whose type [`coordinator_record_type`] said.
pub fn decode_coordinator_key<'a, K: CoordinatorKey<'a>>(key: &'a [u8]) -> Result<K, DecodeError> {
    let mut reader = Reader::new(key);
    reader.read_i16(K::NAME)?;
    K::decode(&mut reader, K::VERSION_MIN)
}
