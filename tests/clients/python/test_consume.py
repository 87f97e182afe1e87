"""Records are found again from any place."""

import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition

from conftest import eventually, fresh, poll_records, poll_values, producer, send_ok


@pytest.fixture
def topic_of_100(make_topic):
    topic = make_topic()
    send_ok(topic, [{"value": b"%d" % i, "timestamp": 1_000_000 + 1000 * i} for i in range(100)], batch_num_messages=7)
    return topic


@pytest.mark.parametrize("offset", [0, 1, 6, 7, 50, 98, 99])
def test_from_an_offset(read_all, topic_of_100, offset):
    assert read_all(topic_of_100, offset=offset)[0].value() == b"%d" % offset


@pytest.mark.parametrize(("place", "first"), [(OFFSET_BEGINNING, b"0"), (OFFSET_END, b"new")])
def test_from_the_beginning_and_the_end(make_consumer, topic_of_100, place, first):
    consumer = make_consumer()
    consumer.assign([TopicPartition(topic_of_100, 0, place)])
    if place == OFFSET_END:
        assert poll_values(consumer, 1, seconds=1) == []
        send_ok(topic_of_100, [{"value": b"new"}])
    assert poll_values(consumer, 1) == [first]


@pytest.mark.parametrize(
    ("timestamp", "offset"),
    [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_041_500, 42), (1_099_000, 99), (1_099_001, OFFSET_END)],
)
def test_offsets_for_times(make_consumer, topic_of_100, timestamp, offset):
    (found,) = make_consumer().offsets_for_times([TopicPartition(topic_of_100, 0, timestamp)], timeout=10)
    assert found.error is None
    assert found.offset == offset


def test_watermarks(make_consumer, topic_of_100):
    assert make_consumer().get_watermark_offsets(TopicPartition(topic_of_100, 0), timeout=10) == (0, 100)


def test_seek(make_consumer, topic_of_100):
    consumer = make_consumer()
    consumer.assign([TopicPartition(topic_of_100, 0, 90)])
    assert poll_values(consumer, 1) == [b"90"]
    consumer.seek(TopicPartition(topic_of_100, 0, 10))
    assert poll_values(consumer, 2) == [b"10", b"11"]


def test_pause_and_resume(make_consumer, make_topic):
    topic = make_topic(partitions=2)
    send_ok(topic, [{"value": b"%d" % (i % 2), "partition": i % 2} for i in range(20)])
    consumer = make_consumer()
    consumer.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
    consumer.pause([TopicPartition(topic, 0)])
    assert poll_values(consumer, 20, seconds=2) == [b"1"] * 10
    consumer.resume([TopicPartition(topic, 0)])
    assert poll_values(consumer, 10) == [b"0"] * 10


def test_the_end_of_a_partition_is_told(make_consumer, topic_of_100):
    consumer = make_consumer(enable_partition_eof=True)
    consumer.assign([TopicPartition(topic_of_100, 0, 95)])
    errors = []

    def at_end():
        message = consumer.poll(0.2)
        if message is not None and message.error():
            errors.append(message.error().code())
        return errors

    assert eventually(at_end, "the end") == [KafkaError._PARTITION_EOF]


def test_an_offset_out_of_range_is_an_error_or_reset(make_consumer, topic_of_100):
    consumer = make_consumer(auto_offset_reset="error")
    consumer.assign([TopicPartition(topic_of_100, 0, 5000)])
    with pytest.raises(KafkaException) as failure:
        poll_records(consumer, 1)
    assert failure.value.args[0].code() == KafkaError._AUTO_OFFSET_RESET
    consumer = make_consumer(auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic_of_100, 0, 5000)])
    assert poll_values(consumer, 1) == [b"0"]


def test_a_new_record_wakes_a_waiting_consumer(make_consumer, topic_of_100):
    consumer = make_consumer(fetch_wait_max_ms=20_000)
    consumer.assign([TopicPartition(topic_of_100, 0, 100)])
    assert poll_values(consumer, 1, seconds=1) == []
    started = time.monotonic()
    send_ok(topic_of_100, [{"value": b"new"}])
    assert poll_values(consumer, 1) == [b"new"]
    assert time.monotonic() - started < 10, "the fetch waited its time out"


def test_fetch_min_bytes_gathers_records(make_consumer, topic_of_100):
    consumer = make_consumer(fetch_min_bytes=100_000, fetch_wait_max_ms=500)
    consumer.assign([TopicPartition(topic_of_100, 0, 0)])
    assert len(poll_records(consumer, 100)) == 100


def test_a_small_fetch_limit_still_gets_large_records(make_consumer, make_topic):
    topic = make_topic()
    values = [bytes([i]) * 300_000 for i in range(5)]
    for value in values:
        send_ok(topic, [{"value": value}])
    consumer = make_consumer(fetch_message_max_bytes=1000, fetch_max_bytes=1_000_000)
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert poll_values(consumer, 5) == values


def test_many_partitions_of_many_topics(make_consumer, make_topic):
    topics = [make_topic(partitions=20) for _ in range(3)]
    client = producer()
    for topic in topics:
        for partition in range(20):
            client.produce(topic, f"{topic} {partition}", partition=partition)
    assert client.flush(30) == 0
    consumer = make_consumer()
    consumer.subscribe(topics)
    expected = {f"{topic} {partition}".encode() for topic in topics for partition in range(20)}
    assert set(poll_values(consumer, 60)) == expected


def test_a_subscription_by_pattern_follows_new_topics(make_consumer, admin, make_topic):
    from confluent_kafka.admin import NewTopic

    prefix = fresh("pattern")
    consumer = make_consumer(topic_metadata_refresh_interval_ms=500)
    first, second = f"{prefix}-1", f"{prefix}-2"
    admin.create_topics([NewTopic(first, 1, 1)])[first].result()
    send_ok(first, [{"value": b"first"}])
    consumer.subscribe([f"^{prefix}-.*"])
    assert poll_values(consumer, 1) == [b"first"]
    admin.create_topics([NewTopic(second, 1, 1)])[second].result()
    send_ok(second, [{"value": b"second"}])
    # Nothing was committed: after the rebalance the first record may come again.
    eventually(lambda: b"second" in poll_values(consumer, 1, seconds=1), "the new topic's record")


def test_an_unknown_topic_is_said_to_be_one(make_consumer):
    consumer = make_consumer(allow_auto_create_topics=False)
    consumer.subscribe([fresh()])
    with pytest.raises(KafkaException) as failure:
        poll_records(consumer, 1)
    assert failure.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
