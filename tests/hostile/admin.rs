//! What the admin listener takes from clients and plugins that mean it harm.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Node, TOPIC, WireClient, assert_unharmed, batch_of, start};
use crate::node::PATIENCE;

const HOSTILE: &str = env!("GUEST_HOSTILE");

/// Sends a request, and its body as far as the node takes it within a second or two.
pub(super) fn send(node: &Node, method: &str, path: &str, content_length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.admin()).expect("the node accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {content_length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    stream
}

/// Status and body of an answer.
pub(super) fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("answers are text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), body.unwrap_or_default())
}

pub(super) fn ask(node: &Node, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    answer(send(node, method, path, body.len(), body))
}

pub(super) fn upload(node: &Node, plugin: &[u8]) -> (String, u16, String) {
    let sha256 = Sha256::digest(plugin).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes what is written");
        hex
    });
    let (status, body) = ask(node, "PUT", &format!("/v1/plugins/{sha256}"), plugin);
    (sha256, status, body)
}

/// A request to check a pipeline of one stage with this plugin.
pub(super) fn pipeline_with(sha256: &str, config: &str, limits: &str) -> Vec<u8> {
    let text = format!(
        "pipeline: p\nplugins: {{a: {{file: a.wasm, config: {config}, limits: {limits}}}}}\n\
         stages: {{s: {{from: {TOPIC}, plugin: a, to: {TOPIC}-out}}}}\ntopics: {{{TOPIC}-out: {{partitions: 1}}}}\n"
    );
    json!({"file": "p.yaml", "text": text, "plugins": {"a.wasm": sha256}}).to_string().into_bytes()
}

/// A component with a transform's export and one function of about so many bytes, all of whose variables are alive
/// everywhere: an allocator of registers needs memory and time for it that grow faster than it does.
fn bomb(function_bytes: usize) -> Vec<u8> {
    const VARIABLES: usize = 2000;
    let mut body = String::new();
    // What an iteration takes in binary.
    for i in 0..function_bytes / 18 {
        let variable = |step: usize| 1 + (i * step) % VARIABLES;
        let (a, b, c) = (variable(7919), variable(104_729), variable(31));
        write!(
            body,
            "(block (br_if 0 (local.get {a})) (local.set {a} (i32.add (local.get {b}) (local.get {c}))))"
        )
        .expect("a string takes what is written");
    }
    let locals = "i32 ".repeat(VARIABLES);
    let text = format!(
        r#"(component (core module (func (param i32) (result i32) (local {locals}) {body} (local.get 1)))
            (component $c) (instance $i (instantiate $c))
            (export "millstream:plugin/transform-batch@0.2.0" (instance $i)))"#
    );
    wat::parse_str(text).expect("it is a component")
}

/// Symptom: a component of 7 MB took the node 6 GB and minutes. Cause: it was compiled in the node's own process, without
/// a limit. Fix: what is plainly too much is refused unread; the rest is compiled in a process that has limits.
#[test]
fn a_component_that_is_hard_to_compile_takes_nothing_from_the_node() {
    let node = start();
    let (_, status, said) = upload(&node, &bomb(7_000_000));
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("has a function of"), "{said}");
    let (sha256, status, said) = upload(&node, &bomb(1_000_000));
    assert_eq!(status, 204, "{said}");
    let check = send_check(&node, &pipeline_with(&sha256, "null", "{}"));
    let mut client = WireClient::new(node.connect());
    for value in 0..10_u8 {
        assert_eq!(client.produce(TOPIC, batch_of(&[value])).base_offset, i64::from(value));
    }
    let (status, said) = answer(check);
    let problems: Vec<Value> = serde_json::from_str(&said).expect("problems are JSON");
    assert_eq!((status, problems.len()), (200, 1), "{said}");
    let message = problems[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("compiling the plugin took more than"), "{message}");
    assert_unharmed(node);
}

pub(super) fn send_check(node: &Node, request: &[u8]) -> TcpStream {
    send(node, "POST", "/v1/pipelines/validate", request.len(), request)
}

/// Symptom: consumers that read old records had no answer, while and long after clients had pipelines checked whose plugin
/// never starts. Cause: the checks took the threads that such reads need, for as long as the plugin might take to start.
/// Fix: they have one thread, and only for as long as somebody waits.
#[test]
fn plugins_that_never_start_do_not_keep_others_from_being_served() {
    let node = start();
    let plugin = std::fs::read(HOSTILE).expect("the guest was built");
    let (sha256, status, said) = upload(&node, &plugin);
    assert_eq!(status, 204, "{said}");
    let endless = pipeline_with(&sha256, "{never_start: true}", "{init_timeout_ms: 30000}");
    let checks: Vec<_> = (0..40).map(|_| send_check(&node, &endless)).collect();
    let mut client = WireClient::new(node.connect());
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    for value in 0..10_u8 {
        assert_eq!(client.produce(TOPIC, batch_of(&[value])).base_offset, i64::from(value));
    }
    // Some wait, the others were refused at once.
    let refused = checks.into_iter().filter(|check| {
        check.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
        let mut first = [0; 12];
        matches!((&*check).read(&mut first), Ok(12) if first == *b"HTTP/1.1 503")
    });
    assert!(refused.count() >= 20, "not all of them may wait");
    // Nobody waits any more: it is somebody else's turn well before those could have ended.
    let harmless = send_check(&node, &pipeline_with(&sha256, "null", "{}"));
    harmless.set_read_timeout(Some(Duration::from_secs(25))).expect("a timeout can be set");
    let (status, said) = answer(harmless);
    assert_eq!((status, said.as_str()), (200, "[]"));
    // And a node that stops gives up what it is at.
    let _waiting = send_check(&node, &endless);
    assert_unharmed(node);
}

/// Symptom: SIGTERM did not end the node. Cause: it waited for every client of the admin listener to send the rest of its
/// request. Fix: for a few seconds.
#[test]
fn half_a_request_does_not_keep_the_node_from_stopping() {
    let node = start();
    let _body = send(&node, "POST", "/v1/pipelines", 100, b"{");
    let mut head = TcpStream::connect(node.admin()).expect("the node accepts connections");
    head.write_all(b"POST /v1/pipelines HTTP/1.1\r\nHost: loc").expect("the node reads");
    let _nothing = TcpStream::connect(node.admin()).expect("the node accepts connections");
    assert_unharmed(node);
}

/// Symptom: sixty clients took two gigabytes. Cause: each upload was bounded, all of them together were not. Fix: they are
/// taken two at a time.
#[test]
fn many_uploads_are_taken_a_few_at_a_time() {
    let node = start();
    let half = vec![0; 20 << 20];
    let path = format!("/v1/plugins/{}", "0".repeat(64));
    std::thread::scope(|scope| {
        let uploads: Vec<_> =
            (0..40).map(|_| scope.spawn(|| send(&node, "PUT", &path, 30 << 20, &half))).collect();
        let uploads: Vec<_> = uploads.into_iter().map(|upload| upload.join().expect("it was sent")).collect();
        let (status, _) = ask(&node, "GET", "/v1/status", b"");
        assert_eq!(status, 200);
        drop(uploads);
    });
    assert_unharmed(node);
}

/// Symptom: a megabyte of noise was kept as a plugin. Cause: its hash was all that was looked at. Fix: what can't be a
/// plugin is refused.
#[test]
fn noise_is_no_plugin() {
    let node = start();
    let noise = super::Noise(7).bytes(1_000_000);
    let (_, status, said) = upload(&node, &noise);
    assert_eq!(status, 422);
    assert!(said.contains("not a WebAssembly component"), "{said}");
    assert_eq!(ask(&node, "GET", "/v1/plugins", b"").1, "[]");
    assert_unharmed(node);
}

/// Symptom: some errors were plain text, or nothing, where clients were promised JSON. Cause: they were the framework's own.
/// Fix: each is mapped.
#[test]
fn every_error_is_json() {
    let node = start();
    let too_large = vec![b' '; 3 << 20];
    let cases: [(&str, &str, &[u8], u16); 8] = [
        ("PUT", "/v1/plugins/short", b"bytes", 422),
        ("PUT", "/v1/plugins/%ff", b"bytes", 400),
        ("DELETE", "/v1/pipelines/%ff", b"", 400),
        ("DELETE", "/v1/pipelines/none", b"", 404),
        ("PATCH", "/v1/pipelines", b"", 405),
        ("GET", "/v2", b"", 404),
        ("POST", "/v1/pipelines", b"{", 400),
        ("POST", "/v1/pipelines/validate", &too_large, 413),
    ];
    for (method, path, body, expected) in cases {
        let (status, said) = ask(&node, method, path, body);
        assert_eq!(status, expected, "{method} {path}: {said}");
        let said: Value = serde_json::from_str(&said).expect("errors are JSON");
        assert!(said["error"].as_str().is_some_and(|error| !error.is_empty()), "{method} {path}: {said}");
    }
    assert_unharmed(node);
}
