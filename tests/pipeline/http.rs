//! Plugins that call hosts, against servers that this test is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const CALLER: &str = env!("GUEST_HTTP_CALLER");
const WEBHOOK: &str = env!("GUEST_WEBHOOK");
const HTTP_POLL: &str = env!("GUEST_HTTP_POLL");

/// A request, as a server saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
}

/// Answers each request on a thread of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(answer: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::looking(move |stream, number, _| answer(stream, number))
    }

    /// `answer` gets the request's number, from 1, and the request.
    pub(super) fn looking(answer: impl Fn(TcpStream, usize, &Seen) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, all) = (Arc::new(answer), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                thread::spawn(move || {
                    let request = request(&stream);
                    let number = {
                        let mut all = all.lock().expect("nobody panics with it");
                        all.push(request.clone());
                        all.len()
                    };
                    answer(stream, number, &request);
                });
            }
        });
        Self { address, seen }
    }

    fn answering(response: impl Into<String>) -> Self {
        let response = response.into();
        Self::start(move |mut stream, _| _ = stream.write_all(response.as_bytes()))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same by the name that everybody means this machine by.
    fn local_url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }
}

fn request(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut seen = Seen::default();
    while !seen.head.ends_with("\r\n\r\n") && reader.read_line(&mut seen.head).is_ok_and(|read| read > 0) {}
    let length = seen.head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    if reader.read_exact(&mut body).is_ok() {
        seen.body = String::from_utf8_lossy(&body).into_owned();
    }
    seen
}

#[expect(clippy::disallowed_methods, reason = "a plugin's waits end in real time")]
fn now() -> Instant {
    Instant::now()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn caller(grants: &str, config: &Value) -> (TempDir, PathBuf) {
    pipeline_file(&format!(
        "pipeline: p\ntopics: {{out: {{partitions: 1}}}}\nplugins:\n  caller:\n    file: {CALLER}\n    limits: \
         {{call_timeout_ms: 300}}\n    grants: {grants}\n    config: {config}\nsources:\n  call: {{plugin: caller, to: \
         out}}\n"
    ))
}

fn state(node: &Node, part: &str) -> String {
    stage_of(&status(node), part)["state"].as_str().unwrap_or_default().to_owned()
}

/// What a caller has said of its calls.
fn outcomes(node: &Node, grants: &[&str], config: &Value) -> Vec<String> {
    let (_dir, file) = caller(&json!({ "http": grants }).to_string(), config);
    let before = if names_of_topics(node).contains(&"out".to_owned()) { stored(node, "out") } else { 0 };
    succeed(&apply(node, &file));
    assert!(until(|| state(node, "call") == "finished"), "{:#}\n{}", status(node), node.stderr());
    read(node, "out").split_off(before)
}

fn names_of_topics(node: &Node) -> Vec<String> {
    let consumer = consumer(node);
    let metadata = consumer.fetch_metadata(None, PATIENCE).expect("the node serves it");
    metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
}

fn metrics(node: &Node) -> String {
    let mut stream = TcpStream::connect(node.admin()).expect("the node serves it");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("the node serves it");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the node serves it");
    text
}

fn requests_of(node: &Node, outcome: &str) -> u64 {
    let start = format!(
        "millstream_plugin_http_requests_total{{pipeline=\"p\",plugin=\"caller\",outcome=\"{outcome}\"}} "
    );
    metrics(node).lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
}

fn lines_of(node: &Node) -> String {
    let ended = admin(node, &["plugin", "logs", "p", "-n", "1000"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn what_is_granted_is_called_and_nothing_else() {
    let node = Node::start();
    let server = Server::answering(ok("hello"));
    let elsewhere = Server::answering(ok("secret"));
    let redirecting = Server::answering(format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url()
    ));
    let (granted, local, redirect) = (server.url(), server.local_url(), redirecting.url());
    let config = json!({ "urls": [
        format!("{granted}/path?query"), local, format!("{redirect}/"), elsewhere.url(),
        format!("https://{}/", server.address), "http://user@127.0.0.1/", "nonsense",
    ], "body": 70_000 });
    let said = outcomes(&node, &[&granted, &local, &redirect], &config);
    assert_eq!(said[..3], ["200 hello", "200 hello", "302 "]);
    for denied in &said[3..5] {
        assert!(denied.starts_with("stop: POST 127.0.0.1:"), "{said:?}");
        assert!(denied.ends_with("HttpRequestDenied: the pipeline does not grant this host"), "{said:?}");
    }
    assert!(said[5].contains("HttpRequestUriInvalid"), "{said:?}");
    assert!(said[6].contains("a URL begins with"), "{said:?}");
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /path?query HTTP/1.1\r\n"), "{seen:?}");
    assert_eq!(seen[0].body.len(), 70_000);
    let lines = lines_of(&node);
    let line = format!("HTTP request to {} denied: the pipeline grants http: [{local}, ", elsewhere.url());
    assert!(lines.contains(&line), "{line}\n{lines}");
    assert_eq!(["2xx", "3xx", "denied"].map(|outcome| requests_of(&node, outcome)), [2, 1, 2]);
    assert!(node.stop().status.success());
}

/// A name is what it resolves to, and a name of this machine's resolves to an address of its own.
#[test]
fn a_name_that_stands_for_a_private_address_is_refused_unless_the_node_allows_it() {
    let server = Server::answering(ok("hello"));
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let addresses = (&*name, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    // Where the machine's name is none of its own network, `runtime/src/http/tests.rs` has to do.
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    if addresses.is_empty() || name == "localhost" {
        println!("this machine has no name that stands for itself");
        return;
    }
    let url = format!("http://{name}:{}", server.address.port());
    let config = json!({ "urls": [url] });
    let node = Node::start();
    let said = outcomes(&node, &[&url], &config);
    assert!(said[0].contains("DestinationIpProhibited"), "{said:?}");
    let lines = lines_of(&node);
    assert!(lines.contains("which is no public address"), "{lines}");
    let node = Node::start_with(Settings::default().with("plugin.http.private.networks", "true"));
    let said = outcomes(&node, &[&url], &config);
    assert!(!said[0].contains("DestinationIpProhibited"), "{said:?}");
    assert!(!is_loopback || said == ["200 hello"], "{said:?}");
}

#[test]
fn servers_that_misbehave_cost_the_plugin_its_call_and_the_node_nothing() {
    let mut node = Node::start();
    let endless = Server::start(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let silent = Server::start(|_stream, _| thread::sleep(Duration::from_secs(30)));
    let half_open = Server::start(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        thread::sleep(Duration::from_secs(30));
    });
    let large_head = Server::answering(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(10_000_000)));
    let large_body = Server::answering(ok(&"z".repeat(2_000_000)));
    let slow = Server::start(|mut stream, _| {
        thread::sleep(Duration::from_secs(1));
        let _ = stream.write_all(ok("late").as_bytes());
    });
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        format!("http://{}", listener.local_addr().unwrap())
    };
    let servers = [&endless, &silent, &half_open, &large_head, &large_body, &slow];
    let mut urls: Vec<_> = servers.iter().map(|server| server.url()).collect();
    urls.push(closed);
    let granted: Vec<&str> = urls.iter().map(String::as_str).collect();
    let before = node.rss_bytes();
    let began = now();
    // The third part of what the slow one takes is what the plugin may compute for.
    let said = outcomes(&node, &granted, &json!({ "urls": urls, "timeout_ms": 2000 }));
    let expected = [
        "stop: POST ADDRESS: the response has more than 1048576 bytes",
        "retry: POST ADDRESS: ",
        "retry: POST ADDRESS: ",
        "retry: POST ADDRESS: HttpResponseHeaderSectionSize(Some(65536))",
        "stop: POST ADDRESS: the response has more than 1048576 bytes",
        "200 late",
        "retry: POST ADDRESS: ConnectionRefused",
    ];
    for ((said, expected), url) in said.iter().zip(expected).zip(&urls) {
        let expected = expected.replace("ADDRESS", &url["http://".len()..]);
        assert!(said.starts_with(&expected), "{said}, not {expected}");
    }
    assert_eq!(said.len(), expected.len());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(node.rss_bytes() < before + 200 * 1024 * 1024, "{} from {before}", node.rss_bytes());
    assert!(node.is_running());
    // A wait is no time of the plugin's.
    let usage = stage_of(&status(&node), "call")["plugins"][0]["usage"].clone();
    assert!(usage["cpu_us"].as_u64().unwrap_or_default() < 5_000_000, "{usage}");
    assert!(node.stop().status.success());
}

#[test]
fn requests_at_a_time_are_limited() {
    let node = Node::start();
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
    let server = Server::start(move |mut stream, _| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(ok("hello").as_bytes());
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let said = outcomes(&node, &[&server.url()], &json!({ "urls": [server.url()], "flood": 12 }));
    assert_eq!(said, ["answered 8, refused 4, while held refused true, afterwards answered true"]);
    assert_eq!(most.load(Ordering::SeqCst), 8);
    assert_eq!(requests_of(&node, "limit"), 5);
    assert!(node.stop().status.success());
}

/// A method is a text of any length to WASI, and a plugin may have many requests that it never sends.
#[test]
fn what_requests_hold_in_the_host_is_limited() {
    let node = Node::start();
    let said = outcomes(&node, &["http://a.test"], &json!({ "hoard": 255 }));
    assert_eq!(
        said,
        ["methods [true, true, false, false], authorities [true, true, false, false]", "holds 255"]
    );
    let (_dir, file) = caller(&json!({ "http": ["http://a.test"] }).to_string(), &json!({ "hoard": 300 }));
    succeed(&apply(&node, &file));
    let reason = "the plugin holds 256 requests, responses, headers and bodies of HTTP";
    assert!(until(|| status(&node).to_string().contains(reason)), "{:#}\n{}", status(&node), node.stderr());
    assert!(node.stop().status.success());
}

#[test]
fn a_secret_is_sent_and_shown_nowhere() {
    const SECRET: &str = "s3cr3t-of-the-server";
    let lent = TempDir::new().unwrap();
    fs::write(lent.path().join("token"), SECRET).unwrap();
    let settings = Settings::default().with("plugin.secrets.dir", &super::text(lent.path()));
    let node = Node::start_with(settings);
    // It answers with what it is sent.
    let server = Server::answering(ok(&format!("you are {SECRET}")));
    let url = server.url();
    let grants = json!({ "http": [url], "secrets": ["token"] }).to_string();
    let (_dir, file) = caller(&grants, &json!({ "urls": [url], "secret": "token" }));
    succeed(&apply(&node, &file));
    assert!(until(|| state(&node, "call") == "finished"), "{:#}\n{}", status(&node), node.stderr());
    let seen = server.seen();
    assert!(seen[0].head.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{seen:?}");
    let lines = lines_of(&node);
    assert!(lines.contains("the plugin has secret-"), "{lines}");
    assert!(lines.contains("it answers you are [secret]"), "{lines}");
    assert!(!lines.contains(SECRET) && !node.stderr().contains(SECRET), "{lines}\n{}", node.stderr());
    // A secret that can't be read fails the request and not the plugin.
    fs::write(lent.path().join("token"), "two\nlines").unwrap();
    succeed(&apply(&node, &file));
    assert!(until(|| stored(&node, "out") == 2), "{:#}\n{}", status(&node), node.stderr());
    let said = read(&node, "out");
    assert!(said[1].contains("secret \\\"token\\\" has bytes that a header can't have"), "{said:?}");
    assert_eq!(server.seen().len(), 1);
    assert!(node.stop().status.success());
}

#[test]
fn a_plugin_that_waits_for_a_server_stops_in_time() {
    let node = Node::start();
    let server = Server::start(|_stream, _| thread::sleep(Duration::from_secs(60)));
    let url = server.url();
    let config = json!({ "urls": [url], "repeat": true });
    let (_dir, file) = caller(&json!({ "http": [url] }).to_string(), &config);
    succeed(&apply(&node, &file));
    assert!(until(|| !server.seen().is_empty()), "{:#}\n{}", status(&node), node.stderr());
    let began = now();
    let stopped = node.stop();
    assert!(stopped.status.success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(!stopped.stderr().contains("did not stop"), "{}", stopped.stderr());
}

#[test]
fn without_a_grant_no_pipeline_and_no_version_calls_anybody() {
    let node = Node::start();
    let remedy = "add \"grants: {http: [\"https://HOST\"]}\" to the plugin";
    let (_dir, file) = caller("{}", &json!({ "urls": [] }));
    let refused = apply(&node, &file);
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(!refused.status.success() && told.contains("imports http, which is not granted"), "{told}");
    assert!(told.contains(remedy), "{told}");
    // A plugin that never did.
    let lent = TempDir::new().unwrap();
    fs::write(lent.path().join("lines"), "a\n").unwrap();
    let settings = Settings::default().with("plugin.files.dirs", &super::text(lent.path()));
    let node = Node::start_with(settings);
    let lines = env!("GUEST_FILE_LINES");
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: p\ntopics: {{out: {{}}}}\nplugins:\n  f: {{file: {lines}, config: {{file: x, follow: true}}, grants: \
         {{files: {{x: lines}}}}}}\nsources:\n  s: {{plugin: f, to: out}}\n"
    ));
    succeed(&apply(&node, &file));
    let server = Server::answering(ok("yes"));
    let config = json!({ "urls": [server.url()] }).to_string();
    let waits = admin(&node, &["plugin", "deploy", "p/f", CALLER, "--config", &config]);
    assert_eq!(waits.status.code(), Some(3), "{}", waits.stderr);
    assert!(waits.stderr.contains("--http https://HOST"), "{}", waits.stderr);
    assert!(server.seen().is_empty());
    succeed(&admin(&node, &["plugin", "approve", "p/f", "--http", &server.url(), "--json"]));
    assert!(until(|| read(&node, "out").last().is_some_and(|said| said == "200 yes")), "{:#}", status(&node));
    for (grant, reason) in [
        ("api.example.com", "does not begin with"),
        ("https://api.example.com/path", "all paths of a host are granted"),
        ("https://*", "stands in front of a name"),
        ("https://127.1", "an IP address in full"),
    ] {
        let (_dir, file) = caller(&json!({ "http": [grant] }).to_string(), &json!({ "urls": [] }));
        let refused = apply(&node, &file);
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(!refused.status.success() && told.contains(reason), "{grant}: {told}");
    }
    assert!(node.stop().status.success());
}

#[test]
fn a_webhook_gets_every_record_and_a_poll_makes_records() {
    let lent = TempDir::new().unwrap();
    fs::write(lent.path().join("token"), "s3cr3t-of-the-hook").unwrap();
    let settings = Settings::default().with("plugin.secrets.dir", &super::text(lent.path()));
    let node = Node::start_with(settings);
    let api = Server::start(|mut stream, number| {
        let answer = match number {
            1 => format!(
                "{}\r\n\r\n{}",
                "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 15", "[{\"a\":1},\"two\"]"
            ),
            _ => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let hook = Server::start(|mut stream, number| {
        let answer = match number {
            1 => "HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => ok(""),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let (from, to) = (api.url(), hook.url());
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: p\ntopics: {{items: {{partitions: 1}}}}\nplugins:\n  poll:\n    file: {HTTP_POLL}\n    config: {{url: \
         \"{from}/items\", interval_ms: 200}}\n    grants: {{http: [\"{from}\"]}}\n  hook:\n    file: {WEBHOOK}\n    \
         config: {{url: \"{to}/in\", token: token}}\n    grants: {{http: [\"{to}\"], secrets: [token]}}\nsources:\n  poll: \
         {{plugin: poll, to: items}}\nsinks:\n  hook: {{plugin: hook, from: items}}\n"
    ));
    succeed(&apply(&node, &file));
    let is_done = || {
        let lag = stage_of(&status(&node), "hook")["lag"].as_i64();
        let in_ = stage_of(&status(&node), "hook")["records_in"].as_u64();
        (lag, in_) == (Some(0), Some(2)) && api.seen().len() >= 3
    };
    assert!(until(is_done), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(read(&node, "items"), [r#"{"a":1}"#, "\"two\""]);
    assert!(api.seen()[1].head.contains("if-none-match: \"1\"\r\n"), "{:?}", api.seen()[1]);
    let delivered = hook.seen();
    assert!(delivered.len() >= 2, "{delivered:?}");
    assert_eq!(delivered[0].body, delivered[1].body);
    for Seen { head, .. } in &delivered {
        assert!(head.starts_with("POST /in HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer s3cr3t-of-the-hook\r\n"), "{head}");
    }
    let events: Vec<Value> = serde_json::from_str(&delivered[1].body).unwrap();
    assert_eq!((&events[0]["value"], &events[0]["topic"]), (&json!({"a": 1}), &json!("items")));
    assert!(node.stop().status.success());
}
