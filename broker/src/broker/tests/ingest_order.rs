//! Order, sequences and retries, with hooks that answer when they like.

use std::time::Duration;

use futures_util::future::join;
use millstream_wire::produce_request::ProduceRequest;
use millstream_wire::{ApiKey, ErrorCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fakes::{loud, rewritten};
use super::*;
use crate::hooks::{INGEST_TIME_MAX, IngestBinding, IngestOutcome, IngestRequest};

type Question = (IngestRequest, tokio::sync::oneshot::Sender<IngestOutcome>);

fn answer((request, answer): Question) {
    let outcome = IngestOutcome::Rewritten(rewritten(&request.batch, request.rewrite, loud));
    answer.send(outcome).expect("somebody waits");
}

fn later() -> IngestOutcome {
    IngestOutcome::TryLater { message: "the plugin is overloaded".to_owned() }
}

async fn send(stream: &mut TcpStream, correlation_id: i32, acks: i16, partition: i32, batch: Vec<u8>) {
    let request = produce_request("orders", partition, acks, batch);
    let frame = encode_request(&request, PRODUCE, correlation_id, None).unwrap().into_bytes();
    stream.write_all(&frame).await.unwrap();
}

async fn receive(stream: &mut TcpStream) -> (i32, PartitionProduceResponse<'static>) {
    let length = stream.read_i32().await.unwrap();
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.unwrap();
    let mut reader = Reader::new(frame.leak());
    let header = decode_response_header(&mut reader, ApiKey::Produce, PRODUCE).unwrap();
    let mut response = Answer::<ProduceRequest<'static>>::decode(&mut reader, PRODUCE).unwrap();
    (header.correlation_id, response.responses.remove(0).partition_responses.remove(0))
}

/// A producer has five batches on their way, and the hook answers the last one first.
#[tokio::test]
async fn batches_of_a_partition_keep_their_order_whatever_order_the_hook_answers_in() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let mut stream = TcpStream::connect(node.running.address()).await.unwrap();
    let values = ["a", "b", "c", "d", "e"];
    for (sequence, value) in (0..).zip(values) {
        send(&mut stream, sequence, ACKS_ALL, 0, sequenced_batch(0, sequence, &[value])).await;
    }
    // All of them are at the hook before the first has an answer.
    let mut questions = Vec::new();
    for _ in values {
        questions.push(held.next().await);
    }
    questions.sort_by_key(|(request, _)| RecordBatch::new(&request.batch).unwrap().base_sequence());
    questions.into_iter().rev().for_each(answer);
    for offset in 0..values.len() as i64 {
        let (correlation_id, response) = receive(&mut stream).await;
        assert_eq!((i64::from(correlation_id), response.base_offset), (offset, offset));
        assert_eq!(response.error_code, ErrorCode::NONE);
    }
    let expected = [at(0, "A"), at(1, "B"), at(2, "C"), at(3, "D"), at(4, "E")];
    assert_eq!(node.records("orders").await, expected);
    node.stop().await;
}

/// What comes behind is neither held up nor let past: without acknowledgements, too, and when the hook goes away
/// meanwhile.
#[tokio::test]
async fn what_comes_behind_stays_behind() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let mut stream = TcpStream::connect(node.running.address()).await.unwrap();
    send(&mut stream, 1, 0, 0, batch(&["a"])).await;
    let first = held.next().await;
    send(&mut stream, 2, 1, 0, batch(&["b"])).await;
    let second = held.next().await;
    node.fakes.bind("orders", IngestBinding::None);
    // The answer of another API on the same connection would wait for its turn, so another connection asks.
    let third = node.produce("orders", batch(&["c"]));
    let (third, ()) = join(third, async {
        answer(second);
        answer(first);
    })
    .await;
    let (correlation_id, second) = receive(&mut stream).await;
    assert_eq!((correlation_id, second.base_offset), (2, 1));
    assert_eq!(third.base_offset, 2);
    assert_eq!(node.records("orders").await, [at(0, "A"), at(1, "B"), at(2, "c")]);
    node.stop().await;
}

#[tokio::test]
async fn a_partition_does_not_wait_for_another() {
    let node = Node::start().await;
    node.create_topic("orders", 2, &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let mut stream = TcpStream::connect(node.running.address()).await.unwrap();
    send(&mut stream, 1, 1, 0, batch(&["slow"])).await;
    let slow = held.next().await;
    let mut other = TcpStream::connect(node.running.address()).await.unwrap();
    send(&mut other, 2, 1, 1, batch(&["quick"])).await;
    answer(held.next().await);
    assert_eq!(receive(&mut other).await.1.error_code, ErrorCode::NONE);
    answer(slow);
    assert_eq!(receive(&mut stream).await.1.error_code, ErrorCode::NONE);
    node.stop().await;
}

/// A client that lost its connection sends again what may have been stored.
#[tokio::test]
async fn a_duplicate_gets_the_first_offsets_and_costs_no_call() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let sent = || node.produce("orders", sequenced_batch(0, 0, &["a", "-b"]));
    let (first, ()) = join(sent(), async { answer(held.next().await) }).await;
    assert_eq!((first.error_code, first.base_offset), (ErrorCode::NONE, 0));
    let again = sent().await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0));
    assert!(held.is_unasked());
    // One whose first is still at the hook can't be told yet; it is when its turn comes.
    let sent = || node.produce("orders", sequenced_batch(0, 2, &["c"]));
    let both = join(sent(), sent());
    let answers = async {
        let (one, other) = (held.next().await, held.next().await);
        answer(other);
        answer(one);
    };
    let ((one, other), ()) = join(both, answers).await;
    assert_eq!((one.error_code, one.base_offset), (ErrorCode::NONE, 2));
    assert_eq!((other.error_code, other.base_offset), (ErrorCode::NONE, 2));
    assert_eq!(node.records("orders").await, [at(0, "A"), at(2, "C")]);
    let stale = node.produce("orders", sequenced_batch(1, 0, &["d"]));
    let (stale, ()) = join(stale, async { answer(held.next().await) }).await;
    assert_eq!(stale.base_offset, 3);
    let fenced = node.produce("orders", sequenced_batch(0, 3, &["e"])).await;
    assert_eq!(fenced.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert!(held.is_unasked());
    node.stop().await;
}

/// As long as the plugin starts, nothing is stored, and nothing goes past it. What a producer sends in the meantime
/// comes again, in its order, although the plugin became ready in the middle of it.
#[tokio::test]
async fn a_hook_that_is_not_ready_turns_away_and_the_sequence_begins_where_it_began() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.bind("orders", IngestBinding::Pending);
    let first = || node.produce("orders", sequenced_batch(0, 0, &["a", "b"]));
    let turned_away = first().await;
    assert_eq!(turned_away.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert!(turned_away.error_code.is_retriable());
    let message = turned_away.error_message.unwrap();
    assert_eq!(message, "the topic's ingest plugin is not ready yet");
    node.fakes.ingest("orders", |_| IngestOutcome::Unchanged);
    let behind = || node.produce("orders", sequenced_batch(0, 2, &["c"]));
    assert_eq!(behind().await.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(node.fetch("orders", 0).await.high_watermark, 0);
    assert_eq!(first().await.base_offset, 0);
    assert_eq!(behind().await.base_offset, 2);
    assert_eq!(node.metric("ingest_batches_total{topic=\"orders\",outcome=\"later\"}"), 1);
    node.stop().await;
}

/// The same with batches that are at the hook side by side: the first is turned away when its turn comes, whenever
/// the hook said so.
#[tokio::test]
async fn what_is_turned_away_takes_along_what_was_sent_behind_it() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let first = || node.produce("orders", sequenced_batch(0, 0, &["a"]));
    let second = || node.produce("orders", sequenced_batch(0, 1, &["b"]));
    let answers = async {
        let (one, other) = (held.next().await, held.next().await);
        answer(other);
        one.1.send(later()).ok().unwrap();
    };
    let ((one, other), ()) = join(join(first(), second()), answers).await;
    assert_eq!(one.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(one.error_message.as_deref(), Some("the plugin is overloaded"));
    assert_eq!(other.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let answers = async {
        answer(held.next().await);
        answer(held.next().await);
    };
    let ((one, other), ()) = join(join(first(), second()), answers).await;
    assert_eq!((one.base_offset, other.base_offset), (0, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_hook_that_does_not_answer_is_given_up() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let produced = node.produce("orders", sequenced_batch(0, 0, &["a"]));
    let silence = async {
        let question = held.next().await;
        tokio::time::pause();
        tokio::time::advance(INGEST_TIME_MAX + Duration::from_millis(1)).await;
        tokio::time::resume();
        question
    };
    let (turned_away, question) = join(produced, silence).await;
    assert_eq!(turned_away.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    // Too late: nothing may be stored of it any more, or the client's next attempt would store it twice.
    let outcome = IngestOutcome::Unchanged;
    assert!(question.1.send(outcome).is_err());
    assert_eq!(node.fetch("orders", 0).await.high_watermark, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_does_not_wait_for_hooks() {
    let node = Node::with_topic("orders", &[]).await;
    let mut held = node.fakes.hold_ingest("orders");
    let (turned_away, _question) = join(node.produce("orders", batch(&["a"])), async {
        let question = held.next().await;
        node.running.stop().await;
        question
    })
    .await;
    assert_eq!(turned_away.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(turned_away.error_message.as_deref(), Some("the broker is stopping"));
}

/// A compressed batch of a compacted topic is opened to look at its keys, off the network threads; what comes behind
/// it must not come before it.
#[tokio::test]
async fn a_batch_that_must_be_opened_keeps_its_place() {
    let node = Node::with_topic("orders", &[("cleanup.policy", "compact")]).await;
    let mut stream = TcpStream::connect(node.running.address()).await.unwrap();
    for n in 0..20 {
        let compression = if n % 2 == 0 { Compression::Zstd } else { Compression::None };
        let value = n.to_string();
        send(&mut stream, n, [0, 1][n as usize / 2 % 2], 0, compressed_batch(compression, &[&value])).await;
    }
    for n in (0..20).filter(|n| n / 2 % 2 == 1) {
        let (correlation_id, response) = receive(&mut stream).await;
        assert_eq!((correlation_id, response.base_offset), (n, i64::from(n)));
    }
    let expected: Vec<_> = (0..20).map(|n| at(n, &n.to_string())).collect();
    assert_eq!(node.records("orders").await, expected);
    node.stop().await;
}
