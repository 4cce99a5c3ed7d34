#!/usr/bin/env bash
# An S3 server: the Versity S3 Gateway over a directory, built from its Go module, on the loopback.
#
#   s3.sh fetch                       build the server (once)
#   s3.sh start NAME PORT             answers at http://127.0.0.1:PORT, by path style, in region us-east-1; keys testaccess and testsecret123
#   s3.sh stop NAME | kill9 NAME | log NAME | status | stop-all
#
# Buckets are directories in $MILLRACE_E2E_RUN/s3-NAME/data, and objects are plain files in them.
. "$(dirname "$0")/common.sh"
VERSION=v1.8.0
BIN="$MILLRACE_E2E_HOME/s3/versitygw-$VERSION"

fetch() {
  [ ! -x "$BIN" ] || return 0
  log "building versitygw $VERSION (first time)"
  mkdir -p "$MILLRACE_E2E_HOME/s3/tmp"
  # outside of the repository, so that its go.mod has no say
  (cd "$MILLRACE_E2E_HOME/s3" && CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN="$PWD/tmp" go install -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSION") >"$RUN/versitygw-build.log" 2>&1 \
    || { tail -20 "$RUN/versitygw-build.log" >&2; die "build failed"; }
  mv "$MILLRACE_E2E_HOME/s3/tmp/versitygw" "$BIN"
}
start() {
  fetch; need_free "$P"; mkdir -p "$RUN/$N/data" "$RUN/$N/meta"
  # attributes beside the data: not every file system has extended ones
  spawn "$N" env ROOT_ACCESS_KEY=testaccess ROOT_SECRET_KEY=testsecret123 "$BIN" --port "127.0.0.1:$P" --health /health posix --sidecar "$RUN/$N/meta" "$RUN/$N/data"
  wait_port "$N" "$P"
}

cmd=${1:-}; shift || true
[ $# = 0 ] || N="s3-$1"
case $cmd in
  fetch) fetch;;
  start) [ $# = 2 ] || usage; P=$2; start;;
  stop) stop_one "$N";;
  kill9) kill9 "$N";;
  log) cat "$RUN/$N.log";;
  status) each s3- say_status;;
  stop-all) each s3- stop_one;;
  *) usage;;
esac
