#!/usr/bin/env bash
# syslog-ng forwarders. Its Debian packages conflict with rsyslog's, so they are unpacked aside, not installed.
#
#   syslog-ng.sh fetch
#   syslog-ng.sh forward NAME IN_PORT HOST OUT_PORT bsd|bsd-udp|rfc5424|tls
#       bsd: RFC 3164, a line each; rfc5424 and tls: octet counted RFC 5424; tls checks the server against certs/ca.pem
#   syslog-ng.sh stop NAME | kill9 NAME | log NAME | status | stop-all
. "$(dirname "$0")/common.sh"
D="$MILLRACE_E2E_HOME/syslog-ng"

fetch() {
  make_certs
  [ ! -s "$D/ok" ] || return 0
  need logger=bsdutils
  rm -rf "$D"; mkdir -p "$D/debs"
  download() (
    cd "$D/debs"
    apt-get download syslog-ng-core $(apt-cache depends syslog-ng-core | sed -n 's/^ *Depends: \([a-z0-9.+-]*\)$/\1/p' \
      | while read -r x; do dpkg -s "$x" >/dev/null 2>&1 || echo "$x"; done) >>"$RUN/apt.log" 2>&1
  )
  log "unpacking syslog-ng"
  download || { apt_guarded update || true; download; } || { tail "$RUN/apt.log" >&2; die "apt-get download syslog-ng-core"; }
  for f in "$D"/debs/*.deb; do dpkg -x "$f" "$D"; done
  rm -rf "$D/debs"
  echo ok >"$D/ok"
}

cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  forward)
    [ $# = 5 ] || usage; fetch
    n="syslog-ng-$1" d="$RUN/syslog-ng-$1"
    alive "$n" && die "$n is already up"
    need_free "$2"; mkdir -p "$d"
    modules="$(dirname "$(find "$D/usr/lib" -name libaffile.so | head -1)")"
    libs="$(find "$D" -name '*.so*' -printf '%h\n' | grep -v "^$modules$" | sort -u | tr '\n' ':')"
    case $5 in
      bsd) o="network(\"$3\" port($4) transport(tcp))";;
      bsd-udp) o="network(\"$3\" port($4) transport(udp))";;
      rfc5424) o="syslog(\"$3\" port($4) transport(tcp))";;
      tls) o="syslog(\"$3\" port($4) transport(tls) tls(ca-file($CERTS/ca.pem) cert-file($CERTS/client.pem) key-file($CERTS/client.key) peer-verify(yes)))";;
      *) usage;;
    esac
    cat >"$d/syslog-ng.conf" <<E
@version: $(LD_LIBRARY_PATH="$libs" "$D/usr/sbin/syslog-ng" --version 2>/dev/null | sed -n 's/^Config version: //p' | grep . || echo 3.38)
options { flush-lines(1); time-reopen(1); stats-freq(0); keep-hostname(yes); use-dns(no); dns-cache(no); };
source s { network(ip(127.0.0.1) port($2) transport(tcp) flags(syslog-protocol)); };
destination d { $o; };
log { source(s); destination(d); flags(flow-control); };
E
    spawn "$n" env LD_LIBRARY_PATH="$libs" "$D/usr/sbin/syslog-ng" -F --no-caps -f "$d/syslog-ng.conf" -R "$d/persist" -p "$d/self.pid" -c "$d/ctl" --module-path "$modules"
    wait_port "$n" "$2" 10;;
  stop) stop_one "syslog-ng-$1" 5;;
  kill9) kill9 "syslog-ng-$1";;
  log) cat "$RUN/syslog-ng-$1.log";;
  status) each syslog-ng- say_status;;
  stop-all) each syslog-ng- stop_one;;
  *) usage;;
esac
