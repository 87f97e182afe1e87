#!/usr/bin/env bash
# confluent-kafka-python: the client, in a virtual environment of its own.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-clients}
venv=$cache/python

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" && "$venv/bin/pip" install -q -r "$here/requirements.txt" || exit 1
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
"$venv/bin/pytest" -q -p no:cacheprovider --tb=short --junit-xml="$report" "$here" "$@"
code=$?
[ -s "$report" ] && python3 - "$report" > "${COUNTS:-/dev/null}" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
count = lambda name: int(suite.get(name))
failed = count("failures") + count("errors")
print(count("tests") - failed - count("skipped"), failed)
PYTHON
exit $code
