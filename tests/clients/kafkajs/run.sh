#!/usr/bin/env bash
# kafkajs: the pure JavaScript client, under node's own test runner.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}/kafkajs

# Dependencies live in the cache, and the tests run there, so that the source tree stays as it is.
mkdir -p "$work"
if ! cmp -s "$here/package-lock.json" "$work/installed.json"; then
  cp "$here/package.json" "$here/package-lock.json" "$work/"
  (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts) || exit 1
  cp "$here/package-lock.json" "$work/installed.json"
fi
rm -f "$work"/*.test.js
cp "$here"/*.js "$work/"
cd "$work" || exit 1
report=$(mktemp)
trap 'rm -f "$report"' EXIT
KAFKAJS_NO_PARTITIONER_WARNING=1 node --test --test-reporter=spec --test-reporter-destination=stdout \
  --test-reporter=tap --test-reporter-destination="$report" .
code=$?
count() { sed -n "s/^# $1 //p" "$report" | tail -1; }
echo "$(count pass) $(($(count fail) + $(count cancelled)))" > "${COUNTS:-/dev/null}"
exit $code
