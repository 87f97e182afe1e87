# Helpers for the suites that are shell scripts. A test is a function named test_...; run_tests runs them all,
# each in a shell of its own that stops at the first command that fails, and shows the output of those that do.

run_id=$(printf '%04x%04x' "$RANDOM" "$RANDOM")

# A topic or group name that no other test and no other run uses.
fresh() { printf 'compat-%s-%s-%s' "${FUNCNAME[1]#test_}" "$run_id" "${1:-t}"; }

# equal EXPECTED ACTUAL [WHAT]
equal() {
  [ "$1" == "$2" ] && return 0
  printf '%s: expected\n%s\nand got\n%s\n' "${3:-value}" "$1" "$2"
  return 1
}

# matches REGEX TEXT
matches() {
  [[ $2 =~ $1 ]] && return 0
  printf 'expected a match of %s in\n%s\n' "$1" "$2"
  return 1
}

# fails COMMAND...: the command must fail; its output is printed.
fails() {
  if "$@" 2>&1; then
    printf 'expected to fail: %s\n' "$*"
    return 1
  fi
}

# eventually COMMAND...: polls until the command succeeds, for 30 s at most.
eventually() {
  local deadline=$((SECONDS + 30))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || { printf 'not within 30 s: %s\n' "$*"; return 1; }
    read -rt 0.2 <> <(:) || :
  done
}

# run_tests [TEST ...]: those, or all that are defined.
run_tests() {
  local passed=0 failed=0 name log
  log=$(mktemp)
  [ $# -gt 0 ] || set -- $(declare -F | sed -n 's/^declare -f \(test_.*\)/\1/p')
  for name; do
    # Not as a condition: bash would ignore `set -e` inside one.
    (set -euo pipefail; "$name") > "$log" 2>&1
    if [ $? -eq 0 ]; then
      passed=$((passed + 1))
      echo "ok   $name"
    else
      failed=$((failed + 1))
      echo "FAIL $name"
      sed 's/^/     /' "$log"
    fi
  done
  rm -f "$log"
  echo "$passed $failed" > "${COUNTS:-/dev/null}"
  [ "$failed" -eq 0 ]
}
