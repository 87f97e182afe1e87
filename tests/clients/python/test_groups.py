"""Consumer groups: who reads what, and where they go on."""

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from conftest import eventually, fresh, poll_records, poll_values, send_ok


def assigned(consumer):
    return sorted(partition.partition for partition in consumer.assignment())


def settle(expected, *consumers):
    """Polls the consumers until `expected` says that their assignments are right."""

    def settled():
        for consumer in consumers:
            message = consumer.poll(0.1)
            assert message is None or not message.error(), message.error()
        return expected([assigned(consumer) for consumer in consumers])

    eventually(settled, "a settled group")


def split_evenly(partitions, members):
    def check(assignments):
        together = sorted(partition for assignment in assignments for partition in assignment)
        sizes = {len(assignment) for assignment in assignments}
        return together == list(range(partitions)) and sizes == {partitions // members}

    return check


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_share_the_partitions(make_topic, make_consumer, strategy):
    topic, group = make_topic(partitions=6), fresh("group")
    one = make_consumer(group, partition_assignment_strategy=strategy)
    one.subscribe([topic])
    settle(split_evenly(6, 1), one)
    two = make_consumer(group, partition_assignment_strategy=strategy)
    two.subscribe([topic])
    settle(split_evenly(6, 2), one, two)
    three = make_consumer(group, partition_assignment_strategy=strategy)
    three.subscribe([topic])
    settle(split_evenly(6, 3), one, two, three)
    two.close()
    settle(split_evenly(6, 2), one, three)
    three.close()
    settle(split_evenly(6, 1), one)


def test_every_record_is_read_once_across_a_rebalance(make_topic, make_consumer):
    topic, group = make_topic(partitions=4), fresh("group")
    send_ok(topic, [{"value": b"%d" % i, "partition": i % 4} for i in range(400)])
    one = make_consumer(group)
    one.subscribe([topic])
    values = []
    for message in poll_records(one, 100):
        values.append(int(message.value()))
        one.commit(message, asynchronous=False)
    two = make_consumer(group)
    two.subscribe([topic])

    def rest():
        for consumer in (one, two):
            message = consumer.poll(0.05)
            if message is None:
                continue
            assert not message.error(), message.error()
            values.append(int(message.value()))
            try:
                consumer.commit(message, asynchronous=False)
            except KafkaException as failure:
                # The partition moved on: its new owner reads this record again.
                assert failure.args[0].code() in (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION)
                values.pop()
        return set(values) == set(range(400))

    eventually(rest, "all records")
    assert sorted(values) == list(range(400))


def test_a_group_goes_on_where_it_committed(make_topic, make_consumer):
    topic, group = make_topic(), fresh("group")
    send_ok(topic, [{"value": b"%d" % i} for i in range(10)])
    one = make_consumer(group)
    one.subscribe([topic])
    messages = poll_records(one, 4)
    one.commit(messages[-1], asynchronous=False)
    assert len(poll_records(one, 3)) == 3, "read, and not committed"
    one.close()
    two = make_consumer(group)
    two.subscribe([topic])
    assert poll_values(two, 6) == [b"%d" % i for i in range(4, 10)]


def test_auto_commit_on_close(make_topic, make_consumer):
    topic, group = make_topic(), fresh("group")
    send_ok(topic, [{"value": b"%d" % i} for i in range(10)])
    one = make_consumer(group, enable_auto_commit=True)
    one.subscribe([topic])
    assert len(poll_records(one, 10)) == 10
    one.close()
    committed = make_consumer(group).committed([TopicPartition(topic, 0)], timeout=10)
    assert [partition.offset for partition in committed] == [10]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_commits_of_a_member(make_topic, make_consumer, asynchronous):
    topic, group = make_topic(partitions=2), fresh("group")
    consumer = make_consumer(group)
    consumer.subscribe([topic])
    settle(split_evenly(2, 1), consumer)
    offsets = [TopicPartition(topic, 0, 17), TopicPartition(topic, 1, 4)]
    consumer.commit(offsets=offsets, asynchronous=asynchronous)

    def committed():
        consumer.poll(0.05)
        found = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)
        return [partition.offset for partition in found] == [17, 4]

    eventually(committed, "the committed offsets")


def test_committed_metadata_comes_back(make_topic, make_consumer):
    topic, group = make_topic(), fresh("group")
    consumer = make_consumer(group)
    consumer.commit(offsets=[TopicPartition(topic, 0, 3, "where I was: ä")], asynchronous=False)
    (found,) = make_consumer(group).committed([TopicPartition(topic, 0)], timeout=10)
    assert (found.offset, found.metadata) == (3, "where I was: ä")


def test_too_much_metadata_is_refused(make_topic, make_consumer):
    topic = make_topic()
    with pytest.raises(KafkaException) as failure:
        make_consumer().commit(offsets=[TopicPartition(topic, 0, 3, "x" * 5000)], asynchronous=False)
    assert failure.value.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE


def test_nothing_is_committed_at_first(make_topic, make_consumer):
    topic = make_topic()
    (found,) = make_consumer().committed([TopicPartition(topic, 0)], timeout=10)
    assert found.offset == OFFSET_INVALID


def test_static_members_come_back_without_a_rebalance(make_topic, make_consumer):
    topic, group = make_topic(partitions=4), fresh("group")
    rebalances = []
    one = make_consumer(group, group_instance_id="one", session_timeout_ms=30_000)
    one.subscribe([topic], on_assign=lambda *_: rebalances.append("one"))
    two = make_consumer(group, group_instance_id="two", session_timeout_ms=30_000)
    two.subscribe([topic])
    settle(split_evenly(4, 2), one, two)
    before, rebalances_before = assigned(two), len(rebalances)
    two.close()
    again = make_consumer(group, group_instance_id="two", session_timeout_ms=30_000)
    again.subscribe([topic])
    settle(lambda assignments: assignments[1] == before, one, again)
    assert len(rebalances) == rebalances_before, "the other member noticed"


def test_a_static_member_is_fenced_by_its_double(make_topic, make_consumer):
    topic, group = make_topic(), fresh("group")
    one = make_consumer(group, group_instance_id="same")
    one.subscribe([topic])
    settle(split_evenly(1, 1), one)
    two = make_consumer(group, group_instance_id="same")
    two.subscribe([topic])
    errors = []

    def fenced():
        two.poll(0.05)
        message = one.poll(0.05)
        if message is not None and message.error():
            errors.append(message.error())
        return errors

    (error,) = eventually(fenced, "the first one to be fenced")
    assert error.code() == KafkaError._FATAL


def test_members_of_one_group_may_subscribe_differently(make_topic, make_consumer):
    group = fresh("group")
    left, right = make_topic(partitions=2), make_topic(partitions=2)
    one, two = make_consumer(group), make_consumer(group)
    one.subscribe([left])
    two.subscribe([right])

    def each_has_its_own(_):
        topics = [{partition.topic for partition in consumer.assignment()} for consumer in (one, two)]
        return topics == [{left}, {right}]

    settle(each_has_its_own, one, two)


def test_new_partitions_are_assigned(make_topic, make_consumer, admin):
    from confluent_kafka.admin import NewPartitions

    topic = make_topic(partitions=1)
    consumer = make_consumer(topic_metadata_refresh_interval_ms=500)
    consumer.subscribe([topic])
    settle(split_evenly(1, 1), consumer)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    settle(split_evenly(3, 1), consumer)
