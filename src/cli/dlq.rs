//! `millstream dlq`: dead letters, the records that stages put aside in a topic because they or their plugins could not
//! do with them. Which topics hold some, what they are, and back to where they came from.

mod letter;
mod list;
mod reader;
mod replay;
mod show;

use clap::Subcommand;

use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the dead letter topics of the pipelines, how many letters they hold, and why
    List(list::ListArgs),
    /// Show letters: the record, where it came from, and what happened to it
    Show(show::ShowArgs),
    /// Write letters back to the topics that they came from, as the records that they were
    Replay(replay::ReplayArgs),
}

pub(crate) fn run(command: DlqCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        DlqCommand::List(args) => list::run(&args, output),
        DlqCommand::Show(args) => show::run(&args, output),
        DlqCommand::Replay(args) => replay::run(&args, output),
    }
}
