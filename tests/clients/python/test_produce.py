"""What is produced, in whatever way, is there."""

import os

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, Producer

from conftest import BOOTSTRAP, eventually, fresh, poll_values, producer, send, send_ok

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_each_acks_with_each_codec(make_topic, make_consumer, acks, codec):
    topic = make_topic()
    values = [b"a value that repeats and so compresses, %d" % i for i in range(500)]
    send_ok(topic, [{"value": value} for value in values], acks=acks, compression_type=codec)
    consumer = make_consumer()
    consumer.subscribe([topic])
    assert poll_values(consumer, len(values)) == values


@pytest.mark.parametrize("codec", CODECS)
def test_idempotently_with_each_codec(make_topic, read_all, codec):
    topic = make_topic()
    values = [b"%d" % i for i in range(3000)]
    send_ok(topic, [{"value": value} for value in values], enable_idempotence=True, compression_type=codec)
    assert [message.value() for message in read_all(topic)] == values


def test_two_idempotent_producers_do_not_disturb_each_other(make_topic, read_all):
    topic = make_topic()
    one, two = producer(enable_idempotence=True), producer(enable_idempotence=True)
    for i in range(500):
        one.produce(topic, b"one %d" % i)
        two.produce(topic, b"two %d" % i)
    assert one.flush(30) == 0
    assert two.flush(30) == 0
    values = [message.value() for message in read_all(topic)]
    assert [value for value in values if value.startswith(b"one")] == [b"one %d" % i for i in range(500)]
    assert [value for value in values if value.startswith(b"two")] == [b"two %d" % i for i in range(500)]


def test_one_at_a_time(make_topic, read_all):
    topic = make_topic()
    client = producer(linger_ms=0)
    offsets = []
    for i in range(50):
        client.produce(topic, b"%d" % i, on_delivery=lambda error, message: offsets.append(message.offset()))
        assert client.flush(30) == 0
    assert offsets == list(range(50))
    assert len(read_all(topic)) == 50


def test_reports_say_where_a_record_is(make_topic, read_all):
    topic = make_topic(partitions=3)
    records = [{"value": b"%d" % i, "partition": i % 3} for i in range(30)]
    for message in send_ok(topic, records):
        assert message.partition() == int(message.value()) % 3
        assert message.offset() == int(message.value()) // 3
    for partition in range(3):
        values = [message.value() for message in read_all(topic, partition)]
        assert values == [b"%d" % i for i in range(partition, 30, 3)]


def test_the_same_key_goes_to_the_same_partition(make_topic):
    topic = make_topic(partitions=4)
    keys = [b"key%d" % (i % 20) for i in range(200)]
    where = {}
    for message in send_ok(topic, [{"key": key, "value": b"x"} for key in keys]):
        assert where.setdefault(message.key(), message.partition()) == message.partition()
    assert len(set(where.values())) > 1


def test_keys_values_and_headers_may_be_anything(make_topic, read_all):
    topic = make_topic()
    headers = [("text", b"1"), ("empty", b""), ("none", None), ("bytes", bytes(range(256))), ("text", b"2")]
    records = [
        {"key": b"k", "value": b"v", "headers": headers},
        {"key": None, "value": None},
        {"key": b"", "value": b""},
        {"key": bytes(range(256)), "value": bytes(range(256))},
    ]
    send_ok(topic, records)
    read = read_all(topic)
    assert [(m.key(), m.value()) for m in read] == [(r["key"], r["value"]) for r in records]
    assert read[0].headers() == headers
    assert read[1].headers() is None


def test_the_producer_may_set_the_timestamp(make_topic, read_all):
    topic = make_topic()
    times = [1, 1_000_000_000_000, 1_700_000_000_123]
    send_ok(topic, [{"value": b"x", "timestamp": time} for time in times])
    assert [message.timestamp() for message in read_all(topic)] == [(TIMESTAMP_CREATE_TIME, time) for time in times]


def test_a_topic_is_created_on_first_use(read_all):
    topic = fresh()
    (message,) = send_ok(topic, [{"value": b"first"}])
    assert [m.value() for m in read_all(topic, message.partition())] == [b"first"]


def test_records_of_nearly_a_megabyte(make_topic, read_all):
    topic = make_topic()
    values = [os.urandom(950_000) for _ in range(4)]
    send_ok(topic, [{"value": value} for value in values])
    assert [message.value() for message in read_all(topic)] == values


def test_too_large_a_record_is_refused(make_topic, read_all):
    topic = make_topic()
    ((error, _),) = send(topic, [{"value": os.urandom(2_000_000)}], message_max_bytes=4_000_000)
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    send_ok(topic, [{"value": b"small"}])
    assert [message.value() for message in read_all(topic)] == [b"small"]


def test_a_topic_may_allow_larger_records(make_topic, read_all):
    topic = make_topic(max_message_bytes=3_000_000)
    value = os.urandom(2_000_000)
    send_ok(topic, [{"value": value}], message_max_bytes=4_000_000)
    assert [message.value() for message in read_all(topic)] == [value]


def test_an_unknown_topic_is_said_to_be_one():
    reports = []
    client = Producer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "allow.auto.create.topics": False,
            "topic.metadata.propagation.max.ms": 1000,
        }
    )
    client.produce(fresh(), b"x", on_delivery=lambda error, _: reports.append(error.code()))
    client.flush(30)
    assert len(reports) == 1
    assert reports[0] in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


def test_an_unknown_partition_is_said_to_be_one(make_topic):
    topic = make_topic()
    client = producer()
    # The client finds out at once or on delivery, whichever comes first: with or without metadata at hand.
    reports = []
    try:
        client.produce(topic, b"x", partition=7, on_delivery=lambda error, _: reports.append(error))
        eventually(lambda: client.poll(0.1) or reports, "a delivery report")
        error = reports[0]
    except KafkaException as exception:
        error = exception.args[0]
    assert error.code() == KafkaError._UNKNOWN_PARTITION
