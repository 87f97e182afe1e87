//! Signed plugins: a node that asks for signatures, through the command line.

use super::*;

const PIPELINE: &str = "pipeline: p\ntopics: {in: {partitions: 1}, out: {partitions: 1}}\nplugins: {f: {file: FILE, \
                        config: {header: none, action: drop, equals: x}}}\nstages: {s: {from: in, plugin: f, to: out}}\n";

/// A directory with a component, a pipeline for it, and keys.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let desk = Self { dir };
        desk.component("filter.wasm", 0);
        fs::write(desk.path("pipeline.yaml"), PIPELINE.replace("FILE", "filter.wasm"))
            .expect("it can be written");
        for key in ["release", "other"] {
            let made = millstream(&["plugin", "keygen", &desk.text(key)]);
            assert!(made.status.success(), "{}", made.stderr);
        }
        desk.trust("release.pub");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        super::text(&self.path(name))
    }

    /// A filter that differs from others by its number: custom sections are for anyone.
    fn component(&self, name: &str, number: u8) {
        let mut bytes = fs::read(FILTER).expect("the guest is there");
        bytes.extend([0, 3, 1, b'n', number]);
        fs::write(self.path(name), bytes).expect("it can be written");
    }

    fn sign(&self, name: &str, key: &str) {
        let signed = millstream(&["plugin", "sign", &self.text(name), "--key", &self.text(key)]);
        assert!(signed.status.success(), "{}", signed.stderr);
    }

    /// Makes that the list of trusted keys.
    fn trust(&self, public: &str) {
        fs::copy(self.path(public), self.path("trusted")).expect("it can be copied");
    }

    fn settings(&self) -> Settings {
        let settings = Settings::default().with("plugin.signature.policy", "required");
        settings.with("plugin.signature.keys", &self.text("trusted"))
    }
}

fn refused(ended: &Ended, expect: &str) {
    assert!(ended.stderr.contains(expect), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
}

fn runs(node: &Node) -> bool {
    let status = status(node);
    status["stages"].as_array().is_some_and(|stages| stages.iter().any(|stage| stage["state"] == "running"))
}

/// What keeps the pipeline from running.
fn not_running(node: &Node) -> String {
    let told = until(|| status(node)["not_running"][0]["problems"][0]["message"].is_string());
    assert!(told, "{:#}\n{}", status(node), node.stderr());
    status(node)["not_running"][0]["problems"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_node_takes_and_starts_what_a_trusted_key_has_signed() {
    let desk = Desk::new();
    let file = desk.path("pipeline.yaml");
    let node = Node::start_with(desk.settings());
    refused(&apply(&node, &file), "it has no signature, and plugin.signature.policy asks for one");
    desk.sign("filter.wasm", "other");
    refused(&apply(&node, &file), "which is not a trusted one");
    desk.sign("filter.wasm", "release");
    succeed(&apply(&node, &file));
    assert!(until(|| runs(&node)), "{:#}", status(&node));

    desk.component("newer.wasm", 1);
    let deploy = || admin(&node, &["plugin", "deploy", "p/f", &desk.text("newer.wasm"), "--json"]);
    refused(&deploy(), "it has no signature");
    let signature = fs::read_to_string(desk.path("filter.wasm.sig")).expect("it was made");
    fs::write(desk.path("newer.wasm.sig"), &signature).expect("it can be written");
    refused(&deploy(), "the signature is that of another file");
    fs::write(desk.path("newer.wasm.sig"), &signature[..signature.len() / 2]).expect("it can be written");
    refused(&deploy(), "the signature is damaged");
    fs::write(desk.path("newer.wasm.sig"), signature.replacen(": 1", ": 9", 1)).expect("it can be written");
    refused(&deploy(), "the signature has the format \"9\"");
    desk.sign("newer.wasm", "release");
    assert_eq!(succeed(&deploy())["version"], 2);

    // A key that is trusted no more has signed nothing.
    let node = node.stop();
    desk.trust("other.pub");
    let node = node.start();
    let why = not_running(&node);
    assert!(why.contains("version 2 of plugin \"f\"") && why.contains("not a trusted one"), "{why}");
    refused(&admin(&node, &["plugin", "rollback", "p/f"]), "not a trusted one");
    // The list is read again; nobody has to start anything.
    desk.trust("release.pub");
    assert!(until(|| runs(&node)), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(succeed(&admin(&node, &["plugin", "rollback", "p/f", "--json"]))["version"], 1);
    fs::remove_file(desk.path("trusted")).expect("it is there");
    refused(&admin(&node, &["plugin", "rollback", "p/f"]), "read the trusted keys");
}

#[test]
fn a_policy_counts_for_what_is_there_already() {
    let desk = Desk::new();
    let node = Node::start();
    succeed(&apply(&node, &desk.path("pipeline.yaml")));
    let node = node.stop().with_settings(desk.settings()).start();
    let why = not_running(&node);
    assert!(why.contains("it has no signature"), "{why}");
    // The same component, with its signature.
    desk.sign("filter.wasm", "release");
    succeed(&apply(&node, &desk.path("pipeline.yaml")));
    assert!(until(|| runs(&node)), "{:#}\n{}", status(&node), node.stderr());
    // A node that asks for none keeps the signature, for later.
    let node = node.stop().with_settings(Settings::default()).start();
    assert!(until(|| runs(&node)), "{:#}", status(&node));
    let node = node.stop().with_settings(desk.settings()).start();
    assert!(until(|| runs(&node)), "{:#}\n{}", status(&node), node.stderr());
}

#[test]
fn a_watched_file_is_deployed_when_its_signature_comes() {
    let desk = Desk::new();
    let watched = desk.path("watched");
    let settings = desk.settings().with("plugin.watch.dir", &super::text(&watched));
    let node = Node::start_with(settings);
    desk.sign("filter.wasm", "release");
    succeed(&apply(&node, &desk.path("pipeline.yaml")));
    fs::create_dir_all(watched.join("p")).expect("it can be made");
    // Opening a pipe would wait for whoever writes to it.
    let pipe = watched.join("p/f.wasm.sig");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("it can be made");
    desk.component("watched/p/f.wasm", 1);
    let of_pipe = || {
        let error = status(&node)["not_deployed"][0]["error"].to_string();
        error.contains("f.wasm.sig: it is not a regular file")
    };
    assert!(until(of_pipe), "{:#}\n{}", status(&node), node.stderr());
    fs::remove_file(&pipe).expect("it can be removed");
    let told = || {
        let error = status(&node)["not_deployed"][0]["error"].to_string();
        error.contains("it has no signature")
    };
    assert!(until(told), "{:#}\n{}", status(&node), node.stderr());
    desk.sign("watched/p/f.wasm", "release");
    let number = || stage_of(&status(&node), "s")["plugins"][0]["number"].clone();
    assert!(until(|| number() == 2), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(status(&node)["not_deployed"], json!([]));
}

#[test]
fn a_signature_is_inspected_without_a_node() {
    let desk = Desk::new();
    let (component, keys) = (desk.text("filter.wasm"), desk.text("trusted"));
    let inspect = |args: &[&str]| millstream(&[&["plugin", "inspect", &component], args].concat());
    refused(&inspect(&["--keys", &keys]), "it has no signature");
    desk.sign("filter.wasm", "release");
    let shown = inspect(&[]);
    assert!(shown.stdout.contains("not checked: pass --keys"), "{}\n{}", shown.stdout, shown.stderr);
    let shown = inspect(&["--keys", &keys]);
    assert!(shown.stdout.contains("signed by release"), "{}\n{}", shown.stdout, shown.stderr);
    assert_eq!(succeed(&inspect(&["--keys", &keys, "--json"]))["signature"]["trusted_as"], "release");
    refused(&inspect(&["--keys", &desk.text("other.pub")]), "not a trusted one");
    desk.component("filter.wasm", 9);
    refused(&inspect(&[]), "the signature is that of another file");
    // No key is overwritten, and none is shown.
    let again = millstream(&["plugin", "keygen", &desk.text("release")]);
    refused(&again, "can't write");
    // Also if one of the two files is left: the other is not made then.
    let public = fs::read(desk.path("release.pub")).expect("it is there");
    fs::remove_file(desk.path("release")).expect("it can be removed");
    refused(&millstream(&["plugin", "keygen", &desk.text("release")]), "release.pub");
    assert_eq!(fs::read(desk.path("release.pub")).expect("it is there"), public);
    assert!(!desk.path("release").exists());
    fs::remove_file(desk.path("other.pub")).expect("it can be removed");
    let secret = fs::read(desk.path("other")).expect("it is there");
    refused(&millstream(&["plugin", "keygen", &desk.text("other")]), "can't write");
    assert_eq!(fs::read(desk.path("other")).expect("it is there"), secret);
    assert!(!desk.path("other.pub").exists());
    let open = millstream(&["plugin", "sign", &component, "--key", &desk.text("trusted")]);
    refused(&open, "others than its owner can read it");
}

#[test]
fn a_policy_without_keys_is_a_mistake() {
    let mut up = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let dir = TempDir::new().expect("a temporary directory");
    up.args(["up", "--data-dir"]).arg(dir.path());
    let ended = run_to_end(up.env("MILLSTREAM_CONFIG_PLUGIN_SIGNATURE_POLICY", "required"));
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("without plugin.signature.keys"), "{}", ended.stderr);
}
