//! The rules of the house that a compiler doesn't hold: which crate may import which, and how files look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, tests excluded.
const FILE_LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `package` depends on `dependency`, directly or not.
fn depends(package: &str, dependency: &str) -> bool {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", package, "-i", dependency])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    output.status.success()
}

#[test]
fn imports_go_one_way() {
    let allowed = [
        ("millstream-runtime", "wasmtime"),
        ("millstream-runtime", "millstream-record"),
        ("millstream-broker", "redb"),
        ("millstream-broker", "millstream-record"),
    ];
    for (package, dependency) in allowed {
        assert!(depends(package, dependency), "{package} should depend on {dependency}: is the name right?");
    }
    let forbidden = [
        ("millstream-broker", "millstream-runtime"),
        ("millstream-broker", "wasmtime"),
        ("millstream-runtime", "millstream-broker"),
        ("millstream-runtime", "millstream-wire"),
        ("millstream-runtime", "redb"),
        ("millstream-runtime", "openraft"),
        ("millstream-sdk", "wasmtime"),
        ("millstream-sdk", "tokio"),
        ("millstream-record", "tokio"),
        ("millstream-wire", "tokio"),
    ];
    for (package, dependency) in forbidden {
        assert!(!depends(package, dependency), "{package} must not depend on {dependency}");
    }
}

/// Inside the broker: who may name what.
#[test]
fn only_their_owners_name_the_libraries_underneath() {
    let owners: [(&str, &[&str]); 4] = [
        ("redb::", &["broker/src/log", "broker/src/metadata"]),
        ("openraft::", &["broker/src/metadata"]),
        ("bincode::", &["broker/src/codec.rs"]),
        ("wasmtime::", &["runtime/src"]),
    ];
    for file in sources() {
        let text = fs::read_to_string(root().join(&file)).expect("a source file is readable");
        for (library, homes) in owners {
            let at_home = homes.iter().any(|home| file.to_string_lossy().starts_with(home));
            let named =
                text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(library));
            assert!(at_home || !named, "{} names {library}, which belongs to {homes:?}", file.display());
        }
    }
}

#[test]
fn files_open_with_their_purpose_and_fit_one_sitting() {
    for file in sources() {
        let text = fs::read_to_string(root().join(&file)).expect("a source file is readable");
        assert!(text.starts_with("//!"), "{} does not open with what it is for", file.display());
        let is_test = file.components().any(|part| part.as_os_str() == "tests")
            || file.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs"));
        let lines = text.lines().count();
        assert!(is_test || lines <= FILE_LINES_MAX, "{} has {lines} lines", file.display());
    }
}

/// The crates' own sources, relative to the root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let homes =
        ["src", "broker/src", "broker/wire/src", "broker/wire/build", "runtime/src", "sdk", "plugins"];
    for home in homes {
        collect(&root().join(home), &mut found);
    }
    assert!(found.len() > 50, "the sources are elsewhere: only {} found", found.len());
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder is readable") {
        let path = entry.expect("a source folder is readable").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && name != "target" && name != "fuzz" {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
        }
    }
}
