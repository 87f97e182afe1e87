#!/usr/bin/env bash
# From an empty directory to a live plugin, in each language and role: new, build, test, deploy, and what comes out.
#
#   MILLSTREAM=/path/to/millstream BOOTSTRAP=127.0.0.1:9092 MILLSTREAM_ADMIN=127.0.0.1:9644 \
#     tests/languages/run.sh [LANGUAGE[-ROLE] ...]
#
# Languages: rust js python c go; roles: transform source sink, and in js and python webhook; without arguments, all of them.
# Toolchains are installed with their own package managers, into
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

roles=(transform source sink)
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(rust js js-webhook python python-webhook c go)
plugins=()
for one in "${wanted[@]}"; do
  case $one in
    *-*) plugins+=("$one") ;;
    *) plugins+=("${roles[@]/#/$one-}") ;;
  esac
done
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

# What building has fetched or compiled for one role of a language serves the others. (A venv can't be moved, and pip has a
# cache of its own.)
share() {
  local shared=$work/shared-$1
  mkdir -p "$shared"
  case $1 in
    rust) ln -s "$shared" target ;;
    js) if [ -d "$shared/node_modules" ]; then cp -a "$shared/node_modules" .; fi ;;
  esac
}
keep() {
  if [ "$1" = js ] && [ ! -d "$work/shared-js/node_modules" ]; then cp -a node_modules "$work/shared-js/"; fi
}

# What each role's plugin has done when it is live. The plugin's name is `name`.
does_transform() {
  sed -i "s/contains: error .*/contains: '$contains'/; s/mask: hunter2 .*/mask: '$mask'/" pipeline.yaml
  "$MILLSTREAM" plugin deploy
  "$MILLSTREAM" produce --topic "$name.in" < "$input"
  eventually has_all "$name.out" "$(wc -l < "$work/expected")"
  "$MILLSTREAM" consume --topic "$name.out" --from beginning --until-end > "$work/$name.out"
  cmp "$work/expected" "$work/$name.out"

  # The same in front of a topic, and behind one.
  sed -i "s/^topics:/topics:\n  $name.checked: {partitions: 1}/" pipeline.yaml
  cat >> pipeline.yaml <<EOF
ingests:
  check: {topic: $name.checked, plugin: $name, config: {contains: '$contains', mask: '$mask'}, budget_ms: 9000}
views:
  $name.seen: {from: $name.in, plugin: $name, config: {contains: '$contains', mask: '$mask'}, budget_ms: 9000}
EOF
  "$MILLSTREAM" plugin deploy
  "$MILLSTREAM" produce --topic "$name.checked" < "$input"
  local topic
  for topic in checked seen; do
    "$MILLSTREAM" consume --topic "$name.$topic" --from beginning --until-end > "$work/$name.$topic"
    cmp "$work/expected" "$work/$name.$topic"
  done
}

# It is swapped in the middle, and goes on where it was.
does_source() {
  sed -i 's/every_ms: 1000 .*/every_ms: 5/; s/# last: 100 .*/last: 20/' pipeline.yaml
  "$MILLSTREAM" plugin deploy
  eventually has_all "$name.out" 20
  sed -i 's/last: 20/last: 40/' pipeline.yaml
  "$MILLSTREAM" plugin deploy
  eventually has_all "$name.out" 40
  "$MILLSTREAM" consume --topic "$name.out" --from beginning --until-end > "$work/$name.out"
  seq -f 'tick %g' 40 | cmp - "$work/$name.out"
}

# The summaries of all polls say together what is in the input.
does_sink() {
  sed -i 's/at_most: 500 .*/at_most: 5000/' pipeline.yaml
  "$MILLSTREAM" plugin deploy
  "$MILLSTREAM" produce --topic "$name.in" < "$input"
  eventually sums_up "$name.out"
}

sums_up() {
  "$MILLSTREAM" consume --topic "$1" --from beginning --until-end | python3 -c '
import json, sys
polls = [json.loads(line) for line in sys.stdin]
lines = open(sys.argv[1], "rb").read().splitlines()
lengths = [len(line) for line in lines]
found = [sum(poll["records"] for poll in polls), sum(poll["bytes"] for poll in polls)]
assert found == [len(lines), sum(lengths)], found
assert max(poll["longest"] for poll in polls) == max(lengths)' "$input"
}

# A sink that calls a host, which this is.
does_webhook() {
  local received=$work/$name.received port
  python3 "$here/webhook/server.py" "$received" "$work/$name.port" &
  trap 'kill $! 2>/dev/null || true' EXIT
  eventually test -s "$work/$name.port"
  port=$(cat "$work/$name.port")
  sed -i "s|at_most: 500 .*|url: http://127.0.0.1:$port/hook|; s|^    to: .*||
    s|^    file: .*|&\n    grants: {http: ['http://127.0.0.1:$port']}|" pipeline.yaml
  "$MILLSTREAM" plugin deploy
  "$MILLSTREAM" produce --topic "$name.in" < "$input"
  eventually delivered "$received"
}

delivered() { [ "$(wc -l < "$1")" -ge "$(wc -l < "$input")" ] && cmp "$input" "$1"; }

# From nothing to a live plugin, and what it makes of the input.
goes_live() {
  local language=${1%-*} role=${1#*-} name=$1-$run_id
  "tools_$language"
  cd "$work"
  "$MILLSTREAM" plugin new "$name" --lang "$language" --role "${role/webhook/sink}"
  cd "$name"
  if [ "$role" = webhook ]; then
    cp "$here"/webhook/plugin.* .
    cp "$here/webhook/cases.yaml" cases/summary.yaml
    sed -i 's/import producer;/import http;/' wit/plugin.wit
  fi
  share "$language"
  time "$MILLSTREAM" plugin build
  keep "$language"
  "$MILLSTREAM" plugin test
  "does_$role"
  "$MILLSTREAM" pipeline delete "$name"
}

for plugin in "${plugins[@]}"; do
  eval "test_${plugin/-/_}() { goes_live $plugin; }"
done

# Two lanes at a time: Python's takes about as long as those of all others, most of it in compilers of one thread each.
lane() {
  local name=$1 tests
  shift
  tests=("${@/#/test_}")
  COUNTS=$work/counts-$name run_tests "${tests[@]/-/_}" > "$work/lane-$name" 2>&1
}
python=() others=()
for plugin in "${plugins[@]}"; do
  if [[ $plugin == python-* ]]; then python+=("$plugin"); else others+=("$plugin"); fi
done
echo "0 0" | tee "$work/counts-python" > "$work/counts-others"
touch "$work/lane-python" "$work/lane-others"
if [ ${#python[@]} -gt 0 ]; then lane python "${python[@]}" & fi
if [ ${#others[@]} -gt 0 ]; then lane others "${others[@]}" & fi
wait
cat "$work/lane-others" "$work/lane-python"
read -r passed failed < <(cat "$work"/counts-* | awk '{ passed += $1; failed += $2 } END { print passed, failed }')
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -eq ${#plugins[@]} ]
