#!/bin/sh
# Stops the service when the package goes, not when it is upgraded: deb says remove, rpm 0, apk nothing.
set -e
case "${1:-remove}" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now millrace.service || true
	elif command -v rc-service >/dev/null 2>&1; then
		rc-service --ifstarted millrace stop || true
	fi
	;;
esac
