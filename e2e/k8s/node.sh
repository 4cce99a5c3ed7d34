#!/usr/bin/env bash
# The rest of up.sh full: containerd, controllers, scheduler, and the node with kubelet and kube-proxy.
. "$(dirname "$0")/lib.sh"
mkdir -p "$STATE/containerd" "$STATE/cni" "$(dirname "$SOCKET")"
cat >"$STATE/cni/10-bridge.conflist" <<'C'
{"cniVersion":"0.4.0","name":"e2e","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.251.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
C
# restrict_oom_score_adj: where root may not lower the score, no pod would start.
cat >"$STATE/containerd.toml" <<C
version = 2
root = "$STATE/containerd"
state = "$(dirname "$SOCKET")/containerd"
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
C
daemon containerd "${IN[@]}" /usr/bin/containerd --config "$STATE/containerd.toml"
wait_for 30 "${CTR[@]}" version || {
	tail -20 "$LOGS/containerd.log" >&2
	die containerd
}
if ! "${CTR[@]}" images ls -q | grep -qx localhost/pause:1; then
	"$CONTAINERS/archive.sh" localhost/pause:1 "$BIN/pause" "$STATE/pause.tar"
	"$K8S/load.sh" "$STATE/pause.tar"
fi

daemon kcm "${IN[@]}" "$BIN/kube-controller-manager" --kubeconfig="$STATE/kcm.kubeconfig" --authentication-kubeconfig="$STATE/kcm.kubeconfig" \
	--authorization-kubeconfig="$STATE/kcm.kubeconfig" --use-service-account-credentials --service-account-private-key-file="$PKI/sa.key" \
	--root-ca-file="$PKI/ca.crt" --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" --leader-elect=false --profiling=false
daemon scheduler "${IN[@]}" "$BIN/kube-scheduler" --kubeconfig="$STATE/scheduler.kubeconfig" --authentication-kubeconfig="$STATE/scheduler.kubeconfig" \
	--authorization-kubeconfig="$STATE/scheduler.kubeconfig" --leader-elect=false --profiling=false

"$K8S/kubelet.sh" start
# It ends when its configuration is written anew, even with the same words.
if ! alive proxy; then
	cat >"$STATE/proxy.yaml" <<-C
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: iptables
		hostnameOverride: node1
		clusterCIDR: 10.251.0.0/24
		clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
		conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
		metricsBindAddress: 127.0.0.1:10249
	C
	daemon proxy "${IN[@]}" "$BIN/kube-proxy" --config="$STATE/proxy.yaml"
fi
wait_for 180 kubectl wait --for=condition=Ready node/node1 --timeout=1s || {
	tail -30 "$LOGS/kubelet.log" >&2
	die "the node did not become ready"
}
wait_for 60 kubectl get serviceaccount default || die "there is no default service account"
