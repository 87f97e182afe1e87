//! `millstream plugin new`, `build`, `test` and `deploy` in a plugin's directory. What compilers make of the templates is
//! shown by `tests/languages`; here a plugin of this build takes the place of their work.

use super::*;

/// `millstream` with the directory that it is run in.
fn millstream_in(dir: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let command = command.args(args).current_dir(dir);
    run_to_end(command.env_remove("MILLSTREAM_ADMIN").env_remove("MILLSTREAM_LOG"))
}

/// A project `my-filter` whose plugin.toml is this. `MODULE` is a plugin.
fn project(manifest: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a temporary directory");
    assert!(millstream_in(dir.path(), &["plugin", "new", "my-filter", "--lang", "rust"]).status.success());
    let project = dir.path().join("my-filter");
    fs::write(project.join("plugin.toml"), manifest.replace("MODULE", FILTER)).expect("it can be written");
    (dir, project)
}

#[test]
fn new_writes_what_it_says_and_spares_what_is_there() {
    let dir = TempDir::new().expect("a temporary directory");
    let new = |name: &str, more: &[&str]| {
        millstream_in(dir.path(), &[&["plugin", "new", name, "--lang", "rust"], more].concat())
    };
    let made = succeed(&new("my-filter", &["--json"]));
    assert_eq!(made["directory"], "my-filter");
    let files = made["files"].as_array().expect("a list");
    assert!(files.contains(&json!("millstream/wit/0.2/types.wit")), "{made}");
    for file in files {
        let path = dir.path().join("my-filter").join(file.as_str().expect("a path"));
        assert!(path.is_file(), "{}", path.display());
    }
    let again = new("my-filter", &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stderr.contains("my-filter exists and is not empty: use another name"), "{}", again.stderr);
    fs::create_dir(dir.path().join("empty")).expect("it can be made");
    assert!(new("empty", &[]).stdout.contains("cd empty"));
    for bad in ["My-filter", "../up", "a_b"] {
        let refused = new(bad, &[]);
        assert_eq!(refused.status.code(), Some(2), "{bad}");
        assert!(refused.stderr.contains("lower-case letters"), "{}", refused.stderr);
    }
}

#[test]
fn a_build_that_can_not_work_says_what_to_do() {
    let manifest = |build: &str, module: &str| {
        format!(
            "name = \"f\"\nbuild = {build}\nmodule = \"{module}\"\ncomponent = \"build/f.wasm\"\n[tools]\n\"no-such-tool\" = \"it is in package x\"\n"
        )
    };
    for (text, expected) in [
        (manifest(r#"[["no-such-tool"]]"#, "m"), "`no-such-tool` is not here: it is in package x"),
        (manifest(r#"[["./no-such-tool"]]"#, "m"), "`./no-such-tool` is not here: install it"),
        (manifest(r#"[["false"]]"#, "m"), "`false` failed (exit status: 1)"),
        (manifest("[]", "m"), "m: the build did not make it: does `module` of plugin.toml"),
        (manifest("[]", "README.md"), "build/f.wasm: "),
        (manifest("[[]]", "m"), "plugin.toml: a command in `build` is empty"),
        ("name = 1".to_owned(), "plugin.toml: TOML parse error at line 1"),
    ] {
        let (_dir, project) = project(&text);
        let ended = millstream_in(&project, &["plugin", "build"]);
        assert_eq!(ended.status.code(), Some(1), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
        assert!(!project.join("build/f.wasm").exists(), "{text}");
    }
    let dir = TempDir::new().expect("a temporary directory");
    for args in [["plugin", "build"], ["plugin", "test"], ["plugin", "deploy"]] {
        let ended = millstream_in(dir.path(), &args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
        assert!(ended.stderr.contains("make one with `millstream plugin new`"), "{}", ended.stderr);
    }
}

#[test]
fn a_project_goes_live_with_three_commands_and_no_paths() {
    let node = Node::start();
    let (_dir, project) = project(
        "name = \"my-filter\"\nbuild = [[\"cp\", \"MODULE\", \"made.wasm\"]]\nmodule = \"made.wasm\"\n\
         component = \"build/my-filter.wasm\"\npipeline = \"pipeline.yaml\"\n",
    );
    let admin = node.admin().to_string();
    let built = millstream_in(&project, &["plugin", "build"]);
    assert!(built.status.success(), "{}", built.stderr);
    assert!(built.stderr.starts_with("> cp "), "{}", built.stderr);
    assert!(
        built.stdout.starts_with("my-filter: a transform, in the form transform-batch of contract 0.2\n")
    );
    assert_eq!(fs::read(project.join("build/my-filter.wasm")).ok(), fs::read(FILTER).ok());

    let case = "name: n\nconfig: {field: a, gte: 2}\ninput: [{value: {a: 1}}, {value: {a: 2}}]\n\
                output: [{value: {a: 2}}]\n";
    fs::write(project.join("cases/filter.yaml"), case).expect("it can be written");
    fs::write(project.join("other.yaml"), case.replace("gte: 2", "gte: 3")).expect("it can be written");
    assert!(millstream_in(&project, &["plugin", "test"]).stdout.contains("1 passed"));
    let other = millstream_in(&project, &["plugin", "test", "other.yaml"]);
    assert!(other.stderr.contains("1 of 1 cases failed"), "{}", other.stderr);

    let pipeline = fs::read_to_string(project.join("pipeline.yaml")).expect("it is there");
    let (before, after) = pipeline.split_once("    config:\n").expect("it configures the plugin");
    let (_, after) = after.split_once("    limits:").expect("it has limits");
    let ours = format!("{before}    config: {{field: a, gte: 2}}\n    limits:{after}");
    fs::write(project.join("pipeline.yaml"), ours).expect("it can be written");
    let deployed = millstream_in(&project, &["plugin", "deploy", "--admin", &admin]);
    assert!(deployed.stdout.contains("applied my-filter\n"), "{}{}", deployed.stdout, deployed.stderr);
    let producer = producer(&node.bootstrap());
    ["{\"a\":1}", "{\"a\":2}"].iter().for_each(|value| produce(&producer, "my-filter.in", value));
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "my-filter.out") == 1), "{:#}", status(&node));

    // By its name, it is the component that takes no path.
    let args = ["plugin", "deploy", "my-filter/my-filter", "--config", r#"{"field": "a", "gte": 1}"#];
    let named = millstream_in(&project, &[&args[..], &["--admin", &admin, "--json"]].concat());
    assert_eq!(succeed(&named)["version"], 2);
}
