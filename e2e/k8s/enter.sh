#!/usr/bin/env bash
# Runs a command against the cluster that is up: enter.sh kubectl get pods
. "$(dirname "$0")/lib.sh"
[ "$mode" != none ] || die "no cluster is up: e2e/k8s/up.sh api|full"
export PATH=$BIN:$PATH STATE CONTAINERD_SOCKET=$SOCKET
exec "${IN[@]}" "$@"
