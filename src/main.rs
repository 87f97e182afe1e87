//! The one binary: composition and command line.

mod admin;
mod cli;
mod client;
mod compile_plugin;
mod node;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
