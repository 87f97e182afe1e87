//! What becomes of a batch that an ingest hook has looked at.

use millstream_record::{Compression, RecordBody};
use millstream_wire::ErrorCode;
use millstream_wire::produce_request::ProduceRequest;
use millstream_wire::{ApiKey, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fakes::{body, loud, rewritten};
use super::*;
use crate::hooks::{IngestBinding, IngestOutcome, RecordRefusal};

fn refused(records: &[(i32, &str)]) -> IngestOutcome {
    let refusal = |&(index, message): &(i32, &str)| RecordRefusal { index, message: message.to_owned() };
    let records = records.iter().map(refusal).collect();
    IngestOutcome::Refused { message: "2 records are no orders".to_owned(), records }
}

#[tokio::test]
async fn what_the_hook_makes_is_what_is_stored() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |request| {
        assert_eq!((request.topic.as_str(), request.partition.0), ("orders", 0));
        assert_eq!((&*request.client_id, request.principal.as_str()), ("test-client", "User:test"));
        IngestOutcome::Rewritten(rewritten(&request.batch, request.rewrite, loud))
    });
    for compression in Compression::ALL {
        let produced = node.produce("orders", compressed_batch(compression, &["a", "-b", "c", "-d"])).await;
        assert_eq!(produced.error_code, ErrorCode::NONE);
        // As many offsets as records were sent.
        assert_eq!(produced.base_offset, 4 * i64::from(compression.id()));
    }
    let data = node.fetch("orders", 0).await;
    assert_eq!(data.high_watermark, 20);
    let expected: Vec<_> = (0..20).step_by(4).flat_map(|base| [at(base, "A"), at(base + 2, "C")]).collect();
    assert_eq!(records_of(&data), expected);
    let found: Vec<_> =
        batches_of(&data).iter().map(|batch| (batch.compression(), batch.last_offset_delta())).collect();
    assert_eq!(found, Compression::ALL.map(|compression| (Ok(compression), 3)));
    let records = |fate| node.metric(&format!("ingest_records_total{{topic=\"orders\",outcome=\"{fate}\"}}"));
    assert_eq!((records("in"), records("out"), records("dropped"), records("refused")), (20, 10, 10, 0));
    assert_eq!(node.metric("ingest_batches_total{topic=\"orders\",outcome=\"rewritten\"}"), 5);
    node.stop().await;
}

#[tokio::test]
async fn what_the_hook_leaves_alone_is_stored_as_it_came() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |_| IngestOutcome::Unchanged);
    let sent = compressed_batch(Compression::Zstd, &["a", "b"]);
    assert_eq!(node.produce("orders", sent.clone()).await.base_offset, 0);
    let data = node.fetch("orders", 0).await;
    // Base offset and leader epoch are the broker's.
    assert_eq!(data.records.as_ref().unwrap().contiguous()[16..], sent[16..]);
    node.stop().await;
}

/// Consumers move past it, and so does the producer's sequence.
#[tokio::test]
async fn a_batch_of_which_nothing_stays_keeps_its_place() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |request| {
        IngestOutcome::Rewritten(rewritten(&request.batch, request.rewrite, loud))
    });
    assert_eq!(node.produce("orders", sequenced_batch(0, 0, &["-a", "-b"])).await.base_offset, 0);
    assert_eq!(node.produce("orders", sequenced_batch(0, 2, &["-c"])).await.base_offset, 2);
    let data = node.fetch("orders", 0).await;
    assert_eq!((data.high_watermark, records_of(&data)), (3, vec![]));
    // Nothing but these two: a marker says that they were not cut off.
    let found: Vec<_> =
        batches_of(&data).iter().map(|batch| (batch.is_control(), batch.next_offset())).collect();
    assert_eq!(found, [(true, 3)]);
    assert_eq!(node.produce("orders", sequenced_batch(0, 3, &["d"])).await.base_offset, 3);
    assert_eq!(node.records("orders").await, [at(3, "D")]);
    // Each of them is known, the empty ones, too.
    let again = node.produce("orders", sequenced_batch(0, 2, &["-c"])).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 2));
    let gap = node.produce("orders", sequenced_batch(0, 5, &["f"])).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_records_in_every_version_that_can() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |_| refused(&[(1, "no customer"), (2, "no price")]));
    let mut request = produce_request("orders", 0, ACKS_ALL, batch(&["a", "b", "c"]));
    request.topic_data[0].topic_id = node.running.metadata().image().topic("orders").unwrap().id.0;
    for version in ApiKey::Produce.versions() {
        let mut asked = request.clone();
        match version {
            ..13 => asked.topic_data[0].topic_id = uuid::Uuid::nil(),
            _ => asked.topic_data[0].name = "".into(),
        }
        let answer = node.call(&asked, version).await.responses.remove(0).partition_responses.remove(0);
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::INVALID_RECORD, -1), "v{version}");
        let told: Vec<_> = answer
            .record_errors
            .iter()
            .map(|error| (error.batch_index, error.batch_index_error_message.as_deref().unwrap()))
            .collect();
        match version {
            ..8 => assert_eq!((told, answer.error_message), (vec![], None)),
            _ => {
                assert_eq!(told, [(1, "no customer"), (2, "no price")]);
                assert_eq!(answer.error_message.as_deref(), Some("2 records are no orders"));
            }
        }
    }
    assert_eq!(node.fetch("orders", 0).await.high_watermark, 0, "nothing of it is stored");
    assert_eq!(node.metric("ingest_records_total{topic=\"orders\",outcome=\"refused\"}"), 33);
    node.stop().await;
}

#[tokio::test]
async fn what_a_hook_says_has_a_bound() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |_| {
        let long = "ä".repeat(100_000);
        let records = (0..1000).map(|index| RecordRefusal { index, message: long.clone() }).collect();
        IngestOutcome::Refused { message: long, records }
    });
    let answer = node.produce("orders", batch(&["a"])).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (ErrorCode::INVALID_RECORD, 100));
    assert_eq!(answer.error_message.unwrap().len(), 1024);
    assert!(answer.record_errors[99].batch_index_error_message.as_ref().unwrap().len() <= 1024);
    node.stop().await;
}

#[tokio::test]
async fn a_topic_is_judged_by_what_will_be_stored() {
    let configs = [("max.message.bytes", "1000"), ("message.timestamp.before.max.ms", "9223372036854775807")];
    let node = Node::with_topic("small", &configs).await;
    node.create_topic("keyed", 1, &[("cleanup.policy", "compact")]).await;
    node.create_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    for topic in ["small", "keyed", "stamped"] {
        node.fakes.ingest(topic, |mut request| {
            let (key, value): (Option<&[u8]>, _) = match request.topic.as_str() {
                "small" => (None, "x".repeat(2000)),
                "keyed" => (None, String::new()),
                _ => (Some(b"key"), "stamped".to_owned()),
            };
            let body = body(key, &value);
            request.rewrite.keep(1, i64::MAX / 2, RecordBody::parse(&body).unwrap()).unwrap();
            IngestOutcome::Rewritten(request.rewrite)
        });
    }
    // What comes is too large already.
    let large = "y".repeat(2000);
    assert_eq!(node.produce("small", batch(&[&large])).await.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(node.metric("ingest_batches_total{topic=\"small\",outcome=\"rewritten\"}"), 0);
    // What goes is.
    assert_eq!(node.produce("small", batch(&["a", "b"])).await.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    for compression in [Compression::None, Compression::Gzip] {
        let unkeyed = node.produce("keyed", compressed_batch(compression, &["a", "b", "c"])).await;
        let future = unkeyed.error_code == ErrorCode::INVALID_TIMESTAMP;
        assert!(future, "{unkeyed:?}: the hook's time counts");
    }
    let stamped = node.produce("stamped", batch(&["a", "b"])).await;
    assert_eq!(
        stamped.error_code,
        ErrorCode::NONE,
        "where the broker stamps, the hook's time doesn't matter"
    );
    assert!(stamped.log_append_time_ms > TIMESTAMP);
    let data = node.fetch("stamped", 0).await;
    assert_eq!(records_of(&data), [at(1, "stamped")]);
    assert_eq!(batches_of(&data)[0].max_timestamp(), stamped.log_append_time_ms);
    node.stop().await;
}

#[tokio::test]
async fn a_compacted_topic_wants_the_keys_that_the_hook_leaves() {
    let node = Node::with_topic("keyed", &[("cleanup.policy", "compact")]).await;
    node.fakes.ingest("keyed", |mut request| {
        for index in [0, 2] {
            let body = body(None, "without a key");
            request.rewrite.keep(index, TIMESTAMP, RecordBody::parse(&body).unwrap()).unwrap();
        }
        IngestOutcome::Rewritten(request.rewrite)
    });
    for compression in Compression::ALL {
        let answer = node.produce("keyed", compressed_batch(compression, &["a", "b", "c"])).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD, "{compression}");
        // By their places in what the client sent.
        let places: Vec<_> = answer.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(places, [0, 2], "{compression}");
    }
    node.fakes.ingest("keyed", |_| IngestOutcome::Unchanged);
    for compression in Compression::ALL {
        let answer = node.produce("keyed", compressed_batch(compression, &["a"])).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_batch_never_comes_to_the_hook() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |_| panic!("it is asked"));
    let mut damaged = batch(&["a"]);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(node.produce("orders", damaged).await.error_code, ErrorCode::CORRUPT_MESSAGE);
    let two = [batch(&["a"]), batch(&["b"])].concat();
    assert_eq!(node.produce("orders", two).await.error_code, ErrorCode::INVALID_RECORD);
    node.stop().await;
}

#[tokio::test]
async fn a_hook_of_one_topic_does_not_concern_another() {
    let node = Node::with_topic("orders", &[]).await;
    node.create_topic("others", 1, &[]).await;
    node.fakes.bind("orders", IngestBinding::Pending);
    node.fakes.bind("__consumer_offsets", IngestBinding::Pending);
    assert_eq!(node.produce("others", batch(&["a"])).await.error_code, ErrorCode::NONE);
    let mut request = produce_request("orders", 0, ACKS_ALL, batch(&["a"]));
    request.topic_data.extend(produce_request("others", 0, ACKS_ALL, batch(&["b"])).topic_data);
    let answer = node.call(&request, PRODUCE).await;
    let codes: Vec<_> =
        answer.responses.iter().map(|topic| topic.partition_responses[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NONE]);
    node.stop().await;
}

/// Without an acknowledgement there is no way to say what went wrong but to hang up.
#[tokio::test]
async fn a_refusal_without_acknowledgements_closes_the_connection() {
    let node = Node::with_topic("orders", &[]).await;
    node.fakes.ingest("orders", |request| match request.batch.ends_with(b"bad\0") {
        true => refused(&[(0, "bad")]),
        false => IngestOutcome::Unchanged,
    });
    let mut stream = TcpStream::connect(node.running.address()).await.unwrap();
    for value in ["good", "bad", "late"] {
        let request: ProduceRequest<'static> = produce_request("orders", 0, 0, batch(&[value]));
        let frame = encode_request(&request, PRODUCE, 1, None).unwrap().into_bytes();
        assert_eq!(<ProduceRequest<'_> as Request<'_>>::API_KEY, ApiKey::Produce);
        stream.write_all(&frame).await.unwrap();
    }
    let mut rest = Vec::new();
    // An end, or a reset where something was left unread.
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    // What is acknowledged behind them says that they are on disk.
    assert_eq!(node.produce("orders", batch(&["last"])).await.error_code, ErrorCode::NONE);
    let stored = node.records("orders").await;
    assert_eq!(stored[0], at(0, "good"));
    assert!(!stored.iter().any(|(_, value)| value == "bad"));
    node.stop().await;
}
