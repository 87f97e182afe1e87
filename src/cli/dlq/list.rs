//! `millstream dlq list`: how many letters there are, and of what kind.

use std::collections::BTreeMap;

use clap::Args;
use millstream_runtime::printable::printable;
use serde::Serialize;
use serde_json::Value;

use super::letter::{Error, Letter};
use super::reader::{self, Next};
use crate::cli::admin_client::AdminClient;
use crate::cli::cluster::Cluster;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::node_args::AdminConnection;
use crate::cli::output::{Output, Table, remark};
use crate::cli::timestamp;

/// Causes that are told apart; more are counted as one.
const CAUSES_MAX: usize = 200;
/// Of these so many are shown to people.
const CAUSES_SHOWN: usize = 10;
/// Of a reason: what differs from record to record is often at its end.
const REASON_BYTES_MAX: usize = 120;
const OTHER: &str = "others";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    admin: AdminConnection,

    #[command(flatten)]
    connection: Connection,

    /// Look into so many of a topic's newest letters to count their causes
    #[arg(long, value_name = "N", default_value = "10000")]
    scan: u64,
}

#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    /// The stages that write it, as PIPELINE.STAGE.
    stages: Vec<String>,
    letters: u64,
    partitions: Vec<Partition>,
    /// Letters whose causes were counted.
    scanned: u64,
    /// The most frequent one first.
    causes: Vec<Count>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    /// Between its first and its last offset: where a topic is compacted there may be fewer.
    letters: i64,
    start: i64,
    end: i64,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Cause {
    stage: String,
    plugin: Option<String>,
    reason: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Count {
    #[serde(flatten)]
    cause: Cause,
    letters: u64,
}

pub(super) fn run(args: &ListArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let status: Value = AdminClient::new(&args.admin).get("/v1/status")?;
    for pipeline in status["not_running"].as_array().into_iter().flatten() {
        let name = pipeline["pipeline"].as_str().unwrap_or_default();
        remark(format_args!("pipeline {name} does not run: which dead letter topics it has is not known"));
    }
    let cluster = Cluster::connect(&args.connection)?;
    let mut topics = Vec::new();
    for (topic, stages) in letter_topics(&status) {
        match cluster.find_topic(&topic)? {
            Some(_) => topics.push(inspect(args, &cluster, topic, stages, &interrupt)?),
            None => remark(format_args!("topic {topic} of {} does not exist", stages.join(", "))),
        }
    }
    match output.json() {
        true => output.document(&topics),
        false => print(&topics, output),
    }
}

/// The dead letter topics, and who writes them.
fn letter_topics(status: &Value) -> BTreeMap<String, Vec<String>> {
    let mut topics = BTreeMap::<String, Vec<String>>::new();
    for stage in status["stages"].as_array().into_iter().flatten() {
        let text = |key: &str| stage[key].as_str();
        if let (Some(topic), Some(pipeline), Some(name)) =
            (text("dead_letter"), text("pipeline"), text("stage"))
        {
            topics.entry(topic.to_owned()).or_default().push(format!("{pipeline}.{name}"));
        }
    }
    topics
}

fn inspect(
    args: &ListArgs,
    cluster: &Cluster,
    topic: String,
    stages: Vec<String>,
    interrupt: &Interrupt,
) -> Result<Topic, Failure> {
    let held = reader::held(cluster, &topic, None)?;
    let mut oldest = BTreeMap::new();
    reader::read(&args.connection, &topic, &held, interrupt, |letter| {
        oldest.insert(letter.partition, letter.timestamp);
        Ok(Next::OtherPartition)
    })?;
    let (mut newest, mut causes) = (BTreeMap::new(), Causes::default());
    let scanned = reader::newest(&held, args.scan);
    reader::read(&args.connection, &topic, &scanned, interrupt, |letter| {
        newest.insert(letter.partition, letter.timestamp);
        if args.scan > 0 {
            causes.count(&letter);
        }
        Ok(Next::Letter)
    })?;
    let partition = |(partition, range): (i32, std::ops::Range<i64>)| Partition {
        partition,
        letters: range.end - range.start,
        start: range.start,
        end: range.end,
        oldest_ms: oldest.get(&partition).copied().flatten(),
        newest_ms: newest.get(&partition).copied().flatten(),
    };
    let partitions: Vec<Partition> = held.into_iter().map(partition).collect();
    let letters = partitions.iter().map(|partition| partition.letters.unsigned_abs()).sum();
    Ok(Topic { topic, stages, letters, partitions, scanned: causes.scanned, causes: causes.sorted() })
}

/// Letters by cause, of which there may be as many as there are letters.
#[derive(Default)]
struct Causes {
    scanned: u64,
    counts: BTreeMap<Cause, u64>,
    others: u64,
}

impl Causes {
    fn count(&mut self, letter: &Letter) {
        self.scanned += 1;
        let cause = match &letter.error {
            Some(Error { reason, plugin, stage, .. }) => Cause {
                stage: stage.clone(),
                plugin: plugin.clone(),
                reason: printable(reason, REASON_BYTES_MAX),
            },
            None => Cause { stage: String::new(), plugin: None, reason: "not a dead letter".to_owned() },
        };
        if self.counts.len() >= CAUSES_MAX && !self.counts.contains_key(&cause) {
            self.others += 1;
            return;
        }
        *self.counts.entry(cause).or_default() += 1;
    }

    fn sorted(self) -> Vec<Count> {
        let count = |(cause, letters)| Count { cause, letters };
        let mut counts: Vec<Count> = self.counts.into_iter().map(count).collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.letters));
        if self.others > 0 {
            let cause = Cause { stage: String::new(), plugin: None, reason: OTHER.to_owned() };
            counts.push(Count { cause, letters: self.others });
        }
        counts
    }
}

fn print(topics: &[Topic], output: &mut Output) -> Result<(), Failure> {
    if topics.is_empty() {
        return output
            .line("no stage has a dead letter topic: `on_error: {dead_letter: TOPIC}` gives it one");
    }
    let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), timestamp::format);
    let mut table = Table::new(["TOPIC", "PARTITION", "LETTERS", "OLDEST", "NEWEST", "STAGES"]);
    for topic in topics {
        for partition in &topic.partitions {
            table.row([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.letters.to_string(),
                time(partition.oldest_ms),
                time(partition.newest_ms),
                topic.stages.join(", "),
            ]);
        }
    }
    output.table(&table)?;
    for topic in topics.iter().filter(|topic| topic.scanned > 0) {
        let of = if topic.scanned < topic.letters { format!(" of {}", topic.letters) } else { String::new() };
        output.line(format_args!("\n{}: why, of the newest {}{of}", topic.topic, topic.scanned))?;
        let mut table = Table::new(["LETTERS", "STAGE", "PLUGIN", "REASON"]);
        for Count { cause, letters } in topic.causes.iter().take(CAUSES_SHOWN) {
            let plugin = cause.plugin.clone().unwrap_or_else(|| "-".to_owned());
            table.row([letters.to_string(), cause.stage.clone(), plugin, cause.reason.clone()]);
        }
        output.table(&table)?;
        if topic.causes.len() > CAUSES_SHOWN {
            output.line(format_args!(
                "and {} more causes: --json has them",
                topic.causes.len() - CAUSES_SHOWN
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::dlq::letter::tests::letter;

    #[test]
    fn topics_are_those_that_stages_name() {
        let status = json!({"stages": [
            {"pipeline": "p", "stage": "a", "dead_letter": "dead"},
            {"pipeline": "p", "stage": "b", "dead_letter": null},
            {"pipeline": "q", "stage": "c", "dead_letter": "dead"},
        ]});
        let topics = letter_topics(&status);
        assert_eq!(topics, BTreeMap::from([("dead".to_owned(), vec!["p.a".to_owned(), "q.c".to_owned()])]));
    }

    #[test]
    fn causes_are_safe_to_print() {
        let mut causes = Causes::default();
        crate::cli::dlq::letter::tests::poisoned().iter().for_each(|letter| causes.count(letter));
        for Count { cause: Cause { stage, plugin, reason }, .. } in causes.sorted() {
            let shown = [stage, plugin.unwrap_or_default(), reason].concat();
            assert!(!shown.contains(char::is_control) && !shown.contains('\u{202e}'), "{shown:?}");
        }
    }

    #[test]
    fn causes_are_counted_and_bounded() {
        let mut causes = Causes::default();
        (0..3).for_each(|_| causes.count(&letter("often")));
        (0..CAUSES_MAX + 4).for_each(|at| causes.count(&letter(&format!("once {at}"))));
        causes.count(&letter("often"));
        assert_eq!(causes.scanned, 4 + CAUSES_MAX as u64 + 4);
        let counts = causes.sorted();
        assert_eq!((counts[0].cause.reason.as_str(), counts[0].letters), ("often", 4));
        let last = counts.last().unwrap();
        assert_eq!((last.cause.reason.as_str(), last.letters), (OTHER, 5));
        assert_eq!(counts.len(), CAUSES_MAX + 1);
    }
}
