//! Embeds what `millstream plugin new` writes: the templates, the contract, and for Rust the SDK's sources, which are on
//! no registry. `OUT_DIR/templates.rs` is then a list of (folder, its files), each a (path, text); the templates' folders
//! are those two levels below `sdk/templates`: `rust/any`, `roles/sink`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// What [`embed`] reads, apart from the guests' sources.
pub(crate) const SOURCES: [&str; 3] = ["LICENSE", "rust-toolchain.toml", "sdk/templates"];

/// The crates of the SDK, and the folder of each in a project.
const CRATES: [(&str, &str); 3] =
    [("sdk/rust", "sdk"), ("sdk/rust/macros", "sdk-macros"), ("sdk/record", "record")];
/// The folder of the project that they go into.
const VENDOR: &str = "millstream";
/// The contract that plugins are built against.
const CONTRACT: &str = "sdk/wit/0.2";

/// A file of a project: its path there, and where its text comes from.
type Files = Vec<(String, PathBuf)>;

pub(crate) fn embed(root: &Path, out: &Path) -> Result<(), String> {
    let mut folders: Vec<(String, Files)> = Vec::new();
    for group in entries(&root.join("sdk/templates"))? {
        for folder in entries(&group)? {
            let mut files = Files::new();
            collect(&folder, "", &mut files)?;
            folders.push((format!("{}/{}", name(&group), name(&folder)), files));
        }
    }
    let mut wit = Files::new();
    collect(&root.join(CONTRACT), "wit", &mut wit)?;
    folders.push(("wit".to_owned(), wit));
    folders.push(("sdk".to_owned(), sdk(root, out)?));

    let mut source = "&[\n".to_owned();
    for (folder, files) in folders {
        writeln!(source, "    ({folder:?}, &[").map_err(|error| error.to_string())?;
        for (path, file) in files {
            writeln!(source, "        ({path:?}, include_str!({file:?})),")
                .map_err(|error| error.to_string())?;
        }
        source.push_str("    ]),\n");
    }
    source.push_str("]\n");
    let target = out.join("templates.rs");
    fs::write(&target, source).map_err(|error| format!("can't write {}: {error}", target.display()))
}

/// The SDK as a project vendors it: `cargo` finds all of it there, and needs no workspace of ours around it.
fn sdk(root: &Path, out: &Path) -> Result<Files, String> {
    let mut files = vec![
        ("rust-toolchain.toml".to_owned(), root.join("rust-toolchain.toml")),
        (format!("{VENDOR}/LICENSE"), root.join("LICENSE")),
    ];
    // The SDK's sources name the contract by its path.
    collect(&root.join(CONTRACT), &format!("{VENDOR}/wit/0.2"), &mut files)?;
    let workspace = read_toml(&root.join("Cargo.toml"))?;
    for (home, folder) in CRATES {
        let manifest = manifest(&workspace, &read_toml(&root.join(home).join("Cargo.toml"))?)?;
        let text = toml::to_string(&manifest).map_err(|error| format!("{home}/Cargo.toml: {error}"))?;
        let file = out.join(format!("{folder}-Cargo.toml"));
        fs::write(&file, text).map_err(|error| format!("can't write {}: {error}", file.display()))?;
        files.push((format!("{VENDOR}/{folder}/Cargo.toml"), file));
        collect(&root.join(home).join("src"), &format!("{VENDOR}/{folder}/src"), &mut files)?;
    }
    Ok(files)
}

/// A crate's manifest with what it inherits from the workspace written out, and without its tests and benchmarks.
fn manifest(workspace: &Table, of_crate: &Table) -> Result<Table, String> {
    let mut manifest = of_crate.clone();
    for left_out in ["dev-dependencies", "bench", "test", "lints"] {
        manifest.remove(left_out);
    }
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        for (key, value) in package.iter_mut().filter(|(_, value)| is_inherited(value)) {
            *value = inherited(workspace, "package", key)?;
        }
    }
    let mut sections: Vec<&mut Value> = Vec::new();
    for (name, section) in &mut manifest {
        if name == "dependencies" {
            sections.push(section);
        } else if name == "target"
            && let Some(targets) = section.as_table_mut()
        {
            sections.extend(targets.iter_mut().filter_map(|(_, target)| target.get_mut("dependencies")));
        }
    }
    for (name, dependency) in sections.into_iter().filter_map(Value::as_table_mut).flatten() {
        if is_inherited(dependency) {
            *dependency = merged(inherited(workspace, "dependencies", name)?, dependency)?;
        }
    }
    Ok(manifest)
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn inherited(workspace: &Table, section: &str, key: &str) -> Result<Value, String> {
    let value = workspace.get("workspace").and_then(|workspace| workspace.get(section)?.get(key));
    value.cloned().ok_or_else(|| format!("Cargo.toml has no workspace.{section}.{key}"))
}

/// A dependency of the workspace, with what a crate adds to it.
fn merged(dependency: Value, of_crate: &Value) -> Result<Value, String> {
    let mut merged = match dependency {
        Value::Table(table) => table,
        version => Table::from_iter([("version".to_owned(), version)]),
    };
    if let Some(path) = merged.get("path").and_then(Value::as_str) {
        let folder = CRATES.iter().find(|(home, _)| *home == path).map(|(_, folder)| folder);
        let folder = folder.ok_or_else(|| format!("the SDK depends on {path}, which is not vendored"))?;
        merged.insert("path".to_owned(), Value::String(format!("../{folder}")));
    }
    let added = of_crate.as_table().into_iter().flatten().filter(|(key, _)| *key != "workspace");
    merged.extend(added.map(|(key, value)| (key.clone(), value.clone())));
    Ok(Value::Table(merged))
}

fn read_toml(path: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

/// All files below `path`, as files below `folder`.
fn collect(path: &Path, folder: &str, files: &mut Files) -> Result<(), String> {
    for entry in entries(path)? {
        let name = name(&entry);
        let inside = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.is_dir() {
            collect(&entry, &inside, files)?;
        } else {
            files.push((inside, entry));
        }
    }
    Ok(())
}

/// What is in a directory, by name.
fn entries(path: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("can't read {}: {error}", path.display());
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
