#!/usr/bin/env bash
# A Docker engine for the tests, where none answers: docker.sh up | down. "up" installs Debian's packages if they are
# missing, and prints the settings to use it: eval "$(docker.sh up)".
. "$(dirname "$0")/lib.sh"
socket=$RUN/docker.sock
case ${1:-} in
up)
	if docker info >/dev/null 2>&1 && command -v docker-compose >/dev/null; then
		say "a Docker engine already answers"
		exit 0
	fi
	[ "$(id -u)" = 0 ] || die "only root can start a Docker engine"
	apt_need docker.io docker-compose iptables ca-certificates busybox-static
	# No rule of the host's firewall is written, and nothing is forwarded: containers reach each other and the host,
	# published ports go through docker-proxy, and nothing leaves the machine.
	daemon dockerd /usr/sbin/dockerd -H "unix://$socket" --storage-driver=overlay2 --data-root "$E2E_HOME/docker" \
		--exec-root "$RUN/docker" --pidfile "$RUN/dockerd.own.pid" --bridge=none \
		--iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
	export DOCKER_HOST=unix://$socket
	wait_for 60 /usr/bin/docker info || {
		tail -20 "$LOGS/dockerd.log" >&2
		die "dockerd did not come up"
	}
	echo "export DOCKER_HOST=$DOCKER_HOST"
	;;
down)
	if alive dockerd; then
		export DOCKER_HOST=unix://$socket
		ids=$(/usr/bin/docker ps -q 2>/dev/null || true)
		# shellcheck disable=SC2086 # a list
		[ -z "$ids" ] || /usr/bin/docker stop -t 5 $ids >/dev/null
		stop dockerd 20
	fi
	;;
*) die "usage: docker.sh up|down" ;;
esac
