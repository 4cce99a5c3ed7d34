#!/usr/bin/env bash
# Regenerates what Apache Flume 1.11 and java.util.Properties say about the texts of core/conf/testdata.
#
#   run.sh                    all verdicts and properties.jsonl
#   run.sh conf FILE.conf...  these verdicts only
#   run.sh show AGENT FILE    print one verdict
#   run.sh properties         properties.jsonl only
#   run.sh interceptors       what Flume's interceptors make of events, for connectors/regex
#   run.sh regex              what java.util.regex finds, for connectors/internal/javaregex
#
# The texts are read with the environment that testdata/flume/README.md names, and nothing else.
. "$(dirname "$0")/../services/common.sh"
ORACLE="$(cd "$(dirname "$0")" && pwd)"
DATA="$(cd "$ORACLE/../../core/conf/testdata" && pwd)"
SCRATCH=/tmp/millrace-oracle # the only place outside of which configuring a component of the corpus writes nothing

need_java
if [ "${1:-}" = regex ]; then
  REGEX="$(cd "$ORACLE/../../connectors/internal/javaregex/testdata" && pwd)"
  exec java -Dfile.encoding=UTF-8 "$ORACLE/Regex.java" "$REGEX/patterns.txt" "$REGEX/verdicts.jsonl"
fi
fetch_jars flume
if [ "${1:-}" = interceptors ]; then
  exec java -Duser.timezone=Europe/Berlin -Duser.language=en -Duser.country=US -Dfile.encoding=UTF-8 -cp "$LIB/flume/*" \
    "$ORACLE/Interceptors.java" "$ORACLE/../../connectors/regex/testdata/cases.txt" >/dev/null 2>&1
fi
fetch_jars hadoop

oracle() {
  rm -rf "$SCRATCH"; mkdir -p "$SCRATCH"
  printf '<Configuration status="OFF"><Loggers><Root level="off"/></Loggers></Configuration>\n' >"$SCRATCH/log4j2.xml"
  env -i PATH="$PATH" LC_ALL=C.UTF-8 NC_PORT=6667 \
    java $JVM_FAST $JVM_OPENS --add-opens=java.base/java.util.concurrent=ALL-UNNAMED -Xmx256m -Dfile.encoding=UTF-8 -Duser.home="$SCRATCH" -Djava.net.preferIPv4Stack=true \
    -Dlog4j2.configurationFile="$SCRATCH/log4j2.xml" -cp "$LIB/flume/*:$LIB/hadoop/*" "$ORACLE/Oracle.java" "$@"
  rm -rf "$SCRATCH"
}

case ${1:-all} in
  all) oracle conf "$DATA"/flume/*.conf; oracle properties "$DATA/properties" "$DATA/properties.jsonl";;
  conf) shift; oracle conf "$@";;
  show) oracle conf -a "$2" "$3";;
  properties) oracle properties "$DATA/properties" "$DATA/properties.jsonl";;
  *) usage;;
esac
