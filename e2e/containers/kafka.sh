#!/bin/bash
# The broker of an image that has only Kafka's jars, in /opt/lib. As in the published image, a variable KAFKA_LOG_DIRS is
# the setting log.dirs, and so on.
set -eu
conf=/tmp/kafka/server.properties
mkdir -p /tmp/kafka
if [ ! -s "$conf" ]; then
	{
		[ -n "${KAFKA_LOG_DIRS:-}" ] || echo log.dirs=/tmp/kafka/logs
		env | sed -n 's/^KAFKA_\([A-Z_]*\)=/\1=/p' | while IFS='=' read -r name value; do
			name=${name,,}
			echo "${name//_/.}=$value"
		done
	} >"$conf"
	printf '%s\n' 'log4j.rootLogger=WARN, o' log4j.appender.o=org.apache.log4j.ConsoleAppender \
		log4j.appender.o.layout=org.apache.log4j.PatternLayout 'log4j.appender.o.layout.ConversionPattern=%d %p %c{2}: %m%n' >/tmp/kafka/log4j.properties
fi
java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j.configuration=file:/tmp/kafka/log4j.properties)
export CLASSPATH='/opt/lib/*'
[ -s /tmp/kafka/logs/meta.properties ] || "${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t AAAAAAAAQACAAAAAAAAAAQ -c "$conf"
exec "${java[@]}" -Xms128m -Xmx384m kafka.Kafka "$conf"
