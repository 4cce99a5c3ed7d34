#!/usr/bin/env bash
# The quick start: a growing example log, an agent that tails it into a durable
# channel and rolls files. Ends with ctrl-C, or after DEMO_SECONDS.
# usage: run.sh BINARY
set -euo pipefail
bin=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
export DEMO=${DEMO:-$(mktemp -d /tmp/millrace-demo.XXXXXX)}
mkdir -p "$DEMO/logs" "$DEMO/out" "$DEMO/state"

writer() { # ten lines a second; a rotation by rename every 200
  local n=0
  while :; do
    n=$((n + 1))
    printf '%s INFO order %d accepted\n' "$(date -u +%FT%TZ)" "$n" >>"$DEMO/logs/app.log"
    [ $((n % 200)) != 0 ] || mv "$DEMO/logs/app.log" "$DEMO/logs/app.log.$((n / 200))"
    sleep 0.1
  done
}
writer & writer=$!
"$bin" agent --name a1 --conf-file "$here/flume.conf" --drain-timeout 5s & agent=$!
trap 'kill "$writer" 2>/dev/null || true; kill -TERM "$agent" 2>/dev/null || true' INT TERM
cat <<X

  The agent is up. It follows   $DEMO/logs/app.log (an example that grows here)
  and writes files into         $DEMO/out
  Look:                         tail -F $DEMO/out/*    curl -s 127.0.0.1:9700/status
  Feed it:                      echo hello | nc 127.0.0.1 6666
                                logger --server 127.0.0.1 --port 5140 --tcp hello
                                curl -d '[{"body":"hello"}]' http://127.0.0.1:8088
  Ctrl-C drains it and ends.

X
if [ -n "${DEMO_SECONDS:-}" ]; then
  sleep "$DEMO_SECONDS"
  kill "$writer"; kill -TERM "$agent"
fi
rc=0; wait "$agent" || rc=$?
if kill -0 "$agent" 2>/dev/null; then rc=0; wait "$agent" || rc=$?; fi # the trap broke the first wait
kill "$writer" 2>/dev/null || true
lines=$(cat "$DEMO"/logs/app.log* 2>/dev/null | wc -l)
out=$(cat "$DEMO"/out/* 2>/dev/null | grep -c 'INFO order' || true)
echo "  written $lines lines, delivered $out; files are in $DEMO/out"
exit "$rc"
