#!/usr/bin/env bash
# The end-to-end tests: the shipped binary against real rsyslog, logrotate, syslog-ng, logger, ncat, curl, Kafka, HDFS, Kerberos and Flume 1.11.
#
#   e2e/run.sh short [TEST]    some minutes
#   e2e/run.sh long [TEST]     the same with bigger numbers, an hour
#
# TEST is a pattern for go test -run. MILLRACE_E2E_SEED changes the order of what happens; MILLRACE_E2E_KEEP=DIR keeps
# what the tests wrote. Fetches what is missing (services/README.md); everything it starts is stopped at its end.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  short) timeout=20m;;
  long) timeout=120m;;
  *) sed -n '2,9s/^# \{0,1\}//p' e2e/run.sh >&2; exit 64;;
esac
export MILLRACE_E2E=$1

make build
export MILLRACE_BIN=$PWD/build/millrace
# Pids and logs of this run alone, so that it stops nobody else's daemons.
export MILLRACE_E2E_RUN
MILLRACE_E2E_RUN=$(mktemp -d)
trap 'e2e/services/all.sh stop >&2 || true; rm -rf "$MILLRACE_E2E_RUN"' EXIT
e2e/services/all.sh fetch

go test -tags e2e -count=1 -parallel 8 -timeout "$timeout" -json ${2:+-run "$2"} ./e2e/... | LEDGER_VERBOSE=1 go run ./e2e/ledger watch e2e
