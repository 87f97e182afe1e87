//! Reading views.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join, join_all};
use millstream_record::{Compression, RecordBody};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use super::fakes::{body, loud, rewritten};
use super::*;
use crate::hooks::{VIEW_TIME_MAX, ViewError, ViewRequest, Viewed};

const VIEW: &str = "orders.loud";

async fn with_view(configs: &[(&'static str, &'static str)]) -> Node {
    let node = Node::with_topic("orders", configs).await;
    node.running.put_view(VIEW, "orders").await.unwrap();
    node
}

fn show_loud(request: ViewRequest) -> Result<Viewed, ViewError> {
    assert_eq!((request.view.as_str(), request.source.as_str()), (VIEW, "orders"));
    Ok(Viewed::Rewritten(rewritten(&request.batch, request.rewrite, loud)))
}

async fn produce(node: &Node, values: &[&str]) {
    assert_eq!(node.produce("orders", batch(values)).await.error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn a_view_shows_its_sources_records_at_their_offsets() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, show_loud);
    for compression in Compression::ALL {
        let produced = node.produce("orders", compressed_batch(compression, &["-a", "b", "-c", "d"])).await;
        assert_eq!(produced.error_code, ErrorCode::NONE);
    }
    let (source, view) = (node.fetch("orders", 0).await, node.fetch(VIEW, 0).await);
    let expected: Vec<_> =
        (0..20).step_by(4).flat_map(|base| [at(base + 1, "B"), at(base + 3, "D")]).collect();
    assert_eq!(records_of(&view), expected);
    assert_eq!((view.high_watermark, view.log_start_offset), (source.high_watermark, 0));
    let covered = |data: &PartitionData<'static>| -> Vec<_> {
        let of = |batch: &RecordBatch<'_>| {
            (batch.base_offset(), batch.last_offset(), batch.compression(), batch.partition_leader_epoch())
        };
        batches_of(data).iter().map(of).collect()
    };
    assert_eq!(covered(&view), covered(&source), "batch for batch");
    // From the middle of a batch, that batch comes whole, as ever; and by id.
    assert_eq!(records_of(&node.fetch(VIEW, 18).await), [at(17, "B"), at(19, "D")]);
    let mut by_id = fetch_request("", 16, 0);
    by_id.topics[0].topic_id = node.running.views()[0].id.0;
    let answer = node.call(&by_id, 16).await.responses.remove(0).partitions.remove(0);
    assert_eq!(records_of(&answer), [at(17, "B"), at(19, "D")]);
    assert_eq!(node.fetch(VIEW, 21).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    node.stop().await;
}

#[tokio::test]
async fn batches_of_which_nothing_is_shown_are_passed_over() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, show_loud);
    for values in [&["-a", "-b"][..], &["c"], &["-d"]] {
        produce(&node, values).await;
    }
    let found = |data: &PartitionData<'static>| -> Vec<_> {
        let of = |batch: &RecordBatch<'_>| (batch.base_offset(), batch.last_offset(), batch.records_count());
        batches_of(data).iter().map(of).collect()
    };
    assert_eq!(found(&node.fetch(VIEW, 0).await), [(0, 1, 0), (2, 2, 1), (3, 3, 0)]);
    // A marker, where there is nothing else: it takes the consumer to the end.
    let rest = node.fetch(VIEW, 3).await;
    assert_eq!((found(&rest), batches_of(&rest)[0].is_control()), (vec![(3, 3, 1)], true));
    assert_eq!(node.metric("view_records_total{topic=\"orders.loud\",outcome=\"dropped\"}"), 3);
    node.stop().await;
}

/// What an ingest hook has left gaps in can be viewed, too.
#[tokio::test]
async fn gaps_and_empty_batches_of_the_source_stay() {
    let node = with_view(&[]).await;
    node.fakes.ingest("orders", |request| {
        let keep = |value: &str| (!value.starts_with('!')).then(|| value.to_owned());
        crate::hooks::IngestOutcome::Rewritten(rewritten(&request.batch, request.rewrite, keep))
    });
    let calls = node.fakes.view(VIEW, 1, show_loud);
    for values in [&["!a", "b", "!c", "-d", "e"][..], &["!f", "!g"], &["h"]] {
        produce(&node, values).await;
    }
    assert_eq!(node.records(VIEW).await, [at(1, "B"), at(4, "E"), at(7, "H")]);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "there is nothing to show of an empty batch");
    node.stop().await;
}

#[tokio::test]
async fn readers_of_one_view_pay_once() {
    let node = with_view(&[]).await;
    let mut held = node.fakes.hold_view(VIEW);
    produce(&node, &["a"]).await;
    // Ten at the same time.
    let readers = join_all((0..10).map(|_| node.records(VIEW)));
    let answers = async {
        let (request, answer) = held.next().await;
        answer.send(show_loud(request)).ok().unwrap();
    };
    let (read, ()) = join(readers, answers).await;
    assert!(read.iter().all(|records| *records == [at(0, "A")]));
    assert_eq!(node.records(VIEW).await, [at(0, "A")]);
    assert!(held.is_unasked());
    assert_eq!(node.metric("view_batches_total{topic=\"orders.loud\",outcome=\"rewritten\"}"), 1);
    assert_eq!(node.metric("view_batches_total{topic=\"orders.loud\",outcome=\"remembered\"}"), 1);
    // Another plugin is asked anew.
    let calls = node.fakes.view(VIEW, 2, |_| Ok(Viewed::Unchanged));
    for _ in 0..3 {
        assert_eq!(node.records(VIEW).await, [at(0, "a")]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    node.stop().await;
}

/// Nothing of the source is shown as long as the view can't say what.
#[tokio::test]
async fn a_view_that_is_not_ready_shows_nothing() {
    let node = with_view(&[]).await;
    assert_eq!(node.fetch(VIEW, 0).await.error_code, ErrorCode::NONE, "there is nothing to show yet");
    produce(&node, &["secret"]).await;
    let check = async |code: ErrorCode| {
        let data = node.fetch(VIEW, 0).await;
        assert_eq!((data.error_code, data.records.map_or(0, |records| records.len())), (code, 0));
    };
    check(ErrorCode::OFFSET_NOT_AVAILABLE).await;
    assert!(ErrorCode::OFFSET_NOT_AVAILABLE.is_retriable());
    node.fakes.view(VIEW, 1, |_| Err(ViewError::NotReady("it is being replaced".to_owned())));
    check(ErrorCode::OFFSET_NOT_AVAILABLE).await;
    node.fakes.view(VIEW, 1, |_| Err(ViewError::Failed("it trapped".to_owned())));
    check(ErrorCode::INVALID_RECORD).await;
    assert!(!ErrorCode::INVALID_RECORD.is_retriable());
    // An error is not remembered.
    node.fakes.view(VIEW, 1, show_loud);
    assert_eq!(node.records(VIEW).await, [at(0, "SECRET")]);
    // But what was shown is no answer once nothing is bound any more.
    node.fakes.unready(VIEW);
    check(ErrorCode::OFFSET_NOT_AVAILABLE).await;
    node.stop().await;
}

#[tokio::test]
async fn what_comes_before_a_failure_can_be_read() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, |request| match request.batch.windows(3).any(|window| window == b"bad") {
        true => Err(ViewError::Failed("it trapped".to_owned())),
        false => show_loud(request),
    });
    for value in ["a", "b", "bad", "c"] {
        produce(&node, &[value]).await;
    }
    assert_eq!(node.records(VIEW).await, [at(0, "A"), at(1, "B")]);
    assert_eq!(node.fetch(VIEW, 2).await.error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(records_of(&node.fetch(VIEW, 3).await), [at(3, "C")]);
    node.stop().await;
}

#[tokio::test]
async fn a_hook_that_does_not_answer_is_given_up() {
    let node = with_view(&[]).await;
    let mut held = node.fakes.hold_view(VIEW);
    produce(&node, &["a"]).await;
    let silence = async {
        let question = held.next().await;
        tokio::time::pause();
        tokio::time::advance(VIEW_TIME_MAX + Duration::from_millis(1)).await;
        tokio::time::resume();
        question
    };
    let (data, _question) = join(node.fetch(VIEW, 0), silence).await;
    assert_eq!(data.error_code, ErrorCode::OFFSET_NOT_AVAILABLE);
    node.stop().await;
}

/// It waits for what its source gets, and so many bytes of that count.
#[tokio::test]
async fn a_fetch_waits_for_the_source() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, show_loud);
    let request = fetch_request(VIEW, 0, 60_000);
    let (answer, ()) = join(node.call(&request, FETCH), produce(&node, &["a"])).await;
    assert_eq!(records_of(&answer.responses[0].partitions[0]), [at(0, "A")]);
    // One stored byte less than it takes, and nothing of it is shown.
    let mut request = fetch_request(VIEW, 1, 60_000);
    let stored = batch(&["-b"]).len() as i32;
    request.min_bytes = 2 * stored;
    let produced = async {
        produce(&node, &["-b"]).await;
        produce(&node, &["-c"]).await;
    };
    let (answer, ()) = join(node.call(&request, FETCH), produced).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!((data.error_code, batches_of(data)[0].next_offset()), (ErrorCode::NONE, 3));
    node.stop().await;
}

/// What a view makes of a batch may be larger than the batch; a consumer gets on all the same (KIP-74).
#[tokio::test]
async fn an_answer_has_its_size_and_at_least_one_batch() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, |mut request| {
        let body = body(None, &"x".repeat(10_000));
        request.rewrite.keep(0, TIMESTAMP, RecordBody::parse(&body).unwrap()).unwrap();
        Ok(Viewed::Rewritten(request.rewrite))
    });
    for value in ["a", "b", "c", "d"] {
        produce(&node, &[value]).await;
    }
    let fetched = async |offset: i64, max_bytes: i32, partition_max_bytes: i32| {
        let mut request = fetch_request(VIEW, offset, 60_000);
        request.max_bytes = max_bytes;
        request.min_bytes = 1_000_000;
        request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        // One that is full does not wait for more.
        let answer = node.call(&request, FETCH).await;
        batches_of(&answer.responses[0].partitions[0])
            .iter()
            .map(RecordBatch::base_offset)
            .collect::<Vec<_>>()
    };
    assert_eq!(fetched(0, 1 << 20, 100).await, [0]);
    assert_eq!(fetched(1, 100, 1 << 20).await, [1]);
    assert_eq!(fetched(0, 25_000, 1 << 20).await, [0, 1]);
    assert_eq!(fetched(2, 1 << 20, 15_000).await, [2]);
    node.stop().await;
}

#[tokio::test]
async fn a_view_that_is_deleted_or_moved_lets_its_readers_go() {
    let node = with_view(&[]).await;
    node.fakes.view(VIEW, 1, |_| Ok(Viewed::Unchanged));
    node.create_topic("others", 1, &[]).await;
    let request = fetch_request(VIEW, 0, 60_000);
    let moved = async {
        node.running.put_view(VIEW, "others").await.unwrap();
        produce(&node, &["of the old source"]).await;
    };
    let (answer, ()) = join(node.call(&request, FETCH), moved).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(data.records.as_ref().map_or(0, Records::len), 0);
    assert_eq!(node.records(VIEW).await, []);
    node.stop().await;
}

#[tokio::test]
async fn offsets_and_epochs_are_the_sources() {
    let node = with_view(&[]).await;
    produce(&node, &["a", "b", "c"]).await;
    let partition =
        |timestamp| ListOffsetsPartition { timestamp, current_leader_epoch: 0, ..Default::default() };
    for (timestamp, expected) in [(-1, 3), (-2, 0), (TIMESTAMP, 0), (TIMESTAMP + 1, -1), (-3, 0)] {
        let topic = ListOffsetsTopic { name: VIEW.into(), partitions: vec![partition(timestamp)] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let answer = node.call(&request, 7).await.topics.remove(0).partitions.remove(0);
        assert_eq!((answer.error_code, answer.offset), (ErrorCode::NONE, expected), "at {timestamp}");
    }
    let partition =
        OffsetForLeaderPartition { current_leader_epoch: -1, leader_epoch: 0, ..Default::default() };
    let topic = OffsetForLeaderTopic { topic: VIEW.into(), partitions: vec![partition] };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    let answer = node.call(&request, 4).await.topics.remove(0).partitions.remove(0);
    assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (ErrorCode::NONE, 0, 3));
    node.stop().await;
}
