#!/usr/bin/env bash
# The Java client, through Apache Kafka's own command-line tools.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

libs=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}/java
if ! cmp -s "$here/pom.xml" "$libs/pom.xml"; then
  rm -rf "$libs"
  mkdir -p "$libs"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" || exit 1
  cp "$here/pom.xml" "$libs/pom.xml"
fi

# Short-lived programs: no time to optimize, little to collect.
tool() {
  timeout 90 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -cp "$libs/*" "$@" 2> >(grep -v -i log4j >&2)
}
topics() { tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$BOOTSTRAP" "$@"; }
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$BOOTSTRAP" "$@"; }
configs() { tool kafka.admin.ConfigCommand --bootstrap-server "$BOOTSTRAP" "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$BOOTSTRAP" "$@"; }
produce() { tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$BOOTSTRAP" "$@"; }
consume() { tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" "$@" 2> /dev/null; }
create() { topics --create --topic "$@" > /dev/null; }

test_the_broker_says_which_apis_it_serves() {
  local apis
  apis=$(tool org.apache.kafka.tools.BrokerApiVersionsCommand --bootstrap-server "$BOOTSTRAP")
  matches 'Produce\(0\)' "$apis"
  matches 'InitProducerId\(22\)' "$apis"
}

test_topics_are_created_listed_described_extended_and_deleted() {
  local topic; topic=$(fresh)
  topics --create --topic "$topic" --partitions 2 --replication-factor 1 --config retention.ms=3600000
  matches "$topic" "$(topics --list)"
  local described; described=$(topics --describe --topic "$topic")
  matches 'PartitionCount: 2' "$described"
  matches 'retention.ms=3600000' "$described"
  matches 'already exists' "$(fails topics --create --topic "$topic")"
  topics --create --if-not-exists --topic "$topic"
  topics --alter --topic "$topic" --partitions 5
  matches 'PartitionCount: 5' "$(topics --describe --topic "$topic")"
  topics --delete --topic "$topic"
  gone() { ! topics --list | grep -qx "$topic"; }
  eventually gone
  matches 'does not exist' "$(fails topics --describe --topic "$topic")"
}

test_settings_of_topics_and_brokers() {
  local topic; topic=$(fresh)
  create "$topic" --config cleanup.policy=compact
  matches 'cleanup.policy=compact' "$(configs --describe --entity-type topics --entity-name "$topic")"
  matches 'segment.bytes=[0-9]+' "$(configs --describe --all --entity-type topics --entity-name "$topic")"
  local broker
  broker=$(topics --describe --topic "$topic" | sed -n 's/.*Leader: \([0-9]*\).*/\1/p' | head -1)
  matches 'num.partitions=[0-9]+' "$(configs --describe --all --entity-type brokers --entity-name "$broker")"
}

test_acks_0_1_and_all() {
  local topic acks; topic=$(fresh)
  create "$topic" --partitions 1
  for acks in 0 1 all; do
    seq -f "acks $acks, %g" 10 | produce --topic "$topic" --request-required-acks $acks
  done
  equal 30 "$(consume --topic "$topic" --from-beginning --max-messages 30 --timeout-ms 20000 | grep -c '^acks')"
}

test_each_codec() {
  local topic codec; topic=$(fresh)
  create "$topic" --partitions 1
  for codec in none gzip snappy lz4 zstd; do
    seq -f "$codec repeats and so compresses, %g" 500 | produce --topic "$topic" --compression-codec $codec
  done
  local lines
  lines=$(consume --topic "$topic" --from-beginning --max-messages 2500 --timeout-ms 20000)
  for codec in none gzip snappy lz4 zstd; do
    equal "$(seq -f "$codec repeats and so compresses, %g" 500 | md5sum)" "$(grep "^$codec " <<< "$lines" | md5sum)" $codec
  done
}

test_sync_and_async_sends_keep_the_order() {
  local topic; topic=$(fresh)
  create "$topic" --partitions 1
  # --timeout is the linger time, which a send that waits would spend a hundred times.
  seq 1 100 | produce --topic "$topic" --sync --timeout 0
  seq 101 2000 | produce --topic "$topic"
  equal "$(seq 1 2000 | md5sum)" \
    "$(consume --topic "$topic" --from-beginning --max-messages 2000 --timeout-ms 20000 | md5sum)"
}

test_keys_headers_and_timestamps() {
  local topic; topic=$(fresh)
  create "$topic" --partitions 1
  printf 'h1:a,h2:b\tkey\tvalue\n' | produce --topic "$topic" \
    --reader-property parse.key=true --reader-property parse.headers=true
  matches '^CreateTime:[0-9]{13} Partition:0 Offset:0 h1:a,h2:b key value$' "$(consume --topic "$topic" \
    --from-beginning --max-messages 1 --timeout-ms 20000 --formatter-property print.timestamp=true \
    --formatter-property print.partition=true --formatter-property print.offset=true \
    --formatter-property print.headers=true --formatter-property print.key=true \
    --formatter-property key.separator=' ' --formatter-property headers.separator=, | tr '\t' ' ')"
}

test_a_topic_is_created_on_first_use() {
  local topic; topic=$(fresh)
  seq 5 | produce --topic "$topic" 2> /dev/null
  equal 5 "$(consume --topic "$topic" --from-beginning --max-messages 5 --timeout-ms 20000 | wc -l)"
}

test_from_any_offset() {
  local topic; topic=$(fresh)
  create "$topic" --partitions 1
  seq 0 99 | produce --topic "$topic"
  equal "$(seq 42 99)" "$(consume --topic "$topic" --partition 0 --offset 42 --max-messages 58 --timeout-ms 20000)"
  equal "$topic:0:100" "$(offsets --topic "$topic" --time latest)"
  equal "$topic:0:0" "$(offsets --topic "$topic" --time earliest)"
  matches "$topic:0:[0-9]+" "$(offsets --topic "$topic" --time max-timestamp)"
  equal "$topic:0:0" "$(offsets --topic "$topic" --time 1)"
}

test_groups() {
  local topic group described; topic=$(fresh) group=$(fresh group)
  create "$topic" --partitions 1
  seq 10 | produce --topic "$topic"
  equal "$(seq 4)" "$(consume --topic "$topic" --group "$group" --from-beginning --max-messages 4 --timeout-ms 20000)"
  matches "$group" "$(groups --list)"
  described=$(groups --describe --group "$group" 2> /dev/null | awk -v topic="$topic" '$2 == topic { print $4, $5, $6 }')
  equal '4 10 6' "$described" 'committed, end and lag'
  equal "$(seq 5 10)" "$(consume --topic "$topic" --group "$group" --max-messages 6 --timeout-ms 20000)"
  groups --reset-offsets --group "$group" --topic "$topic" --to-offset 8 --execute > /dev/null
  equal "$(seq 9 10)" "$(consume --topic "$topic" --group "$group" --max-messages 2 --timeout-ms 20000)"
  matches 'Empty' "$(groups --describe --group "$group" --state 2> /dev/null)"
  matches 'successful' "$(groups --delete --group "$group")"
}

test_the_members_of_a_group_are_described() {
  local topic group; topic=$(fresh) group=$(fresh group)
  create "$topic" --partitions 2
  timeout 90 java -cp "$libs/*" org.apache.kafka.tools.VerifiableConsumer --bootstrap-server "$BOOTSTRAP" \
    --topic "$topic" --group-id "$group" --group-instance-id static-one > /dev/null 2>&1 & member=$!
  trap 'kill $member' EXIT
  has_both() {
    members=$(groups --describe --group "$group" --members --verbose 2> /dev/null)
    grep -q "static-one.*$topic.*0,1" <<< "$members"
  }
  eventually has_both
}

test_what_the_verifiable_producer_sent_the_verifiable_consumer_gets() {
  local topic sent got; topic=$(fresh)
  create "$topic" --partitions 3
  sent=$(tool org.apache.kafka.tools.VerifiableProducer --bootstrap-server "$BOOTSTRAP" --topic "$topic" \
    --max-messages 5000 --acks -1)
  matches '"sent":5000,.*"acked":5000' "$(grep '"name":"tool_data"' <<< "$sent")"
  got=$(tool org.apache.kafka.tools.VerifiableConsumer --bootstrap-server "$BOOTSTRAP" --topic "$topic" \
    --group-id "$(fresh group)" --max-messages 5000 --reset-policy earliest --verbose)
  equal "$(seq 0 4999 | md5sum)" \
    "$(sed -n 's/.*"name":"record_data".*"value":"\([0-9]*\)".*/\1/p' <<< "$got" | sort -n | md5sum)"
  matches '"name":"offsets_committed".*"success":true' "$got"
}

test_the_performance_tools_run() {
  local topic; topic=$(fresh)
  create "$topic" --partitions 3
  matches '20000 records sent' "$(tool org.apache.kafka.tools.ProducerPerformance --bootstrap-server "$BOOTSTRAP" \
    --topic "$topic" --num-records 20000 --record-size 1000 --throughput -1 --command-property acks=all)"
  matches ', 20[0-9]{3}, ' "$(tool org.apache.kafka.tools.ConsumerPerformance --bootstrap-server "$BOOTSTRAP" \
    --topic "$topic" --num-records 20000 --hide-header --timeout 30000)"
}

test_what_kafkas_compatibility_test_asks_of_a_broker() {
  local acls=false
  # The test creates a topic of this name, and refuses to find it.
  topics --delete --if-exists --topic newtopic
  if tool org.apache.kafka.tools.BrokerApiVersionsCommand --bootstrap-server "$BOOTSTRAP" |
    grep -q 'DescribeAcls(29): [0-9]'; then acls=true; fi
  tool org.apache.kafka.tools.ClientCompatibilityTest --bootstrap-server "$BOOTSTRAP" --topic "$(fresh)" \
    --offsets-for-times-supported true --cluster-id-supported true --expect-record-too-large-exception false \
    --num-cluster-nodes 1 --create-topics-supported true --describe-acls-supported $acls \
    --describe-configs-supported true --idempotent-producer-supported true
}

test_too_large_a_record_is_refused() {
  local topic said; topic=$(fresh)
  create "$topic" --partitions 1
  said=$({ head -c 2000000 /dev/zero | tr '\0' x; echo; } | produce --topic "$topic" --sync \
    --command-property max.request.size=4000000 2>&1 || :)
  matches 'RecordTooLargeException|MESSAGE_TOO_LARGE' "$said"
  equal "$topic:0:0" "$(offsets --topic "$topic" --time latest)"
}

test_an_unknown_topic_is_said_to_be_one() {
  matches 'UnknownTopicOrPartition|[Tt]opic.*(not exist|not present)|Could not match' \
    "$(fails offsets --topic "$(fresh)" --time latest)"
}

run_tests "$@"
