#!/usr/bin/env bash
# kcat: librdkafka as people meet it in a shell.
set -uo pipefail
# shellcheck source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

if ! command -v kcat > /dev/null; then
  apt-get install -y -qq kcat > /dev/null || { echo "install kcat: apt-get install kcat" >&2; exit 1; }
fi

produce() { kcat -b "$BOOTSTRAP" -P -t "$@"; }
# Reads to the end of every partition.
consume() { timeout 30 kcat -b "$BOOTSTRAP" -C -e -q -t "$@"; }

test_a_topic_is_created_by_producing() {
  local topic; topic=$(fresh)
  printf 'one\ntwo\nthree\n' | produce "$topic"
  equal $'one\nthree\ntwo' "$(consume "$topic" | sort)"
  matches "topic \"$topic\" with [0-9]+ partitions" "$(kcat -b "$BOOTSTRAP" -L -t "$topic")"
}

test_metadata_names_a_broker_and_a_controller() {
  local listing; listing=$(kcat -b "$BOOTSTRAP" -L)
  matches 'broker [0-9]+ at [^ ]+:[0-9]+' "$listing"
  matches '\(controller\)' "$listing"
}

test_acks_0_1_and_all() {
  local topic acks; topic=$(fresh)
  for acks in 0 1 all; do
    echo "acks $acks" | produce "$topic" -p 0 -X acks=$acks
    eventually bash -c "kcat -b '$BOOTSTRAP' -C -e -q -t '$topic' -p 0 | grep -qx 'acks $acks'"
  done
}

test_each_codec_comes_back_as_it_went() {
  local topic codec expected; topic=$(fresh)
  expected=$(seq -f 'a line that repeats and so compresses, %g' 2000)
  for codec in none gzip snappy lz4 zstd; do
    echo "$expected" | produce "$topic-$codec" -p 0 -z "$codec"
    equal "$(md5sum <<< "$expected")" "$(consume "$topic-$codec" -p 0 | md5sum)" "$codec"
  done
}

test_keys_decide_the_partition() {
  local topic where; topic=$(fresh)
  seq 1 60 | awk '{ print "key" $1 % 6 ":" $1 }' | produce "$topic" -K :
  where=$(consume "$topic" -f '%k %p\n' | sort -u)
  equal 6 "$(wc -l <<< "$where")" "partitions of six keys"
  equal 60 "$(consume "$topic" -f '%k=%s\n' | grep -c '^key[0-5]=[0-9]*$')"
}

test_order_holds_within_a_partition() {
  local topic; topic=$(fresh)
  seq 1 5000 | produce "$topic" -p 0
  equal "$(seq 1 5000 | md5sum)" "$(consume "$topic" -p 0 | md5sum)"
}

test_headers() {
  local topic; topic=$(fresh)
  echo x | produce "$topic" -p 0 -H first=1 -H second=two -H first=again
  equal 'first=1,second=two,first=again' "$(consume "$topic" -p 0 -f '%h\n')"
}

test_empty_values_and_tombstones() {
  local topic; topic=$(fresh)
  printf 'empty:\nfull:x\n' | produce "$topic" -p 0 -K :
  printf 'gone:\n' | produce "$topic" -p 0 -K : -Z
  equal $'empty 0\nfull 1\ngone -1' "$(consume "$topic" -p 0 -f '%k %S\n')"
}

test_offsets() {
  local topic; topic=$(fresh)
  seq 0 99 | produce "$topic" -p 0
  equal "$(seq 0 99)" "$(consume "$topic" -p 0 -o beginning)" beginning
  equal "$(seq 42 99)" "$(consume "$topic" -p 0 -o 42)" "offset 42"
  equal "$(seq 97 99)" "$(consume "$topic" -p 0 -o -3)" "three before the end"
  equal "" "$(consume "$topic" -p 0 -o end)" end
  equal 7 "$(consume "$topic" -p 0 -o 7 -c 1)" "one record"
}

test_timestamps() {
  local topic first later; topic=$(fresh)
  echo early | produce "$topic" -p 0
  first=$(consume "$topic" -p 0 -f '%T')
  # Wait for the clock to show another millisecond.
  eventually bash -c "[ \$(date +%s%3N) -gt $((first + 5)) ]"
  echo late | produce "$topic" -p 0
  later=$(consume "$topic" -p 0 -o 1 -f '%T')
  equal late "$(consume "$topic" -p 0 -o "s@$((first + 1))")"
  equal $'early\nlate' "$(consume "$topic" -p 0 -o "s@$first")"
  matches "$topic \[0\] offset 1" "$(kcat -b "$BOOTSTRAP" -Q -t "$topic:0:$later")"
  matches "$topic \[0\] offset 0" "$(kcat -b "$BOOTSTRAP" -Q -t "$topic:0:0")"
}

test_a_group_goes_on_where_it_stopped() {
  local topic group; topic=$(fresh) group=$(fresh group)
  seq 1 10 | produce "$topic" -p 0
  group_consume() {
    timeout 60 kcat -b "$BOOTSTRAP" -q -X auto.offset.reset=earliest "$@" -G "$group" "$topic"
  }
  equal "$(seq 1 4)" "$(group_consume -c 4)" "first run"
  equal "$(seq 5 10)" "$(group_consume -e)" "second run"
  seq 11 12 | produce "$topic" -p 0
  equal "$(seq 11 12)" "$(group_consume -e)" "third run"
}

test_the_idempotent_producer() {
  local topic; topic=$(fresh)
  seq 1 3000 | produce "$topic" -p 0 -X enable.idempotence=true
  equal "$(seq 1 3000 | md5sum)" "$(consume "$topic" -p 0 | md5sum)"
}

test_many_small_batches() {
  local topic; topic=$(fresh)
  seq 1 2000 | produce "$topic" -p 0 -X linger.ms=0 -X batch.num.messages=1
  equal 2000 "$(consume "$topic" -p 0 | wc -l)"
}

test_records_of_900_kb() {
  local topic file; topic=$(fresh) file=$(mktemp)
  head -c 675000 /dev/urandom | base64 -w 0 > "$file"
  produce "$topic" -p 0 "$file" "$file" "$file"
  equal 2700000 "$(consume "$topic" -p 0 -D '' | wc -c)"
  rm "$file"
}

test_too_large_a_record_is_refused() {
  local topic file; topic=$(fresh) file=$(mktemp)
  head -c 3000000 /dev/urandom | base64 -w 0 > "$file"
  echo first | produce "$topic" -p 0
  matches 'size too large' "$(fails produce "$topic" -p 0 -X message.max.bytes=8000000 "$file")"
  equal first "$(consume "$topic" -p 0)" "what was accepted"
  rm "$file"
}

test_an_unknown_topic_is_said_to_be_one() {
  matches '[Uu]nknown topic' "$(fails consume "$(fresh)" -X allow.auto.create.topics=false)"
}

test_an_unknown_partition_is_said_to_be_one() {
  local topic; topic=$(fresh)
  echo x | produce "$topic"
  matches 'partition 999 does not exist' "$(fails consume "$topic" -p 999)"
}

run_tests "$@"
