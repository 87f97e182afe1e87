#!/usr/bin/env bash
# Runs clients that others wrote against the broker at $BOOTSTRAP.
#
#   BOOTSTRAP=127.0.0.1:9092 tests/clients/run.sh [SUITE ...]
#
# Suites: kcat cli python kafkajs java franz-go, and plugins for a Millstream node whose admin listener is
# $MILLSTREAM_ADMIN; without arguments, all of them. What a suite needs is fetched
# with the client's own package manager into $CLIENTS_CACHE. The last line is "N passed, N failed"; the exit
# code is 0 only if nothing failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BOOTSTRAP=${BOOTSTRAP:-127.0.0.1:9092}
export CLIENTS_CACHE=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}
suite_seconds_max=${SUITE_SECONDS_MAX:-900}

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(kcat cli python kafkajs java franz-go ${MILLSTREAM_ADMIN:+plugins})
for suite in "${suites[@]}"; do
  if [ ! -x "$here/$suite/run.sh" ]; then
    echo "no suite named $suite; there are: kcat cli python kafkajs java franz-go plugins" >&2
    exit 2
  fi
done
mkdir -p "$CLIENTS_CACHE"
host=${BOOTSTRAP%%,*}
if ! (exec 3<>"/dev/tcp/${host%:*}/${host##*:}") 2>/dev/null; then
  echo "can't reach $host: start a broker there, or set BOOTSTRAP" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
total_passed=0 total_failed=0
for suite in "${suites[@]}"; do
  echo "== $suite"
  started=$SECONDS
  # A suite writes its counts into $COUNTS, as "PASSED FAILED"; one that dies before that has failed.
  COUNTS="$work/$suite" timeout --kill-after=10 "$suite_seconds_max" "$here/$suite/run.sh"
  code=$?
  passed=0 failed=1
  if [ -s "$work/$suite" ]; then
    read -r passed failed < "$work/$suite"
    # Never let a suite that says it failed count as a success.
    if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    if [ "$passed" -eq 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  fi
  echo "-- $suite: $passed passed, $failed failed in $((SECONDS - started)) s"
  total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
done
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ]
