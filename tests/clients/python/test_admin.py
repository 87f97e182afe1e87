"""Administration: topics, settings, groups, offsets, and what is refused."""

import pytest
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from conftest import eventually, fresh, poll_records, send_ok


def result(futures):
    """The one result of an admin call."""
    (future,) = futures.values()
    return future.result(timeout=30)


def refusal(futures):
    with pytest.raises(KafkaException) as failure:
        result(futures)
    return failure.value.args[0].code()


def test_topics_are_created_listed_and_deleted(admin):
    topic = fresh()
    result(admin.create_topics([NewTopic(topic, 3, 1)]))
    eventually(lambda: topic in admin.list_topics(timeout=10).topics, "the topic to be listed")
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3
    result(admin.delete_topics([topic], operation_timeout=30))
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic to be gone")


def test_the_cluster_decides_where_nothing_is_said(admin):
    topic = fresh()
    result(admin.create_topics([NewTopic(topic)]))
    eventually(lambda: topic in admin.list_topics(timeout=10).topics, "the topic")
    partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
    assert len(partitions) >= 1
    assert all(len(partition.replicas) >= 1 for partition in partitions.values())


def test_validation_creates_nothing(admin):
    topic = fresh()
    result(admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True))
    assert topic not in admin.list_topics(timeout=10).topics
    result(admin.create_topics([NewTopic(topic, 1, 1)]))


@pytest.mark.parametrize(
    ("new_topic", "code"),
    [
        (lambda: NewTopic("bad name", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (lambda: NewTopic("..", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (lambda: NewTopic("x" * 250, 1, 1), KafkaError.TOPIC_EXCEPTION),
        (lambda: NewTopic(fresh(), 0, 1), KafkaError.INVALID_PARTITIONS),
        (lambda: NewTopic(fresh(), 1, 300), KafkaError.INVALID_REPLICATION_FACTOR),
        (lambda: NewTopic(fresh(), 1, 1, config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG),
        (lambda: NewTopic(fresh(), 1, 1, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG),
    ],
    ids=["name", "dots", "long", "partitions", "replication", "setting", "value"],
)
def test_what_can_not_be_a_topic_is_refused(admin, new_topic, code):
    assert refusal(admin.create_topics([new_topic()])) == code


def test_a_topic_that_exists_is_not_created_again(admin, make_topic):
    assert refusal(admin.create_topics([NewTopic(make_topic(), 1, 1)])) == KafkaError.TOPIC_ALREADY_EXISTS


def test_an_unknown_topic_is_not_deleted(admin):
    assert refusal(admin.delete_topics([fresh()])) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_each_topic_of_a_request_has_its_own_answer(admin, make_topic):
    good, bad = fresh(), make_topic()
    futures = admin.create_topics([NewTopic(good, 1, 1), NewTopic(bad, 1, 1)])
    futures[good].result()
    with pytest.raises(KafkaException):
        futures[bad].result()


def test_a_deleted_topic_may_come_back_empty(admin, make_consumer):
    topic = fresh()
    result(admin.create_topics([NewTopic(topic, 1, 1)]))
    send_ok(topic, [{"value": b"old"}])
    result(admin.delete_topics([topic], operation_timeout=30))
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic to be gone")

    def created():
        try:
            return result(admin.create_topics([NewTopic(topic, 1, 1)])) is None
        except KafkaException as failure:
            assert failure.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
            return False

    eventually(created, "the topic to be created again")
    send_ok(topic, [{"value": b"new"}])
    consumer = make_consumer()
    consumer.subscribe([topic])
    (message,) = poll_records(consumer, 1)
    assert (message.offset(), message.value()) == (0, b"new")


def test_partitions_are_added(admin, make_topic):
    topic = make_topic()
    result(admin.create_partitions([NewPartitions(topic, 4)]))
    eventually(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4, "4 partitions")
    (message,) = send_ok(topic, [{"value": b"x", "partition": 3}])
    assert message.partition() == 3


@pytest.mark.parametrize("count", [1, 2])
def test_partitions_are_never_taken_away(admin, make_topic, count):
    topic = make_topic(partitions=2)
    assert refusal(admin.create_partitions([NewPartitions(topic, count)])) == KafkaError.INVALID_PARTITIONS


def test_settings_of_a_topic(admin, make_topic):
    topic = make_topic(retention_ms="3600000", cleanup_policy="compact")
    entries = result(admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
    assert entries["retention.ms"].value == "3600000"
    assert entries["cleanup.policy"].value == "compact"
    assert not entries["retention.ms"].is_default
    assert entries["segment.bytes"].value.isdigit()
    assert entries["max.message.bytes"].is_default


def test_settings_of_a_broker(admin):
    broker = next(iter(admin.list_topics(timeout=10).brokers))
    entries = result(admin.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))]))
    assert int(entries["default.replication.factor"].value) >= 1
    assert int(entries["num.partitions"].value) >= 1


def test_settings_of_an_unknown_topic(admin):
    code = refusal(admin.describe_configs([ConfigResource(ResourceType.TOPIC, fresh())]))
    assert code == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_the_cluster_describes_itself(admin):
    cluster = admin.describe_cluster().result(timeout=30)
    assert cluster.cluster_id
    assert cluster.controller.id in [node.id for node in cluster.nodes]
    assert cluster.cluster_id == admin.list_topics(timeout=10).cluster_id


def test_topics_are_described_with_their_ids(admin, make_topic):
    topic = make_topic(partitions=2)
    described = result(admin.describe_topics(TopicCollection([topic])))
    assert [partition.id for partition in described.partitions] == [0, 1]
    assert not described.is_internal
    other = result(admin.describe_topics(TopicCollection([make_topic()])))
    assert str(described.topic_id) != str(other.topic_id)


def test_offsets_are_listed(admin, make_topic):
    topic = make_topic()
    send_ok(topic, [{"value": b"x", "timestamp": 1000 * i} for i in range(1, 11)])
    partition = TopicPartition(topic, 0)

    def offset(spec):
        return result(admin.list_offsets({partition: spec})).offset

    assert offset(OffsetSpec.earliest()) == 0
    assert offset(OffsetSpec.latest()) == 10
    assert offset(OffsetSpec.for_timestamp(5000)) == 4
    assert offset(OffsetSpec.max_timestamp()) == 9


@pytest.fixture
def active_group(make_topic, make_consumer):
    """A group with one member, that has committed."""
    topic, group = make_topic(partitions=2), fresh("group")
    consumer = make_consumer(group, client_id="described")
    consumer.subscribe([topic])
    eventually(lambda: consumer.poll(0.1) or len(consumer.assignment()) == 2, "an assignment")
    consumer.commit(offsets=[TopicPartition(topic, 0, 5, "note")], asynchronous=False)
    return topic, group, consumer


def test_groups_are_listed_and_described(admin, active_group):
    topic, group, consumer = active_group
    listed = {found.group_id: found for found in admin.list_consumer_groups().result(timeout=30).valid}
    assert listed[group].state == ConsumerGroupState.STABLE
    described = result(admin.describe_consumer_groups([group]))
    assert described.state == ConsumerGroupState.STABLE
    assert described.partition_assignor == "range"
    (member,) = described.members
    assert member.client_id == "described"
    assert member.host
    assigned = {(partition.topic, partition.partition) for partition in member.assignment.topic_partitions}
    assert assigned == {(topic, 0), (topic, 1)}
    consumer.close()
    described = result(admin.describe_consumer_groups([group]))
    assert (described.state, described.members) == (ConsumerGroupState.EMPTY, [])


def test_groups_are_listed_by_state(admin, active_group):
    _, group, _ = active_group

    def listed(state):
        found = admin.list_consumer_groups(states={state}).result(timeout=30)
        return [listing.group_id for listing in found.valid]

    assert group in listed(ConsumerGroupState.STABLE)
    assert group not in listed(ConsumerGroupState.EMPTY)


def test_offsets_of_a_group(admin, active_group):
    topic, group, consumer = active_group
    offsets = result(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    found = [(at.topic, at.partition, at.offset, at.metadata) for at in offsets.topic_partitions]
    assert found == [(topic, 0, 5, "note")]
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    (refused,) = result(admin.alter_consumer_group_offsets([moved])).topic_partitions
    assert refused.error.code() == KafkaError.UNKNOWN_MEMBER_ID
    consumer.close()
    (accepted,) = result(admin.alter_consumer_group_offsets([moved])).topic_partitions
    assert accepted.error is None
    offsets = result(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    assert [at.offset for at in offsets.topic_partitions] == [2]


def test_groups_are_deleted_when_empty(admin, active_group):
    _, group, consumer = active_group
    assert refusal(admin.delete_consumer_groups([group])) == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    result(admin.delete_consumer_groups([group]))
    assert refusal(admin.delete_consumer_groups([group])) == KafkaError.GROUP_ID_NOT_FOUND
    offsets = result(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    assert offsets.topic_partitions == []


def test_an_unknown_group_is_dead(admin):
    described = result(admin.describe_consumer_groups([fresh("group")]))
    assert (described.state, described.members) == (ConsumerGroupState.DEAD, [])
