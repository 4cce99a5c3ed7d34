package sidecar

import (
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/conf"
)

// absent lists what Flume 1.11 and well-known plug-ins have and this version
// has not, each with one sentence on what to do. "Not in this version yet"
// means that it will come; everything else will not.
func absent() []core.Absent {
	const (
		source, channel, sink = conf.KindSource, conf.KindChannel, conf.KindSink
		interceptor           = conf.KindInterceptor
		pkg                   = "org.apache.flume."
	)
	no := func(kind conf.Kind, instead string, names ...string) core.Absent {
		return core.Absent{Kind: kind, Names: names, Instead: instead}
	}
	return []core.Absent{
		// Sources that come in later versions.

		// Sources that do not.
		no(source, "JMS is an interface of Java: bridge the broker to http, or to Kafka",
			"jms", pkg+"source.jms.JMSSource"),
		no(source, "Scribe is no longer maintained: send with http or syslogtcp",
			"scribe", pkg+"source.scribe.ScribeSource"),
		no(source, "the interface of Twitter that it reads was shut down",
			"twitter", pkg+"source.twitter.TwitterSource", "com.cloudera.flume.source.TwitterSource"),
		no(source, "agents of Flume before 1.0 are not supported: upgrade the sender to Flume 1.x",
			"avroLegacy", pkg+"source.avroLegacy.AvroLegacySource"),
		no(source, "agents of Flume before 1.0 are not supported: upgrade the sender to Flume 1.x",
			"thriftLegacy", pkg+"source.thriftLegacy.ThriftLegacySource"),
		no(source, "query a database with an exec source, or use a change-data-capture tool such as Debezium",
			"sql", "org.keedio.flume.source.SQLSource"),
		no(source, "fetch the files with another program and read them with taildir",
			"ftp", "org.keedio.flume.source.ftp.source.Source"),
		no(source, "let a consumer of RabbitMQ send to the http source",
			"com.aweber.flume.source.rabbitmq.RabbitMQSource"),
		no(source, "use taildir",
			"com.github.ningg.flume.source.SpoolDirectoryTailFileSource"),

		// Channels.
		no(channel, "use the file channel, which is durable and faster",
			"jdbc", pkg+"channel.jdbc.JdbcChannel"),
		no(channel, "Flume has it for its own tests: use the memory channel",
			"pseudotxn", pkg+"channel.PseudoTxnMemoryChannel"),

		// Sinks that do not.
		no(sink, "write files for an external Hive table, with hdfs",
			"hive", pkg+"sink.hive.HiveSink"),
		no(sink, "HBase is reached from Java only: go through Kafka and its HBase connector",
			"hbase", "asynchbase", "hbase2", pkg+"sink.hbase.HBaseSink", pkg+"sink.hbase.AsyncHBaseSink", pkg+"sink.hbase2.HBase2Sink"),
		no(sink, "go through Kafka, and load into Kudu from there",
			"kudu", pkg+"sink.kudu.KuduSink", "org.kududb.flume.sink.KuduSink"),
		no(sink, "Morphlines are no longer maintained: go through Kafka, and index from there",
			"morphline_solr", pkg+"sink.solr.morphline.MorphlineSolrSink", pkg+"sink.solr.morphline.MorphlineSink"),
		no(sink, "Flume 1.11 has none either: use the http sink with format = elasticsearch_bulk",
			"elasticsearch", pkg+"sink.elasticsearch.ElasticSearchSink", "com.frontier45.flume.sink.elasticsearch2.ElasticSearchSink", "com.cognitree.flume.sink.elasticsearch.ElasticSearchSink"),
		no(sink, "use another program for chat; logger shows events to people",
			"irc", pkg+"sink.irc.IRCSink"),
		no(sink, "Kite is no longer maintained: write Avro files with file_roll and serializer avro_event",
			"kite_dataset", "dataset", pkg+"sink.kite.DatasetSink", "org.kitesdk.flume.DatasetSink"),
		no(sink, "go through Kafka and its MongoDB connector",
			"com.stratio.ingestion.sink.mongodb.MongoSink", "org.riderzen.flume.sink.MongoSink", "mongo", "mongodb"),
		no(sink, "go through Kafka and its JDBC connector",
			"jdbc", "com.stratio.ingestion.sink.jdbc.JDBCSink"),

		// The rest.
		no(conf.KindFilter, "credential stores of Hadoop are not read: put each secret into a file of its own and use type = file, or type = env",
			"hadoop", pkg+"configfilter.HadoopCredentialStoreConfigFilter"),
		no(interceptor, "Morphlines are no longer maintained: change events where they are made, or after delivery",
			"morphline", pkg+"sink.solr.morphline.MorphlineInterceptor$Builder"),
	}
}
