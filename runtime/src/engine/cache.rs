//! Compiled code on this node's disk, under the hash of the component and of everything that shapes the code.
//!
//! A file is named `<component sha-256>-<compatibility>-<code sha-256>.cwasm`, written once, synced and renamed
//! into place. It is read whole and its hash compared before it is used, so that neither a torn write nor a
//! change behind our back becomes machine code. Nothing from outside this node ever enters the directory: who can
//! write there can write the broker's own binary.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

/// Machine code is a few times the size of the component; a file beyond this is not ours.
const CODE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Compiled code, loaded.
pub(super) enum Code {
    Component(Component),
    Module(Module),
}

pub(super) struct CompileCache {
    dir: PathBuf,
}

impl CompileCache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The component's code, if it was compiled here before. Whatever is wrong with the file, the answer is to
    /// compile again.
    pub(super) fn get(&self, engine: &Engine, component: &[u8; 32]) -> Option<Code> {
        let prefix = key(engine, component);
        let (path, expected) = self.find(&prefix)?;
        let code = read(&path).inspect_err(|error| warn("read", &path, error)).ok()?;
        if hex(&Sha256::digest(&code)) != expected {
            tracing::warn!(path = %path.display(), "compiled code is damaged, compiling anew");
            let _ = fs::remove_file(&path);
            return None;
        }
        load_own_code(engine, &code)
            .inspect_err(|error| {
                tracing::info!(error = format!("{error:#}"), "cached code does not fit this engine")
            })
            .ok()
    }

    /// Keeps `code`. A failure costs a compilation later and nothing else.
    pub(super) fn put(&self, engine: &Engine, component: &[u8; 32], code: &[u8]) {
        let name = format!("{}-{}.cwasm", key(engine, component), hex(&Sha256::digest(code)));
        let path = self.dir.join(name);
        if let Err(error) = self.write(&path, code) {
            warn("write", &path, &error);
        }
    }

    /// Removes the code of all components but these, and what a crash left half-written.
    pub(super) fn retain(&self, components: &BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let component =
                name.to_str().and_then(|name| name.split_once('-')).map(|(component, _)| component);
            if !component.is_some_and(|component| components.contains(component))
                && let Err(error) = fs::remove_file(entry.path())
            {
                warn("remove", &entry.path(), &error);
            }
        }
    }

    /// Removes all code but what was compiled last: so many files of it.
    pub(super) fn retain_newest(&self, files: usize) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let is_code = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "cwasm");
        let aged = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
        let paths = entries.flatten().map(|entry| entry.path()).filter(is_code);
        let mut aged: Vec<_> = paths.filter_map(aged).collect();
        aged.sort();
        for (_, path) in aged.iter().rev().skip(files) {
            // Another process may have done it.
            let _ = fs::remove_file(path);
        }
    }

    fn find(&self, prefix: &str) -> Option<(PathBuf, String)> {
        for entry in fs::read_dir(&self.dir).ok()?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
            if let Some(hash) = rest.and_then(|rest| rest.strip_suffix(".cwasm")) {
                return Some((entry.path(), hash.to_owned()));
            }
        }
        None
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // Two processes or threads may write the same code: each to a file of its own, and the last rename wins.
        let unique = format!("{}-{:?}.tmp", std::process::id(), std::thread::current().id());
        let temporary = path.with_extension(unique.replace(['(', ')'], "-"));
        let written = write_synced(&temporary, code).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Machine code that this process compiled, or read back from its own cache with its hash intact.
#[expect(unsafe_code, reason = "loading machine code is what the cache is for; this is the only place")]
pub(super) fn load_own_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Code> {
    let is_module = matches!(Engine::detect_precompiled(code), Some(Precompiled::Module));
    // SAFETY: `deserialize` runs what it is given, so the bytes have to be the output of wasmtime's compiler. They
    // are: the callers pass what `Compiler::compile` has just returned, which this binary made, be it in a process of
    // its own, or what `CompileCache::get` read from a file that only `CompileCache::put` writes and whose SHA-256
    // matches its name. Bytes of another version or configuration of wasmtime are recognised by `deserialize` itself
    // and refused.
    unsafe {
        match is_module {
            true => Module::deserialize(engine, code).map(Code::Module),
            false => Component::deserialize(engine, code).map(Code::Component),
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > CODE_BYTES_MAX {
        return Err(io::Error::other(format!("{size} bytes are more than compiled code takes")));
    }
    fs::read(path)
}

fn write_synced(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(code)?;
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)?;
    file.sync_all()
}

fn key(engine: &Engine, component: &[u8; 32]) -> String {
    let mut compatibility = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    format!("{}-{}", hex(component), hex(&compatibility.0.finalize()[..8]))
}

/// A hash that stays the same from one build to the next, which the standard library's does not promise.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken from the inner hasher")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn warn(what: &str, path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "could not {what} compiled code");
}
