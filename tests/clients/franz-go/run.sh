#!/usr/bin/env bash
# franz-go: the client's own test suite, pointed at our broker. It produces, and reads back through chains of
# consumer groups with each balancer, and checks that every record passes exactly once.
set -uo pipefail
version=v1.22.2
# Tests of what is not served: transactions, share groups, SCRAM, and the regular expressions of KIP-848.
skip='^(TestTxnEtl|TestShareGroup.*|TestSCRAM.*|Test848.*)$'

work=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}/franz-go-$version
if [ ! -d "$work" ]; then
  # The module cache is read-only, and go builds no tests of a dependency in place.
  module=$(cd / && go mod download -json "github.com/twmb/franz-go@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -d "$module" ] || { echo "can't download franz-go $version" >&2; exit 1; }
  cp -r "$module" "$work.part" && chmod -R u+w "$work.part" && mv "$work.part" "$work" || exit 1
fi
cd "$work" || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
KGO_SEEDS=$BOOTSTRAP KGO_TEST_RF=1 KGO_TEST_RECORDS=${KGO_TEST_RECORDS:-20000} \
  go test ./pkg/kgo -count=1 -timeout 10m -v -skip "$skip" "$@" > "$log" 2>&1
code=$?
count() { grep -c "^--- $1: " "$log"; }
[ $code -eq 0 ] || grep -vE '^(=== (RUN|CONT|PAUSE|NAME)|\s*--- (PASS|SKIP))' "$log" | tail -80
failed=$(count FAIL)
# A panic or a timeout ends the run without naming a test.
[ "$failed" -gt 0 ] || [ $code -eq 0 ] || failed=1
grep '^--- SKIP: ' "$log" | sed 's/^--- SKIP: /skipped /'
echo "$(count PASS) $failed" > "${COUNTS:-/dev/null}"
exit $code
