//! What a node shows of a case.

use std::collections::BTreeSet;

use super::*;

/// Where sources keep their positions.
const POSITIONS: &str = "__plugin_positions";

/// A look at a node, as any client can have it.
pub(super) struct Seen<'a> {
    node: &'a Node,
    status: Value,
    /// By topic: its records, by partition and offset.
    records: BTreeMap<String, Vec<Value>>,
}

type Check = Result<(), String>;

impl<'a> Seen<'a> {
    /// Of all that has to do with these cases.
    pub(super) fn look(node: &'a Node, cases: &[&Case]) -> Self {
        let mut topics = BTreeSet::from([POSITIONS.to_owned()]);
        for case in cases {
            topics.extend(case.output.keys().cloned());
            topics.extend(case.to.first().filter(|_| case.reports()).cloned());
        }
        Self { node, status: status(node), records: read_all(node, topics) }
    }

    pub(super) fn check(&self, case: &Case) -> Check {
        let part = stage_of(&self.status, case.part());
        for (field, expected) in [("state", &case.state), ("kind", &case.kind)] {
            if let Some(expected) = expected.as_ref().filter(|expected| part[field] != **expected) {
                return Err(format!("{field} is {}, not {expected}: {part}", part[field]));
            }
        }
        if let Some(reason) = &case.reason
            && !part["reason"].as_str().is_some_and(|said| said.contains(reason.as_str()))
        {
            return Err(format!("the reason is {}, not {reason:?}", part["reason"]));
        }
        if case.reports() {
            self.check_report(case)?;
        }
        for (topic, expected) in &case.output {
            self.check_topic(topic, expected)?;
        }
        self.check_committed(case, &case.committed)?;
        self.check_position(case, case.position.as_deref())?;
        let expected: Vec<(String, String)> =
            case.log.iter().map(|line| (line.level.clone(), line.text.clone())).collect();
        self.check_log(case, &expected)?;
        let metrics =
            if case.metrics.is_empty() { String::new() } else { runners::ureq_text(self.node, "/metrics") };
        for line in &case.metrics {
            let line = line.replace("PIPELINE", PIPELINE).replace("PLUGIN", &case.id);
            if !metrics.contains(&line) {
                return Err(format!("/metrics has no {line}"));
            }
        }
        Ok(())
    }

    /// What is seen when the plugin was told to stop: the answers are lines of its log.
    pub(super) fn check_last(&self, case: &Case) -> Check {
        let lines = self.lines(case);
        let answers: Vec<Value> =
            lines.iter().filter_map(|line| serde_json::from_str(line["text"].as_str()?).ok()).collect();
        check_answers(case.calls("last"), &answers)?;
        self.check_committed(case, &case.committed_last)?;
        self.check_position(case, case.position_last.as_deref())
    }

    /// The last message of the topic that reports go to, before anything else that its calls have sent there.
    fn check_report(&self, case: &Case) -> Check {
        let calls = [case.calls("init"), case.calls("calls")].concat();
        let mut report = self.records[&case.to[0]]
            .iter()
            .filter_map(|record| serde_json::from_str::<Vec<Value>>(record["value"].as_str()?).ok());
        check_answers(&calls, &report.next_back().ok_or("there is no report")?)
    }

    fn check_topic(&self, topic: &str, expected: &[Value]) -> Check {
        let found = &self.records[topic];
        if found.len() != expected.len() {
            return Err(format!("{topic} has {} records, not {}: {found:?}", found.len(), expected.len()));
        }
        for (expected, found) in expected.iter().zip(found) {
            matches(expected, found).map_err(|problem| format!("{topic}: {problem}"))?;
        }
        Ok(())
    }

    fn check_committed(&self, case: &Case, expected: &BTreeMap<String, Option<i64>>) -> Check {
        if expected.is_empty() {
            return Ok(());
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.node.bootstrap());
        config.set("group.id", format!("{PIPELINE}.{}", case.id));
        let group: BaseConsumer = config.create().expect("the configuration is valid");
        for (topic, expected) in expected {
            let mut partitions = TopicPartitionList::new();
            partitions.add_partition(topic, 0);
            let committed =
                group.committed_offsets(partitions, PATIENCE).map_err(|error| error.to_string())?;
            let found = committed.elements().first().and_then(|element| element.offset().to_raw());
            let found = found.filter(|offset| *offset >= 0);
            if found != *expected {
                return Err(format!("{found:?} is committed of {topic}, not {expected:?}"));
            }
        }
        Ok(())
    }

    fn check_position(&self, case: &Case, expected: Option<&str>) -> Check {
        let Some(expected) = expected else { return Ok(()) };
        let key = format!("{PIPELINE}/{}/0", case.id);
        let mut saved = self.records[POSITIONS].iter().filter(|record| record["key"] == *key);
        let last = saved.next_back().map_or(Value::Null, |record| record["value"].clone());
        if last == expected { Ok(()) } else { Err(format!("the position is {last}, not {expected:?}")) }
    }

    /// These lines, in this order, and perhaps others between them.
    fn check_log(&self, case: &Case, expected: &[(String, String)]) -> Check {
        if expected.is_empty() {
            return Ok(());
        }
        let lines = self.lines(case);
        let mut left = lines.iter();
        for (level, text) in expected {
            if !left.any(|line| line["level"] == **level && line["text"] == **text) {
                return Err(format!("the log has no line {level}: {text:?} there: {lines:?}"));
            }
        }
        Ok(())
    }

    fn lines(&self, case: &Case) -> Vec<Value> {
        let of = format!("{PIPELINE}/{}", case.part());
        let ended = admin(self.node, &["plugin", "logs", &of, "--json"]);
        ended.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// All records of these topics. They are read together, since each change of what is read takes a client a while.
fn read_all(node: &Node, topics: BTreeSet<String>) -> BTreeMap<String, Vec<Value>> {
    let consumer = consumer(node);
    let mut assignment = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    for topic in &topics {
        for (partition, end) in ends(&consumer, topic).into_iter().filter(|(_, end)| *end > 0) {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
            left.insert((topic.clone(), partition), end);
        }
    }
    consumer.assign(&assignment).expect("a valid assignment");
    let mut records: BTreeMap<String, Vec<Value>> =
        topics.into_iter().map(|topic| (topic, Vec::new())).collect();
    while !left.is_empty() {
        let record = consumer.poll(PATIENCE).expect("there is more").expect("it can be read");
        let place = (record.topic().to_owned(), record.partition());
        if left.get(&place).is_some_and(|end| record.offset() + 1 >= *end) {
            left.remove(&place);
        }
        let shown = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let headers = record.headers().map(|headers| {
            headers.iter().map(|header| json!({"key": header.key, "value": shown(header.value)})).collect()
        });
        let (partition, offset) = (record.partition(), record.offset());
        let record = json!({
            "partition": partition, "offset": offset, "timestamp": record.timestamp().to_millis(),
            "key": shown(record.key()), "value": shown(record.payload()),
            "headers": headers.unwrap_or_else(|| json!([])),
        });
        records.entry(place.0).or_default().push(record);
    }
    for records in records.values_mut() {
        records.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
    }
    records
}

/// Each call says what it must answer: `ok`, of which what is named counts, or `err` and what that says.
fn check_answers(calls: &[Value], answers: &[Value]) -> Check {
    for (at, call) in calls.iter().enumerate() {
        let answer = answers.get(at).unwrap_or(&Value::Null);
        let problem = |what: String| format!("call {at}, {}: {what}; it answered {answer}", call["call"]);
        if answer["call"] != call["call"] {
            return Err(problem("it is not answered".to_owned()));
        }
        if let Some(error) = call.get("err") {
            let says = call["says"].as_str().unwrap_or_default();
            if answer["err"] != *error || !answer["says"].as_str().unwrap_or_default().contains(says) {
                return Err(problem(format!("not the error {error}")));
            }
            continue;
        }
        let ok = call.get("ok").ok_or_else(|| problem("the case says neither ok nor err".to_owned()))?;
        let found = answer.get("ok").ok_or_else(|| problem("it should have worked".to_owned()))?;
        matches(ok, found).map_err(problem)?;
    }
    if answers.len() == calls.len() {
        Ok(())
    } else {
        Err(format!("{} answers to {} calls", answers.len(), calls.len()))
    }
}

/// Of objects what is expected must be there; text may be JSON that is expected as such.
fn matches(expected: &Value, found: &Value) -> Check {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().try_for_each(|(key, expected)| {
            let found = found.get(key).unwrap_or(&Value::Null);
            matches(expected, found).map_err(|problem| format!("{key}: {problem}"))
        }),
        (Value::Object(_), Value::String(text)) => {
            let parsed = serde_json::from_str(text).map_err(|_| format!("{text:?} is no JSON"))?;
            matches(expected, &parsed)
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            expected.iter().zip(found).try_for_each(|(expected, found)| matches(expected, found))
        }
        _ if expected == found => Ok(()),
        _ => Err(format!("{found} is not {expected}")),
    }
}
