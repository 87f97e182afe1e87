//! Compares with what Kafka's own Java implementation writes; see `golden/Golden.java`.

#![expect(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use millstream_wire::fetch_request::FetchRequest;
use millstream_wire::*;

/// What was set in a golden message before it was written.
const DEFAULTS: u8 = 0;
const FULL: u8 = 1;

struct Golden {
    version: i16,
    filling: u8,
    body: Vec<u8>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read_text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn read_golden(name: &str) -> Vec<Golden> {
    let path = folder().join("messages").join(name).with_extension("bin");
    let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader::new(&file);
    let mut messages = Vec::new();
    while !reader.rest().is_empty() {
        let version = reader.read_i16("version").unwrap();
        let filling = reader.read_i8("filling").unwrap().unsigned_abs();
        let body = reader.read_bytes(false, "body").map(Cow::into_owned).unwrap();
        messages.push(Golden { version, filling, body });
    }
    messages
}

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Result<bytes::Bytes, EncodeError> {
    let mut writer = FrameWriter::new();
    message.encode(&mut writer, version)?;
    Ok(writer.into_body())
}

fn check<'a, M: Message<'a>>(golden: &'a [Golden]) {
    let name = M::NAME;
    for Golden { version, filling, body } in golden {
        let mut reader = Reader::new(body);
        let message = M::decode(&mut reader, *version);
        let message = message.unwrap_or_else(|error| panic!("{name} {version} {filling}: {error}"));
        assert_eq!(reader.finish(), Ok(()), "{name} {version} {filling}");
        let again = encode(&message, *version).unwrap();
        assert_eq!(again, body, "{name} {version} {filling}: {message:?}");
    }
    let versions: BTreeSet<i16> = golden.iter().map(|golden| golden.version).collect();
    assert!(versions.into_iter().eq(M::versions()), "{name}: golden versions are those served");
    for version in M::versions() {
        let ours = encode(&M::default(), version);
        let theirs = golden.iter().find(|golden| golden.version == version && golden.filling == DEFAULTS);
        match theirs {
            Some(golden) => assert_eq!(ours.unwrap(), golden.body, "{name} {version}: defaults"),
            None => assert!(matches!(ours, Err(EncodeError::UnexpectedNull { .. })), "{name} {version}"),
        }
    }
}

macro_rules! check_all {
    ($($message:path,)*) => {
        $(check::<$message>(&read_golden(<$message>::NAME));)*
    };
}

#[test]
fn every_version_is_read_and_written_as_by_kafka() {
    for_each_message!(check_all);
}

/// The same order of bytes could hide a pair of fields that changed places: the fillings count up,
/// so the values tell.
#[test]
fn fields_get_their_own_values() {
    let golden = read_golden("FetchRequest");
    let full = golden.iter().find(|golden| golden.version == 18 && golden.filling == FULL).unwrap();
    let fetch = FetchRequest::decode(&mut Reader::new(&full.body), 18).unwrap();
    assert_eq!(fetch.max_wait_ms, 0x0101_0101);
    assert_eq!(fetch.min_bytes, 0x0202_0202);
    assert_eq!(fetch.max_bytes, 0x0303_0303);
    assert_eq!(fetch.isolation_level, -4);
    assert_eq!(fetch.topics.len(), 2);
    assert_eq!(fetch.topics[0].topic, "");
    assert_eq!(fetch.topics[0].topic_id.as_u64_pair(), (7, !7));
    let partition = &fetch.topics[0].partitions[0];
    assert_eq!(partition.partition, 0x0808_0808);
    assert_eq!(partition.replica_directory_id.as_u64_pair(), (14, !14));
    assert_eq!(partition.high_watermark, -0x0f0f_0f0f_0f0f_0f0f);
    assert!(fetch.cluster_id.is_some());
    assert_eq!(fetch.replica_id, -1);
}

#[test]
fn versions_and_headers_are_kafkas() {
    let mut served = BTreeSet::new();
    for line in read_text("apis.txt").lines() {
        let columns: Vec<&str> = line.split(' ').collect();
        let [code, name, version, request_header, response_header] = columns[..] else {
            panic!("unexpected line {line}")
        };
        let Ok(key) = ApiKey::try_from(code.parse::<i16>().unwrap()) else { continue };
        let version = version.parse().unwrap();
        assert_eq!(key.name(), name);
        assert!(key.versions().contains(&version), "{line}");
        assert_eq!(key.request_header_version(version).to_string(), request_header, "{line}");
        assert_eq!(key.response_header_version(version).to_string(), response_header, "{line}");
        served.insert((key, version));
    }
    let ours = ApiKey::ALL.iter().flat_map(|key| key.versions().map(|version| (*key, version)));
    assert!(served.into_iter().eq(ours), "every version that is served is one of Kafka's");
}

#[test]
fn error_codes_are_kafkas() {
    let ours: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("{} {} {}", code.0, code.name().unwrap(), code.is_retriable()))
        .collect();
    assert_eq!(ours, read_text("errors.txt").lines().collect::<Vec<_>>());
}
