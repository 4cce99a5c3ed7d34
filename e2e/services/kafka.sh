#!/usr/bin/env bash
# Apache Kafka from its published jars: one broker (KRaft) with all four kinds of listener, or three.
#
#   kafka.sh fetch                       resolve the jars (once)
#   kafka.sh start NAME PORT [BROKERS]   a new cluster, without what one of that name had: 1 broker, or 3. PORT is its first of ten: plaintext, +1 SASL_SSL, +2 SSL,
#                                        +3 SASL_PLAINTEXT, +4 controller; the next broker has the ports from PORT+10 on
#   kafka.sh up NAME I | kill9 NAME I    broker I (1, 2, 3) again on its old data; or dead
#   kafka.sh tool CLASS [argument...]    a tool: topics, groups, or the name of a class
#   kafka.sh stop NAME | log NAME | status | stop-all
#
# KAFKA_KRB=NAME lets in by Kerberos, too, by the KDC that krb.sh has started as NAME. Tokens need no signature.
# KAFKA_VERSION=3.9.2 (4.3.1 too). Users alice / alice-secret and admin / admin-secret, for PLAIN and both SCRAMs.
. "$(dirname "$0")/common.sh"
V=${KAFKA_VERSION:-3.9.2}
L="$LIB/kafka-$V"

fetch() { JARS="$L" fetch_jars kafka "-Dkafka.version=$V"; make_certs; }

configure() { # configure NAME PORT BROKERS I
  local name=$1 p=$(($2 + 10 * ($4 - 1))) n=$3 i=$4 d="$RUN/kafka-$1-$4" voters="" j m proto
  mkdir -p "$d/conf" "$d/data"
  for ((j = 1; j <= n; j++)); do voters="$voters${voters:+,}$j@localhost:$(($2 + 10 * (j - 1) + 4))"; done
  {
    cat <<X
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$p,SASL_SSL://127.0.0.1:$((p + 1)),SSL://127.0.0.1:$((p + 2)),SASL_PLAINTEXT://127.0.0.1:$((p + 3)),CONTROLLER://127.0.0.1:$((p + 4))
advertised.listeners=PLAINTEXT://localhost:$p,SASL_SSL://localhost:$((p + 1)),SSL://localhost:$((p + 2)),SASL_PLAINTEXT://localhost:$((p + 3))
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER${KAFKA_KRB:+,GSSAPI}
sasl.kerberos.service.name=kafka
ssl.keystore.type=PEM
ssl.keystore.location=$CERTS/server-pk8.pem
ssl.truststore.type=PEM
ssl.truststore.location=$CERTS/ca.pem
ssl.client.auth=requested
log.dirs=$d/data
num.partitions=3
default.replication.factor=$n
min.insync.replicas=$(((n + 1) / 2))
offsets.topic.num.partitions=3
offsets.topic.replication.factor=$n
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=$n
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=$n
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=2097152
X
    for proto in sasl_ssl sasl_plaintext; do
      for m in scram-sha-256 scram-sha-512; do
        echo "listener.name.$proto.$m.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
      done
      echo "listener.name.$proto.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"admin\";"
      [ -z "${KAFKA_KRB:-}" ] || echo "listener.name.$proto.gssapi.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=\"$RUN/krb-$KAFKA_KRB/service.keytab\" principal=\"kafka/localhost@EXAMPLE.TEST\";"
      echo "listener.name.$proto.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"alice-secret\" user_admin=\"admin-secret\";"
    done
  } >"$d/conf/server.properties"
  printf 'log4j.rootLogger=INFO, C\nlog4j.appender.C=org.apache.log4j.ConsoleAppender\nlog4j.appender.C.layout=org.apache.log4j.PatternLayout\nlog4j.appender.C.layout.ConversionPattern=[%%d] %%p %%m (%%c)%%n\n' >"$d/conf/log4j.properties"
  printf 'rootLogger.level=INFO\nrootLogger.appenderRefs=c\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\nappender.c.layout.type=PatternLayout\nappender.c.layout.pattern=[%%d] %%p %%m (%%c)%%n\n' >"$d/conf/log4j2.properties"
  [ -s "$d/data/meta.properties" ] || java $JVM_FAST -cp "$L/*" -Dlog4j.configuration="file:$d/conf/log4j.properties" kafka.tools.StorageTool format \
    -t AAAAAAAAQACAAAAAAAAAAQ -c "$d/conf/server.properties" \
    --add-scram 'SCRAM-SHA-512=[name=alice,password=alice-secret]' --add-scram 'SCRAM-SHA-256=[name=alice,password=alice-secret]' \
    --add-scram 'SCRAM-SHA-512=[name=admin,password=admin-secret]' --add-scram 'SCRAM-SHA-256=[name=admin,password=admin-secret]' \
    >"$RUN/kafka-format.log" 2>&1 || { cat "$RUN/kafka-format.log" >&2; die "format failed"; }
}
up() { # up NAME I
  local d="$RUN/kafka-$1-$2" x="kafka-$1-$2"
  [ -s "$d/conf/server.properties" ] || die "no such broker: $1 $2"
  spawn "$x" java ${KAFKA_KRB:+-Djava.security.krb5.conf="$RUN/krb-$KAFKA_KRB/krb5.conf"} -Xms128m -Xmx${KAFKA_HEAP:-384m} $JVM_FAST -Djava.awt.headless=true -cp "$d/conf:$L/*" \
    -Dlog4j.configuration="file:$d/conf/log4j.properties" -Dlog4j2.configurationFile="$d/conf/log4j2.properties" kafka.Kafka "$d/conf/server.properties"
}
ready() { wait_log "kafka-$1-$2" 'Kafka Server started' 90; }

cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  start)
    [ $# -ge 2 ] || usage
    name=$1 port=$2 n=${3:-1}
    fetch
    # Kafka wants one file: the key as PKCS#8, then the chain
    [ -s "$CERTS/server-pk8.pem" ] || { openssl pkcs8 -topk8 -nocrypt -in "$CERTS/server.key"; cat "$CERTS/server.pem" "$CERTS/ca.pem"; } >"$CERTS/server-pk8.pem"
    t0=$SECONDS
    for i in 1 2 3; do if alive "kafka-$name-$i"; then die "$name is already up"; fi; done
    rm -rf "$RUN/kafka-$name-"[0-9]
    for ((i = 1; i <= n; i++)); do need_free $((port + 10 * (i - 1))) $((port + 10 * (i - 1) + 4)); configure "$name" "$port" "$n" "$i"; done
    for ((i = 1; i <= n; i++)); do up "$name" "$i"; done
    for ((i = 1; i <= n; i++)); do ready "$name" "$i"; done
    log "$name up in $((SECONDS - t0))s";;
  up) up "$1" "$2"; ready "$1" "$2";;
  kill9) kill9 "kafka-$1-$2";;
  stop) each "kafka-$1-" stop_one;;
  stop-all) each kafka- stop_one;;
  log) cat "$RUN"/kafka-"$1"-*.log;;
  status) each kafka- say_status;;
  tool)
    c=$1; shift
    case $c in
      topics) c=org.apache.kafka.tools.TopicCommand;;
      groups) c=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;;
    esac
    fetch
    exec java -Xmx256m $JVM_FAST -cp "$L/*" "$c" "$@";;
  *) usage;;
esac
