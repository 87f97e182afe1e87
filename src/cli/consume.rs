//! `millstream consume`: print the records of topics, from anywhere, alone or as a member of a group.

mod format;
pub(super) mod source;

use std::time::Duration;

use clap::Args;
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use self::format::{Format, NotAFormat};
use self::source::Source;
use super::clock::Stopwatch;
use super::connection::Connection;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::Output;
use super::position::Position;

/// How long to wait for a record before interrupts and timeouts are looked at again.
pub(super) const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    connection: Connection,

    /// A topic to read; may be repeated
    #[arg(long = "topic", short, required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Read this partition only; may be repeated
    #[arg(long = "partition", short, value_name = "N", conflicts_with = "group")]
    partitions: Vec<i32>,

    /// Where to begin: beginning, end, an offset, or @TIME (ms since 1970, or RFC 3339); with a group, where
    /// it has committed nothing [default: end]
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,

    /// Read as a member of this group: its committed offsets decide where to begin, and are moved
    #[arg(long, short)]
    group: Option<String>,

    /// End after this many records; fewer before --timeout is a failure
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,

    /// End when no record has come for this long, once partitions are assigned
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// End when everything that was there at the start has been read (one topic, no group)
    #[arg(long, conflicts_with = "group")]
    until_end: bool,

    /// value, json, or a text with %t topic, %p partition, %o offset, %T timestamp, %k key, %v value,
    /// %h headers, \n and \t
    #[arg(long, short, default_value = "value", value_parser = format)]
    format: Format,
}

fn format(text: &str) -> Result<Format, NotAFormat> {
    text.parse()
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds")
}

pub(crate) fn run(args: &ConsumeArgs, output: &mut Output) -> Result<(), Failure> {
    check(args)?;
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let format = if output.json() { &Format::Json } else { &args.format };
    let mut source = Source::open(args)?;
    let printed = print_records(args, format, &mut source, &interrupt, output);
    // The offsets of what was printed are committed also where printing then failed.
    let committed = source.close();
    let printed = printed?;
    committed?;
    match args.max {
        Some(max) if printed < max && !interrupt.requested() => {
            Err(Failure::Incomplete(format!("got {printed} of {max} records")))
        }
        _ => Ok(()),
    }
}

fn check(args: &ConsumeArgs) -> Result<(), Failure> {
    if args.group.is_some() && matches!(args.from, Some(Position::Offset(_) | Position::Timestamp(_))) {
        let problem =
            "with --group, --from is beginning or end: use `millstream group reset` to move a group";
        return Err(Failure::Usage(problem.to_owned()));
    }
    if args.until_end && args.topics.len() > 1 {
        return Err(Failure::Usage("--until-end reads one topic".to_owned()));
    }
    Ok(())
}

/// Prints until there is a reason to end; the number of records that were printed.
fn print_records(
    args: &ConsumeArgs,
    format: &Format,
    source: &mut Source,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<u64, Failure> {
    let mut printed = 0;
    let mut quiet = Stopwatch::start();
    while !interrupt.requested() && args.max.is_none_or(|max| printed < max) && !source.at_end() {
        // What is there already is printed in one go, and shown before waiting for more.
        let next = match source.poll(Duration::ZERO) {
            None => {
                output.flush()?;
                source.poll(POLL)
            }
            next => next,
        };
        match next {
            Some(Ok(message)) => {
                format.write(&message, output)?;
                source.store_offset(&message)?;
                let (partition, offset) = (message.partition(), message.offset());
                drop(message);
                source.passed(partition, offset);
                printed += 1;
                quiet = Stopwatch::start();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => source.reached_end(partition),
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => {
                return Err(Failure::kafka(format!("consume {}", args.topics.join(", ")), &error));
            }
            None if !source.is_assigned() => quiet = Stopwatch::start(),
            None => {
                if args.timeout.is_some_and(|timeout| quiet.seconds() >= timeout.as_secs_f64()) {
                    break;
                }
            }
        }
    }
    output.flush()?;
    Ok(printed)
}

/// Errors that the client recovers from by itself: it reconnects, and joins again.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
        )
    )
}
