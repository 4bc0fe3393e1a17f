#!/usr/bin/env bash
# The client program of interop/README.md, with kcat. It has no admin API: its topics are created by asking for their metadata,
# timestamps are the time of sending, and offsets are committed by time.
set -euo pipefail

command=$1 bootstrap=$2 topic=$3
shift 3

create() {
  kcat -b "$bootstrap" -P -t "$topic" </dev/null
  # Asking is enough, but the topic may still be in the making.
  kcat -b "$bootstrap" -L -t "$topic" -X allow.auto.create.topics=true >/dev/null
}

produce() {
  local from=$1 count=$2 codec
  shift 3
  for codec in "$@"; do
    awk -v from="$from" -v end="$((from + count))" 'BEGIN {
      for (i = from; i < end; i++) {
        padding = sprintf("%*s", i % 100, ""); gsub(" ", "x", padding)
        print (i % 10 == 9 ? "" : "key-" i % 20) ":value-" i "-" padding
      }
    }' | kcat -b "$bootstrap" -P -t "$topic" -K: -Z -z "$codec" -H "codec=$codec" -H client=kcat \
      -X enable.idempotence=true
    from=$((from + count))
  done
}

# What kcat writes passes through grep by whole lines, so that no other line comes between the parts of one.
member() {
  local group=$1 kcat
  exec 3>&1
  kcat -b "$bootstrap" -G "$group" -E -u -Z -f 'record\t%p\t%o\t%T\t%k\t%s\t%h\n' \
    -X auto.offset.reset=earliest -X session.timeout.ms=10000 -X heartbeat.interval.ms=500 "$topic" \
    2> >(assignments) > >(grep --line-buffered '' >&3) &
  kcat=$!
  read -r _ || true
  kill -INT "$kcat"
  wait "$kcat"
}

# From "% Group g rebalanced (memberid m): assigned: t [0], t [2]" to "assigned 0 2".
assignments() {
  while read -r line; do
    case $line in
      *"): assigned: "*) echo "assigned $(grep -o '\[[0-9]*\]' <<<"${line##*assigned: }" | tr -d '[]' | sort -n | xargs)" >&3 ;;
      *"): revoked: "*) echo revoked >&3 ;;
    esac
    echo "$line" >&2
  done
}

offsets() {
  local partition
  for partition in $(kcat -b "$bootstrap" -L -t "$topic" | sed -n 's/^ *partition \([0-9]*\),.*/\1/p'); do
    echo "$partition $(query "$partition" -2) $(query "$partition" -1) $(query "$partition" "$1")"
  done
}

query() {
  kcat -b "$bootstrap" -Q -t "$topic:$1:$2" | sed 's/.*offset //'
}

"$command" "$@"
