#!/bin/sh
# Makes the user, and lets systemd know of the unit. The service is not started: its configuration is an example.
set -e
if ! getent group millrace >/dev/null 2>&1; then
	groupadd --system millrace 2>/dev/null || addgroup -S millrace
fi
if ! getent passwd millrace >/dev/null 2>&1; then
	useradd --system --gid millrace --home-dir /var/lib/millrace --no-create-home --shell /usr/sbin/nologin millrace 2>/dev/null ||
		adduser -S -D -H -h /var/lib/millrace -s /sbin/nologin -G millrace millrace
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# After an upgrade the running service goes on with the new binary.
	systemctl try-restart millrace.service || true
fi
