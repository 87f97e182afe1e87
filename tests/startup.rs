//! How a node begins and ends: what keeps it from starting is one clear line, and what it held is there again.
#![expect(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

#[path = "support/node.rs"]
mod node;
#[path = "support/wire_client.rs"]
mod wire_client;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use millstream_wire::ErrorCode;
use millstream_wire::describe_cluster_request::DescribeClusterRequest;
use redb::{Database, ReadableDatabase, TableDefinition};

use node::{Node, Settings, command, run_to_end};
use wire_client::{WireClient, batch_of};

const ANY_PORT: &str = "127.0.0.1:0";
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// The command fails with `code`, and says why in one line that holds each of `words`.
fn assert_refused(command: &mut Command, code: i32, words: &[&str]) {
    let ended = run_to_end(command.env("MILLSTREAM_LOG", "off"));
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "it never was ready");
    let lines: Vec<_> = ended.stderr.lines().collect();
    let [line] = lines[..] else { panic!("{} lines:\n{}", lines.len(), ended.stderr) };
    assert!(line.starts_with("error: "), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

#[test]
fn sigterm_is_a_clean_end() {
    let stopped = Node::start().stop();
    assert_eq!(stopped.status.code(), Some(0), "{}", stopped.stderr());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    assert_refused(&mut command(home.path(), &address, ANY_PORT), FAILED, &[&address, "--listen"]);
    assert_refused(&mut command(home.path(), ANY_PORT, &address), FAILED, &[&address, "--admin"]);
}

#[test]
fn a_data_directory_has_one_process() {
    let mut node = Node::start();
    let dir = node.data_dir();
    let words = [&dir.display().to_string()[..], "process"];
    assert_refused(&mut command(&dir, ANY_PORT, ANY_PORT), FAILED, &words);
    assert!(node.is_running());
    let mut client = WireClient::new(node.connect());
    client.create_topic("undisturbed", &[]);
    assert_eq!(client.produce("undisturbed", batch_of(b"value")).error_code, ErrorCode::NONE);
}

#[test]
fn a_data_directory_must_be_a_directory() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for dir in [file.clone(), file.join("below")] {
        let path = dir.display().to_string();
        assert_refused(&mut command(&dir, ANY_PORT, ANY_PORT), FAILED, &[&path]);
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "not a directory");
}

#[test]
fn unknown_and_invalid_settings_are_usage_errors() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let config = home.path().join("server.properties");
    let cases = [
        ("log.retention.mss=5\n", &["server.properties:1", "log.retention.mss", "log.retention.ms"][..]),
        ("node.id=2\n\nnum.partitions=none\n", &["server.properties:3", "num.partitions", "none"]),
    ];
    for (text, words) in cases {
        fs::write(&config, text).unwrap();
        let mut up = command(&data, ANY_PORT, ANY_PORT);
        assert_refused(up.arg("--config").arg(&config), USAGE, words);
    }
    let mut up = command(&data, ANY_PORT, ANY_PORT);
    let variable = "MILLSTREAM_CONFIG_NO_SUCH_KEY";
    assert_refused(up.env(variable, "1"), USAGE, &[variable, "no.such.key"]);
    assert!(!data.exists(), "nothing was made for a node that can't be");
}

/// The row of a segment that says in which format it is.
const SEGMENT: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("segment");
const SEGMENT_HEADER: u8 = 0;
const FORMAT_VERSION_AT: usize = 1;

/// Makes a segment say that it is of the newest format that there can be.
fn raise_format(segment: &Path) {
    let db = Database::open(segment).unwrap();
    let read = db.begin_read().unwrap();
    let header = read.open_table(SEGMENT).unwrap().get(SEGMENT_HEADER).unwrap().unwrap();
    let mut header = header.value().to_vec();
    header[FORMAT_VERSION_AT..FORMAT_VERSION_AT + 2].copy_from_slice(&u16::MAX.to_le_bytes());
    let write = db.begin_write().unwrap();
    write.open_table(SEGMENT).unwrap().insert(SEGMENT_HEADER, &header[..]).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_newer_format_is_left_alone() {
    let node = Node::start();
    WireClient::new(node.connect()).create_topic("stored", &[]);
    let stopped = node.stop();
    let dir = stopped.data_dir();
    let segments = fs::read_dir(dir.join("log-0")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        segments.filter(|path| path.extension().is_some_and(|e| e == "redb")).collect();
    segments.sort();
    let newest = segments.last().expect("a log dir has a segment");
    raise_format(newest);
    let words = [&newest.display().to_string()[..], "65535"];
    assert_refused(&mut command(&dir, ANY_PORT, ANY_PORT), FAILED, &words);
}

fn cluster_id(client: &mut WireClient) -> String {
    client.call(&DescribeClusterRequest::default(), 0).cluster_id.into_owned()
}

#[test]
fn a_second_start_finds_the_cluster_and_its_records() {
    let node = Node::start_with(Settings::default().with("log.retention.ms", "-1"));
    let mut client = WireClient::new(node.connect());
    let id = cluster_id(&mut client);
    assert!(!id.is_empty());
    client.create_topic("kept", &[]);
    assert_eq!(client.produce("kept", batch_of(b"first")).base_offset, 0);
    let node = node.stop().start();
    let mut client = WireClient::new(node.connect());
    assert_eq!(cluster_id(&mut client), id);
    assert_eq!(client.produce("kept", batch_of(b"second")).base_offset, 1);
    // What was acknowledged is there after a kill, too.
    let node = node.kill().start();
    let mut client = WireClient::new(node.connect());
    assert_eq!(cluster_id(&mut client), id);
    assert_eq!(client.produce("kept", batch_of(b"third")).base_offset, 2);
}

/// Without its metadata a node took every log for one of a deleted topic, and deleted it.
#[test]
fn a_node_that_lost_its_metadata_deletes_nothing() {
    let node = Node::start_with(Settings::default().with("log.retention.ms", "-1"));
    let mut client = WireClient::new(node.connect());
    client.create_topic("kept", &[]);
    assert_eq!(client.produce("kept", batch_of(b"kept")).error_code, ErrorCode::NONE);
    drop(client);
    let stopped = node.stop();
    let data = stopped.data_dir();
    let (file, elsewhere) = (data.join("meta.redb"), data.join("meta.redb.lost"));
    fs::rename(&file, &elsewhere).unwrap();
    let words = ["log-", "cluster", "restore the data directory that goes with it"];
    assert_refused(&mut command(&data, ANY_PORT, ANY_PORT), FAILED, &words);
    fs::rename(&elsewhere, &file).unwrap();
    let node = stopped.start();
    let mut client = WireClient::new(node.connect());
    assert_eq!(client.produce("kept", batch_of(b"next")).base_offset, 1);
}
