//! The process that compiles plugins: this binary again, under a name that is for no user.
//!
//! Compiling turns a few megabytes from outside into gigabytes and minutes, if they are made for it. In a process of
//! its own that has limits, it can take down nothing else.

use std::io;
use std::process::ExitCode;

use millstream_runtime::engine::{ChildCompiler, compile_in_child};

/// The subcommand, which `--help` does not show.
pub(crate) const COMMAND: &str = "compile-plugin";

/// The binary that runs now, also after another one has taken its place on disk.
const THIS_BINARY: &str = "/proc/self/exe";

/// What a node's engine compiles with.
pub(crate) fn compiler() -> ChildCompiler {
    ChildCompiler::new(THIS_BINARY, [COMMAND.into()])
}

/// What the child does: a component on standard input, its machine code on standard output.
pub(crate) fn run() -> ExitCode {
    match compile_in_child(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // To the parent, which makes an error of it; if that is gone, so is the reader.
            let _ = io::Write::write_all(&mut io::stderr(), message.as_bytes());
            ExitCode::FAILURE
        }
    }
}
