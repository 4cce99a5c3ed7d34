#!/bin/bash
# The command hdfs of an image that has only Hadoop's jars, in /opt/lib. As in the published image, variables such as
# CORE-SITE.XML_fs.defaultFS are settings.
set -eu
conf=/tmp/hadoop/conf web=/tmp/hadoop/web
if [ ! -d "$conf" ]; then
	mkdir -p "$conf" "$web"
	for file in core-site hdfs-site; do
		{ # of this process: bash keeps such names from others
			echo '<configuration>'
			tr '\0' '\n' </proc/$$/environ | sed -n "s|^${file^^}\.XML_\([^=]*\)=\(.*\)|<property><name>\1</name><value>\2</value></property>|p"
			echo '</configuration>'
		} >"$conf/$file.xml"
	done
	printf '%s\n' 'log4j.rootLogger=WARN, o' log4j.appender.o=org.apache.log4j.ConsoleAppender log4j.appender.o.target=System.err \
		log4j.appender.o.layout=org.apache.log4j.PatternLayout 'log4j.appender.o.layout.ConversionPattern=%d %p %c{2}: %m%n' >"$conf/log4j.properties"
	for app in hdfs datanode static; do
		mkdir -p "$web/webapps/$app/WEB-INF"
		echo '<web-app/>' >"$web/webapps/$app/WEB-INF/web.xml"
	done
fi
opens=()
for p in java.base/java.lang java.base/java.util java.base/java.nio java.base/sun.nio.ch java.base/java.net; do opens+=(--add-opens="$p=ALL-UNNAMED"); done
java=(java "${opens[@]}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true)
export CLASSPATH="$conf:$web:/opt/lib/*"
case $1 in
namenode)
	[ -s "$ENSURE_NAMENODE_DIR/current/VERSION" ] || "${java[@]}" org.apache.hadoop.hdfs.server.namenode.NameNode -format -nonInteractive
	exec "${java[@]}" -Xmx320m org.apache.hadoop.hdfs.server.namenode.NameNode
	;;
datanode) exec "${java[@]}" -Xmx192m org.apache.hadoop.hdfs.server.datanode.DataNode ;;
dfs)
	shift
	exec "${java[@]}" -Xmx192m org.apache.hadoop.fs.FsShell "$@"
	;;
esac
