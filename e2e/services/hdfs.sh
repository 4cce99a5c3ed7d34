#!/usr/bin/env bash
# A small Apache HDFS from its published jars: one NameNode and one DataNode, each a process of its own, on the loopback.
#
#   hdfs.sh fetch                           resolve the jars (once)
#   hdfs.sh start NAME PORT                 the NameNode answers at hdfs://localhost:PORT; PORT+1 to PORT+4 are taken too
#   hdfs.sh stop NAME | log NAME | status | stop-all
#   hdfs.sh kill9 NAME-nn|NAME-dn           end one of the two as a crash does; start brings it back on its old data
#   hdfs.sh sh NAME argument...             the file system shell (hdfs dfs): sh NAME -ls -R /
#
# HADOOP_CONF_DIR for clients is $MILLRACE_E2E_RUN/hdfs-NAME/conf-cli.
. "$(dirname "$0")/common.sh"
J="java $JVM_FAST $JVM_OPENS -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true"
SERVER=org.apache.hadoop.hdfs.server

fetch() { need curl=curl; need_java; fetch_jars hdfs; }
prop() { printf '<property><name>%s</name><value>%s</value></property>\n' "$1" "$2"; }
# conf DIR: what a process reads
conf() {
  mkdir -p "$1"
  { echo '<configuration>'
    prop fs.defaultFS "hdfs://localhost:$P"; prop hadoop.tmp.dir "$D/tmp"; prop ipc.client.connect.max.retries 3
    prop hadoop.proxyuser.root.hosts '*'; prop hadoop.proxyuser.root.groups '*'
    echo '</configuration>'; } >"$1/core-site.xml"
  { echo '<configuration>'
    prop dfs.replication 1; prop dfs.namenode.name.dir "file://$D/name"; prop dfs.namenode.rpc-address "localhost:$P"
    prop dfs.namenode.rpc-bind-host 127.0.0.1; prop dfs.namenode.http-address "127.0.0.1:$((P + 1))"
    prop dfs.namenode.datanode.registration.ip-hostname-check false
    prop dfs.namenode.fs-limits.min-block-size 4096; prop dfs.blocksize 1048576 # several blocks even in a small test
    prop dfs.namenode.safemode.extension 0; prop dfs.namenode.handler.count 4; prop dfs.heartbeat.interval 1
    prop dfs.namenode.heartbeat.recheck-interval 2000; prop dfs.namenode.stale.datanode.interval 4000
    prop dfs.namenode.redundancy.interval.seconds 1s; prop dfs.datanode.scan.period.hours -1
    prop dfs.datanode.data.dir "file://$D/data"; prop dfs.datanode.address "127.0.0.1:$((P + 2))"
    prop dfs.datanode.ipc.address "127.0.0.1:$((P + 3))"; prop dfs.datanode.http.address "127.0.0.1:$((P + 4))"
    prop dfs.datanode.hostname localhost; prop dfs.datanode.handler.count 2; prop dfs.permissions.superusergroup root
    echo '</configuration>'; } >"$1/hdfs-site.xml"
  printf '%s\n' "log4j.rootLogger=${2:-INFO}, err" log4j.appender.err=org.apache.log4j.ConsoleAppender log4j.appender.err.target=System.err \
    log4j.appender.err.layout=org.apache.log4j.PatternLayout 'log4j.appender.err.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n' >"$1/log4j.properties"
}
start() {
  local w t0=$SECONDS
  fetch
  mkdir -p "$D/data"
  # the published jars have no webapps/, and neither daemon starts without one
  for w in hdfs datanode static; do mkdir -p "$D/web/webapps/$w/WEB-INF"; echo '<web-app/>' >"$D/web/webapps/$w/WEB-INF/web.xml"; done
  conf "$D/conf"; conf "$D/conf-cli" WARN
  [ -s "$D/name/current/VERSION" ] || $J -cp "$D/conf:$LIB/hdfs/*" $SERVER.namenode.NameNode -format -nonInteractive >"$RUN/hdfs-format.log" 2>&1 \
    || { tail -20 "$RUN/hdfs-format.log" >&2; die "format failed"; }
  if ! alive "$N-nn"; then
    need_free "$P" $((P + 1))
    spawn "$N-nn" $J -Xms64m -Xmx320m -cp "$D/conf:$D/web:$LIB/hdfs/*" $SERVER.namenode.NameNode
  fi
  if ! alive "$N-dn"; then # it tries again until the NameNode answers
    need_free $((P + 2)) $((P + 3)) $((P + 4))
    spawn "$N-dn" $J -Xms32m -Xmx192m -cp "$D/conf:$D/web:$LIB/hdfs/*" $SERVER.datanode.DataNode
  fi
  wait_log "$N-nn" 'NameNode RPC up at' 120
  # its own word: what the NameNode believes may be old
  wait_log "$N-dn" 'successfully registered with NN' 120
  log "up in $((SECONDS - t0))s"
}

cmd=${1:-}; shift || true
[ $# = 0 ] || { N="hdfs-$1"; D="$RUN/hdfs-$1"; }
case $cmd in
  fetch) fetch;;
  start) [ $# = 2 ] || usage; P=$2; start;;
  stop) stop_one "$N-dn"; stop_one "$N-nn";;
  kill9) kill9 "hdfs-$1";;
  log) cat "$RUN/$N-nn.log" "$RUN/$N-dn.log";;
  sh) shift; exec $J -Xmx256m -cp "$D/conf-cli:$LIB/hdfs/*" org.apache.hadoop.fs.FsShell "$@";;
  status) each hdfs- say_status;;
  stop-all) each hdfs- stop_one;;
  *) usage;;
esac
