#!/usr/bin/env bash
# Makes the images that compose/ asks for where no registry can be reached, under the names that users pull:
#
#   base.sh busybox    from Debian's busybox-static
#   base.sh millrace   make image-archive
#   base.sh static     a stand-in for gcr.io/distroless/static: certificates and a home
#   base.sh golang     a stand-in for golang, of this machine's Go and certificates
#   base.sh hadoop     a stand-in for apache/hadoop, of its published jars and Debian's JRE
#   base.sh kafka      the same for apache/kafka
#   base.sh versitygw  a stand-in for versity/versitygw: the gateway, built from its Go module
#
# What is there stays, but for millrace.
. "$(dirname "$0")/lib.sh"
have() { /usr/bin/docker image inspect "$1" >/dev/null 2>&1; }

busybox() {
	have busybox:1.37 && return 0
	apt_need busybox-static
	local root
	root=$(mktemp -d)
	mkdir -p "$root"/{bin,tmp,etc}
	cp /bin/busybox "$root/bin/busybox"
	for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
	chmod 1777 "$root/tmp"
	tar -C "$root" --owner=0 --group=0 --numeric-owner -c . | /usr/bin/docker import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' - busybox:1.37 >/dev/null
	rm -rf "$root"
}

static() {
	have gcr.io/distroless/static:nonroot && return 0
	local root
	root=$(mktemp -d)
	mkdir -p "$root/etc/ssl/certs" "$root/home/nonroot"
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	tar -C "$root" --owner=0 --group=0 --numeric-owner -c . | /usr/bin/docker import - gcr.io/distroless/static:nonroot >/dev/null
	rm -rf "$root"
}

millrace() {
	local out
	out=$(mktemp -d)
	mkdir -p "$out/linux_$(go env GOARCH)"
	make -s -C "$ROOT" image-archive ARCHES="$(go env GOARCH)" IMAGE=millrace:latest DIST="$out" >&2
	/usr/bin/docker load -q -i "$out/millrace-image.tar" >/dev/null
	rm -rf "$out"
}

debian() {
	have debian:bookworm-slim && return 0
	apt_need debootstrap
	local root
	root=$(mktemp -d "$E2E_HOME/rootfs.XXXX")
	debootstrap --variant=minbase bookworm "$root" >"$LOGS/debootstrap.log" 2>&1 || {
		tail "$LOGS/debootstrap.log" >&2
		die debootstrap
	}
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,info,locale}/* "$root/etc/resolv.conf"
	tar -C "$root" --numeric-owner -c . | /usr/bin/docker import -c 'CMD ["bash"]' - debian:bookworm-slim >/dev/null
	rm -rf "$root"
}

golang() {
	have golang:1.26-bookworm && return 0
	debian
	local context
	context=$(mktemp -d "$E2E_HOME/context.XXXX")
	cp -a "$(go env GOROOT)" "$context/go"
	cp -L /etc/ssl/certs/ca-certificates.crt "$context/"
	printf '%s\n' 'FROM debian:bookworm-slim' 'COPY go /usr/local/go' 'COPY ca-certificates.crt /etc/ssl/certs/' \
		'ENV PATH=/usr/local/go/bin:/usr/bin:/bin GOTOOLCHAIN=local' >"$context/Dockerfile"
	DOCKER_BUILDKIT=0 /usr/bin/docker build -q -t golang:1.26-bookworm "$context" >"$LOGS/image-golang.log" 2>&1 || {
		tail -20 "$LOGS/image-golang.log" >&2
		die "the image golang was not made"
	}
	rm -rf "$context"
}

# jars TAG SERVICE LIB SCRIPT COMMAND: an image of what SERVICE fetches into LIB; SCRIPT is its command COMMAND.
jars() {
	have "$1" && return 0
	debian
	"$ROOT/e2e/services/$2" fetch
	local context
	context=$(mktemp -d "$E2E_HOME/context.XXXX")
	cp -aL "${MILLRACE_E2E_HOME:-$HOME/.cache/millrace-e2e}/lib/$3" "$context/lib"
	cp "$CONTAINERS/$4" "$context/command"
	cat >"$context/Dockerfile" <<-D
		FROM debian:bookworm-slim
		RUN apt-get update -qq && mkdir -p /usr/share/man/man1 && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless >/dev/null && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
		COPY lib /opt/lib
		COPY command /usr/local/bin/$5
		RUN useradd -d /tmp/$5 -m user
		USER user
		CMD ["$5"]
	D
	DOCKER_BUILDKIT=0 /usr/bin/docker build -q --network=host -t "$1" "$context" >"$LOGS/image-$5.log" 2>&1 || {
		tail -20 "$LOGS/image-$5.log" >&2
		die "the image $1 was not made"
	}
	rm -rf "$context"
}

hadoop() { jars apache/hadoop:3.4.1 hdfs.sh hdfs hadoop.sh hdfs; }
kafka() { jars apache/kafka:3.9.2 kafka.sh kafka-3.9.2 kafka.sh kafka; }

versitygw() {
	have versity/versitygw:v1.8.0 && return 0
	"$ROOT/e2e/services/s3.sh" fetch
	local root
	root=$(mktemp -d)
	mkdir -p "$root"/{tmp,usr/local/bin}
	chmod 1777 "$root/tmp"
	cp "${MILLRACE_E2E_HOME:-$HOME/.cache/millrace-e2e}/s3/versitygw-v1.8.0" "$root/usr/local/bin/versitygw"
	tar -C "$root" --owner=0 --group=0 --numeric-owner -c . |
		/usr/bin/docker import -c 'ENTRYPOINT ["/usr/local/bin/versitygw"]' - versity/versitygw:v1.8.0 >/dev/null
	rm -rf "$root"
}

for image in "$@"; do "$image"; done
