//! `millstream plugin keygen|sign`: keys, and signatures of plugins.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::node::plugin_hash;
use crate::signature::{PrivateKey, is_key_name, signature_path};

/// `millstream plugin keygen`.
#[derive(Debug, Args)]
pub(crate) struct PluginKeygenArgs {
    /// Where the private key goes, for its owner's eyes; the public one goes into FILE.pub
    file: PathBuf,

    /// How lists of trusted keys call it [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// `millstream plugin sign`.
#[derive(Debug, Args)]
pub(crate) struct PluginSignArgs {
    /// A WebAssembly component; its signature goes into FILE.sig
    file: PathBuf,

    /// A private key that `keygen` has made
    #[arg(long, value_name = "KEYFILE")]
    key: PathBuf,
}

pub(super) fn keygen(args: &PluginKeygenArgs, output: &mut Output) -> Result<(), Failure> {
    let of_file = || args.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(of_file).unwrap_or_default();
    if !is_key_name(&name) {
        let reason = "has other characters than letters, digits, \".\", \"_\", \"@\" and \"-\": pass --name";
        return Err(Failure::Usage(format!("the key's name {name:?} {reason}")));
    }
    let failed = |reason: String| Failure::Plugin { path: args.file.clone(), reason };
    let key = PrivateKey::generate().map_err(|error| failed(error.to_string()))?;
    let public = args.file.with_added_extension("pub");
    let unwritten = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::File { path, source }
    };
    // Both files are new, or none is made: a public key that lies there may be the only copy of one that nodes trust.
    let mut public_file = File::create_new(&public).map_err(unwritten(&public))?;
    if let Err(source) = key.write(&args.file) {
        fs::remove_file(&public).map_err(unwritten(&public))?;
        return Err(unwritten(&args.file)(source));
    }
    public_file.write_all(key.public_line(&name).as_bytes()).map_err(unwritten(&public))?;
    let id = key.id().to_string();
    if output.json() {
        return output.document(&json!({"private": args.file, "public": public, "name": name, "id": id}));
    }
    output.line(format_args!("{}: the private key {id}; keep it to yourself", args.file.display()))?;
    output.line(format_args!("{}: a line for the node's plugin.signature.keys", public.display()))
}

pub(super) fn sign(args: &PluginSignArgs, output: &mut Output) -> Result<(), Failure> {
    let key = PrivateKey::read(&args.key);
    let key = key.map_err(|error| Failure::Plugin { path: args.key.clone(), reason: error.to_string() })?;
    let bytes = fs::read(&args.file).map_err(|source| Failure::Input { path: args.file.clone(), source })?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        let reason = format!("it has more than {COMPONENT_BYTES_MAX} bytes: no node takes it");
        return Err(Failure::Plugin { path: args.file.clone(), reason });
    }
    let sha256 = plugin_hash(&bytes);
    let path = signature_path(&args.file);
    write(&path, &key.sign(&sha256).to_text())?;
    if output.json() {
        return output.document(&json!({"signature": path, "key": key.id().to_string(), "sha256": sha256}));
    }
    output.line(format_args!("{}: signed with the key {}", path.display(), key.id()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::File { path: path.to_owned(), source })
}
