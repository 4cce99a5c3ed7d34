#!/usr/bin/env bash
# Ends what up.sh has started, by pid. --purge also forgets the cluster's state; the built binary stays.
. "$(dirname "$0")/lib.sh"
if [ "$mode" = full ]; then
	if alive kubelet && alive kube-apiserver; then kubectl delete pods --all -A --grace-period=1 --timeout=30s >/dev/null 2>&1 || true; fi
	term kubelet proxy scheduler kcm
	for d in kubelet proxy scheduler kcm; do stop "$d"; done
	if alive containerd; then
		for c in $("${CTR[@]}" tasks ls -q 2>/dev/null); do "${CTR[@]}" tasks rm -f "$c" >/dev/null 2>&1 || true; done
		for c in $("${CTR[@]}" containers ls -q 2>/dev/null); do "${CTR[@]}" containers rm "$c" >/dev/null 2>&1 || true; done
	fi
fi
term kube-apiserver containerd
stop kube-apiserver 20
term etcd
stop containerd
stop etcd
if [ "$mode" = full ]; then
	# The shims are known by our socket, which nobody else has.
	for p in /proc/[0-9]*; do
		if { tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null | grep -q -- "containerd-shim.*-address $SOCKET"; then kill "${p##*/}" 2>/dev/null || true; fi
	done
	sleep 0.5
	awk '{print $2}' /proc/mounts | grep -E "^($STATE/kubelet|$(dirname "$SOCKET")|/var/run/netns/cni-|/run/netns/cni-)" | sort -r |
		while read -r m; do umount -l "$m" 2>/dev/null || true; done || true
	rm -f /run/netns/cni-*
	rm -rf "$(dirname "$SOCKET")"
	ip netns del "$NETNS" 2>/dev/null || true
	for d in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
		if [ -d "$d" ]; then find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || true; fi
	done
	for s in vm.overcommit_memory kernel.panic kernel.panic_on_oops; do
		if [ -s "$STATE/sysctl.$s" ]; then sysctl -qw "$s=$(cat "$STATE/sysctl.$s")" && rm -f "$STATE/sysctl.$s"; fi
	done
fi
if [ "${1:-}" = --purge ]; then rm -rf "$STATE"; fi
