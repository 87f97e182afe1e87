//! What every [`PortFactory`] must do, as checks that an implementation's tests call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, RecordBatch};

use super::port::{
    Commit, CommittedOffset, FetchedPartition, OutputBatch, Polled, PortFactory, PortRequest, RunnerPort,
    SeekTo, StagePort, TopicPartition,
};
use super::topic::{TopicInfo, TopicRules};

const WAIT: Duration = Duration::from_millis(200);
const PRINCIPAL: &str = "User:plugin/contract/check";
/// Polls without a record after which a check gives up.
const EMPTY_POLLS_MAX: usize = 100;

/// Runs all checks. `source` and `target` exist, are empty, and have one partition each.
pub async fn check<F: PortFactory>(factory: &F, source: &str, target: &str) {
    let request = PortRequest {
        pipeline: "contract".to_owned(),
        stage: "check".to_owned(),
        group: "contract.check".to_owned(),
        from: vec![source.into()],
        task: 0,
        reads_as: PRINCIPAL.to_owned(),
        writes_as: PRINCIPAL.to_owned(),
    };
    let port = factory.open(request.clone()).await.expect("the port opens");
    let described = port.describe_topics(&[source.into(), "no-such-topic".into()]).await;
    let info = TopicInfo { partitions: 1, rules: TopicRules::default() };
    assert_eq!(described, Ok(vec![Some(info), None]), "in the order of the question, with Kafka's defaults");

    // Writing to the source through a commit without offsets is allowed: it fills the topic for what follows.
    let outputs = vec![output(source, &["a", "b", "c"]), output(source, &["d", "e"])];
    port.commit(Commit { outputs, ..Commit::default() }).await.expect("outputs are written");

    let fetched = fetch(&port).await;
    assert_eq!((&*fetched.topic, fetched.partition, fetched.position), (source, 0, 0));
    assert!(fetched.high_watermark >= next_offset(&fetched));
    assert_eq!(values(&fetched)[0], "a");

    // The offset lies inside the first batch: the next member gets the whole batch, and is told where to begin.
    let offsets = vec![CommittedOffset {
        topic: source.into(),
        partition: 0,
        next_offset: 2,
        metadata: "plugin@1".into(),
    }];
    let commit = Commit { outputs: vec![output(target, &["A", "B"])], offsets, position: None };
    port.commit(commit).await.expect("outputs and offsets are committed");
    port.close().await;

    let port = factory.open(request).await.expect("the port opens again");
    let fetched = fetch(&port).await;
    assert_eq!(fetched.position, 2, "the group's offset counts");
    let first =
        RecordBatch::new(&fetched.batches[..RecordBatch::size_of_first(&fetched.batches).expect("a batch")]);
    let first = first.expect("a fetch holds whole batches");
    assert!(first.base_offset() <= 2 && first.last_offset() >= 2);
    port.close().await;

    let reader = PortRequest {
        pipeline: "contract".to_owned(),
        stage: "reader".to_owned(),
        group: "contract.reader".to_owned(),
        from: vec![target.into()],
        task: 0,
        reads_as: PRINCIPAL.to_owned(),
        writes_as: PRINCIPAL.to_owned(),
    };
    let port = factory.open(reader).await.expect("a second group opens");
    assert_eq!(values(&fetch(&port).await), ["A", "B"]);
    let none = port.poll(Duration::from_millis(1)).await.expect("a poll without records is no error");
    assert!(none.fetched.is_empty());
    check_seeks(&port, target).await;
    port.close().await;
    check_positions(factory, target).await;
}

/// The port has read all of the partition, in which are "A" and "B".
async fn check_seeks(port: &impl RunnerPort, topic: &str) {
    let partition = TopicPartition { topic: topic.into(), partition: 0 };
    let nobody = TopicPartition { topic: "no-such-topic".into(), partition: 7 };
    assert_eq!(port.committed(&[nobody.clone(), partition.clone()]).await, Ok(vec![None, None]));
    let quiet = async || {
        let polled = port.poll(WAIT).await.expect("the poll works");
        assert!(polled.fetched.is_empty(), "{polled:?}");
    };
    port.seek(&nobody, SeekTo::Beginning);
    quiet().await;
    port.seek(&partition, SeekTo::Offset(1));
    assert_eq!(fetch(port).await.position, 1);
    port.seek(&partition, SeekTo::Beginning);
    assert_eq!(values(&fetch(port).await), ["A", "B"]);
    port.seek(&partition, SeekTo::Beginning);
    port.seek(&partition, SeekTo::Paused);
    quiet().await;
    port.seek(&partition, SeekTo::Timestamp(1));
    assert_eq!(values(&fetch(port).await), ["A", "B"]);
    // Nothing is as late as that: what comes from now on is.
    for to in [SeekTo::Timestamp(1_000), SeekTo::End] {
        port.seek(&partition, to);
        quiet().await;
        let commit = Commit { outputs: vec![output(topic, &["C"])], ..Commit::default() };
        port.commit(commit).await.expect("outputs are written");
        assert_eq!(values(&fetch(port).await), ["C"]);
    }
}

/// A port that reads nothing is a member of nothing.
async fn check_positions<F: PortFactory>(factory: &F, topic: &str) {
    let source = PortRequest {
        pipeline: "contract".to_owned(),
        stage: "source".to_owned(),
        group: String::new(),
        from: Vec::new(),
        task: 0,
        reads_as: PRINCIPAL.to_owned(),
        writes_as: PRINCIPAL.to_owned(),
    };
    let port = factory.open(source).await.expect("a source opens");
    let partition = TopicPartition { topic: topic.into(), partition: 0 };
    assert_eq!(port.last_value(&partition, b"mine").await, Ok(None));
    for (key, value) in [("mine", "1"), ("mine", "2"), ("other", "3")] {
        let mut builder = BatchBuilder::new(1024);
        builder.append(1, Some(key.as_bytes()), Some(value.as_bytes()), []).expect("the batch has room");
        let bytes = Bytes::from(builder.finish().expect("the batch has records"));
        let position = Some(OutputBatch { topic: topic.into(), partition: 0, records: 1, bytes });
        port.commit(Commit { position, ..Commit::default() }).await.expect("the position is written");
    }
    assert_eq!(port.last_value(&partition, b"mine").await, Ok(Some(Bytes::from_static(b"2"))));
    port.close().await;
}

async fn fetch(port: &impl StagePort) -> FetchedPartition {
    for _ in 0..EMPTY_POLLS_MAX {
        let Polled { mut fetched, .. } = port.poll(WAIT).await.expect("the poll works");
        if let Some(fetched) = fetched.pop() {
            return fetched;
        }
    }
    panic!("no records within {EMPTY_POLLS_MAX} polls");
}

fn output(topic: &str, values: &[&str]) -> OutputBatch {
    let mut builder = BatchBuilder::new(1024);
    for value in values {
        builder.append(1, None, Some(value.as_bytes()), []).expect("the batch has room");
    }
    let bytes = Bytes::from(builder.finish().expect("the batch has records"));
    let records = u32::try_from(values.len()).expect("a few records");
    OutputBatch { topic: Arc::from(topic), partition: 0, records, bytes }
}

fn next_offset(fetched: &FetchedPartition) -> i64 {
    let batches = RecordBatch::batches(&fetched.batches);
    batches.map(|batch| batch.expect("whole batches").next_offset()).last().expect("at least one batch")
}

fn values(fetched: &FetchedPartition) -> Vec<String> {
    let mut values = Vec::new();
    for batch in RecordBatch::batches(&fetched.batches) {
        let batch = batch.expect("whole batches");
        for record in millstream_record::RecordIter::new(batch.records_section()) {
            let value = record.expect("well-formed records").value.unwrap_or_default();
            values.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    values
}
