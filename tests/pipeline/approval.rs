//! Grants of versions: what needs more than is granted waits for somebody to approve it; limits that change meanwhile.

use super::*;

const RUNNER: &str = env!("GUEST_RUNNER");
/// Writes the secret "token" in front of what it reads.
const SECRETIVE: &str = env!("GUEST_SECRETIVE");

const MASK: &str = env!("GUEST_MASK");
const PSEUDONYMIZE: &str = env!("GUEST_PSEUDONYMIZE");

const SINK: &str = "pipeline: p\ntopics: {in: {partitions: 1}, out: {partitions: 1}}\nplugins:\n  f: {file: RUNNER, \
                    config: {mode: copy}GRANTS}\nsinks:\n  s: {from: in, to: out, plugin: f, group: g}\n";

/// Exit codes of the command line.
const REFUSED: Option<i32> = Some(1);
const WAITS: Option<i32> = Some(3);

fn plugin(node: &Node, args: &[&str]) -> Ended {
    admin(node, &[&["plugin"], args].concat())
}

fn versions(node: &Node) -> Value {
    succeed(&plugin(node, &["versions", "p/f", "--json"]))
}

/// A node with the secret "token", which is "s3cret".
fn node_with_secret(settings: Settings) -> (Node, TempDir) {
    let secrets = TempDir::new().expect("a temporary directory");
    fs::write(secrets.path().join("token"), "s3cret").expect("it can be written");
    let settings = settings.with("plugin.secrets.dir", &super::text(secrets.path()));
    (Node::start_with(settings), secrets)
}

/// The pipeline's file, with these grants.
fn file(grants: &str) -> (TempDir, PathBuf) {
    pipeline_file(&SINK.replace("RUNNER", RUNNER).replace("GRANTS", grants))
}

/// Sends a record, and waits for what becomes of it.
fn passes(node: &Node, value: &str, becomes: &str) {
    let producer = producer(&node.bootstrap());
    let before = stored(node, "out");
    produce(&producer, "in", value);
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(node, "out") > before), "{:#}\n{}", status(node), node.stderr());
    assert_eq!(read(node, "out").last().map(String::as_str), Some(becomes));
}

fn refused(ended: &Ended, code: Option<i32>, expect: &str) {
    assert!(ended.stderr.contains(expect), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.status.code(), code, "{}", ended.stderr);
}

#[test]
fn a_version_that_needs_a_grant_waits_until_it_is_approved() {
    let (node, _secrets) = node_with_secret(Settings::default());
    let (_dir, file) = file("");
    succeed(&apply(&node, &file));
    passes(&node, "one", "one");
    let inspected = millstream(&["plugin", "inspect", SECRETIVE]);
    assert!(
        inspected.stdout.contains("grants must allow: consumer, producer, secrets"),
        "{}",
        inspected.stdout
    );
    let deployed = plugin(&node, &["deploy", "p/f", SECRETIVE, "--json"]);
    refused(&deployed, WAITS, "`millstream plugin approve p/f --version 2 --secret NAME`");
    let outcome: Value = serde_json::from_str(&deployed.stdout).expect("an answer, for scripts");
    assert_eq!((&outcome["version"], &outcome["waiting"]["needs"]), (&json!(2), &json!("secrets")));
    let waiting = |node: &Node| status(node)["waiting"].clone();
    assert_eq!((&waiting(&node)[0]["plugin"], &waiting(&node)[0]["version"]), (&json!("f"), &json!(2)));
    let shown = admin(&node, &["status"]).stdout;
    assert!(shown.contains("p/f: version 2 waits for approval: it imports secrets"), "{shown}");
    passes(&node, "two", "two");

    // It goes on to wait, and what ran goes on to run, when the node starts again.
    let node = node.kill().start();
    passes(&node, "three", "three");
    assert_eq!((&versions(&node)["active"], &versions(&node)["waiting"]["number"]), (&json!(1), &json!(2)));
    let table = plugin(&node, &["versions", "p/f"]).stdout;
    assert!(table.contains("waits for approval: it needs secrets"), "{table}");
    refused(&plugin(&node, &["rollback", "p/f", "--to", "2"]), REFUSED, "version 2 waits for approval");
    refused(
        &plugin(&node, &["approve", "p/f", "--version", "9"]),
        REFUSED,
        "version 2 does: look at that one",
    );
    refused(&plugin(&node, &["approve", "p/f"]), REFUSED, "imports secrets, which is not granted");
    let absent = plugin(&node, &["approve", "p/f", "--secret", "absent"]);
    refused(&absent, REFUSED, "secret \"absent\": read it");
    assert_eq!(waiting(&node)[0]["version"], 2, "it still waits");

    let approved = plugin(&node, &["approve", "p/f", "--version", "2", "--secret", "token", "--json"]);
    assert_eq!(succeed(&approved)["swapped"], json!(["s"]), "{}", approved.stdout);
    assert_eq!(waiting(&node), json!([]));
    passes(&node, "four", "s3cret four");
    let granted = json!({"secrets": ["token"]});
    assert_eq!(
        (&versions(&node)["versions"][1]["grants"], &versions(&node)["active"]),
        (&granted, &json!(2))
    );
    refused(&plugin(&node, &["approve", "p/f"]), REFUSED, "no version waits");

    // Grants go and come with their versions.
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    passes(&node, "five", "five");
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    let node = node.stop().start();
    passes(&node, "six", "s3cret six");

    // The file grants nothing: what it withdraws does not come back, also not after crashes of what runs already.
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    assert_eq!(succeed(&apply(&node, &file))["swapped"], json!(["s"]));
    assert_eq!((&versions(&node)["active"], &versions(&node)["previous"]), (&json!(1), &Value::Null));
    passes(&node, "seven", "seven");
    refused(&plugin(&node, &["rollback", "p/f", "--to", "2"]), REFUSED, "was granted secret token");
    refused(&plugin(&node, &["rollback", "p/f"]), REFUSED, "there is no version before");
    // Nobody sneaks it in.
    refused(&plugin(&node, &["deploy", "p/f", SECRETIVE]), WAITS, "version 3 waits for approval");
    succeed(&plugin(&node, &["reject", "p/f", "--json"]));
    assert_eq!((waiting(&node), &versions(&node)["active"]), (json!([]), &json!(1)));
}

/// Transforms are lent secrets as sources and sinks are, and count as they do.
#[test]
fn a_view_whose_new_version_needs_a_secret_waits_too() {
    let secrets = TempDir::new().expect("a temporary directory");
    fs::write(secrets.path().join("pseudonyms"), "0123456789abcdef\n").expect("it can be written");
    let node = Node::start_with(Settings::default().with("plugin.secrets.dir", &super::text(secrets.path())));
    let pipeline = "pipeline: p\ntopics: {in: {partitions: 1}}\nplugins: {f: MASK}\nviews:\n  masked: {from: in, \
                    plugin: f, config: {hide: [user]}}\n";
    let (_dir, file) = pipeline_file(&pipeline.replace("MASK", MASK));
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    produce(&producer, "in", r#"{"user":"eve"}"#);
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert_eq!(read(&node, "masked"), [r#"{"user":"***"}"#]);
    let unfit = plugin(&node, &["deploy", "p/f", PSEUDONYMIZE]);
    refused(&unfit, WAITS, "`millstream plugin approve p/f --version 2 --secret NAME`");
    // The stage's configuration is the file's to change: what is approved must fit it.
    let approved = plugin(&node, &["approve", "p/f", "--secret", "pseudonyms"]);
    refused(&approved, REFUSED, "unknown field `hide`");
    assert_eq!(read(&node, "masked"), [r#"{"user":"***"}"#]);

    let granted = pipeline
        .replace("f: MASK", &format!("f: {{file: {PSEUDONYMIZE}, grants: {{secrets: [pseudonyms]}}}}"))
        .replace("hide", "fields");
    let (_other_dir, file) = pipeline_file(&granted);
    assert_eq!(succeed(&apply(&node, &file))["swapped"], json!(["masked"]));
    let pseudonym = read(&node, "masked").pop().expect("it is read anew");
    let pseudonym: Value = serde_json::from_str(&pseudonym).expect("an object");
    assert_eq!(pseudonym["user"].as_str().map(str::len), Some(32), "{pseudonym}");
    let counted = "millstream_plugin_counter_total{pipeline=\"p\",plugin=\"f\",name=\"pseudonyms\"}";
    let metrics = runners::ureq_text(&node, "/metrics");
    assert!(metrics.contains(counted), "{metrics}");
    let without = granted.replace(", grants: {secrets: [pseudonyms]}", "");
    let (_dir, file) = pipeline_file(&without);
    let ended = apply(&node, &file);
    assert!(
        ended.stderr.contains("imports secrets, which is not granted in view \"masked\""),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_waits_is_kept_and_what_is_rejected_is_not() {
    let watched = TempDir::new().expect("a temporary directory");
    let settings = Settings::default().with("plugin.watch.dir", &super::text(watched.path()));
    let (node, _secrets) = node_with_secret(settings);
    let (_dir, file) = file("");
    succeed(&apply(&node, &file));
    let components = |node: &Node| {
        let files = fs::read_dir(node.data_dir().join("plugins")).expect("it is there");
        files.count()
    };
    fs::create_dir(watched.path().join("p")).expect("it can be made");
    fs::copy(SECRETIVE, watched.path().join("p/f.wasm")).expect("it can be copied");
    let waits = |node: &Node| status(node)["waiting"][0]["version"] == 2;
    assert!(until(|| waits(&node)), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(status(&node)["not_deployed"], json!([]));
    // The start of a node removes what nobody names.
    let node = node.stop().start();
    assert_eq!((waits(&node), components(&node)), (true, 2));
    succeed(&plugin(&node, &["reject", "p/f", "--version", "2", "--json"]));
    // The file lies there still, and nobody is asked again.
    let node = node.stop().start();
    let told = until(|| status(&node)["not_deployed"][0]["error"].is_string());
    assert!(told, "{:#}\n{}", status(&node), node.stderr());
    let error = status(&node)["not_deployed"][0]["error"].to_string();
    assert!(error.contains("it was rejected"), "{error}");
    assert_eq!(status(&node)["waiting"], json!([]));
    fs::remove_dir_all(watched.path().join("p")).expect("it can be removed");
    let node = node.stop().start();
    assert_eq!(components(&node), 1, "the rejected component is gone");
}

/// Symptom: a component in the watched directory that nobody had approved ran after a restart, with the grants of the one
/// that was approved in its place.
#[test]
fn a_watched_file_does_not_come_back_in_the_place_of_what_was_approved() {
    let watched = TempDir::new().expect("a temporary directory");
    let settings = Settings::default().with("plugin.watch.dir", &super::text(watched.path()));
    let (node, _secrets) = node_with_secret(settings);
    let (_dir, file) = file("");
    succeed(&apply(&node, &file));
    // A component that does the same: a custom section is for anyone.
    let mut other = fs::read(SECRETIVE).expect("the guest is there");
    other.extend([0, 3, 1, b'n', 7]);
    fs::create_dir(watched.path().join("p")).expect("it can be made");
    fs::write(watched.path().join("p/f.wasm"), other).expect("it can be written");
    let waits = || status(&node)["waiting"][0]["version"] == 2;
    assert!(until(waits), "{:#}\n{}", status(&node), node.stderr());
    refused(&plugin(&node, &["deploy", "p/f", SECRETIVE]), WAITS, "version 3 waits for approval");
    succeed(&plugin(&node, &["approve", "p/f", "--version", "3", "--secret", "token", "--json"]));
    let node = node.stop().start();
    let told = until(|| status(&node)["not_deployed"][0]["error"].is_string());
    assert!(told, "{:#}\n{}", status(&node), node.stderr());
    let error = status(&node)["not_deployed"][0]["error"].to_string();
    assert!(error.contains("it was here before what runs now"), "{error}");
    assert_eq!(versions(&node)["active"], 3);
    passes(&node, "one", "s3cret one");
}

#[test]
fn a_file_that_differs_in_its_grants_is_another_version() {
    let (node, _secrets) = node_with_secret(Settings::default());
    let (_dir, without) = file("");
    let (_other_dir, with) = file(", grants: {secrets: [token]}");
    succeed(&apply(&node, &without));
    passes(&node, "one", "one");
    let applied = succeed(&apply(&node, &with));
    assert_eq!(applied["swapped"], json!(["s"]), "{applied}");
    assert_eq!(versions(&node)["active"], 2);
    // What needs no more than that needs no approval.
    succeed(&plugin(&node, &["deploy", "p/f", SECRETIVE, "--json"]));
    passes(&node, "two", "s3cret two");
    let applied = succeed(&apply(&node, &without));
    assert_eq!((&applied["swapped"], &versions(&node)["active"]), (&json!(["s"]), &json!(1)));
    passes(&node, "three", "three");
}

#[test]
fn limits_change_while_a_plugin_runs() {
    let node = Node::start();
    let (_dir, file) = file("");
    succeed(&apply(&node, &file));
    passes(&node, "one", "one");
    let members = || stage_of(&status(&node), "s")["records_in"].clone();
    let set = ["limits", "p/f", "--set", "memory_bytes_max=32MiB", "--set", "call_timeout_ms=700", "--json"];
    let changed = succeed(&plugin(&node, &set));
    assert_eq!((&changed["version"], &changed["swapped"]), (&json!(2), &json!(["s"])), "{changed}");
    let limits = succeed(&plugin(&node, &["limits", "p/f", "--json"]));
    assert_eq!(
        (&limits["memory_bytes_max"], &limits["call_timeout_ms"], &limits["init_timeout_ms"]),
        (&json!(33_554_432), &json!(700), &json!(5000))
    );
    passes(&node, "two", "two");
    assert_eq!(members(), 2, "the sink has gone on in its place");
    let table = plugin(&node, &["limits", "p/f"]).stdout;
    assert!(table.contains("call_timeout_ms") && table.contains("700"), "{table}");
    let unknown = plugin(&node, &["limits", "p/f", "--set", "memory=1"]);
    refused(&unknown, REFUSED, "unknown field `memory`, expected one of `memory_bytes_max`");
    let large = plugin(&node, &["limits", "p/f", "--set", "memory_bytes_max=2GiB"]);
    refused(&large, REFUSED, "memory_bytes_max is 2147483648, but must be between");
    let small = plugin(&node, &["limits", "p/f", "--set", "memory_bytes_max=64KiB"]);
    refused(&small, REFUSED, "memory");
    assert_eq!(versions(&node)["active"], 2);
    // They are those of a version: it may be gone back from them, and the file has the last word.
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    assert_eq!(succeed(&plugin(&node, &["limits", "p/f", "--json"]))["call_timeout_ms"], 1000);
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    succeed(&apply(&node, &file));
    assert_eq!(versions(&node)["active"], 1);
}

#[test]
fn a_configuration_may_come_from_a_file_and_a_plugin_has_a_principal() {
    let node = Node::start();
    let (dir, file) = file("");
    succeed(&apply(&node, &file));
    let config = dir.path().join("config.yaml");
    fs::write(&config, "mode: copy\nmax: 7\n").expect("it can be written");
    let from_file = format!("@{}", super::text(&config));
    succeed(&plugin(&node, &["deploy", "p/f", RUNNER, "--config", &from_file, "--json"]));
    assert_eq!(versions(&node)["versions"][1]["config"], json!({"mode": "copy", "max": 7}));
    let absent = plugin(&node, &["deploy", "p/f", RUNNER, "--config", "@/absent"]);
    refused(&absent, Some(2), "read /absent");
    let principal = json!("User:plugin/p/f");
    assert_eq!(stage_of(&status(&node), "s")["plugins"][0]["principal"], principal);
    let listed = succeed(&plugin(&node, &["list", "--json"]));
    assert_eq!(listed["p"]["f"]["principal"], principal, "{listed}");
}
