//! The conformance kit, held against this host: `sdk/conformance/README.md` says what it is. All its cases run on one node, in
//! one pipeline; those that a pipeline can't be applied with, before it.

#[path = "conformance/contract.rs"]
mod contract;
#[path = "conformance/kit.rs"]
mod kit;
#[path = "conformance/seen.rs"]
mod seen;

use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, ProducerContext};

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use self::kit::{Case, Place};
use self::seen::Seen;
use super::http::{Seen as Asked, Server};
use super::*;

const PIPELINE: &str = "conformance";

/// A node that lends what the cases are granted.
struct Bench {
    node: Node,
    lent: TempDir,
    server: Server,
}

/// As the kit describes it.
fn answer(mut stream: TcpStream, seen: &Asked) {
    let mut line = seen.head.split(' ');
    let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
    let asked = seen.head.lines().find_map(|line| line.strip_prefix("x-asked: ")).unwrap_or_default();
    let (status, body) = match path {
        "/404" => ("404 Not Found", String::new()),
        "/large" => ("200 OK", "x".repeat(5 << 20)),
        // Until the other side gives up.
        "/silent" => {
            let _ = stream.read(&mut [0]);
            return;
        }
        _ => ("200 OK", seen.body.clone()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nX-Seen: {method} {path} {asked}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Who has read enough hangs up.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

impl Bench {
    fn start() -> Self {
        let lent = TempDir::new().expect("a temporary directory");
        let dir = |name: &str| {
            let dir = lent.path().join(name);
            fs::create_dir(&dir).expect("it can be made");
            text(&dir)
        };
        let settings = Settings::default()
            .with("plugin.secrets.dir", &dir("secrets"))
            .with("plugin.files.dirs", &dir("files"));
        let server = Server::looking(|stream, _, seen| answer(stream, seen));
        Self { node: Node::start_with(settings), lent, server }
    }

    /// Writes what the case grants, and says how its pipeline names it.
    fn lend(&self, case: &Case) -> Value {
        let files = self.lent.path().join("files");
        for (name, text) in &case.files {
            fs::create_dir_all(files.join(&case.id)).expect("it can be made");
            fs::write(files.join(&case.id).join(name), text).expect("it can be written");
        }
        for (name, text) in &case.secrets {
            fs::write(self.lent.path().join("secrets").join(name), text).expect("it can be written");
        }
        let path = |name: &String| (name.clone(), json!(format!("{}/{name}", case.id)));
        let files: serde_json::Map<String, Value> = case.files.keys().map(path).collect();
        json!({"files": files, "secrets": case.secrets.keys().collect::<Vec<_>>(), "http": case.hosts})
    }

    /// A pipeline of these cases.
    fn pipeline(&self, name: &str, cases: &[&Case]) -> (TempDir, PathBuf) {
        let mut pipeline = json!({"pipeline": name, "topics": {}, "plugins": {}});
        for case in cases {
            for (topic, partitions) in &case.topics {
                pipeline["topics"][topic] = json!({"partitions": partitions, "config": {"retention.ms": -1}});
            }
            pipeline["plugins"][&case.id] = json!({
                "file": case.component_file(), "config": case.config, "limits": case.limits,
                "grants": self.lend(case),
            });
            let Case { id, from, to, .. } = case;
            let dead_letter = case.dead_letter.as_ref().map(|topic| json!({"dead_letter": topic}));
            let on_error = dead_letter.unwrap_or_else(|| json!("stop"));
            let (section, name, part) = match case.place {
                Place::Source => ("sources", id, json!({"plugin": id, "to": to})),
                Place::Sink => {
                    ("sinks", id, json!({"plugin": id, "from": from, "to": to, "on_error": on_error}))
                }
                Place::Stage => {
                    ("stages", id, json!({"plugin": id, "from": from, "to": to, "on_error": on_error}))
                }
                Place::Ingest => ("ingests", id, json!({"plugin": id, "topic": from[0], "budget_ms": 9_000})),
                Place::View => ("views", &to[0], json!({"plugin": id, "from": from[0], "budget_ms": 9_000})),
            };
            pipeline[section][name] = part;
        }
        // JSON is YAML.
        pipeline_file(&pipeline.to_string().replace("SERVER", &self.server.address.to_string()))
    }
}

#[test]
fn this_host_shows_what_the_conformance_kit_says() {
    let cases = kit::cases();
    let bench = Bench::start();
    let (refused, applied): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.refused.is_some());
    for case in &refused {
        let (_dir, file) = bench.pipeline(&format!("refused-{}", case.id), &[case]);
        let ended = apply(&bench.node, &file);
        let reason = case.refused.as_deref().unwrap_or_default();
        assert!(
            ended.status.code() == Some(1) && ended.stderr.contains(reason),
            "{}: {}",
            case.name,
            ended.stderr
        );
    }
    let (_dir, file) = bench.pipeline(PIPELINE, &applied);
    succeed(&apply(&bench.node, &file));
    for case in &applied {
        produce_input(&bench.node, case);
    }
    check_all(&bench.node, &applied, |seen, case| seen.check(case));
    // What is to be stopped is.
    succeed(&admin(&bench.node, &["pipeline", "delete", PIPELINE, "--json"]));
    let last: Vec<&Case> = applied.iter().copied().filter(|case| case.has_last()).collect();
    assert!(last.len() >= 2, "a source and a sink are told to stop");
    check_all(&bench.node, &last, |seen, case| seen.check_last(case));
    assert!(bench.node.stop().status.success());
}

/// Until all cases show what they should, or the node was looked at often enough.
fn check_all(node: &Node, cases: &[&Case], check: impl Fn(&Seen<'_>, &Case) -> Result<(), String>) {
    let mut open: Vec<(&Case, String)> = cases.iter().map(|case| (*case, String::new())).collect();
    let mut looks = 0;
    until(|| {
        looks += 1;
        let seen = Seen::look(node, &open.iter().map(|(case, _)| *case).collect::<Vec<_>>());
        open.retain_mut(|(case, problem)| match check(&seen, case) {
            Ok(()) => false,
            Err(found) => {
                *problem = found;
                true
            }
        });
        open.is_empty() || looks == READS_MAX
    });
    let problem = |(case, problem): &(&Case, String)| {
        format!("{} ({}, {}): {problem}", case.name, case.component, case.id)
    };
    let problems: Vec<String> = open.iter().map(problem).collect();
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
}

/// Each record by itself, as an ingest may refuse one of them.
fn produce_input(node: &Node, case: &Case) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.bootstrap()).set("message.timeout.ms", "30000");
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(Deliveries::default()).expect("the configuration is valid");
    for record in &case.input {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
            headers.insert(Header { key: &header.key, value: header.value.as_deref() })
        });
        let mut message: BaseRecord<'_, str, str> = BaseRecord::to(&case.from[0]).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.timestamp = record.timestamp;
        message.partition = Some(0);
        producer.send(message).expect("the queue has room");
        producer.flush(PATIENCE).expect("it is answered");
    }
    let refused = producer.context().refused.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused, case.refused_records, "{}: records that were refused", case.name);
}

/// Counts what was not taken.
#[derive(Default)]
struct Deliveries {
    refused: std::sync::atomic::AtomicUsize,
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
