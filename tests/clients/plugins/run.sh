#!/usr/bin/env bash
# Plugins, as clients that others wrote see them: an ingest, a view, and a sink in a group, at the node whose Kafka
# listener is $BOOTSTRAP and whose admin listener is $MILLSTREAM_ADMIN.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"
: "${MILLSTREAM_ADMIN:?set MILLSTREAM_ADMIN: this suite applies a pipeline}"
root=$here/../../..
target=${CARGO_TARGET_DIR:-$root/target}
millstream=${MILLSTREAM:-$target/release/millstream}
cache=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}

counts_file=${COUNTS:-/dev/null}
work=$(mktemp -d)
export PIPELINE=compat-$run_id CHECKED=compat-$run_id-checked MASKED=compat-$run_id-masked
export COUNTED=compat-$run_id-counted COUNTS_TOPIC=compat-$run_id-counts COUNTERS=compat-$run_id-counters
trap '"$millstream" pipeline delete "$PIPELINE" --admin "$MILLSTREAM_ADMIN" > /dev/null 2>&1; rm -rf "$work"' EXIT
for plugin in filter mask counter; do
  (cd "$root" && cargo build --quiet --locked --profile guest --target wasm32-wasip2 \
    --manifest-path "plugins/$plugin/Cargo.toml" --target-dir "$target/bench-guests") || exit 1
  cp "$target/bench-guests/wasm32-wasip2/guest/$plugin.wasm" "$work"
done
sed "s/RUN/$run_id/g" "$here/pipeline.yaml" > "$work/pipeline.yaml"
"$millstream" apply "$work/pipeline.yaml" --admin "$MILLSTREAM_ADMIN" || exit 1

passed=0 failed=0
# count PASSED FAILED: one that died before it could tell has failed.
count() { passed=$((passed + ${1:-0})) failed=$((failed + ${2:-1})); }

# The suites of these clients fetch what they need.
for suite in java kafkajs python; do
  [ -d "$cache/$suite" ] || { echo "run the suite $suite before this one: it fetches the client" >&2; exit 1; }
done
java() { timeout 120 java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -cp "$cache/java/*" "$@" 2> >(grep -v -i -E 'log4j|slf4j' >&2); }

described() {
  java org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$BOOTSTRAP" --describe --group "$COUNTERS"
}
test_the_tool_shows_the_members_and_the_lag_of_a_plugin() {
  seq -f 'a,%g' 100 | "$millstream" produce --bootstrap "$BOOTSTRAP" --topic "$COUNTED" > /dev/null
  # Topic, partition, offset, end, lag, member: nothing is left, and all 100 are committed.
  read_up() { described | awk '$2 == topic && $6 == 0 && /millstream-/ { n += $4 } END { exit n != 100 }' topic="$COUNTED"; }
  eventually read_up
}
COUNTS=$work/shell run_tests
read -r ok bad < "$work/shell"; count "$ok" "$bad"

java "$here/Plugins.java" "$BOOTSTRAP" "$CHECKED" "$MASKED" | tee "$work/java"
read -r _ ok bad < <(grep '^counts ' "$work/java" ); count "$ok" "$bad"

KAFKAJS=$work/kafkajs
mkdir "$KAFKAJS" && cp "$here/../kafkajs/broker.js" "$here/plugins.test.js" "$KAFKAJS" && ln -s "$cache/kafkajs/node_modules" "$KAFKAJS/node_modules"
KAFKAJS=$KAFKAJS node --test --test-reporter=tap "$KAFKAJS/plugins.test.js" > "$work/tap" || cat "$work/tap"
count "$(sed -n 's/^# pass //p' "$work/tap")" "$(awk '/^# (fail|cancelled) / { n += $3; seen = 1 } END { if (seen) print n }' "$work/tap")"

# The last one: it deletes the pipeline.
PYTHONPATH=$here/../python "$cache/python/bin/pytest" -q -p no:cacheprovider -p conftest --tb=short --junit-xml="$work/python" "$here"
read -r ok bad < <(python3 - "$work/python" << 'PYTHON'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
bad = int(suite.get("failures")) + int(suite.get("errors"))
print(int(suite.get("tests")) - bad, bad)
PYTHON
); count "$ok" "$bad"
echo "$passed $failed" > "$counts_file"
[ "$failed" -eq 0 ]
