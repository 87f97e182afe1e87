//! What the fuzz targets run; `tests/hostile.rs` runs the same on random inputs.

use millstream_wire::consumer_protocol_assignment::ConsumerProtocolAssignment;
use millstream_wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millstream_wire::group_metadata_key::GroupMetadataKey;
use millstream_wire::group_metadata_value::GroupMetadataValue;
use millstream_wire::offset_commit_key::OffsetCommitKey;
use millstream_wire::offset_commit_value::OffsetCommitValue;
use millstream_wire::{
    AnyRequest, AnyResponse, ApiKey, CoordinatorKey, DecodeError, FrameWriter, Message, Reader,
    coordinator_record_type, decode_coordinator_key, decode_request_header, decode_versioned,
    decode_versioned_forward, encode_versioned,
};

/// A request as the network brings it: header and body. What can be read can be written, and is
/// read again as the same.
pub(crate) fn decode_request(frame: &[u8]) {
    let mut reader = Reader::new(frame);
    let Ok((key, header)) = decode_request_header(&mut reader) else { return };
    let version = header.request_api_version;
    let Ok(request) = AnyRequest::decode(&mut reader, key, version) else { return };
    assert_eq!(request.api_key(), key);
    let mut writer = FrameWriter::new();
    request.encode(&mut writer, version).expect("what was read can be written");
    let body = writer.into_body();
    assert_eq!(AnyRequest::decode(&mut lenient(&body), key, version), Ok(request));
}

/// A response as a follower or a client of ours gets it: two bytes choose API and version.
pub(crate) fn decode_response(input: &[u8]) {
    let [api, version, body @ ..] = input else { return };
    let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let version = key.versions().start() + i16::from(*version) % (key.versions().count() as i16);
    let Ok(response) = AnyResponse::decode(&mut Reader::new(body), key, version) else { return };
    let mut writer = FrameWriter::new();
    response.encode(&mut writer, version).expect("what was read can be written");
    let body = writer.into_body();
    assert_eq!(AnyResponse::decode(&mut lenient(&body), key, version), Ok(response));
}

/// The messages that travel inside others or lie in a log.
pub(crate) fn decode_record(input: &[u8]) {
    if coordinator_record_type(input) == Ok(OffsetCommitKey::RECORD_TYPE) {
        ends::<OffsetCommitKey>(decode_coordinator_key(input));
    }
    if coordinator_record_type(input) == Ok(GroupMetadataKey::RECORD_TYPE) {
        ends::<GroupMetadataKey>(decode_coordinator_key(input));
    }
    rewritten::<OffsetCommitValue>(decode_versioned(input));
    rewritten::<GroupMetadataValue>(decode_versioned(input));
    rewritten::<ConsumerProtocolAssignment>(decode_versioned(input));
    ends::<(i16, ConsumerProtocolSubscription)>(decode_versioned_forward(input));
}

/// Reading ended: with what is not the question.
fn ends<T>(_: Result<T, DecodeError>) {}

fn rewritten<'a, M: Message<'a>>(decoded: Result<(i16, M), DecodeError>) {
    if let Ok((version, message)) = decoded {
        encode_versioned(&message, version).expect("what was read can be written");
    }
}

/// A body that was read from a long frame and written again may be short: unknown tagged fields
/// are gone. It must not fail for the memory limit that follows from its length.
fn lenient(body: &[u8]) -> Reader<'_> {
    Reader::with_memory_limit(body, usize::MAX)
}
