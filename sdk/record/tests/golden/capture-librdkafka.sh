#!/usr/bin/env bash
# Captures librdkafka's batches: kcat produces to a real Kafka, which keeps them as they came but for the base
# offset and the leader epoch. See README.md.
#   capture-librdkafka.sh BOOTSTRAP LOG_DIR    LOG_DIR: the broker's log.dirs
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)

for codec in none gzip snappy lz4 zstd; do
  topic=golden-$codec-$$
  idempotence=false
  [ "$codec" != none ] || idempotence=true
  # The topic is created by the first message, which goes into a batch of its own.
  echo first | kcat -b "$1" -P -t "$topic" -p 0 -z "$codec"
  for i in $(seq 0 19); do
    printf 'key-%d\t%s\n' "$i" "$(yes "line $i;" | head -n 40 | tr '\n' ' ')"
  done | kcat -b "$1" -P -t "$topic" -p 0 -z "$codec" -K '\t' -H h0=zero -H h1= \
    -X linger.ms=500 -X enable.idempotence=$idempotence
  log=$2/$topic-0/00000000000000000000.log
  first_bytes=$(($(od -An -t u1 -j 8 -N 4 "$log" | awk '{print (($1 * 256 + $2) * 256 + $3) * 256 + $4}') + 12))
  tail -c "+$((first_bytes + 1))" "$log" > "$here/librdkafka-$codec.bin"
done
