#!/usr/bin/env bash
# A client in Python, with the library of Apache Thrift from PyPI.
#
#   python-thrift.sh fetch
#   python-thrift.sh send HOST PORT compact|binary FILE BATCH [CA.pem]     see clients/thrift_send.py
. "$(dirname "$0")/common.sh"
V="$MILLRACE_E2E_HOME/python-thrift"

fetch() {
  [ ! -e "$V/ready-0.25.0" ] || return 0
  rm -rf "$V"
  # Debian has venv in a package of its own, with no command to look for.
  python3 -m venv "$V" 2>>"$RUN/python.log" || { need python3-no-venv=python3-venv; python3 -m venv "$V"; }
  "$V/bin/pip" install -q "thrift==0.25.0" 2>>"$RUN/python.log" || { tail -20 "$RUN/python.log" >&2; die "pip could not install thrift"; }
  : >"$V/ready-0.25.0"
}

cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  send) [ $# -ge 5 ] || usage; fetch; exec "$V/bin/python" "$HERE/../clients/thrift_send.py" "$@";;
  *) usage;;
esac
