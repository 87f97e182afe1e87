"""What the tests share: the broker's address, clients, names of their own, and patience."""

import itertools
import os
import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
PATIENCE_SECONDS = 30
RUN = uuid.uuid4().hex[:8]
counter = itertools.count()


def fresh(kind="t"):
    """A name that no other test and no other run uses."""
    return f"compat-python-{RUN}-{kind}{next(counter)}"


def eventually(check, what):
    """Polls until `check` returns something true, and returns that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"


def producer(**config):
    return Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 2} | dotted(config))


def dotted(config):
    return {name.replace("_", "."): value for name, value in config.items()}


def send(topic, records, **config):
    """Produces `records`, each the keyword arguments of `produce`, and returns their delivery reports."""
    client = producer(**config)
    reports = []
    for record in records:
        client.produce(topic, on_delivery=lambda error, message: reports.append((error, message)), **record)
        client.poll(0)
    assert client.flush(PATIENCE_SECONDS) == 0, "records are still waiting to be delivered"
    assert len(reports) == len(records)
    return reports


def send_ok(topic, records, **config):
    reports = send(topic, records, **config)
    assert [error for error, _ in reports if error] == []
    return [message for _, message in reports]


def poll_records(consumer, count, seconds=PATIENCE_SECONDS):
    """Up to `count` records, as they come within `seconds`."""
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        messages.append(message)
    return messages


def poll_values(consumer, count, seconds=PATIENCE_SECONDS):
    return [message.value() for message in poll_records(consumer, count, seconds)]


@pytest.fixture
def admin():
    return AdminClient({"bootstrap.servers": BOOTSTRAP})


@pytest.fixture
def make_topic(admin):
    def make(partitions=1, **config):
        name = fresh()
        admin.create_topics([NewTopic(name, partitions, 1, config=dotted(config))])[name].result()

        def led():
            topic = admin.list_topics(name, timeout=10).topics[name]
            return topic.error is None and [p.leader >= 0 for p in topic.partitions.values()] == [True] * partitions

        eventually(led, f"leaders for {name}")
        return name

    return make


@pytest.fixture
def make_consumer():
    consumers = []

    def make(group=None, **config):
        settings = {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group or fresh("group"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 10_000,
        }
        consumer = Consumer(settings | dotted(config))
        consumers.append(consumer)
        return consumer

    yield make
    for consumer in consumers:
        try:
            consumer.close()
        except RuntimeError:
            pass  # the test closed it


@pytest.fixture
def read_all(make_consumer):
    """All records of a partition, from an offset to the end at the time of asking."""

    def read(topic, partition=0, offset=0):
        consumer = make_consumer()
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        consumer.assign([TopicPartition(topic, partition, offset)])
        messages = poll_records(consumer, end - offset)
        assert [message.offset() for message in messages] == list(range(offset, end))
        return messages

    return read
