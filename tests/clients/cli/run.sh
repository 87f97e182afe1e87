#!/usr/bin/env bash
# The millstream command line as a client: what it promises holds against any cluster.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

target=${CARGO_TARGET_DIR:-$here/../../../target}
for candidate in "${MILLSTREAM:-}" "$target/release/millstream" "$target/debug/millstream"; do
  if [ -x "$candidate" ]; then millstream=$candidate; break; fi
done
if [ -z "${millstream:-}" ]; then echo "build millstream first, or set MILLSTREAM" >&2; exit 1; fi
export MILLSTREAM_BOOTSTRAP=$BOOTSTRAP

m() { timeout 60 "$millstream" "$@"; }
# exits CODE COMMAND...: prints the output, and checks the exit code.
exits() {
  local expected=$1 code=0; shift
  "$@" 2>&1 || code=$?
  [ "$code" -eq "$expected" ] || { echo "expected exit code $expected and got $code: $*"; return 1; }
}
field() { python3 -c 'import json, sys; print(eval("d" + sys.argv[1], {"d": json.load(sys.stdin)}))' "$1"; }

test_topics_are_created_described_and_deleted() {
  local topic; topic=$(fresh)
  equal "created topic $topic" "$(m topic create "$topic" -p 3 --config retention.ms=3600000)"
  matches 'it exists already' "$(exits 1 m topic create "$topic")"
  equal "topic $topic exists already" "$(m topic create "$topic" --if-not-exists)"
  eventually bash -c "'$millstream' topic list | grep -q '^$topic  *3 '"
  equal 3600000 "$(m topic describe "$topic" --json | field '["configs"] and [c["value"] for c in d["configs"] if c["name"] == "retention.ms"][0]')"
  equal '[0, 1, 2]' "$(m topic describe "$topic" --json | field '["partitions"] and [p["partition"] for p in d["partitions"]]')"
  equal "deleted topic $topic" "$(m topic delete "$topic")"
  matches 'does not exist' "$(exits 1 m topic delete "$topic")"
  m topic delete "$topic" --if-exists
}

test_mistakes_are_one_clear_line() {
  equal 'error: topic no-such-topic does not exist: `millstream topic list` shows those that do' \
    "$(exits 1 m topic describe no-such-topic)"
  matches 'not a valid topic name' "$(exits 1 m topic create 'bad name')"
  matches 'not a valid replication factor' "$(exits 1 m topic create "$(fresh)" --replication-factor 300)"
  matches 'refuses one of the settings' "$(exits 1 m topic create "$(fresh)" --config no.such.setting=1)"
  equal "error: can't reach 127.0.0.1:1: connection refused: is the node running? start one with \`millstream up\`" \
    "$(exits 1 m topic list --bootstrap 127.0.0.1:1)"
  exits 2 m topic create
  exits 2 m consume --topic x --from nowhere
  matches 'No such configuration property' "$(exits 2 m topic list -X no.such=1)"
}

test_what_is_produced_is_consumed() {
  local topic; topic=$(fresh)
  m topic create "$topic" -p 2 > /dev/null
  printf 'a:1\nb:2:3\nplain\n' | m produce -t "$topic" -k : -H source=test > /dev/null
  equal $'=plain source=test\na=1 source=test\nb=2:3 source=test' \
    "$(m consume -t "$topic" --from beginning --until-end -f '%k=%v %h\n' | sort)"
  equal 3 "$(m topic describe "$topic" --json | field '["partitions"] and sum(p["log_end_offset"] for p in d["partitions"])')"
  equal 3 "$(m consume -t "$topic" --from beginning --max 3 --json | python3 -c '
import json, sys
print(sum(json.loads(line)["headers"] == [{"key": "source", "value": "test"}] for line in sys.stdin))')"
}

test_each_codec_and_acks() {
  local topic codec acks; topic=$(fresh)
  m topic create "$topic" -p 1 > /dev/null
  for codec in none gzip snappy lz4 zstd; do
    seq 100 | m produce -t "$topic" --compression $codec > /dev/null
  done
  for acks in 0 1 all; do
    seq 100 | m produce -t "$topic" --acks $acks > /dev/null
  done
  equal 800 "$(m consume -t "$topic" --from beginning --max 800 --timeout 10 | wc -l)"
}

test_positions() {
  local topic; topic=$(fresh)
  m topic create "$topic" -p 1 > /dev/null
  seq 0 99 | m produce -t "$topic" > /dev/null
  equal "$(seq 42 99)" "$(m consume -t "$topic" --from 42 --until-end)"
  equal "$(seq 0 99)" "$(m consume -t "$topic" --from @0 --until-end)"
  equal "" "$(m consume -t "$topic" --from @2999-01-01 --until-end)"
  equal "" "$(m consume -t "$topic" --timeout 0.5)"
  matches 'not in the partition' "$(exits 1 m consume -t "$topic" --from 101 --timeout 5)"
  matches 'got 100 of 101' "$(exits 1 m consume -t "$topic" --from 0 --max 101 --timeout 0.5 | tail -1)"
  matches 'there is no partition 1' "$(exits 1 m consume -t "$topic" --partition 1)"
}

test_a_reader_that_goes_away_ends_consume() {
  local topic; topic=$(fresh)
  m topic create "$topic" -p 1 > /dev/null
  seq -f '%0100g' 5000 | m produce -t "$topic" > /dev/null
  set +o pipefail
  equal 1 "$(m consume -t "$topic" --from beginning | head -1 | wc -l)"
}

test_groups() {
  local topic group; topic=$(fresh) group=$(fresh group)
  m topic create "$topic" -p 1 > /dev/null
  seq 10 | m produce -t "$topic" > /dev/null
  equal "$(seq 4)" "$(m consume -t "$topic" -g "$group" --from beginning --max 4)"
  equal 6 "$(m group describe "$group" --json | field '["lag"]')"
  equal "$(seq 5 10)" "$(m consume -t "$topic" -g "$group" --max 6)"
  matches "$group +Empty +consumer" "$(m group list)"
  m group reset "$group" -t "$topic" --to 8 | grep -q "^$topic *0 *10 *8$"
  equal 0 "$(m group describe "$group" --json | field '["lag"]')" "a dry run changes nothing"
  m group reset "$group" -t "$topic" --to 8 --execute > /dev/null
  equal "$(seq 9 10)" "$(m consume -t "$topic" -g "$group" --timeout 1)"
  m group reset "$group" -t "$topic" --to earliest --execute --json | grep -q '"executed":true'
  equal 10 "$(m group describe "$group" --json | field '["lag"]')"
  equal "deleted group $group" "$(m group delete "$group")"
  matches 'does not exist' "$(exits 1 m group describe "$group")"
}

test_a_group_in_use_is_left_alone() {
  local topic group; topic=$(fresh) group=$(fresh group)
  m topic create "$topic" -p 3 > /dev/null
  "$millstream" consume -t "$topic" -g "$group" > /dev/null & pid=$!
  trap 'kill $pid' EXIT
  eventually bash -c "'$millstream' group describe '$group' --json | grep -q '\"partition\":2'"
  matches '1 active member' "$(exits 1 m group reset "$group" -t "$topic" --to earliest --execute)"
  matches 'active members' "$(exits 1 m group delete "$group")"
  kill -INT $pid
  wait $pid
  trap - EXIT
  equal Empty "$(m group describe "$group" --json | field '["state"]')"
}

test_the_benches_measure_and_clean_up() {
  local before
  before=$(m topic list --json)
  m bench produce -n 20000 -s 100 --json | grep -q '"records":20000,'
  m bench produce -n 2000 --rate 4000 --idempotent --json | grep -q '"delivery_ms":{"count":2000,'
  m bench consume -n 20000 -s 100 --consumers 2 --json | grep -q '"records":20000,'
  m bench latency -n 2000 --rate 2000 --json | grep -q '"records":2000,'
  eventually test "$before" == "$(m topic list --json)"
}

test_completions() {
  local shell
  for shell in bash zsh fish; do
    m completions $shell | grep -q millstream
  done
}

run_tests "$@"
