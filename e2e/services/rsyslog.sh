#!/usr/bin/env bash
# rsyslog daemons of our own: no system file, no /dev/log, input over TCP on the loopback only.
#
#   rsyslog.sh fetch
#   rsyslog.sh file NAME IN_PORT FILE            lines sent to IN_PORT are appended to FILE
#   rsyslog.sh forward NAME IN_PORT HOST OUT_PORT tcp|tcp-octet|udp|tls    lines sent to IN_PORT are forwarded (omfwd)
#   rsyslog.sh hup NAME                          reopen the files, as logrotate's postrotate does
#   rsyslog.sh stop NAME | kill9 NAME | log NAME | status | stop-all
#
# RSYSLOG_TEMPLATE: one of rsyslog's own templates; "msg" is the bare text and "raw" the line as it came.
#   default: msg for file, RSYSLOG_SyslogProtocol23Format (RFC 5424) for forward; RSYSLOG_TraditionalForwardFormat is RFC 3164.
# tls is octet counted (RFC 5425) and checks the server's certificate against certs/ca.pem and the name HOST (localhost).
# RSYSLOG_TLS_FRAMING=traditional sends newline framing over tls instead.
# A line sent to IN_PORT should be syslog (logger -n 127.0.0.1 -P IN_PORT -T ...); "raw" takes anything.
. "$(dirname "$0")/common.sh"

fetch() {
  need rsyslogd=rsyslog logger=bsdutils
  [ -e /usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so ] || dpkg -s rsyslog-gnutls >/dev/null 2>&1 || apt_guarded install rsyslog-gnutls \
    || { apt_guarded update && apt_guarded install rsyslog-gnutls; } || die "apt-get could not install rsyslog-gnutls"
  make_certs
}
# start NAME IN_PORT ACTION
start() {
  local n="rsyslog-$1" d="$RUN/rsyslog-$1" port=$2 template
  alive "$n" && die "$n is already up"
  need_free "$port"
  mkdir -p "$d"
  rm -f "$d/self.pid" # of one that was killed: rsyslogd would not start beside it
  cat >"$d/rsyslog.conf" <<E
global(workDirectory="$d" maxMessageSize="64k" net.enableDNS="off" localHostname="testhost" parser.escapeControlCharactersOnReceive="off"
       defaultNetstreamDriverCAFile="$CERTS/ca.pem" defaultNetstreamDriverCertFile="$CERTS/client.pem" defaultNetstreamDriverKeyFile="$CERTS/client.key")
template(name="msg" type="string" string="%msg:::drop-last-lf%\n")
template(name="raw" type="string" string="%rawmsg%\n")
module(load="imtcp" maxSessions="500")
module(load="mmrm1stspace")
input(type="imtcp" address="127.0.0.1" port="$port")
$3
E
  PATH="$PATH:/usr/sbin" spawn "$n" rsyslogd -n -f "$d/rsyslog.conf" -i "$d/self.pid"
  wait_port "$n" "$port" 10
}

cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  file)
    [ $# = 3 ] || usage; fetch; mkdir -p "$(dirname "$3")"
    # every line is in the file before the next one is read
    t="${RSYSLOG_TEMPLATE:-msg}" strip=
    # an RFC 3164 text begins with the blank after the tag (this changes the raw line too)
    [ "$t" != msg ] || strip='action(type="mmrm1stspace")'
    start "$1" "$2" "$strip
action(type=\"omfile\" file=\"$3\" template=\"$t\" fileCreateMode=\"0644\" asyncWriting=\"off\" flushOnTXEnd=\"on\" ioBufferSize=\"64k\")";;
  forward)
    [ $# = 5 ] || usage; fetch
    case $5 in
      tcp) o='Protocol="tcp" TCP_Framing="traditional"';;
      tcp-octet) o='Protocol="tcp" TCP_Framing="octet-counted"';;
      udp) o='Protocol="udp"';;
      tls) o="Protocol=\"tcp\" TCP_Framing=\"${RSYSLOG_TLS_FRAMING:-octet-counted}\" StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"$3\"";;
      *) usage;;
    esac
    start "$1" "$2" "action(type=\"omfwd\" target=\"$3\" port=\"$4\" $o template=\"${RSYSLOG_TEMPLATE:-RSYSLOG_SyslogProtocol23Format}\" queue.type=\"LinkedList\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")";;
  hup) signal "rsyslog-$1" HUP;;
  stop) stop_one "rsyslog-$1" 5;;
  kill9) kill9 "rsyslog-$1";;
  log) cat "$RUN/rsyslog-$1.log";;
  status) each rsyslog- say_status;;
  stop-all) each rsyslog- stop_one;;
  *) usage;;
esac
