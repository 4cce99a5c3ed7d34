#!/usr/bin/env bash
# Log4j 2 with its Flume appender, from its published jars: a program that logs to agents.
#
#   log4j.sh fetch                         resolve the jars (once)
#   log4j.sh java File.java [argument...]  a program on Log4j's class path; its configuration is the program's affair
. "$(dirname "$0")/common.sh"

case ${1:-} in
  fetch) fetch_jars log4j;;
  java) shift; fetch_jars log4j; exec java $JVM_FAST $JVM_OPENS -Djava.net.preferIPv4Stack=true -Xmx192m -cp "$LIB/log4j/*" "$@";;
  *) usage;;
esac
