//! The command line of `millstream`: what can be asked, and who answers.
//!
//! `topic`, `produce`, `consume`, `group` and `bench` are Kafka clients and work against any cluster that
//! speaks the protocol. What a command prints goes through [`output`]; why it failed is a
//! [`failure::Failure`], which also decides the exit code: 0 it worked, 1 it did not, 2 it was asked wrongly, 3 somebody has to agree.

mod admin_client;
mod bench;
mod clock;
mod cluster;
mod completions;
mod connection;
mod consume;
mod delivery;
mod demo;
mod dlq;
mod failure;
mod group;
mod headers;
mod interrupt;
mod node_args;
mod output;
mod pipeline;
mod plugin;
mod position;
mod produce;
mod progress;
mod storage;
mod tap;
mod timestamp;
mod top;
mod topic;
mod up;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::failure::Failure;
use self::output::Output;
use crate::compile_plugin;

const EXIT_CODES: &str =
    "Exit codes: 0 it worked, 1 it did not, 2 the command line is wrong, 3 it waits for approval.";

/// A Kafka-compatible streaming platform that runs WebAssembly plugins beside the data.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node, until SIGTERM or Ctrl-C
    Up(node_args::UpArgs),
    /// See it work: a node, a pipeline with two plugins, and a web server's access log
    Demo(node_args::DemoArgs),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Send lines as records to a topic
    Produce(produce::ProduceArgs),
    /// Print the records of topics
    Consume(consume::ConsumeArgs),
    /// List, describe, delete and reset consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Measure a cluster: throughput and latency
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Check a pipeline file, against a node's topics
    Validate(node_args::ValidateArgs),
    /// Run a pipeline on a node, as its file says
    Apply(node_args::ApplyArgs),
    /// Show a node, and how its pipelines' stages do
    Status(node_args::StatusArgs),
    /// Watch pipelines, stages and plugins: rates, errors, processor time, memory
    Top(top::TopArgs),
    /// Look at records as they pass a stage, an ingest or a view: before it, after it, and what became of them
    Tap(tap::TapArgs),
    /// List and delete pipelines
    #[command(subcommand)]
    Pipeline(node_args::PipelineCommand),
    /// Make, build, test and deploy plugins
    #[command(subcommand)]
    Plugin(node_args::PluginCommand),
    /// List, show and replay dead letters: records that stages put aside
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Look into the log dirs of a stopped node
    #[command(subcommand)]
    Storage(node_args::StorageCommand),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
    /// Compile a plugin from standard input to standard output: what a node starts, for itself
    #[command(name = compile_plugin::COMMAND, hide = true)]
    CompilePlugin,
}

impl Command {
    /// What is logged unless `MILLSTREAM_LOG` says otherwise. A client reports its own failures, in one line;
    /// librdkafka's running commentary would bury it.
    fn default_log_filter(&self) -> &'static str {
        match self {
            // A plugin that fails is the answer, and may be what its case expects.
            Self::Plugin(node_args::PluginCommand::Test(_)) => "off",
            Self::Topic(_)
            | Self::Produce(_)
            | Self::Consume(_)
            | Self::Group(_)
            | Self::Bench(_)
            | Self::Validate(_)
            | Self::Apply(_)
            | Self::Status(_)
            | Self::Top(_)
            | Self::Tap(_)
            | Self::Pipeline(_)
            | Self::Plugin(_)
            | Self::Dlq(_)
            | Self::Storage(_)
            | Self::Completions(_)
            | Self::CompilePlugin
            | Self::Demo(_) => "error,librdkafka=off",
            Self::Up(_) => "info,openraft=warn",
        }
    }
}

/// Runs the command and reports how it went.
pub(crate) fn run(cli: Cli) -> ExitCode {
    // Its output is code, and its process is limited: it is like no other command.
    if matches!(cli.command, Command::CompilePlugin) {
        return compile_plugin::run();
    }
    start_logging(cli.command.default_log_filter());
    let mut output = Output::to_stdout(cli.json);
    let outcome = dispatch(cli.command, &mut output).and_then(|()| output.flush());
    match outcome {
        // Whoever read our output has seen enough, as in `millstream consume | head`.
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was already answered comes before the reason why there is no more of it.
            let _ = output.flush();
            output::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Topic(command) => topic::run(command, output),
        Command::Produce(args) => produce::run(&args, output),
        Command::Consume(args) => consume::run(&args, output),
        Command::Group(command) => group::run(command, output),
        Command::Bench(command) => bench::run(command, output),
        Command::Up(args) => up::run(&args, output),
        Command::Demo(args) => demo::run(&args, output),
        Command::Validate(args) => pipeline::validate(&args, output),
        Command::Apply(args) => pipeline::apply(&args, output),
        Command::Status(args) => pipeline::status(&args, output),
        Command::Top(args) => top::run(&args, output),
        Command::Tap(args) => tap::run(&args, output),
        Command::Pipeline(command) => pipeline::run(command, output),
        Command::Plugin(command) => plugin::run(command, output),
        Command::Dlq(command) => dlq::run(command, output),
        Command::Storage(command) => storage::run(command, output),
        Command::Completions(args) => completions::run(&args, output),
        Command::CompilePlugin => unreachable!("it was run before there was an output"),
    }
}

fn start_logging(default_filter: &str) {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter));
    // What a plugin does wrong is for its own log, which has limits.
    let filter = filter.add_directive("wasmtime_wasi_http=off".parse().expect("it is a directive"));
    let colours = std::io::stderr().is_terminal();
    // What can't be written to the log is lost; the subscriber's own complaint about it would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).log_internal_errors(false);
    log.with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
