# shellcheck shell=bash
# What the scripts of e2e/containers and e2e/k8s share. Everything they make lies under $E2E_HOME.
set -euo pipefail
: "${E2E_HOME:=${XDG_CACHE_HOME:-$HOME/.cache}/millrace-e2e}"
export E2E_HOME
CONTAINERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$CONTAINERS/../.." && pwd)
export CONTAINERS ROOT
RUN=$E2E_HOME/run LOGS=$E2E_HOME/logs
mkdir -p "$RUN" "$LOGS"

say() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() {
	say "error: $*"
	exit 1
}

# apt_need PKG...: install what is missing, without letting packages start services.
apt_need() {
	local miss=() p made='' rc=0
	for p in "$@"; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || miss+=("$p"); done
	[ ${#miss[@]} -eq 0 ] && return 0
	[ "$(id -u)" = 0 ] || die "missing packages, and only root can install them: ${miss[*]}"
	say "apt: ${miss[*]}"
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		made=1
	fi
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${miss[@]}"; } >"$LOGS/apt.log" 2>&1 || rc=$?
	[ -n "$made" ] && rm -f /usr/sbin/policy-rc.d
	[ $rc -eq 0 ] || {
		tail -20 "$LOGS/apt.log" >&2
		die "apt-get failed"
	}
}

# daemon NAME CMD...: start detached; its pid in $RUN/NAME.pid, its output in $LOGS/NAME.log.
daemon() {
	local n=$1
	shift
	if alive "$n"; then return 0; fi
	setsid "$@" >"$LOGS/$n.log" 2>&1 </dev/null &
	echo $! >"$RUN/$n.pid"
}
alive() { [ -s "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }

# term NAME...: TERM only, so that several stop side by side.
term() {
	local n
	for n in "$@"; do if alive "$n"; then kill -TERM "$(cat "$RUN/$n.pid")" 2>/dev/null || true; fi; done
}

# stop NAME [SECONDS]: TERM by pid, wait, KILL.
stop() {
	local n=$1 t=${2:-15} pid i
	alive "$n" || {
		rm -f "$RUN/$n.pid"
		return 0
	}
	pid=$(cat "$RUN/$n.pid")
	kill -TERM "$pid" 2>/dev/null || true
	for ((i = 0; i < t * 10; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	if kill -0 "$pid" 2>/dev/null; then kill -KILL "$pid" 2>/dev/null || true; fi
	rm -f "$RUN/$n.pid"
}

# wait_for SECONDS CMD...: try every 0.2 s until CMD succeeds.
wait_for() {
	local t=$1 i
	shift
	for ((i = 0; i < t * 5; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.2
	done
	return 1
}
