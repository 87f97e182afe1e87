//! `millstream plugin logs`: what plugins say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::admin_client::{AdminClient, path_segment};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::node_args::{LogsOf, PluginLogsArgs};
use crate::cli::output::{Output, remark};
use crate::cli::timestamp;

/// How long the node waits for a line before it says that there is none, and Ctrl-C is looked at.
const WAIT_MS: u64 = 1000;
/// Before a node that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
struct Answer {
    begun_ms: i64,
    lines: Vec<Line>,
    after: u64,
    lost: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    seq: u64,
    time_ms: i64,
    level: String,
    pipeline: String,
    stage: String,
    plugin: String,
    version: u32,
    text: String,
}

pub(super) fn run(args: &PluginLogsArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let client = AdminClient::new(&args.connection);
    let whose = whose(&args.of);
    let mut answer: Answer = client.get(&format!("/v1/logs?{whose}&newest={}", args.lines))?;
    if answer.lines.is_empty() && !args.follow {
        remark("there are no lines: `millstream plugin list` shows the plugins that run");
    }
    print(&answer, output)?;
    while args.follow && !interrupt.requested() {
        output.flush()?;
        let (begun_ms, after) = (answer.begun_ms, answer.after);
        let next = format!("/v1/logs?{whose}&after={after}&wait_ms={WAIT_MS}");
        let Some(mut next) = keep_asking(|| client.get::<Answer>(&next), &interrupt, PAUSE)? else { break };
        if next.begun_ms != begun_ms {
            remark("the node has been started anew: lines from before are gone");
            let first = format!("/v1/logs?{whose}&after=0");
            match keep_asking(|| client.get(&first), &interrupt, PAUSE)? {
                Some(anew) => next = anew,
                None => break,
            }
        }
        answer = next;
        print(&answer, output)?;
    }
    Ok(())
}

/// Asks a node that may be about to start anew, or that has enough others to answer, until it answers. None if somebody
/// interrupts.
fn keep_asking<T>(
    mut ask: impl FnMut() -> Result<T, Failure>,
    interrupt: &Interrupt,
    pause: Duration,
) -> Result<Option<T>, Failure> {
    let mut told = false;
    while !interrupt.requested() {
        match ask() {
            Err(failure @ (Failure::Unreachable { .. } | Failure::Busy { .. })) => {
                if !told {
                    remark(format_args!("{failure}; asks again until there is an answer"));
                    told = true;
                }
                std::thread::sleep(pause);
            }
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}

fn whose(of: &LogsOf) -> String {
    let LogsOf { pipeline, stage, plugin } = of;
    let mut query = format!("pipeline={}", path_segment(pipeline));
    for (name, value) in [("stage", stage), ("plugin", plugin)] {
        if let Some(value) = value {
            query += &format!("&{name}={}", path_segment(value));
        }
    }
    query
}

fn print(answer: &Answer, output: &mut Output) -> Result<(), Failure> {
    if answer.lost > 0 {
        output.flush()?;
        remark(format_args!("{} lines, of these plugins or others, came too fast and are lost", answer.lost));
    }
    for line in &answer.lines {
        if output.json() {
            output.document(line)?;
            continue;
        }
        let Line { time_ms, level, stage, plugin, version, text, .. } = line;
        let (time, level) = (timestamp::format(*time_ms), level.to_uppercase());
        output.line(format_args!("{time} {level:<5} {stage}/{plugin}@v{version}: {text}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_away_is_asked_again() {
        let unreachable = || Failure::Unreachable { bootstrap: "n".to_owned(), reason: "r".to_owned() };
        let busy = || Failure::Busy { address: "n".to_owned(), reason: "r".to_owned() };
        let refused = || Failure::Admin { address: "n".to_owned(), reason: "r".to_owned() };
        let interrupt = Interrupt::default();
        let mut answers = vec![Ok(7), Err(busy()), Err(unreachable())];
        let asked =
            keep_asking(|| answers.pop().expect("it ends with an answer"), &interrupt, Duration::ZERO);
        assert_eq!(asked.unwrap(), Some(7));
        let asked = keep_asking(|| Err::<u8, _>(refused()), &interrupt, Duration::ZERO);
        assert!(matches!(asked, Err(Failure::Admin { .. })), "what won't change is told");
        let ask = || {
            interrupt.request();
            Err::<u8, _>(unreachable())
        };
        assert_eq!(keep_asking(ask, &interrupt, Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn names_become_a_query() {
        let check = |text: &str, expected: Result<&str, ()>| {
            let of = text.parse::<LogsOf>().map_err(|_| ());
            assert_eq!(of.map(|of| whose(&of)), expected.map(str::to_owned), "{text}");
        };
        check("p", Ok("pipeline=p"));
        check("p/s", Ok("pipeline=p&stage=s"));
        check("p&a/s/x", Ok("pipeline=p%26a&stage=s&plugin=x"));
        for wrong in ["", "p/", "/s", "p//x", "p/s/x/y"] {
            check(wrong, Err(()));
        }
    }
}
