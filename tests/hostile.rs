//! What a node takes from peers that mean it harm: it goes on serving the others, in bounded memory.

#[path = "hostile/admin.rs"]
mod admin;
#[path = "support/node.rs"]
mod node;
#[path = "hostile/plugins.rs"]
mod plugins;
#[path = "support/wire_client.rs"]
mod wire_client;

use std::io::{Read, Write};
use std::net::Shutdown;

use millstream_record::{BatchBuilder, Compression, HEADER_BYTES, compress, crc32c, decompress};
use millstream_wire::api_versions_request::ApiVersionsRequest;
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::metadata_request::MetadataRequest;
use millstream_wire::{ApiKey, ErrorCode, encode_request};

use node::{Node, Settings};
use wire_client::{TIMESTAMP, WireClient, batch_of};

/// Half of what one bomb would take: caches, frames of 50 MB, and two batches at a time that are expanded to 64 MiB
/// at most.
const RSS_BYTES_MAX: u64 = 512 * 1024 * 1024;
const GIB: usize = 1024 * 1024 * 1024;
const TOPIC: &str = "bystander";

/// Records carry an old timestamp, and must not age away.
fn start() -> Node {
    let node = Node::start_with(Settings::default().with("log.retention.ms", "-1"));
    WireClient::new(node.connect()).create_topic(TOPIC, &[]);
    node
}

/// The node serves others, did not panic and did not grow.
fn assert_unharmed(node: Node) {
    assert_unharmed_within(node, RSS_BYTES_MAX);
}

fn assert_unharmed_within(mut node: Node, rss_bytes_max: u64) {
    assert!(node.is_running(), "{}", node.stderr());
    let mut client = WireClient::new(node.connect());
    let request = MetadataRequest { topics: None, ..Default::default() };
    assert!(!client.call(&request, 9).topics.is_empty());
    assert_eq!(client.produce(TOPIC, batch_of(b"unharmed")).error_code, ErrorCode::NONE);
    let rss_bytes = node.rss_bytes_peak();
    assert!(rss_bytes < rss_bytes_max, "the node took {} MiB", rss_bytes >> 20);
    let stopped = node.stop();
    let stderr = stopped.stderr();
    // A plugin's panic is a line of its log, and why its stage stops.
    let is_plugins = |line: &str| line.contains("WARN plugin: ") || line.contains("the plugin trapped");
    let panicked = stderr.lines().any(|line| line.contains("panicked") && !is_plugins(line));
    assert!(!panicked, "{stderr}");
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr());
}

/// Sends `bytes` and no more, and reads what comes until the node closes; no matter what, it does close.
fn answer_to(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = node.connect();
    // The node may hang up while we still send.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "answer to {bytes:?}");
    }
    answer
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len()).expect("a test's frame is short");
    [&length.to_be_bytes(), body].concat()
}

/// A repeatable source of bytes (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[test]
fn noise_is_hung_up_on() {
    let node = start();
    let mut noise = Noise(0x6d69_6c6c_7374_7265);
    for length in 1..200 {
        let bytes = noise.bytes(length);
        answer_to(&node, &bytes);
        answer_to(&node, &framed(&bytes));
    }
    assert_unharmed(node);
}

#[test]
fn impossible_lengths_are_hung_up_on() {
    let node = start();
    for length in [0, -1, i32::MIN, i32::MAX, 104_857_601] {
        let mut stream = node.connect();
        stream.write_all(&length.to_be_bytes()).unwrap();
        // Our side stays open: the node must not wait for what the length promises.
        let end = stream.read(&mut [0; 16]);
        assert_eq!(end.unwrap(), 0, "length {length}");
    }
    for length in [1, 7, 8, 9, 100_000_000] {
        let mut frame = i32::to_be_bytes(length).to_vec();
        frame.push(0);
        assert_eq!(answer_to(&node, &frame), b"", "length {length}");
    }
    assert_unharmed(node);
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let node = start();
    let mut client = WireClient::new(node.connect());
    let frame = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap().into_bytes();
    for byte in &frame {
        client.stream.write_all(&[*byte]).unwrap();
    }
    let response = client.receive::<ApiVersionsRequest<'_>>(1, 0);
    assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
    assert_unharmed(node);
}

/// Counts and lengths that nothing is behind: an `i32`, a compact length, tags, a varint without an end.
const BOMBS: [&[u8]; 5] = [
    b"\x7f\xff\xff\xff\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\x07\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

#[test]
fn a_small_frame_that_declares_billions_is_hung_up_on() {
    let node = start();
    for key in ApiKey::ALL {
        for version in key.versions() {
            let mut header = i16::from(*key).to_be_bytes().to_vec();
            header.extend(version.to_be_bytes());
            header.extend([0, 0, 0, 1, 0xff, 0xff]);
            if key.is_flexible(version) {
                let tags_bomb = [&header[..], b"\xff\xff\xff\xff\x0f\x01\xff\xff\xff\xff\x0f"].concat();
                assert_eq!(answer_to(&node, &framed(&tags_bomb)), b"", "tags before {key} v{version}");
                header.push(0);
            }
            // Wherever the first array of the body begins, one of these fillings ends there.
            for (bomb, filling) in BOMBS.iter().flat_map(|bomb| (0..4).map(move |filling| (bomb, filling))) {
                let body = [&header[..], &vec![0; filling * 2][..], bomb].concat();
                answer_to(&node, &framed(&body));
            }
        }
    }
    assert_unharmed(node);
}

/// A batch whose records section is `section`; what the header says of it fits, checksum and all.
fn batch_around(compression: Compression, section: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1000);
    builder.append(TIMESTAMP, Some(b"key"), Some(b"value"), []).expect("the limit leaves room");
    let mut batch = builder.finish().expect("it has a record");
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(section);
    let length = i32::try_from(batch.len() - 12).expect("a bomb is small");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&compression.id().to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// What expands to 1 GiB of zeros: every codec allows streams to follow each other.
fn bomb(compression: Compression) -> Vec<u8> {
    let part_bytes = 1024 * 1024;
    let mut part = Vec::new();
    compress(compression, &vec![0; part_bytes], &mut part).expect("memory can be written to");
    let mut expanded = Vec::new();
    decompress(compression, &part.repeat(2), 2 * part_bytes, &mut expanded).expect("two parts are valid");
    assert_eq!(expanded.len(), 2 * part_bytes, "{compression}");
    part.repeat(GIB / part_bytes)
}

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const LARGE_MESSAGES: (&str, &str) = ("max.message.bytes", "100000000");

#[test]
fn a_compacted_topic_does_not_inflate_a_bomb() {
    let node = start();
    let mut client = WireClient::new(node.connect());
    client.create_topic("compacted", &[("cleanup.policy", "compact"), LARGE_MESSAGES]);
    for compression in CODECS {
        let partition = client.produce("compacted", batch_around(compression, &bomb(compression)));
        assert_eq!(partition.error_code, ErrorCode::INVALID_RECORD, "{compression}");
    }
    assert_eq!(client.produce("compacted", batch_of(b"harmless")).base_offset, 0);
    assert_unharmed(node);
}

#[test]
fn a_search_by_timestamp_does_not_inflate_a_bomb() {
    let node = start();
    let mut client = WireClient::new(node.connect());
    for compression in CODECS {
        let name = format!("bombs-{compression}");
        client.create_topic(&name, &[LARGE_MESSAGES]);
        // Such a topic's batches stay closed when they come.
        let partition = client.produce(&name, batch_around(compression, &bomb(compression)));
        assert_eq!(partition.error_code, ErrorCode::NONE, "{compression}");
        for timestamp in [0, TIMESTAMP, -3] {
            let partition = ListOffsetsPartition { timestamp, ..Default::default() };
            let topic = ListOffsetsTopic { name: name.clone().into(), partitions: vec![partition] };
            let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
            let response = client.call(&request, 7);
            let partition = &response.topics[0].partitions[0];
            // The batch's only offset, whether or not its record can be looked at.
            assert_eq!((partition.error_code, partition.offset), (ErrorCode::NONE, 0), "{compression}");
        }
    }
    assert_unharmed(node);
}

/// What a bomb expands to was bounded for each of them; all of them together were not.
#[test]
fn many_bombs_are_opened_a_few_at_a_time() {
    let node = start();
    let mut client = WireClient::new(node.connect());
    client.create_topic("compacted", &[("cleanup.policy", "compact"), LARGE_MESSAGES]);
    std::thread::scope(|scope| {
        for compression in [Compression::Gzip, Compression::Zstd].into_iter().cycle().take(16) {
            let mut client = WireClient::new(node.connect());
            scope.spawn(move || {
                let partition = client.produce("compacted", batch_around(compression, &bomb(compression)));
                assert_eq!(partition.error_code, ErrorCode::INVALID_RECORD, "{compression}");
            });
        }
        // Meanwhile, others are served.
        for value in 0..10_u8 {
            assert_eq!(client.produce(TOPIC, batch_of(&[value])).base_offset, i64::from(value));
        }
    });
    assert_eq!(client.produce("compacted", batch_of(b"harmless")).base_offset, 0);
    assert_unharmed(node);
}

#[test]
fn half_frames_do_not_keep_others_from_being_served() {
    let node = start();
    let half_frames: Vec<_> = (0..500)
        .map(|index| {
            let mut stream = node.connect();
            // From a few bytes to more than all requests together may hold.
            let length: i32 = [1_000, 1_000_000, 100_000_000][index % 3];
            stream.write_all(&length.to_be_bytes()).expect("the node reads");
            stream.write_all(&[0, 0, 0, 9, 0, 0, 0, 1]).expect("the node reads");
            stream
        })
        .collect();
    let mut client = WireClient::new(node.connect());
    client.stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    for value in 0..10_u8 {
        assert_eq!(client.produce(TOPIC, batch_of(&[value])).base_offset, i64::from(value));
    }
    // A large one, too.
    assert_eq!(client.produce(TOPIC, batch_of(&vec![1; 900_000])).base_offset, 10);
    drop(half_frames);
    assert_unharmed(node);
}
