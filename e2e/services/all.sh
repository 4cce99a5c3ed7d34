#!/usr/bin/env bash
# Everything at once.
#
#   all.sh fetch       packages, jars, certificates; start nothing
#   all.sh status      what is up
#   all.sh stop        end whatever these scripts have started
. "$(dirname "$0")/common.sh"
case ${1:-} in
  fetch)
    need curl=curl openssl=openssl ncat=ncat logger=bsdutils chromium=chromium promtool=prometheus
    need_java
    for s in flume log4j kafka hdfs krb s3 rsyslog syslog-ng logrotate python-thrift; do "$HERE/$s.sh" fetch; done
    make_certs;;
  status) for s in flume kafka hdfs krb s3 rsyslog syslog-ng; do "$HERE/$s.sh" status; done;;
  stop) for s in rsyslog syslog-ng flume kafka hdfs krb s3; do "$HERE/$s.sh" stop-all; done;;
  *) usage;;
esac
