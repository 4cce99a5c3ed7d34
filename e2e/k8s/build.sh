#!/usr/bin/env bash
# Builds kubebox (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy and kubectl as one
# static binary) and pause from Go modules, into $E2E_HOME/kube/bin. A cold build takes about 14 minutes of CPU; nothing
# is done where the binary of these sources and this Go is there. "build.sh --cached" only says whether it is.
. "$(dirname "$0")/../containers/lib.sh"
BIN=$E2E_HOME/kube/bin
mkdir -p "$BIN"
cd "$(dirname "$0")/kubebox"
v=$(awk '$1=="k8s.io/kubernetes" && $2 ~ /^v/{print $2; exit}' go.mod)
key=$(cat go.mod go.sum main.go pause/main.go | sha256sum | cut -c1-16)-$(go env GOVERSION)-$(go env GOARCH)
[ "$(cat "$BIN/.key" 2>/dev/null)" = "$key" ] && exit 0
[ "${1:-}" = --cached ] && exit 1
# Whoever comes second waits for the first.
exec 9>"$BIN/.lock"
flock 9
[ "$(cat "$BIN/.key" 2>/dev/null)" = "$key" ] && exit 0
say "building kubebox $v"
version=k8s.io/component-base/version client=k8s.io/client-go/pkg/version mm=${v#v}
mm=${mm%.*}
# Without these the servers call themselves v0.0.0-master, which kubectl and the kubelet refuse as skewed.
flags="-s -w"
for p in $version $client; do
	flags+=" -X $p.gitVersion=$v -X $p.gitMajor=${mm%.*} -X $p.gitMinor=${mm#*.} -X $p.gitTreeState=clean"
done
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly"
t=$SECONDS
go build -trimpath -ldflags "$flags" -o "$BIN/kubebox.new" .
go build -trimpath -ldflags "-s -w" -o "$BIN/pause" ./pause
mv "$BIN/kubebox.new" "$BIN/kubebox"
for a in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do ln -sf kubebox "$BIN/$a"; done
echo "$key" >"$BIN/.key"
say "kubebox built in $((SECONDS - t)) s"
