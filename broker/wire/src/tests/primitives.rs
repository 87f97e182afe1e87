//! The reader and the writer, one property each.

use std::borrow::Cow;

use bytes::{Buf, Bytes};

use crate::fetch_response::{FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
use crate::group_metadata_key::GroupMetadataKey;
use crate::metadata_request::MetadataRequest;
use crate::offset_commit_key::OffsetCommitKey;
use crate::*;

#[track_caller]
fn check_read<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    expected: Result<T, DecodeError>,
) {
    assert_eq!(read(&mut Reader::new(bytes)), expected);
}

#[test]
fn varints_end_at_32_bits() {
    let read = |reader: &mut Reader<'_>| reader.read_uvarint("f");
    check_read(&[0x00], read, Ok(0));
    check_read(&[0xff, 0x01], read, Ok(255));
    check_read(&[0x80, 0x00], read, Ok(0));
    check_read(&[0xff, 0xff, 0xff, 0xff, 0x0f], read, Ok(u32::MAX));
    check_read(&[0xff, 0xff, 0xff, 0xff, 0x1f], read, Err(DecodeError::VarintTooLong { field: "f" }));
    check_read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], read, Err(DecodeError::VarintTooLong { field: "f" }));
    check_read(&[0x80], read, Err(DecodeError::Truncated { field: "f" }));
    for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
        let mut writer = FrameWriter::new();
        writer.write_uvarint(value);
        check_read(&writer.into_body(), read, Ok(value));
    }
}

#[test]
fn lengths_are_null_or_not_negative() {
    let classic = |reader: &mut Reader<'_>| reader.read_nullable_string(false, "f").map(|_| ());
    check_read(&[0xff, 0xff], classic, Ok(()));
    check_read(&[0xff, 0xfe], classic, Err(DecodeError::InvalidLength { field: "f", length: -2 }));
    check_read(&[0x00, 0x01, 0xff], classic, Err(DecodeError::InvalidUtf8 { field: "f" }));
    check_read(&[0x00, 0x02, b'a'], classic, Err(DecodeError::Truncated { field: "f" }));
    let not_null = |reader: &mut Reader<'_>| reader.read_string(false, "f").map(|_| ());
    check_read(&[0xff, 0xff], not_null, Err(DecodeError::UnexpectedNull { field: "f" }));
    // 32,768 bytes: one more than Kafka's strings may have.
    let compact = |reader: &mut Reader<'_>| reader.read_string(true, "f").map(|_| ());
    let too_long = Err(DecodeError::InvalidLength { field: "f", length: 32_768 });
    check_read(&[0x81, 0x80, 0x02], compact, too_long);
    let bytes = |reader: &mut Reader<'_>| reader.read_nullable_bytes(false, "f").map(|_| ());
    check_read(
        &[0x80, 0, 0, 0],
        bytes,
        Err(DecodeError::InvalidLength { field: "f", length: -2_147_483_648 }),
    );
}

#[test]
fn counts_are_held_against_bytes_and_memory() {
    let array = |reader: &mut Reader<'_>| {
        reader
            .read_array(false, 2, "f", |reader| reader.read_nullable_string(false, "e"))
            .map(|array| array.len())
    };
    let too_many = DecodeError::CountTooLarge { field: "f", count: 3, remaining: 5 };
    check_read(&[0, 0, 0, 3, 0, 0, 0, 0, 0], array, Err(too_many));
    check_read(&[0, 0, 0, 2, 0, 0, 0, 0, 0], array, Ok(2));
    let frame = [0, 0, 0, 2, 0, 0, 0, 0];
    let memory = 2 * size_of::<Option<Cow<'_, str>>>();
    assert_eq!(array(&mut Reader::with_memory_limit(&frame, memory)), Ok(2));
    let error = array(&mut Reader::with_memory_limit(&frame, memory - 1));
    assert_eq!(error, Err(DecodeError::TooLarge { field: "f" }));
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_are_held_to_their_size() {
    let read = |reader: &mut Reader<'_>| {
        let mut known = 0;
        reader.read_tagged("m", |tag, reader| {
            if tag == 1 {
                known = reader.read_i16("m.known")?;
            }
            Ok(tag == 1)
        })?;
        Ok(known)
    };
    check_read(&[2, 0, 3, 9, 9, 9, 1, 2, 0, 7], read, Ok(7));
    check_read(&[1, 1, 3, 0, 7, 0], read, Err(DecodeError::TagSizeMismatch { field: "m" }));
    check_read(&[1, 1, 1, 0, 7], read, Err(DecodeError::TagSizeMismatch { field: "m" }));
    check_read(&[1, 0, 9, 0], read, Err(DecodeError::Truncated { field: "m" }));
    check_read(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], read, Err(DecodeError::Truncated { field: "m" }));
}

#[test]
fn a_long_tagged_field_moves_to_make_room_for_its_size() {
    for length in [0, 1, 126, 127, 128, 129, 16_381, 16_382, 16_383, 30_000] {
        let text = "x".repeat(length);
        let mut writer = FrameWriter::new();
        writer.write_uvarint(1);
        let mark = writer.begin_tagged(5);
        writer.write_string(&text, true, "m.text").unwrap();
        writer.end_tagged(mark).unwrap();
        writer.write_i8(42);
        let body = writer.into_body();
        let mut reader = Reader::new(&body);
        let mut read = None;
        reader
            .read_tagged("m", |tag, reader| {
                read = Some((tag, reader.read_string(true, "m.text")?.into_owned()));
                Ok(true)
            })
            .unwrap();
        assert_eq!(read, Some((5, text)));
        assert_eq!(reader.rest(), [42]);
    }
}

#[test]
fn a_value_that_the_version_would_lose_is_refused() {
    let encode = |request: &MetadataRequest<'_>, version| request.encode(&mut FrameWriter::new(), version);
    let all = MetadataRequest { topics: None, ..Default::default() };
    let field = "MetadataRequest.Topics";
    assert_eq!(encode(&all, 0), Err(EncodeError::UnexpectedNull { field, version: 0 }));
    assert_eq!(encode(&all, 1), Ok(()));
    let quiet = MetadataRequest { allow_auto_topic_creation: false, ..Default::default() };
    let field = "MetadataRequest.AllowAutoTopicCreation";
    assert_eq!(encode(&quiet, 3), Err(EncodeError::FieldNotInVersion { field, version: 3 }));
    assert_eq!(encode(&quiet, 4), Ok(()));
    let long = "x".repeat(40_000);
    let topic = metadata_request::MetadataRequestTopic { name: Some(long.into()), ..Default::default() };
    let long = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let field = "MetadataRequestTopic.Name";
    assert_eq!(encode(&long, 4), Err(EncodeError::TooLong { field, length: 40_000 }));
}

/// A response with two partitions, of which the first has large records in two chunks.
fn fetch_response(chunks: Vec<Bytes>) -> FetchResponse<'static> {
    let partition = |index, records| PartitionData {
        partition_index: index,
        current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 },
        records: Some(records),
        ..Default::default()
    };
    let partitions = vec![
        partition(0, Records::from_chunks(chunks)),
        partition(1, Records::from(Bytes::from_static(b"small"))),
    ];
    let topic = FetchableTopicResponse { topic: "t".into(), partitions, ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

#[test]
fn records_are_spliced_into_the_frame_and_shared_out_of_it() {
    let large = Bytes::from(vec![7; SPLICE_BYTES_MIN]);
    let response = fetch_response(vec![large.clone(), large.clone()]);
    let mut frame = encode_response(&response, 12, 99).unwrap();
    let spliced = frame.chunks().filter(|chunk| chunk.as_ptr() == large.as_ptr()).count();
    assert_eq!(spliced, 2, "not copied");
    assert_eq!(frame.chunks().count(), 4);

    let length = frame.get_i32();
    assert_eq!(usize::try_from(length), Ok(frame.len()));
    let bytes = frame.into_bytes();
    let mut reader = Reader::new(&bytes);
    let header = decode_response_header(&mut reader, ApiKey::Fetch, 12).unwrap();
    assert_eq!(header.correlation_id, 99);
    let decoded = FetchResponse::decode(&mut reader, 12).unwrap();
    assert_eq!(decoded, response);
    let records = decoded.responses[0].partitions[0].records.as_ref().unwrap();
    let shared = records.share(&bytes);
    assert_eq!(shared.len(), 2 * SPLICE_BYTES_MIN);
    assert!(bytes.as_ptr_range().contains(&shared.as_ptr()), "shared with the frame");
    assert_eq!(format!("{records:?}"), "Records(2048 bytes)");
}

#[test]
fn a_frame_can_be_sent_in_any_steps() {
    let response = fetch_response(vec![Bytes::from(vec![1; 3000]), Bytes::from(vec![2; 2000])]);
    let frame = encode_response(&response, 12, 1).unwrap();
    let whole = frame.clone().into_bytes();
    for step in [1, 7, 1000, 4000, whole.len()] {
        let mut rest = frame.clone();
        let mut sent = Vec::new();
        while rest.has_remaining() {
            let mut slices = [std::io::IoSlice::new(&[]); 2];
            assert!(rest.chunks_vectored(&mut slices) > 0);
            assert_eq!(&*slices[0], rest.chunk());
            let count = step.min(rest.remaining());
            sent.extend_from_slice(&rest.copy_to_bytes(count));
        }
        assert_eq!(sent, whole);
        assert!(rest.is_empty());
    }
    let joined: Vec<u8> = frame.into_chunks().concat();
    assert_eq!(joined, whole);
}

#[test]
fn a_request_is_read_back_from_its_frame() {
    let request = MetadataRequest { topics: None, ..Default::default() };
    for version in MetadataRequest::versions().skip(1) {
        let mut frame = encode_request(&request, version, 5, Some("me")).unwrap();
        frame.advance(4);
        let body = frame.into_bytes();
        let mut reader = Reader::new(&body);
        let (key, header) = decode_request_header(&mut reader).unwrap();
        assert_eq!((key, header.request_api_version, header.correlation_id), (ApiKey::Metadata, version, 5));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        let decoded = AnyRequest::decode(&mut reader, key, version).unwrap();
        assert_eq!(decoded, request.clone().into());
        assert_eq!(reader.finish(), Ok(()));
    }
}

/// The client of a future version must get an answer that it can read.
#[test]
fn the_header_of_a_future_api_versions_request_is_readable() {
    let bytes = [0, 18, 0, 99, 0, 0, 0, 1, 0, 2, b'm', b'e', 0];
    let (key, header) = decode_request_header(&mut Reader::new(&bytes)).unwrap();
    assert_eq!((key, header.request_api_version), (ApiKey::ApiVersions, 99));
    assert!(!key.versions().contains(&header.request_api_version));
    let unknown = decode_request_header(&mut Reader::new(&[0x03, 0xe7, 0, 0]));
    assert_eq!(unknown, Err(DecodeError::UnknownApiKey(999)));
    assert_eq!(ApiKey::Produce.advertised_versions(), 0..=13);
}

#[test]
fn coordinator_keys_say_their_type() {
    let offset = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 };
    let bytes = encode_coordinator_key(&offset).unwrap();
    assert_eq!(&bytes[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    assert_eq!(coordinator_record_type(&bytes), Ok(OffsetCommitKey::RECORD_TYPE));
    assert_eq!(decode_coordinator_key(&bytes), Ok(offset));
    let group = encode_coordinator_key(&GroupMetadataKey { group: "g".into() }).unwrap();
    assert_eq!(coordinator_record_type(&group), Ok(GroupMetadataKey::RECORD_TYPE));
    assert!(coordinator_record_type(&[0]).is_err());
}

#[test]
fn a_subscription_of_the_future_is_read_as_the_newest_known() {
    use crate::consumer_protocol_subscription::ConsumerProtocolSubscription;
    let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
    let mut bytes = encode_versioned(&subscription, 3).unwrap().to_vec();
    bytes[1] = 9;
    bytes.push(0xaa);
    assert_eq!(decode_versioned_forward(&bytes), Ok((9, subscription)));
    let strict = decode_versioned::<ConsumerProtocolSubscription<'_>>(&bytes);
    let message = "ConsumerProtocolSubscription";
    assert_eq!(strict, Err(DecodeError::UnsupportedVersion { message, version: 9 }));
}
