#!/usr/bin/env bash
# A small Apache HDFS from its published jars, each daemon a process of its own, on the loopback.
#
#   hdfs.sh fetch                           resolve the jars (once)
#   hdfs.sh start NAME PORT [DATANODES]     one DataNode, or some; the NameNode answers at hdfs://localhost:PORT. PORT to PORT+19 are taken
#   hdfs.sh up NAME WHO | kill9 NAME WHO    WHO (nn1, nn2, jn, dn1, dn2 ...) again on its old data; or dead, as in a crash
#                                           A NameNode is up when it lets write, or could: when it has left its safe mode
#   hdfs.sh halt NAME WHO                   WHO stopped as an administrator does
#   hdfs.sh freeze NAME WHO | thaw NAME WHO WHO answers nothing, and goes on where it was
#   hdfs.sh sh NAME argument...             the file system shell (hdfs dfs): sh NAME -ls -R /
#   hdfs.sh admin NAME argument...          hdfs dfsadmin; with ha for admin: hdfs haadmin; with fsck: hdfs fsck; with debug: hdfs debug
#   hdfs.sh java NAME File.java [arg...]    a program on Hadoop's class path
#   hdfs.sh stop NAME | log NAME | status | stop-all
#
# At start: HDFS_HA=1 makes it the name service "ha" of two NameNodes (PORT, PORT+2) that share their edits through a JournalNode; nn1 is active.
# HDFS_KRB=NAME asks for Kerberos, by the KDC that krb.sh has started as NAME, and HDFS_PROTECTION=authentication|integrity|privacy protects transfers.
# HDFS_REPORT=MS is how long a DataNode keeps to itself what it has got; none by default.
# HDFS_BLOCK=BYTES is the size of blocks; 1 MiB by default, and 128 MiB is Hadoop's.
#
# HADOOP_CONF_DIR for clients is $MILLRACE_E2E_RUN/hdfs-NAME/conf-cli. WebHDFS answers at PORT+1, without Kerberos.
. "$(dirname "$0")/common.sh"
J="java $JVM_FAST $JVM_OPENS -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true"
SERVER=org.apache.hadoop.hdfs.server

fetch() { need curl=curl; need_java; fetch_jars hdfs; fetch_jars codecs; }
prop() { printf '<property><name>%s</name><value>%s</value></property>\n' "$1" "$2"; }
# conf WHO NUMBER [LEVEL]: what a process reads, in conf-WHO; NUMBER is a DataNode's
conf() {
  local d="$D/conf-$1" i=$2 dn=$((P + 6 + 3 * ($2 - 1)))
  mkdir -p "$d" "$D/data-$1"
  { echo '<configuration>'
    prop hadoop.tmp.dir "$D/tmp-$1"; prop ipc.client.connect.max.retries 3
    prop hadoop.proxyuser.root.hosts '*'; prop hadoop.proxyuser.root.groups '*'
    prop hadoop.proxyuser.flume.hosts '*'; prop hadoop.proxyuser.flume.groups '*'
    # without native libraries Hadoop reads no zstd: a codec in Java does
    prop io.compression.codecs org.apache.hadoop.io.compress.DefaultCodec,org.apache.hadoop.io.compress.GzipCodec,org.apache.hadoop.io.compress.BZip2Codec,org.apache.hadoop.io.compress.SnappyCodec,org.apache.hadoop.io.compress.Lz4Codec,io.airlift.compress.zstd.ZstdCodec
    [ -n "$HA" ] && prop fs.defaultFS hdfs://ha || prop fs.defaultFS "hdfs://localhost:$P"
    if [ -n "$KRB" ]; then
      prop hadoop.security.authentication kerberos; prop hadoop.security.authorization true
      prop hadoop.security.auth_to_local "RULE:[2:\$1@\$0](nn@EXAMPLE.TEST)s/.*/root/
RULE:[2:\$1@\$0](dn@EXAMPLE.TEST)s/.*/root/
DEFAULT"
    fi
    echo '</configuration>'; } >"$d/core-site.xml"
  { echo '<configuration>'
    prop dfs.replication $((DNS < 3 ? DNS : 3)); prop dfs.namenode.name.dir "file://$D/data-$1"
    if [ -n "$HA" ]; then
      prop dfs.nameservices ha; prop dfs.ha.namenodes.ha nn1,nn2
      prop dfs.namenode.rpc-address.ha.nn1 "localhost:$P"; prop dfs.namenode.http-address.ha.nn1 "127.0.0.1:$((P + 1))"
      prop dfs.namenode.rpc-address.ha.nn2 "localhost:$((P + 2))"; prop dfs.namenode.http-address.ha.nn2 "127.0.0.1:$((P + 3))"
      prop dfs.namenode.shared.edits.dir "qjournal://localhost:$((P + 4))/ha"; prop dfs.journalnode.edits.dir "$D/data-$1"
      prop dfs.journalnode.rpc-address "127.0.0.1:$((P + 4))"; prop dfs.journalnode.http-address "127.0.0.1:$((P + 5))"
      prop dfs.client.failover.proxy.provider.ha org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider
      prop dfs.ha.fencing.methods 'shell(/bin/true)'; prop dfs.ha.tail-edits.period 1s
      case $1 in nn*) prop dfs.ha.namenode.id "$1";; esac
    else
      prop dfs.namenode.rpc-address "localhost:$P"; prop dfs.namenode.http-address "127.0.0.1:$((P + 1))"
    fi
    prop dfs.namenode.rpc-bind-host 127.0.0.1
    prop dfs.namenode.datanode.registration.ip-hostname-check false
    prop dfs.namenode.fs-limits.min-block-size 4096; prop dfs.blocksize "${HDFS_BLOCK:-1048576}" # several blocks even in a small test
    prop dfs.namenode.safemode.extension 0; prop dfs.namenode.handler.count 4; prop dfs.heartbeat.interval 1
    prop dfs.namenode.heartbeat.recheck-interval 2000; prop dfs.namenode.stale.datanode.interval 4000
    # a copy that a dead node did not take is asked for again after this, instead of 5 to 10 minutes
    prop dfs.namenode.reconstruction.pending.timeout-sec 5
    prop dfs.namenode.redundancy.interval.seconds 1s; prop dfs.datanode.scan.period.hours -1
    prop dfs.datanode.data.dir "file://$D/data-$1"; prop dfs.datanode.address "127.0.0.1:$dn"
    prop dfs.datanode.ipc.address "127.0.0.1:$((dn + 1))"; prop dfs.datanode.http.address "127.0.0.1:$((dn + 2))"
    prop dfs.datanode.hostname localhost; prop dfs.datanode.handler.count 2; prop dfs.permissions.superusergroup root
    prop dfs.blockreport.incremental.intervalMsec "${HDFS_REPORT:-0}"
    if [ -n "$KRB" ]; then
      prop dfs.block.access.token.enable true; prop ignore.secure.ports.for.testing true
      prop dfs.namenode.kerberos.principal nn/localhost@EXAMPLE.TEST; prop dfs.namenode.keytab.file "$KRB/service.keytab"
      prop dfs.datanode.kerberos.principal dn/localhost@EXAMPLE.TEST; prop dfs.datanode.keytab.file "$KRB/service.keytab"
      prop dfs.web.authentication.kerberos.principal HTTP/localhost@EXAMPLE.TEST; prop dfs.web.authentication.kerberos.keytab "$KRB/service.keytab"
      prop dfs.data.transfer.protection "${HDFS_PROTECTION:-authentication}"
    fi
    echo '</configuration>'; } >"$d/hdfs-site.xml"
  printf '%s\n' "log4j.rootLogger=${3:-INFO}, err" log4j.appender.err=org.apache.log4j.ConsoleAppender log4j.appender.err.target=System.err \
    log4j.appender.err.layout=org.apache.log4j.PatternLayout 'log4j.appender.err.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n' >"$d/log4j.properties"
}
# kerberos: what every JVM of a cluster with Kerberos needs, and a ticket for those that have no key table
kerberos() {
  KRB=$(cat "$D/krb" 2>/dev/null || true)
  [ -n "$KRB" ] || return 0
  J="$J -Djava.security.krb5.conf=$KRB/krb5.conf"
  export KRB5_CONFIG="$KRB/krb5.conf" KRB5CCNAME="$D/ticket"
}
# java_of WHO MEMORY CLASS...
java_of() { local who=$1 mem=$2; shift 2; spawn "$N-$who" $J -Xms32m -Xmx"$mem" -cp "$D/conf-$who:$D/web:$LIB/hdfs/*" "$@"; }
# once NAME [argument]: a NameNode's class with an argument that makes it do one thing and end
once() { $J -cp "$D/conf-$1:$LIB/hdfs/*" $SERVER.namenode.NameNode "$2" -nonInteractive >"$RUN/$N-$1$2.log" 2>&1 || { tail -20 "$RUN/$N-$1$2.log" >&2; die "$1 $2 failed"; }; }
up() {
  alive "$N-$1" && return 0
  case $1 in
    nn*) java_of "$1" 320m $SERVER.namenode.NameNode;;
    jn) java_of jn 128m org.apache.hadoop.hdfs.qjournal.server.JournalNode;;
    dn*) java_of "$1" 192m $SERVER.datanode.DataNode;;
    *) usage;;
  esac
}
# ready WHO: its own word; what the NameNode believes of a DataNode may be old
ready() {
  case $1 in
    nn*) wait_log "$N-$1" 'NameNode RPC up at' 120;;
    jn) wait_log "$N-jn" 'IPC Server Responder: starting|IPC Server listener on' 60;;
    dn*) wait_log "$N-$1" 'successfully registered with NN' 120;;
  esac
}
cli() { local c=$1; shift; $J -Xmx256m -cp "$D/conf-cli:$LIB/hdfs/*:$LIB/codecs/*" "$c" "$@"; }
ticket() { [ -z "$KRB" ] || kinit -k -t "$KRB/service.keytab" nn/localhost; }
start() {
  local w i t0=$SECONDS
  fetch
  mkdir -p "$D"
  HA=${HDFS_HA:-} KRB=""
  [ -z "${HDFS_KRB:-}" ] || echo "$RUN/krb-$HDFS_KRB" >"$D/krb"
  kerberos
  # the published jars have no webapps/, and no daemon starts without one
  for w in hdfs datanode journal static; do mkdir -p "$D/web/webapps/$w/WEB-INF"; echo '<web-app/>' >"$D/web/webapps/$w/WEB-INF/web.xml"; done
  conf cli 0 WARN; conf nn1 0
  for i in $(seq "$DNS"); do conf "dn$i" "$i"; done
  if [ -n "$HA" ]; then conf nn2 0; conf jn 0; up jn; ready jn; fi
  [ -s "$D/data-nn1/current/VERSION" ] || once nn1 -format
  up nn1
  for i in $(seq "$DNS"); do up "dn$i"; done # they try again until the NameNode answers
  ready nn1
  if [ -n "$HA" ]; then
    ticket; cli org.apache.hadoop.hdfs.tools.DFSHAAdmin -transitionToActive --forceactive nn1
    [ -s "$D/data-nn2/current/VERSION" ] || once nn2 -bootstrapStandby
    up nn2; ready nn2
  fi
  for i in $(seq "$DNS"); do ready "dn$i"; done
  log "up in $((SECONDS - t0))s"
}
# mine WHO...: run with each daemon of this cluster
mine() { local f; for f in "$RUN/$N-"{dn,nn,jn}*.pid; do [ ! -e "$f" ] || "$@" "$(basename "$f" .pid)"; done; }

cmd=${1:-}; shift || true
[ $# = 0 ] || { N="hdfs-$1"; D="$RUN/hdfs-$1"; kerberos; }
case $cmd in
  fetch) fetch;;
  start) [ $# -ge 2 ] || usage; P=$2 DNS=${3:-1}; start;;
  up)
    [ $# = 2 ] || usage
    up "$2"; ready "$2"
    case $2 in nn*) wait_log "$N-$2" 'Leaving safe mode|Safe mode is OFF' 120;; esac;;
  halt) [ $# = 2 ] || usage; stop_one "$N-$2";;
  kill9) [ $# = 2 ] || usage; kill9 "$N-$2";;
  freeze) [ $# = 2 ] || usage; signal "$N-$2" STOP;;
  thaw) [ $# = 2 ] || usage; signal "$N-$2" CONT;;
  stop) mine stop_one;;
  log) cat "$RUN/$N"-*.log;;
  sh) shift; ticket; cli org.apache.hadoop.fs.FsShell "$@";;
  admin) shift; ticket; cli org.apache.hadoop.hdfs.tools.DFSAdmin "$@";;
  ha) shift; ticket; cli org.apache.hadoop.hdfs.tools.DFSHAAdmin "$@";;
  fsck) shift; ticket; cli org.apache.hadoop.hdfs.tools.DFSck "$@";;
  debug) shift; ticket; cli org.apache.hadoop.hdfs.tools.DebugAdmin "$@";;
  java) shift; ticket; cli "$@";;
  status) each hdfs- say_status;;
  stop-all) each hdfs- stop_one;;
  *) usage;;
esac
