//! The one binary: composition and command line.

mod admin;
mod cli;
mod client;
mod compile_plugin;
mod node;
mod record_json;
mod regular_file;
mod signature;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
