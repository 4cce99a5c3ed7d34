#!/usr/bin/env bash
# make bench: the Go benchmarks of the journey, then the whole process beside the
# limit and peers. Arguments go to the program: -mb 100 -rounds 1 -only syslog -peers=false
#
#   go run ./bench -tail-matrix     what each program loses and repeats when files are rotated
#   go run ./bench -backlog 20      what a backlog of 20 GB in the file channel costs
set -euo pipefail
cd "$(dirname "$0")/.."
go test -run '^$' -bench . -benchmem ./bench ./core/... ./connectors/...
go run ./bench "$@"
