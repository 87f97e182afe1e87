//! `millstream tap`: records as they pass a stage, an ingest or a view.

use std::io::{BufRead as _, BufReader};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use millstream_runtime::printable::printable;
use serde_json::Value;

use super::admin_client::{AdminClient, path_segment};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::node_args::AdminConnection;
use super::output::{Output, remark};

/// What of a key, a value or a reason is shown to people; JSON has more.
const SHOWN_BYTES_MAX: usize = 400;

#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    #[command(flatten)]
    connection: AdminConnection,

    /// A stage, an ingest or a view
    #[arg(value_name = "PIPELINE/STAGE")]
    of: TapOf,

    /// Before it, after it, or both
    #[arg(long, value_enum, default_value_t = Side::Both)]
    side: Side,

    /// End after this many records
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,

    /// Only such records: partition=N, key=TEXT, contains=TEXT (in the value), or fate=passed, dropped, skipped,
    /// dead_lettered or refused; may be repeated
    #[arg(long = "filter", short, value_name = "WHAT=VALUE")]
    filters: Vec<TapCondition>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Side {
    In,
    Out,
    Both,
}

#[derive(Clone, Debug, PartialEq)]
struct TapOf {
    pipeline: String,
    stage: String,
}

impl FromStr for TapOf {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((pipeline, stage)) if !pipeline.is_empty() && !stage.is_empty() => {
                Ok(Self { pipeline: pipeline.to_owned(), stage: stage.to_owned() })
            }
            _ => Err("write PIPELINE/STAGE, as `millstream top` shows it"),
        }
    }
}

/// A condition as the node takes it.
#[derive(Clone, Debug, PartialEq)]
struct TapCondition(&'static str, String);

impl FromStr for TapCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else { return Err(CONDITIONS.to_owned()) };
        let name = match name {
            "partition" if value.parse::<i32>().is_ok_and(|partition| partition >= 0) => "partition",
            "partition" => return Err(format!("{value:?} is no partition")),
            "key" => "key",
            "contains" if !value.is_empty() => "value_contains",
            "fate" if FATES.contains(&value) => "fate",
            "fate" => return Err(format!("a record is {}", FATES.join(", "))),
            _ => return Err(CONDITIONS.to_owned()),
        };
        Ok(Self(name, value.to_owned()))
    }
}

const CONDITIONS: &str = "write partition=N, key=TEXT, contains=TEXT or fate=FATE";
const FATES: [&str; 5] = ["passed", "dropped", "skipped", "dead_lettered", "refused"];

pub(crate) fn run(args: &TapArgs, output: &mut Output) -> Result<(), Failure> {
    let path = path(args)?;
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let client = AdminClient::new(&args.connection);
    let mut shown = 0;
    if args.max == Some(0) {
        return Ok(());
    }
    loop {
        let mut lines = BufReader::new(client.stream(&path)?);
        let mut line = String::new();
        while !interrupt.requested() {
            line.clear();
            // The node says something every second.
            match lines.read_line(&mut line) {
                Ok(bytes) if bytes > 0 => {}
                _ => break,
            }
            let Ok(told) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(reason) = told["over"].as_str() {
                output.flush()?;
                remark(format_args!("the end: {reason}"));
                return Ok(());
            }
            if let Some(missed) = told["missed"].as_u64() {
                output.flush()?;
                remark(format_args!("{missed} records came too fast and are not shown"));
                continue;
            }
            match output.json() {
                true => output.document(&told)?,
                false => output.line(text(&told))?,
            }
            output.flush()?;
            shown += 1;
            if args.max == Some(shown) {
                return Ok(());
            }
        }
        if interrupt.requested() {
            return Ok(());
        }
        // The listener ends connections that are ten minutes old.
        remark("the connection was cut: records that pass until the next one are not shown");
    }
}

fn path(args: &TapArgs) -> Result<String, Failure> {
    let TapOf { pipeline, stage } = &args.of;
    let mut path = format!("/v1/tap?pipeline={}&stage={}", path_segment(pipeline), path_segment(stage));
    match args.side {
        Side::In => path += "&side=in",
        Side::Out => path += "&side=out",
        Side::Both => {}
    }
    for (at, TapCondition(name, value)) in args.filters.iter().enumerate() {
        if args.filters[..at].iter().any(|TapCondition(before, _)| before == name) {
            return Err(Failure::Usage("each condition of --filter can be given once".to_owned()));
        }
        path += &format!("&{name}={}", path_segment(value));
    }
    Ok(path)
}

/// A record in one line.
fn text(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().map(|text| printable(text, SHOWN_BYTES_MAX));
    let bytes = |key: &str| {
        let base64 = text(&format!("{key}_base64")).map(|base64| format!("base64 {base64}"));
        text(key).or(base64).unwrap_or_else(|| "null".to_owned())
    };
    let place = format!("{}-{}", text("topic").unwrap_or_default(), record["partition"]);
    let offset = &record["offset"];
    let side = match text("fate") {
        Some(fate) if fate == "passed" && record["outputs"] != 1 => {
            format!("in  {place} {offset} passed x{}", record["outputs"])
        }
        Some(fate) => format!("in  {place} {offset} {fate}"),
        None => format!("out {place} of {offset}"),
    };
    let why = text("reason").map_or_else(String::new, |reason| {
        let by = text("plugin").map_or_else(String::new, |plugin| format!("{plugin}: "));
        format!("  ({by}{reason})")
    });
    format!("{side}  key={}  {}{why}", bytes("key"), bytes("value"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_lines() {
        let record = json!({"side": "in", "topic": "in", "partition": 0, "offset": 7, "fate": "dead_lettered",
            "outputs": 0, "plugin": "check", "reason": "no\x1b", "key": null, "value": "v"});
        assert_eq!(text(&record), "in  in-0 7 dead_lettered  key=null  v  (check: no\u{fffd})");
        let passed = json!({"topic": "in", "partition": 0, "offset": 7, "fate": "passed", "outputs": 2, "key": "k",
            "value_base64": "/w=="});
        assert_eq!(text(&passed), "in  in-0 7 passed x2  key=k  base64 /w==");
        let output = json!({"topic": "out", "partition": 3, "offset": 7, "key": "k", "value": "v"});
        assert_eq!(text(&output), "out out-3 of 7  key=k  v");
    }

    #[test]
    fn conditions_are_checked_before_anybody_is_asked() {
        let condition = |text: &str| text.parse::<TapCondition>();
        assert_eq!(condition("key=a=b"), Ok(TapCondition("key", "a=b".into())));
        assert_eq!(condition("contains=x"), Ok(TapCondition("value_contains", "x".into())));
        for wrong in ["", "key", "partition=-1", "partition=x", "contains=", "fate=lost", "colour=red"] {
            assert!(condition(wrong).is_err(), "{wrong}");
        }
    }
}
