#!/usr/bin/env bash
# Writes an image of one static binary as an archive that "docker load" and "ctr images import" take, without an engine,
# root or a registry, byte for byte the same each time: archive.sh NAME:TAG BINARY OUT.tar [ENVIRONMENT=VALUE...]
# With LINKS="NAME..." it is in /bin by these names too.
. "$(dirname "$0")/lib.sh"
name=$1 binary=$2 out=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
b=$(basename "$binary")
mkdir "$work/root"
install -m 0755 "$binary" "$work/root/$b"
mkdir "$work/root/bin"
for l in ${LINKS:-}; do ln -s "../$b" "$work/root/bin/$l"; done
rmdir --ignore-fail-on-non-empty "$work/root/bin"
same=(--sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner)
tar "${same[@]}" -C "$work/root" -cf "$work/layer.tar" .
digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
env=
for e in "$@"; do env+="${env:+,}\"$e\""; done
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/%s"],"Env":[%s],"User":"65532:65532"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	"$(go env GOARCH)" "$b" "$env" "$digest" >"$work/config.json"
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$name" >"$work/manifest.json"
tar "${same[@]}" -C "$work" -cf "$out" manifest.json config.json layer.tar
