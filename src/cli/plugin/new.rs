//! `millstream plugin new`: a directory to write a plugin in.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

use super::templates;
use crate::cli::failure::Failure;
use crate::cli::node_args::PluginNewArgs;
use crate::cli::output::Output;

pub(super) fn run(args: &PluginNewArgs, output: &mut Output) -> Result<(), Failure> {
    let PluginNewArgs { name, lang, role } = args;
    let dir = Path::new(name.as_str());
    refuse_what_has_files(dir)?;
    let files = templates::files(*lang, *role, name);
    for (path, text) in &files {
        write(&dir.join(path), text)?;
    }
    if output.json() {
        let paths: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        return output.document(&json!({"directory": dir, "files": paths}));
    }
    output.line(format_args!("{} is a {role} in {lang}; its README.md says more. Next:", dir.display()))?;
    output.line(format_args!("  cd {}", dir.display()))?;
    output.line("  millstream plugin build")?;
    output.line("  millstream plugin test")?;
    output.line("  millstream plugin deploy    # on a node: `millstream up` starts one")
}

/// What is there is somebody's.
fn refuse_what_has_files(dir: &Path) -> Result<(), Failure> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::Usage(format!(
            "{} exists and is not empty: use another name, or another directory",
            dir.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Failure::Input { path: dir.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = parent.and_then(|()| fs::write(path, text));
    written.map_err(|source| Failure::File { path: path.to_owned(), source })
}
