#!/usr/bin/env bash
# Starts Kubernetes from the binary of build.sh. What runs already stays.
#
#   up.sh api     etcd and kube-apiserver on the loopback: server-side dry-run, admission webhooks; needs no root
#   up.sh full    besides these controllers, scheduler, containerd, kubelet and kube-proxy: a node, in a network namespace
#                 of its own with no way out; needs root and Debian's containerd, runc and CNI plugins
#
# Use it through enter.sh; down.sh ends it.
. "$(dirname "$0")/lib.sh"
case ${1:-} in api | full) ;; *) die "usage: up.sh api|full" ;; esac
if [ "$mode" != "$1" ]; then
	"$K8S/down.sh" --purge
	mkdir -p "$STATE"
	echo "$1" >"$STATE/mode"
	. "$K8S/lib.sh"
fi
[ -x "$BIN/kubebox" ] || die "there is no $BIN/kubebox: e2e/k8s/build.sh"
began=$SECONDS

if [ "$mode" = full ]; then
	[ "$(id -u)" = 0 ] || die "the full cluster needs root"
	apt_need containerd runc containernetworking-plugins iptables iproute2 openssl
	if ! ip netns list | grep -qw "$NETNS"; then
		ip netns add "$NETNS"
		ip -n "$NETNS" link set lo up
		ip -n "$NETNS" link add kb0 type bridge
		ip -n "$NETNS" addr add "$ADDRESS/24" dev kb0
		ip -n "$NETNS" link set kb0 up
		# Addresses of services are rewritten only on the way to somewhere.
		ip -n "$NETNS" route add 10.252.0.0/24 dev kb0
	fi
	"${IN[@]}" sysctl -qw net.ipv4.ip_forward=1
fi

# Certificates, tokens and kubeconfigs, once.
if [ ! -s "$PKI/done" ]; then
	mkdir -p "$PKI"
	cd "$PKI"
	ssl() { openssl "$@" 2>/dev/null; }
	ssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout ca.key -out ca.crt -subj /CN=e2e-ca
	certificate() { # NAME SUBJECT EXTENSION
		ssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
		ssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" -extfile <(echo "$3")
	}
	certificate apiserver /CN=kube-apiserver "subjectAltName=IP:$ADDRESS,IP:127.0.0.1,IP:10.252.0.1,DNS:localhost,DNS:kubernetes.default.svc"
	certificate kubelet-client /O=system:masters/CN=apiserver extendedKeyUsage=clientAuth
	ssl genrsa -out sa.key 2048
	ssl rsa -in sa.key -pubout -out sa.pub
	: >tokens.csv
	chmod 600 tokens.csv
	user() { # FILE USER GROUPS
		local token
		token=$(openssl rand -hex 16)
		echo "$token,$2,$1,\"$3\"" >>tokens.csv
		cat >"$STATE/$1.kubeconfig" <<-C
			{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
			"clusters":[{"name":"c","cluster":{"server":"https://$ADDRESS:6443","certificate-authority":"$PKI/ca.crt"}}],
			"users":[{"name":"u","user":{"token":"$token"}}]}
		C
		chmod 600 "$STATE/$1.kubeconfig"
	}
	user admin admin system:masters
	user kcm system:kube-controller-manager ""
	user scheduler system:kube-scheduler ""
	user kubelet system:node:node1 system:nodes
	user proxy system:kube-proxy ""
	echo >done
fi

daemon etcd "${IN[@]}" "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
	--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
apiserver=(--etcd-servers=http://127.0.0.1:2379 --advertise-address="$ADDRESS" --bind-address="$ADDRESS" --secure-port=6443 --service-cluster-ip-range=10.252.0.0/24
	--tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" --token-auth-file="$PKI/tokens.csv"
	--service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key"
	--kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key"
	--kubelet-preferred-address-types=InternalIP --allow-privileged=true --profiling=false)
if [ "$mode" = full ]; then
	apiserver+=(--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction)
else # nobody makes service accounts here, and nobody may be told of this server
	apiserver+=(--authorization-mode=RBAC --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none)
fi
daemon kube-apiserver "${IN[@]}" "$BIN/kube-apiserver" "${apiserver[@]}"
wait_for 120 kubectl get --raw /readyz || {
	tail -20 "$LOGS/kube-apiserver.log" >&2
	die "kube-apiserver did not become ready"
}
[ "$mode" = api ] || "$K8S/node.sh"
say "Kubernetes ($mode) is up after $((SECONDS - began)) s"
