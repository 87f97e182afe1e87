//! Requests, responses, and how they lie in a frame.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use uuid::Uuid;

use crate::codec::{self, DecodeError, EncodeError, Encoded, VALUE_BYTES_MAX};
use crate::ids::BrokerId;
use crate::metadata::ClusterId;

/// Of every message so far.
pub(super) const VERSION: i16 = 0;
/// A value, and what the frame and the codec add.
pub(super) const FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + 1024;
/// What is read of a peer that has not said who it is.
pub(super) const HELLO_BYTES_MAX: usize = 4 * 1024;
/// Longest text of an error.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// A kind of request.
pub(crate) trait Call: Encoded + Send + Sync {
    /// Private keys begin at 10,000: Kafka's own will not get there.
    const API_KEY: i16;
    type Response: Encoded + Send;
}

/// A broker, and the disk that makes it this one: a number that comes back with another disk is somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: BrokerId,
    pub(crate) incarnation: Uuid,
}

/// The first message of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// None of a broker that belongs to no cluster yet, and wants to.
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) from: Member,
    /// Whom it thinks that it speaks to; none if it knows no more than an address.
    pub(crate) to: Option<BrokerId>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) cluster_id: ClusterId,
    pub(crate) member: Member,
}

impl Encoded for Hello {
    const KIND: u8 = 8;
}

impl Encoded for Welcome {
    const KIND: u8 = 9;
}

impl Call for Hello {
    const API_KEY: i16 = 10_000;
    type Response = Welcome;
}

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a frame declares {0} bytes")]
    Length(i32),
    #[error("a frame of {0} bytes is cut off")]
    Truncated(usize),
    #[error("the response is for request {found}, not {expected}")]
    Correlation { expected: i32, found: i32 },
    #[error("a status of {0}")]
    Status(i16),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What came in front of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestHeader {
    pub(super) api_key: i16,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

const REQUEST_HEADER_BYTES: usize = 8;
const RESPONSE_HEADER_BYTES: usize = 6;

pub(super) fn request<C: Call>(call: &C, correlation_id: i32) -> Result<Vec<u8>, MessageError> {
    let header =
        [&C::API_KEY.to_be_bytes()[..], &VERSION.to_be_bytes(), &correlation_id.to_be_bytes()].concat();
    Ok(framed(&header, &codec::encode(call)?))
}

/// `Err` is why the request was refused.
pub(super) fn response(correlation_id: i32, answer: &Result<Vec<u8>, String>) -> Vec<u8> {
    let (status, body) = match answer {
        Ok(body) => (0i16, &body[..]),
        Err(reason) => (1, &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)]),
    };
    framed(&[&correlation_id.to_be_bytes()[..], &status.to_be_bytes()].concat(), body)
}

fn framed(header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(header.len() + body.len()).expect("the codec bounds a value");
    [&length.to_be_bytes()[..], header, body].concat()
}

pub(super) fn split_request(frame: &[u8]) -> Result<(RequestHeader, &[u8]), MessageError> {
    let (header, body) =
        frame.split_first_chunk::<REQUEST_HEADER_BYTES>().ok_or(MessageError::Truncated(frame.len()))?;
    let [k0, k1, v0, v1, correlation @ ..] = *header;
    let header = RequestHeader {
        api_key: i16::from_be_bytes([k0, k1]),
        version: i16::from_be_bytes([v0, v1]),
        correlation_id: i32::from_be_bytes(correlation),
    };
    Ok((header, body))
}

/// `Ok(Err(..))` is the other side's refusal.
pub(super) fn split_response(
    frame: &[u8],
    correlation_id: i32,
) -> Result<Result<&[u8], String>, MessageError> {
    let (header, body) =
        frame.split_first_chunk::<RESPONSE_HEADER_BYTES>().ok_or(MessageError::Truncated(frame.len()))?;
    let [c0, c1, c2, c3, status @ ..] = *header;
    let found = i32::from_be_bytes([c0, c1, c2, c3]);
    if found != correlation_id {
        return Err(MessageError::Correlation { expected: correlation_id, found });
    }
    match i16::from_be_bytes(status) {
        0 => Ok(Ok(body)),
        1 => Ok(Err(String::from_utf8_lossy(body).into_owned())),
        status => Err(MessageError::Status(status)),
    }
}

/// The next frame; none where the peer has closed between two. Memory is taken as bytes come, not as they are declared.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, MessageError> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let declared = i32::from_be_bytes(length);
    let wanted = usize::try_from(declared).ok().filter(|wanted| *wanted <= bytes_max);
    let wanted = wanted.ok_or(MessageError::Length(declared))?;
    let mut frame = Vec::new();
    let read = stream.take(wanted as u64).read_to_end(&mut frame).await?;
    if read < wanted {
        return Err(MessageError::Truncated(read));
    }
    Ok(Some(frame))
}

pub(super) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> Result<(), MessageError> {
    stream.write_all(frame).await?;
    Ok(stream.flush().await?)
}
