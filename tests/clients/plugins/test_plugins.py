"""confluent-kafka-python at an ingest, a view, and in a group with a plugin."""

import json
import os
import subprocess
import sys
import threading
import urllib.request

import pytest
from confluent_kafka import KafkaError, TopicPartition

from conftest import BOOTSTRAP, eventually, fresh, poll_records, send, send_ok

CHECKED, MASKED = os.environ["CHECKED"], os.environ["MASKED"]
COUNTED, COUNTS, COUNTERS = os.environ["COUNTED"], os.environ["COUNTS_TOPIC"], os.environ["COUNTERS"]
PIPELINE = os.environ["PIPELINE"]
GOOD = {"value": json.dumps({"amount": 1, "card": "4711"}), "partition": 0}
DROPPED = {"value": json.dumps({"amount": -1, "card": "4711"}), "partition": 0}


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_batch_with_a_bad_record_is_refused_and_the_next_one_is_not(idempotent):
    bad = {"value": "no json", "partition": 0}
    reports = send(CHECKED, [GOOD, bad, GOOD], linger_ms=500, enable_idempotence=idempotent)
    assert {error.code() for error, _ in reports} == {KafkaError.INVALID_RECORD}
    assert len(send_ok(CHECKED, [GOOD], enable_idempotence=idempotent)) == 1


def test_a_group_reads_a_view_commits_and_goes_on(make_consumer):
    first = send_ok(CHECKED, [GOOD, DROPPED, GOOD], linger_ms=500)[0].offset()
    group = fresh("group")
    consumer = make_consumer(group)
    consumer.subscribe([MASKED])
    records = []

    def is_read():
        records.extend(poll_records(consumer, 100, seconds=0.5))
        return any(record.partition() == 0 and record.offset() == first + 2 for record in records)

    eventually(is_read, "the last record")
    last = [record.offset() for record in records if record.partition() == 0 and record.offset() >= first]
    assert last == [first, first + 2]
    assert {record.value() for record in records} == {b'{"amount":1,"card":"***"}'}
    consumer.commit(asynchronous=False)
    consumer.close()
    partition = TopicPartition(MASKED, 0)
    other = make_consumer(group)
    assert other.committed([partition], timeout=10)[0].offset == first + 3
    assert other.get_watermark_offsets(partition, timeout=10)[1] == first + 3
    send_ok(CHECKED, [GOOD])
    other.subscribe([MASKED])
    assert poll_records(other, 1)[0].offset() == first + 3


def test_a_view_is_read_to_its_end(make_consumer):
    first = send_ok(CHECKED, [GOOD, DROPPED], linger_ms=500)[0].offset()
    consumer = make_consumer(enable_partition_eof=True)
    consumer.assign([TopicPartition(MASKED, 0, first + 1)])
    message = consumer.poll(10)
    assert message.error().code() == KafkaError._PARTITION_EOF
    assert message.offset() == first + 2


def test_a_view_cannot_be_written_to():
    reports = send(MASKED, [GOOD])
    assert reports[0][0].code() == KafkaError.TOPIC_EXCEPTION


# A member that commits what it has told, and can be killed.
MEMBER = """
import sys
from confluent_kafka import Consumer
bootstrap, group, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000})
consumer.subscribe([topic], on_assign=lambda _, partitions: print("assigned", len(partitions), flush=True))
while True:
    message = consumer.poll(0.2)
    if message is not None and not message.error():
        print("read", message.partition(), message.offset(), flush=True)
        consumer.commit(message, asynchronous=False)
"""


class Member:
    def __init__(self):
        command = [sys.executable, "-c", MEMBER, BOOTSTRAP, COUNTERS, COUNTED]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.assigned, self.read = 0, set()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            what, *numbers = line.split()
            if what == "assigned":
                self.assigned = int(numbers[0])
            else:
                self.read.add(tuple(map(int, numbers)))

    def kill(self):
        self.process.kill()
        self.process.wait()


def test_a_plugin_and_a_consumer_share_a_group_and_survive_each_other(make_consumer):
    reader, member_of_group = make_consumer(), make_consumer(COUNTERS)
    reader.assign([TopicPartition(COUNTS, 0, 0)])
    counts = []

    def counted():
        """What the plugin has counted: it writes before it commits."""
        counts.extend(int(record.value()) for record in poll_records(reader, 1000, seconds=0.3))
        return sum(counts)

    def produce():
        send_ok(COUNTED, [{"value": f"a,{i}", "partition": i % 4} for i in range(400)])

    def committed():
        partitions = [TopicPartition(COUNTED, partition) for partition in range(4)]
        offsets = member_of_group.committed(partitions, timeout=10)
        return [offset.offset for offset in offsets]

    # The suite's first test had the plugin count 100.
    eventually(lambda: counted() == 100, "what was counted before")
    member = Member()
    eventually(lambda: member.assigned == 2, "half of the partitions")
    produce()
    eventually(lambda: len(member.read) == 200 and counted() == 300, "all records, once")
    member.kill()
    produce()
    # The plugin takes over what the member had, from where it was.
    eventually(lambda: counted() >= 700, "the records of a member that was killed")
    assert counted() == 700
    eventually(lambda: sum(committed()) == 900, "offsets of all records")

    # The other way round: the plugin's pipeline goes.
    places = committed()
    request = urllib.request.Request(f"http://{os.environ['MILLSTREAM_ADMIN']}/v1/pipelines/{PIPELINE}", method="DELETE")
    urllib.request.urlopen(request, timeout=60).close()
    member = Member()
    try:
        produce()
        eventually(lambda: len(member.read) == 400, "the records of a plugin that is gone")
        assert {(p, min(o for q, o in member.read if q == p)) for p in range(4)} == set(enumerate(places))
    finally:
        member.kill()
