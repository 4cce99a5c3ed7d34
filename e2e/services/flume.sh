#!/usr/bin/env bash
# Apache Flume 1.11.0 from its published jars: agents and the avro client.
#
#   flume.sh fetch                                   resolve the jars (once)
#   flume.sh start NAME CONF [PORT] [java option...] agent NAME of file CONF; waits for PORT, without one for a started component
#   flume.sh stop NAME | kill9 NAME | log NAME | status | stop-all
#   flume.sh avro-client HOST PORT FILE [argument...]
#   flume.sh java CLASS-or-File.java [argument...]   any program on Flume's class path
#
# FLUME_HADOOP=1 adds the Hadoop client jars (the hdfs sink needs them). FLUME_HTTP_MON=PORT serves /metrics.
# FLUME_HEAP=192m. FLUME_CP_EXTRA goes first on the class path.
. "$(dirname "$0")/common.sh"
C="$RUN/flume-conf"

fetch() {
  fetch_jars flume
  [ "${FLUME_HADOOP:-0}" != 1 ] || fetch_jars hadoop
  mkdir -p "$C"
  cat >"$C/log4j2.xml.$$" <<'E'
<Configuration status="WARN"><Appenders><Console name="C" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} (%t) [%p - %l] %m%n"/></Console></Appenders>
<Loggers><Logger name="org.apache.kafka" level="warn"/><Logger name="org.apache.hadoop" level="warn"/><Root level="${sys:flume.log.level:-INFO}"><AppenderRef ref="C"/></Root></Loggers></Configuration>
E
  mv "$C/log4j2.xml.$$" "$C/log4j2.xml"
}
class_path() {
  local c="$C:$LIB/flume/*"
  [ "${FLUME_HADOOP:-0}" != 1 ] || c="$c:$LIB/hadoop/*"
  echo "${FLUME_CP_EXTRA:+$FLUME_CP_EXTRA:}$c"
}
J="java $JVM_FAST $JVM_OPENS -Djava.net.preferIPv4Stack=true -Xmx${FLUME_HEAP:-192m} -Dlog4j2.configurationFile=$C/log4j2.xml -Dorg.apache.flume.log.rawdata=true -Dorg.apache.flume.log.printconfig=true"

cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  start)
    [ $# -ge 2 ] || usage
    n=$1 f=$2 p=${3:-}; shift 2; [ $# -eq 0 ] || shift
    [ -r "$f" ] || die "no such file: $f"
    fetch; [ -z "$p" ] || need_free "$p"
    t0=$SECONDS
    spawn "flume-$n" $J ${FLUME_HTTP_MON:+-Dflume.monitoring.type=http -Dflume.monitoring.port=$FLUME_HTTP_MON} "$@" \
      -cp "$(class_path)" org.apache.flume.node.Application -n "$n" -f "$f" --no-reload-conf
    if [ -n "$p" ]; then wait_port "flume-$n" "$p"; else wait_log "flume-$n" 'Component type: SINK.* started|Starting Sink '; fi
    log "$n up in $((SECONDS - t0))s";;
  stop) stop_one "flume-$1";;
  kill9) kill9 "flume-$1";;
  stop-all) each flume- stop_one;;
  log) cat "$RUN/flume-$1.log";;
  status) each flume- say_status;;
  avro-client) h=$1 p=$2 f=$3; shift 3; fetch; exec $J -cp "$(class_path)" org.apache.flume.client.avro.AvroCLIClient -H "$h" -p "$p" -F "$f" "$@";;
  java) fetch; exec $J -cp "$(class_path)" "$@";;
  *) usage;;
esac
