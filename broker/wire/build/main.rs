//! Translates Kafka's message field tables (`messages/*.json`) into Rust.
//!
//! `table` reads the JSON, `model` resolves it, and `emit` writes one module per message, the
//! catalogue of APIs, and for this crate's own tests a generator of sample messages.

use std::path::{Path, PathBuf};
use std::{env, fs};

mod emit;
mod model;
mod table;
mod versions;

#[expect(clippy::print_stdout, reason = "a build script speaks to cargo through stdout")]
fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=messages");
    let messages = read_messages(Path::new("messages"))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    write(&out.join("messages.rs"), &emit::messages(&messages)?)?;
    write(&out.join("samples.rs"), &emit::samples(&messages))
}

fn read_messages(folder: &Path) -> Result<Vec<model::Message>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
        .iter()
        .map(|path| read_message(path).map_err(|error| format!("{}: {error}", path.display())))
        .collect()
}

fn read_message(path: &Path) -> Result<model::Message, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let table: table::Message = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    model::Message::resolve(&table)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
