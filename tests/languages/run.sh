#!/usr/bin/env bash
# From an empty directory to a live plugin, in each language: new, build, test, deploy, and what comes out.
#
#   MILLSTREAM=/path/to/millstream BOOTSTRAP=127.0.0.1:9092 MILLSTREAM_ADMIN=127.0.0.1:9644 \
#     tests/languages/run.sh [LANGUAGE ...]
#
# Languages: rust js python c go; without arguments, all of them. Toolchains are installed with their own package managers, into
# $LANGUAGES_CACHE where they let themselves be. The last line is "N passed, N failed"; the exit code is 0 only if
# nothing failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$root/tests/clients/lib.sh"
export MILLSTREAM=${MILLSTREAM:?is the binary to test}
export MILLSTREAM_BOOTSTRAP=${BOOTSTRAP:-127.0.0.1:9092} MILLSTREAM_ADMIN=${MILLSTREAM_ADMIN:-127.0.0.1:9644}
cache=${LANGUAGES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millstream-languages}
mkdir -p "$cache"
# A project's build is its own: nothing of the build around this one shapes it.
unset CARGO_TARGET_DIR RUSTFLAGS

languages=("$@")
[ ${#languages[@]} -gt 0 ] || languages=(rust js python c go)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The catalogue of earthquakes where it is at hand, and the example's log otherwise.
input=$root/../shared/data/earthquakes.csv contains=,ML, mask=,NN,
if [ ! -f "$input" ]; then input=$root/examples/access-log/access.log contains=' 404 ' mask=Mozilla; fi
# What a plugin of the templates makes of it, computed without one.
grep -F -e "$contains" "$input" | sed "s/$mask/***/g" > "$work/expected"
[ -s "$work/expected" ] || { echo "nothing in $input contains $contains" >&2; exit 2; }

tools_rust() { rustup --version; }
tools_js() { npm --version; }
tools_python() { python3 -c "import venv"; }
tools_go() { go version; }
tools_c() {
  local packages=(clang lld wasi-libc libclang-rt-dev-wasm32) sudo
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  dpkg -s "${packages[@]}" > /dev/null 2>&1 && return
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq "${packages[@]}"
}

has_all() { [ "$("$MILLSTREAM" --json topic describe "$1" | python3 -c '
import json, sys
print(sum(p["log_end_offset"] - p["log_start_offset"] for p in json.load(sys.stdin)["partitions"]))')" -ge "$2" ]; }

# From nothing to a live plugin, and what it makes of the input.
goes_live() {
  local language=$1 name
  name=$1-$run_id
  "tools_$language"
  cd "$work"
  "$MILLSTREAM" plugin new "$name" --lang "$language"
  cd "$name"
  time "$MILLSTREAM" plugin build
  "$MILLSTREAM" plugin test
  sed -i "s/contains: error .*/contains: '$contains'/; s/mask: hunter2 .*/mask: '$mask'/" pipeline.yaml
  "$MILLSTREAM" plugin deploy
  "$MILLSTREAM" produce --topic "$name.in" < "$input"
  eventually has_all "$name.out" "$(wc -l < "$work/expected")"
  "$MILLSTREAM" consume --topic "$name.out" --from beginning --until-end > "$work/$name.out"
  cmp "$work/expected" "$work/$name.out"
  "$MILLSTREAM" pipeline delete "$name"
}

for language in "${languages[@]}"; do
  eval "test_$language() { goes_live $language; }"
done
COUNTS=$work/counts run_tests "${languages[@]/#/test_}"
read -r passed failed < "$work/counts"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
