#!/usr/bin/env bash
# Gives images to the node, which has no registry: load.sh ARCHIVE.tar...
. "$(dirname "$0")/lib.sh"
for archive in "$@"; do "${CTR[@]}" images import "$archive" >/dev/null; done
