//! Builds the guests: the plugins that the binary carries, and those of the tests. Embeds the templates of plugins.
//!
//! A nested cargo compiles them for WebAssembly into a target directory of its own, which debug and release builds,
//! tests and clippy share. `GUEST_<NAME>` is then the path of each, for `env!` in the binary and in the tests:
//!
//! ```text
//! const PARSER: &[u8] = include_bytes!(env!("GUEST_ACCESS_LOG_PARSER"));
//! ```

#[path = "build/templates.rs"]
mod templates;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

const PROFILE: &str = "guest";

/// Guests of one target, and how cargo names the file of one.
struct Guests {
    target: &'static str,
    packages: &'static [&'static str],
    file: fn(&str) -> String,
}

const GUESTS: [Guests; 2] = [
    // Components, each of them a library.
    Guests {
        target: "wasm32-wasip2",
        packages: &[
            "access-log-parser",
            "access-log-errors",
            "filter",
            "csv-lines",
            "mask",
            "identity",
            "identity-typed",
            "hostile",
            "file-lines",
            "counter",
            "runner",
            "secretive",
            "pseudonymize",
            "webhook",
            "http-poll",
            "http-caller",
            "conformance-batch",
            "conformance-asking",
            "conformance-calling",
            "conformance-lent",
            "conformance-sink",
            "conformance-source",
            "conformance-typed",
        ],
        file: |package| format!("{}.wasm", package.replace('-', "_")),
    },
    // Core modules with Redpanda's SDK, each of them a program.
    Guests {
        target: "wasm32-wasip1",
        packages: &["redpanda-identity", "redpanda-mapper", "redpanda-hostile"],
        file: |package| format!("{package}.wasm"),
    },
];

/// What the guests are made of, apart from crates of the registry, which the lock file names.
const SOURCES: [&str; 16] = [
    "Cargo.lock",
    "Cargo.toml",
    "plugins",
    "sdk/conformance/batch",
    "sdk/conformance/calls",
    "sdk/conformance/lent",
    "sdk/conformance/sink",
    "sdk/conformance/source",
    "sdk/conformance/typed",
    "sdk/record/Cargo.toml",
    "sdk/record/src",
    "sdk/rust/Cargo.toml",
    "sdk/rust/macros",
    "sdk/rust/src",
    "sdk/wit",
    "tests/guests",
];

/// Variables that say where cargo finds what, and how it reports. All other ones of cargo's and rustc's are about the
/// build around this one: its target, flags, wrappers and profile.
const KEPT: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "CARGO_BUILD_JOBS",
    "CARGO_MAKEFLAGS",
    "CARGO_UNSTABLE_",
];

fn main() {
    for source in SOURCES.into_iter().chain(templates::SOURCES) {
        println!("cargo::rerun-if-changed={source}");
    }
    // Cargo fails for the error and shows that line alone; it shows everything where a script itself fails.
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let root = directory("CARGO_MANIFEST_DIR")?;
    let out = directory("OUT_DIR")?;
    templates::embed(&root, &out)?;
    let target_directory = target_directory(&root, &out).join("guests");
    for guests in &GUESTS {
        ensure_target(guests.target)?;
        compile(&root, &target_directory, guests)?;
        for package in guests.packages {
            let file = (guests.file)(package);
            let built = target_directory.join(guests.target).join(PROFILE).join(&file);
            let copy = out.join(&file);
            copy_if_changed(&built, &copy)
                .map_err(|error| format!("can't copy {}: {error}", built.display()))?;
            let variable = package.replace('-', "_").to_uppercase();
            println!("cargo::rustc-env=GUEST_{variable}={}", copy.display());
        }
    }
    Ok(())
}

fn directory(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set: build with cargo"))
}

/// Cargo marks the target directory as a cache; how deep `OUT_DIR` lies in it depends on how cargo was called.
fn target_directory(root: &Path, out: &Path) -> PathBuf {
    let marked = out.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    marked.map_or_else(|| root.join("target"), Path::to_path_buf)
}

/// The toolchain file asks for the target, which is enough where rustup reads it.
fn ensure_target(target: &str) -> Result<(), String> {
    if has_target(target)? {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", target]).output();
    if added.is_ok_and(|output| output.status.success()) && has_target(target)? {
        return Ok(());
    }
    Err(format!("the standard library for WebAssembly is missing: type `rustup target add {target}`"))
}

fn has_target(target: &str) -> Result<bool, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).args(["--print", "target-libdir", "--target", target]).output();
    let output = output.map_err(|error| format!("can't run {}: {error}", rustc.display()))?;
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(!libraries.is_empty() && Path::new(&libraries).is_dir())
}

fn compile(root: &Path, target_directory: &Path, guests: &Guests) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--target", guests.target, "--profile", PROFILE, "--target-dir"]);
    command.arg(target_directory).arg("--manifest-path").arg(root.join("Cargo.toml"));
    for package in guests.packages {
        command.args(["--package", package]);
    }
    for (variable, _) in env::vars_os().filter(|(variable, _)| belongs_to_the_outer_build(variable)) {
        command.env_remove(variable);
    }
    let output = command.output().map_err(|error| format!("can't run cargo for the guests: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    io::stderr()
        .write_all(&output.stderr)
        .map_err(|error| format!("can't write to standard error: {error}"))?;
    process::exit(1)
}

fn belongs_to_the_outer_build(variable: &OsString) -> bool {
    let variable = variable.to_string_lossy();
    let is_rustcs = ["RUSTC", "RUSTDOC", "RUSTFLAGS"].iter().any(|prefix| variable.starts_with(prefix));
    let is_cargos = variable.starts_with("CARGO_") && !KEPT.iter().any(|kept| variable.starts_with(kept));
    is_rustcs || is_cargos
}

/// A new time of change alone would compile again whatever includes the file.
fn copy_if_changed(from: &Path, to: &Path) -> io::Result<()> {
    let new = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == new) { Ok(()) } else { fs::write(to, new) }
}
