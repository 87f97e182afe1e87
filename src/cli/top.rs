//! `millstream top`: pipelines, stages and plugins at work, as `/v1/status` tells of them, frame by frame.
//!
//! The node counts and the client subtracts: rates are differences between two answers.

mod frame;
mod rows;
mod screen;
mod status;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use self::frame::{Frame, Style};
use self::rows::Rows;
use self::screen::Screen;
use self::status::Status;
use super::admin_client::AdminClient;
use super::clock::Stopwatch;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::node_args::AdminConnection;
use super::output::Output;

/// A node that takes longer than that is shown as one that does not answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How often keys and signals are looked at while there is nothing to show.
const POLL: Duration = Duration::from_millis(50);
/// Shorter, and the node would be busy with telling what it is busy with.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    connection: AdminConnection,

    /// Seconds between two frames
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// Print one frame, of one interval, and end
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval)).ok_or_else(|| {
        format!("write seconds, from {} to {}", INTERVAL_MIN.as_secs_f64(), INTERVAL_MAX.as_secs())
    })
}

pub(crate) fn run(args: &TopArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let client = AdminClient::with_timeout(&args.connection, ANSWER_TIME_MAX);
    let mut samples = Samples { client: &client, watch: Stopwatch::start(), last: None };
    if args.once {
        samples.take()?;
        wait(args.interval, &interrupt);
        return print(&samples.take()?, output);
    }
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !output.json() && is_terminal {
        return watch(args, &mut samples, &interrupt, output);
    }
    while !interrupt.requested() {
        print(&samples.take()?, output)?;
        output.flush()?;
        wait(args.interval, &interrupt);
    }
    Ok(())
}

/// The node's answers, one after the other.
struct Samples<'a> {
    client: &'a AdminClient,
    watch: Stopwatch,
    /// The last one, and when it was taken, in seconds.
    last: Option<(Status, f64)>,
}

impl Samples<'_> {
    fn take(&mut self) -> Result<Rows, Failure> {
        let status: Status = self.client.get("/v1/status")?;
        let now = self.watch.seconds();
        let before = self.last.as_ref().map(|(before, at)| (before, now - at));
        let rows = Rows::new(before, &status);
        self.last = Some((status, now));
        Ok(rows)
    }
}

fn print(rows: &Rows, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(rows);
    }
    let frame = Frame::new(rows);
    frame.lines.iter().try_for_each(|(line, _)| output.line(line))?;
    // Frames follow each other.
    output.line("")
}

fn wait(interval: Duration, interrupt: &Interrupt) {
    let watch = Stopwatch::start();
    while !interrupt.requested() && watch.seconds() < interval.as_secs_f64() {
        std::thread::sleep(POLL.min(interval));
    }
}

/// On a terminal, until somebody has seen enough. A node that does not answer may do so again.
fn watch(
    args: &TopArgs,
    samples: &mut Samples<'_>,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    // Who asks for a node that is not there wants to read that after the command has ended.
    let mut frame = Frame::new(&samples.take()?);
    let mut screen = Screen::open(output)?;
    loop {
        screen.show(&frame)?;
        let shown = Stopwatch::start();
        while shown.seconds() < args.interval.as_secs_f64() {
            if interrupt.requested() || screen.wants_to_leave(POLL, &frame)? {
                return Ok(());
            }
        }
        match samples.take() {
            Ok(rows) => frame = Frame::new(&rows),
            Err(failure) => frame.say(&failure.to_string(), Style::Bad),
        }
    }
}
