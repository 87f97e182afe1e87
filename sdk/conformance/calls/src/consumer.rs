//! Consuming, as a member of a group.

use serde_json::{Value, json};

use crate::Answer;
use crate::arguments::{batch, message, partition, partitions, seek_to, text, u32_of};
use crate::bindings::millstream::plugin::consumer;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    let done = |()| Value::Null;
    Some(match name {
        "consumer.subscribe" => {
            let topics: Vec<_> = call["topics"].as_array().into_iter().flatten().map(text).collect();
            consumer::subscribe(&topics).map(done).map_err(consumer_error)
        }
        "consumer.poll" => poll(call),
        "consumer.poll-batch" => poll_batch(call),
        "consumer.commit" => consumer::commit().map(done).map_err(consumer_error),
        "consumer.commit-offsets" => {
            let offset = |value: &Value| consumer::PartitionOffset {
                topic: text(&value["topic"]),
                partition: u32_of(&value["partition"]),
                offset: value["offset"].as_i64().unwrap_or_default(),
            };
            let offsets: Vec<_> = call["offsets"].as_array().into_iter().flatten().map(offset).collect();
            consumer::commit_offsets(&offsets).map(done).map_err(consumer_error)
        }
        "consumer.committed" => {
            let committed = consumer::committed(&partitions(&call["partitions"]));
            committed.map(|offsets| json!(offsets)).map_err(consumer_error)
        }
        "consumer.seek" => {
            consumer::seek(&partition(call), seek_to(&call["to"])).map(done).map_err(consumer_error)
        }
        "consumer.position" => {
            consumer::position(&partition(call)).map(|offset| json!(offset)).map_err(consumer_error)
        }
        "consumer.pause" => {
            consumer::pause(&partitions(&call["partitions"])).map(done).map_err(consumer_error)
        }
        "consumer.resume" => {
            consumer::resume(&partitions(&call["partitions"])).map(done).map_err(consumer_error)
        }
        "consumer.reject" => {
            let offset = call["offset"].as_i64().unwrap_or_default();
            consumer::reject(&partition(call), offset, &text(&call["reason"]))
                .map(done)
                .map_err(consumer_error)
        }
        "consumer.assignment" => {
            let mut assignment = consumer::assignment();
            assignment.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
            let partition =
                |of: &consumer::TopicPartition| json!({"topic": of.topic, "partition": of.partition});
            Ok(assignment.iter().map(partition).collect())
        }
        _ => return None,
    })
}

/// Polls until it has had so many records, or waited as long as one poll may: partitions come one by one.
fn poll(call: &Value) -> Answer {
    let (max, timeout_ms) = (u32_of(&call["max_records"]), u32_of(&call["timeout_ms"]));
    let until = call["until"].as_u64().unwrap_or_default();
    let mut had = Vec::new();
    loop {
        let polled = consumer::poll(max, timeout_ms).map_err(consumer_error)?;
        had.extend(polled.iter().map(message));
        if polled.is_empty() || had.len() as u64 >= until {
            return Ok(had.into());
        }
    }
}

fn poll_batch(call: &Value) -> Answer {
    let (max, timeout_ms) = (u32_of(&call["max_records"]), u32_of(&call["timeout_ms"]));
    let polled = consumer::poll_batch(max, timeout_ms).map_err(consumer_error)?;
    Ok(polled.iter().map(batch).collect())
}

fn consumer_error(error: consumer::Error) -> (&'static str, String) {
    match error {
        consumer::Error::Stopping => ("stopping", String::new()),
        consumer::Error::NotGranted(says) => ("not-granted", says),
        consumer::Error::Invalid(says) => ("invalid", says),
        consumer::Error::Unavailable(says) => ("unavailable", says),
        consumer::Error::NotOwned(says) => ("not-owned", says),
    }
}
