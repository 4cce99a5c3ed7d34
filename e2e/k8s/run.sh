#!/usr/bin/env bash
# The tests in real Kubernetes, in two lanes:
#
#   api     etcd and kube-apiserver on the loopback, without root: every golden manifest is taken, the webhook is called
#   full    a node besides, with containerd and kubelet: pods that are deleted, evicted, rolled, killed and done lose no line
#
# usage: run.sh [TEST]      TEST is the beginning of a test's name, TestAPI... or TestCluster...
# The binary of all of Kubernetes is built first (14 minutes of CPU, once). MILLRACE_E2E_K8S says which lanes: "api",
# "full", or by default "auto": api, and full where root runs it and the binary was there before. With
# MILLRACE_E2E_K8S_WAIT, a build that takes more seconds than that is no fault. What was run is said at the end.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
lanes=${MILLRACE_E2E_K8S:-auto}
if "$K8S/build.sh" --cached; then
	if [ "$lanes" = auto ]; then
		lanes=api
		if [ "$(id -u)" = 0 ]; then lanes="api full"; fi
	fi
else
	rc=0
	timeout "${MILLRACE_E2E_K8S_WAIT:-0}" nice "$K8S/build.sh" || rc=$?
	if [ "$rc" = 124 ]; then
		say "e2e-k8s: Kubernetes was not built in ${MILLRACE_E2E_K8S_WAIT} s: NO lane was run (what is built so far is cached)"
		exit 0
	fi
	[ "$rc" = 0 ] || die "Kubernetes was not built"
	[ "$lanes" != auto ] || lanes=api
fi
[ "$lanes" != full ] || lanes="api full"

export MILLRACE_BIN=$ROOT/build/millrace
trap '"$K8S/down.sh" --purge' EXIT
ran=
for lane in $lanes; do
	name=TestAPI timeout=15m
	[ "$lane" = api ] || name=TestCluster timeout=40m
	case ${1:-$name} in "$name"*) ;; *) continue ;; esac
	ran+=" $lane"
	"$K8S/down.sh" --purge
	"$K8S/up.sh" "$lane"
	[ "$lane" = api ] || "$K8S/images.sh"
	"$K8S/enter.sh" go test -tags k8s -count=1 -parallel 6 -timeout "$timeout" -v -run "${1:-$name}" ./e2e/k8s
done
say "e2e-k8s: lanes run:${ran:- none}"
