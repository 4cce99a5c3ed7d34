#!/usr/bin/env bash
# The kubelet by itself: "kubelet.sh start" starts it where it does not run; "kubelet.sh kill" ends it as a node that is lost does.
. "$(dirname "$0")/lib.sh"
case ${1:-} in
start) ;;
kill)
	alive kubelet || die "there is no kubelet"
	kill -KILL "$(cat "$RUN/kubelet.pid")"
	rm "$RUN/kubelet.pid" # whoever is its parent now may be slow to see it
	exit 0
	;;
*) die "usage: kubelet.sh start|kill" ;;
esac
# Thresholds: a full disk of the machine is no reason to delete images that no registry can give back.
cat >"$STATE/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ADDRESS
containerRuntimeEndpoint: unix://$SOCKET
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
podLogsDir: $STATE/pod-logs
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: AlwaysAllow}
evictionHard: {memory.available: 64Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
syncFrequency: 10s
volumeStatsAggPeriod: 10s
configMapAndSecretChangeDetectionStrategy: Watch
readOnlyPort: 0
resolvConf: ""
C
# The kubelet sets these for the whole machine: down.sh puts them back.
for s in vm.overcommit_memory kernel.panic kernel.panic_on_oops; do [ -e "$STATE/sysctl.$s" ] || sysctl -n "$s" >"$STATE/sysctl.$s"; done
daemon kubelet "${IN[@]}" "$BIN/kubelet" --config="$STATE/kubelet.yaml" --kubeconfig="$STATE/kubelet.kubeconfig" --hostname-override=node1 --node-ip="$ADDRESS" \
	--root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet-pki"
