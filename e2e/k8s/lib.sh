# shellcheck shell=bash
# What the scripts of the local cluster share: where its parts are.
. "$(dirname "${BASH_SOURCE[0]}")/../containers/lib.sh"
K8S=$ROOT/e2e/k8s
BIN=$E2E_HOME/kube/bin STATE=$E2E_HOME/kube/state PKI=$STATE/pki
NETNS=millrace-e2e
SOCKET=/run/millrace-e2e/containerd.sock
CTR=(ctr -a "$SOCKET" -n k8s.io)
mkdir -p "$STATE"
mode=$(cat "$STATE/mode" 2>/dev/null || echo none)
# The full cluster lives in a network namespace of its own. Not "ip netns exec", which hides the cgroups of /sys.
if [ "$mode" = full ]; then IN=(nsenter "--net=/run/netns/$NETNS") ADDRESS=10.250.0.1; else IN=() ADDRESS=127.0.0.1; fi
export KUBECONFIG=$STATE/admin.kubeconfig
kubectl() { "${IN[@]}" "$BIN/kubectl" "$@"; }
