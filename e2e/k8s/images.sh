#!/usr/bin/env bash
# Makes the images of the tests, as archives, and gives them to the node.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/app" ./e2e/k8s/app
"$CONTAINERS/archive.sh" localhost/app:e2e "$work/app" "$work/app.tar"
# The application of deploy/kubernetes/example.
apt_need busybox-static
LINKS="sh sleep" "$CONTAINERS/archive.sh" docker.io/library/busybox:1.37 /bin/busybox "$work/busybox.tar" PATH=/bin
# The shipped image, as the Dockerfile says, made without an engine.
make -s image-archive ARCHES="$(go env GOARCH)" IMAGE=localhost/millrace:e2e DIST="$work"
"$K8S/load.sh" "$work/app.tar" "$work/busybox.tar" "$work/millrace-image.tar"
